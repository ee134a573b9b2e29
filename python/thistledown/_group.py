"""Groups: tasks that belong together, and end together.

A group stands on a scope of the engine: its tasks are the scope's members, and cancelling the scope cancels them.
The engine's part of the class has that scope, and ``go``.
Sources: trio's nurseries, asyncio's ``TaskGroup``.
"""

import types
from collections.abc import Generator
from typing import Any, Self

from thistledown import _core

__all__ = ["TaskGroup"]


class TaskGroup(_core.Group):
    """Holds tasks; leaving the block means that none of them runs any more.

    ``async with td.TaskGroup() as tg: tg.go(work, 1)``. When one fails the others are cancelled, and so is the block.
    One error is raised as itself, several as an ``ExceptionGroup``; ``except*`` takes both. The end of the block is a
    cancel point.

    In a generator task: ``with td.TaskGroup() as tg: ...; yield from tg.join()``, the join as the last line.
    """

    def __init__(self) -> None:
        self._errors: list[BaseException] = []
        self._over = False

    def cancel(self) -> None:
        """Cancels the tasks of the group and its block. The block ends without an error."""
        self._scope.cancel()

    def _failed(self, error: BaseException) -> bool:
        """A task of the group failed; the engine calls this. False: the group is over and cannot answer for it."""
        if self._over:
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
        was_cancelled = self._scope.cancelled
        if error is not None:
            self._scope.cancel()
        try:
            yield from self.join()
        except BaseException as cancelled:
            if not _core.is_cancellation(cancelled):
                raise
            if error is None:
                return self._leave(cancelled, was_cancelled=True, is_raised=False)
        return self._leave(error, was_cancelled=was_cancelled, is_raised=True)

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
        errors, self._errors = self._errors, []
        if error is not None and not _core.is_cancellation(error) and all(error is not other for other in errors):
            errors.insert(0, error)
        if len(errors) > 1:
            raise BaseExceptionGroup("several tasks of a group failed", errors)
        outcome = errors[0] if errors else error
        if outcome is None or (not errors and was_cancelled and not self._scope.is_outlived()):
            return True
        if outcome is error and is_raised:
            return False
        try:
            raise outcome
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> bool:
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
