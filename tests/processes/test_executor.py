"""A pool is an executor of `concurrent.futures`: the same tests pass with one of the standard library."""

import concurrent.futures as futures
import functools
import gc
import itertools
import threading
import weakref

import pytest
import work
from pools import Workers

from leaks import eventually
from support import PATIENCE

KINDS = {"Workers": Workers, "ThreadPoolExecutor": futures.ThreadPoolExecutor}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def kind(request):
    return request.param


def test_a_pool_is_an_executor(kind):
    assert issubclass(kind, futures.Executor)


def test_submit_gives_a_future_of_the_result(kind):
    with kind(1) as executor:
        future = executor.submit(work.echo, 1, "two", three=3)
        assert isinstance(future, futures.Future)
        assert future.result(PATIENCE) == ((1, "two"), {"three": 3})
        assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
        assert future.exception(PATIENCE) is None


def test_arguments_called_self_and_fn_are_the_functions_own(kind):
    with kind(1) as executor:
        future = executor.submit(work.echo, self=1, fn=2)
        assert future.result(PATIENCE) == ((), {"self": 1, "fn": 2})


def test_an_error_is_kept_and_raised_each_time(kind):
    with kind(1) as executor:
        future = executor.submit(work.fail, LookupError("lost"))
        assert isinstance(future.exception(PATIENCE), LookupError)
        for _ in range(2):
            with pytest.raises(LookupError, match="lost"):
                future.result(PATIENCE)


def test_an_outcome_is_the_same_object_for_everyone(kind):
    with kind(1) as executor, futures.ThreadPoolExecutor(8) as threads:
        value, error = executor.submit(list, range(1000)), executor.submit(work.fail, LookupError("lost"))
        assert len({id(one.result(PATIENCE)) for one in [threads.submit(value.result) for _ in range(8)]}) == 1
        assert error.exception(PATIENCE) is error.exception(PATIENCE)


def test_what_a_future_holds_is_freed_with_it(kind):
    class Witness:
        pass

    def call_back(future, witness):
        assert witness

    with kind(1) as executor:
        result = executor.submit(make_object)
        error = executor.submit(work.fail, Lost("lost"))
        kept = [Witness(), result.result(PATIENCE), error.exception(PATIENCE)]
        result.add_done_callback(functools.partial(call_back, witness=kept[0]))
        watched = [weakref.ref(one) for one in kept]
        del kept, result, error
        gc.collect()
        eventually(lambda: [one() for one in watched] == [None] * 3, "something holds them")


class Object:
    pass


class Lost(Exception):
    """Other than those of the language, it can be watched."""


def make_object():
    return Object()


def test_a_future_is_pending_then_running_then_done(kind, gates):
    first, second = gates(), gates()
    with kind(1) as executor:
        runs, waits = executor.submit(work.pass_gate, first.path), executor.submit(work.pass_gate, second.path)
        first.wait_for_arrivals()
        assert (runs.running(), runs.done(), runs.cancelled()) == (True, False, False)
        assert (waits.running(), waits.done(), waits.cancelled()) == (False, False, False)
        first.open()
        second.wait_for_arrivals()
        assert (waits.running(), waits.done()) == (True, False)
        second.open()
        assert waits.result(PATIENCE) == second.path
        assert (runs.done(), waits.done()) == (True, True)


def test_result_and_exception_give_up_after_their_timeout_and_the_task_goes_on(kind, gate):
    with kind(1) as executor:
        future = executor.submit(work.pass_gate, gate.path)
        for ask in (future.result, future.exception):
            for timeout in (0, 0.01):
                with pytest.raises(TimeoutError):
                    ask(timeout)
        gate.open()
        assert future.result(PATIENCE) == gate.path


def test_a_queued_future_can_be_cancelled_and_never_runs(kind, gate, journal):
    with kind(1) as executor:
        runs = executor.submit(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        waits = executor.submit(work.write, journal.path, "ran")
        assert waits.cancel()
        assert (waits.cancelled(), waits.done(), waits.running()) == (True, True, False)
        for ask in (waits.result, waits.exception):
            with pytest.raises(futures.CancelledError):
                ask(PATIENCE)
        gate.open()
        assert runs.result(PATIENCE) == gate.path
    assert journal.lines() == []


def test_a_future_that_is_done_cannot_be_cancelled(kind):
    with kind(1) as executor:
        future = executor.submit(work.double, 4)
        assert future.result(PATIENCE) == 8
        assert not future.cancel()
        assert (future.result(PATIENCE), future.cancelled()) == (8, False)


# --- callbacks ----------------------------------------------------------------------------------------------


def test_callbacks_are_called_in_their_order_with_the_future(kind, gate):
    calls, called = [], threading.Event()
    with kind(1) as executor:
        future = executor.submit(work.pass_gate, gate.path)
        for number in range(5):
            future.add_done_callback(lambda future, number=number: calls.append((number, future)))
        future.add_done_callback(lambda future: called.set())
        gate.wait_for_arrivals()
        assert calls == []
        gate.open()
        assert called.wait(PATIENCE)
    assert calls == [(number, future) for number in range(5)]


def test_a_callback_of_a_future_that_is_done_is_called_at_once_in_this_thread(kind):
    calls = []
    with kind(1) as executor:
        future = executor.submit(work.double, 4)
        futures.wait([future], PATIENCE)
        future.add_done_callback(lambda future: calls.append((threading.get_ident(), future.result())))
        assert calls == [(threading.get_ident(), 8)]


def test_a_callback_sees_the_outcome_whatever_it_is(kind, gate):
    seen, called = {}, threading.Event()

    def see(name, future):
        seen[name] = "cancelled" if future.cancelled() else (future.exception(0) or future.result(0))
        if len(seen) == 3:
            called.set()

    with kind(1) as executor:
        blocks = executor.submit(work.pass_gate, gate.path)
        outcomes = {
            "value": executor.submit(work.double, 2),
            "error": executor.submit(work.fail, KeyError("k")),
            "cancelled": executor.submit(work.double, 3),
        }
        for name, future in outcomes.items():
            future.add_done_callback(lambda future, name=name: see(name, future))
        assert outcomes["cancelled"].cancel()
        gate.open()
        blocks.result(PATIENCE)
        assert called.wait(PATIENCE)
    assert (seen["value"], seen["cancelled"]) == (4, "cancelled")
    assert isinstance(seen["error"], KeyError)


def test_a_callback_that_fails_is_logged_and_the_others_are_called(kind, gate, caplog):
    called = threading.Event()
    with kind(1) as executor:
        future = executor.submit(work.pass_gate, gate.path)
        future.add_done_callback(lambda future: work.fail(ValueError("in the callback")))
        future.add_done_callback(lambda future: called.set())
        gate.open()
        assert called.wait(PATIENCE)
        assert future.result(PATIENCE) == gate.path
    assert "in the callback" in caplog.text


def test_a_callback_may_submit(kind):
    chained, called = [], threading.Event()

    with kind(1) as executor:

        def chain(future):
            chained.append(executor.submit(work.double, future.result()))
            called.set()

        executor.submit(work.double, 2).add_done_callback(chain)
        assert called.wait(PATIENCE)
        assert chained[0].result(PATIENCE) == 8


# --- wait and as_completed of the standard library ----------------------------------------------------------


def test_wait_for_all(kind):
    with kind(2) as executor:
        started = [executor.submit(work.double, number) for number in range(20)]
        done, not_done = futures.wait(started, PATIENCE)
        assert (done, not_done) == (set(started), set())
        assert [future.result(0) for future in started] == [2 * number for number in range(20)]


def test_wait_for_the_first(kind, gate):
    with kind(2) as executor:
        slow, quick = executor.submit(work.pass_gate, gate.path), executor.submit(work.double, 1)
        done, not_done = futures.wait([slow, quick], PATIENCE, futures.FIRST_COMPLETED)
        assert (done, not_done) == ({quick}, {slow})
        gate.open()


def test_wait_for_the_first_error(kind, gate):
    with kind(2) as executor:
        slow = executor.submit(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        good, bad = executor.submit(work.double, 1), executor.submit(work.fail, OSError("x"))
        done, not_done = futures.wait([slow, good, bad], PATIENCE, futures.FIRST_EXCEPTION)
        assert bad in done
        assert slow in not_done
        gate.open()


def test_wait_gives_up_after_its_timeout(kind, gate):
    with kind(2) as executor:
        slow, quick = executor.submit(work.pass_gate, gate.path), executor.submit(work.double, 1)
        quick.result(PATIENCE)
        assert futures.wait([slow, quick], 0.01) == ({quick}, {slow})
        gate.open()


def test_as_completed_gives_each_as_it_ends(kind, gates):
    first, second = gates(), gates()
    with kind(2) as executor:
        slower, slow = executor.submit(work.pass_gate, second.path), executor.submit(work.pass_gate, first.path)
        ended = futures.as_completed([slower, slow], PATIENCE)
        first.open()
        assert next(ended) is slow
        second.open()
        assert list(ended) == [slower]


def test_as_completed_gives_up_after_its_timeout(kind, gate):
    with kind(2) as executor:
        slow, quick = executor.submit(work.pass_gate, gate.path), executor.submit(work.double, 1)
        quick.result(PATIENCE)
        ended = futures.as_completed([slow, quick], 0.01)
        assert next(ended) is quick
        with pytest.raises(TimeoutError):
            next(ended)
        gate.open()


def test_futures_of_two_executors_can_be_waited_for_together(kind):
    with kind(1) as executor, futures.ThreadPoolExecutor(1) as threads:
        mixed = [executor.submit(work.double, 1), threads.submit(work.double, 2)]
        assert {future.result() for future in futures.as_completed(mixed, PATIENCE)} == {2, 4}


def test_several_threads_can_wait_for_one_future(kind, gate):
    with kind(1) as executor, futures.ThreadPoolExecutor(8) as threads:
        future = executor.submit(work.pass_gate, gate.path)
        waits = [threads.submit(future.result, PATIENCE) for _ in range(4)]
        waits += [threads.submit(lambda: next(futures.as_completed([future], PATIENCE)).result()) for _ in range(4)]
        gate.open()
        assert {wait.result(PATIENCE) for wait in waits} == {gate.path}


def test_several_threads_can_submit_to_one_executor(kind):
    with kind(2) as executor, futures.ThreadPoolExecutor(4) as threads:

        def submit(thread):
            started = [executor.submit(work.double, (thread, number)) for number in range(50)]
            return [future.result(PATIENCE) for future in started]

        given = [threads.submit(submit, thread) for thread in range(4)]
        for thread, results in enumerate(given):
            assert results.result(PATIENCE) == [(thread, number) * 2 for number in range(50)]


# --- map ----------------------------------------------------------------------------------------------------


def test_map_gives_results_in_the_order_of_the_items(kind):
    with kind(2) as executor:
        assert list(executor.map(work.double, range(100))) == [2 * number for number in range(100)]


def test_map_takes_an_argument_from_each_iterable_and_the_shortest_ends_it(kind):
    with kind(2) as executor:
        assert list(executor.map(pow, [2, 3, 4, 5], (1, 2, 3))) == [2, 9, 64]
        assert list(executor.map(pow, itertools.count(1), [2, 2])) == [1, 4]
        assert list(executor.map(work.double, [])) == []


def test_map_starts_at_once_whoever_takes_the_results(kind, journal):
    with kind(1) as executor:
        executor.map(work.write, [journal.path] * 3, "abc")
    assert journal.lines() == ["a", "b", "c"]


def test_map_raises_the_error_of_an_item_at_its_place(kind):
    with kind(1) as executor:
        results = executor.map(divmod, [4, 3, 2, 1], [2, 3, 0, 1])
        assert (next(results), next(results)) == ((2, 0), (1, 0))
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == [], "an error ends the map"


def test_map_gives_up_after_its_timeout(kind, gate):
    with kind(2) as executor:
        results = executor.map(work.pass_gate, [gate.path] * 2, timeout=0.05)
        with pytest.raises(TimeoutError):
            list(results)
        gate.open(2)


def test_map_takes_a_chunksize(kind):
    with kind(2) as executor:
        for chunksize in (1, 3, 1000):
            assert list(executor.map(work.double, range(20), chunksize=chunksize)) == list(range(0, 40, 2))


# --- shutdown -----------------------------------------------------------------------------------------------


def test_after_shutdown_nothing_can_be_submitted(kind):
    executor = kind(1)
    executor.submit(work.double, 1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(work.double, 1)
    with pytest.raises(RuntimeError):
        list(executor.map(work.double, [1]))


def test_leaving_the_block_waits_for_everything(kind, journal):
    with kind(2) as executor:
        started = [executor.submit(work.write, journal.path, number) for number in range(50)]
    assert all(future.done() for future in started)
    assert sorted(map(int, journal.lines())) == list(range(50))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(work.double, 1)


def test_leaving_the_block_by_an_error_waits_too_and_the_error_goes_on(kind):
    with pytest.raises(LookupError, match="in the block"):
        with kind(1) as executor:
            future = executor.submit(work.double, 4)
            raise LookupError("in the block")
    assert future.result(0) == 8


def test_shutdown_without_waiting_lets_the_tasks_end(kind, gate):
    executor = kind(1)
    runs, waits = executor.submit(work.pass_gate, gate.path), executor.submit(work.double, 4)
    gate.wait_for_arrivals()
    executor.shutdown(wait=False)
    assert not runs.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(work.double, 1)
    gate.open()
    assert (runs.result(PATIENCE), waits.result(PATIENCE)) == (gate.path, 8)
    executor.shutdown()


def test_shutdown_with_cancel_futures_cancels_what_has_not_begun(kind, gate):
    executor = kind(1)
    runs = executor.submit(work.pass_gate, gate.path)
    gate.wait_for_arrivals()
    queued = [executor.submit(work.double, number) for number in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    assert not runs.done()
    gate.open()
    executor.shutdown()
    assert runs.result(0) == gate.path


def test_shutdown_twice_is_shutdown_once(kind):
    executor = kind(1)
    assert executor.submit(work.double, 1).result(PATIENCE) == 2
    executor.shutdown()
    executor.shutdown()
    executor.shutdown(wait=False, cancel_futures=True)


def test_an_executor_that_never_ran_anything_shuts_down(kind):
    with kind(2):
        pass
    kind(2).shutdown(cancel_futures=True)


def test_a_dropped_executor_finishes_what_it_has(kind, gate):
    executor = kind(1)
    dropped = weakref.ref(executor)
    runs, waits = executor.submit(work.pass_gate, gate.path), executor.submit(work.double, 4)
    gate.wait_for_arrivals()
    del executor
    assert dropped() is None
    gate.open()
    assert (runs.result(PATIENCE), waits.result(PATIENCE)) == (gate.path, 8)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_is_none_is_refused(kind, size):
    with pytest.raises(ValueError, match="must be greater than 0"):
        kind(size)


def test_an_initializer_runs_before_the_first_task(kind, journal):
    with kind(1, initializer=work.write, initargs=(journal.path, "made")) as executor:
        executor.submit(work.write, journal.path, "ran").result(PATIENCE)
    assert journal.lines() == ["made", "ran"]


def test_a_failing_initializer_breaks_the_executor(kind):
    with kind(1, initializer=work.fail, initargs=(LookupError("no such thing"),)) as executor:
        future = executor.submit(work.double, 1)
        with pytest.raises(futures.BrokenExecutor):
            future.result(PATIENCE)
        with pytest.raises(futures.BrokenExecutor):
            executor.submit(work.double, 1).result(PATIENCE)
