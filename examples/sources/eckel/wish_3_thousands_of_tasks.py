"""Wish 3: tasks are so cheap that there may be thousands, one for each thing of a model or a game.

The point: a model becomes simple when each of its things is a task. Here a hundred thousand molecules take each their
own walk, at the same time, and each waits after each step. The figures: how many live at once, what each costs in
memory, and how far they came on average, which theory says is the root of the steps.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import random
import resource
import sys
from collections.abc import Generator
from typing import Any

import thistledown as td

MOLECULES, STEPS = 100_000, 16

squares: list[int] = []


def molecule() -> Generator[Any, Any, None]:
    place = 0
    for _ in range(STEPS):
        place += random.choice((-1, 1))
        yield
    squares.append(place * place)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def main() -> None:
    before = peak_bytes()
    async with td.TaskGroup() as group:
        for _ in range(MOLECULES):
            group.go(molecule)
        print(f"{MOLECULES:,} tasks at once, {(peak_bytes() - before) / MOLECULES:,.0f} bytes each")
    print(f"root of the mean square after {STEPS} steps: {(sum(squares) / MOLECULES) ** 0.5:.1f}")


random.seed(3)
td.run(main)
