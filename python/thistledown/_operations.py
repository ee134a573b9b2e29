"""What a select gives, and generators made ready to be sent into."""

import functools
from collections.abc import Callable, Generator
from typing import Any, NamedTuple, ParamSpec, TypeVar

__all__ = ["Selected", "primed"]

P = ParamSpec("P")
Y = TypeVar("Y")
S = TypeVar("S")
R = TypeVar("R")


class Selected(NamedTuple):
    """Which operation a select committed to, counted from zero, and what it gave."""

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    value: Any


def primed(function: Callable[P, Generator[Y, S, R]]) -> Callable[P, Generator[Y, S, R]]:
    """Makes a generator function give generators that have run to their first ``yield``.

    They are ready for ``send(value)`` and for ``td.switch(generator, value)``. What the first ``yield`` gives is
    dropped. Source: the ``coroutine`` decorator of Mertz's talk.

    Args:
        function: a generator function.

    Raises:
        TypeError: it is none.
        RuntimeError: when called: the generator ended before its first ``yield``.
    """
    import inspect

    if not inspect.isgeneratorfunction(function):
        raise TypeError(f"primed decorates a generator function, one with `yield` in it; got {function!r}")

    @functools.wraps(function)
    def start(*args: P.args, **kwargs: P.kwargs) -> Generator[Y, S, R]:
        generator = function(*args, **kwargs)
        try:
            next(generator)
        except StopIteration:
            raise RuntimeError(f"{function.__qualname__} ended before its first yield") from None
        return generator

    return start
