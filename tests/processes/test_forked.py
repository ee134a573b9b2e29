"""A process that was forked after pools were started: it has none of them, says so, and can make its own."""

import contextlib
import os
import sys
import traceback

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_a_fork(function):
    """Calls a function in a forked child; gives what it returns as text, or its traceback."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        text = "it did not come so far"
        try:
            os.close(reading)
            text = str(function())
        except BaseException:
            text = traceback.format_exc()
        finally:
            with open(writing, "w") as pipe:
                pipe.write(text)
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(process, 0)
    return text


def test_the_parents_pool_refuses_and_says_what_to_do(pool):
    def child():
        words = []
        for use in (
            lambda: pool.go(work.double, 1),
            lambda: pool.submit(work.double, 1),
            lambda: pool.map(work.double, [1]),
            lambda: pool.options(priority=1).go(work.double, 1),
            pool.wait_idle,
        ):
            try:
                use()
            except RuntimeError as error:
                words.append(str(error))
        return words

    said = in_a_fork(child)
    assert said.count("td.Workers") == 5, said
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_pool_of_its_own_works(pool):
    def child():
        with td.Workers(1) as own:
            return own.go(work.double, 4).result(PATIENCE), own.go(lambda: 5).result(PATIENCE)

    assert in_a_fork(child) == "(8, 5)"
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_the_default_pool_of_the_child_is_its_own(default_pool):
    processes = default_pool.statistics()["processes"]

    def child():
        process = td.go(work.process).result(PATIENCE)
        own = td.workers() is not default_pool
        td.workers().shutdown()
        return own and process not in processes

    assert in_a_fork(child) == "True"
    assert td.go(work.process).result(PATIENCE) in processes


def test_tasks_that_run_at_the_fork_are_the_parents(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()

    def child():
        try:
            return task.result(0.1)
        except (TimeoutError, RuntimeError, td.ThistledownError) as error:
            return type(error).__name__

    assert in_a_fork(child) != gate.path
    gate.open()
    assert task.result(PATIENCE) == gate.path


def test_waiting_for_a_task_of_the_parent_is_no_hang(pool, gate):
    """Its end never comes here. It says so."""
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()

    def child():
        try:
            return task.result()
        except RuntimeError as error:
            return f"refused: {error}"

    process = in_a_fork(child)
    gate.open()
    assert process.startswith("refused"), process
    assert task.result(PATIENCE) == gate.path


def test_tasks_that_were_done_at_the_fork_have_their_results_in_the_child(pool):
    good, bad = pool.go(work.double, 4), pool.go(work.fail, LookupError("lost"))
    pool.wait_idle(PATIENCE)

    def child():
        return good.done(), good.result(0), type(bad.exception(0)).__name__

    assert in_a_fork(child) == "(True, 8, 'LookupError')"


def test_a_child_that_shuts_the_parents_pool_down_does_not(pool):
    def child():
        with contextlib.suppress(RuntimeError):
            pool.shutdown()
        return "fine"

    assert in_a_fork(child) == "fine"
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_child_that_drops_everything_leaves_the_parents_pool_alone():
    import gc

    with Workers(1) as pool:
        pool.go(work.double, 1).result(PATIENCE)
        pools = [pool]
        del pool

        def child():
            pools.clear()
            gc.collect()
            return "fine"

        assert in_a_fork(child) == "fine"
        assert pools[0].go(work.double, 4).result(PATIENCE) == 8


def test_a_child_that_outlives_its_parents_pool_does_not_keep_it():
    reading, writing = os.pipe()
    pool = td.Workers(1)
    assert pool.go(work.double, 4).result(PATIENCE) == 8
    process = os.fork()
    if process == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    pool.shutdown()
    os.close(writing)
    os.close(reading)
    os.waitpid(process, 0)


def test_multiprocessing_by_fork_beside_a_pool(pool):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    with context.Pool(1) as other:
        assert other.map(in_another_pool, [1, 2]) == [2, 4]
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def in_another_pool(number):
    with td.Workers(1) as own:
        return own.go(work.double, number).result(PATIENCE)


def test_a_task_may_fork(pool):
    def fork_and_wait():
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.write(writing, b"child")
            os._exit(0)
        os.close(writing)
        said = os.read(reading, 10)
        os.close(reading)
        return said, os.waitpid(process, 0)[1]

    assert pool.go(fork_and_wait).result(PATIENCE) == (b"child", 0)


def test_multiprocessing_inside_of_a_task(pool):
    def use_multiprocessing():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as inner:
            return inner.map(work.double, range(5))

    assert pool.go(use_multiprocessing).result(PATIENCE) == [0, 2, 4, 6, 8]
