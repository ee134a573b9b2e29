"""Scopes: `timeout`, `move_on_after`, `shield`, how they nest, and that a cancelled scope stays cancelled."""

import contextlib
import math

import pytest
import thistledown as td
from thistledown import testing

from support import settle

pytestmark = pytest.mark.virtual_clock


# --- timeout and move_on_after ------------------------------------------------------------------------------


async def test_a_timeout_ends_the_wait_with_timeout_error():
    reached = []
    with pytest.raises(TimeoutError):
        with td.timeout(5):
            reached.append("before")
            await td.sleep(10)
            reached.append("after")
    assert reached == ["before"]


def test_a_timeout_in_a_generator_task():
    def main():
        try:
            with td.timeout(5):
                yield from td.sleep(10)
        except TimeoutError:
            return "timed out"

    assert testing.run(main) == "timed out"


async def test_a_block_that_is_done_in_time_goes_on():
    with td.timeout(5):
        await td.sleep(4)
    await td.sleep(10)  # the timeout is gone with its block


async def test_move_on_after_goes_on_behind_the_block():
    reached = []
    with td.move_on_after(5) as scope:
        await td.sleep(10)
        reached.append("inside")
    assert (reached, scope.expired) == ([], True)
    await td.sleep(10)


async def test_move_on_after_that_is_done_in_time_has_not_expired():
    with td.move_on_after(5) as scope:
        await td.sleep(4)
    await td.sleep(10)
    assert scope.expired is False


@pytest.mark.parametrize("make", [td.timeout, td.move_on_after])
async def test_an_error_inside_the_block_comes_out_as_it_is(make):
    with pytest.raises(LookupError, match="mine"), make(5):
        await td.sleep(1)
        raise LookupError("mine")
    await td.sleep(10)


@pytest.mark.parametrize("make", [td.timeout, td.move_on_after])
async def test_an_error_raised_while_the_block_is_being_left_wins(make):
    with pytest.raises(LookupError, match="in finally"), make(5):
        try:
            await td.sleep(10)
        finally:
            raise LookupError("in finally")
    await td.sleep(10)


@pytest.mark.parametrize(
    "wait",
    [lambda: td.sleep(0), lambda: td.sleep(10), lambda: full().recv(), lambda: td.Channel(1).send(1)],
    ids=["giving way", "sleep", "recv of what is there", "send with room"],
)
@pytest.mark.parametrize("make", [td.timeout, td.move_on_after])
async def test_a_deadline_of_zero_has_passed_when_the_block_is_entered(make, wait):
    reached = []
    outcome = pytest.raises(TimeoutError) if make is td.timeout else contextlib.nullcontext()
    with outcome, make(0) as scope:
        reached.append(scope.expired)
        await wait()
        reached.append("behind the wait")
    assert reached == [True]


async def test_a_scope_cancelled_by_hand_is_left_at_the_next_wait():
    reached = []
    with td.move_on_after(100) as scope:
        scope.cancel()
        reached.append("still running")
        await td.sleep(0)
        reached.append("never")
    assert reached == ["still running"]
    await td.sleep(1)


async def test_a_scope_is_cancelled_by_another_task():
    scopes, reached = td.Channel(1), []

    async def leave():
        (await scopes.recv()).cancel()

    td.go(leave)
    with td.move_on_after(1e9) as scope:
        scopes.send_nowait(scope)
        await td.Channel().recv()
        reached.append("never")
    assert reached == []


async def test_a_scope_cancelled_after_its_end_does_nothing():
    with td.move_on_after(100) as scope:
        await td.sleep(1)
    scope.cancel()
    await td.sleep(1)


# --- nesting ------------------------------------------------------------------------------------------------


async def test_the_inner_timeout_ends_only_the_inner_block():
    with td.timeout(10):
        with pytest.raises(TimeoutError):
            with td.timeout(2):
                await td.sleep(5)
        await td.sleep(5)


async def test_the_outer_timeout_passes_through_inner_scopes():
    reached = []
    with pytest.raises(TimeoutError):
        with td.timeout(2):
            with td.move_on_after(5) as inner:
                await td.sleep(10)
            reached.append("behind the inner block")
    assert (reached, inner.expired) == ([], False)


async def test_scopes_nest_to_any_depth():
    async def level(depth):
        if depth == 0:
            await td.sleep(1e6)
        with td.move_on_after(depth) as scope:
            await level(depth - 1)
            left.append(depth)
        expired.append((depth, scope.expired))

    left, expired = [], []
    await level(50)
    assert expired == [(1, True), *[(depth, False) for depth in range(2, 51)]]
    assert left == list(range(2, 51))


async def test_a_scope_reaches_into_called_functions_and_delegated_generators():
    def deep():
        try:
            yield from td.sleep(100)
        finally:
            events.append("deep left")

    def outer():
        with td.move_on_after(1):
            yield from deep()
            events.append("never")
        events.append("outer went on")

    events = []
    await td.go(outer)
    assert events == ["deep left", "outer went on"]


async def test_a_scope_does_not_reach_tasks_started_inside_it():
    async def child():
        await td.sleep(10)
        return "child finished"

    with td.move_on_after(1):
        task = td.go(child)
        await td.sleep(5)
    assert await task == "child finished"


# --- level-triggered ----------------------------------------------------------------------------------------


async def test_in_a_cancelled_scope_every_wait_raises_again():
    raised = 0
    with td.move_on_after(1) as scope:
        for _ in range(5):
            try:
                await td.sleep(10)
            except td.Cancelled:
                raised += 1
                if raised == 5:
                    raise
    assert (raised, scope.expired) == (5, True)


@pytest.mark.parametrize(
    "make", [lambda: td.sleep(0), lambda: td.after(0), lambda: full().recv(), lambda: td.Channel(1).send(1)]
)
async def test_in_a_cancelled_scope_even_a_wait_that_could_complete_at_once_raises(make):
    with td.move_on_after(100) as scope:
        scope.cancel()
        with pytest.raises(td.Cancelled):
            await make()
        with pytest.raises(td.Cancelled):
            await make()


def full():
    channel = td.Channel(1)
    channel.send_nowait("value")
    return channel


async def test_a_bare_yield_in_a_cancelled_task_raises():
    def body():
        while True:
            try:
                yield
            except td.Cancelled:
                events.append("cancelled at yield")
                raise

    events = []
    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["cancelled at yield"]


async def test_who_gives_way_in_a_cancelled_scope_is_told_when_its_turn_comes_again():
    events = []

    def with_yield():
        with td.move_on_after(100) as scope:
            scope.cancel()
            try:
                yield
            finally:
                events.append("yield")

    async def with_sleep():
        with td.move_on_after(100) as scope:
            scope.cancel()
            try:
                await td.sleep(0)
            finally:
                events.append("sleep(0)")

    async def other():
        events.append("another")

    async with td.TaskGroup() as group:
        group.go(with_yield)
        group.go(with_sleep)
        group.go(other)
    assert events == ["another", "yield", "sleep(0)"]


# --- shield -------------------------------------------------------------------------------------------------


async def test_a_shield_keeps_an_outer_timeout_away_until_its_end():
    events = []
    with pytest.raises(TimeoutError):
        with td.timeout(1):
            with td.shield():
                await td.sleep(5)
                events.append("inside the shield")
            events.append("behind the shield")
            await td.sleep(0)
            events.append("never")
    assert events == ["inside the shield", "behind the shield"]


async def test_a_shield_keeps_the_cancelling_of_its_task_away_until_its_end():
    async def body():
        with td.shield():
            await gate.recv()
            events.append("inside the shield")
        await td.sleep(0)
        events.append("never")

    gate, events = td.Channel(1), []
    task = td.go(body)
    await settle()
    task.cancel()
    await settle()
    assert not task.done()
    gate.send_nowait(None)
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["inside the shield"]


async def test_a_shield_in_finally_lets_cleaning_up_wait():
    async def body():
        try:
            await td.sleep(1000)
        finally:
            with td.shield():
                await td.sleep(5)
                events.append("cleaned up")

    events = []
    with td.move_on_after(1):
        await body()
    assert events == ["cleaned up"]


async def test_a_timeout_inside_a_shield_works():
    events = []
    with td.move_on_after(1):
        with td.shield():
            with td.move_on_after(3) as inner:
                await td.sleep(100)
            events.append(inner.expired)
        await td.sleep(0)
        events.append("never")
    assert events == [True]


async def test_a_shield_inside_a_timeout_inside_a_shield():
    events = []
    with td.shield():
        with td.move_on_after(1):
            with td.shield():
                await td.sleep(2)
                events.append("innermost")
            await td.sleep(0)
            events.append("never")
    assert events == ["innermost"]


async def test_a_wait_that_began_before_the_shield_ended_is_not_disturbed_by_another_scope():
    with td.move_on_after(1) as scope, td.shield():
        assert await td.select(td.sleep(3), td.after(2)) == (1, None)
    assert scope.expired


# --- misuse -------------------------------------------------------------------------------------------------


MAKERS = {
    "timeout": lambda: td.timeout(5),
    "move_on_after": lambda: td.move_on_after(5),
    "shield": lambda: td.shield(),
}
each_scope = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each_scope
async def test_scopes_close_in_the_order_they_nest(make):
    async def body():
        outer, inner = make(), make()
        outer.__enter__()
        inner.__enter__()
        outer.__exit__(None, None, None)

    with pytest.raises(RuntimeError, match=r"order|nest|inner"):
        await td.go(body)
    await td.sleep(10)


@each_scope
async def test_a_scope_closes_in_the_task_that_opened_it(make):
    async def close():
        with pytest.raises(RuntimeError, match="task"):
            scope.__exit__(None, None, None)

    scope = make()
    scope.__enter__()
    await td.go(close)
    scope.__exit__(None, None, None)


@each_scope
async def test_a_scope_is_entered_once(make):
    scope = make()
    with scope:
        with pytest.raises(RuntimeError, match=r"enter|once|again|use"):
            scope.__enter__()
    with pytest.raises(RuntimeError, match=r"enter|once|again|use"):
        scope.__enter__()


@each_scope
async def test_async_with_is_refused_and_says_with(make):
    with pytest.raises(TypeError, match="write `with`"):
        async with make():
            pass


@pytest.mark.parametrize("make", [td.sleep, td.after, td.timeout, td.move_on_after])
def test_none_is_no_number_of_seconds_and_infinity_is_no_limit(make):
    make(math.inf)
    with pytest.raises(TypeError, match=r"write math\.inf"):
        make(None)


@each_scope
async def test_a_scope_is_not_closed_without_being_opened(make):
    with pytest.raises(RuntimeError):
        make().__exit__(None, None, None)


@each_scope
async def test_a_task_that_ends_with_an_open_scope_ends_all_the_same(make):
    async def body():
        kept.append(make())
        kept[0].__enter__()
        return "ended"

    kept = []
    assert await td.go(body) == "ended"
    await td.sleep(100)
