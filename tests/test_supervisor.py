"""Supervisors and weightless children: in a run, in an asyncio loop, and in plain code.

Rules of Erlang/OTP's name their section: ``sup_princ`` is "Supervisor Behaviour" in the design principles,
``supervisor`` the reference of that module. What is decided is tested in ``test_supervision``.
"""

import contextlib
import logging
import math
import pickle
import sys
import threading

import pytest
import thistledown as td
from thistledown._supervisors import roots

from support import PATIENCE, settle


class Account:
    """Counts, and fails as it is told to."""

    made = 0

    def __init__(self, balance=0):
        type(self).made += 1
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    async def forever(self):
        await td.sleep(math.inf)


class Log(list):
    """What happened, in words; somebody can wait for a number of them."""

    def __init__(self):
        super().__init__()
        self.grown = td.Channel(1000)

    def add(self, words):
        self.append(words)
        self.grown.send_nowait(words)

    async def until(self, words):
        while words not in self:
            await self.grown.recv()

    def body(self, name, failing=0, stubborn=False):
        """A task that runs until it is stopped, and at first fails so many times."""
        left = [failing]

        async def body():
            if left[0]:
                left[0] -= 1
                self.add(f"!{name}")
                raise ValueError(name)
            self.add(f"+{name}")
            try:
                await td.sleep(math.inf)
            finally:
                self.add(f"-{name}")

        return td.child(body).options(name=name)


def here(owner, *args, **options):
    return td.child(owner, *args).options(place=td.here, **options)


@pytest.fixture(autouse=True)
def no_reports(caplog):
    """Reports are read by those tests that are about them."""
    caplog.set_level(logging.CRITICAL, "thistledown.supervisor")


# --- starts and ends -----------------------------------------------------------------------------------------


async def test_children_start_in_order_and_stop_in_reverse(home):
    """sup_princ, Supervision Principles."""
    log = Log()
    async with td.Supervisor([log.body(name) for name in "abc"]) as supervisor:
        await log.until("+c")
        assert [child.name for child in supervisor.which_children()] == list("abc")
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


async def test_a_constructor_that_fails_stops_those_before_it_and_fails_the_start(home):
    """supervisor, start_link."""
    log = Log()

    class Broken:
        def __init__(self):
            raise OSError("no disk")

    children = [here(Account), log.body("a"), here(Broken), log.body("b")]
    supervisor = td.Supervisor(children, name="shop")
    with pytest.raises(td.ChildFailed, match=r"Broken of shop could not be started: OSError\('no disk'\)") as caught:
        async with supervisor:
            pytest.fail("it cannot begin")
    assert caught.value.child == "Broken"
    assert isinstance(caught.value.__cause__, OSError)
    assert pickle.loads(pickle.dumps(caught.value)).child == "Broken"
    assert "+b" not in log
    assert supervisor.count_children()["active"] == 0
    with pytest.raises(td.ActorStopped):
        supervisor["Account"].deposit(1)


async def test_one_who_is_cancelled_at_the_end_of_the_block_kills_the_children(home):
    stopping, waits = td.Channel(1), []

    async def stubborn():
        try:
            await td.sleep(math.inf)
        finally:
            stopping.send_nowait("stopping")
            with td.shield():
                await td.sleep(0.01)
            waits.append("cleaned up")

    async def keep():
        async with td.Supervisor([td.child(stubborn).options(shutdown=math.inf)]):
            await settle()

    task = td.go(keep())
    await stopping.recv()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert waits == ["cleaned up"]


@pytest.mark.virtual_clock
async def test_a_child_has_its_shutdown_time_and_is_killed_then():
    """sup_princ, Child Specification, shutdown."""
    runner, ended = [], []

    class Slow:
        async def work(self):
            try:
                await td.sleep(3600.0)
            finally:
                ended.append("work")

    async def clock():
        for second in range(100):
            runner.append(second)
            await td.sleep(1.0)

    ticking = td.go(clock())
    async with td.Supervisor([here(Slow, shutdown=7.0)]) as supervisor:
        work = supervisor["Slow"].work()
        await td.sleep(0.5)
    assert len(runner) == 8
    assert ended == ["work"]
    with pytest.raises(td.ActorDied):
        await work
    ticking.cancel()


@pytest.mark.virtual_clock
async def test_a_shutdown_time_of_zero_kills_at_once():
    """sup_princ, Child Specification, shutdown: brutal_kill."""
    async with td.Supervisor([here(Account, shutdown=0)]) as supervisor:
        call = supervisor["Account"].forever()
        await settle()
    with pytest.raises(td.ActorDied, match="killed"):
        await call


@pytest.mark.virtual_clock
async def test_an_actor_that_is_stopped_answers_what_it_was_asked():
    async with td.Supervisor([here(Account, 100)]) as supervisor:
        calls = [supervisor["Account"].deposit(amount) for amount in (1, 2, 3)]
    assert [await call for call in calls] == [101, 103, 106]


async def test_kill_ends_everything_at_once(home):
    log = Log()
    inner = td.Supervisor([log.body("b")], name="inner")
    supervisor = td.Supervisor([log.body("a"), inner, here(Account)])
    await supervisor.start()
    await log.until("+b")
    call = supervisor["Account"].forever()
    await settle()
    supervisor.kill()
    await supervisor
    assert sorted(log) == ["+a", "+b", "-a", "-b"]
    with pytest.raises(td.ActorDied):
        await call
    assert inner.count_children()["active"] == 0


async def test_it_can_be_started_again_with_the_children_that_it_was_made_with(home):
    supervisor = td.Supervisor([here(Account, 7)])
    handle = supervisor["Account"]
    with pytest.raises(RuntimeError, match="was not started"):
        supervisor.stop()
    for _ in range(2):
        async with supervisor:
            await supervisor.start_child(here(Account, name="further"))
            with pytest.raises(RuntimeError, match="runs already"):
                supervisor.start()
            assert await handle.balance == 7
        assert "further" in supervisor
        assert supervisor.count_children()["active"] == 0
    await supervisor.start()
    assert "further" not in supervisor
    await supervisor.stop()


# --- restarts ------------------------------------------------------------------------------------------------


async def test_a_handle_is_good_after_a_restart(home):
    async with td.Supervisor([here(Account, 100, name="account")]) as supervisor:
        account = supervisor["account"]
        assert await account.deposit(5) == 105
        account.kill()
        assert await account.deposit(5) == 105
        assert account == supervisor["account"]
        assert supervisor.which_children()[0].restarts == 1


async def test_what_was_begun_or_queued_at_the_death_fails_and_what_comes_later_waits(home):
    async with td.Supervisor([here(Account, 100)]) as supervisor:
        account = supervisor["Account"]
        begun, queued = account.forever(), [account.deposit(1) for _ in range(100)]
        await settle()
        account.kill()
        later = [account.deposit(1) for _ in range(100)]
        for call in [begun, *queued]:
            with pytest.raises(td.ActorDied):
                await call
        assert [await call for call in later] == list(range(101, 201))


async def test_what_waits_for_the_next_instance_can_be_cancelled_and_is_asked_of_nobody(home):
    async with td.Supervisor([here(Account, 100)]) as supervisor:
        account = supervisor["Account"]
        account.kill()
        calls = [account.deposit(amount) for amount in (1, 2, 4)]
        read = account.balance
        assert [calls[1].cancel(), read.cancel()] == [True, True]
        assert [calls[1].cancelled(), read.cancelled(), calls[1].cancel()] == [True, True, False]
        with pytest.raises(td.TaskCancelled):
            await calls[1]
        assert [await calls[0], await calls[2]] == [101, 105]
        assert await account.balance == 105
        assert calls[0].cancel() is False


async def test_what_was_held_and_has_begun_is_cancelled_where_it_is(home):
    begun, ended = td.Channel(1), td.Channel(1)

    class Slow:
        async def work(self):
            begun.send_nowait("begun")
            try:
                await td.sleep(math.inf)
            finally:
                ended.send_nowait("ended")

    async with td.Supervisor([here(Slow)]) as supervisor:
        supervisor["Slow"].kill()
        work = supervisor["Slow"].work()
        await begun.recv()
        assert work.cancel() is True
        await ended.recv()
        with pytest.raises(td.TaskCancelled):
            await work
        assert work.cancelled()


async def test_an_exception_of_a_method_restarts_nobody(home):
    async with td.Supervisor([here(Account)]) as supervisor:
        with pytest.raises(TypeError):
            await supervisor["Account"].deposit("much")
        assert await supervisor["Account"].deposit(1) == 1
        assert supervisor.which_children()[0].restarts == 0


async def test_all_are_started_again_with_one_for_all(home):
    """sup_princ, Restart Strategy, one_for_all."""
    log = Log()
    children = [log.body("a"), here(Account), log.body("c")]
    async with td.Supervisor(children, strategy="one_for_all") as supervisor:
        await log.until("+c")
        handle = supervisor["Account"]
        await handle.deposit(5)
        supervisor["a"].cancel()
        while log.count("+c") < 2:
            await log.grown.recv()
        assert await handle.deposit(1) == 1
    assert log == ["+a", "+c", "-a", "-c", "+a", "+c", "-c", "-a"]


async def test_those_behind_are_started_again_with_rest_for_one(home):
    """sup_princ, Restart Strategy, rest_for_one."""
    log = Log()
    children = [log.body(name) for name in "abc"]
    async with td.Supervisor(children, strategy="rest_for_one") as supervisor:
        await log.until("+c")
        supervisor["b"].cancel()
        while log.count("+c") < 2:
            await log.grown.recv()
    assert log == ["+a", "+b", "+c", "-b", "-c", "+b", "+c", "-c", "-b", "-a"]


async def test_a_transient_task_runs_to_its_end_and_again_when_it_fails(home):
    """sup_princ, Child Specification, restart."""
    runs = []

    async def job():
        runs.append("run")
        if len(runs) == 1:
            raise OSError
        done.send_nowait("done")

    done = td.Channel(1)
    async with td.Supervisor([td.child(job).options(restart="transient")]) as supervisor:
        await done.recv()
        await settle()
        assert [child.state for child in supervisor.which_children()] == ["down"]
        with pytest.raises(KeyError, match="does not run now"):
            supervisor["job"]
    assert runs == ["run", "run"]


async def test_a_transient_actor_that_is_stopped_stays_so(home):
    async with td.Supervisor([here(Account, restart="transient")]) as supervisor:
        account = supervisor["Account"]
        await account.stop()
        await settle()
        with pytest.raises(td.ActorStopped):
            account.deposit(1)
        await supervisor.restart_child("Account")
        assert await account.deposit(1) == 1


async def test_a_temporary_child_is_forgotten_when_it_has_ended(home):
    """sup_princ, Child Specification, restart."""
    async with td.Supervisor([here(Account, restart="temporary")]) as supervisor:
        account = supervisor["Account"]
        account.kill()
        while supervisor.which_children():
            await td.sleep(0)
        with pytest.raises(td.ActorDied, match="killed"):
            account.deposit(1)


async def test_a_child_that_is_forgotten_is_nobodys_child(home):
    """supervisor, terminate_child: a temporary child's specification goes with it."""
    children = [
        here(Account, name="brief", restart="temporary"),
        here(Account, name="deleted"),
        here(Account, name="c"),
    ]
    async with td.Supervisor(children) as supervisor:
        assert "brief" in supervisor
        supervisor["brief"].kill()
        await supervisor.terminate_child("deleted")
        assert "deleted" in supervisor
        await supervisor.delete_child("deleted")
        while len(supervisor.which_children()) > 1:
            await td.sleep(0)
        for gone in ("brief", "deleted"):
            assert gone not in supervisor
            with pytest.raises(KeyError, match=f"no child '{gone}'; there are 'c'"):
                supervisor[gone]
        with pytest.raises(KeyError, match="no child 'x'; there are 'c'"):
            supervisor["x"]
        await supervisor.start_child(here(Account, 7, name="brief"))
        assert await supervisor["brief"].balance == 7


# --- too many restarts ---------------------------------------------------------------------------------------


async def test_a_child_that_fails_at_once_ends_the_supervisor_and_does_not_spin(home):
    """sup_princ, Maximum Restart Intensity."""
    log = Log()
    supervisor = td.Supervisor([here(Account), log.body("a", failing=100)], max_restarts=3, name="shop")
    with pytest.raises(td.ChildFailed, match="shop gives up: child a has ended, and more than 3 restarts") as caught:
        async with supervisor:
            await supervisor
    assert log == ["!a"] * 4
    assert isinstance(caught.value.__cause__, ValueError)
    assert supervisor.count_children()["active"] == 0


async def test_a_constructor_that_fails_at_the_restart_is_tried_again_and_counts(home):
    """supervisor, Restart intensity and period."""
    made = []

    class Broken:
        def __init__(self):
            made.append(self)
            if len(made) > 1:
                raise OSError("no disk")

        def hello(self):
            pytest.fail("nobody is there")

    supervisor = td.Supervisor([here(Broken)], max_restarts=3)
    with pytest.raises(td.ChildFailed) as caught:
        async with supervisor:
            supervisor["Broken"].kill()
            held = supervisor["Broken"].hello()
            await supervisor
    assert len(made) == 4
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(td.ActorDied):
        await held


async def test_who_died_is_not_stuck_when_another_fails_to_start_and_is_terminated(home):
    """supervisor, terminate_child and restart_child: only the child that failed is restarting."""

    class Broken:
        made = 0

        def __init__(self):
            type(self).made += 1
            if self.made == 2:
                terminations.append(supervisor.terminate_child("Broken"))
                raise OSError("no disk")

    terminations = []
    supervisor = td.Supervisor([here(Broken), here(Account, 7)], strategy="one_for_all", max_restarts=9)
    async with supervisor:
        account = supervisor["Account"]
        account.kill()
        held = account.deposit(1)
        with pytest.raises(td.ActorDied):
            await held
        await terminations[0]
        assert [child.state for child in supervisor.which_children()] == ["down", "down"]
        await supervisor.restart_child("Account")
        assert await account.deposit(1) == 8


async def test_a_supervisor_that_gives_up_is_a_matter_of_its_own_supervisor(home):
    """sup_princ, Maximum Restart Intensity: "the next higher-level supervisor takes some action"."""
    log = Log()
    inner = td.Supervisor([log.body("a", failing=3), here(Account, 100)], max_restarts=1, name="inner")
    async with td.Supervisor([inner]) as outer:
        account = outer["inner"]["Account"]
        await log.until("+a")
        assert await account.deposit(1) == 101
        assert outer.which_children() == [("inner", "running", "supervisor", "permanent", 1)]
    assert log == ["!a", "!a", "!a", "+a", "-a"]


async def test_a_transient_supervisor_that_gives_up_is_not_started_again(home):
    """sup_princ, Child Specification, restart: ``shutdown`` is no abnormal reason."""
    log = Log()
    inner = td.Supervisor([here(Account), log.body("a", failing=9)], name="inner")
    async with td.Supervisor([td.child(inner).options(restart="transient")]) as outer:
        account = inner["Account"]
        while outer.which_children()[0].state == "running":
            await td.sleep(0)
        with pytest.raises(td.ActorStopped):
            account.deposit(1)
    assert log == ["!a", "!a"]


async def test_failures_go_up_until_somebody_is_left_who_can_decide(home):
    """sup_princ, Tuning the intensity and period: what is too much for all is the product of the levels."""
    log = Log()
    inner = td.Supervisor([log.body("a", failing=100)], max_restarts=2, name="inner")
    outer = td.Supervisor([inner], max_restarts=1, name="outer")
    with pytest.raises(td.ChildFailed, match="outer gives up: child inner") as caught:
        async with outer:
            await outer
    assert len(log) == 6
    assert "inner gives up: child a" in str(caught.value.__cause__)


async def test_what_has_happened_is_logged(caplog, home):
    caplog.set_level(logging.WARNING, "thistledown.supervisor")
    log = Log()
    async with td.Supervisor([log.body("a", failing=1)], name="shop"):
        await log.until("+a")
    (record,) = [record for record in caplog.records if record.name == "thistledown.supervisor"]
    assert record.getMessage() == "child a of shop has ended: failed, ValueError('a')"
    assert isinstance(record.exc_info[1], ValueError)


# --- children on demand --------------------------------------------------------------------------------------


async def test_children_on_demand(home):
    """supervisor, start_child, terminate_child, restart_child, delete_child, which_children, count_children."""
    async with td.Supervisor([here(Account, 1, name="a")]) as supervisor:
        handle = await supervisor.start_child(here(Account, 2, name="b"))
        assert (await handle.balance, supervisor["b"]) == (2, handle)
        with pytest.raises(ValueError, match="'b' runs already"):
            await supervisor.start_child(here(Account, name="b"))
        with pytest.raises(RuntimeError, match="'b' runs"):
            await supervisor.restart_child("b")
        with pytest.raises(RuntimeError, match="'b' runs"):
            await supervisor.delete_child("b")
        await supervisor.terminate_child("b")
        with pytest.raises(td.ActorStopped):
            handle.deposit(1)
        with pytest.raises(ValueError, match="known already"):
            await supervisor.start_child(here(Account, name="b"))
        assert await (await supervisor.restart_child("b")).balance == 2
        assert await handle.deposit(1) == 3
        await supervisor.terminate_child("b")
        await supervisor.delete_child("b")
        with pytest.raises(KeyError, match="no child 'b'"):
            await supervisor.terminate_child("b")
        with pytest.raises(KeyError, match="no child 'b'"):
            supervisor["b"]
        assert supervisor.count_children() == {"specs": 1, "active": 1, "supervisors": 0, "workers": 1}
    with pytest.raises(RuntimeError, match="does not run"):
        supervisor.start_child(here(Account))


async def test_a_new_child_that_cannot_be_started_is_not_known(home):
    """supervisor, start_child."""

    class Broken:
        def __init__(self):
            raise OSError("no disk")

    async with td.Supervisor() as supervisor:
        with pytest.raises(td.ChildFailed, match="no disk"):
            await supervisor.start_child(here(Broken))
        assert supervisor.which_children() == []
        assert "Broken" not in supervisor


async def test_a_child_that_ends_itself_through_its_supervisor_is_stopped(home):
    """It waits for its own end: the supervisor cancels it meanwhile."""
    ends = []

    async def child():
        try:
            await supervisor.terminate_child("child")
        finally:
            ends.append("ended")

    supervisor = td.Supervisor([td.child(child)])
    async with supervisor:
        while not ends:
            await td.sleep(0)
        await settle()
        assert [child.state for child in supervisor.which_children()] == ["down"]


# --- in runs and in plain code -------------------------------------------------------------------------------


def test_a_run_of_a_supervisor_lasts_until_somebody_stops_it():
    async def stops():
        await settle()
        supervisor.stop()

    supervisor = td.Supervisor([here(Account), td.child(stops)])
    assert td.run(supervisor) is None
    assert supervisor.count_children()["active"] == 0


def test_a_supervisor_that_was_started_in_a_run_is_a_task_of_it():
    log = Log()
    supervisor = td.Supervisor([log.body("a", failing=9)])

    async def main():
        supervisor.start()

    with pytest.raises(td.ChildFailed):
        td.run(main)
    assert log == ["!a", "!a"]


def test_a_run_that_fails_stops_its_supervisors():
    log = Log()

    async def main():
        await td.Supervisor([log.body("a"), log.body("b")]).start()
        await log.until("+b")
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        td.run(main)
    assert log == ["+a", "+b", "-b", "-a"]


def test_in_plain_code_it_has_a_thread_of_its_own():
    threads = []

    class Where:
        def __init__(self):
            threads.append(threading.current_thread().name)

        def thread(self):
            return threading.current_thread().name

    with td.Supervisor([here(Where)], name="shop") as supervisor:
        where = supervisor["Where"]
        assert where.thread().result(PATIENCE) == "thistledown-shop"
        where.kill()
        assert where.thread().result(PATIENCE) == "thistledown-shop"
        with pytest.raises(TimeoutError):
            supervisor.wait(0.0)
        where.kill()
        with pytest.raises(td.ChildFailed):
            supervisor.wait(PATIENCE)
        with pytest.raises(td.ChildFailed):
            supervisor.stop().result(PATIENCE)
        with pytest.raises(td.ActorDied):
            where.thread().result(PATIENCE)
        supervisor.start().result(PATIENCE)
    assert threads == ["thistledown-shop"] * 3


def test_when_its_thread_cannot_start_it_can_be_started_later(monkeypatch):
    supervisor = td.Supervisor([here(Account, 7)], name="shop")
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "thistledown-shop":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            supervisor.start()
        with pytest.raises(RuntimeError, match="was not started"):
            supervisor.stop()
        with pytest.raises(RuntimeError, match="does not run"):
            supervisor.start_child(here(Account, name="further"))
        with pytest.raises(td.ActorStopped):
            supervisor["Account"].deposit(1)
    with supervisor:
        assert supervisor["Account"].deposit(1).result(PATIENCE) == 8


def test_supervisors_that_start_while_somebody_looks_at_the_tree_do_no_harm():
    """At each line of Python that the look runs, one more is started, as another thread would do it."""
    started = []

    def at_each_line(frame, event, argument):
        if event == "line" and len(started) < 30:
            sys.settrace(None)
            started.append(td.Supervisor(name=f"shop {len(started)}"))
            started[-1].start().result(PATIENCE)
            sys.settrace(at_each_line)
        return at_each_line

    before = sys.gettrace()
    with td.Supervisor(name="first"):
        sys.settrace(at_each_line)
        try:
            seen = roots()
        finally:
            sys.settrace(before)
        assert [one.name for one in seen if one.name == "first"] == ["first"]
        for one in started:
            one.stop().result(PATIENCE)
    assert len(started) > 2


def test_a_plain_block_that_fails_raises_its_own_error_and_stops():
    supervisor = td.Supervisor([here(Account)])
    with pytest.raises(ZeroDivisionError), supervisor:
        raise ZeroDivisionError
    supervisor.wait(0.0)


async def test_a_plain_block_in_a_run_says_what_to_write(home):
    with pytest.raises(RuntimeError, match="async with"), td.Supervisor():
        pytest.fail("it cannot begin")


async def test_demands_that_nobody_hears_any_more_are_refused(home):
    async with td.Supervisor([here(Account)]) as supervisor:
        supervisor.stop()
        demand = supervisor.terminate_child("Account")
    with pytest.raises(RuntimeError, match=r"has ended|was stopped"):
        await demand


# --- calls before the start, and the end of a run ------------------------------------------------------------


def test_calls_wait_for_the_first_instance_in_plain_code():
    begins, entered = threading.Event(), threading.Event()

    class Slow(Account):
        def __init__(self):
            super().__init__()
            entered.set()
            begins.wait(PATIENCE)

    inner = td.Supervisor([here(Account)], name="inner")
    supervisor = td.Supervisor([here(Slow), inner])
    supervisor.start()
    assert entered.wait(PATIENCE)
    asked = supervisor["Slow"].deposit(1), inner["Account"].deposit(2)
    begins.set()
    assert [task.result(PATIENCE) for task in asked] == [1, 2]
    supervisor.stop().result(PATIENCE)


def test_calls_before_a_start_that_fails_fail_with_it():
    class Broken(Account):
        def __init__(self):
            raise OSError("no disk")

    supervisor = td.Supervisor([here(Broken), here(Account)])
    started = supervisor.start()
    asked = []
    # As long as it has not failed, which may be at once.
    with contextlib.suppress(td.ActorStopped, td.ActorDied):
        asked.append(supervisor["Account"].deposit(1))
    with pytest.raises(td.ChildFailed):
        started.result(PATIENCE)
    for task in asked:
        with pytest.raises(td.ActorStopped):
            task.result(PATIENCE)


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_start_that_fails_is_handled_by_who_handles_it(home, is_late):
    """A failure that reaches somebody is no failure of the run, whenever he asks for it."""

    class Broken(Account):
        def __init__(self):
            raise OSError("no disk")

    supervisor = td.Supervisor([here(Broken)])
    started = supervisor.start()
    if is_late:
        await settle()
        assert started.done()
    with pytest.raises(td.ChildFailed, match="no disk"):
        await started
    with pytest.raises(td.ChildFailed):
        await supervisor.stop()


def test_a_start_that_fails_and_that_nobody_hears_of_is_raised_once_by_the_run():
    class Broken(Account):
        def __init__(self):
            raise OSError("no disk")

    async def main():
        td.Supervisor([here(Broken)]).start()

    with pytest.raises(td.ChildFailed, match="no disk"):
        td.run(main)


def test_a_start_that_is_stopped_is_no_failure_of_the_run():
    async def main():
        supervisor = td.Supervisor([td.Supervisor([here(Account)])])
        started = supervisor.start()
        await supervisor.stop()
        return started

    started = td.run(main)
    assert "stopped while it started" in str(started.exception())


def test_a_start_that_a_run_ends_before_its_first_turn_leaves_nobody_waiting():
    supervisor = td.Supervisor([here(Account)])
    asked = []

    async def main():
        asked.extend([supervisor.start(), supervisor["Account"].deposit(1)])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        td.run(main)
    with pytest.raises(td.TaskCancelled):
        asked[0].result(PATIENCE)
    with pytest.raises(td.ActorStopped):
        asked[1].result(PATIENCE)


@pytest.mark.parametrize("is_block", [False, True])
def test_weightless_actors_that_are_idle_end_at_once_with_their_run(is_block):
    """However much time they have: here it is endless."""
    supervisor = td.Supervisor([here(Account, shutdown=math.inf)])

    async def interrupted():
        await supervisor["Account"].deposit(1)
        raise KeyboardInterrupt

    async def main():
        if is_block:
            async with supervisor:
                await interrupted()
        await supervisor.start()
        td.go(interrupted)
        await supervisor

    with pytest.raises(KeyboardInterrupt):
        td.run(main)
    assert supervisor.count_children()["active"] == 0


def test_what_a_weightless_actor_runs_has_ended_before_the_children_in_front_of_it_are_stopped():
    log, begun = Log(), td.Channel(1)

    class Careful:
        async def work(self):
            begun.send_nowait(None)
            try:
                await td.sleep(math.inf)
            finally:
                with td.shield():
                    # So many turns of the others.
                    for _ in range(20):
                        await td.sleep(0)
                log.add("-work")

    supervisor = td.Supervisor([log.body("a"), here(Careful, shutdown=math.inf)])

    async def main():
        await supervisor.start()
        ends = td.monitor(supervisor["Careful"])
        td.go(told, ends)
        supervisor["Careful"].work()
        supervisor["Careful"].work()
        await begun.recv()
        raise KeyboardInterrupt

    async def told(ends):
        with td.shield():
            log.add((await ends).reason)

    with pytest.raises(KeyboardInterrupt):
        td.run(main)
    assert log.index("-work") < log.index("-a")
    assert "normal" in log


# --- monitors and links --------------------------------------------------------------------------------------


async def test_a_supervisor_is_monitored_and_linked(home):
    log = Log()
    good, bad = td.Supervisor([here(Account)], name="good"), td.Supervisor([log.body("a", failing=9)], name="bad")
    with pytest.raises(RuntimeError, match="was not started"):
        td.monitor(good)
    await good.start()
    down = td.monitor(good)
    await bad.start()
    td.link(good, bad)
    who, reason = await td.monitor(bad)
    assert who is bad
    assert isinstance(reason, td.ChildFailed)
    assert await down == (good, "normal")
    with pytest.raises(td.ChildFailed):
        await bad


async def test_a_monitor_of_a_supervised_actor_tells_of_its_instance(home):
    async with td.Supervisor([here(Account)]) as supervisor:
        account = supervisor["Account"]
        down = td.monitor(account)
        account.kill()
        assert await down == (account, "killed")
        assert await account.deposit(1) == 1


# --- the tree ------------------------------------------------------------------------------------------------


async def test_the_tree_shows_supervisors_with_their_children_and_restarts(home):
    log = Log()
    inner = td.Supervisor([log.body("a")], name="inner", strategy="one_for_all")
    async with td.Supervisor([here(Account), inner], name="shop") as supervisor:
        supervisor["Account"].kill()
        await supervisor["Account"].deposit(1)
        await supervisor.terminate_child("Account")
        await log.until("+a")
        node = td.tree().find("shop")
        assert str(node).splitlines() == [
            "supervisor shop: one_for_one, running",
            "  child Account: actor, down, restarted 1 time",
            "  supervisor inner: one_for_all, running",
            "    child a: task, running",
        ]
    assert td.tree().of_kind("supervisor") == ()


async def test_the_tree_leaves_out_what_a_supervisor_runs_itself_while_it_rests(home):
    log = Log()
    inner = td.Supervisor([log.body("a")], name="inner")
    async with td.Supervisor([here(Account), inner], name="shop") as supervisor:
        await log.until("+a")
        await settle()
        tree = td.tree()
        tasks = [node.name for run in tree.of_kind("run") for node in run.nodes() if node.kind == "task"]
        assert "a" in tasks
        assert not [name for name in tasks if "shop" in name or "inner" in name]
        assert "_supervising.py" not in str(tree)
        assert not any("1073741824" in node.state for node in tree.of_kind("channel"))
        assert supervisor.name == "shop"


async def test_the_tree_shows_what_holds_a_supervisor_up(home):
    gate = td.Channel(0)

    async def stubborn():
        with td.shield():
            await gate.recv()

    supervisor = td.Supervisor([td.child(stubborn).options(shutdown=math.inf)], name="shop")
    await supervisor.start()
    await settle()
    over = supervisor.stop()
    await settle()
    held_up = td.tree().find("work of shop").waits_for
    assert held_up == "the end of task end of child stubborn"
    await gate.send(None)
    await over


# --- misuse --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: td.Supervisor(strategy="all"), ValueError, "one_for_one"),
        (lambda: td.Supervisor(max_restarts=-1), ValueError, ">= 0"),
        (lambda: td.Supervisor(max_restarts=1.5), TypeError, "whole number"),
        (lambda: td.Supervisor(within=0), ValueError, "> 0"),
        (lambda: td.Supervisor(within="5"), TypeError, "seconds"),
        (lambda: td.Supervisor([Account, Account]), ValueError, r"named 'Account'.*options\(name="),
        (lambda: td.Supervisor([Account()]), TypeError, "restarted"),
        (lambda: td.child(5), TypeError, "class or a function"),
        (lambda: td.child(Account, 1, 2, 3, 4), TypeError, "too many positional arguments"),
        (lambda: td.child(td.Supervisor(), 1), TypeError, r"write `td\.child\(supervisor\)`"),
        (lambda: td.child(Account).options(restart="always"), ValueError, "permanent"),
        (lambda: td.child(Account).options(shutdown=-1), ValueError, ">= 0"),
        (lambda: td.child(Account).options(shutdown="kill"), TypeError, "0 to kill"),
        (lambda: td.child(Account).options(name=""), TypeError, "text"),
        (lambda: td.child(Account).options(place="here"), TypeError, "no place"),
        (lambda: td.child(Account).options(memory=5), TypeError, "no option memory"),
        (lambda: td.child(print).options(place=td.here), TypeError, "plain function"),
        (lambda: td.child(td.Supervisor()).options(place=td.here), TypeError, "leave out the place"),
        (lambda: td.Child(), TypeError, "td.child"),
        (lambda: pickle.dumps(td.Supervisor()), td.NotPicklable, "handles"),
    ],
)
def test_what_cannot_be_says_what_to_write(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_a_body_that_runs_once_is_no_child():
    async def body():
        pass

    coroutine = body()
    with pytest.raises(TypeError, match="only once"):
        td.Supervisor([coroutine])
    coroutine.close()


async def test_a_supervisor_that_runs_is_nobodys_child():
    inner = td.Supervisor([here(Account)], name="inner")
    async with td.Supervisor([here(Account)], name="outer") as outer:
        with pytest.raises(ValueError, match="outer is to be its own child"):
            outer.start_child(outer)
        await outer.start_child(inner)
        with pytest.raises(td.ChildFailed, match="outer runs already: a supervisor runs once"):
            await inner.start_child(outer)
        assert await outer["Account"].deposit(1) == 1
        assert await inner["Account"].deposit(2) == 2


def test_a_child_of_a_supervisor_that_was_not_started_says_what_to_write():
    supervisor = td.Supervisor([here(Account), Log().body("task")], name="shop")
    with pytest.raises(RuntimeError, match=r"was not started: write `with supervisor:`.*`supervisor\.start\(\)`"):
        supervisor["Account"].deposit(1)
    with pytest.raises(KeyError, match="start the supervisor first"):
        supervisor["task"]
    with supervisor:
        assert supervisor["Account"].deposit(1).result(PATIENCE) == 1
    with pytest.raises(td.ActorStopped):
        supervisor["Account"].deposit(1)


@pytest.mark.parametrize("children", [Account, td.child(Account), "Account", 3, None])
def test_children_that_are_no_list_are_an_error_that_says_what_to_write(children):
    with pytest.raises(TypeError, match=r"children of a supervisor are a list, .*`td\.Supervisor\(\["):
        td.Supervisor(children)


def test_an_unknown_child_has_near_names():
    with pytest.raises(KeyError, match="did you mean 'account'"):
        td.Supervisor([here(Account, name="account")])["acount"]
