"""What goes on in a soak: each load does a bounded piece of work, with faults in it, and says how many things it did.

A load checks what comes of each: a wrong result, or an error other than the provoked one, is a failure of the soak.
"""

import asyncio
import contextlib
import faulthandler
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import thistledown as td

Load = Callable[[], int]
LOADS: dict[str, Load] = {}

# It says what goes wrong, which here is everything, on purpose.
logging.getLogger("thistledown").setLevel(logging.CRITICAL)

#: For what has to come. Long, as the machine is busy.
PATIENCE = 60.0


def load(function: Load) -> Load:
    LOADS[function.__name__] = function
    return function


@contextlib.contextmanager
def expected(*errors: type[BaseException]) -> Iterator[None]:
    try:
        yield
    except errors:
        return
    raise AssertionError(f"none of {errors} came")


# --- what is done in worker processes -------------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


def never_ends() -> None:
    while True:
        pass


def waits_in_c() -> None:
    time.sleep(3600)


def dies_by(number: int) -> None:
    faulthandler.disable()
    os.kill(os.getpid(), number)


def hoards() -> int:
    return len(bytearray(2 << 30))


def dig(depth: int) -> int:
    return 0 if depth == 0 else 1 + int(td.go(dig, depth - 1).result(PATIENCE))


def raises(words: str) -> None:
    raise ValueError(words)


def writes_until_killed(path: str, count: int) -> None:
    space = td.Space(path)
    for number in range(count):
        space.write(("written", number)).wait(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def passes_on(source: td.Channel[int], target: td.Channel[int]) -> None:
    with contextlib.suppress(td.ChannelClosed):
        while True:
            target.send(source.recv().wait(PATIENCE)).wait(PATIENCE)


def receives_until_killed(source: td.Channel[int], count: int) -> None:
    for _ in range(count):
        source.recv().wait(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def makes_a_channel() -> td.Channel[int]:
    return td.Channel(4)


async def waits_weightless(seconds: float) -> float:
    await td.sleep(seconds)
    return seconds


#: Loads begin at the same time.
_pool_lock = threading.Lock()


@cache
def _pool() -> td.Workers:
    return td.Workers(2, grace=0.2)


def pool() -> td.Workers:
    """One that lives through the whole soak."""
    with _pool_lock:
        return _pool()


def close() -> None:
    pool().shutdown()
    td.workers().shutdown()


@load
def tasks() -> int:
    """Results of all sizes, errors, priorities, keys, maps, and tasks in tasks."""
    some = [pool().go(double, number) for number in range(200)]
    large = pool().go(bytes.upper, b"x" * 3_000_000)
    failed = pool().go(raises, "on purpose")
    keyed = [pool().options(key=number % 3, priority=number % 2).go(double, number) for number in range(30)]
    assert [task.result(PATIENCE) for task in some] == [2 * number for number in range(200)]
    assert len(large.result(PATIENCE)) == 3_000_000
    with expected(ValueError):
        failed.result(PATIENCE)
    assert [task.result(PATIENCE) for task in keyed] == [2 * number for number in range(30)]
    assert list(pool().map(double, range(1000))) == list(range(0, 2000, 2))
    assert td.go(dig, 3).result(PATIENCE) == 3
    assert sorted(pool().map(waits_weightless, [0.001] * 20)) == [0.001] * 20
    return 1254


@load
def deaths() -> int:
    """Workers that die, in all ways, under tasks that go on."""
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        victim = pool().go(dies_by, number)
        beside = [pool().go(double, value) for value in range(10)]
        with expected(td.WorkerDied):
            victim.result(PATIENCE)
        assert [task.result(PATIENCE) for task in beside] == list(range(0, 20, 2))
    with expected(td.WorkerDied):
        pool().go(os._exit, 3).result(PATIENCE)
    with expected(td.MemoryLimitExceeded):
        pool().options(memory="200MiB").go(hoards).result(PATIENCE)
    with expected(td.WorkerDied):
        pool().options(retries=1, retry_on=(td.WorkerDied,)).go(os._exit, 4).result(PATIENCE)
    return 36


@load
def stops() -> int:
    """Timeouts and cancellations of what runs, of what waits in line, and of what does not listen."""
    with expected(TimeoutError):
        pool().options(timeout=0.1).go(never_ends).result(PATIENCE)
    with expected(TimeoutError):
        pool().options(timeout=0.1).go(waits_in_c).result(PATIENCE)
    running = [pool().go(never_ends) for _ in range(2)]
    waiting = [pool().go(double, number) for number in range(20)]
    for task in (*waiting, *running):
        task.cancel()
    td.wait([*running, *waiting], timeout=PATIENCE)
    assert all(task.cancelled() or task in waiting for task in running + waiting)
    with expected(ValueError), td.TaskGroup() as group:
        group.add(pool().go(never_ends))
        group.add(pool().go(raises, "on purpose"))
    given_up = pool().go(never_ends)
    with td.move_on_after(0.05) as scope:
        given_up.result()
    assert scope.expired
    given_up.cancel()
    return 27


@load
def pools() -> int:
    """Pools that come and go, also in the middle of their tasks."""
    with td.Workers(1) as fresh:
        assert fresh.go(double, 4).result(PATIENCE) == 8
    dropped = td.Workers(2, grace=0.1)
    started = [dropped.go(never_ends) for _ in range(3)]
    dropped.shutdown(wait=True, cancel_futures=True)
    assert all(task.done() for task in started)
    with td.Workers(1, initializer=raises, initargs=("on purpose",)) as broken, expected(td.WorkersBroken):
        broken.go(double, 1).result(PATIENCE)
    return 3


@load
def channels() -> int:
    """Channels between processes: through two workers and back, to a worker that dies, and one whose owner is gone."""
    source, target = td.Channel[int](8), td.Channel[int](8)
    workers = [pool().go(passes_on, source, target) for _ in range(2)]

    async def main() -> list[int]:
        async with td.TaskGroup() as group:
            group.go(counts, source, 200)
            return sorted([(await target.recv()) for _ in range(200)])

    assert td.run(main) == list(range(200))
    for worker in workers:
        worker.result(PATIENCE)
    left = td.Channel[int](100)
    for number in range(50):
        left.send(number).wait(PATIENCE)
    with expected(td.WorkerDied):
        pool().go(receives_until_killed, left, 20).result(PATIENCE)
    rest = [left.recv().wait(PATIENCE)]
    while rest[-1] < 49:
        rest.append(left.recv().wait(PATIENCE))
    # What it had received is gone with it, unless it was killed before it could say so; nothing else is.
    assert rest[0] <= 20, rest
    assert rest == list(range(rest[0], 50)), rest
    with td.Workers(1) as owner:
        orphan = owner.go(makes_a_channel).result(PATIENCE)
        orphan.send(1).wait(PATIENCE)
    with expected(td.ChannelBroken):
        orphan.recv().wait(PATIENCE)
    return 252


# --- weightless -----------------------------------------------------------------------------------------------


def counts(channel: td.Channel[int], upto: int) -> Iterator[Any]:
    for number in range(upto):
        yield from channel.send(number)
    channel.close()


async def fails_after(seconds: float) -> None:
    await td.sleep(seconds)
    raise ValueError("on purpose")


async def waits_for_itself() -> None:
    """Over another task: a cycle, in which nobody else can help."""
    first = td.current_task()

    async def second() -> None:
        await first

    await td.go(second)


@load
def weightless() -> int:
    """Thousands of tasks: channels, selects, groups that fail, timeouts, deadlocks."""

    async def main() -> None:
        channel = td.Channel[int](8)
        td.go(counts, channel, 1000)
        assert sum([number async for number in channel]) == sum(range(1000))
        with expected(ValueError):
            async with td.TaskGroup() as group:
                for _ in range(500):
                    group.go(td.sleep(3600))
                group.go(fails_after, 0.001)
        with td.move_on_after(0.001) as scope:
            await td.select(td.Channel[int]().recv(), td.after(3600))
        assert scope.expired
        with td.shield():
            await td.sleep(0)
        cancelled = td.go(td.sleep(3600))
        cancelled.cancel()
        with expected(td.TaskCancelled):
            await cancelled
        assert await td.thread(double, 4) == 8
        assert await td.go(double, 5) == 10

    td.run(main)
    with expected(td.DeadlockError):
        td.run(waits_for_itself)
    return 1506


@load
def threads() -> int:
    """Plain threads that wait for operations and go away."""
    channel = td.Channel[int](1)
    seen: list[int] = []

    def receive() -> None:
        with contextlib.suppress(td.ChannelClosed):
            while True:
                seen.append(channel.recv().wait(PATIENCE))

    receivers = [threading.Thread(target=receive) for _ in range(4)]
    for thread in receivers:
        thread.start()
    for number in range(100):
        channel.send(number).wait(PATIENCE)
    channel.close()
    for thread in receivers:
        thread.join()
    assert sorted(seen) == list(range(100))
    with expected(TimeoutError):
        td.Channel[int]().recv().wait(0.001)
    return 101


@load
def sockets() -> int:
    """A server whose clients leave in all ways."""

    async def echo(client: td.Socket) -> None:
        while data := await client.recv(1000):
            await client.sendall(data)

    async def main() -> None:
        server = td.serve(echo, "127.0.0.1", 0)
        port = server.address[1]
        serving = td.go(server)
        for turn in range(9):
            client = await td.connect("127.0.0.1", port)
            with client:
                await client.sendall(b"hello")
                if turn % 3 == 0:
                    continue  # gone, with an answer on its way
                assert await client.recv(1000) == b"hello"
                if turn % 3 == 1:
                    # Gone with a reset.
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        serving.cancel()

    td.run(main)
    return 9


@load
def in_asyncio() -> int:
    """Loops of asyncio with everything of ours in them."""

    async def main() -> None:
        channel = td.Channel[int](4)
        td.go(counts, channel, 100)
        assert [number async for number in channel] == list(range(100))
        assert await asyncio.gather(*[td.go(double, number) for number in range(5)]) == [0, 2, 4, 6, 8]
        with expected(TimeoutError), td.timeout(0.01):
            await td.Channel[int]().recv()
        with expected(TimeoutError):
            async with asyncio.timeout(0.01):
                await td.go(td.sleep(3600))

    asyncio.run(main())
    return 107


# --- boxes ----------------------------------------------------------------------------------------------------


class Account:
    def __init__(self, amount: int) -> None:
        if amount < 0:
            raise ValueError("on purpose")
        self.amount = amount

    def deposit(self, amount: int) -> int:
        self.amount += amount
        return self.amount

    def fail(self) -> None:
        raise KeyError("on purpose")

    def die(self) -> None:
        os._exit(3)

    async def wait(self) -> None:
        await td.sleep(3600)


@load
def actors() -> int:
    """Actors of this thread: calls, failures, stops, kills; and a supervisor that starts them again."""

    async def main() -> None:
        accounts = [td.here.actor(Account, number) for number in range(50)]
        replies = [account.deposit(1) for account in accounts for _ in range(10)]
        for reply in replies:
            await reply
        with expected(KeyError):
            await accounts[0].fail()
        stuck = accounts[1].wait()
        accounts[1].kill()
        with expected(td.ActorDied):
            await stuck
        await accounts[2].stop()
        with expected(td.ActorStopped):
            await accounts[2].deposit(1)
        child = td.child(Account, 100).options(name="account", place=td.here)
        async with td.Supervisor([child], max_restarts=100) as supervisor:
            account = supervisor["account"]
            for _ in range(5):
                account.kill()
                assert await account.deposit(5) == 105

    td.run(main)
    return 513


@load
def actors_elsewhere() -> int:
    """Actors in worker processes: many in a pool's, one in its own; calls, failures, stops, kills, deaths."""
    accounts = [pool().actor(Account, number) for number in range(10)]
    replies = [account.deposit(1) for account in accounts for _ in range(20)]
    assert sum(reply.result(PATIENCE) for reply in replies[19::20]) == sum(range(10)) + 200
    with expected(KeyError):
        accounts[0].fail().result(PATIENCE)
    for account in accounts:
        account.stop().result(PATIENCE)
    alone = td.actor(Account, 100)
    assert alone.deposit(5).result(PATIENCE) == 105
    waiting = [alone.die()]
    for _ in range(20):
        # It may be dead already.
        with contextlib.suppress(td.ActorDied):
            waiting.append(alone.deposit(1))
    for task in waiting:
        with expected(td.ActorDied, td.WorkerDied):
            task.result(PATIENCE)
    with expected(ValueError, td.ActorDied):
        td.actor(Account, -1).deposit(1).result(PATIENCE)
    with td.actor(Account, 1) as killed:
        killed.deposit(1).result(PATIENCE)
    return 234


# --- spaces ---------------------------------------------------------------------------------------------------


def use(space: td.Space) -> int:
    async def main() -> None:
        async def consume() -> int:
            count = 0
            while (await space.take(("job", int)))[1] >= 0:
                count += 1
            return count

        consumers = [td.go(consume) for _ in range(4)]
        for number in range(100):
            await space.write(("job", number))
        for _ in consumers:
            await space.write(("job", -1))
        assert sum([await consumer for consumer in consumers]) == 100
        await space.write(("leased", 1), lease=0.001)
        await space.write(("claimed", 1))
        await space.take(("claimed", int), lease=0.001)
        # It comes back by itself.
        assert await space.take(("claimed", int)) == ("claimed", 1)
        with expected(ValueError), space.transaction() as act:
            await act.write(("undone", 1))
            raise ValueError("on purpose")
        assert space.take_nowait(("undone", int)) is None
        with td.move_on_after(0.001):
            await space.take(("never", ...))

    td.run(main)
    return 110


@load
def spaces() -> int:
    return use(td.Space())


@load
def spaces_on_files() -> int:
    """Files that are made, used by several tasks, closed, opened again, and gone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "space.db")
        with td.Space(path, fsync=False) as space:
            done = use(space)
            space.write(("kept", 1, Account(100))).wait(PATIENCE)
        with td.Space(path) as space:
            assert space.take(("kept", int, ...)).wait(PATIENCE)[2].amount == 100
    return done + 2


@load
def killed_owners() -> int:
    """A process that is killed while it writes: what it had been told is written, is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "space.db")
        with expected(td.WorkerDied):
            pool().go(writes_until_killed, str(path), 20).result(PATIENCE)
        with td.Space(path) as space:
            assert space.count(("written", int)) == 20
    return 20


# --- who looks from outside -----------------------------------------------------------------------------------


@load
def looks() -> int:
    """Somebody wants to know how it all stands: inside, and from another process."""
    str(td.tree())
    command = [sys.executable, "-m", "thistledown", "tree", str(os.getpid())]
    said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    # At the beginning of a round there may be nothing yet to look at.
    assert said.returncode in (0, 1), said
    assert "Traceback" not in said.stderr, said.stderr
    time.sleep(random.uniform(0.0, 0.5))
    return 2
