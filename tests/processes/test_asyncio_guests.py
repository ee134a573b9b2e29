"""Tasks of pools in asyncio, under each loop: `await task`, `wrap_future`; the loop never stands still."""

import asyncio
import selectors
import threading

import pytest
import thistledown as td
import work
from pools import Workers
from thistledown import _asyncio

from leaks import open_files
from support import PATIENCE


def test_a_task_can_be_awaited(run, pool):
    async def main():
        assert await pool.go(work.double, 4) == 8
        with pytest.raises(LookupError, match="lost"):
            await pool.go(work.fail, LookupError("lost"))
        done = pool.go(work.double, 5)
        pool.wait_idle(PATIENCE)
        assert done.done()
        return await done, await done

    assert run(main) == (10, 10)


def test_the_loop_goes_on_while_a_task_is_awaited(run, pool, gate):
    async def main():
        async def open_it():
            await asyncio.to_thread(gate.wait_for_arrivals)
            gate.open()
            return "opened"

        return await asyncio.gather(pool.go(work.pass_gate, gate.path), open_it())

    assert run(main) == [gate.path, "opened"]


def test_awaiting_starts_no_thread(run, pool, gate):
    async def main():
        task = asyncio.ensure_future(wait_for(pool.go(work.pass_gate, gate.path)))
        await asyncio.sleep(0)
        before = threading.active_count()
        await asyncio.sleep(0)
        during = threading.active_count()
        gate.open()
        await task
        return before, during

    threads = threading.active_count()
    before, during = run(main)
    assert before == during == threads


async def wait_for(task):
    return await task


def test_a_thousand_at_a_time(run, pool):
    async def main():
        tasks = [pool.go(work.double, number) for number in range(1000)]
        return await asyncio.gather(*tasks)

    assert run(main) == list(range(0, 2000, 2))


def test_wrap_future(run, pool):
    async def main():
        wrapped = [asyncio.wrap_future(pool.go(work.double, number)) for number in range(100)]
        assert await asyncio.gather(*wrapped) == list(range(0, 200, 2))
        with pytest.raises(LookupError):
            await asyncio.wrap_future(pool.go(work.fail, LookupError("lost")))

    run(main)


def test_a_pool_is_an_executor_of_the_loop(run, pool):
    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(pool, work.double, number) for number in range(20)))

    assert run(main) == list(range(0, 40, 2))


def test_cancelling_who_waits_leaves_the_task_running(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        waiter = asyncio.ensure_future(wait_for(task))
        await asyncio.to_thread(gate.wait_for_arrivals)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert task.running()
        gate.open()
        return await task

    assert run(main) == gate.path


def test_a_timeout_of_asyncio_leaves_the_task_running(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait_for(task), 0.01)
        assert not task.done()
        gate.open()
        return await task

    assert run(main) == gate.path


def test_a_task_that_is_cancelled_tells_who_waits(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        waiters = [asyncio.ensure_future(wait_for(task)) for _ in range(3)]
        await asyncio.to_thread(gate.wait_for_arrivals)
        assert task.cancel()
        return await asyncio.gather(*waiters, return_exceptions=True)

    assert [type(error) for error in run(main)] == [td.TaskCancelled] * 3


def test_cancelling_a_wrapped_future_cancels_the_task(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        wrapped = asyncio.wrap_future(task)
        await asyncio.to_thread(gate.wait_for_arrivals)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        return task

    task = run(main)
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)


def test_many_waiters_of_one_task(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        waiters = [asyncio.ensure_future(wait_for(task)) for _ in range(100)]
        await asyncio.sleep(0)
        gate.open()
        return set(await asyncio.gather(*waiters))

    assert run(main) == {gate.path}


def test_a_group_of_asyncio(run, pool):
    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait_for(pool.go(work.double, number))) for number in range(10)]
        return [task.result() for task in tasks]

    assert run(main) == list(range(0, 20, 2))


def test_asking_in_the_loop_for_an_unfinished_task(run, pool, gate):
    """`result()` blocks, as every future of `concurrent.futures` does; here it gives up after its timeout."""

    async def main():
        task = pool.go(work.pass_gate, gate.path)
        with pytest.raises(TimeoutError):
            task.result(0.01)
        gate.open()
        return await task

    assert run(main) == gate.path


def test_two_loops_in_two_threads_wait_for_one_task(run, pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    results = []

    async def main():
        results.append(await task)

    threads = [threading.Thread(target=run, args=(main,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.wait_for_arrivals()
    gate.open()
    for thread in threads:
        thread.join()
    assert results == [gate.path] * 2


def test_a_loop_may_end_with_waits_left(run, pool, gate):
    async def main():
        pool_task = pool.go(work.pass_gate, gate.path)
        waiter = asyncio.ensure_future(wait_for(pool_task))
        await asyncio.to_thread(gate.wait_for_arrivals)
        return pool_task, waiter

    task, _ = run(main)
    gate.open()
    assert task.result(PATIENCE) == gate.path


def test_many_loops_leave_nothing_behind(run, pool):
    async def main():
        return await pool.go(work.double, 1)

    assert run(main) == 2
    files = open_files()
    assert [run(main) for _ in range(20)] == [2] * 20
    assert len(open_files()) <= len(files)


def test_await_outside_of_any_loop_says_what_to_write(pool):
    task = pool.go(work.double, 4)
    waits = wait_for(task)
    if not task.done():
        with pytest.raises(RuntimeError, match=r"task\.result\(\)"):
            waits.send(None)
    waits.close()
    assert task.result(PATIENCE) == 8


def test_weightless_tasks_of_workers_are_awaited_like_others(run, pool):
    async def main():
        return await asyncio.gather(*(pool.go(give, number) for number in range(50)))

    assert run(main) == list(range(50))


async def give(value):
    await td.sleep(0)
    return value


def test_async_comprehensions_over_tasks(run, pool):
    async def main():
        return [await task for task in [pool.go(work.double, number) for number in range(20)]]

    assert run(main) == list(range(0, 40, 2))


def test_a_pool_in_the_block_of_asyncio(run):
    async def main():
        with Workers(1) as pool:
            return await pool.go(work.double, 4)

    assert run(main) == 8


# --- as_completed, map and groups ---------------------------------------------------------------------------


def test_tasks_are_iterated_as_they_end(run, pool):
    async def main():
        tasks = [pool.go(work.double, number) for number in range(20)]
        return sorted([task.result() async for task in td.as_completed(tasks, PATIENCE)])

    assert run(main) == list(range(0, 40, 2))


def test_a_task_that_does_not_end_in_time_goes_on(run, pool, gate):
    async def main():
        task = pool.go(work.pass_gate, gate.path)
        with pytest.raises(TimeoutError, match=r"1 \(of 1\) tasks"):
            await anext(td.as_completed([task], 0.01))
        gate.open()
        return await task

    assert run(main) == gate.path


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_is_iterated_while_the_loop_goes_on(run, pool, gate, ordered):
    async def main():
        asyncio.get_running_loop().call_later(0.001, gate.open, 20)
        results = pool.map(work.pass_gate, [gate.path] * 20, ordered=ordered, timeout=PATIENCE)
        return [value async for value in results]

    assert run(main) == [gate.path] * 20


def test_a_map_raises_the_error_of_an_item(run, pool):
    async def main():
        with pytest.raises(LookupError):
            async for _ in pool.map(work.fail, [LookupError("lost")]):
                raise AssertionError("an error is no result")

    run(main)


def test_a_group_cancels_what_runs_in_a_worker(run, pool, gate):
    async def main():
        tasks = []
        with pytest.raises(LookupError):
            async with td.TaskGroup() as group:
                tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
                await asyncio.to_thread(gate.wait_for_arrivals)
                group.add(pool.go(work.fail, LookupError("lost")))
                await asyncio.sleep(PATIENCE)
        assert asyncio.current_task().cancelling() == 0
        return tasks[0].cancelled()

    assert run(main)


def test_cancelling_the_asyncio_task_cancels_its_groups_tasks_in_workers(run, pool, gate):
    tasks = []

    async def holds():
        async with td.TaskGroup() as group:
            tasks.append(group.add(pool.go(work.pass_gate, gate.path)))

    async def main():
        waiter = asyncio.ensure_future(holds())
        await asyncio.to_thread(gate.wait_for_arrivals)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return tasks[0].cancelled()

    assert run(main)


def test_leaving_a_pool_lets_the_loop_go_on(run, gate):
    async def main():
        async with Workers(1) as pool:
            task = pool.go(work.pass_gate, gate.path)
            await asyncio.to_thread(gate.wait_for_arrivals)
            asyncio.get_running_loop().call_soon(gate.open)
        return task.result()

    assert run(main) == gate.path


def test_who_is_cancelled_while_he_leaves_a_pool_ends_its_tasks(run, gate):
    tasks = []

    async def leaves():
        async with Workers(1) as pool:
            tasks.append(pool.go(work.pass_gate, gate.path))

    async def main():
        waiter = asyncio.ensure_future(leaves())
        await asyncio.to_thread(gate.wait_for_arrivals)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        return tasks[0].cancelled()

    assert run(main)


def test_a_timeout_of_asyncio_ends_a_group_whose_tasks_are_in_processes(loop_factory, pool, gate):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), td.TaskGroup() as group:
                task = group.add(pool.go(work.pass_gate, gate.path))
        return task.cancelled(), asyncio.current_task().cancelling()

    assert td.run(main, loop=loop_factory) == (True, 0)


# --- bursts -------------------------------------------------------------------------------------------------

MANY = 10_000


def visits():
    """How often the guest of the running loop was visited."""
    return _asyncio.guest_of(asyncio.get_running_loop()).visits


def test_a_burst_of_completions_wakes_the_loop_a_handful_of_times(run, gate):
    """Ten thousand tasks stand behind one that is held; when it is let go they end as fast as a worker can."""

    async def main():
        with Workers(1) as pool:
            held = pool.go(work.pass_gate, gate.path)
            waiters = [asyncio.ensure_future(wait_for(pool.go(work.double, number))) for number in range(MANY)]
            await asyncio.sleep(0)
            before = visits()
            gate.open()
            results = await asyncio.gather(*waiters)
            await held
            return results, visits() - before

    results, count = run(main)
    assert results == list(range(0, 2 * MANY, 2))
    # How many depends on who has the processor when; that it is one of a whole burst is shown below.
    assert count <= MANY // 50


def test_a_burst_that_is_complete_is_one_wake_up(gate):
    """The same, counted where the loop sleeps: the burst is over when the loop looks."""

    class Counting(selectors.DefaultSelector):
        wakes = 0

        def select(self, timeout=None):
            ready = super().select(timeout)
            self.wakes += bool(ready)
            return ready

    selector = Counting()

    async def main():
        with Workers(1) as pool:
            held = pool.go(work.pass_gate, gate.path)
            waiters = [asyncio.ensure_future(wait_for(pool.go(work.double, number))) for number in range(MANY)]
            await asyncio.sleep(0)
            before = selector.wakes
            gate.open()
            assert pool.wait_idle(PATIENCE)
            await asyncio.gather(*waiters)
            await held
            return selector.wakes - before

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        assert runner.run(main()) == 1


def send(channel):
    return channel.send("from there").wait(PATIENCE)


def put(space):
    return space.write(("job", 1)).wait(PATIENCE)


@pytest.mark.usefixtures("no_exchange_left")
def test_a_wait_for_another_process_blocks_the_loop(run, pool):
    """As a cell of a notebook needs it."""

    async def main():
        channel, space = td.Channel(), td.Space()
        tasks = pool.go(send, channel), pool.go(put, space)
        assert channel.recv().wait() == "from there"
        assert space.take(("job", int)).wait() == ("job", 1)
        assert [task.result(PATIENCE) for task in tasks] == [None, None]

    run(main)
