"""A channel handed to a worker works there as here: in every way to hand it on, and in every way to wait."""

import asyncio
import copy
import gc
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest
import thistledown as td
from pools import Workers
from thistledown import _core

from leaks import eventually
from support import PATIENCE

pytestmark = pytest.mark.usefixtures("no_exchange_left")


def send_all(channel, values):
    for value in values:
        channel.send(value).wait(PATIENCE)
    channel.close()


async def receive_all(channel):
    return [value async for value in channel]


def double_all(source, target):
    async def work():
        async for value in source:
            await target.send(2 * value)
        target.close()

    td.run(work())


def test_a_worker_sends_and_the_program_iterates(pool):
    channel = td.Channel(4)
    task = pool.go(send_all, channel, range(100))
    assert td.run(receive_all(channel)) == list(range(100))
    assert task.result(PATIENCE) is None


def test_the_program_sends_and_a_worker_iterates(pool):
    channel = td.Channel(4)
    task = pool.go(receive_all, channel)
    send_all(channel, range(100))
    assert task.result(PATIENCE) == list(range(100))


def test_between_two_workers_the_program_has_no_part(pool):
    numbers, doubles = td.Channel(8), td.Channel(8)
    pool.go(send_all, numbers, range(50))
    pool.go(double_all, numbers, doubles)
    assert td.run(receive_all(doubles)) == [2 * number for number in range(50)]


def test_in_a_closure():
    channel = td.Channel()
    # A worker keeps the functions that it knows, and with them what they hold.
    with Workers(1) as own:
        own.go(lambda: channel.send("from a closure").wait(PATIENCE))
        assert channel.recv().wait(PATIENCE) == "from a closure"


def test_as_a_part_of_a_value(pool):
    channel = td.Channel(1)
    pool.go(lambda job: job["answer to"].send(job["number"] + 1).wait(PATIENCE), {"answer to": channel, "number": 6})
    assert channel.recv().wait(PATIENCE) == 7


def test_through_another_channel(pool):
    requests = td.Channel(1)

    def answer(requests):
        number, reply = requests.recv().wait(PATIENCE)
        reply.send(number**2).wait(PATIENCE)

    pool.go(answer, requests)
    reply = td.Channel()
    requests.send((12, reply)).wait(PATIENCE)
    assert reply.recv().wait(PATIENCE) == 144


def test_returned_from_a_worker(pool):
    def make():
        channel = td.Channel(3)
        channel.send("made there").wait(PATIENCE)
        return channel

    channel = pool.go(make).result(PATIENCE)
    assert channel.capacity == 3
    assert channel.recv().wait(PATIENCE) == "made there"
    channel.send("and back").wait(PATIENCE)
    assert channel.recv().wait(PATIENCE) == "and back"


def test_what_lay_in_it_goes_with_it(pool):
    channel = td.Channel(5)
    for number in range(3):
        channel.send_nowait(number)
    channel.close()
    assert pool.go(receive_all, channel).result(PATIENCE) == [0, 1, 2]
    with pytest.raises(td.ChannelClosed):
        channel.recv().wait(PATIENCE)


def test_who_waits_when_it_is_shared_waits_on(pool):
    channel, results = td.Channel(), []

    async def receiver():
        results.append(await channel.recv())

    async def main():
        async with td.TaskGroup() as group:
            group.go(receiver())
            group.go(receiver())
            await td.sleep(0)
            await pool.go(send_all, channel, [1, 2])

    td.run(main())
    assert results == [1, 2]


def test_a_sender_that_waits_when_it_is_shared_waits_on(pool):
    channel = td.Channel()

    async def main():
        async with td.TaskGroup() as group:
            group.go(channel.send("kept"))
            await td.sleep(0)
            task = pool.go(lambda channel: channel.recv().wait(PATIENCE), channel)
            assert await task == "kept"

    td.run(main())


def test_a_slow_receiver_holds_the_sender_back(pool):
    channel, sent = td.Channel(3), td.Channel(1000)

    def send(channel, sent):
        for number in range(100):
            channel.send(number).wait(PATIENCE)
            sent.send(number).wait(PATIENCE)

    task = pool.go(send, channel, sent)
    for number in range(100):
        # What nobody has received is no more than there is room for.
        assert len(channel) <= 3
        assert len(sent) <= number + 4
        assert channel.recv().wait(PATIENCE) == number
    task.result(PATIENCE)
    # Its end and its last message come by different ways.
    eventually(lambda: len(sent) == 100, "a message is missing")


def test_a_rendezvous_waits_for_its_receiver(pool):
    channel, done = td.Channel(), td.Channel(1)

    def send(channel, done):
        channel.send(1).wait(PATIENCE)
        done.send(True).wait(PATIENCE)

    task = pool.go(send, channel, done)
    assert channel.recv().wait(PATIENCE) == 1
    assert done.recv().wait(PATIENCE)
    task.result(PATIENCE)


def test_a_select_commits_to_one(pool):
    first, second = td.Channel(10), td.Channel(10)
    pool.go(lambda one: one.send("first").wait(PATIENCE), first).result(PATIENCE)
    pool.go(lambda two: two.send("second").wait(PATIENCE), second).result(PATIENCE)
    chosen = td.select(first.recv(), second.recv()).wait(PATIENCE)
    assert (chosen.index, chosen.value) == (0, "first")
    # What the other one had offered is on its way back.
    eventually(lambda: (len(first), len(second)) == (0, 1), "the other one keeps no message")


def test_a_select_in_a_worker_commits_to_one(pool):
    left, right = td.Channel(100), td.Channel(100)
    for number in range(100):
        left.send_nowait(("left", number))
        right.send_nowait(("right", number))

    def choose(left, right):
        chosen = [td.select(left.recv(), right.recv()).wait(PATIENCE).value for _ in range(120)]
        return chosen, len(left), len(right)

    chosen, left_over, right_over = pool.go(choose, left, right).result(PATIENCE)
    assert len(set(chosen)) == 120
    assert left_over + right_over == 80
    for side in ("left", "right"):
        numbers = [number for name, number in chosen if name == side]
        assert numbers == sorted(numbers)


def test_a_timeout_undoes_a_receive(pool):
    channel = td.Channel(1)

    def wait_in_vain(channel):
        with pytest.raises(TimeoutError):
            channel.recv().wait(0.01)

    pool.go(wait_in_vain, channel).result(PATIENCE)
    channel.send("still there").wait(PATIENCE)
    assert channel.recv().wait(PATIENCE) == "still there"


def test_a_cancelled_task_of_a_worker_takes_nothing(pool):
    channel, ready = td.Channel(1), td.Channel(1)

    async def wait(channel, ready):
        await ready.send(True)
        await channel.recv()

    task = pool.go(wait, channel, ready)
    assert ready.recv().wait(PATIENCE)
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    channel.send("still there").wait(PATIENCE)
    assert channel.recv().wait(PATIENCE) == "still there"


def test_in_asyncio_tasks(pool):
    channel = td.Channel(2)

    async def main():
        task = pool.go(send_all, channel, range(10))
        assert [value async for value in channel] == list(range(10))
        await task

    asyncio.run(main())


def test_without_waiting(pool):
    channel = td.Channel(1)

    def use(channel):
        with pytest.raises(td.ChannelEmpty):
            channel.recv_nowait()
        channel.send_nowait(1)
        with pytest.raises(td.ChannelFull):
            channel.send_nowait(2)
        assert (len(channel), channel.capacity, channel.closed) == (1, 1, False)
        channel.close()
        assert channel.closed
        with pytest.raises(td.ChannelClosed):
            channel.send_nowait(3)
        assert channel.recv_nowait() == 1
        with pytest.raises(td.ChannelClosed):
            channel.recv_nowait()

    pool.go(use, channel).result(PATIENCE)
    assert channel.closed


def test_large_buffers_travel_without_a_copy(pool):
    numpy = pytest.importorskip("numpy")
    channel = td.Channel(2)

    def send(channel):
        channel.send(numpy.arange(1_000_000)).wait(PATIENCE)
        channel.send(b"x" * 3_000_000).wait(PATIENCE)

    pool.go(send, channel)
    array = channel.recv().wait(PATIENCE)
    assert array.sum() == 499_999_500_000
    assert not array.flags.writeable
    assert len(channel.recv().wait(PATIENCE)) == 3_000_000


def test_many_large_messages_take_no_more_descriptors_than_there_are(pool):
    channel = td.Channel(400)

    def send(channel):
        for number in range(300):
            channel.send(bytes([number % 256]) * 100_000).wait(PATIENCE)

    pool.go(send, channel).result(PATIENCE)
    for number in range(300):
        assert channel.recv().wait(PATIENCE)[:1] == bytes([number % 256])


class Fragile:
    """Can be pickled, and not be rebuilt."""

    def __reduce__(self):
        return _refuse_to_be_rebuilt, ()


def _refuse_to_be_rebuilt():
    raise ValueError("not here")


def test_a_message_that_cannot_be_rebuilt_is_an_error_of_its_receiver_alone(pool):
    channel = td.Channel(3)

    def send(channel):
        for message in ("before", Fragile(), "after"):
            channel.send(message).wait(PATIENCE)

    pool.go(send, channel).result(PATIENCE)
    assert channel.recv().wait(PATIENCE) == "before"
    with pytest.raises(ValueError, match="not here") as caught:
        channel.recv().wait(PATIENCE)
    assert any("a message that came through a channel" in note for note in caught.value.__notes__)
    assert channel.recv().wait(PATIENCE) == "after"


def test_a_message_that_cannot_be_pickled_is_an_error_of_its_sender(pool):
    channel = td.Channel(1)
    pickle.dumps(channel)
    with open(os.devnull) as file, pytest.raises(td.NotPicklable, match="the message"):
        channel.send(file).wait(PATIENCE)
    assert len(channel) == 0


def test_a_channel_with_what_cannot_be_pickled_is_not_shared():
    channel = td.Channel(1)
    with open(os.devnull) as file:
        channel.send_nowait(file)
        with pytest.raises(td.NotPicklable):
            pickle.dumps(channel)
        assert channel.recv_nowait() is file


def test_a_handle_in_its_own_process_is_the_same_channel():
    channel = td.Channel(1)
    other = pickle.loads(pickle.dumps(channel))
    other.send_nowait("same")
    assert channel.recv_nowait() == "same"
    assert copy.copy(channel).capacity == 1


def test_an_iteration_ends_for_all_receivers(pool):
    channel = td.Channel(16)
    tasks = [pool.go(receive_all, channel) for _ in range(2)]
    send_all(channel, range(200))
    received = [task.result(PATIENCE) for task in tasks]
    assert sorted(received[0] + received[1]) == list(range(200))
    assert all(part == sorted(part) for part in received)


def test_who_waits_for_another_process_is_no_deadlock(pool):
    channel = td.Channel()
    pool.go(lambda channel: channel.send("late").wait(PATIENCE), channel)

    async def main():
        return await channel.recv()

    assert td.run(main()) == "late"


def test_a_channel_whose_worker_has_ended_says_so():
    with Workers(1) as own:
        channel = own.go(lambda: td.Channel(1)).result(PATIENCE)
        channel.send(1).wait(PATIENCE)

        async def iterate():
            async for _ in channel:
                pass

        reader = own.go(os.getpid).result(PATIENCE)
    with pytest.raises(td.ChannelBroken, match=f"process {reader}"):
        # What had come here may be received; then it is broken, which is not the end of an iteration.
        td.run(iterate())
    with pytest.raises(td.ChannelBroken):
        channel.send(2).wait(PATIENCE)
    assert channel.closed


def test_nothing_is_left_of_channels_of_requests(pool):
    """A long-lived program gives each task a channel of its own."""
    from thistledown import _core

    def answer(reply, number):
        reply.send(number).wait(PATIENCE)

    kept = td.Channel(1)
    pickle.dumps(kept)  # the exchange stays
    for number in range(50):
        reply = td.Channel(1)
        task = pool.go(answer, reply, number)
        assert reply.recv().wait(PATIENCE) == number
        task.result(PATIENCE)
    del reply, task
    gc.collect()
    eventually(lambda: _core._shared_objects() == 1, "channels of tasks that have ended are kept")


def looks_at(channel):
    waiting = threading.Thread(target=receives, args=(channel,), name="receiver")
    waiting.start()
    eventually(lambda: td.tree().of_kind("channel"), "nobody waits")
    [node] = td.tree().of_kind("channel")
    channel.send_nowait("enough")
    waiting.join()
    return node.name, node.state


def receives(channel):
    channel.recv().wait(PATIENCE)


def test_what_lies_in_a_channel_of_another_process_is_asked_of_nobody_by_a_tree(pool):
    channel = td.Channel(5)
    name, state = pool.go(looks_at, channel).result(PATIENCE)
    assert name.endswith(f" of process {os.getpid()}")
    assert state == "open, capacity 5"


def back(value):
    return value


def test_a_handle_that_comes_home_is_equal_to_the_one_that_went(pool):
    channel, other = td.Channel(1), td.Channel(1)
    known = {channel: "known"}
    home = pool.go(back, channel).result(PATIENCE)
    assert home == channel
    assert hash(home) == hash(channel)
    assert known[home] == "known"
    assert home != other
    assert home != pool.go(back, other).result(PATIENCE)


def are_equal(one, two):
    return one == two and hash(one) == hash(two) and one != td.Channel(1)


def test_two_handles_to_one_channel_are_equal_elsewhere_too(pool):
    channel = td.Channel(1)
    carrier = td.Channel(1)
    carrier.send_nowait(channel)
    assert pool.go(lambda one, carrier: are_equal(one, carrier.recv().wait(PATIENCE)), channel, carrier).result(
        PATIENCE
    )


def total(channel):
    return sum(channel)


def test_a_plain_function_in_a_worker_iterates(pool):
    channel = td.Channel(2)
    task = pool.go(total, channel)
    for number in range(10):
        channel.send(number).wait(PATIENCE)
    channel.close()
    assert task.result(PATIENCE) == 45


def test_what_was_not_sent_keeps_nothing(pool):
    """A channel in a message that was refused, or given up, is let go with the message."""
    full = td.Channel(1)
    pool.go(lambda channel: channel.send(1).wait(PATIENCE), full).result(PATIENCE)
    kept = _core._shared_objects()
    for _ in range(20):
        with pytest.raises(td.ChannelFull):
            full.send_nowait(td.Channel(1))
        with pytest.raises(TimeoutError):
            full.send(td.Channel(1)).wait(0.001)
    gc.collect()
    eventually(lambda: _core._shared_objects() == kept, "channels in messages that were not sent are kept")


def test_what_was_not_sent_from_a_worker_keeps_nothing(pool):
    full = td.Channel(1)
    full.send_nowait(1)

    def refused(channel):
        kept = _core._shared_objects()
        for _ in range(20):
            with pytest.raises(td.ChannelFull):
                channel.send_nowait(td.Channel(1))
            with pytest.raises(TimeoutError):
                channel.send(td.Channel(1)).wait(0.001)
        gc.collect()
        eventually(lambda: _core._shared_objects() == kept, "channels in messages that were not sent are kept")

    pool.go(refused, full).result(PATIENCE)


def _stands_still(process):
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_signal_is_heard_while_the_process_of_a_channel_does_not_answer(pool):
    class Heard(Exception):
        pass

    def hear(number, frame):
        raise Heard

    def make():
        return os.getpid(), td.Channel(3)

    with Workers(1) as own:
        process, channel = own.go(make).result(PATIENCE)
        before = signal.signal(signal.SIGALRM, hear)
        try:
            for act in (lambda: len(channel), lambda: channel.recv_nowait()):
                os.kill(process, signal.SIGSTOP)
                eventually(lambda: _stands_still(process), "it does not stand still")
                signal.setitimer(signal.ITIMER_REAL, 0.2)
                with pytest.raises(Heard):
                    act()
                os.kill(process, signal.SIGCONT)
            assert len(channel) == 0
        finally:
            signal.signal(signal.SIGALRM, before)
            os.kill(process, signal.SIGCONT)


def shared():
    """A channel that other processes may have; and the exchange stays as long as it."""
    channel = td.Channel(4)
    pickle.dumps(channel)
    return channel


def is_flat(kept, words):
    gc.collect()
    eventually(lambda: _core._shared_objects() == kept, words)


def test_what_lies_in_a_channel_that_is_dropped_keeps_nothing(pool):
    anchor = shared()
    kept = _core._shared_objects()
    for is_closed in [False, True] * 50:
        carrier = shared()
        for message in (
            td.Channel(1),
            {"reply": td.Channel(1)},
            (td.Channel(1), lambda: None),
            ["x" * 40_000, td.Channel(1)],
        ):
            carrier.send_nowait(message)
        if is_closed:
            carrier.close()
    del carrier, message
    is_flat(kept, "channels in messages that nobody will receive are kept")
    assert not anchor.closed


def test_what_lay_in_a_channel_before_it_was_shared_is_let_go_with_it():
    anchor = shared()
    kept = _core._shared_objects()
    carrier = td.Channel(1)
    carrier.send_nowait(td.Channel(1))
    pickle.dumps(carrier)
    assert _core._shared_objects() > kept
    del carrier
    is_flat(kept, "a channel that lay there before is kept")
    assert not anchor.closed


def test_channels_that_lie_in_each_other_are_let_go_with_the_outermost():
    anchor = shared()
    kept = _core._shared_objects()
    outermost = shared()
    innermost = outermost
    for _ in range(2_000):
        inner = shared()
        innermost.send_nowait(inner)
        innermost = inner
    del inner, innermost
    assert _core._shared_objects() > kept + 1_000
    del outermost
    is_flat(kept, "channels that lie in others are kept")
    assert not anchor.closed


def test_what_a_worker_has_sent_into_a_channel_that_is_dropped_keeps_nothing_there():
    def sends(carrier):
        carrier.send(td.Channel(1)).wait(PATIENCE)

    def counts(anchor):
        return _core._shared_objects()

    with Workers(1) as own:
        anchor = shared()
        carriers = [shared() for _ in range(20)]
        for carrier in carriers:
            own.go(sends, carrier).result(PATIENCE)
        assert own.go(counts, anchor).result(PATIENCE) >= 20
        del carriers, carrier
        gc.collect()
        eventually(lambda: own.go(counts, anchor).result(PATIENCE) == 0, "the worker's channels are kept")


def test_what_was_received_is_not_let_go_with_the_channel_that_it_lay_in(pool):
    """However near the end of the one is to the use of the other."""

    def answers(carrier):
        for _ in range(50):
            inner = carrier.recv().wait(PATIENCE)
            reply = inner.recv().wait(PATIENCE)
            del inner
            reply.send("answer").wait(PATIENCE)

    carrier = shared()
    task = pool.go(answers, carrier)
    for _ in range(50):
        inner, reply = td.Channel(1), td.Channel(1)
        inner.send_nowait(reply)
        carrier.send(inner).wait(PATIENCE)
        del inner
        assert reply.recv().wait(PATIENCE) == "answer"
    task.result(PATIENCE)


def test_what_was_packed_in_another_way_at_last_keeps_nothing_when_it_was_received(pool):
    """A lambda cannot be pickled as other values are, which is seen when the channel before it was."""
    anchor = shared()
    kept = _core._shared_objects()

    def receives(carrier):
        return [carrier.recv().wait(PATIENCE)[1]() for _ in range(20)]

    carrier = td.Channel(4)
    task = pool.go(receives, carrier)
    for number in range(20):
        carrier.send((td.Channel(1), lambda number=number: number)).wait(PATIENCE)
    assert task.result(PATIENCE) == list(range(20))
    del carrier, task
    is_flat(kept, "channels in messages that were received are kept")
    assert not anchor.closed


def test_a_result_that_nobody_reads_keeps_nothing(pool):
    anchor = shared()
    kept = _core._shared_objects()

    def returns(channel):
        return {"channel": channel}

    tasks = [pool.go(returns, td.Channel(1)) for _ in range(20)]
    assert pool.wait_idle(PATIENCE)
    assert [type(task.result(PATIENCE)["channel"]) for task in tasks[:10]] == [td.Channel] * 10
    del tasks
    is_flat(kept, "channels in results are kept")
    assert not anchor.closed


def makes():
    return td.Channel(1)


def counts():
    return _core._shared_objects()


@pytest.mark.parametrize("is_held", [True, False], ids=["held", "unheld"])
def test_a_result_that_nobody_reads_keeps_nothing_where_it_was_made(is_held):
    """The program has shared nothing itself."""
    with Workers(1) as own:
        tasks = [task for task in map(own.go, [makes] * 20) if is_held]
        assert own.wait_idle(PATIENCE)
        if is_held:
            assert own.go(counts).result(PATIENCE) == 20
        tasks.clear()
        eventually(lambda: own.go(counts).result(PATIENCE) == 0, "the worker's channels are kept")


def test_what_a_task_returns_that_was_cancelled_keeps_nothing(tmp_path):
    begun = tmp_path / "begun"

    def swallows():
        begun.touch()
        try:
            while True:
                time.sleep(0.001)
        except BaseException:
            return td.Channel(1)

    with Workers(1, grace=PATIENCE) as own:
        task = own.go(swallows)
        eventually(begun.exists, "it has not begun")
        task.cancel()
        assert own.wait_idle(PATIENCE)
        assert task.cancelled()
        eventually(lambda: own.go(counts).result(PATIENCE) == 0, "the worker's channel is kept")
