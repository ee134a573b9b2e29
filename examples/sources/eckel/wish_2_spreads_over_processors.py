"""Wish 2: tasks are spread over the processors, so that a program gets faster by what the machine has.

The point: nobody says where a task runs. One of these two waits for the other to listen, and the other for it to
speak, so they can only end if both run at the same time. The figures: in how many processes, and how much processor
time was used for each second that went by while all cores computed.

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


def count(n: int) -> float:
    begin = time.process_time()
    for _ in range(n):
        pass
    return time.process_time() - begin


with td.Workers(2) as pool, tempfile.TemporaryDirectory() as folder:
    os.mkfifo(pipe := Path(folder) / "pipe")
    speaker, listener = pool.go(say, pipe), pool.go(hear, pipe)
    (heard, one), other = listener.result(), speaker.result()
    print("heard:", heard, "- processes:", len({one, other}))

list(td.map(count, [1] * 100))  # all workers have been started
begin = time.perf_counter()
busy = sum(td.map(count, [1_000_000] * 16, chunksize=1))
print(f"{busy / (time.perf_counter() - begin):.1f} processors in use, of {len(os.sched_getaffinity(0))}")
