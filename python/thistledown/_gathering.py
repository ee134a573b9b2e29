"""Maps of coroutine and generator functions: weightless tasks of this run, a bounded number at a time.

Tasks are started by whoever iterates, as far as there is room, so the input is read no further than that. What is
started belongs to the iteration: it ends with it.
"""

import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from thistledown import _core, _report
from thistledown._map import deadline_after
from thistledown._task import Task

if TYPE_CHECKING:
    from thistledown._progress import Bar

__all__ = ["CONCURRENCY", "AsyncResults"]

T = TypeVar("T")

CONCURRENCY = 100
"""Weightless tasks that a map runs at a time, when it is not told."""

UNBOUNDED = 1 << 31


class AsyncResults(AsyncIterator[T], Generic[T]):
    """What a map of weightless tasks gives: an iterator for ``async for``.

    The first error is raised at its place; it cancels the rest, and waits for them, as cancelling whoever iterates
    does. Whoever stops in the middle can ``await results.aclose()``, or write ``async with contextlib.aclosing(...)``;
    letting go of it cancels the rest too. What fails among the rest is logged.
    """

    def __init__(
        self,
        go: Callable[..., Task[T]],
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        *,
        concurrency: int,
        buffersize: int,
        timeout: float | None,
        bar: "Callable[[], Bar] | None",
        ordered: bool,
    ) -> None:
        self._go = go
        self._function = function
        self._calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._concurrency = concurrency
        self._buffersize = buffersize
        self._seconds = timeout
        self._deadline = deadline_after(timeout)
        self._make_bar = bar
        self._bar: Bar | None = None
        self._tasks = Tasks[T]()
        # Those in order that were not given yet.
        self._line: deque[Task[T]] | None = deque() if ordered else None
        self._untaken = 0
        self._failure: Exception | None = None
        self._is_exhausted = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    def __iter__(self) -> NoReturn:
        raise TypeError(
            "a map of weightless tasks is iterated by `async for`, in a weightless or an asyncio task; to call the "
            "function in worker processes from plain code, write `td.workers().map(...)`"
        )

    async def __anext__(self) -> T:
        try:
            task = await self._next()
            if task is None:
                raise StopAsyncIteration
            value = task.result()
        except GeneratorExit:
            self.close()
            raise
        except BaseException:
            await self.aclose()
            raise
        if self._bar is not None:
            self._bar.update(1)
        return value

    def __del__(self) -> None:
        if hasattr(self, "_line"):
            self.close()

    def close(self) -> None:
        """Gives no more, and cancels what has not ended. Does not wait for it."""
        if self._tasks.is_over:
            return
        if self._bar is not None:
            self._bar.close()
        self._is_exhausted = True
        self._tasks.close(self._line or ())

    async def aclose(self) -> None:
        """Gives no more, cancels what has not ended, and waits for it."""
        self.close()
        if self._tasks.running:
            with _core.shield():
                while self._tasks.running:
                    await self._tasks.ended.recv()

    async def _next(self) -> Task[T] | None:
        """The task whose result comes next; None: there is no more."""
        if self._bar is None and self._make_bar is not None and not self._tasks.is_over:
            self._bar = self._make_bar()
        while True:
            self._start()
            task = self._due()
            if task is not None:
                self._untaken -= 1
                return task
            if not self._untaken:
                if self._failure is not None and not self._tasks.is_over:
                    raise self._failure
                return None
            await self._one_more()

    def _due(self) -> Task[T] | None:
        ended = self._tasks.ended
        if self._tasks.is_over:
            self._untaken = 0
            return None
        if self._line is None:
            return ended.recv_nowait() if len(ended) else None
        while len(ended):
            ended.recv_nowait()
        return self._line.popleft() if self._line and self._line[0].done() else None

    async def _one_more(self) -> None:
        """Waits until one more has ended, and leaves it where it was."""
        left = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        try:
            with contextlib.nullcontext() if left is None else _core.timeout(left):
                task = await self._tasks.ended.recv()
        except TimeoutError:
            raise TimeoutError(f"the map did not end within {self._seconds} s") from None
        if self._line is None:
            self._tasks.ended.send_nowait(task)

    def _start(self) -> None:
        """Starts what there is room for. What cannot be had, or started, is told at its place."""
        while not self._is_exhausted and self._untaken < self._buffersize:
            if len(self._tasks.running) >= self._concurrency:
                return
            try:
                call = next(self._calls, None)
                if call is None:
                    self._is_exhausted = True
                    return
                task = self._go(self._function, *call)
            except Exception as error:
                self._is_exhausted, self._failure = True, error
                return
            self._untaken += 1
            self._tasks.add(task)
            if self._line is not None:
                self._line.append(task)


class Tasks(Generic[T]):
    """The tasks of a map. They hold this by their callbacks, and not what is iterated, which can be let go of."""

    def __init__(self) -> None:
        self.running: set[Task[T]] = set()
        # In the order in which they have ended.
        self.ended = _core.Channel[Task[T]](UNBOUNDED)
        self.is_over = False

    def add(self, task: Task[T]) -> None:
        self.running.add(task)
        task.add_done_callback(self._has_ended)  # type: ignore[arg-type]

    def close(self, untaken: Iterable[Task[T]]) -> None:
        """Cancels those that run. Nobody will ask for the others."""
        self.is_over = True
        left = list(untaken)
        while len(self.ended):
            left.append(self.ended.recv_nowait())
        for task in dict.fromkeys(left):
            if task.done():
                _log_failure(task)
        for task in list(self.running):
            task.cancel()

    def _has_ended(self, task: Task[T]) -> None:
        self.running.discard(task)
        if self.is_over:
            _log_failure(task)
        self.ended.send_nowait(task)


def _log_failure(task: Task[Any]) -> None:
    """One that nobody will ask for."""
    if task._has_failed() and (error := task._take_failure()) is not None:
        _report.failed_unseen(task, error)
