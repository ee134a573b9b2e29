"""The task class: the engine's task, and a ``concurrent.futures.Future`` for everyone who asks.

Imported with the first task, by the engine if nobody else does it.
"""

import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from thistledown import _core
from thistledown._errors import ThistledownError
from thistledown._lifetime import wait_for_imports

__all__ = ["Task", "TaskCancelled"]

T = TypeVar("T")


class TaskCancelled(ThistledownError, concurrent.futures.CancelledError):
    """The task that was waited for had been cancelled. Whoever waits for it is not."""

    __module__ = "thistledown"


class Task(_core.Task[T], concurrent.futures.Future[T]):
    """Work that was told to go: made by ``td.go``, never by hand.

    A real ``concurrent.futures.Future``, which can also be awaited, and stands for its end wherever an operation is
    asked for. The engine holds it: it runs on when nobody keeps it. In a weightless task write ``await task``; in a
    plain thread ``task.result(timeout)``.
    """

    __module__ = "thistledown"

    # The engine's class comes first and has all of the state: the standard library's initialiser, which makes a lock
    # and a list for each future, is left out.
    __init__ = object.__init__

    def __setattr__(self, name: str, value: object) -> None:
        self._track()
        super().__setattr__(name, value)

    def _repr_html_(self) -> str:
        """For notebooks."""
        from thistledown import _html

        return _html.of_task(self)

    # For type checkers they are what they are in the standard library, whose `as_completed` asks for just that.
    if not TYPE_CHECKING:

        @property
        def _state(self) -> str:
            if not self.done():
                return "RUNNING"
            return "CANCELLED_AND_NOTIFIED" if self.cancelled() else "FINISHED"

        @property
        def _condition(self) -> threading.Condition:
            return self._standard_view(False)[0]

        @property
        def _waiters(self) -> list[Any]:
            return self._standard_view(True)[1]

    def _refuse(self, *_: object) -> NoReturn:
        """Refused: the outcome of a task is set by its own body alone. Raises ``InvalidStateError``."""
        raise concurrent.futures.InvalidStateError("a task's outcome is set by its own body")

    set_result = _refuse  # type: ignore[assignment]
    set_exception = _refuse  # type: ignore[assignment]
    set_running_or_notify_cancel = _refuse


_core.set_task_class(Task)


if hasattr(os, "register_at_fork"):
    # Once more: what was registered last comes first, and the standard library's `logging`, which came just now, takes
    # a lock for the fork that an import of ours may need.
    os.register_at_fork(before=wait_for_imports)
