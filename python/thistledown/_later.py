"""What is asked of a box that cannot be asked yet, and is asked later: while it moves, or between two instances.

Whoever has asked has a task at once. It is cancelled like any other: what waits is never asked then, and what was asked
meanwhile is cancelled where it is.

What it is not: no line. Who keeps these knows in which order, and when there is somebody to ask.
"""

from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import Box
from thistledown._errors import Cancelled
from thistledown._task import Task

__all__ = ["Later"]


class Later:
    """A message that waits for a box.

    Args:
        name: what people call its task.
        how: asks a box, and gives the task of that.
        drop: takes it out of the line in which it waits; False when it is there no more. Without, it is asked in any
            case: who cancels its task changes nothing.
    """

    __slots__ = ("answer", "drop", "how", "is_cancelled", "task")

    def __init__(
        self, name: str, how: Callable[[Box], Task[Any]], drop: "Callable[[Later], bool] | None" = None
    ) -> None:
        self.how = how
        self.drop = drop
        # Since it was asked of somebody: what that answers.
        self.task: Task[Any] | None = None
        self.is_cancelled = False
        self.answer: Task[Any] = _core.pledge(name, True)
        if drop is not None:
            # A pledge has no body that could be told; what it stands for has.
            self.answer.cancel = self.cancel  # type: ignore[method-assign]

    def cancel(self) -> bool:
        """As a task's."""
        if self.answer.done():
            return False
        self.is_cancelled = True
        if self.drop is not None and self.drop(self):
            self.settle(None, Cancelled())
        elif self.task is not None:
            self.task.cancel()
        return True

    def ask(self, box: Box) -> None:
        """Asks this box, and lets who has asked have its answer."""
        if self.is_cancelled:
            self.settle(None, Cancelled())
            return
        try:
            task = self.how(box)
        except BaseException as error:
            self.settle(None, error)
            return
        self.task = task
        if self.is_cancelled:
            task.cancel()
        task.add_done_callback(self.answered)

    def answered(self, task: Any) -> None:
        if task.cancelled():
            self.settle(None, Cancelled())
            return
        try:
            value = task.result()
        except BaseException as error:
            self.settle(None, error)
        else:
            self.settle(value, None)

    def settle(self, value: Any, error: BaseException | None) -> None:
        # So that they do not hold each other.
        vars(self.answer).pop("cancel", None)
        self.answer._settle(value, error)
