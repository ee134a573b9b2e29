"""`td.select`: commits to exactly one branch, the first that is ready, and undoes the rest."""

import itertools

import pytest
import thistledown as td

from support import PATIENCE, settle


def loaded(*values):
    channel = td.Channel(max(len(values), 1))
    for value in values:
        channel.send_nowait(value)
    return channel


async def test_the_choice_is_a_named_tuple_of_index_and_value():
    chosen = await td.select(td.Channel().recv(), loaded("value").recv())
    assert isinstance(chosen, td.Selected)
    assert isinstance(chosen, tuple)
    assert (chosen.index, chosen.value) == chosen == (1, "value")


@pytest.mark.parametrize("ready", [ready for ready in itertools.product([0, 1], repeat=3) if any(ready)])
async def test_the_first_ready_branch_in_argument_order_is_chosen(ready):
    channels = [loaded(index) if is_ready else td.Channel(1) for index, is_ready in enumerate(ready)]
    first = ready.index(1)
    assert await td.select(*[channel.recv() for channel in channels]) == (first, first)
    left = [len(channel) for channel in channels]
    assert left == [is_ready if index != first else 0 for index, is_ready in enumerate(ready)]


@pytest.mark.parametrize("winner", range(4))
async def test_whichever_branch_completes_first_is_chosen(winner):
    channels = [td.Channel() for _ in range(4)]
    choosing = td.go(td.select(*[channel.recv() for channel in channels]))
    await settle()
    channels[winner].send_nowait("value")
    for channel in channels:
        with pytest.raises(td.ChannelFull):  # nobody receives here any more
            channel.send_nowait("second")
    assert await choosing == (winner, "value")


async def test_two_choices_that_face_each_other_commit_to_one_exchange():
    left, right = td.Channel(), td.Channel()
    one = td.go(td.select(left.send("from one"), right.recv()))
    two = td.go(td.select(right.send("from two"), left.recv()))
    outcomes = {await one, await two}
    assert outcomes in ({(0, None), (1, "from one")}, {(0, None), (1, "from two")})
    for channel in (left, right):
        with pytest.raises(td.ChannelEmpty):
            channel.recv_nowait()


@pytest.mark.virtual_clock
async def test_a_choice_does_not_meet_itself():
    channel = td.Channel()
    chosen = await td.select(channel.send("to myself"), channel.recv(), td.after(1))
    assert chosen == (2, None)


async def test_a_crowd_of_choices_pairs_off_without_loss():
    channel, received = td.Channel(), []

    async def offer(value):
        chosen = await td.select(channel.send(value), channel.recv())
        received.extend([chosen.value] if chosen.index else [])

    async with td.TaskGroup() as group:
        for value in range(100):
            group.go(offer, value)
    assert len(received) == len(set(received)) == 50


async def test_a_send_branch_that_loses_sends_nothing():
    full, other = td.Channel(1), td.Channel(1)
    full.send_nowait("old")
    choosing = td.go(td.select(full.send("new"), other.recv()))
    await settle()
    other.send_nowait("value")
    assert await choosing == (1, "value")
    assert full.recv_nowait() == "old"
    with pytest.raises(td.ChannelEmpty):
        full.recv_nowait()


@pytest.mark.parametrize("operations", [(), (1,), (None,), (lambda: None,), ("recv",)])
async def test_a_choice_needs_operations(operations):
    with pytest.raises((TypeError, ValueError), match="operation"):
        await td.select(*operations)


async def test_a_coroutine_is_no_operation_and_the_error_says_go():
    async def body():
        return 1

    coroutine = body()
    with pytest.raises(TypeError, match=r"go"):
        td.select(coroutine)
    coroutine.close()


async def test_sendall_is_refused_because_it_cannot_be_undone(tcp_pair):
    near, _ = tcp_pair
    with pytest.raises(TypeError, match=r"send\b"):
        await td.select(near.sendall(b"data"), td.after(1))


async def test_tasks_stand_among_operations():
    gate = td.Channel(1)

    async def body():
        return await gate.recv()

    task, channel = td.go(body), td.Channel(1)
    channel.send_nowait("first")
    assert await td.select(task, channel.recv()) == (1, "first")
    gate.send_nowait("second")
    assert await td.select(task, channel.recv()) == (0, "second")
    assert await td.select(channel.recv(), task) == (1, "second")


async def test_the_error_of_the_chosen_branch_is_raised():
    async def body():
        raise ValueError("from the task")

    with pytest.raises(ValueError, match="from the task"):
        await td.select(td.go(body), td.Channel().recv())
    closed = td.Channel()
    closed.close()
    with pytest.raises(td.ChannelClosed):
        await td.select(td.Channel().recv(), closed.recv())


async def test_the_error_of_a_branch_that_was_not_chosen_is_not_raised():
    closed = td.Channel()
    closed.close()
    assert await td.select(loaded("value").recv(), closed.recv()) == (0, "value")


async def test_a_cancelled_task_among_the_branches_raises_task_cancelled():
    task = td.go(td.Channel().recv())
    choosing = td.go(td.select(task, td.Channel().recv()))
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await choosing


async def test_one_operation_may_stand_twice():
    operation = loaded("a", "b").recv()
    assert await td.select(operation, operation) == (0, "a")
    assert await td.select(td.Channel().recv(), operation, operation) == (1, "b")


async def test_nested_choices_keep_the_order_of_their_arguments():
    a, b, c = (td.Channel(1) for _ in range(3))
    nested = td.select(td.select(a.recv(), b.recv()), c.recv())
    for channel in (c, b, a):
        channel.send_nowait("x")
    assert await nested == (0, (0, "x"))
    assert await nested == (0, (1, "x"))
    assert await nested == (1, "x")


async def test_undoing_a_nested_choice_undoes_all_of_it():
    a, b, c = (td.Channel() for _ in range(3))
    choosing = td.go(td.select(td.select(a.recv(), b.recv()), c.recv()))
    await settle()
    c.send_nowait("x")
    for channel in (a, b, c):
        with pytest.raises(td.ChannelFull):
            channel.send_nowait("nobody there")
    assert await choosing == (1, "x")


async def test_a_thousand_branches():
    channels = [td.Channel() for _ in range(1000)]
    choosing = td.go(td.select(*[channel.recv() for channel in channels]))
    await settle()
    channels[777].send_nowait("value")
    assert await choosing == (777, "value")
    choosing = td.go(td.select(*[channel.recv() for channel in channels]))
    await settle()
    choosing.cancel()
    await settle()
    for channel in channels:
        with pytest.raises(td.ChannelFull):
            channel.send_nowait("nobody there")


# --- pauses among the branches ------------------------------------------------------------------------------


@pytest.mark.virtual_clock
async def test_the_shorter_pause_wins():
    assert (await td.select(td.sleep(3), td.sleep(1), td.after(2))).index == 1


@pytest.mark.virtual_clock
async def test_after_counts_from_when_it_was_made_so_one_is_a_deadline_for_a_whole_loop():
    ticks = td.Channel()

    async def tick():
        while True:
            await td.sleep(3)
            await ticks.send("tick")

    ticking = td.go(tick)
    deadline, seen = td.after(10), 0
    while (await td.select(ticks.recv(), deadline)).index == 0:
        seen += 1
    assert seen == 3
    assert await td.select(deadline, td.sleep(0)) == (0, None)  # a deadline that has passed stays passed
    ticking.cancel()


@pytest.mark.virtual_clock
async def test_sleep_counts_from_when_it_is_waited_for():
    ticks = td.Channel()

    async def tick():
        for _ in range(4):
            await td.sleep(3)
            await ticks.send("tick")

    td.go(tick)
    pause, seen = td.sleep(4), 0
    while (await td.select(ticks.recv(), pause)).index == 0:
        seen += 1
    assert seen == 4


async def test_a_plain_thread_chooses_too():
    channel = td.Channel()
    choosing = td.go(td.thread(td.select(td.Channel().recv(), channel.recv()).wait, PATIENCE))
    await channel.send("value")
    assert await choosing == (1, "value")


def test_a_choice_in_a_plain_thread_times_out_and_leaves_nothing():
    one, two = td.Channel(), td.Channel()
    with pytest.raises(TimeoutError):
        td.select(one.recv(), two.recv()).wait(0.01)
    for channel in (one, two):
        with pytest.raises(td.ChannelFull):
            channel.send_nowait("nobody there")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda: [td.sleep(1)], r"write `td\.select\(\*operations\)`"),
        (lambda: (td.sleep(1),), r"write `td\.select\(\*operations\)`"),
        (td.Channel, r"write `channel\.recv\(\)`"),
        (td.Space, r"write `space\.take\(template\)`"),
    ],
)
def test_what_stands_for_operations_is_told_what_to_write(given, words):
    with pytest.raises(TypeError, match=words):
        td.select(given())


async def test_what_was_called_already_is_told_what_to_write():
    with pytest.raises(TypeError, match=r"`td\.go\(function, 3\)` and not `td\.go\(function\(3\)\)`"):
        td.go(len("abc"))
