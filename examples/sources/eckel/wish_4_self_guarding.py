"""Wish 4: tasks guard themselves. None can interfere with another, and they talk in one formal way only.

The point: what a task changes is its own copy, and what kills it kills nobody else. The figures: a list that a task
has appended to is as long as before here; of ten tasks of which one crashes its process, nine have their result.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import ctypes
import faulthandler

import thistledown as td

diary: list[str] = []


def write(line: str) -> int:
    diary.append(line)
    return len(diary)


def invert(n: int) -> float:
    if n == 0:
        faulthandler.disable()  # its report would stand in the middle of our lines
        ctypes.string_at(0)  # a bug in C: the process is killed by the system
    return 1 / n


print(td.go(write, "dear diary").result(), "line there,", len(diary), "here")

tasks = [td.go(invert, n) for n in range(10)]
td.wait(tasks)
fine = [task for task in tasks if task.exception() is None]
death = tasks[0].exception()
print(len(fine), "of", len(tasks), "are fine, and one has", type(death).__name__)
assert isinstance(death, td.WorkerDied)
print("its cause:", death.cause)
