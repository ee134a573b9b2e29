"""Wish 2: tasks are spread over the processors, so that a program gets faster by what the machine has.

The point: nobody says where a task runs. One of these two waits for the other to listen, and the other for it to
speak, so they can only end if both run at the same time. The figures: in how many processes, and how many of sixteen
tasks that compute did so at the same time.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import os
import tempfile
import time
from pathlib import Path

import thistledown as td


def say(pipe: Path) -> int:
    pipe.write_text("hello")  # waits until the other one listens
    return os.getpid()


def hear(pipe: Path) -> tuple[str, int]:
    return pipe.read_text(), os.getpid()


def count(n: int) -> tuple[float, float]:
    begin = time.monotonic()
    for _ in range(n):
        pass
    return begin, time.monotonic()


def at_once(spans: list[tuple[float, float]]) -> int:
    """How many of them there were at most at one moment, which is when one of them began."""
    return max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)


with td.Workers(2) as pool, tempfile.TemporaryDirectory() as folder:
    os.mkfifo(pipe := Path(folder) / "pipe")
    speaker, listener = pool.go(say, pipe), pool.go(hear, pipe)
    (heard, one), other = listener.result(), speaker.result()
    print("heard:", heard, "- processes:", len({one, other}))

list(td.map(count, [1] * 100))  # all workers have been started
spans = list(td.map(count, [1_000_000] * 16, chunksize=1))
print(f"{at_once(spans)} computed at the same time, on {len(os.sched_getaffinity(0))} processors")
