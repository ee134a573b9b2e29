"""Calls of actors in a worker process that wait in their middle, and others beside them.

A plain method has the worker's thread while it runs, and the engine calls it (``_core.Child``), also here. One that is
a coroutine or generator function runs as a weightless task in the loop of this module, which is run while there are
such calls. The calls of one actor are taken one at a time, in their order, whichever kind they are.
"""

from collections import deque
from typing import Any

from thistledown import _core
from thistledown._group import TaskGroup
from thistledown._observer import unobserved
from thistledown._run import run
from thistledown._task import Task
from thistledown._worker import Weightless, WeightlessOver

__all__ = ["serve"]


def serve(child: _core.Child, job: _core.Job) -> None:
    """Runs calls of actors, this one first, until none waits and none has come. The engine calls this."""
    calls = Calls(child)
    try:
        run(calls.take_calls, job)
    except WeightlessOver:
        pass
    except BaseException as error:
        # Every call gets its answer.
        calls.give_up(error)


class Calls(Weightless):
    """The calls of a worker's actors: those that run, and those that stand behind another one of their actor."""

    def __init__(self, child: _core.Child) -> None:
        super().__init__(child)
        # Of each actor that has a call which waits in its middle: those behind it.
        self.behind: dict[int, deque[_core.Job]] = {}
        # Those of them whose call has ended.
        self.free: deque[int] = deque()

    @unobserved
    async def take_calls(self, first: _core.Job) -> None:
        bell = self.child.bell()
        _core.attend(self.stuck)
        async with TaskGroup() as group:
            await self.begin(first, group)
            while True:
                # First of all: right behind the news that a call is taken back may stand the end of the one before it.
                self.take_cancelled()
                while self.free:
                    await self.go_on(self.free.popleft(), group)
                while not self.free and (job := self.child.next_job()) is not None:
                    await self.take(job, group)
                # And again: what came since has rung the bell, which taking jobs has silenced.
                self.take_cancelled()
                self.child.discard()
                if self.free:
                    continue
                if not self.behind:
                    self.tell_of_rest()
                    raise WeightlessOver
                await _core.select(_core.readable(bell), self.stir.recv())

    def take_cancelled(self) -> None:
        while (number := self.child.next_cancelled()) is not None:
            self.cancel(number)

    async def take(self, job: _core.Job, group: TaskGroup) -> None:
        """A call has come."""
        line = None if job.actor is None else self.behind.get(job.actor)
        if line is None:
            await self.begin(job, group)
        else:
            line.append(job)

    async def begin(self, job: _core.Job, group: TaskGroup) -> bool:
        """Begins a call of an actor that has none. True: it waits in its middle; else it has ended."""
        assert job.actor is not None
        if not self.child.may_wait(job):
            self.child.run_here(job)
            if self.running:
                # Those that wait have their turns, however many come that do not.
                await _core.sleep(0)
            return False
        self.child.waits_now()
        if (opened := self.open(job)) is not None:
            # Asked for by the end of the call, which may come at once.
            self.behind.setdefault(job.actor, deque())
            self.start(opened, group)
            if job.id in self.running or job.actor in self.free:
                return True
        self.behind.pop(job.actor, None)
        return False

    async def go_on(self, actor: int, group: TaskGroup) -> None:
        """The call of an actor that had waited has ended: those behind it have their turns."""
        line = self.behind.pop(actor)
        while line:
            if await self.begin(line.popleft(), group):
                self.behind[actor].extend(line)
                return

    def ended(self, job: _core.Job, task: Task[Any]) -> None:
        super().ended(job, task)
        if job.actor in self.behind:
            self.free.append(job.actor)
            self.wake()

    def cancel(self, number: int) -> None:
        """A call is to be stopped, whether it has begun or not."""
        if number in self.running:
            self.running[number][1].cancel()
            return
        for line in self.behind.values():
            for job in line:
                if job.id == number:
                    line.remove(job)
                    self.child.drop_job(job)
                    return

    def give_up(self, error: BaseException) -> None:
        lines = list(self.behind.values())
        self.behind.clear()
        super().give_up(error)
        for line in lines:
            for job in line:
                self.child.waits_now()
                self.child.failed_job(job, error)
