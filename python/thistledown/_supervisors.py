"""Supervisors: who starts other tasks and actors, watches them, and starts them again when they die.

``Supervisor`` is the face. What is decided is in ``_supervision``, and who carries that out in ``_supervising``.
Source: Erlang/OTP, ``supervisor``.
"""

import contextlib
import functools
import itertools
import weakref
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, get_args

from thistledown import _core, _ends
from thistledown._children import Child, as_child, as_children, no_such_child
from thistledown._errors import ChildFailed, NotPicklable
from thistledown._lifetime import EXIT_GRACE
from thistledown._supervising import Supervising, failed, known_of
from thistledown._supervision import Strategy
from thistledown._task import Task

__all__ = ["ChildState", "Supervisor", "end_all", "leave_to_parent", "renew_locks", "roots"]

_numbers = itertools.count(1)
# Those that were started, by their `id`. No set that is weak itself: looking through one fails when it grows meanwhile.
_roots: "dict[int, weakref.ref[Supervisor]]" = {}


class ChildState(NamedTuple):
    """A child of a supervisor, as it stands.

    Attributes:
        name: by which the supervisor knows it.
        state: ``running``, ``restarting`` when its start has failed and is to be tried again, or ``down``.
        kind: ``actor``, ``task`` or ``supervisor``.
        restart: ``permanent``, ``transient`` or ``temporary``.
        restarts: how many times it was started again.
    """

    name: str
    state: str
    kind: str
    restart: str
    restarts: int


class Supervisor(Supervising):
    """Starts children, and starts them again when they die: actors, tasks, and further supervisors.

    ``with td.Supervisor([td.child(Account, 100).options(name="account")]) as supervisor: ...``, in a coroutine
    ``async with``; the block's end stops the children, the last one first. ``supervisor["account"]`` is the actor's
    handle, which stays good when the actor is started again. ``td.run(supervisor)`` serves until somebody stops it.

    Rules and words are those of Erlang/OTP's ``supervisor``. More than ``max_restarts`` restarts within ``within``
    seconds, and the supervisor stops all children and fails with ``ChildFailed``; then its own supervisor decides.
    """

    def __init__(
        self,
        children: Iterable[Any] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 1,
        within: float = 5.0,
        name: str | None = None,
    ) -> None:
        """Makes a supervisor, which starts nothing yet.

        Args:
            children: in the order of their start. Each is a ``td.child(...)``, a supervisor, or a class or function
                that takes no arguments.
            strategy: what is started again when a child dies: ``"one_for_one"``, that child; ``"one_for_all"``, all of
                them; ``"rest_for_one"``, that child and those behind it.
            max_restarts: how many restarts are well.
            within: in so many seconds.
            name: for people, and for its own supervisor; None for one of its own.

        Raises:
            TypeError, ValueError: an argument has an impossible value, or two children have one name.
        """
        if strategy not in get_args(Strategy):
            raise ValueError(f"strategy is one of {', '.join(map(repr, get_args(Strategy)))}, got {strategy!r}")
        if isinstance(max_restarts, bool) or not isinstance(max_restarts, int):
            raise TypeError(f"max_restarts is a whole number, got {max_restarts!r}")
        if max_restarts < 0:
            raise ValueError(f"max_restarts must be >= 0, got {max_restarts}")
        if isinstance(within, bool) or not isinstance(within, int | float):
            raise TypeError(f"within is a number of seconds, got {within!r}")
        if not within > 0:
            raise ValueError(f"within must be > 0 seconds, got {within!r}")
        specs: dict[str, Child] = {}
        for spec in as_children(children):
            if spec.name in specs:
                raise ValueError(f"two children are named {spec.name!r}: name one by `.options(name=...)`")
            specs[spec.name] = spec
        name = f"supervisor-{next(_numbers)}" if name is None else name
        super().__init__(name, specs, strategy, max_restarts, within)

    # --- its life ---------------------------------------------------------------------------------------------------

    def start(self) -> Task[None]:
        """Starts the children, each when the one before it runs.

        In a run or an asyncio loop it is a task of that, and ends with it; elsewhere it has a thread of its own.

        Returns:
            A task that is done when all of them run, and fails with ``ChildFailed`` when one could not be started; then
            those that were are stopped. Not a cancel point.

        Raises:
            RuntimeError: it runs.
        """
        self._is_nested = False
        self._has_thread = False
        try:
            _core.current_runner()
        except RuntimeError:
            self._has_thread = True
            _ends.before(end_all)
            self._go_in_thread()
            started = self._started
        else:
            self._go_in_run()
            started = self._go_tell_start()
        _roots[id(self)] = weakref.ref(self, functools.partial(_forget, id(self)))
        assert started is not None
        return started

    def stop(self) -> Task[None]:
        """Stops the children, the last one first, each within its ``shutdown`` time, and then itself.

        Returns:
            A task that is done when that is so. It fails with ``ChildFailed`` when the supervisor had before.

        Raises:
            RuntimeError: it was not started.
        """
        over = self._has_started()
        self._ask_to_stop()
        return over

    def kill(self) -> None:
        """Kills the children, and then itself. Of one that has ended nothing."""
        self._look_whose()
        self._kill()

    def wait(self, timeout: float | None = None) -> None:
        """Waits in a plain thread until it has ended. In a coroutine write ``await supervisor``.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            ChildFailed: it has given up.
            TimeoutError: it has not ended in time; it goes on.
            RuntimeError: it was not started.
        """
        self._has_started().result(timeout)

    def __await__(self) -> Generator[Any, Any, None]:
        """Starts it, if nobody has, and waits until it has ended. Who is cancelled meanwhile stops what he started."""
        return self._served().__await__()

    async def _served(self) -> None:
        if self._over is not None:
            await self._has_started()
            return
        async with self:
            assert self._over is not None
            await self._over

    def __enter__(self) -> Self:
        """Starts it. The end of the block stops it."""
        try:
            _core.current_runner()
        except RuntimeError:
            pass
        else:
            raise RuntimeError(
                "a run or an asyncio loop is not to be stopped here: write `async with` for a supervisor"
            )
        try:
            self.start().result()
        except KeyboardInterrupt:
            # What has hardly begun has not long for its end: it may be a child that holds up the start.
            if self._over is not None:
                self._stopped_in_order(EXIT_GRACE)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_parents and kind is not None:
            # A forked child leaves what is none of its own.
            return
        failure = self._stopped_in_order()
        if failure is not None and kind is None:
            raise failure

    def _stopped_in_order(self, timeout: float | None = None) -> BaseException | None:
        """Waits in a plain thread until it was stopped, and gives why it has failed. A second Ctrl-C kills it."""
        over = self.stop()
        try:
            return over.exception(timeout)
        except (KeyboardInterrupt, TimeoutError) as error:
            self.kill()
            # A weightless child may refuse to end for ever; what has been killed is waited for no longer than that.
            with contextlib.suppress(TimeoutError):
                over.exception(EXIT_GRACE)
            if isinstance(error, TimeoutError):
                return None
            raise

    async def __aenter__(self) -> Self:
        """Starts it. A cancel point."""
        started = self.start()
        try:
            await started
        except BaseException:
            with _core.shield():
                await _quietly(self.stop())
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops it. A cancel point; who is cancelled here kills the children.

        When the block has failed, or was cancelled, it is none: the children have their times all the same.
        """
        if self._is_parents and kind is not None:
            return
        over = self.stop()
        try:
            if kind is None:
                await over
            else:
                with _core.shield():
                    await _quietly(over)
        except ChildFailed:
            raise
        except BaseException as failure:
            self.kill()
            if isinstance(failure, GeneratorExit):
                # The run was left, and has dropped who waits here.
                raise
            if kind is not None and issubclass(kind, GeneratorExit) and isinstance(failure, RuntimeError):
                # So it was within the block, and nobody is left who could wait.
                return
            with _core.shield():
                await _quietly(over)
            raise

    # --- its children -----------------------------------------------------------------------------------------------

    @property
    def strategy(self) -> Strategy:
        """What is started again when a child dies."""
        return self._machine.strategy

    def __getitem__(self, name: str) -> Any:
        """A child: the handle of an actor, the task that runs now, or a supervisor.

        Args:
            name: by which the supervisor knows it.

        Raises:
            KeyError: there is no such child, also no more (a temporary one that has ended, one that was deleted); or it
                is a task that does not run now.
            RuntimeError: it is a task, and the supervisor that of the process which this one was forked from.
        """
        spec = self._known.get(name)
        if spec is None or self._is_gone(name):
            raise KeyError(no_such_child(name, [known for known in list(self._known) if not self._is_gone(known)]))
        if name in self._kept:
            from thistledown._actors import handle

            return handle(self._kept[name])
        if isinstance(spec._start, Supervisor):
            return spec._start
        self._look_whose()
        task = getattr(self._lives.get(name), "task", None)
        if task is None:
            hint = ": start the supervisor first, by `with supervisor:` or `start()`" if self._over is None else ""
            raise KeyError(f"the task of child {name!r} does not run now{hint}")
        return task

    def __contains__(self, name: object) -> bool:
        return name in self._known and not self._is_gone(name)

    def which_children(self) -> list[ChildState]:
        """All children, in the order of their start."""
        self._look_whose()
        return [
            ChildState(child.name, child.state, self._kind(child.name), child.restart, child.restarts)
            for child in list(self._machine.children)
        ]

    def count_children(self) -> dict[str, int]:
        """How many children there are: ``specs`` of all, ``active`` ones that run, ``supervisors`` and ``workers``."""
        children = self.which_children()
        supervisors = sum(child.kind == "supervisor" for child in children)
        return {
            "specs": len(children),
            "active": sum(child.state == "running" for child in children),
            "supervisors": supervisors,
            "workers": len(children) - supervisors,
        }

    def start_child(self, child: Any, /) -> Task[Any]:
        """Adds a child, behind all others, and starts it. A restart of the supervisor itself forgets it.

        Args:
            child: as ``td.Supervisor`` takes it.

        Returns:
            A task that gives what ``supervisor[name]`` does. It fails with ``ChildFailed`` when the child could not be
            started; then it is not added. Not a cancel point.

        Raises:
            TypeError, ValueError: it can be no child.
            RuntimeError: the supervisor does not run.
        """
        spec = as_child(child)
        if spec._start is self:
            raise ValueError(f"{self._name} is to be its own child: make a supervisor of its own for that")

        async def add() -> Any:
            known = self._machine.find(spec.name)
            if known is not None:
                hint = "runs already" if known.state == "running" else "is known already, and can be restarted"
                raise ValueError(f"child {spec.name!r} {hint}: give the new one another name, or delete that one")
            self._known[spec.name] = spec
            self._keep(spec)
            failure = await self._carry_out(self._machine.start_child(known_of(spec)))
            if failure is not None:
                self._forget(spec.name)
                raise failed(spec.name, self._name, failure)
            return self[spec.name]

        return self._demand(f"start of child {spec.name}", add)

    def terminate_child(self, name: str) -> Task[None]:
        """Stops a child. It stays known, and can be restarted or deleted; a temporary one is forgotten.

        Args:
            name: of the child.

        Returns:
            A task that is done when the child has ended. It fails with ``KeyError`` when there is no such child.

        Raises:
            RuntimeError: the supervisor does not run.
        """
        return self._demand(
            f"end of child {name}", lambda: self._carry_out(self._machine.terminate_child(self._find(name)))
        )

    def restart_child(self, name: str) -> Task[Any]:
        """Starts a child that does not run.

        Args:
            name: of the child.

        Returns:
            A task that gives what ``supervisor[name]`` does. It fails with ``KeyError`` when there is no such child,
            with ``RuntimeError`` when it runs, and with ``ChildFailed`` when it could not be started.

        Raises:
            RuntimeError: the supervisor does not run.
        """

        async def restart() -> Any:
            child = self._down(name)
            failure = await self._carry_out(self._machine.restart_child(child))
            if failure is not None:
                raise failed(name, self._name, failure)
            return self[name]

        return self._demand(f"restart of child {name}", restart)

    def delete_child(self, name: str) -> Task[None]:
        """Forgets a child that does not run.

        Args:
            name: of the child.

        Returns:
            A task that is done when that is so. It fails with ``KeyError`` when there is no such child, and with
            ``RuntimeError`` when it runs.

        Raises:
            RuntimeError: the supervisor does not run.
        """

        async def delete() -> None:
            self._machine.delete_child(self._down(name))

        return self._demand(f"delete of child {name}", delete)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _is_gone(self, name: object) -> bool:
        """Whether it is a child that this was made with, and that is forgotten until this is started again."""
        if name not in self._specs or self._over is None or self._over.done():
            return False
        if self._started is None or not self._started.done():
            return False
        return self._machine.find(name) is None

    def _kind(self, name: str) -> str:
        spec = self._known.get(name)
        if name in self._kept:
            return "actor"
        return "supervisor" if spec is not None and isinstance(spec._start, Supervisor) else "task"

    def __reduce__(self) -> NoReturn:
        raise NotPicklable(f"{self._name} is a supervisor of this process: send the handles of its actors instead")

    def __repr__(self) -> str:
        return f"<thistledown.Supervisor {self._name} of {len(self._known)}>"


async def _quietly(task: Task[Any]) -> None:
    """Waits for its end, whatever came of it."""
    with contextlib.suppress(Exception):
        await task


def _forget(number: int, _: object) -> None:
    _roots.pop(number, None)


def roots() -> list[Supervisor]:
    """The supervisors of this process that run and have none of their own."""
    found = [one for known in list(_roots.values()) if (one := known()) is not None]
    return [one for one in found if not one._is_nested and one._over is not None and not one._over.done()]


def end_all(is_kill: bool) -> None:
    """The program ends: those that have a thread of their own are stopped."""
    own = [one for one in roots() if one._has_thread]
    for one in own:
        if is_kill:
            one.kill()
        else:
            one.stop()
    for one in own:
        assert one._over is not None
        # A weightless child may refuse to end for ever; what has been killed is waited for no longer than that.
        with contextlib.suppress(TimeoutError):
            one._over.exception(EXIT_GRACE if is_kill else None)


def renew_locks() -> None:
    """In a forked child, before anything there is told of its end."""
    for known in list(_roots.values()):
        if (one := known()) is not None:
            one._renew_locks()


def leave_to_parent() -> None:
    """In a forked child: it has no supervisors, those of its parent go on there."""
    known = list(_roots.values())
    _roots.clear()
    for reference in known:
        if (one := reference()) is not None:
            one._leave_to_parent()
