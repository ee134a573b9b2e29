"""Groups over everything: weightless tasks, tasks of worker processes and thread calls, in each form of the block."""

import contextlib
import math
import threading
import time
from pathlib import Path

import pytest
import thistledown as td
import work
from pools import Workers

from leaks import eventually
from support import PATIENCE


def in_a_coroutine(fill):
    async def main():
        async with td.TaskGroup() as group:
            fill(group)

    td.run(main)


def in_a_generator(fill):
    def main():
        with td.TaskGroup() as group:
            fill(group)
            yield from group.join()

    td.run(main)


def in_plain_code(fill):
    with td.TaskGroup() as group:
        fill(group)


WEIGHTLESS = [in_a_coroutine, in_a_generator]
every_form = pytest.mark.parametrize("form", [*WEIGHTLESS, in_plain_code])


class Call:
    """A thread call that goes on until it is stopped, and says how it ended."""

    def __init__(self, error=None):
        self.error = error
        self.begun = threading.Event()
        self.events = []

    def __call__(self):
        self.begun.set()
        try:
            while True:
                time.sleep(0)
        except td.Cancelled:
            self.events.append("cancelled")
            if self.error is not None:
                raise self.error from None
            raise
        finally:
            self.events.append("over")

    def wait_until_begun(self):
        assert self.begun.wait(PATIENCE)


@every_form
def test_a_group_holds_tasks_of_processes_and_thread_calls(form, pool, default_pool):
    tasks = []

    def fill(group):
        tasks.append(group.go(work.double, 4))
        tasks.append(group.go("work:double", 5))
        tasks.append(group.add(pool.options(name="added").go(work.double, 6)))
        tasks.append(group.thread(work.double, number=7))
        tasks.append(group.go(td.thread(work.double, 8)))

    form(fill)
    assert all(task.done() for task in tasks)
    assert [task.result() for task in tasks] == [8, 10, 12, 14, 16]
    assert tasks[2].name == "added"


@every_form
@pytest.mark.parametrize("where", ["process", "thread"])
def test_the_first_failure_cancels_the_rest_wherever_they_run(form, where, pool, gate):
    call, tasks = Call(), []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        tasks.append(group.thread(call))
        if form in WEIGHTLESS:
            tasks.append(group.go(td.sleep(math.inf)))
        gate.wait_for_arrivals()
        call.wait_until_begun()
        error = LookupError("lost")
        group.add(pool.go(work.fail, error)) if where == "process" else group.thread(work.fail, error)

    with pytest.raises(LookupError, match="lost"):
        form(fill)
    assert [task.cancelled() for task in tasks] == [True] * len(tasks)
    assert call.events == ["cancelled", "over"]
    assert pool.wait_idle(PATIENCE)


@pytest.mark.parametrize("form", WEIGHTLESS)
def test_a_weightless_failure_cancels_the_rest_wherever_they_run(form, pool, gate):
    call, tasks = Call(), []

    async def fail():
        await td.thread(call.wait_until_begun)
        raise LookupError("lost")

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        tasks.append(group.thread(call))
        group.go(fail)
        gate.wait_for_arrivals()

    with pytest.raises(LookupError, match="lost"):
        form(fill)
    assert [task.cancelled() for task in tasks] == [True, True]


@every_form
def test_an_error_of_the_block_cancels_the_tasks_and_waits_for_them(form, pool, gate):
    call, tasks = Call(), []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        tasks.append(group.thread(call))
        gate.wait_for_arrivals()
        call.wait_until_begun()
        raise LookupError("of the block")

    with pytest.raises(LookupError, match="of the block"):
        form(fill)
    if form is not in_a_generator:  # there the join, which waits, comes after the error
        assert [task.cancelled() for task in tasks] == [True, True]


@every_form
def test_several_failures_come_as_a_group(form, pool):
    call = Call(LookupError("of the call"))

    def fill(group):
        group.thread(call)
        call.wait_until_begun()
        task = group.add(pool.go(work.fail, LookupError("of the process")))
        eventually(task.done, "the task has not failed")
        if form is in_a_generator:
            return
        raise LookupError("of the block")

    with pytest.raises(ExceptionGroup) as caught:
        form(fill)
    expected = ["of the block", "of the call", "of the process"]
    assert sorted(map(str, caught.value.exceptions)) == expected[form is in_a_generator :]


@every_form
def test_cancel_ends_the_block_without_an_error(form, pool, gate):
    call, tasks = Call(), []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        tasks.append(group.thread(call))
        gate.wait_for_arrivals()
        call.wait_until_begun()
        group.cancel()

    form(fill)
    assert [task.cancelled() for task in tasks] == [True, True]


@every_form
def test_what_does_not_stop_is_killed_after_the_grace(form, gate):
    with Workers(1, grace=0.01) as pool:

        def fill(group):
            group.add(pool.go(work.be_deaf, gate.path))
            gate.wait_for_arrivals()
            processes.extend(pool.statistics()["processes"])
            group.cancel()

        processes = []
        form(fill)
        assert len(processes) == 1
        assert not set(processes) & set(pool.statistics()["processes"])


@every_form
def test_tasks_that_have_not_begun_never_do(form, gate, journal):
    with Workers(1) as pool:

        def fill(group):
            group.add(pool.go(work.pass_gate, gate.path))
            tasks.extend(group.add(pool.go(work.write, journal.path, "begun")) for _ in range(100))
            gate.wait_for_arrivals()
            group.cancel()

        tasks = []
        form(fill)
        assert all(task.cancelled() for task in tasks)
    assert Path(journal.path).read_text() == ""


@every_form
def test_a_cancelled_member_is_no_failure(form, pool, gate):
    tasks = []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        gate.wait_for_arrivals()
        tasks[0].cancel()
        tasks.append(group.add(pool.go(work.double, 4)))

    form(fill)
    assert tasks[0].cancelled()
    assert tasks[1].result() == 8


@every_form
def test_a_task_that_had_failed_before_it_was_added_cancels_the_group(form, pool, gate):
    failed = pool.go(work.fail, LookupError("lost"))
    assert isinstance(failed.exception(PATIENCE), LookupError)
    tasks = []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        gate.wait_for_arrivals()
        group.add(failed)

    with pytest.raises(LookupError, match="lost"):
        form(fill)
    assert tasks[0].cancelled()


@every_form
def test_thousands_of_tasks_go_through_a_group_and_their_first_error_is_not_lost(form, pool):
    def fill(group):
        tasks = [group.add(pool.go(work.double, number)) for number in range(200)]
        eventually(lambda: all(task.done() for task in tasks), "they have not ended")
        for number in range(2_000):
            group.add(pool.go(work.double, number))
        # By then it has been looked through, however many are on their way.
        assert set(group._elsewhere).isdisjoint(tasks), "those that have ended well are let go"
        group.add(pool.go(work.fail, LookupError("the last")))

    with pytest.raises(LookupError, match="the last"):
        form(fill)


# --- timeouts and shields -----------------------------------------------------------------------------------


def in_coroutine_scope(scope, fill):
    async def main():
        with scope():
            async with td.TaskGroup() as group:
                fill(group)

    td.run(main)


def in_plain_scope(scope, fill):
    with scope(), td.TaskGroup() as group:
        fill(group)


every_scope = pytest.mark.parametrize("form", [in_coroutine_scope, in_plain_scope])


@every_scope
def test_a_timeout_around_a_group_ends_all_of_it(form, pool, gate):
    call, tasks = Call(), []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        tasks.append(group.thread(call))
        gate.wait_for_arrivals()
        call.wait_until_begun()

    with pytest.raises(TimeoutError, match=r"0\.01"):
        form(lambda: td.timeout(0.01), fill)
    assert [task.cancelled() for task in tasks] == [True, True]


@every_scope
def test_move_on_after_goes_on_behind_a_group(form, pool, gate):
    tasks = []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        gate.wait_for_arrivals()

    form(lambda: td.move_on_after(0.01), fill)
    assert tasks[0].cancelled()


@every_scope
def test_a_timeout_that_has_ended_the_tasks_before_they_are_waited_for_is_noticed(form, pool, gate):
    tasks = []

    def fill(group):
        with td.shield():
            tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
            eventually(tasks[0].done, "it was not cancelled")

    with pytest.raises(TimeoutError):
        form(lambda: td.timeout(0), fill)
    assert tasks[0].cancelled()


@every_scope
def test_a_shield_keeps_a_timeout_from_the_tasks_of_a_group(form, pool, gate):
    tasks = []

    @contextlib.contextmanager
    def scopes():
        with td.move_on_after(0) as scope, td.shield():
            yield
        assert scope.expired

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        gate.wait_for_arrivals()
        gate.open()

    form(scopes, fill)
    assert tasks[0].result() == gate.path


@every_scope
def test_a_task_that_is_only_awaited_is_not_of_the_scope(form, pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()

    async def main():
        with pytest.raises(TimeoutError), td.timeout(0.01):
            await task

    if form is in_coroutine_scope:
        td.run(main)
    else:
        with pytest.raises(TimeoutError, match=r"0\.01"), td.timeout(0.01):
            task.result()
    assert not task.done()
    gate.open()
    assert task.result(PATIENCE) == gate.path


# --- nested in workers --------------------------------------------------------------------------------------


def test_a_group_in_a_task_of_a_worker_gives_up_its_place():
    with Workers(1) as pool:
        assert pool.go(work.group_in_worker, 3).result(PATIENCE) == 3


def test_stopping_a_task_of_a_worker_stops_the_tasks_of_its_group(gate):
    with Workers(2) as pool:
        outer = pool.go(work.hold_in_group, gate.path)
        gate.wait_for_arrivals()
        outer.cancel()
        with pytest.raises(td.TaskCancelled):
            outer.result(PATIENCE)
        assert pool.wait_idle(PATIENCE)
        assert pool.statistics()["died"] == 0


# --- misuse -------------------------------------------------------------------------------------------------


def test_a_weightless_body_in_plain_code_says_what_to_write():
    with td.TaskGroup() as group, pytest.raises(RuntimeError, match=r"td\.run\(main\)"):
        group.go(td.sleep(1))


def test_a_group_takes_in_tasks_of_processes_alone(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    with td.TaskGroup() as group:
        with pytest.raises(TypeError, match=r"tg\.go"):
            group.add(work.double)
        group.add(task)
        with pytest.raises(RuntimeError, match="belongs to another group"):
            group.add(task)
        gate.open()
    with pytest.raises(RuntimeError, match="has been left"):
        group.add(task)
    with pytest.raises(RuntimeError, match="has been left"):
        group.go(work.double, 1)
    with pytest.raises(RuntimeError, match="has not been entered"):
        td.TaskGroup().thread(work.double, 1)


async def test_a_weightless_task_is_not_taken_in(pool):
    async with td.TaskGroup() as group:
        task = td.go(td.sleep(0))
        with pytest.raises(TypeError, match=r"tg\.go"):
            group.add(task)


def test_a_thread_call_that_has_not_begun_never_does():
    from thistledown import _threads

    ready, go, called = threading.Semaphore(0), threading.Event(), []

    def hold():
        ready.release()
        assert go.wait(PATIENCE)

    with td.TaskGroup() as outer:
        for _ in range(_threads.THREADS):
            outer.thread(hold)
        for _ in range(_threads.THREADS):
            assert ready.acquire(timeout=PATIENCE)
        with td.TaskGroup() as inner:
            task = inner.thread(called.append, 1)
            inner.cancel()
        assert task.cancelled()
        go.set()
    assert called == []


def test_a_stop_that_comes_too_late_does_not_reach_the_next_call():
    """The exception is taken back when the call that it was for has ended."""
    for _ in range(200):
        with td.TaskGroup() as group:
            first = group.thread(lambda: None)
            group.cancel()
        assert first.done()
        with td.TaskGroup() as group:
            assert group.thread(work.double, 4).result(PATIENCE) == 8


async def waits_for_nobody():
    await td.Channel().recv()


@pytest.mark.timeout(0)
def test_a_run_that_can_never_go_on_says_so_when_the_last_process_of_a_group_has_ended(pool, gate):
    async def main():
        async with td.TaskGroup() as group:
            group.go(waits_for_nobody)
            group.add(pool.go(work.pass_gate, gate.path))
            await td.thread(gate.wait_for_arrivals)
            gate.open()

    with pytest.raises(td.DeadlockError, match="waits_for_nobody"):
        td.run(main)
