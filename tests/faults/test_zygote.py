"""The zygote, which forks the workers, is killed: tasks end or say why, and a new one makes the next workers."""

import contextlib
import os
import signal

import pytest
import thistledown as td
import victims
import witness
from witness import PATIENCE


def kill_zygote_of(worker):
    """Kills it, and waits until it is gone."""
    zygote = witness.zygote_of(worker)
    assert zygote is not None
    witness.end([zygote])
    assert witness.wait_gone([zygote]) == set()


def test_the_zygote_is_killed_while_the_pool_is_idle(pair):
    process = pair.submit(victims.process).result(PATIENCE)
    kill_zygote_of(process)
    for number in range(20):
        assert pair.submit(victims.square, number).result(PATIENCE) == number * number


def test_a_running_task_gives_its_result_although_its_zygote_is_gone(pair, meeting):
    task = pair.submit(victims.stay, meeting.address)
    process = meeting.hear()
    kill_zygote_of(process)
    others = [pair.submit(victims.square, n) for n in range(20)]
    assert [other.result(PATIENCE) for other in others] == [n * n for n in range(20)]
    meeting.release()
    assert task.result(PATIENCE) == process


def test_an_orphan_that_dies_is_noticed(pair, meeting):
    task = pair.submit(victims.stay, meeting.address)
    process = meeting.hear()
    kill_zygote_of(process)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(td.WorkerDied) as caught:
        task.result(PATIENCE)
    assert caught.value.pid == process
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9


@pytest.mark.parametrize("endless", [victims.sleep, victims.deaf])
@pytest.mark.parametrize("way", ["timeout", "cancel"])
def test_an_orphan_can_be_stopped(pair, meeting, endless, way):
    place = pair.options(timeout=0.5) if way == "timeout" else pair
    task = place.submit(victims.begin, meeting.address, endless)
    process = meeting.hear()
    kill_zygote_of(process)
    if way == "cancel":
        assert task.cancel()
    with pytest.raises((TimeoutError, td.TaskCancelled, td.WorkerDied)):
        task.result(PATIENCE)
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9


HEAD = """
import os, signal, sys, time
import thistledown as td, victims
"""

ORPHAN = """
def work():
    if sys.argv[2] == "deaf to signals":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.write(1, b"%d\\n" % os.getpid())
    getattr(victims, sys.argv[1])()
task = td.go(work)
time.sleep(3600)
"""


@pytest.mark.parametrize("ears", ["with open ears", "deaf to signals"])
@pytest.mark.parametrize("work", [work.__name__ for work in victims.ENDLESS])
def test_orphans_of_a_killed_parent_are_gone(script, mark, work, ears):
    program = script(HEAD + ORPHAN, work, ears)
    process = int(program.line())
    kill_zygote_of(process)
    program.kill()
    assert witness.wait_gone([process]) == set()
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_stopped_orphan_of_a_killed_parent_is_gone(script, mark):
    program = script(HEAD + ORPHAN, "sleep", "deaf to signals")
    process = int(program.line())
    kill_zygote_of(process)
    os.kill(process, signal.SIGSTOP)
    program.kill()
    assert witness.wait_gone([process]) == set()


def test_what_an_orphan_has_forked_does_not_keep_it(script, mark):
    forks = """
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    os.write(1, b"%d\\n" % child)
"""
    program = script(HEAD + ORPHAN.replace("def work():\n", "def work():" + forks), "deaf", "deaf to signals")
    child, process = int(program.line()), int(program.line())
    try:
        kill_zygote_of(process)
        program.kill()
        assert witness.wait_gone([process]) == set()
        assert witness.state_of(child) in "SR", "it is no worker"
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_zygote_that_hangs_is_gone_with_its_parent(script, mark, tmp_path):
    """A module hangs while it is imported there, with all signals blocked."""
    module = "import os, victims\nos.write(1, b'%d\\n' % os.getpid())\nvictims.deaf_with_lock()\n"
    (tmp_path / "hangs.py").write_text(module)
    starts = """
sys.path.insert(0, sys.argv[1])
td.Workers(1, preload=["hangs"]).submit(victims.square, 3)
time.sleep(3600)
"""
    program = script(HEAD + starts, tmp_path)
    zygote = int(program.line())
    program.kill()
    assert witness.wait_gone([zygote]) == set()


def test_orphans_of_a_closed_pool_are_gone(mark, meeting):
    with td.Workers(2, grace=0.2) as pool:
        task = pool.submit(victims.begin, meeting.address, victims.deaf)
        process = meeting.hear()
        kill_zygote_of(process)
        task.cancel()
    assert witness.wait_gone([process]) == set()


def test_the_zygote_is_killed_again_and_again(pair):
    for number in range(8):
        tasks = [pair.submit(victims.square, n) for n in range(50)]
        process = pair.submit(victims.process)
        with contextlib.suppress(td.WorkerDied, FileNotFoundError):
            witness.end([witness.zygote_of(process.result(PATIENCE))])
        for n, task in enumerate(tasks):
            error = task.exception(PATIENCE)
            assert error is None or isinstance(error, td.WorkerDied), number
            assert error is not None or task.result() == n * n


def test_the_zygote_is_killed_before_it_has_made_a_worker(mark):
    for _ in range(5):
        with td.Workers(1) as pool:
            task = pool.submit(victims.square, 3)
            assert witness.eventually(lambda: witness.marked(mark))
            witness.end(witness.marked(mark))
            error = task.exception(PATIENCE)
            assert error is None or isinstance(error, td.WorkersBroken | td.WorkerDied)
            assert error is not None or task.result() == 9


def test_a_zygote_that_is_stopped_for_a_while_holds_up_only_new_workers(pair, meeting):
    process = pair.submit(victims.process).result(PATIENCE)
    zygote = witness.zygote_of(process)
    assert zygote is not None
    os.kill(zygote, signal.SIGSTOP)
    try:
        tasks = [pair.submit(victims.square, n) for n in range(50)]
        assert [task.result(PATIENCE) for task in tasks] == [n * n for n in range(50)]
    finally:
        os.kill(zygote, signal.SIGCONT)
    assert pair.submit(victims.square, 3).result(PATIENCE) == 9


def test_zygote_and_workers_are_killed_together(pair, meeting, mark):
    tasks = [pair.submit(victims.stay, meeting.address) for _ in range(2)]
    processes = [meeting.hear() for _ in tasks]
    queued = [pair.submit(victims.square, n) for n in range(20)]
    witness.end([witness.zygote_of(processes[0]), *processes])
    for task in tasks:
        with pytest.raises(td.WorkerDied):
            task.result(PATIENCE)
    assert [task.result(PATIENCE) for task in queued] == [n * n for n in range(20)]
