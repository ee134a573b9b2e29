"""Several tasks at a time: ``as_completed`` and ``wait``, as ``concurrent.futures`` has them."""

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from thistledown import _core
from thistledown._map import Results, deadline_after
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._progress import Bar

__all__ = ["AsCompleted", "as_completed", "wait"]

T = TypeVar("T")
Future = concurrent.futures.Future[T]
F = TypeVar("F", bound=concurrent.futures.Future[Any])

UNBOUNDED = 1 << 31


class AsCompleted(Iterator[F], Generic[F]):
    """Tasks in the order in which they end: for ``for`` in a plain thread, for ``async for`` in a task.

    That is a weightless one, or one of asyncio's.
    """

    # From the first task that is asked for to the last one, or to an error.
    _bar: "Bar | None" = None

    def __init__(self, tasks: Iterable[F], timeout: float | None, progress: bool) -> None:
        self._seconds = timeout
        self._deadline = deadline_after(timeout)
        self._progress = progress
        self._ended = _core.Channel[F](UNBOUNDED)
        waited = dict.fromkeys(
            _futures("as_completed", [_told_to_go(task) for task in _several("as_completed", tasks)])
        )
        self._total = self._left = len(waited)
        # The thread whose loop runs one of them: whoever waits there in plain code waits for ever.
        self._thread_of_loop = threading.get_ident() if _core.would_stop_loop(waited) else None
        for task in waited:
            task.add_done_callback(cast(Callable[[Future[Any]], None], self._ended.send_nowait))

    def __iter__(self) -> Iterator[F]:
        return self

    def __next__(self) -> F:
        try:
            return self._given(self._next())
        except BaseException:
            self._end_bar()
            raise

    def __aiter__(self) -> "AsCompleted[F]":
        return self

    async def __anext__(self) -> F:
        try:
            return self._given(await self._next_weightless())
        except BaseException:
            self._end_bar()
            raise

    def __del__(self) -> None:
        self._end_bar()

    def _next(self) -> F:
        if not self._left:
            raise StopIteration
        self._begin_bar()
        if not len(self._ended) and self._would_stop_others():
            raise RuntimeError(
                "none of the tasks has ended yet, and waiting here would stop the thread that runs the weightless "
                "tasks: write `async for task in td.as_completed(...)`"
            )
        try:
            return self._ended.recv_nowait() if len(self._ended) else self._ended.recv().wait(self._seconds_left())
        except TimeoutError:
            raise self._late() from None

    def _would_stop_others(self) -> bool:
        return _core.current_task() is not None or self._thread_of_loop == threading.get_ident()

    async def _next_weightless(self) -> F:
        if not self._left:
            raise StopAsyncIteration
        self._begin_bar()
        left = self._seconds_left()
        try:
            with contextlib.nullcontext() if left is None else _core.timeout(left):
                return await self._ended.recv()
        except TimeoutError:
            raise self._late() from None

    def _given(self, task: F) -> F:
        self._left -= 1
        if self._bar is not None:
            self._bar.update(1)
        return task

    def _begin_bar(self) -> None:
        if self._progress and self._bar is None:
            from thistledown import _progress

            self._bar = _progress.bar(self._total, "completed")

    def _end_bar(self) -> None:
        bar, self._bar, self._progress = self._bar, None, False
        if bar is not None:
            bar.close()

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"{self._left} (of {self._total}) tasks have not ended within {self._seconds} s")


def _told_to_go(task: Any) -> Any:
    if isinstance(task, concurrent.futures.Future):
        return task
    return _core.go(task) if hasattr(task, "send") or hasattr(task, "__await__") else task


def _several(name: str, given: Iterable[Any]) -> Iterable[Any]:
    """Tasks, or what is wrong with what is given for several."""
    if isinstance(given, concurrent.futures.Future):
        raise TypeError(f"{name} takes a list of tasks, got one: write `td.{name}([task])`")
    if isinstance(given, Results):
        raise TypeError(f"{name} takes a list of tasks, got the results of a map: iterate over them as they are")
    return given


def _futures(name: str, given: Iterable[F]) -> list[F]:
    """Tasks, or what is wrong with one of them."""
    futures = list(given)
    for one in futures:
        if not isinstance(one, concurrent.futures.Future):
            raise TypeError(f"{name} takes tasks, or futures of `concurrent.futures`; got {one!r} among them")
    return futures


@overload
def as_completed(fs: Iterable[F], timeout: float | None = None, *, progress: bool = False) -> AsCompleted[F]: ...


@overload
def as_completed(
    fs: Iterable[Coroutine[Any, Any, T] | Generator[Any, Any, T]],
    timeout: float | None = None,
    *,
    progress: bool = False,
) -> AsCompleted[Task[T]]: ...


def as_completed(fs: Iterable[Any], timeout: float | None = None, *, progress: bool = False) -> AsCompleted[Any]:
    """Gives tasks as they end, those that have ended first. Named as the standard library's.

    ``for task in td.as_completed(tasks)`` in a plain thread, ``async for`` in a weightless task or in an asyncio task.

    Args:
        fs: tasks, or any futures of ``concurrent.futures``. One that is given twice comes once. In a weightless task
            or an asyncio task also coroutines and generators: each is started, as by ``td.go``.
        timeout: seconds for all of them, from this call; None waits for as long as it takes.
        progress: shows a bar on stderr: tqdm's, when it is installed, else one line.

    Returns:
        An iterator over the tasks.

    Raises:
        TypeError: these are no tasks.
        TimeoutError: while iterating: not all have ended in time. They go on.
        RuntimeError: while iterating by ``for`` in a weightless task, where it would stop all others, or in a loop that
            runs one of them.
    """
    return AsCompleted(fs, timeout, progress)


def wait(
    fs: Iterable[Future[T]], timeout: float | None = None, return_when: str = concurrent.futures.ALL_COMPLETED
) -> concurrent.futures._base.DoneAndNotDoneFutures[T]:
    """Waits in a plain thread until tasks have ended. Named as the standard library's.

    In a weightless task or an asyncio task write ``td.select(...)`` for the first of several, ``await`` each, or
    ``await td.thread(td.wait, tasks)``.

    Args:
        fs: tasks, or any futures of ``concurrent.futures``.
        timeout: seconds; None waits for as long as it takes.
        return_when: ``ALL_COMPLETED``, ``FIRST_COMPLETED`` or ``FIRST_EXCEPTION``.

    Returns:
        Two sets by name: ``done`` and ``not_done``.

    Raises:
        TypeError: these are no tasks.
        ValueError: ``return_when`` is none of these.
        RuntimeError: not all have ended, and this is a weightless task, where it would stop all others, or a loop
            that runs one of them.
    """
    return concurrent.futures.wait(_futures("wait", _several("wait", fs)), timeout, return_when)
