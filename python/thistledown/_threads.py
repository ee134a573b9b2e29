"""Helper threads for calls that block.

Daemon threads, unlike those of ``ThreadPoolExecutor``, which joins its own when the interpreter exits: a call that
never returns must not keep a program alive. A thread without work ends after a while.

Ctrl-C may strike anywhere in the main thread, so what is shared is taken and given in single steps, and the one lock is
the kind that no signal comes between.
"""

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

from thistledown._errors import Cancelled
from thistledown._task import Task

THREADS = 64
"""How many calls run at a time; more stand in a queue."""

IDLE_SECONDS = 5.0
"""How long a thread waits for another call."""

Call = tuple[Task[Any], contextvars.Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Threads:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queue: queue.SimpleQueue[Task[Any]] = queue.SimpleQueue()
        # The calls that have not begun. Whoever takes one out of here makes it, or drops it.
        self.calls: dict[Task[Any], Call] = {}
        self.threads = 0
        # How many threads come to the queue for a call. One that has taken a call off the queue still counts, for a
        # moment, and so does that call in `calls`: what is free is told by these two, and not by the queue's length.
        self.idle = 0

    def start(self, call: Call) -> None:
        task = call[0]
        self.calls[task] = call
        self.queue.put(task)
        with self.lock:
            if self.idle >= len(self.calls) or self.threads >= THREADS:
                return
            self.threads += 1
        thread = threading.Thread(target=self._work, name="thistledown-call", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no thread. Another one takes the call; when there is none, the caller is told.
            with self.lock:
                self.threads -= 1
                left = self.threads
            if not left and self.calls.pop(task, None) is not None:
                raise

    def _work(self) -> None:
        while (held := self._next()) is not None:
            # Nothing of the call is kept here: when its task has ended, only who asked for it holds what came of it.
            if held:
                task = held[0][0]
                task._settle(*_made(held.pop()))
                del task

    def _next(self) -> list[Call] | None:
        """A call, or none when it was withdrawn; None ends the thread."""
        with self.lock:
            self.idle += 1
        while True:
            try:
                task = self.queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                task = None
            with self.lock:
                # One that was put in the last moment counts on this thread.
                if task is None and self.queue.qsize():
                    continue
                self.idle -= 1
                if task is None:
                    self.threads -= 1
                    return None
                call = self.calls.pop(task, None)
            return [] if call is None else [call]

    def withdraw(self, task: Task[Any]) -> None:
        """A call that nobody waits for any more is not made, if it has not begun."""
        if self.calls.pop(task, None) is not None:
            task._settle(None, Cancelled())

    def is_queued(self, task: Task[Any]) -> bool:
        return task in self.calls

    def resting(self) -> int:
        """How many of the threads have nothing to do."""
        with self.lock:
            return max(0, self.idle - len(self.calls))


def _made(call: Call | None) -> tuple[Any, BaseException | None]:
    """Makes a call; gives what it returned and what it raised."""
    assert call is not None
    _, context, function, args, kwargs = call
    try:
        return context.run(function, *args, **kwargs), None
    except BaseException as raised:
        return None, raised


_threads = _Threads()


def start(task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Calls a function in a helper thread, in a copy of the context; ``task`` gets what comes of it."""
    _threads.start((task, contextvars.copy_context(), function, args, kwargs or {}))


def take_notice() -> None:
    """Runs a bytecode: what another thread has set to be raised in this one is raised now."""


def is_queued(task: Task[Any]) -> bool:
    """Whether its call has not begun."""
    return _threads.is_queued(task)


def resting() -> int:
    """How many helper threads have nothing to do."""
    return _threads.resting()


def withdraw(task: Task[Any]) -> None:
    """Takes a call back that has not begun; one that has runs to its end unseen."""
    _threads.withdraw(task)


def forget() -> None:
    """In a forked child the threads do not exist."""
    global _threads
    _threads = _Threads()
