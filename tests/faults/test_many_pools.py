"""Pools beside each other, after each other, in many threads, and pools that nobody closes."""

import gc
import os
import threading

import pytest
import thistledown as td
import victims
import witness
from witness import PATIENCE

POOLS = 1_000
POOLS_AT_WORK = int(os.environ.get("THISTLEDOWN_POOLS", "25"))


def held():
    return len(witness.descriptors()), witness.native_threads().total()


def test_two_pools_at_once_have_nothing_to_do_with_each_other():
    with td.Workers(1) as one, td.Workers(1) as other:
        tasks = [pool.submit(victims.process) for pool in (one, other) for _ in range(10)]
        processes = [task.result(PATIENCE) for task in tasks]
        assert len(set(processes[:10])) == len(set(processes[10:])) == 1
        assert processes[0] != processes[-1]
        dead = one.submit(victims.exit_at_once, 3)
        assert other.submit(victims.process).result(PATIENCE) == processes[-1]
        assert isinstance(dead.exception(PATIENCE), td.WorkerDied)
        one.shutdown()
        assert other.submit(victims.process).result(PATIENCE) == processes[-1]
        with pytest.raises(RuntimeError, match="shutdown"):
            one.submit(victims.process)


def test_a_pool_that_is_dropped_finishes_what_it_has_and_goes(mark):
    def start():
        pool = td.Workers(2)
        return [pool.submit(victims.square, n) for n in range(200)]

    assert [task.result(PATIENCE) for task in start()] == [n * n for n in range(200)]
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_pool_that_is_dropped_in_the_middle_of_everything_leaves_nothing(mark):
    before = held()
    for _ in range(5):
        pool = td.Workers(2)
        for n in range(100):
            pool.submit(victims.square, n)
        del pool
    assert witness.eventually(lambda: held() <= before and not witness.marked(mark))


def test_a_pool_in_a_cycle_goes_when_it_is_collected(mark):
    before = held()
    cycle = [td.Workers(1)]
    cycle.append(cycle)
    cycle[0].submit(victims.square, 2).result(PATIENCE)
    del cycle
    gc.collect()
    assert witness.eventually(lambda: held() <= before and not witness.marked(mark))


def test_a_pool_is_shut_down_again_and_again_by_several_threads():
    with td.Workers(2) as pool:
        tasks = [pool.submit(victims.square, n) for n in range(50)]
        threads = [threading.Thread(target=pool.shutdown) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert [task.result(PATIENCE) for task in tasks] == [n * n for n in range(50)]


def stopped(task):
    """Its end; one that had begun to run needs a moment."""
    try:
        return task.result(PATIENCE)
    except td.TaskCancelled as error:
        return error


def test_eight_threads_use_one_pool(pair):
    errors = []
    begin = threading.Barrier(8)

    def use(seed):
        try:
            begin.wait(PATIENCE)
            for n in range(50):
                assert pair.submit(victims.square, seed + n).result(PATIENCE) == (seed + n) ** 2
            assert list(pair.map(victims.square, range(200))) == [n * n for n in range(200)]
            tasks = [pair.submit(victims.square, n) for n in range(100)]
            cancelled = [task.cancel() for task in tasks[::2]]
            for n, task in enumerate(tasks):
                if n % 2 == 0 and cancelled[n // 2]:
                    assert isinstance(stopped(task), td.TaskCancelled)
                else:
                    assert task.result(PATIENCE) == n * n
            assert len(pair.submit(victims.large, 200_000).result(PATIENCE)) == 200_000
            assert isinstance(pair.submit(victims.exit_at_once, 3).exception(PATIENCE), td.WorkerDied)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=[1000 * n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert errors == []


def test_pools_one_after_the_other_leave_nothing():
    with td.Workers(1) as pool:
        pool.submit(victims.square, 3).result(PATIENCE)
    del pool
    gc.collect()
    before = held()
    for _ in range(POOLS):
        with td.Workers(2):
            pass
    for number in range(POOLS_AT_WORK):
        with td.Workers(1 + number % 2) as pool:
            assert pool.submit(victims.square, number).result(PATIENCE) == number**2
        # Files at once, not some time; the system takes a thread that has ended off its list when it likes.
        assert len(witness.descriptors()) <= before[0]
        assert witness.eventually(lambda: held() <= before), witness.native_threads()
