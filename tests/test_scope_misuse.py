"""Scopes that are opened here and left there, or held open by a generator that stands at its `yield`."""

import contextlib

import pytest
import thistledown as td

pytestmark = pytest.mark.virtual_clock

HELD_OPEN = r"holds the block that it has entered at .*test_scope_misuse\.py:\d+ open across its `yield`"


async def test_a_scope_opened_in_one_task_and_left_in_another_raises_at_once():
    scope = td.timeout(5)

    async def enter():
        scope.__enter__()
        await td.sleep(0)

    task = td.go(enter)
    await td.sleep(0)
    with pytest.raises(RuntimeError, match="leave the block in the task that entered it"):
        scope.__exit__(None, None, None)
    await task


async def test_a_group_entered_in_one_task_and_left_in_another_raises_at_once():
    group = td.TaskGroup()

    async def enter():
        await group.__aenter__()
        await td.sleep(0)

    task = td.go(enter)
    await td.sleep(0)
    with pytest.raises(RuntimeError, match="leave the block in the task that entered it"):
        await group.__aexit__(None, None, None)
    await task


# --- async generators ---------------------------------------------------------------------------------------


async def with_timeout():
    with td.timeout(5):
        yield 1
        yield 2


async def with_move_on():
    with td.move_on_after(0):
        yield 1
        yield 2


async def with_group():
    async with td.TaskGroup() as group:
        group.go(td.sleep(1e6))
        yield 1
        yield 2


async def inside_of_a_call():
    async def call():
        scope = td.timeout(5)
        scope.__enter__()
        return scope

    await call()
    yield 1


async def behind_a_wait():
    with td.timeout(5):
        await td.sleep(1)
        yield 1


every_holder = pytest.mark.parametrize(
    "holder", [with_timeout, with_move_on, with_group, inside_of_a_call, behind_a_wait]
)


async def wait():
    await td.sleep(1)


async def give_way():
    await td.sleep(0)


async def receive_what_is_there():
    channel = td.Channel(1)
    channel.send_nowait(1)
    await channel.recv()


async def enter_a_scope():
    with td.timeout(1):
        raise AssertionError("entered")


every_next_step = pytest.mark.parametrize("step", [wait, give_way, receive_what_is_there, enter_a_scope])


@every_holder
@every_next_step
async def test_a_scope_held_open_across_a_yield_raises_where_it_would_do_harm(holder, step):
    generator = holder()
    with pytest.raises(RuntimeError, match=f"{holder.__name__} {HELD_OPEN}"):
        async for _ in generator:
            await step()
    await td.sleep(100)  # nothing of it is left on this task
    await generator.aclose()


@every_holder
async def test_a_scope_around_the_iteration_can_be_left_and_says_it(holder):
    with pytest.raises(RuntimeError, match=HELD_OPEN):
        with td.timeout(50):
            async for _ in holder():
                break
    await td.sleep(100)


async def test_the_message_says_what_to_do_instead():
    with pytest.raises(RuntimeError) as caught:
        async for _ in with_timeout():
            await td.sleep(1)
    for words in ["Leave the block before the `yield`", "`td.Channel`", "`@asynccontextmanager`"]:
        assert words in str(caught.value)


async def test_the_tasks_of_a_group_held_open_are_cancelled():
    events = []

    async def parked():
        try:
            await td.sleep(1e6)
        finally:
            events.append("ended")

    async def hold():
        async with td.TaskGroup() as group:
            group.go(parked)
            await td.sleep(0)
            yield 1

    with pytest.raises(RuntimeError, match=HELD_OPEN):
        async for _ in hold():
            await td.sleep(1)
    await td.sleep(1)
    assert events == ["ended"]


async def test_a_generator_that_goes_on_is_told_as_well():
    generator = with_timeout()
    await anext(generator)
    with pytest.raises(RuntimeError, match=HELD_OPEN):
        await td.sleep(1)
    assert await anext(generator) == 2
    with pytest.raises(RuntimeError, match="held it open across its `yield`"):
        await anext(generator)


async def test_a_generator_dropped_in_the_middle_raises_nothing_more():
    async def main():
        with pytest.raises(RuntimeError, match=HELD_OPEN):
            async for _ in with_group():
                await td.sleep(1)

    await td.go(main)


async def test_each_of_nested_generators_is_found_out():
    async def outer():
        with td.timeout(50):
            async for value in with_timeout():
                yield value

    with pytest.raises(RuntimeError, match=f"with_timeout {HELD_OPEN}"):
        async for _ in outer():
            await td.sleep(1)
    with pytest.raises(RuntimeError, match=f"outer {HELD_OPEN}"):
        await td.sleep(1)
    await td.sleep(100)


# --- what is no misuse --------------------------------------------------------------------------------------


async def test_a_scope_that_is_left_before_the_yield_is_fine():
    async def numbers():
        for number in range(3):
            with td.timeout(5):
                await td.sleep(1)
            async with td.TaskGroup() as group:
                group.go(td.sleep(1))
            yield number

    got = []
    async for number in numbers():
        with td.timeout(5):
            await td.sleep(1)
        got.append(number)
    assert got == [0, 1, 2]


async def test_waits_of_the_generator_itself_are_inside_of_its_scope():
    async def late():
        with td.timeout(5):
            await td.sleep(10)
            yield 1

    with pytest.raises(TimeoutError):
        await anext(late())


@contextlib.asynccontextmanager
async def group_of_a_manager():
    async with td.TaskGroup() as group:
        group.go(td.sleep(1))
        yield group


@contextlib.asynccontextmanager
async def manager_in_a_manager():
    async with group_of_a_manager() as group:
        with limit():
            yield group


@contextlib.contextmanager
def limit():
    with td.timeout(5):
        yield


@pytest.mark.parametrize("manager", [group_of_a_manager, manager_in_a_manager])
async def test_a_context_manager_may_hold_a_scope_for_its_user(manager):
    async with manager() as group:
        task = group.go(td.sleep(2))
        await td.sleep(1)
    assert task.done()
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(manager())
        await td.sleep(1)
        task = group.go(td.sleep(2))
    assert task.done()


@pytest.mark.parametrize("manager", [group_of_a_manager, manager_in_a_manager])
async def test_a_context_managers_scope_held_open_by_its_user_is_found_out(manager):
    async def holder():
        async with manager():
            yield 1

    with pytest.raises(RuntimeError, match=f"holder {HELD_OPEN}"):
        async for _ in holder():
            await td.sleep(1)
    await td.sleep(100)


async def test_a_plain_context_managers_scope_held_open_by_its_user_is_found_out():
    async def holder():
        with limit():
            yield 1

    with pytest.raises(RuntimeError, match=f"holder {HELD_OPEN}"):
        async for _ in holder():
            await td.sleep(1)


async def test_another_task_is_not_concerned():
    generator = with_timeout()

    async def other():
        with td.timeout(5):
            await td.sleep(1)
        return "done"

    await anext(generator)
    task = td.go(other)
    with pytest.raises(RuntimeError, match=HELD_OPEN):
        await task
    assert await task == "done"
