"""Three generators count down in turn: the smallest picture of tasks that share a thread.

Each `yield` lets the others run, so that the numbers interleave: 10, 20, 5, 9, 19, 4, ...

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015).
"""

from collections.abc import Generator
from typing import Any

import thistledown as td


def countdown(n: int) -> Generator[None, None, None]:
    while n > 0:
        print(n)
        yield
        n -= 1
    print("Task done")


def main() -> Generator[Any, Any, None]:
    for task in [td.go(countdown, start) for start in (10, 20, 5)]:
        yield from task


if __name__ == "__main__":
    td.run(main)
