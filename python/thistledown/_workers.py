"""Pools of worker processes: ``Workers``, the default pool, and what becomes of pools at forks and at the end.

The engine's pool does the work; this is its face, a ``concurrent.futures.Executor``. It sees to it that the
interpreter does not end before the work is done, as the standard library does, and does end at once when somebody
pressed Ctrl-C.
"""

import concurrent.futures
import functools
import os
import sys
import threading
import types
import weakref
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NoReturn, ParamSpec, Self, TypeVar, overload

from thistledown import _core
from thistledown._launch import cores, launch, packed_initializer
from thistledown._map import Results, start_map
from thistledown._options import checked
from thistledown._task import Task

__all__ = ["Place", "Workers", "checked", "go", "map", "workers"]

P = ParamSpec("P")
T = TypeVar("T")

GRACE = 1.0
"""Seconds that a task has to end after it was told to stop."""

CONCURRENCY = 100
"""Weightless tasks that one worker runs at a time."""

ALONE = ("timeout", "memory", "key")
"""Options that, as retries, are for one item of a map each."""


class _Verbs:
    """What a pool, and a pool with options, can be told."""

    _pool: _core.Pool
    _max_workers: int
    _pumps: "weakref.WeakSet[Any]"

    def _engine_options(self) -> _core.Options | None:
        return None

    def _needs_tasks_alone(self) -> bool:
        return False

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
        return self._pool.go(fn, args, kwargs, self._engine_options())

    submit = go

    def map(
        self,
        fn: Callable[..., T] | str,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
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
            progress: shows a bar on stderr: tqdm's, when it is installed.
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
            lambda function, args: self._pool.go(function, args, {}, options),
            self._max_workers,
            fn,
            iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            progress=progress,
            ordered=ordered,
            alone=self._needs_tasks_alone(),
            keep=self._pumps.add,
        )

    def options(self, **options: Any) -> "Place":
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

        Raises:
            TypeError, ValueError: there is no such option, or it cannot have this value.
        """
        return Place(self, checked(options))


class Place(_Verbs):
    """A pool with options, made by ``Workers.options``. It has the pool's verbs."""

    def __init__(self, base: _Verbs, options: dict[str, Any]) -> None:
        self._base = base
        self._max_workers = base._max_workers
        self._pumps = base._pumps
        self._given: dict[str, Any] = {**base._given, **options} if isinstance(base, Place) else options
        # Who asks for retries means each error that is not the end of the process.
        self._engine = _core.Options(**self._given)

    @property
    def _pool(self) -> _core.Pool:  # type: ignore[override]
        return self._base._pool

    def _engine_options(self) -> _core.Options | None:
        return self._engine

    def _needs_tasks_alone(self) -> bool:
        return bool(self._given.get("retries")) or any(self._given.get(name) is not None for name in ALONE)

    def __repr__(self) -> str:
        return f"{self._base!r}.options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


class Workers(_Verbs, concurrent.futures.Executor):
    """Worker processes on this machine: a ``concurrent.futures.Executor`` whose tasks can be stopped and awaited.

    ``with td.Workers(4) as pool: pool.go(f, x)``. Processes are started when they are needed. A task that crashes
    takes only itself with it; scripts need no main guard; lambdas and what is defined in ``__main__`` can be sent.
    Leaving the block waits for the tasks; Ctrl-C in it ends them.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | str | None = None,
        initargs: tuple[Any, ...] = (),
        preload: Sequence[str] = (),
        max_tasks_per_child: int | None = None,
        grace: float = GRACE,
        concurrency: int = CONCURRENCY,
    ) -> None:
        """Makes a pool.

        Args:
            max_workers: processes that work at a time; None for as many as this process has cores.
            initializer: called in each worker before its first task. When it fails the pool is broken.
            initargs: its arguments.
            preload: names of modules that are imported once and shared by all workers.
            max_tasks_per_child: tasks after which a worker is replaced by a fresh one; None never does.
            grace: seconds that a task has to end after it was told to stop; then its process is killed.
            concurrency: weightless tasks that one worker runs at a time.

        Raises:
            TypeError, ValueError: an argument has an impossible value.
            NotPicklable: the initializer or one of its arguments cannot be sent.
        """
        size = cores() if max_workers is None else _count("max_workers", max_workers)
        if max_tasks_per_child is not None:
            _count("max_tasks_per_child", max_tasks_per_child)
        _count("concurrency", concurrency)
        if isinstance(grace, bool) or not isinstance(grace, int | float):
            raise TypeError(f"grace is a number of seconds, got {grace!r}")
        if not grace >= 0:
            raise ValueError(f"grace must be >= 0 seconds, got {grace!r}")
        if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
            raise TypeError(f"preload is a list of names of modules, got {preload!r}")
        start = functools.partial(launch, size, list(preload), packed_initializer(initializer, initargs))
        pool = _core.Pool(
            size, grace=grace, concurrency=concurrency, max_tasks_per_child=max_tasks_per_child, launch=start
        )
        self._set(pool, size)
        _pools[id(pool)] = pool
        self._finalizer = weakref.finalize(self, _abandon, pool, os.getpid())
        self._finalizer.atexit = False
        _live.add(self)
        _see_to_the_end()

    def _set(self, pool: _core.Pool, size: int) -> None:
        self._pool = pool
        self._max_workers = size
        self._pumps = weakref.WeakSet()
        self._is_upstream = False

    @classmethod
    def _upstream(cls) -> "Workers":
        """In a worker: the pool of the process that this one works for."""
        self = cls.__new__(cls)
        pool = _core.Pool.upstream()
        self._set(pool, int(pool.statistics().get("size", cores())))
        self._is_upstream = True
        return self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Closes the pool: it takes no more tasks, and its processes end when those it has are done.

        Args:
            wait: returns when that is so; else at once.
            cancel_futures: cancels the tasks that have not begun.
        """
        if self._is_upstream:
            return  # It is not this process's to close.
        for pump in list(self._pumps):
            if cancel_futures:
                pump.end_starting()
            else:
                pump.flush()
        self._pool.shutdown(cancel_futures)
        if wait and self._pool.closed(None):
            _pools.pop(id(self._pool), None)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Waits until the pool has nothing to do.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Returns:
            False when the time was over first.
        """
        for pump in list(self._pumps):
            pump.flush()
        return self._pool.wait_idle(timeout)

    def statistics(self) -> dict[str, Any]:
        """What the pool is at, by name: its processes, the tasks that wait and run, and how many have ended how."""
        return self._pool.statistics()

    def _kill(self) -> None:
        """Ends everything now; what has not ended is cancelled."""
        for pump in list(self._pumps):
            pump.end_starting()
        self._pool.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._kill()
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._kill()
            raise

    def __reduce__(self) -> Any:
        """Sent to a worker, it stands for the pool of that worker."""
        return _at_worker, ()

    def __repr__(self) -> str:
        return f"<thistledown.Workers of {self._max_workers}>"


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return value


# --- the default pool -------------------------------------------------------------------------------------------

_default: Workers | None = None
_making = threading.Lock()


def workers() -> Workers:
    """The default pool, which ``td.go`` and ``td.map`` use: as many processes as there are cores.

    Made when it is needed first. In a task it is the pool that runs the task.
    """
    global _default
    with _making:
        if _default is None:
            _default = Workers._upstream() if _is_worker() else Workers()
        return _default


def go(fn: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
    """``td.go`` with a plain function or a name. The engine calls this."""
    return workers()._pool.go(fn, args, kwargs, None)


def map(
    fn: Callable[..., T] | str,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    progress: bool = False,
    ordered: bool = True,
) -> Results[T]:
    """Calls a function for each item, in the processes of the default pool; see ``Workers.map``.

    Raises:
        TimeoutError: while iterating: the time is over.
        NotPicklable: the function or an item cannot be sent.
        TypeError, ValueError: an argument has an impossible value.
    """
    return workers().map(
        fn,
        *iterables,
        timeout=timeout,
        chunksize=chunksize,
        buffersize=buffersize,
        progress=progress,
        ordered=ordered,
    )


def _is_worker() -> bool:
    worker = sys.modules.get("thistledown._worker")
    return worker is not None and worker.child is not None


def _at_worker() -> Workers:
    if not _is_worker():
        raise TypeError("a pool of worker processes can be sent to a worker only, where it stands for that one's pool")
    return workers()


# --- the end of a pool nobody holds, of a fork, of the interpreter ----------------------------------------------

_live: "weakref.WeakSet[Workers]" = weakref.WeakSet()
_pools: dict[int, _core.Pool] = {}
_inherited: list[_core.Pool] = []
_sees_to_the_end = False


def _abandon(pool: _core.Pool, process: int) -> None:
    """A pool that nobody holds is closed, and finishes what it has."""
    if process != os.getpid():
        return
    pool.shutdown(False)
    for other in [other for other in _pools.values() if other is pool or not _is_held(other)]:
        if other.closed(0):
            _pools.pop(id(other), None)


def _is_held(pool: _core.Pool) -> bool:
    return any(one._pool is pool for one in _live)


def _see_to_the_end() -> None:
    global _sees_to_the_end
    if not _sees_to_the_end:
        # Before the interpreter joins its threads, as the standard library's pools do it.
        threading._register_atexit(_end_all)  # type: ignore[attr-defined]
        _sees_to_the_end = True


def _end_all() -> None:
    """The interpreter ends: what pools have is finished, unless somebody pressed Ctrl-C."""
    is_interrupted = not hasattr(sys, "ps1") and getattr(sys, "last_type", None) is KeyboardInterrupt
    try:
        if not is_interrupted:
            for one in list(_live):
                one.shutdown(wait=False)
            for pool in list(_pools.values()):
                pool.shutdown(False)
                pool.closed(None)
            return
    except KeyboardInterrupt:
        pass
    for pool in list(_pools.values()):
        pool.kill()
    for pool in list(_pools.values()):
        pool.closed(None)


class _Forked:
    """Stands for a pool in a forked child, which has neither its thread nor its processes."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "this pool belongs to the process that this one was forked from: make a `td.Workers(...)` here, or use "
            "the default pool, of which a forked process has its own"
        )


def _after_fork_in_child() -> None:
    global _default, _making, _sees_to_the_end
    # Dropping a pool would wait for a thread that does not exist here.
    _inherited.extend(_pools.values())
    _pools.clear()
    for one in list(_live):
        one._pool = _Forked()  # type: ignore[assignment]
    _live.clear()
    _default = None
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
