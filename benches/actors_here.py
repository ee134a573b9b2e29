"""What does a call of an actor cost that lives in the same thread or process, and how large is one that is idle?

The rivals: Pykka, whose actors have a thread each, and what one writes in asyncio without a library, a task that takes
calls and futures from a queue.
"""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import measure
from memory import resident_bytes

Ask = Callable[[], Awaitable[Any]]


class Counter:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


class QueueActor:
    """An object with a queue, and a task that answers."""

    __slots__ = ("instance", "queue", "task")

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.task = asyncio.ensure_future(self.answers())

    async def answers(self) -> None:
        while True:
            method, args, answer = await self.queue.get()
            try:
                answer.set_result(getattr(self.instance, method)(*args))
            except Exception as error:
                answer.set_exception(error)

    def ask(self, method: str, *args: Any) -> "asyncio.Future[Any]":
        answer = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((method, args, answer))
        return answer


async def one_by_one(ask: Ask, count: int) -> measure.Sample:
    begin = perf_counter()
    for _ in range(count):
        await ask()
    return {"ns/call": (perf_counter() - begin) / count * 1e9}


#: So many calls are under way when the first of them is waited for.
BURST = 10_000


async def in_flight(ask: Ask, count: int) -> measure.Sample:
    begin = perf_counter()
    took = []
    for _ in range(max(1, count // BURST)):
        for waiting in [ask() for _ in range(min(count, BURST))]:
            await waiting
        took.append(perf_counter() - begin)
    return in_bursts(took, count)


def in_bursts(took: list[float], count: int) -> measure.Sample:
    """Of all the calls, and of those that had to ask the system for their memory."""
    return {"ns/call": took[-1] / count * 1e9, "first": took[0] / min(count, BURST) * 1e9}


Pattern = Callable[[Ask, int], Awaitable[measure.Sample]]


def by_thistledown(pattern: Pattern) -> measure.Case:
    def run(count: int) -> measure.Sample:
        import thistledown as td

        async def main() -> measure.Sample:
            actor = td.here.actor(Counter)
            return await pattern(lambda: actor.add(), count)

        sample: measure.Sample = td.run(main)
        return sample

    return run


def by_queue(pattern: Pattern) -> measure.Case:
    def run(count: int) -> measure.Sample:
        async def main() -> measure.Sample:
            actor = QueueActor(Counter())
            sample = await pattern(lambda: actor.ask("add"), count)
            actor.task.cancel()
            return sample

        return asyncio.run(main())

    return run


def by_pykka(flies: bool) -> measure.Case:
    def run(count: int) -> measure.Sample:
        import pykka

        class Actor(pykka.ThreadingActor):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.count = 0

            def add(self) -> int:
                self.count += 1
                return self.count

        proxy = Actor.start().proxy()
        burst = min(count, BURST) if flies else 1
        begin = perf_counter()
        took = []
        for _ in range(count // burst):
            for waiting in [proxy.add() for _ in range(burst)]:
                waiting.get()
            took.append(perf_counter() - begin)
        pykka.ActorRegistry.stop_all()
        sample = in_bursts(took, count)
        return sample if flies else {"ns/call": sample["ns/call"]}

    return run


def idle(count: int) -> measure.Sample:
    import thistledown as td

    async def main() -> None:
        td.here.actor(Counter)
        kept: list[Any] = [None] * count
        gc.collect()
        before = resident_bytes()
        for number in range(count):
            kept[number] = td.here.actor(Counter)
        leave(before, count)

    sample: measure.Sample = td.run(main, stall_after=None)
    return sample


def idle_queues(count: int) -> measure.Sample:
    async def main() -> None:
        kept: list[Any] = [None] * count
        gc.collect()
        before = resident_bytes()
        for number in range(count):
            kept[number] = QueueActor(Counter())
        await asyncio.sleep(0)
        leave(before, count)

    asyncio.run(main())
    return {}


def leave(before: int, count: int) -> None:
    measure.tell({"bytes/actor": (resident_bytes() - before) / count})
    os._exit(0)


BOUNDS = (measure.Bound(1.0, measure.BEST), measure.Bound(1.0, "asyncio / a queue and a task"))

CALLS = tuple(
    measure.Question(
        name=name,
        title=title,
        script=__file__,
        cases={
            "thistledown / td.here.actor": by_thistledown(pattern),
            "asyncio / a queue and a task": by_queue(pattern),
            "pykka / a thread": by_pykka(pattern is in_flight),
        },
        units=units,
        size=size,
        quick_size=500,
        target="less than a queue and a task of asyncio, and less than Pykka",
        bounds=BOUNDS,
        baseline="asyncio / a queue and a task",
        note=note,
    )
    for name, title, pattern, size, units, note in (
        ("actor-calls", "A call of a weightless actor, one after the other", one_by_one, 20_000, ("ns/call",), ""),
        (
            "actor-calls-in-flight",
            "Calls of one weightless actor, 10,000 in flight, ten times over",
            in_flight,
            10 * BURST,
            ("ns/call", "first"),
            "`first`: a call of the first 10,000, in ns, for which the process gets its memory.",
        ),
    )
)

QUESTIONS = (
    *CALLS,
    measure.Question(
        name="idle-actors",
        title="An idle weightless actor, with its object and its handle",
        script=__file__,
        cases={"thistledown / td.here.actor": idle, "asyncio / a queue and a task": idle_queues},
        units=("bytes/actor",),
        size=1_000_000,
        quick_size=10_000,
        target="less than 300 bytes",
        bounds=(measure.Bound(300.0),),
        baseline="asyncio / a queue and a task",
        sizes={"asyncio / a queue and a task": 100_000},
    ),
)

if __name__ == "__main__":
    measure.main(QUESTIONS)
