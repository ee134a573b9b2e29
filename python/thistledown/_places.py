"""Places: where tasks run. All have the same verbs."""

import functools
from collections.abc import Callable, Coroutine, Generator, Hashable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, Unpack

from thistledown import _core
from thistledown._options import checked
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._actors import Actor
    from thistledown._boxes import Maker
    from thistledown._gathering import AsyncResults

__all__ = ["Here", "here"]

T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")

CO_ASYNC_GENERATOR = 0x200
"""The flag of a function's code; the module that has its name takes long to import."""


class HereOptions(TypedDict, total=False):
    """For type checkers: the options and their values; see ``Here.options``."""

    name: str | None
    key: Hashable
    mailbox: int


class Here:
    """Weightless tasks of this thread's run or asyncio loop: the place behind ``td.go`` for coroutines and generators.

    ``options`` gives the same place with options for each task; they never mix with the function's own arguments.
    """

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        self._given = options or {}

    def options(self, **options: Unpack[HereOptions]) -> "Here":
        """The same place with options for each task and actor started through it.

        Args:
            name: for people; None for a name of its own.
            key: tasks with one key never run at the same time, nor between each other's waits: one begins when those
                started before it have ended. A key is one for the whole process, in whichever run its tasks are; a
                pool's keys are the pool's own.
            mailbox: of actors: how many messages to one may be unanswered, 100,000 if nothing is said.

        Raises:
            TypeError, ValueError: there is no such option here, or it cannot have this value.
        """
        foreign = options.keys() - HereOptions.__annotations__.keys()
        if foreign:
            raise TypeError(
                f"{', '.join(sorted(foreign))}: no such option for what runs here, where there are "
                f"{', '.join(HereOptions.__annotations__)}; for a limit of time write `with td.timeout(...)`"
            )
        return Here({**self._given, **checked({**options})})

    def go(self, body: Callable[..., Any] | Any, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Starts a weightless task, as ``td.go`` does.

        Args:
            body: a coroutine or generator function or object, or an object with ``__await__``.
            args, kwargs: for the function.

        Returns:
            The task.

        Raises:
            TypeError: no task body: a plain function, for one, which does not run here but in a worker process.
            RuntimeError: no run in this thread, and no asyncio loop.
        """
        # What an actor's method is, `go_in` says.
        if isinstance(body, str) or (_is_plain(body) and not isinstance(body, _core.Method)):
            raise TypeError(
                f"{body!r} is a plain function, which runs in a worker process and not here: write "
                "`td.go(fn, *args)`, or make it a body with `async def` or `yield`"
            )
        given = self._given
        if "mailbox" in given:
            raise TypeError("mailbox is an option of actors: a task has none")
        return _core.go_in(body, args, kwargs, None, None, given.get("name"), given.get("key"))

    def actor(self, owner: Callable[P, C], /, *args: P.args, **kwargs: P.kwargs) -> "Actor[C]":
        """Makes a weightless actor: an object of this thread's run or asyncio loop, whose methods are messages.

        Args:
            owner: a class.
            args, kwargs: for its constructor, which is called at once.

        Returns:
            A handle.

        Raises:
            TypeError: no class.
            RuntimeError: no run in this thread, and no asyncio loop.
            Exception: what the constructor raises.
        """
        from thistledown._actors import made_in

        return made_in(self, owner, args, kwargs, is_made_later=False)  # type: ignore[arg-type]

    def _box_maker(self) -> "Maker":
        from thistledown._boxes_here import maker

        if "key" in self._given:
            raise TypeError("key is an option of tasks: an actor is a key of its own")
        return maker(self._given)

    def map(
        self,
        fn: Callable[..., Coroutine[Any, Any, T] | Generator[Any, Any, T]],
        *iterables: Iterable[Any],
        concurrency: int | None = None,
        buffersize: int | None = None,
        timeout: float | None = None,
        progress: bool = False,
        ordered: bool = True,
    ) -> "AsyncResults[T]":
        """Calls a coroutine or generator function for each item, in weightless tasks.

        Args:
            fn: the function.
            iterables: one for each argument of the function; the shortest ends the map. They are read as far as there
                is room, so they may be endless.
            concurrency: how many tasks run at a time; None for 100.
            buffersize: how many may have been started ahead of the results that were taken; None for ``concurrency``.
            timeout: seconds for all of it, from this call.
            progress: shows a bar: in a notebook below the cell, else on stderr; tqdm's, when it is installed.
            ordered: gives the results in the order of the items, else as they come.

        Returns:
            An iterator over the results, for ``async for`` in a weightless task or in an asyncio task. The first error
            of an item is raised at its place; it cancels the rest, and waits for them.

        Raises:
            TimeoutError: while iterating: the time is over.
            RuntimeError: while iterating: no run in this thread, and no asyncio loop.
            TypeError, ValueError: an argument has an impossible value.
        """
        from thistledown._gathering import CONCURRENCY, AsyncResults
        from thistledown._map import check_counts, total_of

        check_counts(concurrency=concurrency, buffersize=buffersize)
        if not callable(fn) or not _core.makes_body(fn):
            raise TypeError(f"{fn!r} makes no weightless task: for a plain function write `td.map(fn, ...)`")
        if not iterables:
            raise TypeError("map takes a function and at least one iterable")
        concurrency = CONCURRENCY if concurrency is None else concurrency
        bar = None
        if progress:
            from thistledown import _progress

            bar = functools.partial(_progress.bar, total_of(iterables), getattr(fn, "__name__", "map"))
        return AsyncResults(
            self.go,
            fn,
            iterables,
            concurrency=concurrency,
            buffersize=concurrency if buffersize is None else buffersize,
            timeout=timeout,
            bar=bar,
            ordered=ordered,
        )

    def __repr__(self) -> str:
        if not self._given:
            return "td.here"
        return f"td.here.options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


def _is_plain(function: Any) -> bool:
    if not callable(function) or hasattr(function, "__await__") or _core.makes_body(function):
        return False
    # The engine has words for these.
    return not getattr(getattr(function, "__code__", None), "co_flags", 0) & CO_ASYNC_GENERATOR


here = Here()
