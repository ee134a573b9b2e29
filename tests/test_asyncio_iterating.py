"""`async for` over `td.as_completed` and `td.map` in asyncio tasks, and who must not wait there in plain code."""

import asyncio
import concurrent.futures
import contextlib

import pytest
import thistledown as td

from support import PATIENCE


class Crowd:
    """Tasks that end in an order that the test says."""

    def __init__(self):
        self.gates = [td.Channel(1) for _ in range(3)]
        self.running = 0

    async def work(self, number):
        self.running += 1
        try:
            return await self.gates[number].recv()
        finally:
            self.running -= 1

    def release(self, *numbers):
        for number in numbers:
            self.gates[number].send_nowait(number)


async def ticks(results, crowd, order):
    """Takes each result after its task has been let go, so that their order is the one they end in."""
    got = []
    for number in order:
        crowd.release(number)
        got.append(await anext(results))
    return got


# --- as_completed -------------------------------------------------------------------------------------------


def test_tasks_come_as_they_end(run):
    async def main():
        crowd = Crowd()
        ended = td.as_completed([td.go(crowd.work, number) for number in range(3)])
        tasks = await ticks(ended, crowd, [2, 0, 1])
        with pytest.raises(StopAsyncIteration):
            await anext(ended)
        return [task.result() for task in tasks]

    assert run(main) == [2, 0, 1]


def test_coroutines_and_generators_are_started(run):
    def generator(number):
        yield
        return number

    async def main():
        return [await task async for task in td.as_completed([generator(1), generator(1)])]

    assert run(main) == [1, 1]


def test_the_loop_goes_on_meanwhile(run):
    async def main():
        crowd = Crowd()
        asyncio.get_running_loop().call_soon(crowd.release, 0, 1, 2)
        return {task.result() async for task in td.as_completed([crowd.work(number) for number in range(3)])}

    assert run(main) == {0, 1, 2}


def test_its_time_is_over_and_the_tasks_go_on(run):
    async def main():
        crowd = Crowd()
        task = td.go(crowd.work, 0)
        with pytest.raises(TimeoutError, match=r"1 \(of 1\) tasks"):
            await anext(td.as_completed([task], 0.001))
        assert asyncio.current_task().cancelling() == 0
        crowd.release(0)
        return await task

    assert run(main) == 0


def test_a_cancellation_while_one_is_waited_for_takes_nothing(run):
    async def main():
        crowd = Crowd()
        ended = td.as_completed([td.go(crowd.work, 0)])
        waiter = asyncio.ensure_future(first(ended))
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        crowd.release(0)
        return (await anext(ended)).result()

    assert run(main) == 0


async def first(iterator):
    return await anext(iterator)


# --- map ----------------------------------------------------------------------------------------------------


def test_a_map_of_weightless_tasks_gives_results_in_order(run):
    async def main():
        crowd = Crowd()
        crowd.release(2, 0, 1)
        return [value async for value in td.map(crowd.work, [0, 1, 2])]

    assert run(main) == [0, 1, 2]


def test_or_as_they_come(run):
    async def main():
        crowd = Crowd()
        return await ticks(td.map(crowd.work, [0, 1, 2], ordered=False), crowd, [1, 2, 0])

    assert run(main) == [1, 2, 0]


def test_the_first_error_cancels_the_rest_and_waits_for_it(run):
    async def main():
        crowd = Crowd()

        async def work(number):
            if number == 1:
                raise LookupError(number)
            return await crowd.work(number)

        crowd.release(0)
        results = td.map(work, [0, 1, 2])
        assert await anext(results) == 0
        with pytest.raises(LookupError):
            await anext(results)
        return crowd.running

    assert run(main) == 0


def test_cancelling_who_iterates_cancels_the_tasks_and_waits_for_them(run):
    async def main():
        crowd = Crowd()
        waiter = asyncio.ensure_future(first(td.map(crowd.work, [0, 1, 2])))
        while crowd.running < 3:
            await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return crowd.running

    assert run(main) == 0


def test_who_stops_in_the_middle_leaves_nothing(run):
    async def main():
        crowd = Crowd()
        async with contextlib.aclosing(td.map(crowd.work, [0, 1, 2], ordered=False)) as results:
            crowd.release(1)
            assert await anext(results) == 1
        return crowd.running

    assert run(main) == 0


# --- waiting in plain code ----------------------------------------------------------------------------------

BLOCKING = {
    "result": lambda task: task.result(),
    "exception": lambda task: task.exception(),
    "td.wait": lambda task: td.wait([task]),
    "the stdlib's wait": lambda task: concurrent.futures.wait([task]),
    "for": lambda task: next(td.as_completed([task])),
    "the stdlib's as_completed": lambda task: next(concurrent.futures.as_completed([task])),
    "a choice": lambda task: td.select(td.Channel().recv(), task).wait(),
}


@pytest.mark.parametrize("block", BLOCKING.values(), ids=list(BLOCKING))
def test_who_would_stop_the_loop_that_runs_what_he_waits_for_is_told(run, block):
    async def main():
        crowd = Crowd()
        task = td.go(crowd.work, 0)
        with pytest.raises(RuntimeError, match=r"would stop .*await|would stop .*async for"):
            block(task)
        # The same waits for it from elsewhere, and at the end.
        elsewhere = asyncio.ensure_future(asyncio.to_thread(block, task))
        await asyncio.sleep(0)
        crowd.release(0)
        await elsewhere
        await task
        block(task)

    run(main)


@pytest.mark.parametrize(
    "operation",
    [
        lambda channel, space: channel.recv(),
        lambda channel, space: channel.send(1),
        lambda channel, space: space.take(("job", int)),
        lambda channel, space: space.watch(...).recv(),
        lambda channel, space: td.select(channel.recv(), space.take(("job", int))),
    ],
    ids=["recv", "send", "take", "watch", "select"],
)
def test_who_would_stop_the_loop_for_what_only_this_process_can_bring_is_told(run, operation):
    async def main():
        channel, space = td.Channel(), td.Space()
        waits = operation(channel, space)
        with pytest.raises(RuntimeError, match=r"would stop the event loop .*write `await op`"):
            waits.wait()
        # With a limit it is waited for, and what is there is given.
        with pytest.raises(TimeoutError):
            waits.wait(0.001)
        with pytest.raises(TimeoutError), td.timeout(0.001):
            waits.wait()
        space.write(("job", 1)).wait()
        assert space.take(("job", int)).wait() == ("job", 1)

    run(main)


@pytest.mark.parametrize("source", [td.Channel, lambda: td.Space().watch()], ids=["channel", "watch"])
def test_who_would_stop_the_loop_by_a_plain_for_is_told_to_write_async_for(run, source):
    async def main():
        with pytest.raises(RuntimeError, match=r"would stop the event loop .*write `async for`"):
            for _ in source():
                pass

    run(main)


def test_waiting_for_several_is_a_call_in_a_thread(run):
    async def main():
        crowd = Crowd()
        tasks = [td.go(crowd.work, number) for number in range(2)]
        waiting = asyncio.ensure_future(
            awaited(td.thread(td.wait, tasks, PATIENCE, concurrent.futures.FIRST_COMPLETED))
        )
        await asyncio.sleep(0)
        crowd.release(1)
        done, not_done = await waiting
        crowd.release(0)
        await tasks[0]
        return done == {tasks[1]}, not_done == {tasks[0]}

    assert run(main) == (True, True)


async def awaited(operation):
    return await operation
