"""Tasks that start tasks, deep and with deaths on the way."""

import pytest
import thistledown as td
import victims
from witness import PATIENCE


def test_fifty_deep_on_two_workers(pool):
    assert pool.submit(victims.descend, pool, 50).result(PATIENCE) == 50


def test_several_towers_beside_each_other(pool):
    assert [task.result(PATIENCE) for task in [pool.submit(victims.descend, pool, 10) for _ in range(4)]] == [10] * 4


def test_wide_and_deep_on_one_worker(single):
    assert single.submit(victims.fan, single, 4, 3).result(PATIENCE) == 64


def test_a_death_at_the_bottom_reaches_the_top(pool):
    with pytest.raises(td.WorkerDied, match="exit code 3") as caught:
        pool.submit(victims.descend_and_die, pool, 10).result(PATIENCE)
    assert caught.value.exitcode == 3
    assert pool.submit(victims.square, 3).result(PATIENCE) == 9


def test_a_death_at_the_top_ends_what_it_has_started(pool, meeting):
    with pytest.raises(td.WorkerDied, match="exit code 4"):
        pool.submit(victims.start_and_die, pool, meeting.address).result(PATIENCE)
    assert pool.submit(victims.square, 3).result(PATIENCE) == 9
    assert pool.wait_idle(PATIENCE)


def test_a_tower_is_cancelled_from_the_top(pool, meeting):
    task = pool.submit(victims.tower, pool, meeting.address, 5)
    meeting.hear()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert pool.submit(victims.square, 3).result(PATIENCE) == 9
