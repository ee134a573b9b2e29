"""What is over is let go: payloads, bodies and errors die with the last reference, and none is kept by the engine."""

import contextlib
import contextvars
import gc
import logging
import socket
import threading

import pytest
import thistledown as td

from support import PATIENCE, settle


class Token:
    """Something that tells how many of its kind are alive."""

    alive = 0

    def __init__(self):
        Token.alive += 1

    def __del__(self):
        Token.alive -= 1


async def parked():
    token = Token()
    await td.Channel().recv()
    return token


async def failing():
    raise ValueError(Token())


async def received():
    channel = td.Channel(1)
    await channel.send(Token())
    await channel.recv()


async def left_in_a_channel():
    channel = td.Channel(2)
    await channel.send(Token())
    channel.send_nowait(Token())
    channel.close()


async def cancelled_send():
    task = td.go(td.Channel().send(Token()))
    await settle(2)
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task


async def lost_branch():
    one, two = td.Channel(), td.Channel(1)
    choosing = td.go(td.select(one.send(Token()), two.recv()))
    await settle(2)
    two.send_nowait(Token())
    await choosing


async def result_of_a_task():
    async def body():
        return Token()

    await td.go(body)


async def error_of_a_task():
    with pytest.raises(ValueError, match="Token"):
        await td.go(failing)


async def error_that_was_looked_at():
    task = td.go(failing)
    await settle(2)
    assert isinstance(task.exception(), ValueError)


async def errors_of_a_group():
    async def failing_in_turn():
        try:
            await parked()
        finally:
            await failing()

    with pytest.raises(ExceptionGroup):
        async with td.TaskGroup() as group:
            group.go(parked)
            group.go(failing_in_turn)
            await settle(2)
            group.go(failing)


async def cancelled_task():
    task = td.go(parked)
    await settle(2)
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task


async def never_started_task():
    async def body(token):
        return token

    task = td.go(body, Token())
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task


async def timed_out_body():
    with td.move_on_after(0):
        await parked()


async def done_callback():
    token = Token()
    task = td.go(td.sleep(0))
    task.add_done_callback(lambda _: token)
    await task


async def call_in_a_thread():
    token = Token()
    await td.thread(lambda: token)
    with pytest.raises(ValueError, match="Token"):
        await td.thread(failing_call)


def failing_call():
    raise ValueError(Token())


async def other_side_of_a_switch():
    async def other():
        token = Token()
        await td.sleep(0)
        return token

    await td.switch(other())


async def suspended_side_of_a_switch():
    def main():
        yield from td.switch(other)

    def other():
        token = Token()
        yield from td.switch(first, token)

    first, other = main(), other()
    await td.go(first)


async def buffer_of_a_socket():
    near, far = socket.socketpair()
    with td.Socket(near) as stream, far:
        stream.token = Token()
        reading = td.go(stream.readline())
        await settle(2)
        reading.cancel()
        with pytest.raises(td.TaskCancelled):
            await reading


async def value_of_a_context():
    variable = contextvars.ContextVar("variable")

    async def body():
        variable.set(Token())
        await td.sleep(0)

    await td.go(body)


def runs_that_failed():
    async def main():
        td.go(parked)
        await settle(2)
        raise ValueError(Token())

    with pytest.raises(ValueError, match="Token"):
        td.run(main)


def waits_in_a_plain_thread():
    channel = td.Channel(1)
    channel.send(Token()).wait(PATIENCE)
    channel.recv().wait(PATIENCE)
    with pytest.raises(TimeoutError):
        td.Channel().send(Token()).wait(0)


async def left_a_space():
    space, token = td.Space(), Token()
    transaction = space.transaction()
    for operation in (space.take(("none",)), space.watch().recv(), transaction.take(("none",))):
        task = td.go(td.select(operation, td.Channel().send(token)))
        await settle(2)
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task
    await space.write(("some",))
    await space.take(("some",), lease=60)


def runs_in_other_threads():
    thread = threading.Thread(target=td.run, args=(result_of_a_task,))
    thread.start()
    thread.join()


STORIES = [
    received,
    left_in_a_channel,
    left_a_space,
    cancelled_send,
    lost_branch,
    result_of_a_task,
    error_of_a_task,
    error_that_was_looked_at,
    errors_of_a_group,
    cancelled_task,
    never_started_task,
    timed_out_body,
    done_callback,
    call_in_a_thread,
    other_side_of_a_switch,
    suspended_side_of_a_switch,
    buffer_of_a_socket,
    value_of_a_context,
    runs_that_failed,
    waits_in_a_plain_thread,
    runs_in_other_threads,
]


@pytest.mark.parametrize("story", STORIES)
def test_nothing_of_what_is_over_is_kept(story):
    run = story if story.__name__.startswith(("runs", "waits")) else lambda: td.run(story)
    gc.collect()
    before = Token.alive
    for _ in range(20):
        run()
    gc.collect()
    assert Token.alive == before


@pytest.mark.parametrize("story", STORIES)
def test_a_story_told_again_costs_no_further_objects(story):
    run = story if story.__name__.startswith(("runs", "waits")) else lambda: td.run(story)
    counts = []
    for _ in range(3):
        for _ in range(30):
            run()
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert counts[2] - counts[1] < 30


def test_a_parked_task_in_a_reference_cycle_is_not_collected_while_it_lives():
    channel = td.Channel()

    async def body(own):
        own.append(token := Token())
        value = await channel.recv()
        return value, token

    async def main():
        cycle = []
        cycle.append(cycle)
        td.go(body, cycle).add_done_callback(lambda task: results.append(task.result()[0]))
        del cycle
        await settle(2)
        gc.collect()
        await channel.send("still there")

    results = []
    td.run(main)
    assert results == ["still there"]


def test_an_unawaited_operation_is_no_warning_and_no_leak(recwarn, caplog):
    gc.collect()
    before = Token.alive
    with caplog.at_level(logging.DEBUG):
        channel = td.Channel(1)
        channel.send(Token())
        channel.recv()
        td.select(channel.recv(), td.after(5))
        td.sleep(1)
        with contextlib.suppress(td.ChannelEmpty):
            channel.recv_nowait()
        gc.collect()
    assert Token.alive == before
    assert list(recwarn) == []
    assert caplog.records == []
