"""Maps: a function called for each of many items, in as many tasks as there is use for.

What a map gives can be iterated by ``for`` in a plain thread and by ``async for`` in a weightless task. Small items
go together: a task of a map calls its function for several, and their number follows from how long the last ones
took. Source: ``concurrent.futures``, whose conventions these keep.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from thistledown import _core
from thistledown._errors import TaskCancelled
from thistledown._pickling import unpack_error
from thistledown._pump import WHICHEVER, Chunk, Pump
from thistledown._task import Task

__all__ = ["Results", "start_map"]

T = TypeVar("T")


class Results(Iterator[T], Generic[T]):
    """What a map gives: an iterator for plain threads, and for ``async for`` in weightless tasks.

    Whoever stops iterating can ``close`` it, which cancels the rest; so does an error.
    """

    __module__ = "thistledown"

    def __init__(self, pump: Pump, timeout: float | None, progress: bool, total: int | None, name: str) -> None:
        self._pump = pump
        self._seconds = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._progress = (total, name) if progress else None
        self._plain: Generator[T, None, None] | None = None
        self._weightless: AsyncIterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        if self._plain is None:
            self._plain = self._iterate()
        return self._plain

    def __next__(self) -> T:
        return next(self.__iter__())

    def __aiter__(self) -> AsyncIterator[T]:
        if self._weightless is None:
            self._weightless = self._iterate_weightless()
        return self._weightless

    async def __anext__(self) -> T:
        return await anext(self.__aiter__())

    def close(self) -> None:
        """Gives no more, and cancels what has not ended."""
        if self._plain is not None:
            self._plain.close()
        self._pump.stop()

    def _iterate(self) -> Generator[T, None, None]:
        bar = self._bar()
        try:
            while (chunk := self._pump.due()) is not None:
                if not chunk.is_done():
                    chunk = self._wait(chunk)
                values, failure = self._taken(chunk)
                if bar is None:
                    yield from values
                else:
                    for value in values:
                        bar.update(1)
                        yield value
                if failure is not None:
                    raise failure
        finally:
            self._end(bar)

    async def _iterate_weightless(self) -> AsyncIterator[T]:
        bar = self._bar()
        try:
            while (chunk := self._pump.due()) is not None:
                if not chunk.is_done():
                    chunk = await self._wait_weightless(chunk)
                values, failure = self._taken(chunk)
                for value in values:
                    if bar is not None:
                        bar.update(1)
                    yield value
                if failure is not None:
                    raise failure
        finally:
            self._end(bar)

    def _bar(self) -> Any:
        if self._progress is None:
            return None
        from thistledown import _progress

        return _progress.bar(*self._progress)

    def _end(self, bar: Any) -> None:
        self._pump.stop()
        if bar is not None:
            bar.close()

    def _wait(self, chunk: Chunk) -> Chunk:
        if _core.current_task() is not None:
            raise RuntimeError(
                "the results are not there yet, and waiting here would stop the thread that runs the weightless "
                "tasks: write `async for value in ...`"
            )
        left = self._left()
        try:
            if chunk is WHICHEVER:
                return self._pump.ended.recv().wait(left)
            assert chunk.task is not None
            with contextlib.suppress(TaskCancelled):
                chunk.task.exception(left)
            return chunk
        except TimeoutError:
            raise self._late() from None

    async def _wait_weightless(self, chunk: Chunk) -> Chunk:
        left = self._left()
        try:
            with contextlib.nullcontext() if left is None else _core.timeout(left):
                if chunk is WHICHEVER:
                    return await self._pump.ended.recv()
                assert chunk.task is not None
                await chunk.task
        except Exception as error:
            if chunk.task is None or not chunk.task.done():
                raise (self._late() if isinstance(error, TimeoutError) else error) from None
        return chunk

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the map did not end within {self._seconds} s")

    def _taken(self, chunk: Chunk) -> tuple[list[T], BaseException | None]:
        """The results of a chunk that has ended, and the error that comes after them."""
        self._pump.take(chunk)
        if chunk.task is None:
            raise chunk.error or RuntimeError("a chunk without a task")
        try:
            outcome = chunk.task.result()
        except Exception as error:
            if chunk.count > 1:
                error.add_note(f"It happened in one of the items {chunk.first} to {chunk.first + chunk.count - 1}.")
            raise
        if not self._pump.is_chunked:
            return [outcome], None
        _, values, failure = outcome
        return values, None if failure is None else unpack_error(failure)


def start_map(
    go: Callable[[Any, tuple[Any, ...]], Task[Any]],
    workers: int,
    function: Any,
    iterables: tuple[Iterable[Any], ...],
    *,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    progress: bool,
    ordered: bool,
    alone: bool,
    keep: Callable[[Any], object],
) -> Results[Any]:
    """Starts the tasks of a map; what ``Workers.map`` does, apart from the pool.

    Args:
        go: starts one task, given a function and its arguments.
        workers: how many run at a time.
        alone: each item is to be a task of its own, unless ``chunksize`` says otherwise.
        keep: is given what starts the tasks, which must ``flush`` or ``end_starting`` before the pool is closed.
    """
    for name, number in (("chunksize", chunksize), ("buffersize", buffersize)):
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise TypeError(f"{name} must be a whole number or None, got {number!r}")
        if number is not None and number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")
    if not iterables:
        raise TypeError("map takes a function and at least one iterable")
    if not isinstance(function, str) and _core.makes_body(function):
        if chunksize not in (None, 1):
            raise ValueError("chunksize is for plain functions: each item of a weightless one is a task of its own")
        chunksize = 1
    if alone and chunksize is None:
        chunksize = 1
    total = _total(iterables) if progress else None
    calls = zip(*iterables, strict=False)
    pump = Pump(go, function, calls, workers=workers, chunksize=chunksize, buffersize=buffersize, ordered=ordered)
    keep(pump)
    pump.advance(blocking=True)
    if pump.refusal is not None:
        raise pump.refusal
    name = function if isinstance(function, str) else getattr(function, "__name__", "map")
    return Results(pump, timeout, progress, pump.total if total is None else total, name)


def _total(iterables: tuple[Iterable[Any], ...]) -> int | None:
    try:
        return min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
    except TypeError:
        return None
