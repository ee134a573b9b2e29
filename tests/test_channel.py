"""Channels: rendezvous and bounded, first come first served, closing, iteration, threads at either end."""

import copy
import gc
import itertools
import queue
import threading

import pytest
import thistledown as td

from support import PATIENCE, settle


async def receive_into(log, channel, name):
    log.append((name, await channel.recv()))


async def send_and_log(log, channel, value):
    await channel.send(value)
    log.append(value)


# --- rendezvous ---------------------------------------------------------------------------------------------


async def test_a_rendezvous_send_waits_until_somebody_receives():
    channel, log = td.Channel(), []
    sender = td.go(send_and_log, log, channel, "value")
    await settle()
    assert log == []
    assert await channel.recv() == "value"
    await sender
    assert log == ["value"]


async def test_a_rendezvous_send_nowait_needs_a_waiting_receiver():
    channel, log = td.Channel(), []
    with pytest.raises(td.ChannelFull):
        channel.send_nowait("too early")
    receiver = td.go(receive_into, log, channel, "receiver")
    await settle()
    channel.send_nowait("value")
    with pytest.raises(td.ChannelFull):
        channel.send_nowait("one too many")
    await receiver
    assert log == [("receiver", "value")]


async def test_a_rendezvous_recv_nowait_needs_a_waiting_sender():
    channel, log = td.Channel(), []
    with pytest.raises(td.ChannelEmpty):
        channel.recv_nowait()
    sender = td.go(send_and_log, log, channel, "value")
    await settle()
    assert channel.recv_nowait() == "value"
    with pytest.raises(td.ChannelEmpty):
        channel.recv_nowait()
    await sender
    assert log == ["value"]


# --- bounded ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capacity", "error", "words"),
    [
        (-1, ValueError, "must be a whole number >= 0, got -1"),
        (-(10**30), ValueError, "must be a whole number >= 0, got -1000"),
        (10**30, ValueError, f"can be {2**63 - 1} at most"),
        (1.5, TypeError, r"must be a whole number >= 0, got 1\.5"),
        (None, TypeError, "must be a whole number >= 0, got None"),
    ],
)
def test_an_impossible_capacity_is_refused(capacity, error, words):
    with pytest.raises(error, match=f"capacity {words}"):
        td.Channel(capacity)


@pytest.mark.parametrize("capacity", [1, 2, 5, 64])
async def test_a_bounded_channel_takes_its_capacity_and_no_more(capacity):
    channel = td.Channel(capacity)
    for number in range(capacity):
        assert len(channel) == number
        await channel.send(number)
    assert (len(channel), channel.capacity) == (capacity, capacity)
    with pytest.raises(td.ChannelFull):
        channel.send_nowait("too much")
    log = []
    sender = td.go(send_and_log, log, channel, capacity)
    await settle()
    assert (log, len(channel)) == ([], capacity)
    assert [channel.recv_nowait() for _ in range(capacity + 1)] == list(range(capacity + 1))
    await sender
    with pytest.raises(td.ChannelEmpty):
        channel.recv_nowait()


def test_a_channel_without_a_capacity_is_a_rendezvous():
    assert td.Channel().capacity == 0
    assert len(td.Channel()) == 0


@pytest.mark.parametrize("value", [None, False, 0, "", StopIteration(), td.ChannelClosed])
async def test_any_value_goes_through_a_channel_as_it_is(value):
    channel = td.Channel(1)
    await channel.send(value)
    assert await channel.recv() is value


@pytest.mark.parametrize(
    ("capacity", "error"),
    [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, TypeError), (float("inf"), TypeError)],
)
def test_a_capacity_is_a_whole_number_not_below_zero(capacity, error):
    with pytest.raises(error, match="capacity"):
        td.Channel(capacity)


@pytest.mark.parametrize("number_of_tasks", [1, 3])
@pytest.mark.parametrize("capacity", [0, 1, 7])
async def test_a_stream_arrives_complete_and_in_order(capacity, number_of_tasks):
    channel, received = td.Channel(capacity), []

    async def produce(name):
        for number in range(50):
            await channel.send((name, number))

    def consume():
        for _ in range(50 * number_of_tasks):
            received.append((yield from channel.recv()))

    async with td.TaskGroup() as group:
        group.go(consume)
        for name in range(number_of_tasks):
            group.go(produce, name)
    for name in range(number_of_tasks):
        assert [number for sender, number in received if sender == name] == list(range(50))
    assert len(received) == 50 * number_of_tasks


# --- first come, first served -------------------------------------------------------------------------------


async def test_waiting_receivers_are_served_in_the_order_they_came():
    channel, log = td.Channel(), []
    receivers = []
    for name in range(5):
        receivers.append(td.go(receive_into, log, channel, name))
        await settle()
    for value in "abcde":
        await channel.send(value)
    for receiver in receivers:
        await receiver
    assert log == list(enumerate("abcde"))


@pytest.mark.parametrize("capacity", [0, 2])
async def test_waiting_senders_are_served_in_the_order_they_came(capacity):
    channel, log = td.Channel(capacity), []
    senders = [td.go(send_and_log, log, channel, value) for value in range(6)]
    await settle()
    assert [await channel.recv() for _ in range(6)] == list(range(6))
    for sender in senders:
        await sender
    assert log == list(range(6))


@pytest.mark.parametrize("capacity", [0, 2])
async def test_nobody_overtakes_a_waiting_receiver(capacity):
    channel, log = td.Channel(capacity), []
    receiver = td.go(receive_into, log, channel, "first")
    await settle()
    channel.send_nowait("value")
    with pytest.raises(td.ChannelEmpty):  # the receiver has not run yet, but the value is already its own
        channel.recv_nowait()
    await receiver
    assert log == [("first", "value")]


async def test_nobody_overtakes_a_waiting_sender():
    channel, log = td.Channel(1), []
    channel.send_nowait("first")
    sender = td.go(send_and_log, log, channel, "second")
    await settle()
    assert channel.recv_nowait() == "first"
    with pytest.raises(td.ChannelFull):  # the place that became free belongs to the sender that waited
        channel.send_nowait("third")
    await sender
    assert channel.recv_nowait() == "second"


async def test_a_receiver_that_leaves_the_queue_does_not_hold_up_those_behind_it():
    channel, log = td.Channel(), []
    receivers = [td.go(receive_into, log, channel, name) for name in range(4)]
    await settle()
    for name in (0, 2):
        receivers[name].cancel()
    await settle()
    await channel.send("a")
    await channel.send("b")
    await receivers[1]
    await receivers[3]
    assert log == [(1, "a"), (3, "b")]


async def test_a_sender_that_leaves_the_queue_takes_its_value_along():
    channel, log = td.Channel(1), []
    channel.send_nowait("buffered")
    senders = [td.go(send_and_log, log, channel, value) for value in range(4)]
    await settle()
    for value in (0, 2):
        senders[value].cancel()
    await settle()
    assert [await channel.recv() for _ in range(3)] == ["buffered", 1, 3]
    await settle()
    assert log == [1, 3]
    assert len(channel) == 0


# --- closing ------------------------------------------------------------------------------------------------


async def test_after_closing_receivers_get_what_is_buffered_and_then_closed():
    channel = td.Channel(3)
    for number in range(3):
        channel.send_nowait(number)
    assert not channel.closed
    channel.close()
    assert channel.closed
    assert [await channel.recv(), channel.recv_nowait(), await channel.recv()] == [0, 1, 2]
    with pytest.raises(td.ChannelClosed):
        await channel.recv()
    with pytest.raises(td.ChannelClosed):
        channel.recv_nowait()


async def test_after_closing_nobody_can_send():
    channel = td.Channel(3)
    channel.close()
    with pytest.raises(td.ChannelClosed):
        await channel.send("late")
    with pytest.raises(td.ChannelClosed):
        channel.send_nowait("late")


@pytest.mark.parametrize("capacity", [0, 2])
async def test_closing_wakes_every_waiting_receiver(capacity):
    channel = td.Channel(capacity)
    receivers = [td.go(receive_into, [], channel, name) for name in range(3)]
    await settle()
    channel.close()
    for receiver in receivers:
        with pytest.raises(td.ChannelClosed):
            await receiver


@pytest.mark.parametrize("capacity", [0, 2])
async def test_closing_wakes_every_waiting_sender_and_their_values_are_not_sent(capacity):
    channel, log = td.Channel(capacity), []
    for number in range(capacity):
        channel.send_nowait(number)
    senders = [td.go(send_and_log, log, channel, "late") for _ in range(3)]
    await settle()
    channel.close()
    for sender in senders:
        with pytest.raises(td.ChannelClosed):
            await sender
    assert log == []
    assert [value async for value in channel] == list(range(capacity))


async def test_closing_twice_is_closing_once():
    channel = td.Channel(1)
    channel.send_nowait("kept")
    channel.close()
    channel.close()
    assert channel.recv_nowait() == "kept"


def test_the_errors_of_a_channel_are_those_of_queue():
    assert issubclass(td.ChannelFull, queue.Full)
    assert issubclass(td.ChannelEmpty, queue.Empty)
    assert issubclass(td.ChannelFull, td.ThistledownError)
    assert issubclass(td.ChannelEmpty, td.ThistledownError)
    assert issubclass(td.ChannelClosed, td.ThistledownError)


# --- iteration ----------------------------------------------------------------------------------------------


async def async_collect(channel, log):
    async for value in channel:
        log.append(value)


def generator_collect(channel, log):
    while True:
        try:
            log.append((yield from channel.recv()))
        except td.ChannelClosed:
            return


@pytest.mark.parametrize("collect", [async_collect, generator_collect])
@pytest.mark.parametrize("capacity", [0, 1, 3])
async def test_iteration_ends_when_the_channel_is_closed_and_empty(capacity, collect):
    channel, log = td.Channel(capacity), []
    collecting = td.go(collect, channel, log)
    for number in range(10):
        await channel.send(number)
    channel.close()
    await collecting
    assert log == list(range(10))


@pytest.mark.parametrize("collect", [async_collect, generator_collect])
async def test_several_iterations_share_the_values_between_them(collect):
    channel, logs = td.Channel(), [[], [], []]
    async with td.TaskGroup() as group:
        for log in logs:
            group.go(collect, channel, log)
        for number in range(30):
            await channel.send(number)
        channel.close()
    assert sorted(itertools.chain(*logs)) == list(range(30))
    assert all(log == sorted(log) and log for log in logs)


# --- threads ------------------------------------------------------------------------------------------------


def start_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def send_all(channel, name, count):
    for number in range(count):
        channel.send((name, number)).wait(PATIENCE)


@pytest.mark.parametrize("capacity", [0, 1, 16])
def test_threads_at_both_ends_need_no_run(capacity):
    channel, received = td.Channel(capacity), []

    def receive_all():
        while True:
            try:
                received.append(channel.recv().wait(PATIENCE))
            except td.ChannelClosed:
                return

    receivers = [start_thread(receive_all) for _ in range(2)]
    senders = [start_thread(send_all, channel, name, 100) for name in range(3)]
    for thread in senders:
        thread.join()
    channel.close()
    for thread in receivers:
        thread.join()
    assert sorted(received) == [(name, number) for name in range(3) for number in range(100)]


@pytest.mark.parametrize("capacity", [0, 1, 16])
def test_threads_send_to_a_task_in_order(capacity):
    channel = td.Channel(capacity)

    async def main():
        return [await channel.recv() for _ in range(300)]

    senders = [start_thread(send_all, channel, name, 100) for name in range(3)]
    received = td.run(main)
    for thread in senders:
        thread.join()
    for name in range(3):
        assert [number for sender, number in received if sender == name] == list(range(100))


@pytest.mark.parametrize("capacity", [0, 1, 16])
def test_a_task_sends_to_threads(capacity):
    channel, logs = td.Channel(capacity), [[], []]

    def receive_all(log):
        while True:
            try:
                log.append(channel.recv().wait(PATIENCE))
            except td.ChannelClosed:
                return

    async def main():
        for number in range(200):
            await channel.send(number)
        channel.close()

    receivers = [start_thread(receive_all, log) for log in logs]
    td.run(main)
    for thread in receivers:
        thread.join()
    assert sorted(logs[0] + logs[1]) == list(range(200))
    assert all(log == sorted(log) for log in logs)


def test_a_thread_wakes_a_run_that_waits_for_nothing_else():
    channel, waits = td.Channel(), threading.Event()

    def send_when_it_waits():
        assert waits.wait(PATIENCE)
        while True:  # a rendezvous succeeds only when the task really waits
            try:
                return channel.send_nowait("from a thread")
            except td.ChannelFull:
                continue

    async def main():
        waits.set()
        return await channel.recv()

    thread = start_thread(send_when_it_waits)
    assert td.run(main) == "from a thread"
    thread.join()


def test_closing_in_a_thread_wakes_tasks_and_threads():
    channel, outcomes, waits = td.Channel(), [], threading.Event()

    def receive_in_thread():
        try:
            channel.recv().wait(PATIENCE)
        except td.ChannelClosed:
            outcomes.append("thread")

    def close():
        assert waits.wait(PATIENCE)
        channel.close()

    async def main():
        waits.set()
        try:
            await channel.recv()
        except td.ChannelClosed:
            outcomes.append("task")

    threads = [start_thread(receive_in_thread), start_thread(close)]
    td.run(main)
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["task", "thread"]


def test_a_wait_in_a_thread_that_timed_out_is_no_receiver_any_more():
    channel = td.Channel()
    with pytest.raises(TimeoutError):
        channel.recv().wait(0.01)
    with pytest.raises(td.ChannelFull):
        channel.send_nowait("nobody there")


def test_a_channel_outlives_the_runs_that_use_it():
    channel = td.Channel(2)

    async def send(value):
        await channel.send(value)

    async def recv():
        return await channel.recv()

    td.run(send, 1)
    td.run(send, 2)
    assert [td.run(recv), channel.recv_nowait()] == [1, 2]


def test_a_wait_that_ended_with_its_run_left_the_channel_alone():
    channel = td.Channel()

    async def main():
        td.go(channel.recv())
        await settle()
        raise ValueError("end")

    with pytest.raises(ValueError, match="end"):
        td.run(main)
    with pytest.raises(td.ChannelFull):
        channel.send_nowait("nobody there")


async def test_an_operation_that_somebody_found_is_not_made_into_another():
    channel = td.Channel(8)
    kind = type(channel.recv())
    waits = [channel.recv() for _ in range(8)]
    del waits
    found = [thing for thing in gc.get_objects() if type(thing) is kind]
    assert found
    words = [repr(operation) for operation in found]
    more = [channel.send(number) for number in range(100)]
    assert [repr(operation) for operation in found] == words
    assert not {id(operation) for operation in found} & {id(operation) for operation in more}
    for operation in more[:8]:
        await operation
    assert [await channel.recv() for _ in range(8)] == list(range(8))


async def test_a_value_that_dies_with_its_operation_may_use_the_channel():
    channel = td.Channel(8)
    done = []

    class Last:
        def __del__(self):
            channel.send_nowait("last words")
            gc.collect()
            done.append(channel.send("never sent"))

    for _ in range(3):
        channel.send(Last())
    assert len(done) == 3
    assert [await channel.recv() for _ in range(3)] == ["last words"] * 3


# --- in plain code, and as a value --------------------------------------------------------------------------


def test_plain_code_iterates_to_the_end():
    channel = td.Channel(3)
    for value in "abc":
        channel.send_nowait(value)
    channel.close()
    assert list(channel) == ["a", "b", "c"]
    assert list(channel) == []


def test_plain_code_waits_for_what_another_thread_sends():
    channel = td.Channel()

    def send():
        for number in range(5):
            channel.send(number).wait(PATIENCE)
        channel.close()

    thread = threading.Thread(target=send)
    thread.start()
    assert list(channel) == [0, 1, 2, 3, 4]
    thread.join()


async def test_a_weightless_task_is_told_to_write_async_for():
    with pytest.raises(RuntimeError, match="write `async for`"):
        for _ in td.Channel():
            pass


@pytest.mark.parametrize("made", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [td.Channel, td.Space])
def test_a_copy_is_the_same_handle(made, kind):
    one = kind()
    assert made([one])[0] is one
    assert one != kind()
    assert one == one
    assert len({one, kind()}) == 2
    assert one != "one"
