"""The default pool of worker processes, behind ``td.go``, ``td.map`` and ``td.workers``."""

import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from thistledown import _core
from thistledown._ends import is_ending
from thistledown._lifetime import is_worker
from thistledown._map import Results
from thistledown._pool import Workers
from thistledown._task import Task
from thistledown._verbs import started

if TYPE_CHECKING:
    from thistledown._gathering import AsyncResults

__all__ = ["at_worker", "go", "map", "workers"]

T = TypeVar("T")

CLOSED = "cannot schedule new futures after shutdown"
AT_THE_END = "the program has come to its end"
BY_HAND = (
    "the default pool was closed, by `td.workers().shutdown()` or the end of its `with` block: leave it open, or make "
    "a pool with `td.Workers()`"
)

_default: Workers | None = None
_making = threading.Lock()


def workers() -> Workers:
    """The default pool, which ``td.go`` and ``td.map`` use: as many processes as there are cores.

    Made when it is needed first. In a task it is the pool that runs the task.
    """
    global _default
    with _making:
        if _default is None:
            _default = Workers._upstream() if is_worker() else Workers()
        return _default


def go(fn: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
    """``td.go`` with a plain function or a name. The engine calls this."""
    pool = workers()
    with _told_if_closed(pool):
        return started(pool._pool, fn, args, kwargs, None)


@overload
def map(  # type: ignore[overload-overlap]
    fn: Callable[..., Coroutine[Any, Any, T]],
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    concurrency: int | None = None,
    progress: bool = False,
    ordered: bool = True,
) -> "AsyncResults[T]": ...


@overload
def map(
    fn: Callable[..., T] | str,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    concurrency: int | None = None,
    progress: bool = False,
    ordered: bool = True,
) -> Results[T]: ...


def map(
    fn: Callable[..., Any] | str,
    *iterables: Iterable[Any],
    timeout: float | None = None,
    chunksize: int | None = None,
    buffersize: int | None = None,
    concurrency: int | None = None,
    progress: bool = False,
    ordered: bool = True,
) -> "Results[Any] | AsyncResults[Any]":
    """Calls a function for each item, with a bounded number of calls at a time.

    As ``td.go`` does, it decides by the function. A plain one runs in the processes of the default pool
    (``Workers.map``), and its results are for ``for`` in a plain thread and ``async for`` in a weightless task. A
    coroutine or generator function runs in weightless tasks of this run (``td.here.map``), and its results are for
    ``async for``. With ``concurrency`` the iterables are read no further than so many items ahead, so they may be
    endless.

    Args:
        fn: a function, or the name of a plain one as ``"package.module:function"``.
        iterables: one for each argument of the function; the shortest ends the map.
        timeout: seconds for all of it, from this call.
        chunksize: for plain functions, how many items go together in one task.
        buffersize: how many items may be taken from the iterables ahead of the results.
        concurrency: how many calls run at a time. None: for a plain function what the pool has room for, with all of
            the input read at once; for a weightless one 100.
        progress: shows a bar on stderr: tqdm's, when it is installed.
        ordered: gives the results in the order of the items, else as they come.

    Returns:
        An iterator over the results. The first error is raised at its place, and cancels the rest.

    Raises:
        TimeoutError: while iterating: the time is over.
        NotPicklable: the function or an item cannot be sent.
        TypeError, ValueError: an argument has an impossible value.
    """
    if not isinstance(fn, str) and callable(fn) and _core.makes_body(fn):
        if chunksize not in (None, 1):
            raise ValueError("chunksize is for plain functions: each item of a weightless one is a task of its own")
        from thistledown._places import here

        return here.map(
            fn,
            *iterables,
            concurrency=concurrency,
            buffersize=buffersize,
            timeout=timeout,
            progress=progress,
            ordered=ordered,
        )
    pool = workers()
    with _told_if_closed(pool):
        return pool.map(
            fn,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            concurrency=concurrency,
            progress=progress,
            ordered=ordered,
        )


class _told_if_closed:
    """Says of the default pool what the words of all executors leave open: why it is closed, and what to do."""

    def __init__(self, pool: Workers) -> None:
        self.pool = pool

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is RuntimeError and str(error) == CLOSED and not self.pool._pool.takes_tasks():
            raise RuntimeError(f"{CLOSED}: {AT_THE_END if is_ending() else BY_HAND}") from None


def at_worker() -> Workers:
    """What a pool is that was sent to a worker."""
    if not is_worker():
        raise TypeError("a pool of worker processes can be sent to a worker only, where it stands for that one's pool")
    return workers()


def _after_fork_in_child() -> None:
    global _default, _making
    _default = None
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
