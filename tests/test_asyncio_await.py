"""`await` of operations in asyncio tasks, on each kind of loop: cancelling, fairness, wake-ups, and loops that end.

What each operation gives, and that an undone wait takes nothing, is in the conformance suite.
"""

import asyncio
import gc
import selectors
import threading
import weakref

import pytest
import thistledown as td
from thistledown import _asyncio

from leaks import open_files
from support import LOOPS, PATIENCE, settle

MANY = 10_000


async def receive(channel):
    return await channel.recv()


async def rounds(count=10):
    for _ in range(count):
        await asyncio.sleep(0)


def visits():
    """How often the guest of the running loop was visited."""
    return _asyncio.guest_of(asyncio.get_running_loop()).visits


# --- cancelling ---------------------------------------------------------------------------------------------


def test_what_was_committed_to_counts_and_the_cancellation_comes_at_the_next_wait(run):
    reached = []

    async def receive_and_wait(channel):
        reached.append(await channel.recv())
        await asyncio.sleep(3600)
        reached.append("never")

    async def main():
        channel = td.Channel(1)
        waiter = asyncio.ensure_future(receive_and_wait(channel))
        await rounds()
        channel.send_nowait("value")
        assert len(channel) == 0  # the waiter has it, and does not know yet
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run(main)
    assert reached == ["value"]


def test_an_error_that_was_committed_to_counts_as_well(run):
    async def receive_and_wait(channel):
        with pytest.raises(td.ChannelClosed):
            await channel.recv()
        await td.sleep(3600)

    async def main():
        channel = td.Channel()
        waiter = asyncio.ensure_future(receive_and_wait(channel))
        await rounds()
        channel.close()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    run(main)


def test_a_timeout_that_came_second_and_has_been_left_leaves_nothing_stray(run):
    async def main():
        channel = td.Channel(1)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            waiting = receive(channel)
            loop.call_soon(lambda: (channel.send_nowait("value"), limit.reschedule(loop.time())))
            assert await waiting == "value"
        assert limit.expired()
        assert asyncio.current_task().cancelling() == 0
        await rounds()

    run(main)


def test_a_cancellation_that_was_taken_back_is_not_delivered_again(run):
    async def main():
        channel = td.Channel(1)
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(lambda: (channel.send_nowait("value"), task.cancel()))
        assert await channel.recv() == "value"
        task.uncancel()
        await rounds()

    run(main)


@pytest.mark.parametrize("select", [False, True], ids=["alone", "in a select"])
@pytest.mark.parametrize("end", ["closed", "thrown at"])
@pytest.mark.parametrize("capacity", [0, 2])
def test_a_message_for_a_wait_that_was_given_up_goes_back_to_the_head(run, capacity, end, select):
    async def main():
        channel = td.Channel(capacity)
        other = td.Channel(1)
        operation = td.select(td.sleep(3600), td.select(other.recv(), channel.recv())) if select else channel.recv()
        waiting = receive_by(operation)
        waiting.send(None)
        for number in range(capacity + 1):
            channel.send_nowait(number)
        if end == "closed":
            waiting.close()
        else:
            with pytest.raises(LookupError, match="mine"):
                waiting.throw(LookupError("mine"))
        return [await channel.recv() for _ in range(capacity + 1)] + [len(channel)]

    expected = [*range(capacity + 1), 0]
    assert run(main) == expected


def test_wait_for_and_gather_and_shield_take_operations(run):
    async def main():
        channel = td.Channel(4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(channel), 0.001)
        channel.send_nowait(1)
        channel.send_nowait(2)
        assert await asyncio.gather(receive(channel), receive(channel), td.sleep(0)) == [1, 2, None]
        shielded = asyncio.shield(receive(channel))
        channel.send_nowait(3)
        assert await shielded == 3

    run(main)


async def receive_by(operation):
    return await operation


def test_a_coroutine_that_is_closed_in_a_wait_undoes_it(run):
    async def main():
        channel = td.Channel(4)
        waiting = receive(channel)
        future = waiting.send(None)
        assert asyncio.isfuture(future)
        waiting.close()
        channel.send_nowait("value")
        assert await channel.recv() == "value"

    run(main)


def test_a_coroutine_that_is_dropped_in_a_wait_undoes_it(run):
    async def main():
        channel = td.Channel(4)
        waiting = receive(channel)
        waiting.send(None)
        del waiting
        channel.send_nowait("value")
        assert await channel.recv() == "value"

    run(main)


def test_an_error_thrown_in_comes_out_and_the_wait_is_undone(run):
    async def main():
        channel = td.Channel(4)
        waiting = receive(channel)
        waiting.send(None)
        with pytest.raises(LookupError, match="mine"):
            waiting.throw(LookupError("mine"))
        channel.send_nowait("value")
        assert await channel.recv() == "value"

    run(main)


# --- who talks to whom --------------------------------------------------------------------------------------


def test_a_channel_between_asyncio_tasks_weightless_tasks_and_threads(run):
    async def main():
        first, second, third = td.Channel(), td.Channel(), td.Channel()

        async def pass_on(source, target):
            async for value in source:
                await target.send(value + 1)
            target.close()

        def pass_on_in_thread():
            for _ in range(100):
                third.send(second.recv().wait() + 1).wait()
            third.close()

        td.go(pass_on, first, second)
        thread = threading.Thread(target=pass_on_in_thread)
        thread.start()
        feeding = asyncio.ensure_future(feed(first))
        received = [value async for value in third]
        await feeding
        thread.join()
        return received

    async def feed(channel):
        for number in range(100):
            await channel.send(number)
        channel.close()

    assert run(main) == [number + 2 for number in range(100)]


def test_values_come_in_order_and_waiters_are_served_in_order(run):
    async def main():
        channel = td.Channel()
        waiters = [asyncio.ensure_future(receive(channel)) for _ in range(100)]
        await rounds()
        for number in range(100):
            await channel.send(number)
        return await asyncio.gather(*waiters)

    assert run(main) == list(range(100))


def test_async_for_ends_with_the_channel_and_an_error_in_it_is_raised(run):
    async def main():
        channel = td.Channel(3)
        for value in "abc":
            channel.send_nowait(value)
        channel.close()
        assert [value async for value in channel] == ["a", "b", "c"]
        waiting = td.Channel()
        asyncio.get_running_loop().call_later(0.001, waiting.close)
        assert [value async for value in waiting] == []

    run(main)


def test_one_operation_is_waited_for_by_several_tasks_at_once(run):
    async def wait_for(operation):
        return await operation

    async def main():
        channel = td.Channel()
        operation = channel.recv()
        waiters = [asyncio.ensure_future(wait_for(operation)) for _ in range(5)]
        await rounds()
        for number in range(5):
            await channel.send(number)
        return await asyncio.gather(*waiters)

    assert run(main) == [0, 1, 2, 3, 4]


def test_two_loops_in_two_threads_talk_over_a_channel(loop_factory):
    there, back = td.Channel(), td.Channel()

    async def echo():
        async for value in there:
            await back.send(value * 2)

    async def ask():
        answers = []
        for number in range(100):
            await there.send(number)
            answers.append(await back.recv())
        there.close()
        return answers

    def in_a_loop(main):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    thread = threading.Thread(target=in_a_loop, args=(echo,))
    thread.start()
    assert in_a_loop(ask) == list(range(0, 200, 2))
    thread.join()


def test_a_cycle_of_waits_raises_in_the_one_that_closes_it(run):
    async def main():
        tasks = []

        async def wait_for(other):
            await td.sleep(0.001)
            return await tasks[other]

        tasks += [td.go(wait_for, 1), td.go(wait_for, 0)]
        outcomes = await asyncio.gather(*map(awaited, tasks), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [td.DeadlockError] * 2

    async def awaited(task):
        return await task

    run(main)


def test_switch_says_where_it_works(run):
    async def main():
        with pytest.raises(RuntimeError, match="weightless"):
            await td.switch(x for x in ())

    run(main)


# --- fairness and wake-ups ----------------------------------------------------------------------------------


def test_a_task_whose_operations_complete_at_once_lets_the_others_run(run):
    async def main():
        channel = td.Channel(1)
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, "other")
        for _ in range(1_000):
            await channel.send(1)
            await channel.recv()
            if ran:
                return
        raise AssertionError("nobody else had a turn in two thousand operations")

    run(main)


def test_sleep_zero_gives_the_loop_a_round(run):
    async def main():
        ran = []
        asyncio.get_running_loop().call_soon(ran.append, "other")
        await td.sleep(0)
        return ran

    assert run(main) == ["other"]


def test_a_burst_of_completions_wakes_the_loop_a_handful_of_times(run):
    """Another thread completes ten thousand waits while the loop sleeps, runs, and sleeps again."""

    async def main():
        channels = [td.Channel(1) for _ in range(MANY)]
        waiters = [asyncio.ensure_future(receive(channel)) for channel in channels]
        await rounds(2)

        def complete():
            for number, channel in enumerate(channels):
                channel.send_nowait(number)

        before = visits()
        thread = threading.Thread(target=complete)
        thread.start()
        received = await asyncio.gather(*waiters)
        thread.join()
        return received, visits() - before

    received, count = run(main)
    assert received == list(range(MANY))
    assert count <= 100


class Counting(selectors.DefaultSelector):
    """Counts how often the loop is woken where it sleeps."""

    wakes = 0

    def select(self, timeout=None):
        ready = super().select(timeout)
        self.wakes += bool(ready)
        return ready


def wakes_of(main):
    """Runs `main(selector)` in a loop of the standard library's on a selector that counts."""
    selector = Counting()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        return runner.run(main(selector))


def test_a_burst_that_is_complete_is_one_wake_up():
    """The same, counted where the loop sleeps, with nothing of it in the way: the burst is over when the loop looks."""

    async def main(selector):
        channels = [td.Channel(1) for _ in range(MANY)]
        waiters = [asyncio.ensure_future(receive(channel)) for channel in channels]
        await rounds(2)
        thread = threading.Thread(target=lambda: [channel.send_nowait(1) for channel in channels])
        before = selector.wakes
        thread.start()
        thread.join()
        await asyncio.gather(*waiters)
        return selector.wakes - before

    assert wakes_of(main) == 1


def test_a_burst_of_calls_in_threads_wakes_the_loop_a_handful_of_times():
    """The last call of each thread may end behind what tells that all have run, and then is a wake-up of its own."""

    async def main(selector):
        channel = td.Channel(MANY)

        async def call(number):
            await td.thread(channel.send_nowait, number)

        begun = [asyncio.ensure_future(call(number)) for number in range(MANY)]
        await rounds(2)
        before = selector.wakes
        received = {channel.recv().wait(PATIENCE) for _ in range(MANY)}
        await asyncio.gather(*begun)
        assert received == set(range(MANY))
        return selector.wakes - before

    assert wakes_of(main) <= 50


def test_an_idle_guest_does_not_wake_its_loop(run):
    async def main():
        await td.sleep(0.001)
        waiting = asyncio.ensure_future(receive(td.Channel()))
        await rounds()
        before = visits()
        await asyncio.sleep(0.02)
        waiting.cancel()
        return visits() - before

    assert run(main) == 0


def test_one_timer_serves_all(run):
    async def main():
        operations = [td.sleep(0.001 * number) for number in range(20)]
        await asyncio.gather(*(awaited(operation) for operation in reversed(operations)))
        return visits()

    async def awaited(operation):
        await operation

    assert run(main) <= 41  # no more than one for each, and one more that came too early


# --- loops that end -----------------------------------------------------------------------------------------


def test_loops_leave_nothing_behind(loop_factory):
    async def main():
        await td.sleep(0.0001)
        assert await td.go(receive, filled()) == "value"

    def filled():
        channel = td.Channel(1)
        channel.send_nowait("value")
        return channel

    def once():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    once()
    files = open_files()
    for _ in range(20):
        once()
    assert len(open_files()) <= len(files)


def test_a_loop_can_be_run_again(loop_factory):
    loop = loop_factory()
    channel = td.Channel(1)
    for number in range(3):
        channel.send_nowait(number)
        assert loop.run_until_complete(receive(channel)) == number
        assert loop.run_until_complete(awaited_sleep()) is None
    loop.close()


async def awaited_sleep():
    await td.sleep(0.001)


def test_a_loop_that_is_closed_ends_what_lives_in_its_guest(loop_factory):
    loop = loop_factory()

    async def main():
        task = td.go(receive, td.Channel())
        await settle()
        return task

    task = loop.run_until_complete(main())
    for pending in asyncio.all_tasks(loop):
        pending._log_destroy_pending = False
    assert not task.done()
    loop.close()
    assert task.cancelled()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_a_loop_that_is_dropped_goes_with_its_guest():
    loop = LOOPS["asyncio"]()
    loop.run_until_complete(awaited_sleep())
    guest = weakref.ref(_asyncio.guest_of(loop))
    assert guest() is not None
    del loop
    gc.collect()
    assert guest() is None


def test_a_wait_that_is_left_over_does_not_hold_the_loop(loop_factory):
    loop = loop_factory()
    channel = td.Channel()
    waiting = loop.create_task(receive(channel))
    loop.run_until_complete(rounds())
    waiting.cancel()
    loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
    loop.close()
    channel.close()


def test_outside_of_any_loop_the_error_says_what_to_write():
    waiting = receive(td.Channel())
    with pytest.raises(RuntimeError, match=r"\.wait\(\)"):
        waiting.send(None)
