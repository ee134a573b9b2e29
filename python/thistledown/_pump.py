"""What starts the tasks of a map: some ahead of those that have ended, each for several items when they are small.

Two sides share it. Whoever takes the results takes chunks out; tasks that end call back, in a thread of their own and
in their own time, mostly before the results are taken and sometimes after. So what either side does to the books the
other may have done before. Source: guided self-scheduling, for the size of chunks.
"""

import concurrent.futures
import contextlib
import contextvars
import functools
import math
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from thistledown import _core
from thistledown._chunks import Chunks
from thistledown._columns import Column, Columns
from thistledown._errors import ChannelClosed, NotPicklable, TaskCancelled
from thistledown._pickling import pack_call
from thistledown._task import Task

__all__ = ["Chunk", "Pump"]

CHUNK_SECONDS = 0.005
"""How long the calls of one chunk should take together: long beside the cost of a task, short beside a person."""

GROWTH = 4
"""How many times bigger a chunk may be than the one that was measured."""

AHEAD = 4
"""Chunks for each worker that are under way, or left at the end, so that none waits for another."""

UNBOUNDED = 1 << 31

Future = concurrent.futures.Future[Any]


class Chunk:
    """Some calls of a map, in one task."""

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self.task: Task[Any] | None = None
        # Why it has no task.
        self.error: Exception | None = None

    def is_done(self) -> bool:
        return self.error is not None or (self.task is not None and self.task.done())


WHICHEVER: Final = Chunk(0, 0)
"""Stands for whichever chunk ends first."""


class Pump:
    """Starts the tasks of a map.

    Where the items come from an iterable that is read bit by bit, only the thread that takes the results starts
    tasks: the iterable's code does not run in callbacks. Wherever one is started, it is in the context of the map.
    """

    def __init__(
        self,
        go: Callable[[Any, tuple[Any, ...]], Task[Any]],
        function: Any,
        items: Columns,
        *,
        workers: int,
        chunksize: int | None,
        buffersize: int | None,
        ordered: bool,
    ) -> None:
        self.go = go
        self.context = contextvars.copy_context()
        self.ordered = ordered
        self.is_chunked = chunksize != 1
        self.function = Chunks(function) if self.is_chunked else function
        self.items = items
        self.workers = workers
        self.size = chunksize or 1
        self.is_measured = chunksize is None
        self.buffersize = buffersize
        # Held by whoever starts tasks.
        self.pumping = threading.Lock()
        self.started = 0
        # Why not even the first one was started.
        self.refusal: Exception | None = None
        self.is_exhausted = False
        self.is_flushing = False
        self.is_stopped = False
        # Those under way, as far as known: a callback may be late.
        self.open: set[Chunk] = set()
        # What was started and not taken: the chunks in their order, or as they end; their number; that of their items.
        self.line: deque[Chunk] = deque()
        self.ended = _core.Channel[Chunk](UNBOUNDED)
        self.counting = threading.Lock()
        self.left = 0
        self.untaken = 0

    # --- who takes the results ----------------------------------------------------------------------------------

    def due(self) -> Chunk | None:
        """The chunk whose results come next, which may not have ended; None: there are no more, or it was stopped.

        Raises:
            TaskCancelled: there would be more, but they were not begun.
        """
        self.advance(blocking=True)
        if self.is_stopped:
            return None
        if not self.left:
            # Somebody may have ended it while another thread was about to start one.
            with self.pumping:
                is_over = not self.left
            if is_over and self.items.left:
                raise TaskCancelled("the pool was closed before all items of the map were begun")
            if is_over:
                return None
        return self.line[0] if self.ordered else WHICHEVER

    def take(self, chunk: Chunk) -> None:
        """The results of a chunk are taken."""
        # Its callback may come later, or never.
        self.open.discard(chunk)
        if self.ordered:
            self.line.popleft()
        with self.counting:
            self.left -= 1
            self.untaken -= chunk.count

    # --- starting -----------------------------------------------------------------------------------------------

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
        """Starts the next task. What cannot be had, or sent, is told at its place, and nothing comes after it."""
        chunk = Chunk(self.started, 1)
        columns: list[Column] = []
        try:
            columns = self.items.take(self.next_size())
            chunk.count = len(columns[0])
            if not chunk.count:
                self.is_exhausted = True
                return
            chunk.task = self.go_with(columns)
        except Exception as error:
            chunk.error = error
            if self.is_chunked and isinstance(error, NotPicklable):
                self.spare(chunk, columns)
        self.put(chunk)

    def go_with(self, columns: list[Column]) -> Task[Any]:
        args = tuple(columns) if self.is_chunked else next(zip(*columns, strict=True))
        return self.context.run(self.go, self.function, args)

    def spare(self, chunk: Chunk, columns: list[Column]) -> None:
        """Starts the items of a chunk that come before the first which cannot be sent; the chunk is for that one."""
        for place, row in enumerate(zip(*columns, strict=True)):
            try:
                pack_call(row, {})
            except NotPicklable as error:
                if place:
                    before = Chunk(chunk.first, place)
                    try:
                        before.task = self.go_with([column[:place] for column in columns])
                    except Exception as other:
                        chunk.error = other
                        return
                    self.put(before)
                chunk.first, chunk.count, chunk.error = chunk.first + place, 1, error
                return

    def put(self, chunk: Chunk) -> None:
        """A chunk stands in line: started, or with the error that is raised where its results would come."""
        self.started += chunk.count
        if chunk.task is None:
            self.is_exhausted = True
            if chunk.first == 0:
                self.refusal = chunk.error
        else:
            self.open.add(chunk)
        if self.ordered:
            self.line.append(chunk)
        with self.counting:
            self.left += 1
            self.untaken += chunk.count
        if chunk.task is None:
            self.tell(chunk)
        else:
            chunk.task.add_done_callback(functools.partial(self.end, chunk))

    def next_size(self) -> int:
        size = self.size
        if self.is_measured:
            left = self.items.left or self.buffersize or 1
            share = math.ceil(left / (AHEAD * self.workers))
            size = max(1, share if self.is_flushing else min(size, share))
        return size if self.buffersize is None else min(size, self.buffersize - self.untaken)

    # --- what happens to it -------------------------------------------------------------------------------------

    def end(self, chunk: Chunk, task: Future) -> None:
        """One has ended: how long its calls took says how many the next ones are."""
        self.open.discard(chunk)
        if self.is_measured and not task.cancelled() and task.exception() is None:
            wanted = CHUNK_SECONDS * chunk.count / max(task.result().seconds, 1e-9)
            self.size = max(1, int(min(wanted, GROWTH * chunk.count)))
        self.tell(chunk)
        if self.buffersize is None:
            self.advance(blocking=False)

    def tell(self, chunk: Chunk) -> None:
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
        self.is_exhausted = self.is_stopped = True
        self.ended.close()
        for chunk in list(self.open):
            if chunk.task is not None:
                chunk.task.cancel()
