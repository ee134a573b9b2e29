"""Supervisors of worker processes: deaths, handles that outlive them, times to end, and nothing left."""

import functools
import gc
import logging
import math
import os
import signal
from pathlib import Path

import pytest
import thistledown as td
import work
from boxes import Account
from pools import Workers
from thistledown import _core
from thistledown._boxes_workers import make

from leaks import descendants, eventually
from support import PATIENCE


@pytest.fixture(autouse=True)
def no_reports(caplog):
    caplog.set_level(logging.CRITICAL, "thistledown.supervisor")


class Alone:
    """What ``td.actor`` is, in a pool of the test's own."""

    def __init__(self, pool):
        self._box_maker = lambda: functools.partial(make, pool, True, {})


@pytest.fixture
def own_pool():
    with Workers(2) as pool:
        yield pool


@pytest.fixture(params=["alone", "shared"])
def place(request, own_pool):
    return Alone(own_pool) if request.param == "alone" else own_pool


def account(place, *args, **options):
    return td.child(Account, *args).options(place=place, **{"name": "account", **options})


def result(task):
    return task.result(PATIENCE)


def kill_its_process(handle):
    pid = result(handle.pid())
    os.kill(pid, signal.SIGKILL)
    return pid


def test_a_handle_is_good_after_the_death_of_its_process(place):
    with td.Supervisor([account(place, 100)]) as supervisor:
        handle = supervisor["account"]
        assert result(handle.deposit(5)) == 105
        pid = kill_its_process(handle)
        eventually(lambda: supervisor.which_children()[0].restarts == 1, "it is not started again")
        assert result(handle.deposit(5)) == 105
        assert result(handle.pid()) != pid


def test_what_was_begun_or_queued_at_the_death_fails_with_its_cause(place, gate):
    with td.Supervisor([account(place)]) as supervisor:
        handle = supervisor["account"]
        pid = result(handle.pid())
        begun, queued = handle.pass_gate(gate.path), [handle.deposit() for _ in range(100)]
        gate.wait_for_arrivals()
        os.kill(pid, signal.SIGKILL)
        for call in [begun, *queued]:
            with pytest.raises(td.ActorDied) as caught:
                result(call)
            assert isinstance(caught.value.__cause__, td.WorkerDied)
        assert result(handle.deposit()) == 1


def test_calls_that_come_while_there_is_none_wait_for_the_next(own_pool, tmp_path, gate):
    slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(own_pool))
    with td.Supervisor([slow]) as supervisor:
        handle = supervisor["Slow"]
        os.kill(result(handle.pid()), signal.SIGKILL)
        gate.wait_for_arrivals()
        calls = [handle.count() for _ in range(3)]
        gate.open()
        assert [result(call) for call in calls] == [1, 2, 3]


class Slow:
    """All of its constructors but the first stand before a gate."""

    def __init__(self, mark, gate):
        try:
            os.mkdir(mark)
        except FileExistsError:
            work.pass_gate(gate)
        self.calls = 0

    def pid(self):
        return os.getpid()

    def count(self):
        self.calls += 1
        return self.calls


def test_a_constructor_that_fails_fails_the_start(place):
    """supervisor, start_link."""
    below = descendants()
    first = account(place, 1, name="first")
    with (
        pytest.raises(td.ChildFailed, match=r"second .* LookupError") as caught,
        td.Supervisor([first, account(place, 0, LookupError("not here"), name="second")]),
    ):
        pytest.fail("it cannot begin")
    assert isinstance(caught.value.__cause__, LookupError)
    if isinstance(place, Alone):
        eventually(lambda: len(descendants() - below) <= 1, "a process is left beside the zygote")


def test_a_process_that_dies_at_once_ends_the_supervisor(own_pool):
    """sup_princ, Maximum Restart Intensity."""
    supervisor = td.Supervisor([td.child(Dying).options(place=Alone(own_pool))], max_restarts=3)
    with pytest.raises(td.ChildFailed, match="could not be started") as caught, supervisor:
        pytest.fail("it cannot begin")
    assert isinstance(caught.value.__cause__, td.WorkerDied)


class Dying:
    def __init__(self):
        os._exit(3)


def test_a_child_that_does_not_end_in_its_time_is_killed(own_pool, gate):
    """sup_princ, Child Specification, shutdown."""
    with td.Supervisor([account(Alone(own_pool), shutdown=0.1)]) as supervisor:
        call = supervisor["account"].pass_gate(gate.path)
        gate.wait_for_arrivals()
    with pytest.raises(td.ActorDied):
        result(call)


def test_an_actor_that_is_stopped_answers_what_it_was_asked(place):
    with td.Supervisor([account(place, shutdown=math.inf)]) as supervisor:
        calls = [supervisor["account"].deposit() for _ in range(100)]
    assert [result(call) for call in calls] == list(range(1, 101))


def test_kill_leaves_no_process(own_pool, gate):
    below = descendants()
    supervisor = td.Supervisor([account(Alone(own_pool), name=name) for name in "abc"])
    supervisor.start().result(PATIENCE)
    pids = {result(supervisor[name].pid()) for name in "abc"}
    call = supervisor["a"].pass_gate(gate.path)
    gate.wait_for_arrivals()
    assert pids <= descendants() - below
    supervisor.kill()
    supervisor.wait(PATIENCE)
    eventually(lambda: not pids & descendants(), "processes are left")
    with pytest.raises(td.ActorDied):
        result(call)


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_supervisor_that_is_killed_while_it_starts_reports_no_task_of_its_own(is_alone, tmp_path, gate, caplog):
    """What it asks a new actor, to hear that it is made, is its own affair."""
    caplog.set_level(logging.ERROR, "thistledown")
    (tmp_path / "made").mkdir()
    with Workers(2) as pool:
        slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(pool) if is_alone else pool)
        supervisor = td.Supervisor([slow])
        started = supervisor.start()
        gate.wait_for_arrivals()
        supervisor.kill()
        with pytest.raises(RuntimeError, match="was stopped while it started"):
            result(started)
        supervisor.wait(PATIENCE)
    gc.collect()
    assert caplog.messages == []


def test_a_plain_function_has_a_process_of_its_own_and_is_started_again(default_pool, journal):
    """Once it ends by itself, once it is killed, and then it is stopped in the middle."""
    with td.Supervisor([td.child(serve, journal.path).options(shutdown=0)], max_restarts=5) as supervisor:
        eventually(lambda: len(journal.lines()) == 3, "it was not started three times")
        assert supervisor.which_children()[0].restarts == 2
    assert len(set(journal.lines())) == 3


def serve(path):
    work.write(path, os.getpid())
    count = len(Path(path).read_text().split())
    if count == 1:
        return
    if count == 2:
        os._exit(7)
    while True:
        signal.pause()


def test_a_job_of_a_pool_runs_until_it_is_done(own_pool, journal):
    """sup_princ, Child Specification, restart: transient."""
    job = td.child(twice, journal.path).options(place=own_pool, restart="transient")
    with td.Supervisor([job]) as supervisor:
        eventually(lambda: supervisor.which_children()[0].state == "down", "it does not come to its end")
    assert len(journal.lines()) == 2


def twice(path):
    work.write(path, "run")
    if len(Path(path).read_text().split()) == 1:
        raise OSError


async def test_restarts_in_a_run_let_others_go_on():
    async with td.Workers(1) as pool:
        async with td.Supervisor([account(Alone(pool), 7)]) as supervisor:
            handle = supervisor["account"]
            os.kill(await handle.pid(), signal.SIGKILL)
            while supervisor.which_children()[0].restarts == 0:
                await td.sleep(0.001)
            assert await handle.balance == 7


def test_a_supervisor_in_a_task_of_a_worker(own_pool):
    assert result(own_pool.go(supervise_there)) == [1, 1]


async def supervise_for_others(kind, handles, ends):
    """In a worker: a supervisor whose actor others use."""
    places = {"weightless": td.here, "shared": td.workers(), "alone": Alone(td.workers())}
    async with td.Supervisor([account(places[kind], 10)], max_restarts=10) as supervisor:
        await handles.send(supervisor["account"])
        async for _ in ends:
            pass


@pytest.mark.parametrize("kind", ["weightless", "shared", "alone"])
def test_a_call_right_after_a_kill_waits_for_the_next_instance_wherever_the_supervisor_runs(own_pool, kind):
    handles, ends = td.Channel(1), td.Channel(1)
    task = own_pool.go(supervise_for_others, kind, handles, ends)
    handle = handles.recv().wait(PATIENCE)
    try:
        for _ in range(5):
            assert result(handle.deposit()) == 11
            handle.kill()
            assert result(handle.deposit()) == 11
            handle.kill()
    finally:
        ends.close()
    result(task)


async def supervise_until_killed(kind, told):
    """In a worker: a supervisor, which dies with that."""
    places = {"shared": td.workers(), "alone": Alone(td.workers())}
    async with td.Supervisor([account(places[kind], 10), td.child(stand_still)]) as supervisor:
        handle = supervisor["account"]
        await handle.deposit()
        await told.send((os.getpid(), await handle.pid()))
        await td.sleep(math.inf)


def stand_still():
    while True:
        signal.pause()


@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_process_children_end_with_the_worker_in_which_their_supervisor_was_killed(kind):
    with Workers(2) as pool:
        told = td.Channel(1)
        task = pool.go(supervise_until_killed, kind, told)
        supervisor, child = told.recv().wait(PATIENCE)
        assert {supervisor, child} <= descendants()
        assert len(_core.survey_actors_in_workers(10)) == 2
        os.kill(supervisor, signal.SIGKILL)
        assert isinstance(task.exception(PATIENCE), td.WorkerDied)
        eventually(lambda: not _core.survey_actors_in_workers(10), "children live on")


async def supervise_moved_until_killed(told):
    """In a worker: its supervisor's child was made here, and has moved to another worker."""
    async with td.Supervisor([account(td.here, 10)]) as supervisor:
        handle = supervisor["account"]
        await handle.deposit()
        await handle.move(td.workers())
        await told.send((os.getpid(), await handle.pid()))
        await td.sleep(math.inf)


def test_a_child_that_has_moved_ends_with_the_worker_in_which_its_supervisor_was_killed():
    with Workers(3) as pool:
        told = td.Channel(1)
        task = pool.go(supervise_moved_until_killed, told)
        supervisor, child = told.recv().wait(PATIENCE)
        assert supervisor != child
        assert len(_core.survey_actors_in_workers(10)) == 1
        os.kill(supervisor, signal.SIGKILL)
        assert isinstance(task.exception(PATIENCE), td.WorkerDied)
        eventually(lambda: not _core.survey_actors_in_workers(10), "the child lives on")


def supervise_there():
    with td.Supervisor([td.child(Account).options(place=td.here)]) as supervisor:
        handle = supervisor["Account"]
        first = handle.deposit().result(PATIENCE)
        handle.kill()
        return [first, handle.deposit().result(PATIENCE)]


# --- handles elsewhere ---------------------------------------------------------------------------------------


class Teller:
    """An actor that has the handle of another."""

    def __init__(self, account):
        self.account = account

    async def deposit(self, amount=1):
        return await self.account.deposit(amount)

    def back(self):
        return self.account


def test_a_handle_that_was_sent_to_other_processes_is_good_after_a_death(place, own_pool):
    with td.Supervisor([account(place, 100)], max_restarts=5) as supervisor:
        handle = supervisor["account"]
        teller = own_pool.actor(Teller, handle)
        assert result(teller.deposit(5)) == 105
        assert result(own_pool.go(deposit, handle, 5)) == 110
        assert result(teller.back()) == handle
        assert result(result(teller.back()).balance) == 110
        for restarts in (1, 2):
            kill_its_process(handle)
            eventually(lambda restarts=restarts: supervisor.which_children()[0].restarts == restarts, "no restart")
            assert result(teller.deposit(5)) == 105
            assert result(own_pool.go(deposit, handle, 5)) == 110
    with pytest.raises(td.ActorStopped):
        result(teller.deposit(5))


def deposit(handle, amount):
    return handle.deposit(amount).result(PATIENCE)


def test_calls_from_other_processes_wait_for_the_next_instance(own_pool, tmp_path, gate):
    slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(own_pool))
    with td.Supervisor([slow]) as supervisor:
        handle = supervisor["Slow"]
        counter = own_pool.actor(Counter, handle)
        assert result(counter.count()) == 1
        os.kill(result(handle.pid()), signal.SIGKILL)
        gate.wait_for_arrivals()
        calls = [counter.count() for _ in range(3)]
        here = handle.count()
        gate.open()
        assert sorted(result(call) for call in [*calls, here]) == [1, 2, 3, 4]


def test_calls_from_other_processes_fail_when_there_is_no_next_instance(own_pool, tmp_path, gate):
    slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(own_pool))
    with td.Supervisor([slow]) as supervisor:
        handle = supervisor["Slow"]
        counter = own_pool.actor(Counter, handle)
        os.kill(result(handle.pid()), signal.SIGKILL)
        gate.wait_for_arrivals()
        call = counter.count()
        supervisor.kill()
        with pytest.raises(td.ActorDied):
            result(call)


def test_a_call_from_another_process_that_waits_for_the_next_instance_is_cancelled(own_pool, tmp_path, gate):
    slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(own_pool))
    with td.Supervisor([slow]) as supervisor:
        handle = supervisor["Slow"]
        counter = own_pool.actor(Counter, handle)
        os.kill(result(handle.pid()), signal.SIGKILL)
        gate.wait_for_arrivals()
        assert result(counter.count_no_more()) == (True, "cancelled")
        gate.open()
        assert result(handle.count()) == 1, "what was cancelled was not done"


class Counter:
    def __init__(self, slow):
        self.slow = slow

    async def count(self):
        return await self.slow.count()

    async def count_no_more(self):
        task = self.slow.count()
        was_there = task.cancel()
        try:
            return was_there, await task
        except td.TaskCancelled:
            return was_there, "cancelled"


@pytest.mark.parametrize("kind", ["weightless", "alone"])
def test_a_handle_in_a_process_without_a_way_to_the_pool_is_good_after_a_death(own_pool, kind):
    place = td.here if kind == "weightless" else Alone(own_pool)
    with Workers(1) as other, td.Supervisor([account(place, 100)]) as supervisor:
        handle = supervisor["account"]
        teller = other.actor(Teller, handle)
        assert result(teller.deposit(5)) == 105
        assert result(teller.back()) == handle
        handle.kill()
        eventually(lambda: supervisor.which_children()[0].restarts == 1, "no restart")
        assert result(teller.deposit(5)) == 105


def test_a_handle_that_is_sent_between_two_instances_is_good_for_the_next(own_pool, tmp_path, gate):
    slow = td.child(Slow, str(tmp_path / "made"), gate.path).options(place=Alone(own_pool))
    with Workers(1) as other, td.Supervisor([slow]) as supervisor:
        handle = supervisor["Slow"]
        os.kill(result(handle.pid()), signal.SIGKILL)
        gate.wait_for_arrivals()
        counter = other.actor(Counter, handle)
        call = counter.count()
        gate.open()
        assert result(call) == 1


class OwnActor(type(td.actor)):
    """`td.actor`, in a pool of the test's own."""

    def __init__(self, pool):
        super().__init__()
        self.options = lambda **_: Alone(pool)


def test_a_function_that_dies_is_told_as_such_and_as_no_actor(own_pool):
    die = td.child(os._exit, 3).options(name="x", place=OwnActor(own_pool))
    with pytest.raises(td.ChildFailed) as caught, td.Supervisor([die], max_restarts=0) as supervisor:
        supervisor.wait(PATIENCE)
    assert isinstance(caught.value.__cause__, td.WorkerDied)
    assert "exit code 3" in str(caught.value.__cause__)
