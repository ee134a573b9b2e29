"""``td.task``: a function that stays what it is, and can be told to go."""

import functools
import sys
import types
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, overload

from thistledown import _core
from thistledown._pickler import MAINS
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._map import Results
    from thistledown._options import Options

__all__ = ["TaskFunction", "task"]

P = ParamSpec("P")
T = TypeVar("T")


class TaskFunction(Generic[P, T]):
    """A function that ``td.task`` has decorated. Calling it calls the function, here and now.

    ``f.go(x)`` is ``td.go(f, x)`` with the options it was decorated with, ``f.map(items)`` a map, and
    ``f.options(...)`` the same function with other options on top.
    """

    __qualname__: str

    def __init__(self, function: Callable[P, T], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._options = options
        self._is_body = _core.makes_body(function)
        if self._is_body and options.keys() - {"name", "key"}:
            raise TypeError(
                f"{', '.join(sorted(options))}: these options are for worker processes, and {function!r} is a "
                "weightless task, which runs here: write `with td.timeout(...)` and the like inside of it"
            )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls the function as if it were not decorated, here and now."""
        return self._function(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> "TaskFunction[..., T]":
        """As a method: bound to its object."""
        if instance is None:
            return self
        return TaskFunction(types.MethodType(self._function, instance), self._options)

    def __reduce__(self) -> Any:
        module = sys.modules.get(self.__module__)
        found: Any = module
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self and self.__module__ not in MAINS:
            return self.__qualname__
        return TaskFunction, (self._function, self._options)

    def __repr__(self) -> str:
        return f"<td.task {self._function!r}>"

    def go(self, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Starts it as a task, as ``td.go`` does: weightless here, or in the default pool.

        Args:
            args, kwargs: for the function.

        Returns:
            The task.

        Raises:
            RuntimeError: it is weightless, and no run in this thread.
            NotPicklable: an argument cannot be sent to a worker process.
        """
        if self._is_body:
            given = self._options
            return _core.go_in(self._function, args, kwargs, None, None, given.get("name"), given.get("key"))
        from thistledown._workers import workers

        place = workers()
        return (place.options(**self._options) if self._options else place).go(self, *args, **kwargs)

    def map(self, *iterables: Iterable[Any], **options: Any) -> "Results[T]":
        """Calls it for each item in the default pool.

        Args:
            iterables, options: as of ``Workers.map``.

        Returns:
            The results in the order of the items, as of ``Workers.map``.

        Raises:
            TypeError, ValueError, NotPicklable: as ``Workers.map``.
        """
        from thistledown._workers import workers

        place = workers()
        return (place.options(**self._options) if self._options else place).map(self, *iterables, **options)

    def options(self, **options: "Unpack[Options]") -> "TaskFunction[P, T]":
        """The same function with options on top of those that it was decorated with.

        Args:
            options: those of ``Workers.options``; of a weightless body ``name`` and ``key``.

        Raises:
            TypeError, ValueError: there is no such option, or it cannot have this value.
        """
        from thistledown._options import checked

        return TaskFunction(self._function, {**self._options, **checked({**options}, self._options)})


@overload
def task(function: Callable[P, T], /) -> TaskFunction[P, T]: ...


@overload
def task(
    *,
    timeout: float | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = (),
    priority: int = 0,
    name: str | None = None,
    key: object = None,
) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...


def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Decorates a function that is to be used as a task: ``@td.task``, or with options ``@td.task(timeout=5)``.

    It stays callable as it is; ``f.go(x)`` starts it.

    Args:
        function: plain, or a coroutine or generator function, which is a weightless task.
        options: those of ``Workers.options``; of a weightless task ``name`` and ``key``.

    Returns:
        A ``TaskFunction``; with options alone, what makes one of the function.

    Raises:
        TypeError, ValueError: this is no function, or no such option; says which.
    """
    from thistledown._options import checked

    def decorate(function: Callable[..., Any]) -> TaskFunction[..., Any]:
        if not callable(function):
            raise TypeError(f"td.task decorates a function, got {function!r}")
        return TaskFunction(function, checked({**options}))

    checked({**options})
    return decorate if function is None else decorate(function)
