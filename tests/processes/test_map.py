"""`map`, `as_completed` and `wait`: order, chunks, endless inputs, errors, time, and how far it is."""

import importlib
import itertools
import sys
import types

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE, run_program


def test_results_come_in_the_order_of_the_items(pool):
    assert list(pool.map(work.double, range(3000))) == list(range(0, 6000, 2))


@pytest.mark.parametrize("chunksize", [None, 1, 2, 7, 10_000])
@pytest.mark.parametrize("buffersize", [None, 1, 3, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_every_item_has_its_result_once(pool, chunksize, buffersize, ordered):
    options = {"chunksize": chunksize, "buffersize": buffersize, "ordered": ordered}
    results = list(pool.map(pow, range(100), itertools.repeat(2), **options))
    assert (results if ordered else sorted(results)) == [number**2 for number in range(100)]


def test_unordered_results_come_as_they_are_ready(pool, gate):
    def stand_first(number, path):
        if number == 0:
            work.pass_gate(path)
        return number

    results = pool.map(stand_first, range(5), itertools.repeat(gate.path), ordered=False, chunksize=1)
    assert sorted(itertools.islice(results, 4)) == [1, 2, 3, 4]
    gate.open()
    assert list(results) == [0]


def test_an_endless_input_is_read_as_far_as_it_is_needed(pool):
    taken = []

    def numbers():
        for number in itertools.count():
            taken.append(number)
            yield number

    results = pool.map(work.double, numbers(), buffersize=10, chunksize=1)
    assert len(taken) <= 10
    assert list(itertools.islice(results, 50)) == list(range(0, 100, 2))
    assert len(taken) <= 61
    results.close()
    count = len(taken)
    assert list(results) == []
    assert len(taken) == count


def test_without_a_buffersize_all_is_taken_at_once(pool):
    items = iter(range(500))
    results = pool.map(work.double, items)
    assert next(items, "empty") == "empty"
    assert sum(results) == sum(range(500)) * 2


def test_an_error_of_the_input_is_raised(pool):
    def numbers():
        yield 1
        yield 2
        raise LookupError("in the input")

    with pytest.raises(LookupError, match="in the input"):
        list(pool.map(work.double, numbers()))
    results = pool.map(work.double, numbers(), buffersize=1)
    assert next(results) == 2
    with pytest.raises(LookupError, match="in the input"):
        list(results)


# --- errors in the middle -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_an_error_is_raised_at_its_place_and_ends_the_map(pool, chunksize):
    results = pool.map(divmod, [10] * 8, [1, 2, 5, 0, 1, 1, 1, 1], chunksize=chunksize)
    assert list(itertools.islice(results, 3)) == [(10, 0), (5, 0), (2, 0)]
    with pytest.raises(ZeroDivisionError) as caught:
        next(results)
    assert "ZeroDivisionError" in str(caught.value.__cause__)
    assert list(results) == []


def test_an_error_cancels_what_has_not_begun(gate, journal):
    def fail_first(number, path):
        if number == 0:
            raise LookupError("the first")
        work.pass_gate(gate)
        work.write(path, number)

    gate, held = gate.path, gate
    with Workers(1) as pool:
        results = pool.map(fail_first, range(100), itertools.repeat(journal.path), chunksize=1)
        held.wait_for_arrivals()
        with pytest.raises(LookupError):
            list(results)
        # Whoever has begun by then, and is not stopped yet.
        held.open()
    assert len(journal.lines()) <= 1


def test_a_worker_that_dies_fails_its_item_and_says_which(pool):
    with Workers(1) as own:
        results = own.map("os:_exit", [3] * 4, chunksize=2)
        with pytest.raises(td.WorkerDied) as caught:
            list(results)
        assert "items 0 to 1" in "".join(caught.value.__notes__)


def test_an_item_that_cannot_be_sent_is_told_at_its_place(pool):
    def numbers():
        yield 1

    with pytest.raises(td.NotPicklable, match="generator"):
        list(pool.map(work.double, [numbers()]))
    results = pool.map(work.double, [1, 2, numbers(), 4], chunksize=1)
    assert (next(results), next(results)) == (2, 4)
    with pytest.raises(td.NotPicklable, match="generator"):
        next(results)


# --- time ---------------------------------------------------------------------------------------------------


def test_the_time_is_for_all_of_it(pool, gate):
    results = pool.map(work.pass_gate, [gate.path] * 3, timeout=0.05, chunksize=1)
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        list(results)
    assert pool.wait_idle(PATIENCE), "what was left is cancelled"


def test_no_time_is_lost_by_who_comes_later(pool):
    results = pool.map(work.double, range(10), timeout=PATIENCE)
    assert list(results) == list(range(0, 20, 2))


def test_closing_cancels_the_rest(pool, gate):
    results = pool.map(work.pass_gate, [gate.path] * 20, chunksize=1)
    gate.wait_for_arrivals(2)
    results.close()
    results.close()
    assert list(results) == []
    assert pool.wait_idle(PATIENCE)


def test_a_loop_that_is_left_can_be_gone_on_with(pool):
    results = pool.map(work.double, range(20))
    for result in results:
        if result == 10:
            break
    assert list(results) == list(range(12, 40, 2))


def test_options_are_for_each_item(pool, journal):
    def stand(number):
        while number == 2:
            pass
        return number

    results = pool.options(timeout=0.3).map(stand, range(5))
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        next(results)


def test_items_of_one_key_keep_their_order(journal):
    with Workers(3) as pool:
        list(pool.options(key="k").map(work.write, itertools.repeat(journal.path), range(50)))
    assert journal.lines() == [str(number) for number in range(50)]


WRONG = {
    "no chunk": ({"chunksize": 0}, ValueError, "chunksize"),
    "half a chunk": ({"chunksize": 0.5}, TypeError, "chunksize"),
    "no buffer": ({"buffersize": 0}, ValueError, "buffersize"),
    "a text": ({"buffersize": "10"}, TypeError, "buffersize"),
}


@pytest.mark.parametrize(("options", "kind", "word"), WRONG.values(), ids=WRONG)
def test_a_wrong_number_is_refused_at_once(pool, options, kind, word):
    with pytest.raises(kind, match=word):
        pool.map(work.double, [1], **options)


def test_a_map_over_nothing(pool):
    assert list(pool.map(work.double, [])) == []
    assert list(pool.map(work.double, [], ordered=False)) == []
    with pytest.raises(TypeError, match="iterable"):
        pool.map(work.double)
    with pytest.raises(TypeError):
        pool.map(work.double, 5)


def test_the_pool_may_be_closed_before_the_results_are_taken():
    with Workers(2) as pool:
        results = pool.map(work.double, range(1000))
    assert list(results) == list(range(0, 2000, 2))


def test_a_map_of_a_pool_that_cancels_says_that_items_are_missing(gate):
    pool = td.Workers(1)
    results = pool.map(work.pass_gate, [gate.path] * 50, chunksize=1)
    gate.wait_for_arrivals()
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    with pytest.raises(td.TaskCancelled):
        list(results)
    pool.shutdown()


def test_several_maps_at_a_time(pool):
    maps = [pool.map(work.double, range(number, number + 50)) for number in range(10)]
    for number, results in enumerate(maps):
        assert list(results) == [2 * item for item in range(number, number + 50)]


def test_two_threads_may_take_results_of_different_maps(pool):
    def take(number):
        return sum(pool.map(work.double, range(number)))

    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        taken = [threads.submit(take, number) for number in (10, 100, 1000, 3000)]
        assert [one.result(PATIENCE) for one in taken] == [number * (number - 1) for number in (10, 100, 1000, 3000)]


def test_results_of_many_bytes(pool):
    assert [len(result) for result in pool.map(bytes, [100_000] * 50)] == [100_000] * 50


# --- weightless ---------------------------------------------------------------------------------------------


async def test_a_weightless_task_takes_results_by_async_for(pool):
    assert [result async for result in pool.map(work.double, range(200))] == list(range(0, 400, 2))
    unordered = [result async for result in pool.map(work.double, range(200), ordered=False)]
    assert sorted(unordered) == list(range(0, 400, 2))
    bounded = pool.map(work.double, itertools.count(), buffersize=5)
    taken = []
    async for result in bounded:
        taken.append(result)
        if len(taken) == 20:
            break
    bounded.close()
    assert taken == list(range(0, 40, 2))


async def test_async_for_raises_the_error_at_its_place(pool):
    taken = []
    with pytest.raises(ZeroDivisionError):
        async for result in pool.map(divmod, [4, 4, 4], [1, 2, 0]):
            taken.append(result)
    assert taken == [(4, 0), (2, 0)]


async def test_async_for_gives_up_after_its_timeout(pool, gate):
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        async for _ in pool.map(work.pass_gate, [gate.path] * 2, timeout=0.05):
            pass


async def test_other_weightless_tasks_run_while_results_are_waited_for(pool, gate):
    async def open_later():
        await td.thread(gate.wait_for_arrivals)
        gate.open(2)

    async with td.TaskGroup() as group:
        group.go(open_later)
        assert [path async for path in pool.map(work.pass_gate, [gate.path] * 2, chunksize=1)] == [gate.path] * 2


async def test_a_plain_for_that_would_stop_the_loop_is_refused(pool, gate):
    results = pool.map(work.pass_gate, [gate.path])
    with pytest.raises(RuntimeError, match="async for"):
        next(iter(results))
    gate.open()
    results.close()


async def test_weightless_functions_can_be_mapped(pool):
    async def add(a, b):
        await td.sleep(0)
        return a + b

    assert [result async for result in pool.map(add, range(50), range(50))] == list(range(0, 100, 2))


# --- as_completed and wait ----------------------------------------------------------------------------------


def test_as_completed_gives_each_task_once_as_it_ends(pool, gates):
    first, second = gates(), gates()
    slower, slow = pool.go(work.pass_gate, second.path), pool.go(work.pass_gate, first.path)
    ended = td.as_completed([slower, slow, slow], PATIENCE)
    first.open()
    assert next(ended) is slow
    second.open()
    assert list(ended) == [slower]


def test_as_completed_of_nothing_and_of_what_is_done(pool):
    assert list(td.as_completed([])) == []
    tasks = [pool.go(work.double, number) for number in range(10)]
    pool.wait_idle(PATIENCE)
    assert set(td.as_completed(iter(tasks), 0)) == set(tasks)


def test_as_completed_gives_up_after_its_timeout(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    with pytest.raises(TimeoutError, match=r"1 \(of 1\)"):
        list(td.as_completed([task], 0.01))
    gate.open()
    assert task.result(PATIENCE) == gate.path


async def test_as_completed_in_a_weightless_task(pool):
    tasks = [pool.go(work.double, number) for number in range(20)]
    assert sorted([task.result() async for task in td.as_completed(tasks)]) == list(range(0, 40, 2))


async def test_as_completed_in_a_weightless_task_gives_up_too(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    with pytest.raises(TimeoutError):
        async for _ in td.as_completed([task], 0.01):
            pass
    with pytest.raises(RuntimeError, match="async for"):
        next(td.as_completed([task]))
    gate.open()
    assert await task == gate.path


def test_wait_is_that_of_the_standard_library(pool, gate):
    slow, quick = pool.go(work.pass_gate, gate.path), pool.go(work.double, 1)
    assert td.wait([slow, quick], PATIENCE, "FIRST_COMPLETED") == ({quick}, {slow})
    assert td.wait([slow, quick], 0).not_done == {slow}
    with pytest.raises(ValueError, match="SOMEDAY"):
        td.wait([slow], PATIENCE, "SOMEDAY")
    gate.open()
    assert td.wait([slow, quick], PATIENCE).done == {slow, quick}


# --- the default pool ---------------------------------------------------------------------------------------


def test_td_map_and_td_go_use_the_default_pool(default_pool):
    assert td.workers() is default_pool
    assert list(td.map(work.double, range(10), chunksize=2)) == list(range(0, 20, 2))
    assert td.go(work.double, 4).result(PATIENCE) == 8
    assert td.go("math:factorial", 5).result(PATIENCE) == 120
    assert td.go(work.process).result(PATIENCE) in default_pool.statistics()["processes"]
    assert td.go(work.echo, 1, fn=2, self=3).result(PATIENCE) == ((1,), {"fn": 2, "self": 3})


# --- progress -----------------------------------------------------------------------------------------------


@pytest.fixture
def tqdm(monkeypatch):
    """The package, without the thread that it starts with its first bar."""
    module = importlib.import_module("tqdm")
    monkeypatch.setattr(module.tqdm, "monitor_interval", 0)
    return module


def test_progress_is_shown_by_tqdm_where_it_is_installed(pool, capsys, tqdm):
    assert list(pool.map(work.double, range(30), progress=True)) == list(range(0, 60, 2))
    out, err = capsys.readouterr()
    assert out == ""
    assert "double: 100%" in err
    assert "30/30" in err


def test_progress_of_who_knows_how_many(pool, capsys, tqdm):
    results = pool.map(work.double, itertools.count(), buffersize=4, progress=True)
    assert list(itertools.islice(results, 10)) == list(range(0, 20, 2))
    results.close()
    assert "10it" in capsys.readouterr().err


def test_progress_without_tqdm_is_a_line(pool, capsys, monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(pool.map(work.double, range(30), progress=True)) == list(range(0, 60, 2))
    err = capsys.readouterr().err
    assert "double: 30/30 (100 %)" in err
    assert err.endswith("\n")


def test_progress_in_a_terminal_is_one_line_written_again(pool, monkeypatch):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    written = []
    terminal = types.SimpleNamespace(isatty=lambda: True, write=written.append, flush=lambda: None)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(pool.map(work.double, range(30), progress=True)) == list(range(0, 60, 2))
    text = "".join(written)
    assert "\r" in text
    assert "double: 30/30 (100 %)" in text
    assert text.endswith("\n")


def test_progress_of_a_map_that_fails_ends_its_line(pool, capsys, tqdm):
    with pytest.raises(ZeroDivisionError):
        list(pool.map(divmod, [1, 1], [1, 0], progress=True, chunksize=1))
    assert capsys.readouterr().err.endswith("\n")


async def test_progress_in_a_weightless_task(pool, capsys, tqdm):
    assert [result async for result in pool.map(work.double, range(10), progress=True)] == list(range(0, 20, 2))
    assert "10/10" in capsys.readouterr().err


def test_as_completed_shows_its_progress_by_tqdm_where_it_is_installed(pool, capsys, tqdm):
    tasks = [pool.go(work.double, number) for number in range(30)]
    assert {task.result() for task in td.as_completed(tasks, PATIENCE, progress=True)} == set(range(0, 60, 2))
    out, err = capsys.readouterr()
    assert out == ""
    assert "completed: 100%" in err
    assert "30/30" in err


def test_as_completed_shows_its_progress_in_a_line_without_tqdm(pool, capsys, monkeypatch, gate):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    tasks = [pool.go(work.double, number) for number in range(30)]
    assert len(list(td.as_completed([*tasks, tasks[0]], progress=True))) == 30
    assert "completed: 30/30 (100 %)" in capsys.readouterr().err
    slow = pool.go(work.pass_gate, gate.path)
    with pytest.raises(TimeoutError):
        list(td.as_completed([tasks[0], slow], 0.01, progress=True))
    err = capsys.readouterr().err
    assert "completed: 1/2 (50 %)" in err
    assert err.endswith("\n")
    for task in td.as_completed([tasks[0], slow], progress=True):
        assert task is tasks[0]
        break
    del task
    assert "completed: 1/2 (50 %)" in capsys.readouterr().err, "its line ends when nobody asks any more"
    gate.open()
    assert slow.result(PATIENCE) == gate.path


def test_as_completed_shows_nothing_unless_it_is_asked_to(pool, capsys):
    assert len(list(td.as_completed([pool.go(work.double, 1)]))) == 1
    td.as_completed([pool.go(work.double, 1)], progress=True)
    assert pool.wait_idle(PATIENCE)
    assert capsys.readouterr().err == "", "there is no bar before a task is asked for"


async def test_as_completed_shows_its_progress_in_a_weightless_task(pool, capsys, tqdm):
    tasks = [pool.go(work.double, number) for number in range(10)]
    assert len([task async for task in td.as_completed(tasks, progress=True)]) == 10
    assert "10/10" in capsys.readouterr().err


def test_progress_of_a_program_whose_stderr_is_closed():
    done = run_program(
        """
        import os, sys
        import thistledown as td
        sys.stderr = None
        print(sum(td.map(abs, range(100), progress=True)))
        """
    )
    assert (done.stdout, done.returncode) == ("4950\n", 0)


# --- concurrency --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_with_concurrency_an_endless_input_is_read_no_further(pool, ordered):
    read = []

    def numbers():
        for number in itertools.count():
            read.append(number)
            yield number

    results = pool.map(work.double, numbers(), concurrency=3, ordered=ordered)
    for taken in range(1, 21):
        next(results)
        assert len(read) <= taken + 3
    results.close()


def test_with_concurrency_no_more_run_at_a_time(gate):
    with Workers(3) as pool:
        results = pool.map(work.pass_gate, [gate.path] * 6, concurrency=2)
        gate.wait_for_arrivals(2)
        statistics = pool.statistics()
        assert (statistics["busy"], statistics["submitted"]) == (2, 2)
        gate.open(6)
        assert list(results) == [gate.path] * 6


async def test_a_weightless_task_takes_what_a_bounded_map_of_plain_functions_gives(default_pool):
    assert [result async for result in td.map(work.double, range(50), concurrency=5)] == list(range(0, 100, 2))


def test_a_timeout_is_a_number_of_seconds(pool):
    for start in (lambda: pool.map(abs, [1], timeout="1"), lambda: td.as_completed([], "1")):
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, got '1'"):
            start()
