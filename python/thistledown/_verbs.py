"""What a pool of worker processes can be told, with options or without: ``go``, ``map``, ``actor`` and ``options``."""

import functools
import sys
import weakref
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from thistledown import _core
from thistledown._map import Results, start_map
from thistledown._options import Options, checked, checked_for_actor, checked_for_tasks
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._actors import Actor
    from thistledown._boxes import Maker
    from thistledown._shared import Shared

__all__ = ["Place", "Verbs", "started"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")

ALONE = ("timeout", "memory", "key")
"""Options that, as retries, are for one item of a map each."""


def started(
    pool: _core.Pool,
    fn: Callable[..., Any] | str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _core.Options | None,
) -> Task[Any]:
    """Starts a task in a pool. What it was given by ``td.share`` is held until it ends."""
    shared = sys.modules.get("thistledown._shared")
    if shared is None:
        return pool.go(fn, args, kwargs, options)
    task: Task[Any] = shared.holding(lambda: pool.go(fn, args, kwargs, options))
    return task


class Verbs:
    """What a pool, and a pool with options, can be told."""

    _pool: _core.Pool
    _max_workers: int
    _pumps: "weakref.WeakSet[Any]"
    # Options that its tasks have.
    _given: dict[str, Any] = {}  # noqa: RUF012

    def _engine_options(self) -> _core.Options | None:
        return None

    def _needs_tasks_alone(self) -> bool:
        return False

    # What `td.share` made stands for the object itself, as the first argument or the second.
    @overload
    def go(
        self, fn: Callable[..., Coroutine[Any, Any, T]], first: "Shared[Any]", /, *args: Any, **kwargs: Any
    ) -> Task[T]: ...

    @overload
    def go(self, fn: Callable[..., T], first: "Shared[Any]", /, *args: Any, **kwargs: Any) -> Task[T]: ...

    @overload
    def go(
        self,
        fn: Callable[..., Coroutine[Any, Any, T]],
        first: Any,
        second: "Shared[Any]",
        /,
        *args: Any,
        **kwargs: Any,
    ) -> Task[T]: ...

    @overload
    def go(self, fn: Callable[..., T], first: Any, second: "Shared[Any]", /, *args: Any, **kwargs: Any) -> Task[T]: ...

    @overload
    def go(self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...

    @overload
    def go(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]: ...

    @overload
    def go(self, fn: str, /, *args: Any, **kwargs: Any) -> Task[Any]: ...

    def go(self, fn: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Starts a task in a worker process.

        A plain function has the process for itself while it runs. An ``async def`` or generator function runs as a
        weightless task there, beside others.

        Args:
            fn: a function, or its name as ``"package.module:function"``, which the worker imports.
            args, kwargs: for the function. They are copied; large buffers (NumPy, bytes) are mapped, read-only.

        Returns:
            The task: a ``concurrent.futures.Future`` that can also be awaited.

        Raises:
            NotPicklable: the function or an argument cannot be sent; says which, and why.
            RuntimeError: the pool was shut down.
            TypeError, ValueError: this is no function, and no name of one.
        """
        return started(self._pool, fn, args, kwargs, self._engine_options())

    submit = go

    def map(
        self,
        fn: Callable[..., T] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        concurrency: int | None = None,
        progress: bool = False,
        ordered: bool = True,
    ) -> Results[T]:
        """Calls a function for each item, in the worker processes.

        Args:
            fn: a function, or its name as ``"package.module:function"``.
            iterables: one for each argument of the function; the shortest ends the map.
            timeout: seconds for all of it, from this call.
            chunksize: how many items go together in one task. None finds it out: one at first, more while they are
                fast. Items that have a timeout, a memory limit, retries or a key go one by one.
            buffersize: how many items may be taken from the iterables ahead of the results. None takes all at once.
            concurrency: how many tasks there are at a time, of one item each unless ``chunksize`` says otherwise; the
                iterables are read no further than that. None leaves it to the pool.
            progress: shows a bar: in a notebook below the cell, else on stderr; tqdm's, when it is installed.
            ordered: gives the results in the order of the items, else as they come.

        Returns:
            An iterator over the results, for ``for`` in a plain thread and ``async for`` in a weightless task. The
            first error of an item is raised at its place; it ends the iteration and cancels the rest, as closing it
            does.

        Raises:
            TimeoutError: while iterating: the time is over.
            NotPicklable: the function or an item cannot be sent.
            RuntimeError: the pool was shut down.
            TypeError, ValueError: an argument has an impossible value.
        """
        options = self._engine_options()
        return start_map(
            lambda function, args: started(self._pool, function, args, {}, options),
            self._max_workers,
            fn,
            iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            concurrency=concurrency,
            progress=progress,
            ordered=ordered,
            alone=self._needs_tasks_alone(),
            keep=self._pumps.add,
        )

    def actor(self, owner: Callable[P, C], /, *args: P.args, **kwargs: P.kwargs) -> "Actor[C]":
        """Makes an actor in a worker process that may hold others too: an object whose methods are messages.

        Args:
            owner: a class.
            args, kwargs: for its constructor. They are copied.

        Returns:
            A handle, at once. When the constructor fails the actor has ended, and each message to it says so.

        Raises:
            TypeError: no class, or the place has an option that actors have not.
            NotPicklable: the class or an argument cannot be sent.
            RuntimeError: the pool was shut down.
        """
        from thistledown._actors import made_in

        return made_in(self, owner, args, kwargs)  # type: ignore[arg-type]

    def _box_maker(self) -> "Maker":
        from thistledown._boxes_workers import make

        return functools.partial(make, self._workers(), False, checked_for_actor(self._given))

    def _workers(self) -> "Verbs":
        return self

    def options(self, **options: Unpack[Options]) -> "Place":
        """The same pool with options for each task started through it. They never mix with a function's arguments.

        Args:
            timeout: seconds that a task may run; then it is stopped, and fails with ``TimeoutError``.
            memory: how much its process may take: bytes, or a text such as ``"512MiB"`` or ``"2GB"``; then it fails
                with ``MemoryLimitExceeded``.
            retries: how many times it is tried again when its worker dies, or it fails by one of ``retry_on``.
            retry_on: exceptions after which it is tried again, a class or a tuple; by default none.
            priority: of those that wait, higher ones begin first.
            name: of the task, for people.
            key: tasks with one key never run at the same time, and begin in the order in which they were started.
            mailbox: of actors: how many messages to one may be unanswered, 100,000 if nothing is said.

        Raises:
            TypeError, ValueError: there is no such option, or it cannot have this value.
        """
        return Place(self, checked({**options}, self._given))


for _name in ("go", "map", "actor", "options"):
    # As people know it, for Python's own words about calls that do not fit.
    getattr(Verbs, _name).__qualname__ = f"Workers.{_name}"


class Place(Verbs):
    """A pool with options, made by ``Workers.options``. It has the pool's verbs."""

    def __init__(self, base: Verbs, options: dict[str, Any]) -> None:
        self._base: Verbs = base._base if isinstance(base, Place) else base
        self._max_workers = base._max_workers
        self._pumps = base._pumps
        self._given = {**base._given, **options}
        given = {name: value for name, value in self._given.items() if name != "mailbox"}
        self._engine = _core.Options(**given)

    @property
    def _pool(self) -> _core.Pool:  # type: ignore[override]
        return self._base._pool

    def _workers(self) -> Verbs:
        return self._base

    def _engine_options(self) -> _core.Options | None:
        checked_for_tasks(self._given)
        return self._engine

    def _needs_tasks_alone(self) -> bool:
        return bool(self._given.get("retries")) or any(self._given.get(name) is not None for name in ALONE)

    def __repr__(self) -> str:
        return f"{self._base!r}.options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"
