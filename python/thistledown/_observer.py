"""Who is told of each task that is told to go: one at a time, and nobody unless somebody asked for it."""

import contextvars
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._task import Task

__all__ = ["observe"]

Observer = Callable[[Task[Any], str, contextvars.Context | None], object]


def observe(observer: Observer | None) -> None:
    """From now on ``observer(task, place, context)`` is called with each task; None ends that.

    The place is ``here`` or ``workers``. The context is a weightless task's own, in which it has not begun; a task of a
    worker has none here.
    """
    _core.set_observer(observer)
