"""Tasks of pools in `td.run`: heavy work leaves the loop, and stands for its end wherever an operation may."""

import asyncio
import threading

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE


async def test_a_task_can_be_awaited(pool):
    assert await pool.go(work.double, 4) == 8
    with pytest.raises(LookupError, match="lost"):
        await pool.go(work.fail, LookupError("lost"))


def test_a_generator_yields_from_a_task(pool):
    def main():
        first = yield from pool.go(work.double, 4)
        second = yield from pool.go(work.double, first)
        return second

    assert td.run(main) == 16


async def test_td_go_sends_plain_functions_to_workers_and_keeps_weightless_ones_here(default_pool):
    async def here():
        return work.process()

    assert await td.go(here) == work.process()
    assert await td.go(work.process) in default_pool.statistics()["processes"]
    assert await td.go("work:double", 4) == 8


async def test_the_loop_goes_on_while_a_task_is_awaited(pool, gate):
    async def open_it():
        await td.thread(gate.wait_for_arrivals)
        gate.open()

    td.go(open_it)
    assert await pool.go(work.pass_gate, gate.path) == gate.path


async def test_a_task_stands_in_a_select(pool, gates):
    first, second = gates(), gates()
    slow, slower = pool.go(work.pass_gate, first.path), pool.go(work.pass_gate, second.path)
    chosen = await td.select(slow, slower, td.after(0.01))
    assert chosen.index == 2
    assert (slow.done(), slower.done()) == (False, False)
    first.open()
    chosen = await td.select(slower, slow, td.after(PATIENCE))
    assert (chosen.index, chosen.value) == (1, first.path)
    second.open()
    assert (await td.select(slower, td.after(PATIENCE))).value == second.path
    assert (await td.select(td.after(PATIENCE), slow)).value == first.path, "one that is done"


async def test_a_task_that_fails_in_a_select(pool):
    with pytest.raises(LookupError, match="lost"):
        await td.select(pool.go(work.fail, LookupError("lost")), td.after(PATIENCE))


async def test_a_timeout_around_it_ends_the_wait_and_not_the_task(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    with pytest.raises(TimeoutError):
        with td.timeout(0.01):
            await task
    with td.move_on_after(0.01) as scope:
        await task
    assert scope.expired
    assert not task.done()
    gate.open()
    assert await task == gate.path


async def test_cancelling_who_waits_leaves_the_task_running(pool, gate):
    task = pool.go(work.pass_gate, gate.path)

    async def wait():
        return await task

    waiter = td.go(wait)
    await td.thread(gate.wait_for_arrivals)
    assert waiter.cancel()
    with pytest.raises(td.TaskCancelled):
        await waiter
    assert task.running()
    gate.open()
    assert await task == gate.path


async def test_a_task_that_is_cancelled_tells_who_waits(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    await td.thread(gate.wait_for_arrivals)
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task


async def test_a_thousand_at_a_time(pool):
    tasks = [pool.go(work.double, number) for number in range(1000)]
    assert [await task for task in tasks] == list(range(0, 2000, 2))


async def test_many_weightless_tasks_wait_for_one(pool, gate):
    task = pool.go(work.pass_gate, gate.path)

    async def wait():
        return await task

    async with td.TaskGroup() as group:
        waiters = [group.go(wait) for _ in range(200)]
        await td.sleep(0)
        gate.open()
    assert {waiter.result() for waiter in waiters} == {gate.path}


async def test_asking_for_an_unfinished_task_where_the_loop_runs_raises_instead_of_stopping_it(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    for ask in (task.result, task.exception, task.wait, lambda: td.wait([task])):
        with pytest.raises(RuntimeError, match="await"):
            ask()
    gate.open()
    assert await task == gate.path
    assert task.result() == gate.path


async def test_waiting_for_the_pool_where_the_loop_runs_is_refused(pool):
    with pytest.raises(RuntimeError, match=r"td\.thread"):
        pool.wait_idle()
    assert await td.thread(pool.wait_idle, PATIENCE)


async def test_a_pool_can_be_made_used_and_closed_in_a_run():
    pool = Workers(1)
    assert await pool.go(work.double, 4) == 8
    await td.thread(pool.shutdown)


def test_a_run_that_waits_for_a_worker_is_no_deadlock(pool, gate):
    async def main():
        return await pool.go(work.pass_gate, gate.path)

    opener = threading.Thread(target=lambda: (gate.wait_for_arrivals(), gate.open()), name="thistledown-test")
    opener.start()
    assert td.run(main) == gate.path
    opener.join()


@pytest.mark.timeout(0)
def test_after_tasks_of_pools_deadlocks_are_still_found(pool):
    async def main():
        task = pool.go(work.double, 4)
        task.add_done_callback(lambda task: threading.current_thread())
        await task
        await td.Channel().recv()

    with pytest.raises(td.DeadlockError):
        td.run(main)


def test_two_runs_in_two_threads_wait_for_one_task(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    results = []

    async def main():
        results.append(await task)

    threads = [threading.Thread(target=td.run, args=(main,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.wait_for_arrivals()
    gate.open()
    for thread in threads:
        thread.join()
    assert results == [gate.path] * 2


def test_a_run_may_end_while_a_task_goes_on(pool, gate):
    async def main():
        return pool.go(work.pass_gate, gate.path)

    task = td.run(main)
    gate.wait_for_arrivals()
    assert not task.done()
    gate.open()
    assert task.result(PATIENCE) == gate.path


async def test_an_error_of_a_task_that_is_awaited_by_nobody_is_not_the_runs(pool):
    task = pool.go(work.fail, LookupError("lost"))
    while not task.done():
        await td.sleep(0.001)
    assert isinstance(task.exception(), LookupError)


async def test_a_callback_may_send_into_a_channel(pool):
    ended = td.Channel(100)
    for number in range(50):
        pool.go(work.double, number).add_done_callback(lambda task: ended.send_nowait(task.result()))
    assert sorted([await ended.recv() for _ in range(50)]) == list(range(0, 100, 2))


def test_asyncio_inside_of_a_thread_of_a_run(pool):
    async def main():
        return await td.thread(lambda: asyncio.run(in_asyncio()))

    async def in_asyncio():
        return await pool.go(work.double, 4)

    assert td.run(main) == 8
