"""Monitors and links of tasks in worker processes."""

import gc
import os
import pickle
import signal

import pytest
import thistledown as td
import work
from pools import Workers


class Counter:
    def add(self):
        return 1


def leave(code):
    os._exit(code)


def kill_oneself(number):
    os.kill(os.getpid(), number)


def wait_for_ever():
    td.Channel(0).recv().wait()


async def test_a_task_is_told_of_as_any_other(pool):
    task = pool.go(work.double, 4)
    assert await td.monitor(task) == td.Down(task, "normal")
    down = await td.monitor(pool.go(work.fail, LookupError("lost")))
    assert (type(down.reason), str(down.reason)) == (LookupError, "lost")


@pytest.mark.parametrize(
    ("dies", "argument", "exitcode"), [(leave, 3, 3), (kill_oneself, signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_process_that_dies_says_how(dies, argument, exitcode):
    with Workers(1) as pool:
        reason = td.monitor(pool.go(dies, argument)).wait().reason
    assert isinstance(reason, td.WorkerDied)
    assert reason.exitcode == exitcode


async def test_a_task_ends_with_an_actor_and_an_actor_with_a_task():
    async with Workers(1) as pool:
        actor, task = td.here.actor(Counter), pool.go(wait_for_ever)
        td.link(actor, task)
        actor.kill()
        with pytest.raises(td.TaskCancelled):
            await task
        actor, task = td.here.actor(Counter), pool.go(leave, 3)
        td.link(actor, task)
        down = await td.monitor(actor)
        assert isinstance(down.reason, td.WorkerDied)
        with pytest.raises(td.WorkerDied):
            await task


# --- worker processes -------------------------------------------------------------------------------------------------


async def test_a_worker_that_is_killed_is_told_of_with_its_signal(gate):
    async with Workers(1) as pool:
        task = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        (process,) = pool.processes()
        assert [process.pid] == pool.statistics()["processes"]
        monitor = td.monitor(process)
        os.kill(process.pid, signal.SIGKILL)
        down = await monitor
        assert down.who is process
        assert isinstance(down.reason, td.WorkerDied)
        assert (down.reason.pid, down.reason.exitcode) == (process.pid, -signal.SIGKILL)
        assert f"worker process {process.pid} died: killed by SIGKILL" in str(down.reason)
        with pytest.raises(td.WorkerDied):
            await task


async def test_a_death_of_a_worker_is_told_afterwards_and_to_everybody_once(gate):
    async with Workers(1) as pool:
        task = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        (process,) = pool.processes()
        (again,) = pool.processes()
        assert process == again
        assert hash(process) == hash(again)
        first, second = td.monitor(process), td.monitor(again)
        os.kill(process.pid, signal.SIGKILL)
        downs = [await first, await second, await td.monitor(process)]
        assert [down.reason.exitcode for down in downs] == [-signal.SIGKILL] * 3
        assert await first is downs[0], "one end is told once"
        with pytest.raises(td.WorkerDied):
            await task
        # A fresh worker is another process, and nobody hears of it by the name of the dead one.
        assert await pool.go(work.double, 4) == 8
        assert process not in pool.processes()


def test_a_worker_that_leaves_with_its_pool_has_ended_normally():
    with Workers(1) as pool:
        pid = pool.go(work.process).result()
        (process,) = pool.processes()
        assert process.pid == pid
        monitor = td.monitor(process)
    assert monitor.wait().reason == "normal"
    assert td.monitor(process).wait().reason == "normal"
    assert pool.processes() == []


def test_a_worker_that_is_replaced_has_ended_normally(gate):
    with Workers(1, max_tasks_per_child=1) as pool:
        task = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        monitor = td.monitor(pool.processes()[0])
        gate.open()
        task.result()
        assert monitor.wait().reason == "normal"


def test_workers_of_a_pool_that_is_killed_say_so(gate):
    pool = Workers(1)
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()
    monitor = td.monitor(pool.processes()[0])
    pool._kill()
    pool.shutdown()
    reason = monitor.wait().reason
    assert isinstance(reason, td.WorkerDied)
    assert reason.cause == "it was killed with its pool"
    assert task.cancelled() or isinstance(task.exception(), td.WorkerDied)


async def test_the_process_of_an_actor_is_a_worker_as_well():
    async with Workers(1) as pool:
        actor = pool.actor(Counter)
        await actor.add()
        (process,) = pool.processes()
        os.kill(process.pid, signal.SIGKILL)
        assert (await td.monitor(actor)).reason.pid == process.pid
        assert (await td.monitor(process)).reason.exitcode == -signal.SIGKILL


async def test_a_monitor_of_a_worker_is_an_operation_as_any_other(gate):
    async with Workers(1) as pool:
        task = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        (process,) = pool.processes()
        monitor = td.monitor(process)
        selected = await td.select(monitor, td.after(0))
        assert selected.index == 1, "it lives"
        with td.move_on_after(0):
            await monitor
            pytest.fail("it was to be cancelled")
        os.kill(process.pid, signal.SIGKILL)
        selected = await td.select(td.Channel().recv(), monitor)
        assert (selected.index, selected.value.who) == (1, process)
        with pytest.raises(td.WorkerDied):
            await task


async def test_monitors_of_a_worker_that_are_let_go_hear_nothing(gate):
    async with Workers(1) as pool:
        task = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        (process,) = pool.processes()
        kept = td.monitor(process)
        for _ in range(100):
            td.monitor(process)
        gc.collect()
        assert len(process._end._heard) == 1
        gate.open()
        await task
    assert (await kept).reason == "normal"
    assert pool._ends == {}, "who was told is forgotten"


def test_what_is_no_worker_cannot_be_watched(pool):
    with pytest.raises(TypeError, match=r"pool\.processes\(\)"):
        td.monitor(os.getpid())
    (process, *_) = pool.processes()
    with pytest.raises(td.NotPicklable, match=str(process.pid)):
        pickle.dumps(process)
    with pytest.raises(TypeError, match=r"pool\.processes\(\)"):
        td.WorkerProcess()
    with pytest.raises(TypeError, match="tasks, actors and supervisors"):
        td.link(process, pool.go(work.double, 1))
    with pytest.raises(RuntimeError, match="only the program that has made the pool"):
        pool.go(processes_of_ones_pool).result()


def processes_of_ones_pool():
    return td.workers().processes()
