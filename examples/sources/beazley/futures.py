"""Futures and a process pool inside the loop: `yield from pool.submit(fib, n)`.

The article's scheduler has a wait for futures, so that a task can have a process pool compute for it while the other
tasks go on. Here a task of the pool is such a future, and can be waited for as it is: with `yield from`, with `await`,
or, as any future of `concurrent.futures`, with `result()` in a plain thread.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import concurrent.futures
from collections.abc import Generator
from typing import Any

import thistledown as td

NUMBER = 24


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


def heavy(pool: td.Workers) -> Generator[Any, Any, None]:
    future = pool.submit(fib, NUMBER)
    print("a future:", isinstance(future, concurrent.futures.Future))
    result = yield from future
    print(f"fib({NUMBER}) = {result}")


def light(stop: td.Task[None]) -> Generator[Any, Any, None]:
    turns = 0
    while not stop.done():
        turns += 1
        yield from td.sleep(0.001)
    print("turns of the others meanwhile:", turns)


async def both(pool: td.Workers) -> None:
    first, second = pool.submit(fib, NUMBER), pool.submit(fib, NUMBER + 1)
    print("by await:", await first, await second)


def main(pool: td.Workers) -> Generator[Any, Any, None]:
    task = td.go(heavy, pool)
    yield from td.go(light, task)
    yield from td.go(both, pool)


with td.Workers(2) as pool:
    td.run(main, pool)
