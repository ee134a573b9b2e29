"""Actors in worker processes: order, places, handles, and the ways of their ends."""

import functools
import gc
import json
import os
import pickle
import signal
import threading

import pytest
import thistledown as td
from boxes import Account, Diary, Doomed, Hoarder, Unwilling, alone, flood, make_and_use, use
from pools import Workers
from thistledown import _view
from thistledown._boxes import Ending
from thistledown._boxes_workers import make

from leaks import eventually
from support import PATIENCE, run_program

KINDS = ["alone", "shared"]


@pytest.fixture(params=KINDS)
def place(request):
    """Makes actors: each in a worker of its own, or all in one."""
    with Workers(1) as pool:
        if request.param == "shared":
            yield pool.actor
        else:
            yield lambda owner, *args: alone(pool, owner, *args)


def result(task):
    return task.result(PATIENCE)


def test_calls_are_answered_in_their_order(place):
    account = place(Account, 100)
    tasks = [account.deposit(1) for _ in range(1_000)]
    assert [result(task) for task in tasks] == list(range(101, 1101))
    assert result(account.balance) == 1100


def test_a_method_that_waits_keeps_the_next_from_beginning(place, gate):
    account = place(Account)
    waits = [account.await_gate(gate.path), account.gate_generator(gate.path)]
    plain = [account.deposit(), account.deposit()]
    last = account.await_gate(gate.path)
    gate.wait_for_arrivals()
    assert not gate.has_arrivals()
    assert not any(task.done() for task in plain)
    gate.open(3)
    assert [result(task) for task in [*waits, *plain, last]] == [0, 0, 1, 2, 2]
    assert result(account.interleaved) is False


def test_an_exception_is_its_calls_alone(place):
    account = place(Account)
    with pytest.raises(LookupError, match="not here"):
        result(account.fail(LookupError("not here")))
    assert result(account.deposit()) == 1


def test_one_of_its_own_has_a_process_of_its_own():
    with Workers(1) as pool:
        accounts = [alone(pool, Account), alone(pool, Account)]
        pids = {result(account.pid()) for account in accounts}
        assert len(pids) == 2
        assert result(pool.go(os.getpid)) not in pids


def test_shared_ones_are_spread_over_as_many_processes_as_the_pool_has():
    with Workers(2) as pool:
        accounts = [pool.actor(Account) for _ in range(6)]
        pids = [result(account.pid()) for account in accounts]
        assert sorted(pids.count(pid) for pid in set(pids)) == [3, 3]


def test_in_one_worker_those_that_wait_let_others_run(gate):
    with Workers(1) as pool:
        first, second = pool.actor(Account), pool.actor(Account)
        waits = first.await_gate(gate.path)
        gate.wait_for_arrivals()
        assert result(second.deposit()) == 1
        gate.open()
        assert result(waits) == 0


def test_a_plain_method_may_wait_beside_one_that_lets_others_run(gate):
    with Workers(1) as pool:
        first, second, third = (pool.actor(Account) for _ in range(3))
        waits = first.await_gate(gate.path)
        gate.wait_for_arrivals()
        other = alone(pool, Account)
        second.meet(other)
        assert result(second.ask_partner(7)) == 7
        gate.open()
        assert (result(waits), result(third.deposit())) == (0, 1)


def test_tasks_of_the_pool_wait_for_actors_and_never_for_their_places():
    with Workers(1) as pool:
        account = pool.actor(Account)
        tasks = [pool.go(use, account, 1) for _ in range(20)]
        assert sorted(result(task) for task in tasks) == list(range(1, 21))


def test_a_worker_has_actors_made():
    with Workers(1) as pool:
        balance, pid, own = result(pool.go(make_and_use))
        assert balance == 7
        assert pid != own


@pytest.mark.parametrize("place", [lambda: td.actor(Account, 5), lambda: td.workers().actor(Account, 5)])
def test_the_first_actor_of_a_pool_may_be_made_in_a_worker_and_its_handle_come_home(place):
    with Workers(1) as pool:
        account = result(pool.go(place))
        assert result(account.deposit()) == 6
        rows = json.loads(_view.answer('{"view": {}}'))["actors"]
        assert [row["class"] for row in rows if row["name"] == account.name] == ["Account"]


def test_handles_are_results_arguments_and_state():
    with Workers(1) as pool:
        one, other = alone(pool, Account), pool.actor(Account)
        assert result(one.echo(other)) == other
        one.meet(other)
        assert result(one.ask_partner(3)) == 3
        assert result(other.balance) == 3
        assert pickle.loads(pickle.dumps(one)) == one


def test_large_arguments_travel(place):
    data = bytes(1_000_000)
    assert result(place(Account).echo(data)) == data


def test_what_cannot_be_sent_fails_its_call_alone(place):
    account = place(Account)
    with pytest.raises(td.NotPicklable, match="argument 1"):
        account.echo(one for one in ())
    with pytest.raises(td.NotPicklable, match="the result"):
        result(account.give_what_cannot_be_sent())
    assert result(account.deposit()) == 1


def test_what_does_not_come_out_of_its_pickle_fails_its_call_alone(place):
    account = place(Account)
    with pytest.raises(ValueError, match="no number"):
        result(account.echo(Unwilling()))
    assert result(account.deposit()) == 1


# --- ends -------------------------------------------------------------------------------------------------------


def test_a_stop_answers_what_was_asked_before(place, gate):
    account = place(Account)
    first = account.pass_gate(gate.path)
    calls = [account.deposit() for _ in range(100)]
    stopping = account.stop()
    with pytest.raises(td.ActorStopped, match="stopped"):
        account.deposit()
    again, never = account.stop(), account.stop()
    assert never.cancel()
    gate.open()
    assert result(stopping) is None
    assert result(again) is None
    assert never.cancelled()
    assert [result(call) for call in [first, *calls]] == [0, *range(1, 101)]


def test_who_cancels_a_stop_waits_no_more_and_the_actor_ends_all_the_same(place, gate):
    account = place(Account)
    waiting, monitor = account.pass_gate(gate.path), td.monitor(account)
    gate.wait_for_arrivals()
    stopping = account.stop()
    assert stopping.cancel()
    with pytest.raises(td.ActorStopped):
        account.deposit()
    gate.open()
    assert result(waiting) == 0
    assert monitor.wait(PATIENCE).reason == "normal"


class Witness:
    """Sees what else is in its process."""

    def accounts(self):
        gc.collect()
        return sum(type(one) is Account for one in gc.get_objects())


def test_nothing_is_left_of_one_that_has_moved_or_was_stopped_by_who_did_not_wait(gate):
    with Workers(1) as pool:
        witness, account = pool.actor(Witness), pool.actor(Account)
        for _ in range(3):
            result(account.move(pool))
        assert result(account.deposit()) == 1
        eventually(lambda: result(witness.accounts()) == 1, "one that has moved is still there")
        waiting = account.pass_gate(gate.path)
        gate.wait_for_arrivals()
        account.stop().cancel()
        gate.open()
        result(waiting)
        eventually(lambda: result(witness.accounts()) == 0, "one that was stopped is still there")


def count_tasks():
    gc.collect()
    return sum(isinstance(one, td.Task) for one in gc.get_objects())


def monitor_and_let_go(actor):
    td.monitor(actor)


@pytest.mark.parametrize("where", ["program", "worker"])
def test_a_monitor_that_is_let_go_leaves_nothing(where):
    with Workers(1) as pool:
        account = pool.actor(Account)
        result(account.balance)

        def there(function, *args):
            return function(*args) if where == "program" else result(pool.go(function, *args))

        before = there(count_tasks)
        for _ in range(10):
            there(monitor_and_let_go, account)
        eventually(lambda: there(count_tasks) <= before, "what monitors were told by is still there")
        monitor = td.monitor(account)
        result(account.stop())
        assert monitor.wait(PATIENCE).reason == "normal"


def test_a_worker_of_ones_own_goes_with_it():
    with Workers(1) as pool:
        with alone(pool, Account) as account:
            assert result(account.deposit()) == 1
        eventually(lambda: pool.statistics()["processes"] == [], "its process is left")


def test_one_that_nobody_holds_is_stopped():
    with Workers(1) as pool:
        account = alone(pool, Account)
        last = account.deposit()
        del account
        assert result(last) == 1
        eventually(lambda: pool.statistics()["processes"] == [], "its process is left")


def test_one_that_is_killed_with_a_hundred_calls_fails_all(place, gate):
    account = place(Account)
    heard = []
    account._box.watch(heard.append)
    begun = account.pass_gate(gate.path)
    gate.wait_for_arrivals()
    calls = [account.deposit() for _ in range(100)]
    account.kill()
    for call in [begun, *calls]:
        with pytest.raises(td.ActorDied, match=r"has ended: it was killed$"):
            result(call)
    with pytest.raises(td.ActorDied, match="killed"):
        account.deposit()
    eventually(lambda: len(heard) == 1, "nobody hears of its end")
    assert heard[0].word == "killed"


def test_a_death_tells_its_cause_to_all_calls(place, gate):
    account = place(Account)
    begun = account.pass_gate(gate.path)
    calls = [account.end(-signal.SIGSEGV), *(account.deposit() for _ in range(100))]
    gate.open()
    assert result(begun) == 0
    for call in calls:
        with pytest.raises(td.ActorDied, match="segmentation fault") as caught:
            result(call)
        assert isinstance(caught.value.__cause__, td.WorkerDied)
        assert caught.value.__cause__.exitcode == -signal.SIGSEGV


def test_those_that_share_a_worker_share_its_death():
    with Workers(1) as pool:
        one, other = pool.actor(Account), pool.actor(Account)
        assert result(other.deposit()) == 1
        task = one.end(3)
        with pytest.raises(td.ActorDied):
            result(task)
        with pytest.raises(td.ActorDied, match="exit code 3"):
            other.deposit()
        assert result(pool.actor(Account).deposit()) == 1


def test_one_that_is_killed_leaves_its_neighbours(gate):
    with Workers(1) as pool:
        one, other = pool.actor(Account), pool.actor(Account, 5)
        waits = one.await_gate(gate.path)
        gate.wait_for_arrivals()
        one.kill()
        with pytest.raises(td.ActorDied, match="killed"):
            result(waits)
        assert result(other.deposit()) == 6


def test_a_constructor_that_fails_fails_every_call(place):
    account = place(Account, 0, LookupError("no such account"))
    heard = []
    account._box.watch(heard.append)
    with pytest.raises(td.ActorDied, match="no such account") as caught:
        result(account.deposit())
    assert isinstance(caught.value.__cause__, LookupError)
    with pytest.raises(td.ActorDied, match="no such account"):
        account.deposit()
    eventually(lambda: len(heard) == 1, "nobody hears of its end")
    assert heard[0].word == "failed"


def test_a_death_in_the_constructor_is_told(place):
    doomed = place(Doomed)
    with pytest.raises(td.ActorDied, match="SIGKILL") as caught:
        doomed.deposit().result(PATIENCE)
    assert isinstance(caught.value.__cause__, td.WorkerDied)


def test_whoever_watches_hears_once_also_who_comes_late(place):
    account = place(Account)
    early, late, never = [], [], []
    account._box.watch(never.append)
    # Told after the one before it.
    account._box.watch(early.append)
    account._box.unwatch(never.append)
    assert result(account.stop()) is None
    eventually(lambda: early, "nobody hears of its end")
    account._box.watch(late.append)
    assert (early, late, never) == ([Ending("normal")], [Ending("normal")], [])


def test_a_mailbox_for_one_takes_one_while_the_actor_is_made():
    with Workers(1) as pool:
        for _ in range(5):
            assert result(pool.options(mailbox=1).actor(Account).deposit()) == 1


def test_a_full_mailbox_refuses(gate):
    with Workers(1) as pool:
        account = pool.options(mailbox=2).actor(Account)
        assert result(account.deposit()) == 1
        tasks = [account.pass_gate(gate.path), account.deposit()]
        with pytest.raises(td.MailboxFull, match="mailbox"):
            account.deposit()
        gate.open()
        assert [result(task) for task in tasks] == [1, 2]
        refused = pool.go(flood, account, gate.path, 3)
        assert result(refused) == ["MailboxFull"] * 2
        gate.open()


# --- cancelling, times, limits ----------------------------------------------------------------------------------


def test_a_call_that_waits_for_its_turn_can_be_cancelled(place, gate):
    account = place(Account)
    first, second, third = account.await_gate(gate.path), account.deposit(10), account.deposit()
    gate.wait_for_arrivals()
    assert second.cancel()
    gate.open()
    assert (result(first), result(third)) == (0, 1)
    assert second.cancelled()


@pytest.mark.parametrize("method", ["pass_gate", "await_gate", "gate_generator"])
def test_a_call_that_runs_can_be_cancelled(place, gate, method):
    account = place(Account)
    task = account.ask(method, gate.path)
    gate.wait_for_arrivals()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        result(task)
    assert result(account.deposit()) == 1


def test_a_call_that_does_not_stop_takes_the_worker_with_it(gate):
    with Workers(1, grace=0.05) as pool:
        account = alone(pool, Account)
        task = account.swallow(gate.path)
        gate.wait_for_arrivals()
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            result(task)
        eventually(lambda: pool.statistics()["processes"] == [], "its process is left")
        with pytest.raises(td.ActorDied):
            account.deposit()


@pytest.mark.parametrize("method", ["pass_gate", "await_gate"])
def test_a_call_may_have_a_time(gate, method):
    with Workers(1) as pool:
        account = pool.options(timeout=0.1).actor(Account)
        task = account.ask(method, gate.path)
        later = account.deposit()
        with pytest.raises(TimeoutError, match="timeout"):
            result(task)
        assert result(later) == 1


def test_a_process_may_have_a_limit_of_memory():
    with Workers(1) as pool:
        actor = pool.options(memory="64MiB").actor(Hoarder)
        task = actor.hoard()
        with pytest.raises(td.ActorDied) as caught:
            result(task)
        assert isinstance(caught.value.__cause__, td.MemoryLimitExceeded)


# --- waits that can never end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["plainly", "await_partner", "in_a_run"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cycle_is_refused(way, kind):
    with Workers(2) as pool:
        make = pool.actor if kind == "shared" else lambda owner: alone(pool, owner)
        one, other = make(Account), make(Account)
        one.meet(other)
        other.meet(one)
        with pytest.raises(td.DeadlockError, match="waits for"):
            result(one.ask(way, way, "deposit"))
        # Whose wait is refused, depends on who is heard first.
        assert min(result(one.deposit()), result(other.deposit())) >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_ring_of_calls_that_call_each_other_ends(kind):
    """What is refused does not begin, or each refusal would be followed by the next ring."""
    with Workers(2) as pool:
        make = pool.actor if kind == "shared" else lambda owner: alone(pool, owner)
        one, other = make(Account), make(Account)
        one.meet(other)
        other.meet(one)
        with pytest.raises(td.DeadlockError):
            result(one.ring())
        result(one.stop())
        result(other.stop())


@pytest.mark.parametrize("way", ["plainly", "await_partner", "in_a_run"])
def test_one_that_waits_for_itself_is_refused_and_what_it_asked_is_not_done(place, way):
    account = place(Account)
    account.meet(account)
    for _ in range(20):
        with pytest.raises(td.DeadlockError):
            result(account.ask(way, "deposit"))
    assert result(account.deposit()) == 1


def test_a_run_in_a_plain_method_that_has_a_way_out_closes_nothing(place):
    account = place(Account)
    account.meet(account)
    for count in range(1, 4):
        assert result(account.in_time_in_a_run("deposit")) == "had a way out"
        # What was given up is done.
        assert result(account.balance) == count


def test_a_run_that_is_over_waits_for_nobody(place):
    account, other = place(Account), place(Account)
    account.meet(account)
    assert result(account.after_a_run("deposit")) == "waited"
    other.meet(account)
    assert result(other.await_partner("deposit")) == 2


def test_a_plain_method_that_waits_for_its_own_worker_is_told_what_to_write():
    with Workers(1) as pool:
        one, other = pool.actor(Account), pool.actor(Account)
        one.meet(other)
        with pytest.raises(td.DeadlockError, match="async def"):
            result(one.plainly("deposit"))
        assert result(one.await_partner("deposit")) == 1, "what was refused was not done"


# --- moving, and the end of everything --------------------------------------------------------------------------


def test_one_moves_with_its_state_its_calls_and_its_handles():
    with Workers(1) as pool, Workers(1) as other:
        account = pool.actor(Account)
        one = pool.actor(Account)
        one.meet(account)
        before = [account.deposit() for _ in range(10)]
        for place in (pool, other):
            moving = account.move(place)
            after = [account.deposit() for _ in range(10)]
            assert result(moving) is None
            before += after
        assert [result(task) for task in before] == list(range(1, 31))


def test_a_handle_in_a_worker_follows_within_its_pool():
    with Workers(2) as pool:
        account, one = pool.actor(Account), pool.actor(Account)
        one.meet(account)
        assert result(one.await_partner("deposit")) == 1
        assert result(account.move(pool)) is None
        assert result(one.await_partner("deposit")) == 2
        assert result(account.balance) == 2


class Reluctant:
    """An argument that is pickled when it may be."""

    def __init__(self):
        self.begins, self.may = threading.Event(), threading.Event()

    def __reduce__(self):
        self.begins.set()
        assert self.may.wait(PATIENCE)
        return int, ()


@pytest.mark.parametrize("fails", [False, True])
def test_calls_of_one_that_moves_keep_their_order_while_those_that_have_waited_are_sent(gate, fails):
    with Workers(1) as pool, Workers(1) as other:
        diary, reluctant = pool.actor(Diary, gate.path), Reluctant()
        result(diary.words)
        moving = diary._box.leave(Raises() if fails else functools.partial(make, other, False, {}, Diary))
        gate.wait_for_arrivals()
        tasks = [diary.note(1), diary.note(2, reluctant), diary.note(3)]
        gate.open()
        assert reluctant.begins.wait(PATIENCE)
        tasks += [diary.note(4), diary.note(5)]
        reluctant.may.set()
        tasks.append(diary.note(6))
        assert isinstance(moving.exception(PATIENCE), LookupError if fails else type(None))
        for task in tasks:
            result(task)
        assert result(diary.words) == [1, 2, 3, 4, 5, 6]
        diary.kill()


def test_a_call_of_one_that_moves_is_cancelled_before_it_has_arrived(gate):
    with Workers(1) as pool, Workers(1) as other:
        diary = pool.actor(Diary, gate.path)
        moving = diary.move(other)
        gate.wait_for_arrivals()
        kept, dropped = diary.note("kept"), diary.note("dropped")
        assert dropped.cancel()
        with pytest.raises(td.TaskCancelled):
            result(dropped)
        assert not dropped.cancel(), "it has ended"
        gate.open()
        for task in (moving, kept):
            result(task)
        assert result(diary.words) == ["kept"]
        diary.kill()


class Raises:
    def __call__(self, state):
        raise LookupError


def test_one_that_is_told_to_move_twice_moves_twice(gate):
    with Workers(1) as pool, Workers(1) as other:
        diary = pool.actor(Diary, gate.path)
        moves = [diary._box.leave(Raises()), diary.move(other)]
        task = diary.note("there")
        gate.open(2)
        assert isinstance(moves[0].exception(PATIENCE), LookupError)
        result(moves[1])
        result(task)
        assert diary.place is other
        diary.kill()


def test_one_that_is_killed_while_it_moves_does_not_live_on():
    with Workers(1) as pool:
        account, made = pool.actor(Account), []

        def settle(state):
            account.kill()
            made.append(make(pool, False, {}, Account, state))
            return made[0]

        result(account._box.leave(settle))
        with pytest.raises(td.ActorDied):
            result(made[0].read("balance"))
        with pytest.raises(td.ActorDied):
            result(account.balance)


class Made:
    def __new__(cls, first):
        return super().__new__(cls)


class Spread:
    def __init__(self, *args, **kwargs):
        self.given = args, kwargs


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda pool: pool.actor(Account, 1, 2, 3), r"Account.__init__\(\): too many positional arguments"),
        (lambda pool: pool.actor(Account, balnce=1), "unexpected keyword argument 'balnce'"),
        (lambda pool: pool.actor(Made), "missing a required argument: 'first'"),
        (lambda pool: td.actor(Account, 1, 2, 3), "too many positional arguments"),
        (lambda pool: td.actor(), r"`td\.actor\(Account, 100\)`"),
    ],
)
def test_what_a_constructor_does_not_take_is_an_error_where_the_actor_is_made(make, words):
    with Workers(1) as pool:
        with pytest.raises(TypeError, match=words):
            make(pool)
        assert result(pool.actor(Made, 1).ask("__class__")) is Made
        assert result(pool.actor(Spread, 1, a=2).given) == ((1,), {"a": 2})
        # Of this one nothing is known before it is called.
        assert result(pool.actor(dict, a=2).get("a")) == 2


def test_an_async_generator_is_refused_at_the_call():
    class Lister:
        async def values(self):
            yield 1

    with Workers(1) as pool, pytest.raises(TypeError, match="async generator"):
        pool.actor(Lister).values()


def test_a_handle_that_goes_with_the_interpreter_says_nothing(tmp_path):
    """A test run keeps its modules until names in other modules are gone."""
    module = "import thistledown as td\nKEPT = []\ndef test():\n    KEPT.append(td.actor(list))\n"
    (tmp_path / "test_kept.py").write_text(module + "    KEPT[0].append(1).result()\n")
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:thistledown", str(tmp_path)]
    ended = run_program("import sys, pytest\nsys.exit(pytest.main(sys.argv[1:]))", *arguments)
    assert "1 passed" in ended.stdout
    assert "Exception ignored" not in ended.stderr


def test_the_way_to_one_that_has_moved_often_is_short():
    with Workers(1) as pool:
        account = pool.actor(Account)
        for _ in range(350):
            result(account.move(pool))
        assert result(account.deposit()) == 1
        assert account.place is pool


def move_in_worker(actor):
    with pytest.raises(TypeError, match="is moved from there"):
        actor.move(td.workers())
    return actor.deposit().result(PATIENCE)


def test_one_of_the_programs_pool_is_not_moved_by_a_worker():
    with Workers(1) as pool:
        account = pool.actor(Account)
        assert result(pool.go(move_in_worker, account)) == 1
        assert result(account.deposit()) == 2


def test_what_cannot_move_stays(place):
    account = place(Account)
    result(account.hold_what_cannot_be_sent())
    with Workers(1) as other:
        moving = account.move(other)
        later = account.deposit()
        with pytest.raises(td.NotPicklable):
            result(moving)
        assert result(later) == 1


def test_the_end_of_a_pool_answers_what_was_asked_and_ends_idle_ones():
    heard = []
    with Workers(1) as pool:
        account, idle = alone(pool, Account), pool.actor(Account)
        for actor in (account, idle):
            actor._box.watch(heard.append)
        tasks = [account.deposit() for _ in range(100)]
    assert result(tasks[-1]) == 100
    with pytest.raises(td.ActorDied, match="its pool"):
        account.deposit()
    eventually(lambda: len(heard) == 2, "nobody hears of their ends")
    assert {ending.word for ending in heard} == {"killed"}


def test_the_tree_shows_them(gate):
    with Workers(1) as pool:
        account = pool.options(name="savings").actor(Account)
        task = account.pass_gate(gate.path)
        gate.wait_for_arrivals()
        assert "savings" in str(td.tree())
        gate.open()
        assert result(task) == 0


KILLED_WITH_CALLS = """
    import thistledown as td

    class Account:
        def waits(self, channel):
            channel.recv().wait()

    channel = td.Channel()
    with td.Workers(1) as pool:
        account = pool.actor(Account)
        for _ in range(2):
            account.waits(channel)
        account.kill()
"""


def test_a_call_that_nobody_asks_for_names_its_actor_when_that_ends():
    said = run_program(KILLED_WITH_CALLS).stderr
    assert "task Account-1.waits-" in said
    assert "actor Account-1 has ended" in said, said
