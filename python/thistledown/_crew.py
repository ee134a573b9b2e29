"""The worker processes of a pool, as ``pool.processes()`` gives them: names by which ``td.monitor`` tells of ends.

A process id may be given to another process when its own has ended. So a worker is known by a number of its pool, which
is never used again, and the process id is for people.
"""

import threading
from typing import TYPE_CHECKING, Any, NoReturn

from thistledown._boxes import Ending, Heard
from thistledown._errors import NotPicklable

if TYPE_CHECKING:
    from thistledown._pool import Workers

__all__ = ["WorkerProcess", "crew"]


class WorkerProcess:
    """A worker process of a pool. ``pool.processes()`` gives those that live; ``td.monitor`` tells how one ends.

    Attributes:
        pid: of the process; that of ``WorkerDied``, and one of ``pool.statistics()["processes"]``.
    """

    __slots__ = ("_number", "_pool", "pid")

    def __init__(self, *_: object) -> None:
        raise TypeError("worker processes are started by their pool: `pool.processes()` gives those that live")

    _number: int
    _pool: "Workers"
    pid: int

    @property
    def _end(self) -> "End":
        """What tells of its end."""
        known = self._pool._ends
        if self._number not in known:
            known[self._number] = End(self)
        return known[self._number]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WorkerProcess):
            return NotImplemented
        return self._number == other._number and self._pool is other._pool

    def __hash__(self) -> int:
        return hash((self._number, id(self._pool)))

    def __reduce__(self) -> NoReturn:
        raise NotPicklable(f"{self!r} is of a pool of this process, which alone can watch it: send its `pid`")

    def __repr__(self) -> str:
        return f"<thistledown.WorkerProcess {self.pid}>"


class End:
    """The end of a worker, and who wants to hear of it. One for all who do, until it has come."""

    def __init__(self, worker: WorkerProcess) -> None:
        self._worker = worker
        self._heard: list[Heard] = []
        self._ending: Ending | None = None
        # Held while these are changed, by any thread, and never while somebody is told.
        self._lock = threading.Lock()
        worker._pool._pool.watch_worker(worker._number, worker.pid).add_done_callback(self._told)

    def watch(self, heard: Heard) -> None:
        with self._lock:
            ending = self._ending
            if ending is None:
                self._heard.append(heard)
        if ending is not None:
            heard(ending)

    def unwatch(self, heard: Heard) -> None:
        with self._lock:
            if heard in self._heard:
                self._heard.remove(heard)

    def _told(self, task: Any) -> None:
        word, error = task.result()
        if word == "closed":
            error = RuntimeError("its pool has come to its end, and it did not")
        elif word == "unknown":
            error = RuntimeError(f"nobody knows any more how worker process {self._worker.pid} has ended")
        ending = Ending("normal" if word == "stopped" else "died", error)
        with self._lock:
            self._ending = ending
            heard, self._heard = self._heard, []
        self._worker._pool._ends.pop(self._worker._number, None)
        for one in heard:
            one(ending)


def crew(pool: "Workers") -> list[WorkerProcess]:
    """The workers of a pool that live.

    Raises:
        RuntimeError: the pool is that of another process, for which this one works.
    """
    return [_made(pool, number, pid) for number, pid in pool._pool.crew()]


def _made(pool: "Workers", number: int, pid: int) -> WorkerProcess:
    worker: WorkerProcess = object.__new__(WorkerProcess)
    worker._number, worker._pool, worker.pid = number, pool, pid
    return worker
