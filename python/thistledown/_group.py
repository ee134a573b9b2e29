"""Groups: tasks that belong together, and end together, wherever they run.

A group stands on a scope of the engine: its tasks are the scope's members, and cancelling the scope cancels them. For
a weightless task that is ``Cancelled`` at its wait; for one of a worker process, what ``cancel`` of that task does; for
a thread call, ``Cancelled`` between two bytecodes. A member is one until it has ended, so a group that is empty has
nothing that runs. The engine's part of the class has that scope, and ``go``.
Sources: trio's nurseries, asyncio's ``TaskGroup``.
"""

import threading
import types
import weakref
from collections.abc import Callable, Generator
from typing import Any, NoReturn, Self, TypeVar

from thistledown import _core
from thistledown._errors import Cancelled
from thistledown._task import Task

__all__ = ["TaskGroup", "holding"]

T = TypeVar("T")

LOOKED_THROUGH = 64
"""Tasks that run elsewhere, above which those that have ended well are let go."""


_holding: "weakref.WeakValueDictionary[int, TaskGroup]" = weakref.WeakValueDictionary()
"""The groups whose blocks are open and that hold tasks which run elsewhere, for ``td.tree()``."""


def holding() -> "list[TaskGroup]":
    """These groups, whatever other threads do meanwhile."""
    return [group for known in _holding.valuerefs() if (group := known()) is not None]


def _raise(error: BaseException) -> NoReturn:
    """Raises it with the context that it has: that the block was cancelled for it is no news."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
        del error, context


class TaskGroup(_core.Group):
    """Holds tasks; leaving the block means that none of them runs any more.

    ``async with td.TaskGroup() as tg: tg.go(work, 1)``. It holds weightless tasks, tasks of worker processes
    (``tg.go(fib, 35)``, ``tg.add(pool.go(fib, 35))``) and thread calls (``tg.thread(fn, x)``). When one fails the
    others are cancelled, and so is the block. One error is raised as itself, several as an ``ExceptionGroup``;
    ``except*`` takes both. The end of the block is a cancel point.

    In a generator task: ``with td.TaskGroup() as tg: ...; yield from tg.join()``, the join as the last line. In plain
    code: ``with td.TaskGroup() as tg: ...``, which waits at its end, and ends the tasks on Ctrl-C; weightless ones need
    a ``td.run``.
    """

    def __init__(self) -> None:
        self._errors: list[BaseException] = []
        # Those that run elsewhere, whose errors are asked for when the group ends.
        self._elsewhere: list[Task[Any]] = []
        self._look_through_at = LOOKED_THROUGH
        self._over = False
        # Of plain code: the interpreter's number of the thread that has entered it.
        self._owner: int | None = None

    def _repr_html_(self) -> str:
        """For notebooks."""
        from thistledown import _html

        return _html.of_group(self)

    def thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Calls a plain function in a helper thread, as a member of the group; the same as ``go(td.thread(...))``.

        When the group is cancelled ``Cancelled`` is raised in the call, between two bytecodes; one that has not begun
        never does. A thread cannot be killed: the block's end waits for a call that stands in C code.

        Args:
            fn: any callable.
            args, kwargs: for it.

        Returns:
            The task.

        Raises:
            TypeError: no plain function.
            RuntimeError: the group's block has not been entered, or has been left.
        """
        return self.go(_core.thread(fn, *args, **kwargs))

    def add(self, task: Task[T], /) -> Task[T]:
        """Takes in a task that was started in a pool: ``tg.add(pool.options(timeout=5).go(f, x))``.

        From now on it is a member like any other.

        Args:
            task: of a worker process, in whatever pool.

        Returns:
            The task itself.

        Raises:
            TypeError: it does not run in a worker process.
            RuntimeError: it is in a group already, or the group's block has not been entered, or has been left.
        """
        _check_is_task(task)
        self._scope.adopt(task)
        self._hold(task)
        return task

    def cancel(self) -> None:
        """Cancels the tasks of the group and its block. The block ends without an error."""
        self._scope.cancel()

    def _go_elsewhere(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        """Starts a task of the default pool in the group. The engine calls this."""
        from thistledown import _workers

        _ = self._scope.empty  # raises when the block is not open, before anything is started
        return self.add(_workers.go(body, args, kwargs))

    def _hold(self, task: Task[Any]) -> None:
        """One that runs elsewhere is a member now. Those that have ended well are let go, now and then."""
        if not self._elsewhere:
            _holding[id(self)] = self
        self._elsewhere.append(task)
        if len(self._elsewhere) > self._look_through_at:
            self._elsewhere = [task for task in self._elsewhere if not task.done() or task._has_failed()]
            self._look_through_at = max(LOOKED_THROUGH, 2 * len(self._elsewhere))

    def _failed(self, error: BaseException) -> bool:
        """A task of the group failed; the engine calls this. False: the group is over and cannot answer for it."""
        if self._over or self._scope.taken_away:
            return False
        self._errors.append(error)
        self.cancel()
        return True

    @types.coroutine
    def join(self) -> Generator[Any, Any, None]:
        """Waits until no task of the group runs any more. The last line of a generator task's block."""
        try:
            # One that is started in the last moment is waited for too.
            while not self._scope.empty:
                yield from self._scope.drain()
        except BaseException as error:
            if not _core.is_cancellation(error):
                raise
            # Nobody leaves before the tasks have: they are cancelled too, and waited for.
            self._scope.cancel()
            with _core.shield():
                while not self._scope.empty:
                    yield from self._scope.drain()
            raise

    @types.coroutine
    def _end(self, error: BaseException | None) -> Generator[Any, Any, bool]:
        if self._scope.taken_away and error is not None:
            return False
        was_cancelled = self._scope.cancelled
        if error is not None:
            self._scope.cancel()
        try:
            yield from self.join()
        except BaseException as cancelled:
            if not _core.is_cancellation(cancelled):
                raise
            # Asyncio tells a weightless task once: that is not to be lost behind a cancellation of ours.
            if error is None or (isinstance(error, Cancelled) and not isinstance(cancelled, Cancelled)):
                return self._leave(cancelled, was_cancelled=True, is_raised=False)
        return self._leave(error, was_cancelled=was_cancelled, is_raised=True)

    def _end_plain(self, error: BaseException | None) -> bool:
        """Waits at the end of a block in plain code. Whoever interrupts it, as by Ctrl-C, cancels the tasks; once more,
        and they are left to end by themselves."""
        was_cancelled = self._scope.cancelled
        if error is not None:
            self._scope.cancel()
        try:
            self._wait()
        except BaseException as interrupted:
            # Whoever stops this task of a worker raises `Cancelled` too, and that is not the group's to end.
            was_cancelled = self._scope.cancelled
            self._scope.cancel()
            stronger = self._wait_shielded() or interrupted
            if error is None or not isinstance(stronger, Cancelled):
                return self._leave(stronger, was_cancelled=was_cancelled, is_raised=False)
        return self._leave(error, was_cancelled=was_cancelled, is_raised=True)

    def _wait_shielded(self) -> BaseException | None:
        """Waits for what is cancelled, unless somebody interrupts that too."""
        try:
            with _core.shield():
                self._wait()
        except BaseException as interrupted:
            return interrupted
        return None

    def _wait(self) -> None:
        while not self._scope.empty:
            for task in self._elsewhere:
                task._is_awaited()
            self._scope.drain().wait()

    def _leave(self, error: BaseException | None, *, was_cancelled: bool, is_raised: bool) -> bool:
        """Leaves the scope and raises what there is to raise.

        Args:
            error: what ended the block.
            was_cancelled: the group was cancelled before that: its cancellation ends here, unless one from outside
                goes on.
            is_raised: the error is on its way out of the block, and goes on when this returns False.
        """
        self._scope.leave()
        self._over = True
        if self._elsewhere:
            _holding.pop(id(self), None)
        errors, self._errors = self._errors, []
        elsewhere, self._elsewhere = self._elsewhere, []
        for task in elsewhere:
            if task._has_failed() and (failure := task._take_failure()) is not None:
                errors.append(failure)
        # Somebody who waited for one inside of the block has raised its error already.
        if error is not None and not _core.is_cancellation(error) and all(error is not other for other in errors):
            errors.insert(0, error)
        if len(errors) > 1:
            _raise(BaseExceptionGroup("several tasks of a group failed", errors))
        outcome = errors[0] if errors else error
        ends_here = was_cancelled and not errors and not self._scope.is_outlived(outcome)
        if outcome is None or ends_here:
            # Its tasks may have ended because of that, before anybody waited for them: it must not go unnoticed.
            _core.check_cancelled()
            return True
        if outcome is error and is_raised:
            return False
        try:
            _raise(outcome)
        finally:
            del outcome, error, errors

    async def __aenter__(self) -> Self:
        self._scope.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> bool:
        return await self._end(error)

    def __enter__(self) -> Self:
        self._scope.__enter__()
        if _core.current_task() is None and not self._scope.in_asyncio:
            self._owner = threading.get_ident()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> bool:
        if self._scope.taken_away and error is not None:
            return False
        if _core.current_task() is None and not self._scope.in_asyncio:
            return self._end_plain(error)
        was_cancelled = self._scope.cancelled
        if error is not None:
            self._scope.cancel()
        elif not self._scope.empty:
            self._scope.cancel()
            self._errors.append(
                RuntimeError(
                    "the block of a group ends with `yield from tg.join()` in a generator task; "
                    "in an `async def` write `async with`"
                )
            )
        return self._leave(error, was_cancelled=was_cancelled, is_raised=True)


def _check_is_task(task: object) -> None:
    if not isinstance(task, Task):
        raise TypeError(f"add takes a task, as `pool.go(fn, *args)` gives it; got {task!r}: write `tg.go(...)` for it")
