"""Processes that are killed while they use a channel: nobody else loses a message, or gets one twice."""

import contextlib
import itertools
import os
import random
import signal
from pathlib import Path

import pytest
import thistledown as td
import witness

PATIENCE = 60.0


def states_of_threads(process):
    stats = Path(f"/proc/{process}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats}


def receive_until_killed(channel, told):
    """Says of each message that it was received, at once and whole, in a way that survives the process."""
    while True:
        message = channel.recv().wait(PATIENCE)
        if message is None:
            return
        os.write(told, b"%d\n" % message)


def wait_for_one(channel, ready):
    ready.send(os.getpid()).wait(PATIENCE)
    channel.recv().wait(PATIENCE)


def die_waiting(channel, ready):
    async def main():
        async with td.TaskGroup() as group:
            group.go(channel.recv())
            await td.sleep(0.0)
            await ready.send(os.getpid())
            await td.sleep(PATIENCE)

    td.run(main())


@pytest.mark.parametrize("body", [wait_for_one, die_waiting])
def test_a_killed_receiver_takes_nothing(pair, body):
    channel, ready = td.Channel(1), td.Channel(1)
    task = pair.go(body, channel, ready)
    process = ready.recv().wait(PATIENCE)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    channel.send("for whoever lives").wait(PATIENCE)
    assert channel.recv().wait(PATIENCE) == "for whoever lives"


def test_a_killed_sender_has_sent_nothing_more(pair):
    channel, ready = td.Channel(), td.Channel(1)

    def send(channel, ready):
        ready.send(os.getpid()).wait(PATIENCE)
        channel.send("never").wait(PATIENCE)

    task = pair.go(send, channel, ready)
    os.kill(ready.recv().wait(PATIENCE), signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    with pytest.raises(td.ChannelEmpty):
        channel.recv_nowait()


def test_a_stopped_receiver_holds_back_nothing_that_it_has_not_received(pair):
    """Who receives on and on is handed messages before it asks. They are others' as soon as others ask."""
    channel, told = td.Channel(16), td.Channel(1)

    def receive(channel, told):
        for count in (12, 3):
            received = [channel.recv().wait(PATIENCE) for _ in range(count)]
            told.send((os.getpid(), received)).wait(PATIENCE)
        signal.pause()

    task = pair.go(receive, channel, told)
    for number in range(12):
        channel.send(number).wait(PATIENCE)
    process, received = told.recv().wait(PATIENCE)
    assert received == list(range(12))
    os.kill(process, signal.SIGSTOP)
    try:
        witness.eventually(lambda: states_of_threads(process) == {"T"}, PATIENCE)
        for number in range(12, 24):
            channel.send(number).wait(PATIENCE)
        assert [channel.recv_nowait() for _ in range(4)] == [12, 13, 14, 15]
        assert len(channel) == 8
        os.kill(process, signal.SIGCONT)
        assert told.recv().wait(PATIENCE) == (process, [16, 17, 18])
    finally:
        os.kill(process, signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    assert [channel.recv().wait(PATIENCE) for _ in range(5)] == [19, 20, 21, 22, 23]
    with pytest.raises(td.ChannelEmpty):
        channel.recv_nowait()


def test_many_who_wait_in_one_process_and_another_receive_each_message_once(pair):
    """Tasks that wait beside each other while what was promised to them is taken back for another process."""
    channel, told = td.Channel(8), td.Channel(8)

    def receive_beside(channel, told):
        async def receive():
            return [value async for value in channel]

        async def main():
            async with td.TaskGroup() as group:
                tasks = [group.go(receive()) for _ in range(5)]
                await told.send("ready")
            return [value for task in tasks for value in task.result()]

        return td.run(main())

    tasks = [pair.go(receive_beside, channel, told) for _ in range(2)]
    for _ in tasks:
        told.recv().wait(PATIENCE)
    own = []
    for number in range(2_000):
        channel.send(number).wait(PATIENCE)
        with contextlib.suppress(td.ChannelEmpty):
            own += [channel.recv_nowait()] if number % 31 == 0 else []
    channel.close()
    received = [task.result(PATIENCE) for task in tasks]
    assert sorted(itertools.chain(own, *received)) == list(range(2_000))


def test_each_message_is_received_once_under_random_kills(tmp_path):
    """A receiver says of each message that it has it; the one that it was about to say dies with it, at most."""
    chance, count, kills = random.Random(7), 3_000, 12
    journal = tmp_path / "received"
    told = os.open(journal, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    path = str(journal)

    def receive(channel, ready):
        told = os.open(path, os.O_APPEND | os.O_WRONLY)
        ready.send(os.getpid()).wait(PATIENCE)
        receive_until_killed(channel, told)

    channel, ready = td.Channel(64), td.Channel(8)
    with td.Workers(3) as pool:
        tasks = [pool.go(receive, channel, ready) for _ in range(2)]
        processes = [ready.recv().wait(PATIENCE) for _ in tasks]
        moments = set(chance.sample(range(count), kills))
        for number in range(count):
            channel.send(number).wait(PATIENCE)
            if number in moments:
                os.kill(processes.pop(0), signal.SIGKILL)
                tasks.append(pool.go(receive, channel, ready))
                processes.append(ready.recv().wait(PATIENCE))
        for _ in processes:
            channel.send(None).wait(PATIENCE)
        died = 0
        for task in tasks:
            died += isinstance(task.exception(PATIENCE), td.WorkerDied)
    os.close(told)
    received = [int(line) for line in journal.read_text().splitlines()]
    assert died == kills
    assert len(received) == len(set(received)), "a message was received twice"
    assert len(received) >= count - kills, "a message was lost that nobody had received"


def test_a_forked_child_is_told_that_it_cannot(pair):
    channel = td.Channel(1)
    pair.go(lambda channel: channel.send(1).wait(PATIENCE), channel).result(PATIENCE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        words = b"nothing"
        try:
            channel.recv().wait(PATIENCE)
        except td.ChannelBroken as error:
            words = str(error).encode()
        finally:
            os.write(writer, words)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        assert b"this one was forked from" in answer.read()
    assert os.waitpid(child, 0)[1] == 0
    assert channel.recv().wait(PATIENCE) == 1


def test_a_worker_that_has_forked_is_seen_to_die(pair):
    """What it forked holds copies of its descriptors, and must not keep its death from being seen."""
    channel, ready = td.Channel(1), td.Channel(1)

    def fork_and_wait(channel, ready):
        with pytest.raises(TimeoutError):
            channel.recv().wait(0.0)
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        ready.send((os.getpid(), child)).wait(PATIENCE)
        channel.recv().wait(PATIENCE)

    task = pair.go(fork_and_wait, channel, ready)
    process, child = ready.recv().wait(PATIENCE)
    try:
        os.kill(process, signal.SIGKILL)
        with pytest.raises(td.WorkerDied):
            task.result(PATIENCE)
        channel.send("for whoever lives").wait(PATIENCE)
        assert channel.recv().wait(PATIENCE) == "for whoever lives"
    finally:
        os.kill(child, signal.SIGKILL)
        witness.wait_gone({child})
