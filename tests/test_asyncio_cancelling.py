"""Asyncio's and anyio's cancellation of weightless tasks that wait for what is ours, in each kind of loop."""

import asyncio

import anyio
import pytest
import thistledown as td

from support import LOOPS, PATIENCE, settle


def ruled(factory):
    return lambda main: td.run(main, loop=factory)


def as_guest(factory):
    def run(main):
        async def start():
            return await td.go(main)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(start(), PATIENCE))

    return run


def of_asyncio(factory):
    def run(main):
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(main(), PATIENCE))

    return run


WAYS = {"ruled": ruled, "guest": as_guest, "asyncio": of_asyncio}


@pytest.fixture(params=[(way, loop) for way in WAYS for loop in LOOPS], ids="-".join)
def run_task(request):
    """Runs a coroutine function as a task of a loop: a weightless one that rules it or visits it, or asyncio's own."""
    way, loop = request.param
    return WAYS[way](LOOPS[loop])


def cancel_soon():
    """Asyncio's cancellation of the present task, once it waits."""
    asyncio.get_running_loop().call_soon(asyncio.current_task().cancel, "enough")


async def clean_up(log, gate):
    try:
        await td.sleep(3600)
    finally:
        with td.shield():
            await gate.recv()
        log.append("cleaned up")


# --- around the end of a group --------------------------------------------------------------------------------


def test_a_timeout_of_asyncio_ends_a_group_that_waits_at_its_end(run_task):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), td.TaskGroup() as group:
                task = group.go(td.sleep(3600))
        assert task.cancelled()
        assert asyncio.current_task().cancelling() == 0
        await td.sleep(0)
        return "went on"

    assert run_task(main) == "went on"


def test_it_goes_through_all_groups_inside_of_it(run_task):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), td.TaskGroup() as outer:
                other = outer.go(td.sleep(3600))
                async with td.TaskGroup() as group:
                    task = group.go(td.sleep(3600))
        assert task.cancelled()
        assert other.cancelled()

    run_task(main)


def test_the_cancellation_of_the_current_task_at_the_end_of_a_group_is_raised(run_task):
    async def main():
        cancel_soon()
        with pytest.raises(asyncio.CancelledError):
            async with td.TaskGroup() as group:
                group.go(td.sleep(3600))
        return asyncio.current_task().uncancel()

    assert run_task(main) == 0


def test_a_generator_tasks_group_lets_it_through_too(loop_factory):
    def main():
        cancel_soon()
        with pytest.raises(asyncio.CancelledError, match="enough"), td.TaskGroup() as group:
            group.go(td.sleep(3600))
            yield from group.join()
        return asyncio.current_task().uncancel()

    assert td.run(main, loop=loop_factory) == 0


def test_one_that_comes_while_a_cancelled_group_ends_is_raised_when_its_tasks_have_ended(run_task):
    async def main():
        log, gate = [], td.Channel()

        async def interrupt(task):
            await settle()
            task.cancel()
            await settle()
            assert log == []
            await gate.send(None)

        with pytest.raises(asyncio.CancelledError):
            async with td.TaskGroup() as group:
                group.go(clean_up, log, gate)
                await settle()
                other = td.go(interrupt, asyncio.current_task())
                group.cancel()
        assert log == ["cleaned up"]
        asyncio.current_task().uncancel()
        await other

    run_task(main)


def test_nobody_leaves_a_group_before_its_tasks_however_often_asyncio_cancels(run_task):
    async def main():
        log, gate = [], td.Channel()

        async def interrupt(task):
            await settle()
            for _ in range(3):
                task.cancel()
                await settle()
            assert log == []
            await gate.send(None)

        other = td.go(interrupt, asyncio.current_task())
        with pytest.raises(asyncio.CancelledError):
            async with td.TaskGroup() as group:
                group.go(clean_up, log, gate)
        assert log == ["cleaned up"]
        while asyncio.current_task().uncancel():
            pass
        return other

    run_task(main)


def test_a_groups_own_cancellation_ends_with_it_inside_of_a_timeout_of_asyncio(run_task):
    async def main():
        async with asyncio.timeout(3600), td.TaskGroup() as group:
            group.go(td.sleep(3600))
            group.cancel()
        return "went on"

    assert run_task(main) == "went on"


def test_a_shield_does_not_keep_asyncios_cancellation_from_waits_of_ours(loop_factory):
    async def main():
        with td.shield():
            asyncio.get_running_loop().call_soon(asyncio.current_task().cancel, "enough")
            with pytest.raises(asyncio.CancelledError, match="enough"):
                await td.Channel().recv()
        return asyncio.current_task().uncancel()

    assert td.run(main, loop=loop_factory) == 0


def test_a_timeout_of_asyncio_works_inside_of_a_shield(loop_factory):
    async def main():
        with td.shield():
            async with asyncio.timeout(0.01):
                async with td.TaskGroup() as group:
                    group.go(td.sleep(3600))

    with pytest.raises(TimeoutError):
        td.run(main, loop=loop_factory)


# --- scopes of anyio ------------------------------------------------------------------------------------------

WAITS = {
    "sleep": lambda task: td.sleep(3600),
    "recv": lambda task: td.Channel().recv(),
    "task": lambda task: task,
    "theirs": lambda task: asyncio.sleep(3600),
    "anyio's": lambda task: anyio.sleep(3600),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_scopes_of_anyio(run_task, wait):
    async def main():
        task = td.go(td.sleep(3600))
        with anyio.move_on_after(0.001) as scope:
            await wait(task)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await wait(task)
        assert not task.done()
        task.cancel()
        assert asyncio.current_task().cancelling() == 0
        await td.sleep(0)
        await asyncio.sleep(0)
        return "went on"

    assert run_task(main) == "went on"


def test_a_scope_of_anyios_around_a_group(run_task):
    async def main():
        with anyio.move_on_after(0.001) as scope:
            async with td.TaskGroup() as group:
                task = group.go(td.sleep(3600))
        assert scope.cancelled_caught
        assert task.cancelled()
        await td.sleep(0)

    run_task(main)


def test_a_group_of_anyios_around_waits_of_ours(run_task):
    async def main():
        channel = td.Channel()

        async def receive():
            await channel.recv()

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            await settle()
            group.cancel_scope.cancel()
            await channel.recv()
        await td.sleep(0)

    run_task(main)
