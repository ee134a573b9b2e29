"""A task that does not end by itself is ended: by its timeout and by ``cancel``, whatever it is in the middle of."""

import pytest
import thistledown as td
import victims
import witness
from witness import PATIENCE

MANY = 100_000


@pytest.mark.parametrize("endless", victims.ENDLESS)
def test_a_timeout_ends_a_task_that_goes_on_for_ever(pair, meeting, endless):
    task = pair.options(timeout=0.3).submit(victims.begin, meeting.address, endless)
    process = meeting.hear()
    queued = [pair.submit(victims.square, n) for n in range(20)]
    with pytest.raises(TimeoutError):
        task.result(PATIENCE)
    assert [task.result(PATIENCE) for task in queued] == [n * n for n in range(20)]
    if endless not in (victims.spin, victims.sleep):
        assert witness.wait_gone([process]) == set()


@pytest.mark.parametrize("endless", victims.ENDLESS)
def test_cancel_ends_a_task_that_goes_on_for_ever(pair, meeting, endless):
    task = pair.submit(victims.begin, meeting.address, endless)
    process = meeting.hear()
    queued = [pair.submit(victims.square, n) for n in range(20)]
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert [task.result(PATIENCE) for task in queued] == [n * n for n in range(20)]
    # It was stopped before it was deaf, and its worker lives on; or the worker is gone.
    assert process in pair.statistics()["processes"] or witness.wait_gone([process]) == set()


@pytest.mark.parametrize("endless", victims.ENDLESS)
def test_all_workers_are_freed_at_once(pair, meeting, endless):
    tasks = [pair.options(timeout=0.3).submit(victims.begin, meeting.address, endless) for _ in range(4)]
    for task in tasks:
        with pytest.raises(TimeoutError):
            task.result(PATIENCE)
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9


def test_a_stop_in_python_code_keeps_the_worker(single, meeting):
    process = single.submit(victims.process).result(PATIENCE)
    task = single.options(timeout=0.2).submit(victims.sleep)
    with pytest.raises(TimeoutError):
        task.result(PATIENCE)
    assert single.submit(victims.process).result(PATIENCE) == process


def test_what_a_task_tidies_up_when_it_is_stopped_is_done(single, meeting, tmp_path):
    def tidy(address, path):
        try:
            victims.begin(address, victims.sleep)
        finally:
            path.write_text("tidied")

    task = single.submit(tidy, meeting.address, tmp_path / "note")
    meeting.hear()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert single.submit(victims.square, 2).result(PATIENCE) == 4
    assert (tmp_path / "note").read_text() == "tidied"


def test_a_task_that_swallows_one_stop_and_returns_is_cancelled_all_the_same(single, meeting):
    def stubborn(address):
        try:
            victims.begin(address, victims.sleep)
        except BaseException:
            return "a value after all"

    task = single.submit(stubborn, meeting.address)
    meeting.hear()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert single.submit(victims.square, 2).result(PATIENCE) == 4


def test_cancelling_what_is_done_changes_nothing(single):
    task = single.submit(victims.square, 4)
    assert task.result(PATIENCE) == 16
    assert not task.cancel()
    assert task.result(PATIENCE) == 16


def test_many_queued_tasks_are_cancelled_one_by_one(single, meeting):
    victim = single.submit(victims.stay, meeting.address)
    meeting.hear()
    queued = [single.submit(victims.square, n) for n in range(MANY)]
    assert all(task.cancel() for task in queued)
    assert all(task.cancelled() for task in queued)
    assert single.statistics()["queued"] == 0
    meeting.release()
    victim.result(PATIENCE)
    assert single.submit(victims.square, 5).result(PATIENCE) == 25


def test_many_queued_tasks_are_cancelled_from_the_last_to_the_first_while_others_end(pair):
    queued = [pair.submit(victims.square, n) for n in range(20_000)]
    answers = [task.cancel() for task in reversed(queued)][::-1]
    for number, (task, answer) in enumerate(zip(queued, answers, strict=True)):
        if answer:
            with pytest.raises(td.TaskCancelled):
                task.result(PATIENCE)
        else:
            assert task.result(PATIENCE) == number * number
    assert pair.submit(victims.square, 5).result(PATIENCE) == 25


def test_many_queued_tasks_are_cancelled_by_shutdown(meeting):
    with td.Workers(1) as pool:
        victim = pool.submit(victims.stay, meeting.address)
        process = meeting.hear()
        queued = [pool.submit(victims.square, n) for n in range(MANY)]
        pool.shutdown(wait=False, cancel_futures=True)
        assert all(task.cancelled() for task in queued)
        assert not victim.done()
        meeting.release()
        assert victim.result(PATIENCE) == process


def test_a_map_that_is_closed_frees_its_workers(pair, meeting):
    results = pair.map(victims.begin, [meeting.address] * 100, [victims.sleep] * 100, chunksize=1)
    meeting.hear()
    results.close()
    assert pair.submit(victims.square, 6).result(PATIENCE) == 36


def test_a_map_that_takes_too_long_frees_its_workers(pair):
    with pytest.raises(TimeoutError):
        list(pair.map(victims.spin, range(100), timeout=0.3, chunksize=1))
    assert pair.submit(victims.square, 6).result(PATIENCE) == 36


async def test_a_timeout_around_an_await_frees_the_worker(pair, meeting):
    task = pair.go(victims.begin, meeting.address, victims.deaf)
    with pytest.raises(TimeoutError):
        with td.timeout(0.2):
            await task
    task.cancel()
    assert await pair.go(victims.square, 6) == 36
