"""The threads of a process as the system lists them, also those of which Python does not know."""

import contextlib
import os
from pathlib import Path


def thread_numbers(process="self"):
    """Their numbers, all at one moment; none of a process that has ended.

    A listing ends early when the thread at which it stands ends just then, so it counts when the next is the same.
    """
    listed = None
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while True:
            before, listed = listed, set(os.listdir(f"/proc/{process}/task"))
            if listed == before:
                return {int(number) for number in listed}
    return set()


def thread_names():
    """Those of this process by number. A name has no more than 15 characters."""
    names = {}
    for number in thread_numbers():
        with contextlib.suppress(OSError):  # It has just ended.
            names[number] = Path(f"/proc/self/task/{number}/comm").read_text().strip()
    return names
