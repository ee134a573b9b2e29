"""Scopes in plain code: a thread without a run has `timeout`, `move_on_after` and `shield` around its waits."""

import asyncio
import threading

import pytest
import thistledown as td

from support import PATIENCE


def test_a_timeout_ends_a_wait_with_timeout_error():
    reached = []
    with pytest.raises(TimeoutError, match=r"not done within 0\.01 seconds"), td.timeout(0.01):
        reached.append("before")
        td.Channel().recv().wait()
        reached.append("after")
    assert reached == ["before"]
    td.sleep(0.001).wait()


def test_move_on_after_goes_on_behind_the_block():
    with td.move_on_after(0.01) as scope:
        td.Channel().recv().wait(PATIENCE)
    assert (scope.expired, scope.cancelled) == (True, True)
    with td.move_on_after(PATIENCE) as scope:
        td.sleep(0.001).wait()
    assert (scope.expired, scope.cancelled) == (False, False)


def test_in_a_cancelled_block_every_wait_is_refused():
    channel, refused = td.Channel(1), 0
    channel.send_nowait("there")
    with td.move_on_after(0):
        for _ in range(3):
            with pytest.raises(td.Cancelled):
                channel.recv().wait()
            refused += 1
        channel.recv().wait()
        refused += 1
    assert refused == 3
    assert channel.recv().wait() == "there"


def test_a_wait_gives_up_at_its_own_time_too():
    with td.timeout(PATIENCE), pytest.raises(TimeoutError, match="not done in time"):
        td.Channel().recv().wait(0.01)


def test_the_inner_timeout_ends_only_the_inner_block():
    with td.timeout(PATIENCE):
        with pytest.raises(TimeoutError, match=r"0\.01"), td.timeout(0.01):
            td.Channel().recv().wait()
        td.sleep(0.001).wait()


def test_the_outer_timeout_passes_through_inner_blocks():
    with pytest.raises(TimeoutError, match=r"0\.01"), td.timeout(0.01):
        with td.move_on_after(PATIENCE) as inner, td.timeout(PATIENCE):
            td.Channel().recv().wait()
    assert inner.expired is False


def test_a_shield_keeps_an_outer_timeout_away_until_its_end():
    reached = []
    with pytest.raises(TimeoutError), td.timeout(0):
        with td.shield():
            td.sleep(0.001).wait()
            reached.append("shielded")
        td.sleep(0.001).wait()
        reached.append("never")
    assert reached == ["shielded"]


def test_a_timeout_inside_a_shield_works():
    with td.move_on_after(0), td.shield():
        with pytest.raises(TimeoutError, match=r"0\.01"), td.timeout(0.01):
            td.Channel().recv().wait()
        td.sleep(0.001).wait()


def test_a_block_is_ended_by_another_thread():
    with td.move_on_after(PATIENCE) as scope:
        waker = threading.Thread(target=scope.cancel)
        waker.start()
        td.Channel().recv().wait(PATIENCE)
    waker.join()
    assert (scope.cancelled, scope.expired) == (True, False)


def test_a_block_whose_time_passed_without_a_wait_goes_on():
    """As in a weightless task: it is not interrupted, and nothing in it was refused."""
    with td.timeout(0) as scope:
        total = sum(range(10))
    assert (total, scope.expired) == (45, True)


def test_blocks_of_threads_are_their_own():
    with td.move_on_after(0):
        ended = []

        def other():
            td.sleep(0.001).wait()
            with td.timeout(PATIENCE):
                td.sleep(0.001).wait()
            ended.append("well")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(PATIENCE)
    assert ended == ["well"]


def test_a_run_inside_of_a_block_is_its_own():
    """What is around a `td.run` does not reach into it: its tasks have their own scopes."""

    async def main():
        await td.sleep(0)
        with td.move_on_after(0):
            await td.sleep(0)
        return "ended"

    with td.move_on_after(0):
        assert td.run(main) == "ended"


def test_a_block_is_entered_once_and_left_in_order():
    outer, inner = td.timeout(PATIENCE), td.timeout(PATIENCE)
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError, match="leave the inner block first"):
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="entered once"):
        outer.__enter__()


def test_a_block_is_left_by_the_thread_that_entered_it():
    scope, raised = td.timeout(PATIENCE), []
    scope.__enter__()

    def leave():
        with pytest.raises(RuntimeError, match="leave the block in the task that entered it"):
            scope.__exit__(None, None, None)
        raised.append(True)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(PATIENCE)
    scope.__exit__(None, None, None)
    assert raised == [True]


def test_a_scope_of_the_thread_and_one_of_an_asyncio_task_that_it_runs_are_kept_apart():
    async def main():
        inner.__enter__()
        outer.cancel()
        await asyncio.sleep(0)
        assert not inner.cancelled
        inner.__exit__(None, None, None)

    inner, outer = td.move_on_after(PATIENCE), td.move_on_after(PATIENCE)
    with outer:
        asyncio.run(main())
        td.sleep(0).wait()
        raise AssertionError("the thread's own scope is cancelled")
    assert outer.cancelled


def test_a_group_of_an_asyncio_task_cannot_wait_in_plain_code():
    async def main():
        with pytest.raises(RuntimeError, match="async with"), td.TaskGroup() as group:
            task = group.go(td.sleep(PATIENCE))
        with pytest.raises(td.TaskCancelled):
            await task

    asyncio.run(main())
