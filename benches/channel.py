"""What does an item cost on its way through a channel from task to task? And if its answer is waited for?"""

import asyncio
from collections.abc import Callable, Generator
from time import perf_counter
from typing import Any

import measure
import peers

Seconds = float
#: Sends `count` items from one task to another; or, if `back`, waits for each to come back.
Transfer = Callable[[int, int, bool], Seconds]


def thistledown_generator(count: int, capacity: int, back: bool) -> Seconds:
    import thistledown as td

    there: td.Channel[int] = td.Channel(capacity)
    home: td.Channel[int] = td.Channel(capacity)

    def producer() -> Generator[Any, Any, None]:
        for number in range(count):
            yield from there.send(number)
            if back:
                yield from home.recv()

    def main() -> Generator[Any, Any, Seconds]:
        begin = perf_counter()
        td.go(producer)
        for _ in range(count):
            item = yield from there.recv()
            if back:
                yield from home.send(item)
        return perf_counter() - begin

    return float(td.run(main))


def thistledown_async(count: int, capacity: int, back: bool) -> Seconds:
    import thistledown as td

    there: td.Channel[int] = td.Channel(capacity)
    home: td.Channel[int] = td.Channel(capacity)

    async def producer() -> None:
        for number in range(count):
            await there.send(number)
            if back:
                await home.recv()

    async def main() -> Seconds:
        begin = perf_counter()
        td.go(producer)
        for _ in range(count):
            item = await there.recv()
            if back:
                await home.send(item)
        return perf_counter() - begin

    return float(td.run(main))


def thistledown_iteration(count: int, capacity: int, back: bool) -> Seconds:
    """The same as `async for`, which makes no operation for each item. It has no way back."""
    import thistledown as td

    there: td.Channel[int] = td.Channel(capacity)

    async def producer() -> None:
        for number in range(count):
            await there.send(number)
        there.close()

    async def main() -> Seconds:
        begin = perf_counter()
        td.go(producer)
        received = 0
        async for _ in there:
            received += 1
        if received != count or back:
            raise RuntimeError(f"{received} of {count} items came")
        return perf_counter() - begin

    return float(td.run(main))


def on_loop(loop: str) -> Transfer:
    def run(count: int, capacity: int, back: bool) -> Seconds:
        async def producer(there: asyncio.Queue[int], home: asyncio.Queue[int]) -> None:
            for number in range(count):
                await there.put(number)
                if back:
                    await home.get()

        async def main() -> Seconds:
            there: asyncio.Queue[int] = asyncio.Queue(capacity)
            home: asyncio.Queue[int] = asyncio.Queue(capacity)
            begin = perf_counter()
            task = asyncio.create_task(producer(there, home))
            for _ in range(count):
                item = await there.get()
                if back:
                    await home.put(item)
            await task
            return perf_counter() - begin

        return peers.run_on_loop(loop, main())

    return run


def gevent(count: int, capacity: int, back: bool) -> Seconds:
    gevent, queue = peers.load("gevent"), peers.load("gevent.queue")
    there, home = queue.Queue(capacity), queue.Queue(capacity)

    def producer() -> None:
        for number in range(count):
            there.put(number)
            if back:
                home.get()

    begin = perf_counter()
    greenlet = gevent.spawn(producer)
    for _ in range(count):
        item = there.get()
        if back:
            home.put(item)
    greenlet.join()
    return perf_counter() - begin


def trio(count: int, capacity: int, back: bool) -> Seconds:
    trio = peers.load("trio")

    async def producer(there: Any, home: Any) -> None:
        for number in range(count):
            await there.send(number)
            if back:
                await home.receive()

    async def main() -> Seconds:
        there_in, there_out = trio.open_memory_channel(capacity)
        home_in, home_out = trio.open_memory_channel(capacity)
        begin = perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer, there_in, home_out)
            for _ in range(count):
                item = await there_out.receive()
                if back:
                    await home_in.send(item)
        return perf_counter() - begin

    return float(trio.run(main))


def curio(count: int, capacity: int, back: bool) -> Seconds:
    curio = peers.load("curio")

    async def producer(there: Any, home: Any) -> None:
        for number in range(count):
            await there.put(number)
            if back:
                await home.get()

    async def main() -> Seconds:
        there, home = curio.Queue(capacity), curio.Queue(capacity)
        begin = perf_counter()
        task = await curio.spawn(producer, there, home)
        for _ in range(count):
            item = await there.get()
            if back:
                await home.put(item)
        await task.join()
        return perf_counter() - begin

    return float(curio.run(main))


CASES: dict[str, Transfer] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    **{loop: on_loop(loop) for loop in peers.LOOPS},
    "gevent": gevent,
    "trio": trio,
    "curio": curio,
}


def an_item(case: Transfer) -> measure.Case:
    return lambda count: {"ns/item": case(count, 64, False) / count * 1e9}


def a_round_trip(case: Transfer) -> measure.Case:
    return lambda count: {"ns/round trip": case(count, 1, True) / count * 1e9}


QUESTIONS = [
    measure.Question(
        name="channel",
        title="Items through a bounded(64) channel",
        script=__file__,
        cases={
            "thistledown / async for": an_item(thistledown_iteration),
            **{label: an_item(case) for label, case in CASES.items()},
        },
        units=("ns/item",),
        size=200_000,
        quick_size=10_000,
        target="at most 1/2 of the best peer",
        bounds=(measure.Bound(0.5, measure.BEST),),
    ),
    measure.Question(
        name="ping-pong",
        title="Ping-pong through two channels with room for one",
        script=__file__,
        cases={label: a_round_trip(case) for label, case in CASES.items()},
        units=("ns/round trip",),
        size=100_000,
        quick_size=5_000,
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
