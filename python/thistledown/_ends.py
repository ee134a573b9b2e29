"""What becomes of pools that nobody holds any more, at a fork, and at the end of the interpreter.

The interpreter does not end before the work is done, as with the standard library's pools, and does end at once when
somebody pressed Ctrl-C.
"""

import contextlib
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, NoReturn

from thistledown import _core

if TYPE_CHECKING:
    from thistledown._pool import Workers

__all__ = ["abandon", "forget", "is_ending", "see_to"]

_live: "weakref.WeakSet[Workers]" = weakref.WeakSet()
_pools: dict[int, _core.Pool] = {}
_inherited: list[_core.Pool] = []
_sees_to_the_end = False
_is_ending = False


def see_to(workers: "Workers", pool: _core.Pool | None) -> None:
    """From now on the pool is seen to; None: it is another process's, which sees to it."""
    global _sees_to_the_end
    _live.add(workers)
    if pool is not None:
        _pools[id(pool)] = pool
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
    global _is_ending
    _is_ending = True
    is_interrupted = not hasattr(sys, "ps1") and getattr(sys, "last_type", None) is KeyboardInterrupt
    try:
        if not is_interrupted:
            for one in list(_live):
                one.shutdown(wait=False)
            for pool in list(_pools.values()):
                pool.shutdown(False)
                pool.closed(None)
            return
    except KeyboardInterrupt:
        pass
    for pool in list(_pools.values()):
        pool.kill()
    for pool in list(_pools.values()):
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
    _inherited.extend(_pools.values())
    _pools.clear()
    for one in list(_live):
        one._pool = _Forked()  # type: ignore[assignment]
        one._pumps.clear()
    _live.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
