"""`td.go` in asyncio, on each kind of loop: weightless tasks as guests, what keeps them, and where their errors go."""

import asyncio
import threading

import pytest
import thistledown as td

from support import settle


async def give(value):
    await td.sleep(0)
    return value


async def fail(error):
    await td.sleep(0)
    raise error


async def for_ever(log):
    try:
        await td.sleep(3600)
    except td.Cancelled:
        log.append("cancelled")
        raise


def test_coroutines_and_generators_run_in_the_thread_of_the_loop(run):
    def generator(value):
        yield
        thread = yield from td.sleep(0.001)
        assert thread is None
        return value, threading.get_ident()

    async def main():
        here = threading.get_ident()
        assert await td.go(generator, 1) == (1, here)
        assert await td.go(generator(2)) == (2, here)
        assert await td.go(give, 3) == 3
        assert await td.go(give(4)) == 4
        assert await td.go(td.sleep(0.001)) is None

    run(main)


def test_a_task_is_a_task_wherever_it_runs(run):
    async def main():
        async def see():
            return td.current_task(), asyncio.get_running_loop()

        task = td.go(see)
        task.name = "looker"
        assert isinstance(task, td.Task)
        assert task.running()
        assert await task == (task, asyncio.get_running_loop())
        assert task.done()
        assert td.current_task() is None

    run(main)


def test_tasks_run_while_the_asyncio_task_does_something_else(run):
    async def main():
        log = []

        async def count():
            for number in range(3):
                log.append(number)
                await td.sleep(0)

        td.go(count)
        await asyncio.sleep(0.001)
        while len(log) < 3:
            await asyncio.sleep(0)
        return log

    assert run(main) == [0, 1, 2]


def test_a_task_that_never_waits_long_leaves_the_loop_its_turns(run):
    async def main():
        stop = False

        async def spin():
            while not stop:
                await td.sleep(0)

        task = td.go(spin)
        for _ in range(20):
            await asyncio.sleep(0)
        stop = True
        await task

    run(main)


def test_ten_thousand_tasks(run):
    async def main():
        tasks = [td.go(give, number) for number in range(10_000)]
        return sum([await task for task in tasks])

    assert run(main) == sum(range(10_000))


def test_a_failed_task_raises_where_it_is_awaited(run):
    async def main():
        with pytest.raises(LookupError, match="lost"):
            await td.go(fail, LookupError("lost"))

    run(main)


def test_a_cancelled_task_raises_task_cancelled_and_its_waiter_goes_on(run):
    async def main():
        log = []
        task = td.go(for_ever, log)
        await settle()
        assert task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task
        return log

    assert run(main) == ["cancelled"]


def test_cancelling_who_waits_leaves_the_task_running(run):
    async def main():
        gate = td.Channel(1)

        async def wait_for(task):
            return await task

        task = td.go(pass_gate, gate)
        waiter = asyncio.ensure_future(wait_for(task))
        await settle()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        gate.send_nowait("value")
        return await task

    assert run(main) == "value"


async def pass_gate(gate):
    return await gate.recv()


def test_the_futures_of_concurrent_futures_are_wrapped(run):
    async def main():
        assert await asyncio.wrap_future(td.go(give, 1)) == 1
        with pytest.raises(LookupError):
            await asyncio.wrap_future(td.go(fail, LookupError("lost")))

    run(main)


def test_tasks_start_tasks(run):
    async def parent():
        return [await task for task in [td.go(give, number) for number in range(5)]]

    async def main():
        return await td.go(parent)

    assert run(main) == [0, 1, 2, 3, 4]


def test_a_task_is_not_lost_when_nobody_holds_it(run):
    async def main():
        done = td.Channel()

        async def work():
            await td.sleep(0.001)
            await done.send("done")

        td.go(work)
        return await done.recv()

    assert run(main) == "done"


# --- the end ------------------------------------------------------------------------------------------------


def test_a_keeper_lives_exactly_while_weightless_tasks_do(run):
    async def main():
        def others():
            return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]

        before = others()
        gate = td.Channel(1)
        task = td.go(pass_gate, gate)
        during = others()
        gate.send_nowait("value")
        await task
        await asyncio.sleep(0)
        assert others() == before
        return sorted(set(during) - set(before))

    assert run(main) == ["thistledown"]


def test_the_end_of_the_loop_cancels_what_still_runs_and_waits_for_it(run):
    log = []

    async def slow_to_end():
        try:
            await td.sleep(3600)
        finally:
            with td.shield():
                await td.sleep(0.01)
            log.append("ended")

    async def main():
        td.go(slow_to_end)
        task = td.go(for_ever, log)
        await settle()
        return task

    task = run(main)
    assert sorted(log) == ["cancelled", "ended"]
    assert task.cancelled()


def test_what_is_started_while_the_loop_ends_is_cancelled_too(run):
    started = []

    async def start_another():
        try:
            await td.sleep(3600)
        finally:
            started.append(td.go(for_ever, []))

    async def main():
        td.go(start_another)
        await settle()

    run(main)
    assert started[0].cancelled()


def test_an_error_that_nobody_asked_for_is_logged(run, caplog):
    async def main():
        td.go(fail, LookupError("lost"))
        await settle(20)

    run(main)
    assert "lost" in caplog.text


def test_an_error_of_a_task_that_was_held_and_let_go_is_logged(run, caplog):
    async def main():
        task = td.go(fail, LookupError("lost"))
        await settle(20)
        assert "lost" not in caplog.text
        del task
        await td.go(give, 1)
        await settle(20)
        assert "lost" in caplog.text

    run(main)


def test_an_error_that_was_asked_for_is_not_logged(run, caplog):
    async def main():
        task = td.go(fail, LookupError("lost"))
        with pytest.raises(LookupError):
            await task

    run(main)
    assert "lost" not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_ends_the_loop(loop_factory, error):
    log = []

    async def main():
        td.go(for_ever, log)
        td.go(fail, error())
        await asyncio.sleep(3600)

    with pytest.raises(error), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert log == ["cancelled"]


# --- misuse -------------------------------------------------------------------------------------------------


def test_blocking_the_loop_for_one_of_its_own_tasks_is_refused(run):
    async def main():
        task = td.go(give, 1)
        with pytest.raises(RuntimeError, match="await task"):
            task.result()
        with pytest.raises(RuntimeError, match="await task"):
            task.result(timeout=1)
        return await task

    assert run(main) == 1


def test_without_a_loop_the_error_says_what_to_write():
    with pytest.raises(RuntimeError, match=r"td\.run"):
        td.go(give, 1)


def test_another_thread_has_no_loop(run):
    async def main():
        with pytest.raises(RuntimeError, match=r"td\.run"):
            await asyncio.to_thread(td.go, give, 1)

    run(main)


def test_a_run_of_its_own_inside_of_a_callback_is_apart(run):
    async def main():
        return td.run(give, 1), await td.go(give, 2)

    assert run(main) == (1, 2)
