"""Errors of worker processes that are gone, and the words for how they went.

A module of its own, because ``BrokenProcessPool`` brings the standard library's process pools with it.
"""

import os
import signal

from thistledown._errors import ThistledownError

try:
    from concurrent.futures.process import BrokenProcessPool
except RuntimeError:
    # The interpreter is ending, when that module can no longer be imported. So nobody has, and nobody asks for its
    # class: what it is derived from does.
    from concurrent.futures import BrokenExecutor as BrokenProcessPool  # type: ignore[assignment]

__all__ = ["MemoryLimitExceeded", "WorkerDied", "WorkersBroken"]

TAIL_LINES = 20
"""Lines of its last words on stderr that an error shows."""


class WorkerDied(ThistledownError, BrokenProcessPool):
    """The worker process of a task died while the task ran. Only this task fails; the pool goes on.

    Attributes:
        pid: of the process.
        exitcode: as ``multiprocessing`` has it: a negative number is the signal's; None when it is not known.
        cause: why, in words.
        stderr: the last lines of what it wrote there.
    """

    __module__ = "thistledown"

    def __init__(
        self, pid: int, exitcode: int | None = None, cause: str = "", stderr: str = "", task: str | None = None
    ) -> None:
        cause = cause or words_for(exitcode)
        # That of a worker which is watched has the name of no task.
        whose = " of a task" if task is None else f" of task {task}" if task else ""
        words = f"the worker process {pid}{whose} died: {cause}"
        lines = stderr.rstrip().splitlines()[-TAIL_LINES:]
        if lines:
            words = "\n".join([f"{words}; the last it wrote to stderr:", *(f"  {line}" for line in lines)])
        super().__init__(words)
        self.pid = pid
        self.exitcode = exitcode
        self.cause = cause
        self.stderr = stderr
        self._task = task

    def __reduce__(self) -> tuple[type["WorkerDied"], tuple[int, int | None, str, str, str | None]]:
        return type(self), (self.pid, self.exitcode, self.cause, self.stderr, self._task)


class MemoryLimitExceeded(WorkerDied, MemoryError):
    """The task took more memory than its option ``memory`` allows, and was ended for it."""

    __module__ = "thistledown"


class WorkersBroken(ThistledownError, BrokenProcessPool):
    """The pool can run no task: its processes do not start, or their initializer failed, which then is the cause."""

    __module__ = "thistledown"


def words_for(exitcode: int | None) -> str:
    """How a process ended, for people."""
    if exitcode is None:
        return "nobody knows how"
    if exitcode >= 0:
        return f"it left with exit code {exitcode}, by `os._exit` or from C code"
    known = {
        -signal.SIGKILL: "killed by SIGKILL: by the system, when memory is short, or by somebody",
        -signal.SIGSEGV: "a segmentation fault (SIGSEGV), in C code that one of its modules called",
        -signal.SIGABRT: "aborted (SIGABRT), by C code that found a fault",
        -signal.SIGBUS: "a bus error (SIGBUS): a mapped file that was cut off, or no memory for it",
    }
    if exitcode in known:
        return known[exitcode]
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"ended by {name}"


def worker_died(
    task: str | None, pid: int, status: int | None, stderr: bytes, *, memory: int | None = None, cause: str = ""
) -> WorkerDied:
    """The error of a task whose worker is gone. The engine calls this.

    Args:
        task: its name; empty when it is told of the worker itself.
        pid: of the worker.
        status: what ``waitpid`` said of it; None when nobody could ask.
        stderr: the tail of what it wrote there.
        memory: the limit in bytes that it went over; None when it was something else.
        cause: why, when the engine knows better than the status.
    """
    exitcode = None if status is None else os.waitstatus_to_exitcode(status)
    text = stderr.decode("utf-8", "replace")
    if memory is not None:
        limit = cause or f"it needed more than the {_size(memory)} that its option `memory` allows"
        return MemoryLimitExceeded(pid, exitcode, limit, text, task)
    return WorkerDied(pid, exitcode, cause, text, task)


def workers_broken(words: str, error: BaseException | None = None) -> WorkersBroken:
    """The error of tasks whose pool cannot run any. The engine calls this."""
    broken = WorkersBroken(words)
    broken.__cause__ = error
    return broken


def _size(size_bytes: int) -> str:
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 1 << shift and size_bytes % (1 << shift) == 0:
            return f"{size_bytes >> shift} {unit}"
    return f"{size_bytes:,} bytes"
