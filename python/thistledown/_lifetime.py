"""What the interpreter has to know of the engine: its forks and its end.

Imported with the package, before there is anything that could be forked or ended, and so light.
"""

import atexit
import os
import sys
import time
from typing import Any

from thistledown import _core

__all__ = ["is_worker", "wait_for_imports", "worker_pool"]

PACKAGE = "thistledown."

EXIT_GRACE = 1.0
"""Seconds that runs of other threads have to end when the interpreter exits."""

IMPORT_PATIENCE = 1.0
"""Seconds that a fork waits for imports by other threads."""


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
    # Other threads may have imported something meanwhile. From here on they do nothing.
    if (ends := sys.modules.get("thistledown._ends")) is not None:
        ends.remember_interrupt()


def wait_for_imports() -> None:
    """Before a fork: waits for imports of this package by other threads, which a child would have by half for ever.

    Not for ever itself: such an import may wait for a lock that another hook has taken for this fork.
    """
    deadline = time.monotonic() + IMPORT_PATIENCE
    while _half_imported() and time.monotonic() < deadline:
        time.sleep(0.001)


def _half_imported() -> bool:
    """Whether another thread imports something of this package."""
    half = {name for name, module in list(sys.modules.items()) if name.startswith(PACKAGE) and not _is_whole(module)}
    frame = sys._getframe() if half else None
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            half.discard(frame.f_globals.get("__name__", ""))
        frame = frame.f_back
    return bool(half)


def _is_whole(module: object) -> bool:
    return not getattr(getattr(module, "__spec__", None), "_initializing", False)


def _whole(name: str) -> Any:
    """A module of this package. None when it was never imported, or by half: then it has nothing to forget."""
    module = sys.modules.get(PACKAGE + name)
    return module if module is not None and _is_whole(module) else None


def _after_fork_in_child() -> None:
    supervisors = _whole("_supervisors")
    if supervisors is not None:
        supervisors.renew_locks()
    _core.after_fork_in_child()
    if (threads := _whole("_threads")) is not None:
        threads.forget()
    if (run := _whole("_run")) is not None:
        run.forget_signal_pipe()
    if supervisors is not None:
        supervisors.leave_to_parent()


atexit.register(_stop_runs)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=wait_for_imports, after_in_child=_after_fork_in_child)
