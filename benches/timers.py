"""How much CPU do 200,000 timers take that all run at the same time?

Each is one task that sleeps once. The deadlines are spread over a second, in no order, and begin late enough
for all tasks to be asleep by then. Counted is all CPU of the process, from the first start to the last end.
"""

import asyncio
import random
from collections.abc import Callable, Generator
from time import perf_counter, process_time
from typing import Any

import measure
import peers

Seconds = float

#: Seconds before the first deadline, for each task: the slowest peer needs this to start them.
START_COST = 15e-6


def delays(count: int) -> Callable[[], Seconds]:
    """A function that says how long the next task has to sleep."""
    random.seed(5)
    begin = perf_counter() + 0.2 + count * START_COST
    return lambda: begin + random.random() - perf_counter()


def thistledown_generator(count: int) -> Seconds:
    import thistledown as td

    def body(delay: Seconds) -> Generator[Any, Any, None]:
        yield from td.sleep(delay)

    def main() -> Generator[Any, Any, Seconds]:
        begin, delay = process_time(), delays(count)
        for task in [td.go(body, delay()) for _ in range(count)]:
            yield from task
        return process_time() - begin

    return float(td.run(main))


def thistledown_async(count: int) -> Seconds:
    import thistledown as td

    async def body(delay: Seconds) -> None:
        await td.sleep(delay)

    async def main() -> Seconds:
        begin, delay = process_time(), delays(count)
        for task in [td.go(body, delay()) for _ in range(count)]:
            await task
        return process_time() - begin

    return float(td.run(main))


def on_loop(loop: str) -> Callable[[int], Seconds]:
    def run(count: int) -> Seconds:
        async def body(delay: Seconds) -> None:
            await asyncio.sleep(delay)

        async def main() -> Seconds:
            begin, delay = process_time(), delays(count)
            for task in [asyncio.create_task(body(delay())) for _ in range(count)]:
                await task
            return process_time() - begin

        return peers.run_on_loop(loop, main())

    return run


def gevent(count: int) -> Seconds:
    gevent = peers.load("gevent")
    begin, delay = process_time(), delays(count)
    gevent.joinall([gevent.spawn(gevent.sleep, delay()) for _ in range(count)])
    return process_time() - begin


def trio(count: int) -> Seconds:
    trio = peers.load("trio")

    async def main() -> Seconds:
        begin, delay = process_time(), delays(count)
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(trio.sleep, delay())
        return process_time() - begin

    return float(trio.run(main))


def curio(count: int) -> Seconds:
    curio = peers.load("curio")

    async def main() -> Seconds:
        begin, delay = process_time(), delays(count)
        for task in [await curio.spawn(curio.sleep, delay()) for _ in range(count)]:
            await task.join()
        return process_time() - begin

    return float(curio.run(main))


CASES: dict[str, Callable[[int], Seconds]] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    **{loop: on_loop(loop) for loop in peers.LOOPS},
    "gevent": gevent,
    "trio": trio,
    "curio": curio,
}


def a_timer(case: Callable[[int], Seconds]) -> measure.Case:
    return lambda count: {"us CPU/timer": case(count) / count * 1e6}


QUESTIONS = [
    measure.Question(
        name="timers",
        title="200,000 concurrent timers",
        script=__file__,
        cases={label: a_timer(case) for label, case in CASES.items()},
        units=("us CPU/timer",),
        size=200_000,
        quick_size=5_000,
        target="at most 1/3 of asyncio",
        bounds=(measure.Bound(1 / 3, "asyncio"),),
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
