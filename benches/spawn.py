"""What does it cost to start a task that does nothing, and to wait for its end?"""

import asyncio
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

import measure
import peers
import seed

Seconds = float


def thistledown_generator(count: int) -> Seconds:
    import thistledown as td

    def nothing() -> Generator[None, None, None]:
        return
        yield

    def main() -> Generator[Any, Any, Seconds]:
        begin = perf_counter()
        for task in [td.go(nothing) for _ in range(count)]:
            yield from task
        return perf_counter() - begin

    return float(td.run(main))


def thistledown_async(count: int) -> Seconds:
    import thistledown as td

    async def nothing() -> None:
        pass

    async def main() -> Seconds:
        begin = perf_counter()
        for task in [td.go(nothing) for _ in range(count)]:
            await task
        return perf_counter() - begin

    return float(td.run(main))


def thistledown_group(count: int) -> Seconds:
    import thistledown as td

    async def nothing() -> None:
        pass

    async def main() -> Seconds:
        begin = perf_counter()
        async with td.TaskGroup() as group:
            for _ in range(count):
                group.go(nothing)
        return perf_counter() - begin

    return float(td.run(main))


def plain_scheduler(count: int) -> Seconds:
    def nothing() -> seed.Body:
        return
        yield

    scheduler = seed.Scheduler()
    begin = perf_counter()
    for _ in range(count):
        scheduler.go(nothing())
    scheduler.run()
    return perf_counter() - begin


def on_loop(loop: str) -> Callable[[int], Seconds]:
    def run(count: int) -> Seconds:
        async def nothing() -> None:
            pass

        async def main() -> Seconds:
            begin = perf_counter()
            for task in [asyncio.create_task(nothing()) for _ in range(count)]:
                await task
            return perf_counter() - begin

        return peers.run_on_loop(loop, main())

    return run


def on_loop_group(loop: str) -> Callable[[int], Seconds]:
    def run(count: int) -> Seconds:
        async def nothing() -> None:
            pass

        async def main() -> Seconds:
            begin = perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(count):
                    group.create_task(nothing())
            return perf_counter() - begin

        return peers.run_on_loop(loop, main())

    return run


def gevent(count: int) -> Seconds:
    gevent = peers.load("gevent")

    def nothing() -> None:
        pass

    begin = perf_counter()
    for greenlet in [gevent.spawn(nothing) for _ in range(count)]:
        greenlet.join()
    return perf_counter() - begin


def trio(count: int) -> Seconds:
    trio = peers.load("trio")

    async def nothing() -> None:
        pass

    async def main() -> Seconds:
        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(nothing)
        return perf_counter() - begin

    return float(trio.run(main))


def curio(count: int) -> Seconds:
    curio = peers.load("curio")

    async def nothing() -> None:
        pass

    async def main() -> Seconds:
        begin = perf_counter()
        for task in [await curio.spawn(nothing) for _ in range(count)]:
            await task.join()
        return perf_counter() - begin

    return float(curio.run(main))


CASES: dict[str, Callable[[int], Seconds]] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    "thistledown / TaskGroup": thistledown_group,
    "seed": plain_scheduler,
    **{loop: on_loop(loop) for loop in peers.LOOPS},
    **{f"{loop} / TaskGroup": on_loop_group(loop) for loop in peers.LOOPS},
    "gevent": gevent,
    "trio": trio,
    "curio": curio,
}


def a_task(case: Callable[[int], Seconds]) -> measure.Case:
    return lambda count: {"us/task": case(count) / count * 1e6}


QUESTIONS = [
    measure.Question(
        name="spawn",
        title="Spawn + join, 100,000 tasks that do nothing",
        script=__file__,
        cases={label: a_task(case) for label, case in CASES.items()},
        units=("us/task",),
        size=100_000,
        quick_size=5_000,
        target="at most 1/6 of the best peer library",
        bounds=(measure.Bound(1 / 6, measure.BEST),),
        note="All tasks are started, then each is waited for; trio and TaskGroup wait for all at once.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
