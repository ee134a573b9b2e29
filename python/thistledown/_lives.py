"""The lives of a supervisor's children: from a start to the end that follows, for each kind of child.

A life is told ``begin``, which gives control back when the child runs and raises when it does not start; ``end``, to
come to its end; ``kill``, to do so now. It tells ``heard`` once, in any thread, when a child that had begun has ended.
``over`` is done then.

Not in here: what follows from that, and how long anybody waits.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from thistledown import _core
from thistledown._boxes import Ending
from thistledown._children import SHUTDOWN, Child
from thistledown._errors import ActorDied
from thistledown._kept import Kept, tie
from thistledown._task import Task, TaskCancelled

if TYPE_CHECKING:
    from thistledown._supervisors import Supervisor

__all__ = ["Heard", "Life", "life_of"]

Heard = Callable[[Ending], None]


class Life:
    """One life of a child."""

    kind = "task"

    def __init__(self, spec: Child, heard: Heard) -> None:
        self.spec = spec
        # What runs in this very run cannot end when nothing can happen in that; what runs elsewhere can.
        self.over: Task[None] = _core.pledge(f"end of child {spec.name}", not _is_weightless(spec))
        self.ending: Ending | None = None
        # The scope in which what is weightless runs.
        self.home: _core.Scope | None = None
        # Whether there is something that ends.
        self.has_something = False
        self._heard = heard

    @property
    def shutdown(self) -> float:
        """Seconds that it has to end."""
        return float(self.spec._given.get("shutdown", SHUTDOWN))

    async def begin(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        self.end()

    def _ended(self, ending: Ending) -> None:
        """It has ended so: called once, in any thread."""
        self.ending = ending
        self.over._settle(None, None)
        self._heard(ending)


class ActorLife(Life):
    """Of an actor: from one instance's beginning to its end."""

    kind = "actor"

    def __init__(self, spec: Child, heard: Heard, kept: Kept) -> None:
        super().__init__(spec, heard)
        self._kept = kept
        self._inner: Any = None

    async def begin(self) -> None:
        from thistledown._actors import actor

        place = self.spec._given.get("place", actor)
        inner: Any = self._kept.make(place._box_maker())
        self._inner = inner
        self.has_something = True
        tie(inner)
        inner.watch(self._instance_ended)
        if not _is_here(place):
            # The first message is answered when the instance is made.
            first = inner.begun()
            # Who has asked is not somebody who wants to hear of it, and may be stopped before it is answered.
            first._take_failure()
            try:
                await first
            except Exception as error:
                raise error.__cause__ or error from None
        self._kept.renew(inner)

    def _instance_ended(self, ending: Ending) -> None:
        self._kept.stands_still(self._inner, ending)
        self._ended(ending)

    def end(self) -> None:
        stopping = self._inner.stop()
        if isinstance(self._inner, _core.HereBox):
            stopping.add_done_callback(self._stop_ended)

    def _stop_ended(self, stopping: Task[None]) -> None:
        """The run is being cancelled, and so was the message that stops the box, wherever it stood. What the box runs
        is cancelled too, and may take its time to end: that is waited for.
        """
        if self.ending is not None or not stopping.cancelled():
            return
        running = self._inner._running
        if running is None or running.done():
            self._inner._end_now()
        else:
            running.add_done_callback(lambda _: self._stop_ended(stopping))

    def kill(self) -> None:
        if self._inner is not None:
            self._inner.kill()


class TaskLife(Life):
    """Of a task: weightless, or of a pool."""

    task: Task[Any] | None = None

    async def begin(self) -> None:
        spec = self.spec
        place = spec._given.get("place")
        if place is None or _is_here(place):
            self.task = _core.go_in(spec._start, spec._args, spec._kwargs, self.home, None, spec.name)
        else:
            self.task = place.go(spec._start, *spec._args, **spec._kwargs)
        self.has_something = True
        self.task.add_done_callback(self._done)

    def _done(self, task: Any) -> None:
        try:
            error = task.exception()
        except TaskCancelled:
            # Told to end, by whomever.
            error = None
        self._ended(Ending("normal") if error is None else Ending("failed", error))

    def end(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Function:
    """A function that has a worker process of its own, as an actor has."""

    def __init__(self, start: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if isinstance(start, str):
            import importlib

            module, _, path = start.partition(":")
            start = importlib.import_module(module)
            for name in path.split("."):
                start = getattr(start, name)
        self.start, self.args, self.kwargs = start, args, kwargs

    def run(self) -> Any:
        return self.start(*self.args, **self.kwargs)


class FunctionLife(TaskLife):
    """Of a function in a worker process of its own."""

    _box: Any = None

    async def begin(self) -> None:
        from thistledown._actors import actor

        spec = self.spec
        place = spec._given.get("place", actor).options(name=spec.name)
        self._box = place._box_maker()(Function, ((spec._start, spec._args, spec._kwargs), {}))
        tie(self._box)
        self.task = self._box.call("run", (), {})
        self.has_something = True
        self.task.add_done_callback(self._done)

    def _done(self, task: Any) -> None:
        self._box.kill()
        super()._done(task)

    def _ended(self, ending: Ending) -> None:
        # Nobody else knows of an actor here: what its process died of is what the function did.
        if isinstance(ending.error, ActorDied) and ending.error.__cause__ is not None:
            ending = Ending(ending.word, ending.error.__cause__)
        super()._ended(ending)

    def kill(self) -> None:
        if self._box is not None:
            self._box.kill()


class SupervisorLife(Life):
    """Of a supervisor in a supervisor: a run of its own children, until it is stopped or gives up."""

    kind = "supervisor"

    def __init__(self, spec: Child, heard: Heard) -> None:
        super().__init__(spec, heard)
        self.supervisor: Supervisor = spec._start

    async def begin(self) -> None:
        over = self.supervisor._over
        if over is not None and not over.done():
            raise RuntimeError(
                f"{self.supervisor.name} runs already: a supervisor runs once, by itself or as the child of one other"
            )
        self.supervisor._is_nested = True
        over = self.supervisor._go_in_run(self.home)
        self.has_something = True
        over.add_done_callback(self._done)
        assert self.supervisor._started is not None
        await self.supervisor._started

    def _done(self, task: Any) -> None:
        try:
            error = task.exception()
        except TaskCancelled:
            error = None
        # Whoever gives up has shut down its children and then itself: so the reason is no abnormal one.
        self._ended(Ending("normal", error))

    @property
    def shutdown(self) -> float:
        return float(self.spec._given.get("shutdown", math.inf))

    def end(self) -> None:
        self.supervisor.stop()

    def kill(self) -> None:
        if self.has_something:
            self.supervisor.kill()


def _is_weightless(spec: Child) -> bool:
    if "place" in spec._given:
        return _is_here(spec._given["place"])
    return not isinstance(spec._start, type | str) and callable(spec._start) and _core.makes_body(spec._start)


def _is_here(place: Any) -> bool:
    from thistledown._places import Here

    return isinstance(place, Here)


def life_of(spec: Child, heard: Heard, kept: Kept | None) -> Life:
    """The next life of a child."""
    from thistledown._actors import actor
    from thistledown._supervisors import Supervisor

    if kept is not None:
        return ActorLife(spec, heard, kept)
    if isinstance(spec._start, Supervisor):
        return SupervisorLife(spec, heard)
    is_plain = isinstance(spec._start, str) or not _core.makes_body(spec._start)
    if is_plain and isinstance(spec._given.get("place", actor), type(actor)):
        return FunctionLife(spec, heard)
    return TaskLife(spec, heard)
