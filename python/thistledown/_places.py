"""Places: where tasks run. All have the same verbs."""

from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._task import Task

__all__ = ["Here", "here"]


class Here:
    """Weightless tasks of this thread's run: the place behind ``td.go`` for coroutines and generators.

    ``options`` gives the same place with options for each task; they never mix with the function's own arguments.
    """

    def __init__(self, name: str | None = None) -> None:
        self._name = name

    def options(self, *, name: str | None = None) -> "Here":
        """The same place with options.

        Args:
            name: of each task started through it, for people; None for a name of its own.
        """
        return Here(name)

    def go(self, body: Callable[..., Any] | Any, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Starts a weightless task, as ``td.go`` does.

        Raises:
            TypeError: no task body.
            RuntimeError: no run in this thread.
        """
        return _core.go_in(body, args, kwargs, None, None, self._name)

    def __repr__(self) -> str:
        return "td.here" if self._name is None else f"td.here.options(name={self._name!r})"


here = Here()
