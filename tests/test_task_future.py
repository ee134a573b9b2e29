"""A task is a `concurrent.futures.Future`: states, results, timeouts, callbacks, and other threads."""

import asyncio
import concurrent.futures as futures
import contextlib
import gc
import logging
import threading
import weakref

import pytest
import thistledown as td

from support import PATIENCE, WAYS, settle


async def waiting(gate):
    return await gate.recv()


def start(outcome):
    """A task and the call that ends it with `outcome`: a value, an error, or cancelled."""
    gate = td.Channel(1)

    async def body():
        value = await gate.recv()
        if isinstance(value, Exception):
            raise value
        return value

    task = td.go(body)
    if outcome == "cancelled":
        return task, task.cancel
    return task, lambda: gate.send_nowait(outcome)


def in_thread(function, *arguments):
    return td.thread(function, *arguments)


async def test_a_task_is_a_future_of_the_standard_library():
    task, end = start("value")
    assert isinstance(task, td.Task)
    assert isinstance(task, futures.Future)
    end()
    await task


async def test_a_task_goes_through_the_states_of_a_future():
    task, end = start("value")
    assert (task.done(), task.cancelled()) == (False, False)
    await settle()
    assert (task.running(), task.done(), task.cancelled()) == (True, False, False)
    end()
    assert await task == "value"
    assert (task.running(), task.done(), task.cancelled()) == (False, True, False)


async def test_a_cancelled_task_says_so_and_names_itself_when_asked():
    task, end = start("cancelled")
    task.name = "the-resizer"
    await settle()
    end()
    for ask in (by_result, by_exception, by_await):
        with pytest.raises(td.TaskCancelled, match="the-resizer"):
            await ask(task)
    assert (task.running(), task.done(), task.cancelled()) == (False, True, True)


async def by_await(task):
    await task


async def by_result(task):
    await settle()
    task.result()


async def by_exception(task):
    await settle()
    task.exception()


def test_task_cancelled_is_the_cancelled_error_of_futures_and_no_base_exception():
    assert issubclass(td.TaskCancelled, futures.CancelledError)
    assert issubclass(td.TaskCancelled, Exception)
    assert issubclass(td.Cancelled, BaseException)
    assert not issubclass(td.Cancelled, Exception)


@pytest.mark.parametrize("ask", ["result", "exception", "wait"])
async def test_asking_for_an_unfinished_task_where_its_loop_runs_raises_instead_of_hanging(ask):
    task, end = start("value")
    with pytest.raises(RuntimeError, match="await"):
        getattr(task, ask)()
    end()
    assert await task == "value"
    assert task.result() == task.result(timeout=0) == task.wait() == "value"
    assert task.exception() is None


@pytest.mark.parametrize("ask", ["result", "exception", "wait"])
async def test_asking_for_an_unfinished_task_of_another_loop_raises_as_well(ask):
    gate, tasks = td.Channel(1), td.Channel(1)

    async def other_loop():
        tasks.send_nowait(td.go(waiting, gate))

    running = td.go(in_thread(td.run, other_loop))
    task = await tasks.recv()
    with pytest.raises(RuntimeError, match="await"):
        getattr(task, ask)(PATIENCE)
    gate.send_nowait("value")
    assert await task == "value"
    await running


async def test_another_thread_gets_the_result():
    task, end = start("value")
    asked = td.go(in_thread(task.result, PATIENCE))
    await settle()
    end()
    assert await asked == "value"
    assert await in_thread(task.exception, PATIENCE) is None


async def test_another_thread_gets_the_very_error():
    error = ValueError("lost in the post")
    task, end = start(error)
    asked = td.go(in_thread(task.exception, PATIENCE))
    await settle()
    end()
    assert await asked is error
    for ask in (task.result, task.wait):
        with pytest.raises(ValueError, match="lost in the post"):
            await in_thread(ask, PATIENCE)


async def test_another_thread_learns_that_the_task_was_cancelled():
    task, end = start("cancelled")
    asked = td.go(in_thread(task.result, PATIENCE))
    await settle()
    end()
    with pytest.raises(td.TaskCancelled):
        await asked


@pytest.mark.parametrize("ask", ["result", "exception", "wait"])
@pytest.mark.parametrize("limit", [0, 0.01])
async def test_another_thread_waits_no_longer_than_its_timeout(ask, limit):
    task, end = start("value")
    with pytest.raises(TimeoutError):
        await in_thread(getattr(task, ask), limit)
    assert not task.done()
    end()
    assert await task == "value"


async def test_another_thread_can_cancel_a_task():
    task, _ = start("value")
    await settle()
    assert await in_thread(task.cancel) is True
    with pytest.raises(td.TaskCancelled):
        await task
    assert await in_thread(task.cancel) is False


def test_a_finished_task_answers_after_its_run():
    async def main():
        tasks = [start("value"), start("cancelled")]
        for _, end in tasks:
            end()
        return [task for task, _ in tasks]

    valued, cancelled = td.run(main)
    assert valued.result() == valued.result(timeout=0) == valued.wait(timeout=0) == "value"
    assert cancelled.cancelled()
    with pytest.raises(td.TaskCancelled):
        cancelled.result()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("outcome", ["value", ValueError("no"), "cancelled"], ids=["value", "error", "cancelled"])
async def test_a_task_waited_for_by_many_gives_all_its_outcome(way, outcome):
    task, end = start(outcome)
    waiters = [td.go(way(task)) for _ in range(5)]
    await settle()
    end()
    outcomes = []
    for waiter in waiters:
        try:
            outcomes.append(await waiter)
        except td.TaskCancelled:
            outcomes.append("cancelled")
        except ValueError as error:
            outcomes.append(error)
    assert outcomes == [outcome] * 5


# --- callbacks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["value", ValueError("no"), "cancelled"], ids=["value", "error", "cancelled"])
async def test_callbacks_are_called_once_in_order_with_the_finished_task(outcome):
    task, end = start(outcome)
    calls = []
    for number in range(3):
        task.add_done_callback(lambda done, number=number: calls.append((number, done, done.done())))
    await settle()
    assert calls == []
    end()
    with contextlib.suppress(ValueError, td.TaskCancelled):
        assert await task == outcome
    await settle()
    assert calls == [(number, task, True) for number in range(3)]


async def test_a_callback_added_to_a_finished_task_is_called_at_once():
    task, end = start("value")
    end()
    await task
    calls = []
    task.add_done_callback(calls.append)
    assert calls == [task]


async def test_a_callback_may_be_added_in_another_thread():
    task, end = start("value")
    called = td.Channel(1)
    await in_thread(task.add_done_callback, called.send_nowait)
    end()
    assert await called.recv() is task


async def test_a_callback_may_start_and_cancel_tasks():
    task, end = start("value")
    other, _ = start("never")
    started = []

    def callback(done):
        other.cancel()
        started.append(td.go(waiting, gate))

    gate = td.Channel(1)
    task.add_done_callback(callback)
    end()
    await task
    await settle()
    gate.send_nowait("from the callback")
    assert await started[0] == "from the callback"
    assert other.cancelled()


async def test_an_error_in_a_callback_is_logged_and_the_other_callbacks_are_called(caplog):
    task, end = start("value")
    calls = []

    def broken(done):
        raise LookupError("broken callback")

    task.add_done_callback(broken)
    task.add_done_callback(calls.append)
    with caplog.at_level(logging.ERROR, logger="thistledown"):
        end()
        assert await task == "value"
        await settle()
    assert calls == [task]
    [record] = caplog.records
    assert record.name == "thistledown"
    assert "broken callback" in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["in a run", "outside of one"])
def test_what_ends_the_program_leaves_a_callback_that_is_called_at_once(error, place):
    def callback(task):
        raise error

    async def main():
        task, end = start("value")
        end()
        assert await task == "value"
        if place == "in a run":
            task.add_done_callback(callback)
        return task

    with pytest.raises(error):
        td.run(main).add_done_callback(callback)


# --- the functions of concurrent.futures --------------------------------------------------------------------


def test_wait_returns_at_once_for_finished_tasks():
    async def main():
        tasks = [start("value"), start(ValueError("no"))]
        for _, end in tasks:
            end()
        await settle()
        done, pending = futures.wait([task for task, _ in tasks])
        assert isinstance(tasks[1][0].exception(), ValueError)
        return len(done), len(pending)

    assert td.run(main) == (2, 0)


def by_wait(tasks):
    return futures.wait(tasks, PATIENCE).done


def by_as_completed(tasks):
    return set(futures.as_completed(tasks, PATIENCE))


@pytest.mark.parametrize("look", [by_wait, by_as_completed])
async def test_the_functions_of_futures_refuse_to_wait_where_a_loop_runs(look):
    started = [start("value"), start("value")]
    tasks = [task for task, _ in started]
    for _, end in started:
        with pytest.raises(RuntimeError, match="await"):
            look(tasks)
        end()
        await settle()
    assert look(tasks) == set(tasks)


@pytest.mark.parametrize("look", [by_wait, by_as_completed])
async def test_a_refused_wait_of_futures_does_not_keep_the_finished_tasks_from_others(look):
    started = sorted([start("value"), start("value")], key=lambda pair: id(pair[0]))  # in which they are locked
    (finished, end), (unfinished, end_other) = started
    end()
    await settle()
    with pytest.raises(RuntimeError, match="await"):
        look([finished, unfinished])
    assert futures.wait([finished, unfinished], PATIENCE, futures.FIRST_COMPLETED).done == {finished}
    looked = await td.select(in_thread(look, [finished]), td.after(PATIENCE))
    assert looked == (0, {finished})
    end_other()
    await unfinished


@pytest.mark.parametrize(
    ("return_when", "outcomes", "done_count"),
    [
        (futures.FIRST_COMPLETED, ["value", None, None], 1),
        (futures.FIRST_EXCEPTION, ["value", ValueError("no"), None], 2),
        (futures.ALL_COMPLETED, ["value", ValueError("no"), "cancelled"], 3),
    ],
    ids=["first completed", "first exception", "all completed"],
)
async def test_wait_of_futures_works_from_another_thread(return_when, outcomes, done_count):
    started = [start("never" if outcome is None else outcome) for outcome in outcomes]
    tasks = [task for task, _ in started]
    waiter = td.go(in_thread(futures.wait, tasks, PATIENCE, return_when))
    for (_, end), outcome in zip(started, outcomes, strict=True):
        await settle()
        if outcome is not None:
            end()
    done, pending = await waiter
    assert done == set(tasks[:done_count])
    assert pending == set(tasks[done_count:])
    for task in tasks:
        task.cancel()
        with contextlib.suppress(ValueError, td.TaskCancelled):
            await task


async def test_as_completed_of_futures_gives_tasks_in_the_order_they_end():
    started = [start(number) for number in range(5)]
    order = [3, 0, 4, 1, 2]
    seen = td.Channel()

    def collect():
        for task in futures.as_completed([task for task, _ in started], PATIENCE):
            seen.send(task.result()).wait(PATIENCE)

    collecting = td.go(in_thread(collect))
    for number in order:
        started[number][1]()
        assert await seen.recv() == number
    await collecting


async def test_wait_of_futures_times_out_with_the_task_still_pending():
    task, end = start("value")
    done, pending = await in_thread(futures.wait, [task], 0.01)
    assert (done, pending) == (set(), {task})
    end()
    assert await task == "value"


async def test_an_asyncio_loop_in_another_thread_awaits_a_wrapped_task():
    task, end = start("value")
    answer = td.Channel(1)

    def other_loop():
        async def main():
            return await asyncio.wrap_future(task)

        answer.send_nowait(asyncio.run(main()))

    thread = threading.Thread(target=other_loop)
    thread.start()
    await settle()
    end()
    assert await answer.recv() == "value"
    await in_thread(thread.join)


# --- identity and life --------------------------------------------------------------------------------------


async def test_every_task_has_an_id_of_its_own():
    tasks = [td.go(td.sleep(0)) for _ in range(100)]
    assert len({task.id for task in tasks}) == 100
    assert len(set(tasks)) == 100
    for task in tasks:
        await task


async def test_the_repr_of_a_task_shows_its_name_and_state():
    task, end = start("value")
    task.name = "the-resizer"
    await settle()
    assert "the-resizer" in repr(task)
    waiting_repr = repr(task)
    end()
    await task
    assert repr(task) != waiting_repr


async def test_a_live_task_is_kept_although_nobody_refers_to_it():
    gate, done = td.Channel(1), td.Channel(1)

    async def unheld():
        done.send_nowait(await gate.recv())

    td.go(unheld)
    await settle()
    gc.collect()
    gate.send_nowait("still alive")
    assert await done.recv() == "still alive"


async def test_a_result_is_released_with_its_task():
    class Result:
        pass

    async def body():
        result = Result()
        weak.append(weakref.ref(result))
        return result

    weak = []
    task = td.go(body)
    await task
    assert weak[0]() is not None
    del task
    gc.collect()
    assert weak[0]() is None
