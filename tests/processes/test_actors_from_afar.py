"""Handles of actors in processes where the actors are not: calls, order, ends, monitors, and who keeps whom."""

import asyncio
import gc
import os
import pickle
import queue
import signal
import threading
import weakref

import pytest
import thistledown as td
import work
from boxes import Account, Stuck
from pools import Workers
from thistledown import _core
from thistledown._errors import RemoteTraceback

from leaks import eventually
from support import PATIENCE

pytestmark = pytest.mark.usefixtures("no_exchange_left")


class Slow(Account):
    """One that waits for others of its own run."""

    def __init__(self):
        super().__init__()
        self.opened = td.Channel(0)
        self.has_begun = td.Channel(1)
        self.was_cancelled = False

    async def wait(self):
        self.has_begun.send_nowait(None)
        try:
            await self.opened.recv()
        except td.Cancelled:
            self.was_cancelled = True
            raise


def deposit_each(actor, count):
    return [task.result(PATIENCE) for task in [actor.deposit() for _ in range(count)]]


def deposit_one_by_one(actor, count):
    return [actor.deposit().result(PATIENCE) for _ in range(count)]


async def deposit_awaited(actor, count):
    return [await actor.deposit() for _ in range(count)]


def failure_of(actor, method, *args):
    error = actor.ask(method, *args).exception(PATIENCE)
    return type(error), str(error), type(error.__cause__), str(error.__cause__)


def echo(value):
    return value


def monitored(actor):
    down = td.monitor(actor).wait(PATIENCE)
    return down.who == actor, down.reason if isinstance(down.reason, str) else repr(down.reason)


def cancelled(actor, began):
    task = actor.wait()
    began.recv().wait(PATIENCE)
    was_there = task.cancel()
    try:
        task.result(PATIENCE)
    except td.TaskCancelled:
        return was_there, "cancelled"


def ask_and_die(actor, began):
    actor.wait()
    began.recv().wait(PATIENCE)
    os._exit(3)


def flood(actor, count):
    tasks = [actor.deposit() for _ in range(count)]
    return [type(task.exception(PATIENCE)).__name__ for task in tasks]


def make_here_and_send(handles, ends):
    """In a worker: a weightless actor of its own, which the program uses."""

    async def main():
        await handles.send(td.here.actor(Account, 7))
        await ends.recv()

    td.run(main())


def in_a_run(body):
    with Workers(2) as pool:
        return td.run(body(pool))


def test_a_worker_calls_a_weightless_actor_of_the_program():
    async def main(pool):
        account = td.here.actor(Account, 100)
        assert await pool.go(deposit_each, account, 50) == list(range(101, 151))
        assert await pool.go(deposit_one_by_one, account, 20) == list(range(151, 171))
        assert await pool.go(deposit_awaited, account, 20) == list(range(171, 191))
        assert await account.balance == 190
        assert await account.pid() == os.getpid()

    in_a_run(main)


def test_in_asyncio_as_well():
    async def main():
        with Workers(1) as pool:
            account = td.here.actor(Account)
            assert await pool.go(deposit_each, account, 5) == [1, 2, 3, 4, 5]

    asyncio.run(main())


def test_many_senders_lose_nothing_and_each_is_answered_in_its_order():
    async def main(pool):
        account = td.here.actor(Account)
        answers = [await task for task in [pool.go(deposit_each, account, 200) for _ in range(4)]]
        assert all(answer == sorted(answer) for answer in answers)
        assert sorted(value for answer in answers for value in answer) == list(range(1, 801))

    in_a_run(main)


def test_a_worker_that_waits_gives_up_its_place():
    async def main():
        with Workers(1) as pool:

            class Relay:
                async def echoes(self):
                    # The one worker waits for this call; there is a place for another task all the same.
                    return await pool.go(echo, "through")

            relay = td.here.actor(Relay)
            return await pool.go(lambda actor: actor.echoes().result(PATIENCE), relay)

    assert td.run(main()) == "through"


def test_errors_come_back_as_they_are(caplog):
    async def main(pool):
        account = td.here.actor(Account)
        kind, words, cause, trace = await pool.go(failure_of, account, "fail", LookupError("not here"))
        assert (kind, words, cause) == (LookupError, "not here", RemoteTraceback)
        assert "in fail" in trace
        kind, words, *_ = await pool.go(failure_of, account, "give_what_cannot_be_sent")
        assert kind is td.NotPicklable
        assert "generator" in words
        assert await account.deposit() == 1

    in_a_run(main)
    # They have reached who asked.
    assert not caplog.records


def test_a_slip_is_an_error_where_it_is_made():
    def slips(actor):
        words = []
        for slip in (lambda: actor.deposti(), lambda: actor.deposit(1, 2, 3)):
            try:
                slip()
            except (AttributeError, TypeError) as error:
                words.append(str(error))
        return words

    async def main(pool):
        typing, counting = await pool.go(slips, td.here.actor(Account))
        assert "deposit" in typing
        assert "deposit" in counting

    in_a_run(main)


def test_a_call_is_cancelled_where_it_runs():
    async def main(pool):
        began, slow = td.Channel(1), td.here.actor(Slow)
        has_begun = await slow.has_begun
        task = pool.go(cancelled, slow, began)
        await has_begun.recv()
        await began.send(None)
        assert await task == (True, "cancelled")
        assert await slow.was_cancelled is True
        assert await slow.deposit() == 1

    in_a_run(main)


def test_a_message_that_was_sent_is_answered_also_when_its_sender_dies():
    async def main(pool):
        began, slow = td.Channel(1), td.here.actor(Slow)
        has_begun, opened = await slow.has_begun, await slow.opened
        task = pool.go(ask_and_die, slow, began)
        await has_begun.recv()
        # It stands behind, and is answered when that has ended.
        later = slow.was_cancelled
        await began.send(None)
        with pytest.raises(td.WorkerDied):
            await task
        await opened.send(None)
        assert await later is False

    in_a_run(main)


def test_a_full_mailbox_is_the_tasks_error():
    async def main(pool):
        slow = td.here.options(mailbox=1).actor(Slow)
        waits = slow.wait()
        assert await pool.go(flood, slow, 3) == ["MailboxFull"] * 3
        waits.cancel()

    in_a_run(main)


def send_what_is_stuck(actor, other):
    actor.deposit(Stuck())
    return other.deposit().result(PATIENCE)


def test_an_argument_that_is_slow_to_come_out_of_its_pickle_holds_up_its_own_run_alone():
    actors, over = queue.SimpleQueue(), threading.Event()

    async def other_run():
        actors.put(td.here.actor(Account))
        await td.thread(over.wait)

    async def main(pool):
        account = td.here.actor(Account)
        there = await td.thread(actors.get)
        try:
            assert await pool.go(send_what_is_stuck, there, account) == 1
            await td.thread(Stuck.begins.wait)
            assert await account.deposit() == 2
        finally:
            Stuck.may.set()
        assert await td.thread(lambda: there.deposit().result(PATIENCE)) == 6
        over.set()

    Stuck.may.clear()
    thread = threading.Thread(target=td.run, args=(other_run,))
    thread.start()
    try:
        in_a_run(main)
    finally:
        over.set()
        thread.join()


def flood_and_tell(actor, count, room, told):
    tasks = [actor.deposit() for _ in range(count)]
    errors = [task.exception(PATIENCE) for task in tasks[room:]]
    told.send([(type(error).__name__, actor.name in str(error)) for error in errors]).wait(PATIENCE)
    return [task.result(PATIENCE) for task in tasks[:room]]


def test_no_more_lies_before_a_thread_that_has_to_wait_than_the_mailbox_has_room_for(gate):
    holds, may = threading.Event(), threading.Event()

    def hold(_):
        holds.set()
        may.wait(PATIENCE)

    async def main(pool):
        account, told = td.here.options(mailbox=5).actor(Account), td.Channel(1)
        assert await pool.go(deposit_each, account, 1) == [1]
        # One that has ended already would have it called in this thread.
        pool.go(work.pass_gate, gate.path).add_done_callback(hold)
        gate.open()
        await td.thread(holds.wait)
        flooding = pool.go(flood_and_tell, account, 8, 5, told)
        try:
            assert await told.recv() == [("MailboxFull", True)] * 3
        finally:
            may.set()
        assert await flooding == [2, 3, 4, 5, 6]

    in_a_run(main)


def test_a_stop_from_afar_answers_what_was_asked_before():
    def end(actor):
        before = actor.deposit()
        actor.stop().result(PATIENCE)
        after = actor.deposit()
        return before.result(PATIENCE), type(after.exception(PATIENCE)).__name__

    async def main(pool):
        account = td.here.actor(Account)
        assert await pool.go(end, account) == (1, "ActorStopped")
        with pytest.raises(td.ActorStopped):
            account.deposit()

    in_a_run(main)


def test_who_cancels_a_stop_from_afar_undoes_nobodys():
    def stop_and_think_better_of_it(actor):
        one, other = actor.stop(), actor.stop()
        assert one.cancel()
        with pytest.raises(td.TaskCancelled):
            one.result(PATIENCE)
        return other.cancelled()

    async def main(pool):
        slow = td.here.actor(Slow)
        opened, has_begun = slow._box._instance.opened, slow._box._instance.has_begun
        waits, monitor, stopping = slow.wait(), td.monitor(slow), slow.stop()
        await has_begun.recv()
        assert not await pool.go(stop_and_think_better_of_it, slow)
        await opened.send(None)
        await waits
        await stopping
        assert (await monitor).reason == "normal"

    in_a_run(main)


def count_tasks():
    gc.collect()
    return sum(isinstance(one, td.Task) for one in gc.get_objects())


def test_a_monitor_from_afar_that_is_let_go_leaves_nothing():
    def monitor_and_let_go(actor):
        before = count_tasks()
        for _ in range(20):
            td.monitor(actor)
        eventually(lambda: count_tasks() <= before, "what monitors were told by is still there")

    async def main(pool):
        account = td.here.actor(Account)
        await pool.go(monitor_and_let_go, account)
        eventually(lambda: not account._box._extra.watchers, "somebody far is still watching")

    in_a_run(main)


def test_a_kill_from_afar_fails_what_waits():
    async def main(pool):
        slow = td.here.actor(Slow)
        waits = slow.wait()
        await pool.go(lambda actor: actor.kill(), slow)
        with pytest.raises(td.ActorDied, match="killed"):
            await waits

    in_a_run(main)


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_a_worker_monitors_an_actor_of_the_program(way):
    async def main(pool):
        account = td.here.actor(Account)
        is_same, reason = True, "normal" if way == "stop" else "killed"
        task = pool.go(monitored, account)
        await td.sleep(0)
        getattr(account, way)()
        assert await task == (is_same, reason)
        assert await pool.go(monitored, account) == (is_same, reason)

    in_a_run(main)


def test_the_program_uses_an_actor_that_lives_in_a_worker():
    with Workers(1) as pool:
        handles, ends = td.Channel(1), td.Channel(1)
        task = pool.go(make_here_and_send, handles, ends)
        account = handles.recv().wait(PATIENCE)
        assert account.deposit().result(PATIENCE) == 8
        assert account.pid().result(PATIENCE) not in (None, os.getpid())
        down = td.monitor(account)
        ends.send(None).wait(PATIENCE)
        task.result(PATIENCE)
        assert isinstance(down.wait(PATIENCE).reason, RuntimeError)
        died = account.deposit().exception(PATIENCE)
        assert isinstance(died, td.ActorDied)
        del account, down, died, handles, ends, task


def test_when_its_process_dies_so_has_the_actor():
    with Workers(1) as pool:
        handles, ends = td.Channel(1), td.Channel(1)
        task = pool.go(make_here_and_send, handles, ends)
        account = handles.recv().wait(PATIENCE)
        pid = account.pid().result(PATIENCE)
        down = td.monitor(account)
        os.kill(pid, signal.SIGKILL)
        assert f"process {pid}" in str(down.wait(PATIENCE).reason)
        died = account.deposit().exception(PATIENCE)
        assert isinstance(died, td.ActorDied)
        assert f"process {pid}" in str(died)
        account.stop().result(PATIENCE)
        assert isinstance(task.exception(PATIENCE), td.WorkerDied)
        del account, down, died, handles, ends, task


def test_a_handle_that_comes_home_is_of_the_same_actor():
    async def main(pool):
        account = td.here.actor(Account)
        again = await pool.go(echo, account)
        assert again == account
        assert again._box is account._box

    in_a_run(main)


def send(channel, value):
    channel.send(value).wait(PATIENCE)


def test_one_that_comes_home_through_a_channel_leaves_nothing_behind():
    async def main(pool):
        account, channel = td.here.actor(Account), td.Channel(1)
        await pool.go(send, channel, account)
        assert await channel.recv() == account

    in_a_run(main)


def test_nobody_far_keeps_an_actor_whose_handle_he_has_let_go():
    async def main(pool):
        account = td.here.actor(Account)
        instance = weakref.ref(account._box._instance)
        assert await pool.go(deposit_each, account, 3) == [1, 2, 3]
        del account
        eventually(lambda: gc.collect() is None or instance() is None, "the actor is still there")

    in_a_run(main)


def test_a_handle_that_was_pickled_by_hand_keeps_its_actor_no_longer_than_the_run():
    async def main():
        account = td.here.actor(Account)
        pickle.dumps(account)
        monitor = td.monitor(account)
        del monitor
        assert _core._shared_objects() == 1
        return weakref.ref(account._box._instance)

    instance = td.run(main())
    eventually(lambda: gc.collect() is None or instance() is None, "the actor is still there")
    eventually(lambda: _core._shared_objects() == 0, "what stood for it is still there")


def test_what_stands_for_one_that_has_moved_goes_with_it():
    async def main(pool):
        account = td.here.actor(Account)
        pickle.dumps(account)
        await account.move(pool)
        assert _core._shared_objects() == 1
        account.kill()
        await td.monitor(account)

    in_a_run(main)
    eventually(lambda: _core._shared_objects() == 0, "what stood for it is still there")


def test_a_handle_on_its_way_keeps_the_actor():
    async def main(pool):
        channel = td.Channel(1)
        await channel.send(td.here.actor(Account, 5))
        gc.collect()
        assert await pool.go(lambda channel: channel.recv().wait(PATIENCE).deposit().result(PATIENCE), channel) == 6

    in_a_run(main)
