"""`td.timeout`, `move_on_after`, `shield` and `td.TaskGroup` in asyncio tasks, on each kind of loop."""

import asyncio
import contextlib

import pytest
import thistledown as td

from support import settle

WAITS = {
    "ours": lambda: td.sleep(3600),
    "asyncio's": lambda: asyncio.sleep(3600),
    "a future": lambda: asyncio.get_running_loop().create_future(),
    "a task of asyncio's": lambda: asyncio.ensure_future(asyncio.sleep(3600)),
}
each_wait = pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))


def requests():
    """How many cancellations of the present task are not taken back."""
    return asyncio.current_task().cancelling()


async def ended(task):
    """The outcome of a task, as gather gives it."""
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    return outcome


# --- timeout and move_on_after ------------------------------------------------------------------------------


@each_wait
def test_a_timeout_ends_the_wait_with_timeout_error(run, wait):
    async def main():
        with pytest.raises(TimeoutError), td.timeout(0.001):
            await wait()
        assert requests() == 0
        await asyncio.sleep(0.001)

    run(main)


@each_wait
def test_move_on_after_goes_on_behind_the_block(run, wait):
    async def main():
        with td.move_on_after(0.001) as scope:
            await wait()
        assert scope.expired
        assert requests() == 0
        await asyncio.sleep(0.001)

    run(main)


def test_a_block_that_is_done_in_time_leaves_nothing(run):
    async def main():
        with td.timeout(0.001) as scope:
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        assert not scope.expired

    run(main)


@each_wait
def test_inside_of_the_block_it_is_asyncios_cancellation(run, wait):
    async def main():
        with pytest.raises(TimeoutError) as caught, td.timeout(0.001):
            with pytest.raises(asyncio.CancelledError):
                await wait()
            raise asyncio.CancelledError
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)

    run(main)


def test_our_waits_are_refused_as_long_as_the_scope_is_cancelled(run):
    async def main():
        refused = 0
        channel = td.Channel(1)
        channel.send_nowait("value")
        with td.move_on_after(3600) as scope:
            scope.cancel()
            for operation in (td.sleep(0), td.sleep(1), channel.recv(), td.after(0)):
                with contextlib.suppress(asyncio.CancelledError):
                    await operation
                    raise AssertionError("it was not refused")
                refused += 1
        assert refused == 4
        assert len(channel) == 1
        assert requests() == 0
        return await channel.recv()

    assert run(main) == "value"


def test_a_wait_of_asyncio_is_told_once(run):
    async def main():
        told = 0
        with td.move_on_after(3600) as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                told += 1
                await asyncio.sleep(0.001)
        assert (told, requests()) == (1, 0)

    run(main)


@each_wait
def test_a_scope_that_cancels_itself_reaches_the_next_wait(run, wait):
    async def main():
        with td.move_on_after(3600) as scope:
            scope.cancel()
            await wait()
            raise AssertionError("it was not cancelled")
        assert requests() == 0

    run(main)


def test_a_scope_that_cancels_itself_and_waits_no_more_leaves_nothing_stray(run):
    async def main():
        with td.move_on_after(3600) as scope:
            scope.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert requests() == 0

    run(main)


def test_the_inner_of_two_deadlines_ends_the_inner_block(run):
    async def main():
        with td.move_on_after(3600) as outer:
            with td.move_on_after(0.001) as inner:
                await asyncio.sleep(3600)
            assert (inner.expired, outer.cancelled, requests()) == (True, False, 0)
            await asyncio.sleep(0.001)
        assert not outer.expired

    run(main)


def test_the_outer_of_two_deadlines_ends_both_blocks(run):
    async def main():
        reached = []
        with td.move_on_after(0.001) as outer:
            with td.timeout(3600):
                await asyncio.sleep(3600)
            reached.append("between")
        assert (reached, outer.expired, requests()) == ([], True, 0)
        await asyncio.sleep(0.001)

    run(main)


def test_ours_and_asyncios_timeouts_nest(run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                with td.timeout(3600):
                    await asyncio.sleep(3600)
        assert requests() == 0
        with pytest.raises(TimeoutError):
            with td.timeout(0.001):
                async with asyncio.timeout(3600):
                    await asyncio.sleep(3600)
        assert requests() == 0
        await asyncio.sleep(0.001)

    run(main)


@each_wait
def test_a_cancellation_from_outside_goes_through(run, wait):
    async def block():
        with td.timeout(3600):
            await wait()

    async def main():
        task = asyncio.ensure_future(block())
        await settle()
        task.cancel()
        assert isinstance(await ended(task), asyncio.CancelledError)
        assert task.cancelled()

    run(main)


def test_a_cancellation_from_outside_that_comes_with_ours_goes_through(run):
    async def block(scopes):
        with td.move_on_after(3600) as scope:
            scopes.append(scope)
            await asyncio.sleep(3600)

    async def main():
        scopes = []
        task = asyncio.ensure_future(block(scopes))
        await settle()
        scopes[0].cancel()
        task.cancel()
        assert isinstance(await ended(task), asyncio.CancelledError)

    run(main)


def test_an_error_inside_of_the_block_comes_out_as_it_is(run):
    async def main():
        with pytest.raises(LookupError, match="mine"), td.timeout(3600):
            await td.sleep(0)
            raise LookupError("mine")

    run(main)


def test_a_block_that_could_not_be_entered_can_be_entered_later(run):
    class Task(asyncio.Task):
        refuses = False

        def cancelling(self):
            if self.refuses:
                raise LookupError("mine")
            return super().cancelling()

    async def body():
        scope = td.timeout(3600)
        Task.refuses = True
        with pytest.raises(LookupError, match="mine"):
            scope.__enter__()
        Task.refuses = False
        with scope:
            await asyncio.sleep(0)
        return scope.cancelled

    async def main():
        return await Task(body())

    assert run(main) is False


def test_many_tasks_each_with_its_deadline(run):
    async def limited(number):
        with td.move_on_after(0.001 * (number % 5)) as scope:
            await asyncio.sleep(3600)
        return scope.expired

    async def main():
        return await asyncio.gather(*map(limited, range(200)))

    assert all(run(main))


# --- shield -------------------------------------------------------------------------------------------------


def test_a_shield_keeps_our_cancellation_away(run):
    async def main():
        reached = []
        with td.move_on_after(0.001):
            with td.shield():
                await td.sleep(0.01)
                await asyncio.sleep(0.001)
                reached.append("inside")
            await td.sleep(0)
            reached.append("behind")
        return reached

    assert run(main) == ["inside"]


def test_a_cancellation_that_a_shield_held_back_reaches_asyncios_waits_behind_it(run):
    async def main():
        reached = []
        with td.move_on_after(3600) as scope:
            with td.shield():
                scope.cancel()
                await asyncio.sleep(0.001)
                reached.append("inside")
            await asyncio.sleep(3600)
            reached.append("behind")
        assert (reached, requests()) == (["inside"], 0)
        await asyncio.sleep(0.001)

    run(main)


def test_a_group_whose_task_failed_while_its_block_was_shielded_ends_behind_the_shield(run):
    async def main():
        with pytest.raises(LookupError, match="first"):
            async with td.TaskGroup() as group:
                with td.shield():
                    task = group.go(fail, LookupError("first"))
                    while not task.done():
                        await asyncio.sleep(0)
                await asyncio.sleep(3600)
        assert requests() == 0

    run(main)


def test_an_outer_cancellation_is_told_after_the_inner_one_was_swallowed(run):
    async def main():
        swallowed = []
        with td.move_on_after(3600) as outer:
            with td.move_on_after(3600) as inner:
                asyncio.get_running_loop().call_soon(inner.cancel)
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.sleep(3600)
                swallowed.append("inner")
                asyncio.get_running_loop().call_soon(outer.cancel)
                await asyncio.sleep(3600)
            swallowed.append("never")
        assert (swallowed, requests()) == (["inner"], 0)
        await asyncio.sleep(0.001)

    run(main)


def test_a_limited_cleaning_up_in_a_shield_ends_though_the_task_was_told_of_something_further_out(run):
    async def main():
        with td.move_on_after(3600) as outer:
            asyncio.get_running_loop().call_soon(outer.cancel)
            try:
                await asyncio.sleep(3600)
            finally:
                with td.shield(), td.move_on_after(0.001) as inner:
                    await asyncio.sleep(3600)
                assert inner.expired
                assert requests() == 1  # the outer one's is not taken back before its end
                await asyncio.sleep(0.001)  # and it is not told of again
        assert requests() == 0
        await asyncio.sleep(0.001)

    run(main)


@each_wait
def test_a_shield_does_not_keep_asyncios_cancellation_away(run, wait):
    async def hold():
        with td.shield():
            await wait()

    async def main():
        task = asyncio.ensure_future(hold())
        await settle()
        task.cancel()
        assert isinstance(await ended(task), asyncio.CancelledError)

    run(main)


@each_wait
def test_a_timeout_of_asyncio_works_inside_of_a_shield(run, wait):
    async def main():
        with td.shield():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await wait()
            assert requests() == 0
            await asyncio.sleep(0.001)

    run(main)


@each_wait
def test_a_group_of_asyncio_works_inside_of_a_shield(run, wait):
    async def main():
        with td.shield():
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as group:
                    group.create_task(fail(LookupError("first")))
                    await wait()
            assert [type(error) for error in caught.value.exceptions] == [LookupError]
            assert requests() == 0

    run(main)


def test_a_timeout_of_asyncio_inside_of_a_shield_ends_a_group_of_ours(run):
    async def main():
        log = []
        with td.shield():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    async with td.TaskGroup() as group:
                        group.go(for_ever, log)
            assert (log, requests()) == (["ended"], 0)

    run(main)


# --- groups -------------------------------------------------------------------------------------------------


async def give(value):
    await td.sleep(0.001)
    return value


async def fail(error):
    await td.sleep(0)
    raise error


async def for_ever(log):
    try:
        await td.sleep(3600)
    finally:
        log.append("ended")


def test_a_group_waits_for_its_tasks(run):
    async def main():
        async with td.TaskGroup() as group:
            tasks = [group.go(give, number) for number in range(5)]
        return [task.result() for task in tasks]

    assert run(main) == [0, 1, 2, 3, 4]


@each_wait
def test_the_first_failure_cancels_the_others_and_the_block(run, wait):
    async def main():
        log = []
        with pytest.raises(LookupError, match="first"):
            async with td.TaskGroup() as group:
                group.go(for_ever, log)
                group.go(fail, LookupError("first"))
                await wait()
                log.append("never")
        assert (log, requests()) == (["ended"], 0)
        await asyncio.sleep(0.001)

    run(main)


def test_several_failures_come_as_a_group(run):
    async def main():
        async def fail_while_ending():
            try:
                await td.sleep(3600)
            finally:
                raise KeyError("second")

        with pytest.raises(ExceptionGroup) as caught:
            async with td.TaskGroup() as group:
                group.go(fail_while_ending)
                group.go(fail, LookupError("first"))
        assert {type(error) for error in caught.value.exceptions} == {LookupError, KeyError}
        assert requests() == 0

    run(main)


def test_an_error_in_the_block_cancels_the_tasks(run):
    async def main():
        log = []
        with pytest.raises(LookupError, match="mine"):
            async with td.TaskGroup() as group:
                group.go(for_ever, log)
                await settle()
                raise LookupError("mine")
        return log

    assert run(main) == ["ended"]


def test_a_group_that_is_cancelled_ends_without_an_error(run):
    async def main():
        log = []
        async with td.TaskGroup() as group:
            group.go(for_ever, log)
            await settle()
            group.cancel()
        assert (log, requests()) == (["ended"], 0)
        await asyncio.sleep(0.001)

    run(main)


@pytest.mark.parametrize("times", [1, 2])
def test_cancelling_the_asyncio_task_cancels_the_group_and_waits_for_it(run, times):
    async def slow_to_end(log, gate):
        try:
            await td.sleep(3600)
        finally:
            with td.shield():
                log.append(await gate.recv())

    async def hold(log, gate):
        async with td.TaskGroup() as group:
            group.go(slow_to_end, log, gate)

    async def main():
        log, gate = [], td.Channel(1)
        task = asyncio.ensure_future(hold(log, gate))
        await settle()
        for _ in range(times):
            task.cancel()
            await settle()
            assert not task.done()
        gate.send_nowait("ended")
        assert isinstance(await ended(task), asyncio.CancelledError)
        return log

    assert run(main) == ["ended"]


def test_a_timeout_around_a_group_ends_it(run):
    async def main():
        log = []
        with pytest.raises(TimeoutError):
            with td.timeout(0.001):
                async with td.TaskGroup() as group:
                    group.go(for_ever, log)
        assert (log, requests()) == (["ended"], 0)

    run(main)


def test_a_timeout_of_asyncio_around_a_group_ends_it(run):
    async def main():
        log = []
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                async with td.TaskGroup() as group:
                    group.go(for_ever, log)
        assert (log, requests()) == (["ended"], 0)

    run(main)


def test_groups_nest(run):
    async def main():
        log = []
        async with td.TaskGroup() as outer:
            outer.go(give, 1)
            with pytest.raises(LookupError):
                async with td.TaskGroup() as inner:
                    inner.go(for_ever, log)
                    inner.go(fail, LookupError("inner"))
            assert await outer.go(give, 2) == 2
        return log

    assert run(main) == ["ended"]


def test_a_group_may_fill_itself(run):
    async def main():
        done = []

        async def spread(group, depth):
            done.append(depth)
            if depth:
                group.go(spread, group, depth - 1)
                group.go(spread, group, depth - 1)

        async with td.TaskGroup() as group:
            group.go(spread, group, 4)
        return len(done)

    assert run(main) == 31


# --- misuse -------------------------------------------------------------------------------------------------


def test_a_block_is_left_by_the_task_that_entered_it(run):
    async def main():
        scope = td.timeout(3600)
        scope.__enter__()

        async def leave():
            scope.__exit__(None, None, None)

        with pytest.raises(RuntimeError, match="the task that entered it"):
            await asyncio.ensure_future(leave())
        scope.__exit__(None, None, None)

    run(main)


def test_a_task_that_ends_with_a_block_open_is_forgotten(run):
    async def enter(scope):
        scope.__enter__()

    async def main():
        scope = td.move_on_after(0.001)
        await asyncio.ensure_future(enter(scope))
        await asyncio.sleep(0.005)

    run(main)


def test_outside_of_a_task_the_error_says_so(run):
    async def main():
        caught = asyncio.get_running_loop().create_future()

        def enter():
            try:
                td.timeout(1).__enter__()
            except RuntimeError as error:
                caught.set_result(error)

        asyncio.get_running_loop().call_soon(enter)
        assert "asyncio task" in str(await caught)

    run(main)


# --- blocks that async generators hold open -----------------------------------------------------------------


def test_a_block_that_a_generator_holds_open_across_its_yield_is_found_out(run):
    async def numbers():
        with td.timeout(3600):
            yield 1

    async def main():
        async with contextlib.aclosing(numbers()) as generator:
            with td.move_on_after(3600) as scope:
                assert await anext(generator) == 1
                with pytest.raises(RuntimeError, match="holds the block"):
                    await td.sleep(0)
        assert not scope.cancelled
        await td.sleep(0)
        assert requests() == 0

    run(main)


def test_a_block_left_while_a_generator_holds_one_open_inside_of_it_is_left_all_the_same(run):
    async def numbers():
        with td.timeout(3600):
            yield 1

    async def main():
        async with contextlib.aclosing(numbers()) as generator:
            with pytest.raises(RuntimeError, match="holds the block"), td.move_on_after(3600) as scope:
                await anext(generator)
            assert not scope.cancelled
        with td.move_on_after(0.001) as scope:
            await asyncio.sleep(3600)
        assert scope.expired
        assert requests() == 0

    run(main)


# --- groups over all places ---------------------------------------------------------------------------------


def test_a_group_waits_for_thread_calls_and_raises_their_errors(run):
    async def main():
        async with td.TaskGroup() as group:
            task = group.thread(len, "four")
        assert task.result() == 4
        with pytest.raises(ZeroDivisionError):
            async with td.TaskGroup() as group:
                group.thread(divmod, 1, 0)
                await asyncio.sleep(3600)
        assert requests() == 0

    run(main)


def test_the_end_of_a_group_in_a_cancelled_block_is_a_cancel_point(run):
    async def main():
        passed = False
        with td.move_on_after(3600) as scope:
            async with td.TaskGroup():
                scope.cancel()
            passed = True
        assert not passed
        assert requests() == 0
        await asyncio.sleep(0)

    run(main)
