"""The part of a ``Tree`` that asyncio knows: the tasks of a loop that wait for something of ours, and what our own wait
for there.

The engine knows with which future a task of the loop waits, and for what. Which task that is, and what it does when it
does not wait for anything of ours, is asked here, of asyncio.
"""

import asyncio
import types
from typing import Any

from thistledown._lines import PACKAGE, Line, lines_of_body, lines_of_thread

__all__ = ["Loop"]

OWN = f"{PACKAGE}_asyncio.py"
"""Whoever runs this file's coroutines keeps the others, and is nobody's."""

Target = tuple[str, Any]


class Loop:
    """A loop that a run is the guest of.

    Args:
        loop: the loop.
        thread: the interpreter's number of its thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        self.name = f"{type(loop).__module__.partition('.')[0]} loop"
        self._thread = thread
        # A task of asyncio's, or a stand-in for one of ours.
        self._current: Any = asyncio.current_task(loop)
        self._tasks = {id(_future_of(task)): task for task in asyncio.all_tasks(loop)}

    def task_of(self, task: Any, future: Any) -> Any:
        """The task of asyncio's that visits; None when nobody knows."""
        return task if task is not None or future is None else self._tasks.get(id(future))

    def is_own(self, task: Any) -> bool:
        """Whether it only keeps the others."""
        code = getattr(_body(task), "cr_code", None)
        return code is not None and code.co_filename == OWN

    def state(self, task: Any) -> str:
        """What a task of asyncio's does."""
        if task is None:
            return "ready"
        if task is self._current:
            return "running"
        return "ready" if _future_of(task) is None else "waiting"

    def awaited(self, future: Any) -> tuple[str | None, list[Target]]:
        """What waiting for a future of asyncio's is, in words, and whom."""
        if future is None:
            return None, []
        if not isinstance(future, asyncio.Task):
            return "a future of asyncio", []
        name = future.get_name()
        return f"the end of asyncio task {name}", [(name, future)]

    def future_of(self, task: Any) -> Any:
        """What a task of asyncio's waits for."""
        return None if task is None else _future_of(task)

    def lines(self, task: Any) -> tuple[Line, ...]:
        """Where a task of asyncio's stands."""
        return self.lines_of_current() if task is self._current else lines_of_body(_body(task))

    def lines_of_current(self) -> tuple[Line, ...]:
        """Where the one that has its turn stands, one of ours or of asyncio's."""
        frame = _frame(_body(self._current))
        return () if frame is None else lines_of_thread(self._thread, outermost=frame)


def _future_of(task: Any) -> Any:
    future = getattr(task, "_fut_waiter", None)
    return None if future is None or future.done() else future


def _body(task: Any) -> Any:
    return None if task is None else task.get_coro()


def _frame(body: Any) -> types.FrameType | None:
    return getattr(body, "gi_frame", None) or getattr(body, "cr_frame", None)
