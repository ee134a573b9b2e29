"""What a process has that a test must not leave behind: threads, descriptors, children."""

import contextlib
import os
import threading
import time
from pathlib import Path

from native import thread_names, thread_numbers
from support import PATIENCE


def foreign_threads():
    return {thread for thread in threading.enumerate() if not thread.name.startswith("thistledown")}


def helper_count():
    return sum(thread.name.startswith("thistledown") for thread in threading.enumerate())


def open_files(window=False):
    """Descriptors and what they stand for; those of the window, which opens when a run or pool has lasted, if asked."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    for fd in [] if window else _of_the_window(found):
        del found[fd]
    return found


def window_is_open():
    return f"@thistledown-{os.getpid()}\n" in Path("/proc/net/unix").read_text()


def _of_the_window(found):
    name = f"@thistledown-{os.getpid()}"
    sockets = {
        f"socket:[{line.split()[6]}]" for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(name)
    }
    own = [fd for fd, target in found.items() if target in sockets or "memfd:thistledown-lines" in target]
    bells = [fd for fd, target in found.items() if own and target == "anon_inode:[eventfd]"]
    # It is rung when the window is to be closed, and is made with the others.
    return own + sorted(bells, key=lambda fd: abs(fd - min(own)))[:1]


def count_pipes(files):
    return sum(target.startswith("pipe:") for target in files.values())


def child_processes(process="self"):
    children = set()
    for thread in thread_numbers(process):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            path = Path(f"/proc/{process}/task/{thread}/children")
            children.update(int(pid) for pid in path.read_text().split())
    return children


def descendants(process="self"):
    """Live processes below this one, whoever started them."""
    children = child_processes(process)
    return children.union(*(descendants(child) for child in children))


def engine_threads(name):
    """Threads of the engine by the beginning of their name, also those of which Python does not know."""
    beginning = f"thistledown-{name}"[:15]
    return {number for number, name in thread_names().items() if name.startswith(beginning)}


def eventually(condition, words):
    """Waits for what the system does in its own time, as taking a thread that has ended off its list."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, words
        time.sleep(0.001)
