"""Inside of an asyncio loop: what does a wait of ours cost, against asyncio's own queue and executor?

The wait for what is there already, the wait for what another task of the loop gives, a call in a thread, and the
end of ten thousand waits by another thread, where it is counted how often the loop wakes.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any

import measure
import peers

LOOPS = ("asyncio", "uvloop")
Seconds = float
#: Waits `count` times in a loop that runs.
Waits = Callable[[int], Awaitable[Seconds]]


# --- what is there already ----------------------------------------------------------------------------------


async def finished_channel(count: int) -> Seconds:
    import thistledown as td

    channel: td.Channel[int] = td.Channel(1)
    begin = perf_counter()
    for number in range(count):
        channel.send_nowait(number)
        await channel.recv()
    return perf_counter() - begin


async def finished_queue(count: int) -> Seconds:
    queue: asyncio.Queue[int] = asyncio.Queue(1)
    begin = perf_counter()
    for number in range(count):
        queue.put_nowait(number)
        await queue.get()
    return perf_counter() - begin


async def finished_task(count: int) -> Seconds:
    import thistledown as td

    task = td.go(td.sleep(0))
    await task
    begin = perf_counter()
    for _ in range(count):
        await task
    return perf_counter() - begin


async def finished_future(count: int) -> Seconds:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    begin = perf_counter()
    for _ in range(count):
        await future
    return perf_counter() - begin


# --- what another gives -------------------------------------------------------------------------------------


async def pending_channel(count: int) -> Seconds:
    """To and fro between two asyncio tasks: each wait is pending when it begins."""
    import thistledown as td

    there: td.Channel[int] = td.Channel(1)
    back: td.Channel[int] = td.Channel(1)

    async def echo() -> None:
        for _ in range(count):
            await back.send(await there.recv())

    begin = perf_counter()
    task = asyncio.create_task(echo())
    for number in range(count):
        await there.send(number)
        await back.recv()
    await task
    return (perf_counter() - begin) / 2


async def pending_queue(count: int) -> Seconds:
    there: asyncio.Queue[int] = asyncio.Queue(1)
    back: asyncio.Queue[int] = asyncio.Queue(1)

    async def echo() -> None:
        for _ in range(count):
            await back.put(await there.get())

    begin = perf_counter()
    task = asyncio.create_task(echo())
    for number in range(count):
        await there.put(number)
        await back.get()
    await task
    return (perf_counter() - begin) / 2


async def pending_weightless(count: int) -> Seconds:
    """The same with a weightless task of the loop at the other end."""
    import thistledown as td

    there: td.Channel[int] = td.Channel(1)
    back: td.Channel[int] = td.Channel(1)

    async def echo() -> None:
        for _ in range(count):
            await back.send(await there.recv())

    begin = perf_counter()
    task = td.go(echo)
    for number in range(count):
        await there.send(number)
        await back.recv()
    await task
    return (perf_counter() - begin) / 2


async def pending_thread(count: int) -> Seconds:
    """A call in a helper thread."""
    import thistledown as td

    begin = perf_counter()
    for number in range(count):
        await td.thread(abs, number)
    return perf_counter() - begin


async def pending_executor(count: int) -> Seconds:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as executor:
        begin = perf_counter()
        for number in range(count):
            await loop.run_in_executor(executor, abs, number)
        return perf_counter() - begin


# --- a burst ------------------------------------------------------------------------------------------------


async def burst_ours(count: int) -> tuple[Seconds, int]:
    import thistledown as td
    from thistledown import _asyncio

    channels: list[td.Channel[int]] = [td.Channel(1) for _ in range(count)]

    async def wait_for(channel: Any) -> Any:
        return await channel.recv()

    def complete() -> None:
        for channel in channels:
            channel.send_nowait(1)

    waiting = [asyncio.ensure_future(wait_for(channel)) for channel in channels]
    await asyncio.sleep(0)
    guest = _asyncio.guest_of(asyncio.get_running_loop())
    before, begin = guest.visits, perf_counter()
    thread = threading.Thread(target=complete)
    thread.start()
    await asyncio.gather(*waiting)
    took = perf_counter() - begin
    thread.join()
    return took, guest.visits - before


async def burst_asyncio(count: int) -> tuple[Seconds, int]:
    """As asyncio has it: each completion asks for a callback of its own, and writes to the loop's socket."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(count)]

    async def wait_for(future: Any) -> Any:
        return await future

    def complete() -> None:
        for future in futures:
            loop.call_soon_threadsafe(future.set_result, 1)

    waiting = [asyncio.ensure_future(wait_for(future)) for future in futures]
    await asyncio.sleep(0)
    begin = perf_counter()
    thread = threading.Thread(target=complete)
    thread.start()
    await asyncio.gather(*waiting)
    took = perf_counter() - begin
    thread.join()
    return took, count


def waits(loop: str, work: Waits, count: int) -> measure.Sample:
    return {"us/wait": peers.run_on_loop(loop, work(count)) / count * 1e6}  # type: ignore[arg-type]


def bursts(loop: str, work: Callable[[int], Any], count: int) -> measure.Sample:
    took, wakes = peers.run_on_loop(loop, work(count))
    return {"us/completion": took / count * 1e6, "wake-ups asked for": wakes}


def on_each_loop(measured: Callable[..., measure.Sample], works: dict[str, Any]) -> dict[str, measure.Case]:
    """The cases by name: ours are called by our name, asyncio's own by their loop's."""
    cases: dict[str, measure.Case] = {}
    for loop in LOOPS:
        for name, work in works.items():
            label = f"{peers.OURS} / {name} on {loop}" if "queue" not in name and "asyncio's" not in name else None
            cases[label or f"{loop} / {name}"] = partial(measured, loop, work)
    return cases


FINISHED = {
    "channel": finished_channel,
    "task": finished_task,
    "queue": finished_queue,
    "asyncio's future": finished_future,
}
PENDING = {"channel": pending_channel, "weightless task": pending_weightless, "queue": pending_queue}
OFFLOADED = {"thread": pending_thread, "asyncio's run_in_executor": pending_executor}
BURSTS = {"burst": burst_ours, "asyncio's call_soon_threadsafe": burst_asyncio}

QUESTIONS = [
    measure.Question(
        name="asyncio-finished",
        title="Inside of asyncio: await of what is there",
        script=__file__,
        cases=on_each_loop(waits, FINISHED),
        units=("us/wait",),
        size=200_000,
        quick_size=1_000,
        baseline="asyncio / queue",
        note="`queue` is `asyncio.Queue`, and `channel` what is written with it: one put, one get that need not wait.",
    ),
    measure.Question(
        name="asyncio-pending",
        title="Inside of asyncio: await of what another task gives",
        script=__file__,
        cases=on_each_loop(waits, PENDING),
        units=("us/wait",),
        size=50_000,
        quick_size=500,
        baseline="asyncio / queue",
        note="One message one way, of a to and fro between two tasks.",
    ),
    measure.Question(
        name="asyncio-thread",
        title="Inside of asyncio: await of a call in a thread",
        script=__file__,
        cases=on_each_loop(waits, OFFLOADED),
        units=("us/wait",),
        size=5_000,
        quick_size=100,
        baseline="asyncio / asyncio's run_in_executor",
    ),
    measure.Question(
        name="asyncio-burst",
        title="Inside of asyncio: 10,000 waits ended by another thread",
        script=__file__,
        cases=on_each_loop(bursts, BURSTS),
        units=("us/completion", "wake-ups asked for"),
        size=10_000,
        quick_size=1_000,
        baseline="asyncio / asyncio's call_soon_threadsafe",
        note="Wake-ups asked for: visits of ours, which the loop makes; callbacks, for asyncio.",
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
