"""Three generators count down in turn: the smallest picture of tasks that share a thread.

The point: a generator is a task. It stops at each `yield`, and the scheduler lets the next one run, so that the
numbers interleave: 10, 20, 5, 9, 19, 4, ... There is no thread but the one.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import itertools
import threading
from collections.abc import Generator
from typing import Any

import thistledown as td

turns: list[int] = []  # whose it was, by where they started


def countdown(start: int) -> Generator[None, None, None]:
    for n in range(start, 0, -1):
        print(n)
        turns.append(start)
        yield
    print("Task done")


def main() -> Generator[Any, Any, None]:
    for task in [td.go(countdown, start) for start in (10, 20, 5)]:
        yield from task
    changes = sum(one != next_one for one, next_one in itertools.pairwise(turns))
    print(f"{len(turns)} turns, {changes} changes from one task to another, {threading.active_count()} thread")


if __name__ == "__main__":
    td.run(main)
