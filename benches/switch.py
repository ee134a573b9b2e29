"""What does it cost to give way to the next ready task, and to be resumed, with nothing to wait for?"""

import asyncio
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

import measure
import peers
import seed

Seconds = float


def thistledown_generator(tasks: int, turns: int) -> Seconds:
    import thistledown as td

    def turn() -> Generator[None, None, None]:
        for _ in range(turns):
            yield

    def main() -> Generator[Any, Any, Seconds]:
        begin = perf_counter()
        for task in [td.go(turn) for _ in range(tasks)]:
            yield from task
        return perf_counter() - begin

    return float(td.run(main))


def thistledown_async(tasks: int, turns: int) -> Seconds:
    import thistledown as td

    async def turn() -> None:
        for _ in range(turns):
            await td.sleep(0)

    async def main() -> Seconds:
        begin = perf_counter()
        for task in [td.go(turn) for _ in range(tasks)]:
            await task
        return perf_counter() - begin

    return float(td.run(main))


def plain_scheduler(tasks: int, turns: int) -> Seconds:
    def turn() -> seed.Body:
        for _ in range(turns):
            yield None

    scheduler = seed.Scheduler()
    begin = perf_counter()
    for _ in range(tasks):
        scheduler.go(turn())
    scheduler.run()
    return perf_counter() - begin


def on_loop(loop: str) -> Callable[[int, int], Seconds]:
    def run(tasks: int, turns: int) -> Seconds:
        async def turn() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        async def main() -> Seconds:
            begin = perf_counter()
            for task in [asyncio.create_task(turn()) for _ in range(tasks)]:
                await task
            return perf_counter() - begin

        return peers.run_on_loop(loop, main())

    return run


def gevent(tasks: int, turns: int) -> Seconds:
    gevent = peers.load("gevent")

    def turn() -> None:
        for _ in range(turns):
            gevent.sleep(0)

    begin = perf_counter()
    gevent.joinall([gevent.spawn(turn) for _ in range(tasks)])
    return perf_counter() - begin


def trio(tasks: int, turns: int) -> Seconds:
    trio = peers.load("trio")

    async def turn() -> None:
        for _ in range(turns):
            await trio.lowlevel.checkpoint()

    async def main() -> Seconds:
        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(turn)
        return perf_counter() - begin

    return float(trio.run(main))


def curio(tasks: int, turns: int) -> Seconds:
    curio = peers.load("curio")

    async def turn() -> None:
        for _ in range(turns):
            await curio.sleep(0)

    async def main() -> Seconds:
        begin = perf_counter()
        for task in [await curio.spawn(turn) for _ in range(tasks)]:
            await task.join()
        return perf_counter() - begin

    return float(curio.run(main))


CASES: dict[str, Callable[[int, int], Seconds]] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    "seed": plain_scheduler,
    **{loop: on_loop(loop) for loop in peers.LOOPS},
    "gevent": gevent,
    "trio": trio,
    "curio": curio,
}


def with_tasks(case: Callable[[int, int], Seconds], tasks: int) -> measure.Case:
    return lambda switches: {"ns/switch": case(tasks, switches // tasks) / switches * 1e9}


QUESTIONS = [
    measure.Question(
        name=f"switch-{tasks}",
        title=f"Bare switch, {tasks:,} tasks",
        script=__file__,
        cases={label: with_tasks(case, tasks) for label, case in CASES.items()},
        units=("ns/switch",),
        size=500_000,
        quick_size=20_000,
        target="at most 1/5 of the best peer library, and under the plain-Python scheduler (seed)",
        bounds=(measure.Bound(0.2, measure.BEST), measure.Bound(1.0, peers.SEED)),
    )
    for tasks in (2, 1000)
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
