"""What becomes of pools that nobody holds any more, at a fork, and at the end of the interpreter.

The interpreter does not end before the work is done, as with the standard library's pools, and does end at once when
somebody pressed Ctrl-C. Errors that nobody has asked for are told then: those of tasks that nobody holds were before.
"""

import contextlib
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from thistledown import _core, _report

if TYPE_CHECKING:
    from thistledown._pool import Workers

__all__ = ["abandon", "before", "forget", "is_ending", "remember_interrupt", "see_to"]

SILENT_SECONDS = 1.0
"""The end of a program waits so long for its tasks before it says so."""

_live: "weakref.WeakSet[Workers]" = weakref.WeakSet()
# Held while one is added, and while they are listed: any thread makes pools.
_live_lock = threading.Lock()
_pools: dict[int, _core.Pool] = {}
_inherited: list[_core.Pool] = []
_before: list[Callable[[bool], None]] = []
_sees_to_the_end = False
_is_ending = False
_was_interrupted = False


def see_to(workers: "Workers", pool: _core.Pool | None) -> None:
    """From now on the pool is seen to; None: it is another process's, which sees to it."""
    with _live_lock:
        _live.add(workers)
    if pool is not None:
        _pools[id(pool)] = pool
        _see_to_the_end()


def before(end: Callable[[bool], None]) -> None:
    """From now on this is called before pools come to their ends; with True when everything is to be killed."""
    if end not in _before:
        _before.append(end)
    _see_to_the_end()


def _see_to_the_end() -> None:
    global _sees_to_the_end
    if not _sees_to_the_end:
        # Refused when the interpreter ends already; then it waits for a thread, which sees to its pool itself.
        with contextlib.suppress(RuntimeError):
            # Before the interpreter joins its threads, as the standard library's pools do it.
            threading._register_atexit(_end_all)  # type: ignore[attr-defined]
            _sees_to_the_end = True


def forget(pool: _core.Pool) -> None:
    """It is over."""
    _pools.pop(id(pool), None)


def abandon(pool: _core.Pool, process: int) -> None:
    """A pool that nobody holds is closed, and finishes what it has."""
    if process != os.getpid():
        return
    pool.shutdown(False)
    for other in list(_pools.values()):
        if other.is_over():
            forget(other)


def is_ending() -> bool:
    """Whether the program has come to its end."""
    return _is_ending


def _end_all() -> None:
    """The interpreter ends: what pools have is finished, unless somebody pressed Ctrl-C."""
    global _is_ending, _was_interrupted
    _is_ending = True
    if not hasattr(sys, "ps1") and getattr(sys, "last_type", None) is KeyboardInterrupt:
        try:
            _kill_all()
        finally:
            # Also when Ctrl-C comes once more.
            _was_interrupted = True
            remember_interrupt()
        return
    try:
        for end in _before:
            end(False)
        with _live_lock:
            live = list(_live)
        for one in live:
            if not one._is_upstream:
                one.shutdown(wait=False)
        for pool in list(_pools.values()):
            pool.shutdown(False)
        _wait_for_all()
        _report.failed_unasked()
    except KeyboardInterrupt:
        _interrupted()


def remember_interrupt() -> None:
    """If Ctrl-C has ended the program, the process still dies of it, as ever.

    CPython forgets that an interrupt has ended the program when text is run as code afterwards, as
    ``collections.namedtuple`` does in a module that is imported for the end.

    Source: CPython, ``run_eval_code_obj`` in ``Python/pythonrun.c``, which remembers it the same way.
    """
    is_script = getattr(sys.modules.get("__main__"), "__spec__", None) is None
    if _was_interrupted and is_script and not sys.flags.interactive:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


def _wait_for_all() -> None:
    """Until the last pool is closed. Whoever looks at the terminal is told once for what."""
    seconds: float | None = SILENT_SECONDS
    for pool in list(_pools.values()):
        if not pool.closed(seconds):
            _report.waits_at_the_end(_count_left(), _names_left())
            seconds = None
            pool.closed(None)


def _interrupted() -> None:
    """Ctrl-C while the end of the program waits for its tasks: it is the death of this process, as in the middle."""
    # From here on a second one ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    left = _count_left()
    _kill_all()
    if left:
        _report.unfinished(left)
    # Where Python is but a part of another program, that one decides what becomes of it.
    if sys.orig_argv:
        _core.die_of_interrupt()


def _count_left() -> int:
    """How many tasks have not ended."""
    return sum(known["queued"] + known["offered"] for known in (pool.statistics() for pool in list(_pools.values())))


def _names_left() -> list[str]:
    from thistledown._tree_pools import pools

    children = [child for pool in pools() for child in pool.children]
    nodes = [node for child in children for node in (child, *child.children)]
    return [node.name for node in nodes if node.kind == "task"]


def _kill_all() -> None:
    for end in _before:
        end(True)
    pools = list(_pools.values())
    for pool in pools:
        pool.kill()
    for pool in pools:
        pool.closed(None)


class _Forked:
    """Stands for a pool in a forked child, which has neither its thread nor its processes: it has nothing to end."""

    def shutdown(self, cancel: bool) -> None:
        pass

    def kill(self) -> None:
        pass

    def closed(self, timeout: float | None = None) -> bool:
        return True

    def takes_tasks(self) -> bool:
        return False

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "this pool belongs to the process that this one was forked from: make a `td.Workers(...)` here, or use "
            "the default pool, of which a forked process has its own"
        )


def _after_fork_in_child() -> None:
    # Dropping a pool would wait for a thread that does not exist here.
    global _live_lock
    # Somebody who does not exist here may have had it.
    _live_lock = threading.Lock()
    _inherited.extend(_pools.values())
    _pools.clear()
    for one in list(_live):
        one._pool = _Forked()  # type: ignore[assignment]
        one._pumps.clear()
    _live.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
