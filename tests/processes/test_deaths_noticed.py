"""Monitors and links of tasks in worker processes."""

import os
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
