"""What a process and all its descendants take: CPU, memory, and how many they are.

Read from outside, at the system's own counters (Linux), so that nothing has to run in what is measured.
A pool's helpers (a fork server, a tracker of resources, daemons) are descendants like its workers, and count.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

WATCH_EVERY = 0.02


def every_process() -> Iterator[tuple[int, int, int]]:
    """Gives each process of the machine with its parent and its session."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # What stands in brackets is a name, and may be anything.
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(fields[1]), int(fields[3])


def tree(root: int | None = None) -> list[int]:
    """The process, by default this one, and all that descends from it."""
    children: dict[int, list[int]] = {}
    for pid, parent, _ in every_process():
        children.setdefault(parent, []).append(pid)
    found = [os.getpid() if root is None else root]
    for pid in found:
        found += children.get(pid, ())
    return found


def end_session(session: int) -> None:
    """Kills what is left of a session, and all that descends from it."""
    for member in [pid for pid, _, its in every_process() if its == session]:
        for pid in tree(member):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def cpu_seconds() -> float:
    """CPU that this process, its children that are gone, and all its live descendants have used."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime + cpu_seconds_of(tree())


def cpu_seconds_of(pids: list[int]) -> float:
    """CPU that processes have used, with their threads, without their children."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            # The clock that clock_getcpuclockid(3) gives, to the nanosecond.
            total += time.clock_gettime(~pid << 3 | 2)
    return total


def memory_bytes(pids: list[int]) -> int:
    """What processes have in memory, with what they share counted once: the proportional set size (PSS).

    A file in memory that is open, and that nobody has mapped yet, is counted too.
    """
    alone = shared = 0
    files: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in ("Pss_Anon", "Pss_File"):
                    alone += int(rest.split()[0]) * 1024
                elif name == "Pss_Shmem":
                    shared += int(rest.split()[0]) * 1024
        files.update(memory_files(pid))
    return alone + max(shared, sum(files.values()))


def memory_files(pid: int) -> Iterator[tuple[int, int]]:
    """The open files of a process that live in memory: which, and how many bytes they have."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path).startswith(("/memfd:", "/dev/shm/")):
                    status = os.stat(entry.path)
                    yield status.st_ino, status.st_blocks * 512


class PeakMemory:
    """The most memory that this process and its descendants had while inside; seen by a process of its own."""

    peak_bytes = 0

    def __enter__(self) -> Self:
        command = [sys.executable, "-S", __file__, str(os.getpid())]
        self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._watcher.stdout is not None
        self._watcher.stdout.readline()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        output, _ = self._watcher.communicate("stop\n")
        self.peak_bytes = int(output)


def watch(root: int) -> None:
    """Looks at the memory of a tree of processes, without itself, until a line comes in; prints the most it saw."""
    os.set_blocking(0, False)
    peak = 0
    print("watching", flush=True)
    while True:
        is_last = sys.stdin.readline() != ""
        peak = max(peak, memory_bytes([pid for pid in tree(root) if pid != os.getpid()]))
        if is_last:
            print(peak)
            return
        time.sleep(WATCH_EVERY)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
