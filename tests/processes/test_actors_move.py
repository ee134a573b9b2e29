"""Actors that move between this thread and worker processes, with their state, their queue and all of their handles."""

import functools
import os

import pytest
import thistledown as td
from boxes import Account
from pools import Workers
from thistledown._actors import handle
from thistledown._boxes_workers import make

from support import PATIENCE


class Own:
    """``td.actor``, in a pool of the test's own."""

    def __init__(self, pool):
        self.pool = pool

    def _box_maker(self):
        return functools.partial(make, self.pool, True, {})


def deposit_when_told(actor, signals, values):
    for _ in iter(lambda: signals.recv().wait(PATIENCE), None):
        values.send(actor.deposit().result(PATIENCE)).wait(PATIENCE)


def run_with_a_pool(body):
    with Workers(2) as pool:
        return td.run(body(pool))


def test_one_goes_to_a_pool_to_a_worker_of_its_own_and_comes_home_with_calls_queued():
    async def main(pool):
        account, tasks, pids = td.here.actor(Account), [], []
        for place in (pool, Own(pool), td.here):
            tasks += [account.deposit() for _ in range(10)]
            moving = account.move(place)
            tasks += [account.deposit() for _ in range(10)]
            await moving
            pids.append(await account.pid())
        assert [await task for task in tasks] == list(range(1, 61))
        assert len({*pids, os.getpid()}) == 3
        assert pids[-1] == os.getpid()
        assert account.place is td.here
        await account.stop()

    run_with_a_pool(main)


def test_a_handle_in_a_worker_follows_wherever_it_goes():
    async def main(pool):
        account, signals, values = td.here.actor(Account), td.Channel(1), td.Channel(1)
        task = pool.go(deposit_when_told, account, signals, values)
        seen = []
        for place in (td.here, pool, Own(pool), td.here):
            await account.move(place)
            await signals.send(True)
            seen.append(await values.recv())
            seen.append(await account.deposit())
        await signals.send(None)
        await task
        assert seen == list(range(1, 9))
        await account.stop()

    run_with_a_pool(main)


def test_a_handle_that_comes_home_knows_where_its_actor_has_gone():
    async def main(pool):
        account = pool.actor(Account, 3)
        again = await pool.go(lambda actor: actor, account)
        await account.move(td.here)
        assert again == account
        assert await again.deposit() == 4
        await account.stop()

    run_with_a_pool(main)


def test_what_cannot_be_pickled_stays_where_it_is():
    async def main(pool):
        account = td.here.actor(Account)
        await account.hold_what_cannot_be_sent()
        moving = account.move(pool)
        later = account.deposit()
        with pytest.raises(td.NotPicklable):
            await moving
        assert await later == 1
        assert account.place is td.here
        await account.stop()

    run_with_a_pool(main)


def test_who_watches_a_moved_actor_hears_of_its_end_alone():
    async def main(pool):
        account = td.here.actor(Account)
        monitor = td.monitor(account)
        await account.move(Own(pool))
        account.end(3)
        down = await monitor
        assert isinstance(down.reason, td.WorkerDied)
        assert down.reason.exitcode == 3

    run_with_a_pool(main)


def deposit_until_told(actor, stop):
    """How many deposits were answered; the others were refused."""
    tasks = []
    while True:
        try:
            tasks += [actor.deposit() for _ in range(20)]
        except td.ActorStopped:
            break
        if len(stop):
            break
    answered = 0
    for task in tasks:
        try:
            task.result(PATIENCE)
            answered += 1
        except td.ActorStopped:
            pass
    return answered


@pytest.mark.parametrize("round", range(5))
def test_a_call_of_a_worker_that_stands_behind_a_move_out_of_the_pool_is_refused_and_not_lost(round):
    async def main(pool):
        account, stop = pool.actor(Account), td.Channel(1)
        caller = pool.go(deposit_until_told, account, stop)
        while await account.balance < 50:
            await td.sleep(0.001)
        await account.move(td.here)
        await stop.send(None)
        answered = await caller
        assert await account.balance == answered

    run_with_a_pool(main)


class Fragile:
    """It cannot be rebuilt in another process."""

    def __init__(self):
        self.home, self.count = os.getpid(), 0

    def add(self):
        self.count += 1
        return self.count

    def __setstate__(self, state):
        if os.getpid() != state["home"]:
            raise OSError("no such device here")
        self.__dict__.update(state)


def test_one_that_cannot_be_rebuilt_there_stays_and_goes_on():
    async def main(pool):
        for place in (td.here, pool, Own(pool)):
            actor = handle(place._box_maker()(Fragile, ((), {})))
            assert await actor.add() == 1
            with Workers(1) as other:
                moving, added = actor.move(other), actor.add()
                with pytest.raises(OSError, match="no such device here"):
                    await moving
            assert await added == 2
            assert await actor.add() == 3

    run_with_a_pool(main)
