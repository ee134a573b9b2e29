"""Maps: a function called for each of many items, in as many tasks as there is use for.

What a map gives can be iterated by ``for`` in a plain thread and by ``async for`` in a weightless task. Small items
go together: a task of a map calls its function for several, and their number follows from how long the last ones
took. Sources: ``concurrent.futures``, whose conventions these keep; guided self-scheduling for the size of chunks.
"""

import concurrent.futures
import contextlib
import functools
import itertools
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, Generic, TypeVar

from thistledown import _core
from thistledown._errors import ChannelClosed, TaskCancelled
from thistledown._functions import Chunks
from thistledown._pickling import unpack_error
from thistledown._task import Task

__all__ = ["Results", "start_map"]

T = TypeVar("T")
Future = concurrent.futures.Future[T]

CHUNK_SECONDS = 0.005
"""How long the calls of one chunk should take together: long beside the cost of a task, short beside a person."""

GROWTH = 4
"""How many times bigger a chunk may be than the one that was measured."""

AHEAD = 4
"""Chunks for each worker that are under way, or left at the end, so that none waits for another."""

UNBOUNDED = 1 << 31


class _Chunk:
    """Some calls of a map, in one task."""

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self.task: Task[Any] | None = None
        # Why it has no task.
        self.error: Exception | None = None

    def is_done(self) -> bool:
        return self.error is not None or (self.task is not None and self.task.done())


class _Pump:
    """Starts the tasks of a map, some ahead of those that have ended; called again whenever one ends.

    Where the items come from an iterable that is read bit by bit, only the thread that takes the results starts
    tasks: foreign code does not run in callbacks.
    """

    def __init__(
        self,
        go: Callable[[Any, tuple[Any, ...]], Task[Any]],
        function: Any,
        calls: Iterable[tuple[Any, ...]],
        workers: int,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> None:
        self.go = go
        self.ordered = ordered
        self.is_chunked = chunksize != 1
        self.function = Chunks(function) if self.is_chunked else function
        self.waiting: deque[tuple[Any, ...]] | None = None if buffersize is not None else deque(calls)
        self.calls = iter(calls) if self.waiting is None else None
        self.total = None if self.waiting is None else len(self.waiting)
        self.workers = workers
        self.size = chunksize or 1
        self.is_measured = chunksize is None
        self.buffersize = buffersize
        self.pumping = threading.Lock()
        self.count = threading.Lock()
        # In order, from their start until their results are taken.
        self.chunks: OrderedDict[_Chunk, None] = OrderedDict()
        self.open: set[_Chunk] = set()
        self.ended = _core.Channel[_Chunk](UNBOUNDED)
        self.started = 0
        self.untaken = 0
        self.is_exhausted = False
        self.is_flushing = False

    def advance(self, *, blocking: bool) -> None:
        """Starts what there is room for. Who finds another thread at it leaves it to that one, or waits for it."""
        while self.has_room() and self.pumping.acquire(blocking=blocking):
            try:
                while self.has_room():
                    self.start()
            finally:
                self.pumping.release()

    def has_room(self) -> bool:
        if self.is_exhausted:
            return False
        if self.buffersize is not None:
            return self.untaken < self.buffersize
        return not self.is_measured or self.is_flushing or len(self.open) < AHEAD * self.workers

    def start(self) -> None:
        calls = self.take(self.next_size())
        if not calls:
            self.is_exhausted = True
            return
        chunk = _Chunk(self.started, len(calls))
        self.started += len(calls)
        with self.count:
            self.untaken += len(calls)
        try:
            chunk.task = self.go(self.function, (calls,) if self.is_chunked else calls[0])
        except Exception as error:
            # Raised where the results of these items would stand.
            chunk.error = error
            self.is_exhausted = True
        self.chunks[chunk] = None
        if chunk.task is None:
            self.tell(chunk)
        else:
            self.open.add(chunk)
            chunk.task.add_done_callback(functools.partial(self.end, chunk))

    def take(self, size: int) -> list[tuple[Any, ...]]:
        if self.waiting is None:
            assert self.calls is not None
            return list(itertools.islice(self.calls, size))
        return [self.waiting.popleft() for _ in range(min(size, len(self.waiting)))]

    def next_size(self) -> int:
        if not self.is_measured:
            return self.size
        left = len(self.waiting) if self.waiting is not None else self.buffersize or 1
        share = math.ceil(left / (AHEAD * self.workers))
        return max(1, share if self.is_flushing else min(self.size, share))

    def end(self, chunk: _Chunk, task: Future[Any]) -> None:
        """One has ended: how long its calls took says how many the next ones are."""
        self.open.discard(chunk)
        if self.is_measured and not task.cancelled() and task.exception() is None:
            seconds, _, _ = task.result()
            wanted = CHUNK_SECONDS * chunk.count / max(seconds, 1e-9)
            self.size = max(1, int(min(wanted, GROWTH * chunk.count)))
        self.tell(chunk)
        if self.buffersize is None:
            self.advance(blocking=False)

    def tell(self, chunk: _Chunk) -> None:
        """For who takes the results in the order in which they come."""
        if not self.ordered:
            with contextlib.suppress(ChannelClosed):
                self.ended.send_nowait(chunk)

    def flush(self) -> None:
        """Starts all that is left, before its pool is closed."""
        if self.buffersize is None:
            self.is_flushing = True
            self.advance(blocking=True)

    def end_starting(self) -> None:
        """Starts no more; whoever takes the results is told that some are missing."""
        self.is_exhausted = True

    def stop(self) -> None:
        """Starts no more, and cancels what has not ended."""
        self.is_exhausted = True
        self.ended.close()
        for chunk in list(self.open):
            if chunk.task is not None:
                chunk.task.cancel()

    def is_over(self) -> bool:
        return self.is_exhausted and not self.chunks


class Results(Iterator[T], Generic[T]):
    """What a map gives: an iterator for plain threads, and for ``async for`` in weightless tasks.

    Whoever stops iterating can ``close`` it, which cancels the rest; so does an error.
    """

    __module__ = "thistledown"

    def __init__(self, pump: _Pump, timeout: float | None, progress: bool, total: int | None, name: str) -> None:
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
            while (chunk := self._due()) is not None:
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
            while (chunk := self._due()) is not None:
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

    def _due(self) -> _Chunk | None:
        """The chunk whose results come next; one without a task stands for whichever ends first."""
        self._pump.advance(blocking=True)
        if self._pump.is_over():
            if self._pump.waiting:
                raise TaskCancelled("the pool was closed before all items of the map were begun")
            return None
        return next(iter(self._pump.chunks)) if self._pump.ordered else _Chunk(0, 0)

    def _wait(self, chunk: _Chunk) -> _Chunk:
        if _core.current_task() is not None:
            raise RuntimeError(
                "the results are not there yet, and waiting here would stop the thread that runs the weightless "
                "tasks: write `async for value in ...`"
            )
        left = self._left()
        try:
            if chunk.task is None:
                return self._pump.ended.recv().wait(left)
            with contextlib.suppress(TaskCancelled):
                chunk.task.exception(left)
            return chunk
        except TimeoutError:
            raise self._late() from None

    async def _wait_weightless(self, chunk: _Chunk) -> _Chunk:
        left = self._left()
        try:
            with contextlib.nullcontext() if left is None else _core.timeout(left):
                if chunk.task is None:
                    return await self._pump.ended.recv()
                await chunk.task
        except Exception as error:
            if chunk.task is None or not chunk.task.done():
                raise (self._late() if isinstance(error, TimeoutError) else error) from None
        return chunk

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the map did not end within {self._seconds} s")

    def _taken(self, chunk: _Chunk) -> tuple[list[T], BaseException | None]:
        """The results of a chunk that has ended, and the error that comes after them."""
        pump = self._pump
        del pump.chunks[chunk]
        with pump.count:
            pump.untaken -= chunk.count
        if chunk.task is None:
            raise chunk.error or RuntimeError("a chunk without a task")
        try:
            outcome = chunk.task.result()
        except Exception as error:
            if chunk.count > 1:
                error.add_note(f"It happened in one of the items {chunk.first} to {chunk.first + chunk.count - 1}.")
            raise
        if not pump.is_chunked:
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
    pump = _Pump(go, function, zip(*iterables, strict=False), workers, chunksize, buffersize, ordered)
    keep(pump)
    pump.advance(blocking=True)
    first = next(iter(pump.chunks), None)
    if first is not None and first.error is not None:
        raise first.error
    name = function if isinstance(function, str) else getattr(function, "__name__", "map")
    return Results(pump, timeout, progress, pump.total if total is None else total, name)


def _total(iterables: tuple[Iterable[Any], ...]) -> int | None:
    try:
        return min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
    except TypeError:
        return None
