"""Who is told of each task that is told to go: one at a time, and nobody unless somebody asked for it.

What the package tells to go for itself is nobody's task, and not told: it is marked where it is written.
"""

import contextvars
import types
from collections.abc import Callable
from typing import Any, TypeVar

from thistledown import _core
from thistledown._task import Task

__all__ = ["observe", "unobserved"]

Observer = Callable[[Task[Any], str, contextvars.Context | None], object]

F = TypeVar("F", bound=Callable[..., Any])

_unobserved: set[types.CodeType] = set()
"""The code of coroutine functions whose tasks are the package's own."""


def unobserved(function: F) -> F:
    """Marks a coroutine function of the package: no observer is told of a task that is made of it alone.

    What such a task tells to go is told, unless it is marked as well.
    """
    _unobserved.add(function.__code__)
    return function


def observe(observer: Observer | None) -> None:
    """From now on ``observer(task, place, context)`` is called with each task; None ends that.

    The place is ``here`` or ``workers``. The context is a weightless task's own, in which it has not begun; a task of a
    worker, and a call of an actor in one, has none here.
    """
    if observer is None:
        _core.set_observer(None)
        return

    def told(task: Task[Any], place: str, context: contextvars.Context | None, body: Any) -> None:
        if not (isinstance(body, types.CoroutineType) and body.cr_code in _unobserved):
            observer(task, place, context)

    _core.set_observer(told)
