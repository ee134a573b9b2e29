"""``td.run``."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

from thistledown import _core, _report

if TYPE_CHECKING:
    import asyncio

__all__ = ["forget_signal_pipe", "run"]

T = TypeVar("T")

STALL_AFTER = 0.1
"""Seconds after which a task that holds its thread is reported."""

_signal_pipe = -1
"""Where signals are written for the main thread's run: set when that begins, -1 without one."""

Body = Coroutine[Any, Any, T] | Generator[Any, Any, T]
Loop: TypeAlias = "asyncio.AbstractEventLoop | Callable[[], asyncio.AbstractEventLoop] | Literal[True] | None"
"""An asyncio loop, what makes one, True for a new one, or None for a run without a loop."""


@overload
def run(main: Callable[..., Body[T]], *args: Any, loop: Loop = None, stall_after: float | None = STALL_AFTER) -> T: ...


@overload
def run(
    main: Callable[..., Iterator[Any]], *args: Any, loop: Loop = None, stall_after: float | None = STALL_AFTER
) -> Any: ...


@overload
def run(main: Body[T] | Awaitable[T], *, loop: Loop = None, stall_after: float | None = STALL_AFTER) -> T: ...


def run(main: Any, *args: Any, loop: Loop = None, stall_after: float | None = STALL_AFTER) -> Any:
    """Runs ``main`` as a weightless task in this thread, and every task it starts.

    The run is the outermost group: it is over when all of its tasks have ended. When ``main`` fails the others are
    cancelled. A task that failed, and that nobody waited for or asked, makes the run fail at its end; when nobody
    holds such a task it is logged at once. Ctrl-C cancels everything, lets ``finally`` blocks run, and is raised; a
    second one does not wait for them.

    Args:
        main: a coroutine or generator function or object, or an object with ``__await__`` (``td.serve(...)``).
        args: for the function.
        loop: an asyncio loop to run together with the tasks, which then can await what is asyncio's: True for a new
            one, what makes one (``uvloop.new_event_loop``), or a loop that does not run, which stays open. In it only
            cycles of waits are told as deadlocks, and stalls are not reported.
        stall_after: seconds after which a task that holds the thread is reported through the logger
            ``thistledown.stall``, once per stall; None never does.

    Returns:
        What ``main`` returned.

    Raises:
        DeadlockError: nothing can happen any more; says who waits for what, and where.
        RuntimeError: there is a run in this thread already.
        TypeError: main is no task body, or loop no loop.
        BaseException: what ``main`` or a task that nobody waited for raised; several as a group.
    """
    if loop is not None:
        from thistledown import _asyncio

        return _asyncio.run_in(loop, main, args)
    with _signals_seen() as signals, generators_closed():
        return _core.run(main, args, stall_after, False, signals)


@contextlib.contextmanager
def _signals_seen() -> Iterator[int | None]:
    """Lets a run of the main thread see each signal, whenever it comes; gives a descriptor that then is readable.

    A signal that comes just before the run falls asleep would otherwise wait for the end of that sleep. Ctrl-C is
    counted, also one that is raised inside of a task. Whoever has a wake-up descriptor of his own keeps it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    global _signal_pipe
    reader, writer = os.pipe()
    known, outer = -1, _signal_pipe
    try:
        _signal_pipe = writer
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        known = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if known != -1:
            signal.set_wakeup_fd(known)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            _core.count_interrupts(0)
            signal.signal(signal.SIGINT, _report.interrupted)
        yield reader
    finally:
        if signal.getsignal(signal.SIGINT) is _report.interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if known == -1:
            signal.set_wakeup_fd(-1)
        _signal_pipe = outer
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def generators_closed() -> Iterator[None]:
    """Lets async generators that are dropped in the middle clean up in a task, as asyncio does.

    The engine is told of each one that begins: one that yields inside of a scope is found out.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=_core.generator_begins, finalizer=_close_generator)
    try:
        yield
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _close_generator(generator: AsyncGenerator[Any, Any]) -> None:
    _core.go(generator.aclose())


def forget_signal_pipe() -> None:
    """Lets go of the pipe of the parent's run, in a forked child: its signals would wake the parent instead of it."""
    if _signal_pipe == -1:
        return
    known = signal.set_wakeup_fd(-1)
    if known != _signal_pipe:
        signal.set_wakeup_fd(known)
