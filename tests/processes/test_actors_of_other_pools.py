"""Handles of actors in worker processes, in processes that have no way to their pool of their own."""

import gc
import os
import pickle
import signal

import pytest
import thistledown as td
import work
from boxes import Account, alone
from pools import Workers

from leaks import eventually
from support import PATIENCE

pytestmark = pytest.mark.usefixtures("no_exchange_left")


@pytest.fixture(params=["shared", "alone"])
def account(request):
    """An actor in a pool, and another pool."""
    with Workers(1) as pool, Workers(2) as other:
        yield pool.actor(Account) if request.param == "shared" else alone(pool, Account), other


def deposit_each(actor, count):
    return [task.result(PATIENCE) for task in [actor.deposit() for _ in range(count)]]


async def deposit_awaited(actor, count):
    return [await actor.deposit() for _ in range(count)]


def ask(actor, method, *args):
    return actor.ask(method, *args).result(PATIENCE)


def error_of(actor, method, *args):
    error = actor.ask(method, *args).exception(PATIENCE)
    return type(error), str(error), type(error.__cause__)


def monitored(actor):
    return td.monitor(actor).wait(PATIENCE).reason


def stop(actor):
    return actor.stop().result(PATIENCE), actor.stop().result(PATIENCE)


def kill(actor):
    actor.kill()


def cancel(actor, gate, journal):
    """Cancels a call that has begun, and one behind it."""
    begun, behind = actor.await_gate(gate), actor.deposit()
    work.write(journal, "asked")
    with open(f"{gate}.cancel") as cancel:
        cancel.read()
    return [task.cancel() for task in (behind, begun)], [how_ended(task) for task in (behind, begun)]


def how_ended(task):
    try:
        return task.result(PATIENCE)
    except td.TaskCancelled:
        return "cancelled"


def make_and_hand_over(handles, ends):
    """An actor that a task of a worker has made, whose handle goes elsewhere straight from there."""
    actor = td.workers().actor(Account, 7)
    handles.send(actor).wait(PATIENCE)
    ends.recv().wait(PATIENCE)


def test_a_task_of_another_pool_calls_it(account):
    account, other = account
    assert other.go(deposit_each, account, 50).result(PATIENCE) == list(range(1, 51))
    assert other.go(deposit_awaited, account, 10).result(PATIENCE) == list(range(51, 61))
    assert account.balance.result(PATIENCE) == 60
    pids = {other.go(ask, account, "pid").result(PATIENCE), account.pid().result(PATIENCE)}
    assert len(pids) == 1
    assert pids.isdisjoint({os.getpid(), other.go(work.process).result(PATIENCE)})


def test_many_senders_lose_nothing_and_each_is_answered_in_its_order(account):
    account, other = account
    tasks = [place.go(deposit_each, account, 100) for place in (other, account.place) for _ in range(2)]
    answers = [task.result(PATIENCE) for task in tasks] + [deposit_each(account, 100)]
    assert all(answer == sorted(answer) for answer in answers)
    assert sorted(value for answer in answers for value in answer) == list(range(1, 501))


def test_it_is_in_the_state_of_an_actor_of_another_pool_and_in_that_of_one_of_its_own(account):
    account, other = account
    one = other.actor(Account)
    one.meet(account)
    assert one.await_partner("deposit").result(PATIENCE) == 1
    same = alone(account.place, Account)
    same.meet(account)
    assert same.await_partner("deposit").result(PATIENCE) == 2


def test_a_handle_that_comes_back_is_the_same_and_goes_straight_there_again(account):
    account, other = account
    back = other.go(td_identity, account).result(PATIENCE)
    assert back == account
    assert back._box is account._box
    # By way of a process of another pool into one of its own: no detour.
    channel = td.Channel(1)
    other.go(send, channel, account).result(PATIENCE)
    assert account.place.go(receive_and_look, channel).result(PATIENCE) == ("WorkerBox", 1)


def td_identity(value):
    return value


def send(channel, value):
    channel.send(value).wait(PATIENCE)


def receive_and_look(channel):
    actor = channel.recv().wait(PATIENCE)
    return type(actor._box).__name__, actor.deposit().result(PATIENCE)


def test_errors_come_back_as_they_are_and_what_is_refused_is_the_error_of_its_task(account):
    account, other = account
    kind, words, _ = other.go(error_of, account, "fail", LookupError("not here")).result(PATIENCE)
    assert (kind, words) == (LookupError, "not here")
    assert other.go(stop, account).result(PATIENCE) == (None, None)
    assert other.go(error_of, account, "deposit").result(PATIENCE)[0] is td.ActorStopped
    assert other.go(monitored, account).result(PATIENCE) == "normal"


def test_its_death_is_told_there_with_the_cause(account):
    account, other = account
    watch = other.go(monitored, account)
    fatal = other.go(error_of, account, "end", -signal.SIGKILL)
    kind, words, cause = fatal.result(PATIENCE)
    assert (kind, cause) == (td.ActorDied, td.WorkerDied)
    assert "SIGKILL" in words
    reason = watch.result(PATIENCE)
    assert (type(reason), reason.exitcode) == (td.WorkerDied, -signal.SIGKILL)


def test_it_is_killed_from_there(account):
    account, other = account
    other.go(kill, account).result(PATIENCE)
    assert td.monitor(account).wait(PATIENCE).reason == "killed"


def test_a_call_is_cancelled_where_it_runs_and_one_that_has_not_begun_never_begins(account, gate, journal):
    account, other = account
    os.mkfifo(f"{gate.path}.cancel")
    task = other.go(cancel, account, gate.path, journal.path)
    gate.wait_for_arrivals()
    with open(f"{gate.path}.cancel", "w") as go_on:
        go_on.write(".")
    assert task.result(PATIENCE) == ([True, True], ["cancelled", "cancelled"])
    gate.open()
    assert account.balance.result(PATIENCE) == 0


def test_a_process_that_has_sent_a_call_and_dies_has_sent_it(account, gate):
    account, other = account
    task = other.go(ask_and_die, account, gate.path)
    gate.wait_for_arrivals()
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    gate.open()
    assert account.deposit().result(PATIENCE) == 1


def ask_and_die(actor, gate):
    actor.pass_gate(gate)
    os._exit(3)


def test_one_that_a_worker_has_made_is_reached_by_way_of_that():
    with Workers(1) as pool, Workers(1) as other:
        handles, ends = td.Channel(1), td.Channel(1)
        maker = pool.go(make_and_hand_over, handles, ends)
        assert other.go(receive_and_look, handles).result(PATIENCE) == ("FarBox", 8)
        ends.send(None).wait(PATIENCE)
        maker.result(PATIENCE)


def test_it_follows_where_it_moves(account):
    account, other = account
    one = other.actor(Account)
    one.meet(account)
    assert one.await_partner("deposit").result(PATIENCE) == 1
    with Workers(1) as third:
        assert account.move(third).result(PATIENCE) is None
        assert one.await_partner("deposit").result(PATIENCE) == 2
        assert account.balance.result(PATIENCE) == 2
        account.stop().result(PATIENCE)


def test_who_has_the_last_handle_far_away_keeps_it():
    with Workers(1) as pool, Workers(1) as other:
        account = alone(pool, Account)
        watch = td.monitor(account)
        one = other.actor(Account)
        one.meet(account).result(PATIENCE)
        del account
        gc.collect()
        assert one.await_partner("deposit").result(PATIENCE) == 1
        # It is let go there; a monitor keeps it as well.
        del watch
        one.meet(None).result(PATIENCE)
        eventually(lambda: len(pool.processes()) == 0, "nobody has it, and it lives")


def test_bytes_that_are_pickled_by_a_program_stand_for_it_anywhere(account):
    account, other = account
    data = pickle.dumps(account)
    assert pickle.loads(data) == account
    assert other.go(lambda data: pickle.loads(data).deposit().result(PATIENCE), data).result(PATIENCE) == 1
    account.stop().result(PATIENCE)


# --- links ---------------------------------------------------------------------------------------------------


class Linker:
    """An actor that links two others, from where it lives."""

    def __init__(self):
        self.link = None

    def join(self, one, other):
        self.link = td.link(one, other)

    def part(self):
        self.link.unlink()


def reason_of(actor):
    return td.monitor(actor).wait(PATIENCE).reason


def test_actors_of_two_pools_end_together_with_the_reason(account):
    account, other = account
    partner = alone(other, Account)
    td.link(account, partner)
    account.end(-signal.SIGKILL)
    reasons = [reason_of(account), reason_of(partner)]
    assert [type(reason) for reason in reasons] == [td.WorkerDied, td.WorkerDied]
    assert {reason.exitcode for reason in reasons} == {-signal.SIGKILL}


@pytest.mark.parametrize("dies", ["one", "another"])
def test_a_link_that_is_made_in_a_third_process_holds_both_ways(account, dies):
    account, other = account
    partner, linker = alone(other, Account), other.actor(Linker)
    linker.join(account, partner).result(PATIENCE)
    first, then = (account, partner) if dies == "one" else (partner, account)
    first.end(3)
    assert reason_of(first).exitcode == 3
    # A worker says to its own pool that an actor is to end, and not why.
    reason = reason_of(then)
    assert reason == "killed" if dies == "one" else reason.exitcode == 3


def test_a_link_in_a_third_process_that_was_taken_away_or_of_one_that_stops_does_nothing(account):
    account, other = account
    partner, linker = alone(other, Account), other.actor(Linker)
    linker.join(account, partner).result(PATIENCE)
    linker.part().result(PATIENCE)
    partner.kill()
    assert reason_of(partner) == "killed"
    assert account.deposit().result(PATIENCE) == 1
    second = alone(other, Account)
    linker.join(account, second).result(PATIENCE)
    assert account.stop().result(PATIENCE) is None
    assert second.deposit().result(PATIENCE) == 1
