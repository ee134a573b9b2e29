"""Turns: ready tasks run in order, and a task that never waits is made to yield after a budget."""

import pytest
import thistledown as td

from support import settle

ENOUGH = 1_000_000  # operations; far beyond any sensible budget


async def test_ready_tasks_run_in_the_order_in_which_they_were_told_to_go():
    order = []

    async def body(number):
        order.append(number)

    for number in range(100):
        td.go(body, number)
    await settle()
    assert order == list(range(100))


@pytest.mark.parametrize("count", [2, 10, 100])
async def test_tasks_that_give_way_take_turns(count):
    order = []

    async def body(number):
        for _ in range(5):
            order.append(number)
            await td.sleep(0)

    async with td.TaskGroup() as group:
        for number in range(count):
            group.go(body, number)
    assert order == list(range(count)) * 5


async def test_tasks_are_woken_in_the_order_of_their_events():
    order, channels = [], [td.Channel(1) for _ in range(10)]

    async def body(number):
        await channels[number].recv()
        order.append(number)

    async with td.TaskGroup() as group:
        for number in range(10):
            group.go(body, number)
        await settle()
        for number in (3, 1, 4, 5, 9, 2, 6, 0, 8, 7):
            channels[number].send_nowait(None)
    assert order == [3, 1, 4, 5, 9, 2, 6, 0, 8, 7]


@pytest.mark.virtual_clock
async def test_pauses_end_in_the_order_of_their_length_and_equal_ones_in_the_order_they_began():
    order = []

    async def body(number, seconds):
        await td.sleep(seconds)
        order.append((seconds, number))

    async with td.TaskGroup() as group:
        for number in range(300):
            group.go(body, number, (number * 7919) % 10)
    assert order == sorted(order)
    assert len(order) == 300


async def test_an_operation_that_completes_at_once_does_not_give_way():
    order, channel = [], td.Channel(4)

    async def other():
        order.append("other")

    td.go(other)
    await channel.send(1)
    await channel.recv()
    order.append("still here")
    await td.sleep(0)
    assert order == ["still here", "other"]


def channel_operations():
    channel = td.Channel(1)

    async def spin():
        await channel.send(1)
        await channel.recv()

    return spin


def select_operations():
    channel = td.Channel(1)
    channel.send_nowait(1)
    full = td.Channel(1)
    full.send_nowait(1)

    async def spin():
        await td.select(full.send(1), channel.recv())
        await channel.send(1)

    return spin


def finished_task():
    task = td.go(td.sleep(0))

    async def spin():
        await task

    return spin


def pauses_that_have_passed():
    passed = td.after(0)

    async def spin():
        await passed

    return spin


@pytest.mark.parametrize("make", [channel_operations, select_operations, finished_task, pauses_that_have_passed])
async def test_a_task_that_never_waits_is_made_to_yield(make):
    spin, rounds, stopped = make(), 0, False

    async def spinner():
        nonlocal rounds
        while not stopped and rounds < ENOUGH:
            await spin()
            rounds += 1

    async def stopper():
        nonlocal stopped
        stopped = True

    async with td.TaskGroup() as group:
        group.go(spinner)
        group.go(stopper)
    assert rounds < ENOUGH


async def test_a_reader_whose_peer_never_pauses_is_made_to_yield(unix_pair):
    near, far = unix_pair
    rounds, stopped = 0, False

    async def reader():
        nonlocal rounds
        while not stopped and rounds < ENOUGH:
            far.send(b"x")
            await near.recv(1)
            rounds += 1

    async def stopper():
        nonlocal stopped
        stopped = True

    async with td.TaskGroup() as group:
        group.go(reader)
        group.go(stopper)
    assert rounds < ENOUGH


async def test_two_that_only_wake_each_other_do_not_starve_a_pause():
    left, right = td.Channel(), td.Channel()
    rounds, stopped = 0, False

    async def left_side():
        nonlocal rounds
        while not stopped and rounds < ENOUGH:
            await left.send(None)
            await right.recv()
            rounds += 1
        left.close()

    async def right_side():
        async for _ in left:
            await right.send(None)

    async with td.TaskGroup() as group:
        group.go(left_side)
        group.go(right_side)
        await td.sleep(0.001)
        stopped = True
    assert 0 < rounds < ENOUGH


async def test_tasks_that_are_always_ready_do_not_starve_a_socket(unix_pair):
    near, far = unix_pair
    rounds, stopped = 0, False

    async def busy():
        nonlocal rounds
        while not stopped and rounds < ENOUGH:
            await td.sleep(0)
            rounds += 1

    async with td.TaskGroup() as group:
        for _ in range(3):
            group.go(busy)
        await settle()
        reading = group.go(near.recv(10))
        await settle()
        far.send(b"data")
        assert await reading == b"data"
        stopped = True
    assert rounds < ENOUGH


async def test_tasks_that_are_always_ready_do_not_starve_another_thread():
    rounds, stopped = 0, False

    async def busy():
        nonlocal rounds
        while not stopped and rounds < ENOUGH:
            await td.sleep(0)
            rounds += 1

    async with td.TaskGroup() as group:
        group.go(busy)
        assert await td.thread(str, 1) == "1"
        stopped = True
    assert rounds < ENOUGH


async def test_two_consumers_of_one_stream_share_it_evenly():
    channel, counts = td.Channel(8), [0, 0]

    async def consume(number):
        async for _ in channel:
            counts[number] += 1
            await td.sleep(0)

    async with td.TaskGroup() as group:
        group.go(consume, 0)
        group.go(consume, 1)
        for number in range(1000):
            await channel.send(number)
        channel.close()
    assert sum(counts) == 1000
    assert min(counts) > 300
