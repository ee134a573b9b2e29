"""Places: where tasks run. All have the same verbs."""

from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._task import Task

__all__ = ["Here", "here"]

CO_ASYNC_GENERATOR = 0x200
"""The flag of a function's code; the module that has its name takes long to import."""


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
            TypeError: no task body: a plain function, for one, which does not run here but in a worker process.
            RuntimeError: no run in this thread.
        """
        if isinstance(body, str) or _is_plain(body):
            raise TypeError(
                f"{body!r} is a plain function, which runs in a worker process and not here: write "
                "`td.go(fn, *args)`, or make it a body with `async def` or `yield`"
            )
        return _core.go_in(body, args, kwargs, None, None, self._name)

    def __repr__(self) -> str:
        return "td.here" if self._name is None else f"td.here.options(name={self._name!r})"


def _is_plain(function: Any) -> bool:
    if not callable(function) or hasattr(function, "__await__") or _core.makes_body(function):
        return False
    # The engine has words for these.
    return not getattr(getattr(function, "__code__", None), "co_flags", 0) & CO_ASYNC_GENERATOR


here = Here()
