"""The task of a supervisor: it carries out what ``_supervision`` decides, one thing at a time.

A weightless task, which reads what comes meanwhile from its inbox: ends of children, and what people demand. It runs
in the run or asyncio loop where the supervisor was started, and in a thread of its own where there is none; the
supervisors in it run beside it.

Invariants: nothing of a supervisor runs when this task has ended, however it ended. What comes from other threads goes
through the inbox alone; but for ``kill``, which ends the children at once and leaves the rest to the task.

What it is not: it starts and ends no child itself, that is ``_tending``; it knows no kind of child, these are in
``_lives``; and no face, that is ``_supervisors``.
"""

import math
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import Ending
from thistledown._children import Child
from thistledown._errors import ChannelClosed, ChildFailed
from thistledown._lives import Life
from thistledown._observer import unobserved
from thistledown._supervision import Child as Known
from thistledown._supervision import Strategy, Supervision
from thistledown._task import Task
from thistledown._tending import INBOX, Tending, logger

__all__ = ["Supervising", "failed", "known_of"]

STALL_AFTER = 1.0
"""Seconds after which a child that holds the supervisor's own thread is reported."""


class Supervising(Tending):
    """What a supervisor is behind its face."""

    def __init__(
        self, name: str, specs: dict[str, Child], strategy: Strategy, max_restarts: int, within: float
    ) -> None:
        super().__init__(name, specs, Supervision(strategy, max_restarts, within))
        for spec in specs.values():
            # From here, as a warning names the line that has made the supervisor.
            self._keep(spec)
        # Made by each start.
        self._started: Task[None] | None = None
        # The scope of its work.
        self._serving: _core.Scope | None = None
        self._is_stopped = False
        self._is_nested = False
        self._has_thread = False
        # Set in a forked child, when it ran at the fork.
        self._is_parents = False

    def __getitem__(self, name: str) -> Any:
        raise NotImplementedError

    # --- the task that carries it out -------------------------------------------------------------------------------

    def _go_in_run(self, scope: _core.Scope | None = None) -> Task[None]:
        """In the run of this thread; in a scope of that, for one in a supervisor."""
        started = self._begin()
        over: Task[None] = _core.go_in(self._main, (), {}, scope, _Answers(self._is_told), f"work of {self._name}")
        self._over = over
        self._is_over_with(over, started)
        return over

    def _go_tell_start(self) -> Task[None]:
        """A task of the run that tells how the start went. So a failure that somebody handles is handled, and one that
        nobody hears of is raised by the run.
        """
        name = f"start of {self._name}"
        return _core.go_in(self._tell_start, (self._started,), {}, None, _Answers(_is_no_failure), name)

    @unobserved
    async def _tell_start(self, started: Task[None]) -> None:
        _rests(None)
        # It ends when the supervisor does, however that comes about.
        with _core.shield():
            await started

    def _is_told(self, _: BaseException) -> bool:
        """Whether the task that tells how the start went has that failure too."""
        return not self._is_nested and self._started_badly()

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    def _has_started(self) -> Task[None]:
        self._look_whose()
        if self._over is None:
            raise RuntimeError(f"{self._name} was not started: write `with supervisor:` or `supervisor.start()`")
        return self._over

    def _look_whose(self) -> None:
        """Refuses, in a forked child, what is the parent's."""
        if self._is_parents:
            raise self._not_here()

    def _not_here(self) -> RuntimeError:
        return RuntimeError(
            f"{self._name} belongs to the process that this one was forked from, and goes on there: make a "
            "`td.Supervisor(...)` of this process"
        )

    def _renew_locks(self) -> None:
        """In a forked child: somebody who does not exist here may have had them."""
        for kept in self._kept.values():
            kept._lock = threading.RLock()
        for one in self._inner():
            one._renew_locks()

    def _leave_to_parent(self) -> None:
        """In a forked child, which has nothing of what runs: who uses it, or waits for it, is told."""
        if self._over is None or self._over.done():
            return
        self._is_parents = True
        for kept in self._kept.values():
            kept.leave_to_parent()
        for one in self._inner():
            one._leave_to_parent()
        if self._has_thread and not self._is_nested:
            assert self._started is not None
            for task in (self._started, self._over):
                if not task.done():
                    task._settle(None, self._not_here())
                    task._take_failure()

    def _inner(self) -> "list[Supervising]":
        """The supervisors that are its children."""
        return [spec._start for spec in list(self._known.values()) if isinstance(spec._start, Supervising)]

    def _go_in_thread(self) -> None:
        # Here, not first in the thread: a fork may follow at once.
        from thistledown import _run as _run

        before = self._over
        started = self._begin()
        self._over = over = _core.pledge(self._name, True)
        try:
            threading.Thread(target=self._thread, args=(over,), name=f"thistledown-{self._name}", daemon=True).start()
        except BaseException:
            self._over = before
            self._tell_end(None, started, self._inbox)
            raise
        self._is_over_with(over, started)

    def _begin(self) -> Task[None]:
        """Makes what each start has of its own; what tells when it has started."""
        self._look_whose()
        if self._over is not None and not self._over.done():
            raise RuntimeError(f"{self._name} runs already")
        self._started = _core.pledge(f"start of {self._name}", True)
        self._inbox = _core.Channel(INBOX)
        self._is_stopped = self._is_killed = False
        self._only_first()
        self._expect()
        return self._started

    def _is_over_with(self, over: Task[None], started: Task[None]) -> None:
        """Who is cancelled before his first turn does nothing at all, so it is told here what has become of it."""
        inbox = self._inbox

        def ended(_: object) -> None:
            # A run that was left by a second Ctrl-C has dropped the task in the middle.
            if self._over is over and not self._is_parents:
                for life in list(self._lives.values()):
                    life.kill()
            if not started.done():
                self._tell_end(None, started, inbox)

        over.add_done_callback(ended)

    def _kill(self) -> None:
        """Ends everything now."""
        if self._is_parents:
            return
        self._is_killed = True
        if self._over is not None and not self._over.done():
            self._ask_to_stop()
            if self._patience is not None:
                self._patience.cancel()
            for life in list(self._lives.values()):
                life.kill()

    def _ask_to_stop(self) -> None:
        if self._is_parents:
            return
        self._is_stopped = True
        if self._serving is not None:
            self._serving.cancel()

    def _thread(self, over: Task[None]) -> None:
        from thistledown._run import run

        try:
            # What is imported for its children there is no stall.
            run(self._main, stall_after=STALL_AFTER)
        except BaseException as error:
            if isinstance(error, ChildFailed) and not self._started_badly():
                logger.error("%s", error, exc_info=error)
            self._settle_end(over, error)
        else:
            self._settle_end(over, None)

    def _settle_end(self, over: Task[None], error: BaseException | None) -> None:
        # In a child that was forked in this thread it is over since the fork.
        if not self._is_parents:
            over._settle(None, error)

    def _started_badly(self) -> bool:
        """Whether who has started it hears of its failure."""
        return self._started is not None and self._started._has_failed()

    @unobserved
    async def _main(self) -> None:
        _rests(self._inbox)
        # Who ends the whole run asks for an orderly end by that: the children are not cancelled beside each other.
        sentry = (
            None if self._is_nested else _core.go_in(self._stand_sentry, (), {}, None, None, f"end of {self._name}")
        )
        try:
            with _core.shield() as self._home:
                failure = await self._work()
        finally:
            if sentry is not None:
                sentry.cancel()
        if failure is not None:
            raise failure

    @unobserved
    async def _stand_sentry(self) -> None:
        """Stops the supervisor when the run is cancelled."""
        _rests(None)
        try:
            await _core.sleep(math.inf)
        finally:
            self._ask_to_stop()

    async def _work(self) -> ChildFailed | None:
        failure: ChildFailed | None = None
        started, inbox = self._started, self._inbox
        assert started is not None
        try:
            with _core.move_on_after(math.inf) as self._serving:
                if self._is_stopped:
                    self._serving.cancel()
                failure = await self._serve()
        finally:
            await self._carry_out(self._machine.stop())
            self._tell_end(failure, started, inbox)
        return failure

    def _tell_end(self, failure: ChildFailed | None, started: Task[None], inbox: _core.Channel[Any]) -> None:
        """Nothing of it runs any more: whoever waits for something of it is told."""
        inbox.close()
        self._refuse_demands(inbox)
        if not self._is_nested:
            self._give_up()
        if not started.done():
            started._settle(None, failure or RuntimeError(f"{self._name} was stopped while it started"))

    async def _serve(self) -> ChildFailed | None:
        """Starts the children and sees to them. Gives why the supervisor has to end, unless it is stopped."""
        assert self._started is not None
        children = [known_of(spec) for spec in self._specs.values()]
        starting = self._machine.start(children)
        failure = await self._carry_out(starting)
        if failure is not None:
            return failed(self._failed_name, self._name, failure)
        self._started._settle(None, None)
        while True:
            what, about = await self._inbox.recv()
            if what == "demand":
                await about()
                verdict, child = "well", None
            elif what == "again":
                verdict, child = await self._carry_out(self._machine.again(about, time.monotonic()))
            else:
                verdict, child = await self._ended(about)
            if verdict == "again":
                self._inbox.send_nowait(("again", child))
            elif verdict == "over":
                return self._exhausted(child)
            elif all(child.state != "restarting" for child in self._machine.children):
                self._give_up(only_down=True)

    async def _ended(self, life: Life) -> Any:
        name = life.spec.name
        child = self._machine.find(name)
        if child is None or self._lives.get(name) is not life or child.state != "running":
            return "well", None
        del self._lives[name]
        ending = life.ending
        assert ending is not None
        is_normal = ending.word == "normal"
        if not (is_normal and child.restart != "permanent"):
            logger.warning("child %s of %s has ended: %s", name, self._name, _words(ending), exc_info=ending.error)
        verdict = await self._carry_out(self._machine.ended(child, is_normal, time.monotonic()))
        if verdict[0] == "over":
            self._last_error = ending.error
        return verdict

    def _exhausted(self, child: Known | None) -> ChildFailed:
        assert child is not None
        machine = self._machine
        error = ChildFailed(
            f"{self._name} gives up: child {child.name} has ended, and more than {machine.max_restarts} "
            f"restart{'' if machine.max_restarts == 1 else 's'} within {machine.within:g} seconds are too many: see "
            "`max_restarts` and `within`",
            child.name,
        )
        error.__cause__ = self._last_error
        return error

    # --- demands ----------------------------------------------------------------------------------------------------

    def _demand(self, name: str, act: Callable[[], Awaitable[Any]]) -> Task[Any]:
        """Has something done by the supervisor's own task, in its turn."""
        self._look_whose()
        answer: Task[Any] = _core.pledge(name, True)

        async def done() -> None:
            try:
                value = await act()
            except Exception as error:
                answer._settle(None, error)
            except BaseException:
                answer._settle(None, RuntimeError(f"{self._name} was stopped meanwhile"))
                raise
            else:
                answer._settle(value, None)

        done.refused = answer  # type: ignore[attr-defined]
        try:
            self._inbox.send_nowait(("demand", done))
        except ChannelClosed:
            error = RuntimeError(f"{self._name} does not run: it was not started, or it has ended")
            answer._settle(None, None)
            raise error from None
        return answer

    def _refuse_demands(self, inbox: _core.Channel[Any]) -> None:
        """What nobody will do any more is refused."""
        while True:
            try:
                what, about = inbox.recv_nowait()
            except ChannelClosed:
                return
            if what == "demand":
                about.refused._settle(None, RuntimeError(f"{self._name} has ended"))


def _rests(at: "_core.Channel[Any] | None") -> None:
    """The task that has its turn is a supervisor's own: ``td.tree`` leaves it out while it waits there, or always."""
    task = _core.current_task()
    if task is not None:
        task._rests_at = at


class _Answers:
    """In place of a task's group: whether somebody else answers for a failure, so that the run does not raise it."""

    def __init__(self, answers: Callable[[BaseException], bool]) -> None:
        self._failed = answers


def _is_no_failure(error: BaseException) -> bool:
    """One who was stopped while it started has not failed."""
    return not isinstance(error, ChildFailed)


def known_of(spec: Child) -> Known:
    """A child as the decisions know it."""
    return Known(spec.name, spec._given.get("restart", "permanent"))


def _words(ending: Ending) -> str:
    return ending.word if ending.error is None else f"{ending.word}, {ending.error!r}"


def failed(child: str, supervisor: str, error: BaseException) -> ChildFailed:
    """A child could not be started."""
    failure = ChildFailed(f"child {child} of {supervisor} could not be started: {error!r}", child)
    failure.__cause__ = error
    return failure
