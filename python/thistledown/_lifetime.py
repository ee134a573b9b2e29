"""What the interpreter has to know of the engine: its forks and its end.

Imported with the package, before there is anything that could be forked or ended, and so light.
"""

import atexit
import os
import sys
import time

from thistledown import _core

__all__ = ["is_worker", "worker_pool"]

EXIT_GRACE = 1.0
"""Seconds that runs of other threads have to end when the interpreter exits."""


def is_worker() -> bool:
    """Whether this process is a worker of some pool. One that a task has forked is none."""
    worker = sys.modules.get("thistledown._worker")
    return worker is not None and worker.child is not None


def worker_pool() -> int:
    """In a worker: the number of its pool."""
    return int(sys.modules["thistledown._worker"].pool)


def _stop_runs() -> None:
    """Ends the runs of other threads, and calls back no more: a thread that is stopped by the end cannot clean up."""
    deadline = time.monotonic() + EXIT_GRACE
    while not _core.stop_runs() and time.monotonic() < deadline:
        time.sleep(0.001)
    _core.fall_silent(EXIT_GRACE)


def _after_fork_in_child() -> None:
    _core.after_fork_in_child()
    # What was never imported has nothing to forget.
    if (threads := sys.modules.get("thistledown._threads")) is not None:
        threads.forget()
    if (run := sys.modules.get("thistledown._run")) is not None:
        run.forget_signal_pipe()


atexit.register(_stop_runs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
