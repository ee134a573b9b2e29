"""Tasks that start tasks, deep and with deaths on the way."""

import pytest
import thistledown as td
import victims
from witness import PATIENCE


def test_fifty_deep_on_two_workers(pair):
    assert pair.submit(victims.descend, pair, 50).result(PATIENCE) == 50


def test_several_towers_beside_each_other(pair):
    assert [task.result(PATIENCE) for task in [pair.submit(victims.descend, pair, 10) for _ in range(4)]] == [10] * 4


def test_wide_and_deep_on_one_worker(single):
    assert single.submit(victims.fan, single, 4, 3).result(PATIENCE) == 64


def test_a_death_at_the_bottom_reaches_the_top(pair):
    with pytest.raises(td.WorkerDied, match="exit code 3") as caught:
        pair.submit(victims.descend_and_die, pair, 10).result(PATIENCE)
    assert caught.value.exitcode == 3
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9


def test_a_death_at_the_top_leaves_what_it_has_started(pair, meeting):
    with pytest.raises(td.WorkerDied, match="exit code 4"):
        pair.submit(victims.start_and_die, pair, meeting.address).result(PATIENCE)
    # The one that died, and the five that it had started, two at a time.
    for _ in range(6):
        meeting.hear()
        meeting.release()
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9
    assert pair.wait_idle(PATIENCE)


def test_a_tower_is_cancelled_from_the_top(pair, meeting):
    task = pair.submit(victims.tower, pair, meeting.address, 5)
    meeting.hear()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9
