"""Helper threads for calls that block.

Daemon threads, unlike those of ``ThreadPoolExecutor``, which joins its own when the interpreter exits: a call that
never returns must not keep a program alive. A thread without work ends after a while.
"""

import collections
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from thistledown._task import Task

THREADS = 64
"""How many calls run at a time; more stand in a queue."""

IDLE_SECONDS = 5.0
"""How long a thread waits for another call."""

Call = tuple[Task[Any], contextvars.Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Threads:
    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.calls: collections.deque[Call] = collections.deque()
        self.threads = 0
        self.idle = 0

    def start(self, call: Call) -> None:
        with self.lock:
            self.calls.append(call)
            if self.idle >= len(self.calls):
                self.lock.notify()
                return
            if self.threads >= THREADS:
                return
            self.threads += 1
        thread = threading.Thread(target=self._work, name="thistledown-call", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no thread. Another one takes the call; when there is none, the caller is told.
            with self.lock:
                self.threads -= 1
                if self.threads == 0:
                    self.calls.remove(call)
                    raise

    def _work(self) -> None:
        while (call := self._next()) is not None:
            task, context, function, args, kwargs = call
            value, error = None, None
            try:
                value = context.run(function, *args, **kwargs)
            except BaseException as raised:
                error = raised
            task._settle(value, error)
            del call, task, context, function, args, kwargs, value, error

    def _next(self) -> Call | None:
        with self.lock:
            self.idle += 1
            has_call = self.lock.wait_for(lambda: self.calls, IDLE_SECONDS)
            self.idle -= 1
            if has_call:
                return self.calls.popleft()
            self.threads -= 1
            return None

    def withdraw(self, task: Task[Any]) -> None:
        """A call that nobody waits for any more is not made, if it has not begun."""
        with self.lock:
            for call in self.calls:
                if call[0] is task:
                    self.calls.remove(call)
                    break
            else:
                return
        task._settle(None, None)

    def resting(self) -> int:
        """How many of the threads have nothing to do."""
        with self.lock:
            return self.idle - min(self.idle, len(self.calls))


_threads = _Threads()


def start(task: Task[Any], function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
    """Calls a function in a helper thread, in a copy of the context; ``task`` gets what comes of it."""
    _threads.start((task, contextvars.copy_context(), function, args, kwargs or {}))


def withdraw(task: Task[Any]) -> None:
    """Takes a call back that has not begun; one that has runs to its end unseen."""
    _threads.withdraw(task)


def resting() -> int:
    """How many helper threads have nothing to do."""
    return _threads.resting()


def forget() -> None:
    """In a forked child the threads do not exist."""
    global _threads
    _threads = _Threads()
