"""Wish 5: deadlock is prevented by default. What cannot be prevented is found, and said.

The point: there is no lock to take, and a task that waits for its own tasks gives up its place to them, so that a
pool of one is enough for any depth. A wait that can never end raises an error instead, which says who waits for what.
The figures: the depth, and what is said of two tasks that wait for each other.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

import thistledown as td


def deeper(depth: int) -> int:
    return depth if depth == 0 else 1 + td.go(deeper, depth - 1).result()


async def wait_for(others: list[td.Task[None]]) -> None:
    await others[0]


async def in_a_circle() -> None:
    first: list[td.Task[None]] = []
    second = td.go(wait_for, first)
    first.append(td.go(wait_for, [second]))
    await second


with td.Workers(1) as pool:
    print("tasks that wait for each other on one worker:", pool.go(deeper, 50).result() + 1)

try:
    td.run(in_a_circle)
except td.DeadlockError as error:
    print("a circle:", str(error).splitlines()[0].partition(", at")[0])
