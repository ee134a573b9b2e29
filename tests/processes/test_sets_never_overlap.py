"""A hundred sets, a thousand increments each: reads and writes of shared state that nothing guards but the set itself.

Source: Blais, python-dev 2005: tasks of one set never overlap, those of others run on all processors.
"""

import itertools
import os

import pytest
import thistledown as td
from boxes import Account
from pools import Workers

from support import PATIENCE

SETS, TIMES, WORKERS = 100, 1_000, 2


class Counter:
    """Reads, and writes what it has read and one more."""

    def __init__(self):
        self.count = 0

    def increment(self):
        before = self.count
        self.count = before + 1
        return os.getpid()


def increment(path):
    """One increment of what a file has, as a program without locks would write it."""
    with open(path, "r+") as file:
        before = int(file.read() or 0)
        file.seek(0)
        file.write(str(before + 1))
    return os.getpid()


def increment_many(actors, times):
    """In a worker: sends all of its messages at once."""
    tasks = [actor.increment() for _ in range(times) for actor in actors]
    return {task.result(PATIENCE) for task in tasks}


def deposit_many(actor):
    """In a worker: sends all of its messages at once."""
    tasks = [actor.deposit() for _ in range(100)]
    return [task.result(PATIENCE) for task in tasks]


@pytest.mark.timeout(300)
def test_tasks_of_one_key_lose_no_update_and_keep_all_workers_busy(tmp_path):
    paths = [tmp_path / str(number) for number in range(SETS)]
    for path in paths:
        path.touch()
    pids = set()
    with Workers(WORKERS) as pool:
        places = [(pool.options(key=path.name), str(path)) for path in paths]
        for _ in range(10):
            rounds = itertools.product(range(TIMES // 10), places)
            tasks = [place.go(increment, path) for _, (place, path) in rounds]
            pids |= {task.result(PATIENCE) for task in tasks}
    assert [int(path.read_text()) for path in paths] == [TIMES] * SETS
    assert len(pids) == WORKERS


@pytest.mark.timeout(300)
def test_actors_lose_no_update_whoever_sends_and_are_in_all_workers():
    with Workers(WORKERS) as pool:
        actors = [pool.actor(Counter) for _ in range(SETS)]
        senders = [pool.go(increment_many, actors, TIMES // 4) for _ in range(2)]
        pids = set()
        for _ in range(2):
            tasks = [actor.increment() for _ in range(TIMES // 4) for actor in actors]
            pids |= {task.result(PATIENCE) for task in tasks}
        for sender in senders:
            pids |= sender.result(PATIENCE)
        assert [actor.count.result(PATIENCE) for actor in actors] == [TIMES] * SETS
    assert len(pids) == WORKERS


def test_weightless_actors_lose_no_update_that_workers_send():
    async def main(pool):
        account = td.here.actor(Account)
        for task in [pool.go(deposit_many, account) for _ in range(WORKERS)]:
            await task
        assert await account.balance == 200

    with Workers(WORKERS) as pool:
        td.run(main(pool))
