"""Maps: a function called for each of many items, in as many tasks as there is use for.

What a map gives can be iterated by ``for`` in a plain thread and by ``async for`` in a weightless task or in an asyncio
task. Small items
go together: a task of a map calls its function for several, and their number follows from how long the last ones
took. Results come as batches, those of a task each, and are given one by one without any Python code in between.
Source: ``concurrent.futures``, whose conventions these keep.
"""

import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from thistledown import _core
from thistledown._columns import Bounded, Whole
from thistledown._errors import TaskCancelled
from thistledown._pickling import unpack_error
from thistledown._pump import WHICHEVER, Chunk, Pump
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._progress import Bar

__all__ = ["Results", "check_counts", "deadline_after", "start_map", "total_of"]

T = TypeVar("T")

ENDS = (StopIteration, StopAsyncIteration)
"""What a function may raise, and what would only end the iteration if it were raised there."""


class Results(itertools.chain[T], AsyncIterator[T], Generic[T]):
    """What a map gives: an iterator for plain threads, and for ``async for`` in weightless tasks and in asyncio tasks.

    Whoever stops iterating can ``close`` it, which cancels the rest; so does an error, and so does letting go of it in
    the middle.
    """

    __module__ = "thistledown"

    # There may be an interrupt before it has any.
    _batches: "Batches[T] | None" = None

    def __new__(cls, batches: "Batches[T]") -> "Results[T]":
        results = cast(Results[T], cls.from_iterable(batches))
        results._batches = batches
        return results

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        assert self._batches is not None
        while True:
            for value in self._batches.current:
                return value
            if not await self._batches.advance_weightless():
                raise StopAsyncIteration

    def __del__(self) -> None:
        # As when a generator is dropped in the middle. One that nobody has asked for anything goes on.
        if self._batches is not None and self._batches.is_begun:
            self._batches.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("the results of a map stay in the process that started it: send `list(results)`")

    def close(self) -> None:
        """Gives no more, and cancels what has not ended."""
        if self._batches is not None:
            self._batches.close()

    def __repr__(self) -> str:
        return "<thistledown.Results of a map>"


class Batches(Iterator[Iterator[T]], Generic[T]):
    """The results of a map, in an iterator for each chunk.

    Whoever asks for the next one has the rest of the last one first: they may be asked for by ``for`` and by
    ``async for`` in turn.
    """

    def __init__(self, pump: Pump, timeout: float | None, progress: bool, total: int | None, name: str) -> None:
        self.current: Iterator[T] = iter(())
        self.is_begun = False
        self._pump = pump
        self._seconds = timeout
        self._deadline = deadline_after(timeout)
        self._progress = (total, name) if progress else None
        self._bar: Bar | None = None
        # Taken; those of them that were not given yet; the error that comes after them.
        self._values: list[T] = []
        self._left: Iterator[T] = iter(())
        self._failure: BaseException | None = None
        self._is_over = False

    def __next__(self) -> Iterator[T]:
        try:
            if length_hint(self._left):
                return self.current
            chunk = self._due()
            if chunk is None:
                raise StopIteration
            self._take(chunk if chunk.is_done() else self._wait(chunk))
        except BaseException:
            self.close()
            raise
        return self.current

    async def advance_weightless(self) -> bool:
        """Goes on to the next one; false when there is none."""
        try:
            chunk = self._due()
            if chunk is not None:
                self._take(chunk if chunk.is_done() else await self._wait_weightless(chunk))
                return True
        except BaseException:
            self.close()
            raise
        self.close()
        return False

    def close(self) -> None:
        """Gives no more, and cancels what has not ended."""
        if self._is_over:
            return
        self._is_over = True
        self._values.clear()
        self.current = iter(())
        self._failure = None
        self._pump.stop()
        if self._bar is not None:
            self._bar.close()

    def _due(self) -> Chunk | None:
        failure, self._failure = self._failure, None
        if failure is not None:
            try:
                raise _raisable(failure)
            finally:
                del failure
        if self._is_over:
            return None
        if not self.is_begun:
            self.is_begun = True
            if self._progress is not None:
                from thistledown import _progress

                self._bar = _progress.bar(*self._progress)
        return self._pump.due()

    def _counted(self, value: T) -> T:
        if self._bar is not None:
            self._bar.update(1)
        return value

    def _wait(self, chunk: Chunk) -> Chunk:
        if _core.current_task() is not None:
            raise RuntimeError(
                "the results are not there yet, and waiting here would stop the thread that runs the weightless "
                "tasks: write `async for value in ...`"
            )
        left = self._seconds_left()
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
        left = self._seconds_left()
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

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _late(self) -> TimeoutError:
        return TimeoutError(f"the map did not end within {self._seconds} s")

    def _take(self, chunk: Chunk) -> None:
        """The results of a chunk that has ended, and the error that comes after them."""
        self._pump.take(chunk)
        if chunk.task is None:
            raise _raisable(chunk.error or RuntimeError("a chunk without a task"))
        try:
            outcome = chunk.task.result()
        except Exception as error:
            if chunk.count > 1:
                error.add_note(f"It happened in one of the items {chunk.first} to {chunk.first + chunk.count - 1}.")
            if isinstance(error, ENDS):
                raise _raisable(error) from error
            raise
        if not self._pump.is_chunked:
            self._values = [outcome]
        else:
            self._values = outcome.results
            if outcome.failure is not None:
                self._failure = unpack_error(outcome.failure)
        self._left = iter(self._values)
        self.current = self._left if self._bar is None else map(self._counted, self._left)


def _raisable(error: BaseException) -> BaseException:
    """The error, or one in its place when raising it would only end the iteration."""
    if not isinstance(error, ENDS):
        return error
    instead = RuntimeError(f"the function raised {type(error).__name__}")
    instead.__cause__ = error
    return instead


def start_map(
    go: Callable[[Any, tuple[Any, ...]], Task[Any]],
    workers: int,
    function: Any,
    iterables: tuple[Iterable[Any], ...],
    *,
    timeout: float | None,
    chunksize: int | None,
    buffersize: int | None,
    concurrency: int | None,
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
    if not isinstance(function, str) and not callable(function):
        raise TypeError(f"map takes a function, and then what it is called with; got {function!r} for the function")
    check_counts(chunksize=chunksize, buffersize=buffersize, concurrency=concurrency)
    deadline_after(timeout)
    if not iterables:
        raise TypeError("map takes a function and at least one iterable")
    if not isinstance(function, str) and _core.makes_body(function):
        if chunksize not in (None, 1):
            raise ValueError("chunksize is for plain functions: each item of a weightless one is a task of its own")
        chunksize = 1
    if alone and chunksize is None:
        chunksize = 1
    if concurrency is not None:
        chunksize = chunksize or 1
        # Those that have ended and were not taken count too: so the input is read no further than that.
        buffersize = min(buffersize or concurrency * chunksize, concurrency * chunksize)
    total = total_of(iterables) if progress else None
    items = Whole(iterables) if buffersize is None else Bounded(iterables)
    pump = Pump(go, function, items, workers=workers, chunksize=chunksize, buffersize=buffersize, ordered=ordered)
    try:
        keep(pump)
        pump.advance(blocking=True)
        if pump.refusal is not None:
            raise pump.refusal
        name = function if isinstance(function, str) else getattr(function, "__name__", "map")
        return Results(Batches(pump, timeout, progress, items.total if total is None else total, name))
    except BaseException:
        # Nobody would have what it has started.
        pump.stop()
        raise


def deadline_after(timeout: float | None) -> float | None:
    """When so many seconds are over, as ``time.monotonic`` counts. Refuses what is no number of seconds."""
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool)):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    return None if timeout is None else time.monotonic() + timeout


def check_counts(**counts: int | None) -> None:
    """Refuses what is no number of things."""
    for name, number in counts.items():
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise TypeError(f"{name} must be a whole number or None, got {number!r}")
        if number is not None and number < 1:
            raise ValueError(f"{name} must be >= 1, got {number}")


def total_of(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """How many items there will be; None when nobody knows."""
    try:
        return min(len(iterable) for iterable in iterables)  # type: ignore[arg-type]
    except TypeError:
        return None
