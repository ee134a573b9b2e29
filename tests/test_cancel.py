"""Cancelling: where it is raised, that cleaning up happens, and that nothing which was given is lost."""

import contextlib
import socket
import threading

import pytest
import thistledown as td

from support import PATIENCE, settle


async def parked(events, name="task"):
    try:
        await td.Channel().recv()
    except td.Cancelled:
        events.append(f"{name} cancelled")
        raise
    finally:
        events.append(f"{name} cleaned up")


def parked_generator(events, name="task"):
    try:
        yield from td.Channel().recv()
    except td.Cancelled:
        events.append(f"{name} cancelled")
        raise
    finally:
        events.append(f"{name} cleaned up")


@pytest.mark.parametrize("body", [parked, parked_generator])
async def test_cancelling_raises_cancelled_at_the_wait_and_finally_runs(body):
    events = []
    task = td.go(body, events)
    await settle()
    assert task.cancel() is True
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["task cancelled", "task cleaned up"]
    assert (task.done(), task.cancelled(), task.running()) == (True, True, False)


@pytest.mark.parametrize("body", [parked, parked_generator])
async def test_a_task_cancelled_before_it_started_never_runs(body):
    events = []
    task = td.go(body, events)
    assert task.cancel() is True
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == []
    assert task.cancelled()


async def test_a_finished_task_cannot_be_cancelled():
    async def body():
        return "value"

    task = td.go(body)
    await task
    assert task.cancel() is False
    assert (task.cancelled(), task.result()) == (False, "value")


async def test_a_cancelled_task_cannot_be_cancelled_again():
    task = td.go(parked, [])
    await settle()
    assert task.cancel() is True
    with pytest.raises(td.TaskCancelled):
        await task
    assert task.cancel() is False
    assert task.cancelled()


async def test_cancelling_twice_before_the_task_runs_is_cancelling_once():
    events = []
    task = td.go(parked, events)
    await settle()
    task.cancel()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["task cancelled", "task cleaned up"]


async def test_cancelling_while_a_cancelled_task_cleans_up_behind_a_shield_changes_nothing():
    gate, events = td.Channel(1), []

    async def body():
        try:
            await td.Channel().recv()
        finally:
            with td.shield():
                events.append(await gate.recv())

    task = td.go(body)
    await settle()
    task.cancel()
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    gate.send_nowait("cleaned up")
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["cleaned up"]


async def test_a_wait_in_finally_without_a_shield_is_cancelled_again():
    events = []

    async def body():
        try:
            await td.Channel().recv()
        finally:
            events.append("finally")
            await td.sleep(0)
            events.append("never")

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["finally"]


async def test_a_task_cancelled_while_it_waits_in_finally_ends_there():
    gate, events = td.Channel(), []

    async def body():
        try:
            events.append("body")
        finally:
            await gate.recv()
            events.append("never")

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["body"]


async def test_a_task_that_cancels_itself_ends_at_its_next_wait():
    events = []

    async def body():
        td.current_task().cancel()
        events.append("before the wait")
        await td.sleep(0)
        events.append("never")

    task = td.go(body)
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["before the wait"]


async def test_an_error_raised_in_answer_to_cancelling_is_the_outcome():
    async def body():
        try:
            await td.Channel().recv()
        except td.Cancelled:
            raise LookupError("while cleaning up") from None

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(LookupError, match="while cleaning up"):
        await task
    assert not task.cancelled()


async def test_a_task_that_returns_in_answer_to_cancelling_has_that_result():
    async def body():
        try:
            await td.Channel().recv()
        except td.Cancelled:
            return "made the best of it"

    task = td.go(body)
    await settle()
    task.cancel()
    assert await task == "made the best of it"
    assert not task.cancelled()


async def test_except_exception_does_not_catch_cancelling():
    events = []

    async def body():
        while True:
            try:
                await td.Channel().recv()
            except Exception as error:
                events.append(error)

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == []


async def test_cancelling_a_waiter_leaves_alone_what_it_waits_for():
    gate = td.Channel(1)
    worker = td.go(gate.recv())
    waiters = [td.go(by_waiting(worker)) for _ in range(3)]
    await settle()
    waiters[0].cancel()
    await settle()
    assert not worker.done()
    gate.send_nowait("value")
    assert [await waiters[1], await waiters[2], await worker] == ["value"] * 3
    assert waiters[0].cancelled()


async def by_waiting(task):
    return await task


async def test_who_waits_for_a_cancelled_task_is_not_cancelled_itself():
    events = []

    async def waiter(task):
        try:
            await task
        except td.TaskCancelled as error:
            events.append(str(error))
        await td.sleep(0)
        return "went on"

    worker = td.go(parked, [])
    worker.name = "the-worker"
    waiting = td.go(waiter, worker)
    await settle()
    worker.cancel()
    assert await waiting == "went on"
    assert "the-worker" in events[0]


def test_a_run_whose_tasks_were_cancelled_ends_well():
    kept = []

    async def main():
        kept.append(td.go(parked, []))
        await settle()
        kept[0].cancel()
        return "result"

    assert td.run(main) == "result"
    assert kept[0].cancelled()


def test_a_thread_cancels_a_task_that_waits():
    tasks, waits, events = [], threading.Event(), []

    def cancel():
        assert waits.wait(PATIENCE)
        assert tasks[0].cancel() is True

    async def main():
        tasks.append(td.go(parked, events))
        await settle()
        waits.set()
        with pytest.raises(td.TaskCancelled):
            await tasks[0]

    thread = threading.Thread(target=cancel)
    thread.start()
    td.run(main)
    thread.join()
    assert events == ["task cancelled", "task cleaned up"]


def test_main_cancelling_itself_leaves_run_as_task_cancelled():
    async def main():
        td.current_task().cancel()
        await td.sleep(0)

    with pytest.raises(td.TaskCancelled):
        td.run(main)


async def test_cancelling_reaches_through_async_context_managers_and_generators():
    events = []

    @contextlib.asynccontextmanager
    async def resource():
        try:
            yield "resource"
        finally:
            events.append("released")

    async def stream():
        try:
            yield await td.Channel().recv()
        finally:
            events.append("stream ended")

    async def body():
        async with resource():
            async for _ in stream():
                events.append("never")

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["stream ended", "released"]


# --- what was given is not lost -----------------------------------------------------------------------------


async def receive_then_wait(received, channel):
    received.append(await channel.recv())
    await td.Channel().recv()


@pytest.mark.parametrize("capacity", [0, 1])
async def test_a_value_given_to_a_receiver_that_is_cancelled_before_it_runs_is_not_lost(capacity):
    channel, received = td.Channel(capacity), []
    receiver = td.go(receive_then_wait, received, channel)
    await settle()
    channel.send_nowait("value")
    receiver.cancel()
    with pytest.raises(td.TaskCancelled):
        await receiver
    with contextlib.suppress(td.ChannelEmpty):
        received.append(channel.recv_nowait())
    assert received == ["value"]


async def test_a_sender_that_is_cancelled_after_its_value_was_taken_has_sent_it():
    channel, log = td.Channel(), []

    async def send():
        try:
            await channel.send("value")
            log.append("sent")
        except td.Cancelled:
            log.append("not sent")
            raise

    sender = td.go(send)
    await settle()
    assert channel.recv_nowait() == "value"
    sender.cancel()
    with contextlib.suppress(td.TaskCancelled):
        await sender
    assert log == ["sent"]


async def test_a_choice_that_has_committed_is_not_lost_by_cancelling():
    one, two, received = td.Channel(), td.Channel(), []

    async def choose():
        received.append(await td.select(one.recv(), two.recv()))
        await td.Channel().recv()

    choosing = td.go(choose)
    await settle()
    two.send_nowait("value")
    choosing.cancel()
    with pytest.raises(td.TaskCancelled):
        await choosing
    assert received == [(1, "value")]


async def test_bytes_that_arrive_as_the_reader_is_cancelled_are_there_for_the_next(tcp_pair):
    near, far = tcp_pair
    received = []

    async def read():
        received.append(await near.recv(100))
        await td.Channel().recv()

    for number in range(20):
        reader = td.go(read)
        await settle()
        far.sendall(b"%d;" % number)
        if number % 2:
            await settle()  # the reader has been woken by now, or is about to be
        reader.cancel()
        with pytest.raises(td.TaskCancelled):
            await reader
    far.shutdown(socket.SHUT_WR)
    while data := await near.recv(100):
        received.append(data)
    assert b"".join(received) == b"".join(b"%d;" % number for number in range(20))


async def test_a_connection_that_arrives_as_the_acceptor_is_cancelled_is_there_for_the_next():
    with td.listen("127.0.0.1", 0) as listener:
        accepted = []

        async def accept():
            accepted.append(await listener.accept())
            await td.Channel().recv()

        for number in range(10):
            acceptor = td.go(accept)
            await settle()
            with socket.create_connection(listener.getsockname()):
                if number % 2:
                    await settle()
                acceptor.cancel()
                with pytest.raises(td.TaskCancelled):
                    await acceptor
                if len(accepted) <= number:
                    accepted.append(await listener.accept())
        for connection, _ in accepted:
            connection.close()
    assert len(accepted) == 10


@pytest.mark.virtual_clock
async def test_a_result_that_arrives_together_with_a_timeout_is_taken_or_left_never_lost():
    channel, received = td.Channel(1), []

    async def send_at(moment):
        await td.sleep(moment)
        channel.send_nowait("value")

    async def receive_until(moment):
        with td.move_on_after(moment):
            received.append(await channel.recv())

    for moment in range(1, 20):
        async with td.TaskGroup() as group:
            for body in (send_at, receive_until)[:: 1 if moment % 2 else -1]:
                group.go(body, moment)
        with contextlib.suppress(td.ChannelEmpty):
            received.append(channel.recv_nowait())
        assert received == ["value"] * moment
