"""A worker that dies takes the task that it runs with it, and nothing else; the task says why."""

import os
import signal

import pytest
import thistledown as td
import victims
import witness
from witness import PATIENCE

QUEUED = 20

DEATHS = {
    "SIGKILL": (victims.kill_itself, (signal.SIGKILL,), -signal.SIGKILL, "SIGKILL"),
    "SIGTERM": (victims.kill_itself, (signal.SIGTERM,), -signal.SIGTERM, "SIGTERM"),
    "os._exit(3)": (victims.exit_at_once, (3,), 3, "exit code 3"),
    "os._exit(0)": (victims.exit_at_once, (0,), 0, "exit code 0"),
    "segfault": (victims.segfault, (), -signal.SIGSEGV, "SIGSEGV"),
    "abort": (victims.abort, (), -signal.SIGABRT, "SIGABRT"),
}


def warm_up(pool):
    """After this the pool knows its tasks to be tiny, and gives workers many at a time."""
    assert [task.result(PATIENCE) for task in [pool.submit(victims.square, n) for n in range(300)]]


def goes_on(pool):
    return [task.result(PATIENCE) for task in [pool.submit(victims.square, n) for n in range(10)]] == [
        n * n for n in range(10)
    ]


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("workers", ["single", "pair"])
@pytest.mark.parametrize("death", DEATHS)
def test_a_death_costs_one_task_and_says_why(request, workers, death, warm):
    pool = request.getfixturevalue(workers)
    function, args, exitcode, words = DEATHS[death]
    if warm:
        warm_up(pool)
    before = [pool.submit(victims.square, n) for n in range(QUEUED)]
    victim = pool.submit(function, *args)
    behind = [pool.submit(victims.square, n) for n in range(QUEUED)]
    with pytest.raises(td.WorkerDied, match=words) as caught:
        victim.result(PATIENCE)
    assert caught.value.exitcode == exitcode
    assert caught.value.pid > 0
    assert words in caught.value.cause
    for tasks in (before, behind):
        assert [task.result(PATIENCE) for task in tasks] == [n * n for n in range(QUEUED)]
    assert goes_on(pool)


@pytest.mark.parametrize("workers", ["single", "pair"])
def test_a_worker_is_killed_from_outside_with_twenty_queued(request, workers, meeting):
    pool = request.getfixturevalue(workers)
    victim = pool.submit(victims.stay, meeting.address)
    process = meeting.hear()
    queued = [pool.submit(victims.square, n) for n in range(QUEUED)]
    os.kill(process, signal.SIGKILL)
    with pytest.raises(td.WorkerDied, match="SIGKILL") as caught:
        victim.result(PATIENCE)
    assert (caught.value.pid, caught.value.exitcode) == (process, -signal.SIGKILL)
    assert [task.result(PATIENCE) for task in queued] == [n * n for n in range(QUEUED)]
    assert goes_on(pool)


def test_all_workers_die_at_once(pair, meeting):
    busy = [pair.submit(victims.stay, meeting.address) for _ in range(2)]
    processes = {meeting.hear() for _ in busy}
    queued = [pair.submit(victims.square, n) for n in range(QUEUED)]
    witness.end(processes)
    errors = [task.exception(PATIENCE) for task in busy]
    assert {error.pid for error in errors} == processes
    assert [task.result(PATIENCE) for task in queued] == [n * n for n in range(QUEUED)]


@pytest.mark.parametrize("size_bytes", [10, 200_000], ids=["small", "large"])
def test_an_idle_worker_that_is_killed_costs_nothing(single, size_bytes):
    """Whatever is given to it before its death is heard of has not begun, and runs elsewhere."""
    data = bytes(size_bytes)
    for spins in range(40):
        process = single.submit(victims.process).result(PATIENCE)
        os.kill(process, signal.SIGKILL)
        for _ in range(spins * 200):  # The news of its death needs a moment, which differs.
            pass
        assert single.submit(len, data).result(PATIENCE) == size_bytes
    assert goes_on(single)


def test_every_task_dies_and_each_says_so(pair):
    doomed = [pair.submit(victims.exit_at_once, n + 1) for n in range(20)]
    assert [task.exception(PATIENCE).exitcode for task in doomed] == list(range(1, 21))
    assert goes_on(pair)


def test_the_last_words_on_stderr_are_in_the_error(pair):
    with pytest.raises(td.WorkerDied, match="this is why") as caught:
        pair.submit(victims.last_words, "this is why", 9).result(PATIENCE)
    assert "this is why" in caught.value.stderr


def test_a_segfault_shows_its_python_traceback(pair):
    with pytest.raises(td.WorkerDied) as caught:
        pair.submit(victims.segfault).result(PATIENCE)
    assert "victims.py" in caught.value.stderr
    assert "segfault" in caught.value.stderr


def test_an_initializer_that_dies_breaks_the_pool_with_words():
    with td.Workers(2, initializer=victims.exit_at_once, initargs=(4,)) as pool:
        task = pool.submit(victims.square, 2)
        with pytest.raises(td.WorkersBroken, match="exit code 4"):
            task.result(PATIENCE)
        later = pool.submit(victims.square, 2)
        assert isinstance(later.exception(PATIENCE), td.WorkersBroken)


def test_retries_are_for_deaths_as_well(pair, tmp_path):
    def dies_twice(path):
        with open(path, "ab") as tries:
            tries.write(b".")
            tries.flush()
            if tries.tell() < 3:
                os._exit(1)
        return "at last"

    assert pair.options(retries=2).submit(dies_twice, tmp_path / "a").result(PATIENCE) == "at last"
    with pytest.raises(td.WorkerDied):
        pair.options(retries=1).submit(dies_twice, tmp_path / "b").result(PATIENCE)
    assert (tmp_path / "b").read_bytes() == b".."


def test_a_death_in_a_map_is_raised_at_its_item(pair):
    def visit(number):
        return os._exit(7) if number == 3 else number

    results = pair.map(visit, range(6), chunksize=1)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(td.WorkerDied, match="exit code 7"):
        next(results)
    assert goes_on(pair)


async def test_a_death_reaches_who_awaits(pair):
    with pytest.raises(td.WorkerDied, match="exit code 5"):
        await pair.go(victims.exit_at_once, 5)
    assert await pair.go(victims.square, 5) == 25


def test_weightless_neighbours_of_a_death_all_get_an_end(pair, meeting):
    async def waits(address):
        with victims.arrive(address):
            await td.sleep(victims.FOREVER)

    tasks = [pair.go(waits, meeting.address) for _ in range(20)]
    processes = {meeting.hear() for _ in tasks}
    witness.end(processes)
    assert {task.exception(PATIENCE).pid for task in tasks} == processes
    assert goes_on(pair)


def test_a_key_goes_on_after_the_death_of_its_worker(pair):
    accounts = pair.options(key="account")
    tasks = [accounts.submit(victims.square, 1), accounts.submit(victims.exit_at_once, 1)]
    tasks += [accounts.submit(victims.square, n) for n in range(5)]
    assert isinstance(tasks[1].exception(PATIENCE), td.WorkerDied)
    assert [task.result(PATIENCE) for task in tasks[2:]] == [0, 1, 4, 9, 16]


# --- workers that live on, but not well ------------------------------------------------------------------------


def test_a_worker_that_closes_its_descriptors_is_replaced(pair):
    task = pair.submit(victims.close_all)
    error = task.exception(PATIENCE)
    assert error is None or isinstance(error, td.WorkerDied)
    assert goes_on(pair)


def test_a_worker_that_closes_its_descriptors_and_goes_on_for_ever_is_ended(pair, meeting):
    def close_and_spin(address):
        victims.arrive(address)
        os.closerange(3, 1024)
        victims.spin()

    task = pair.submit(close_and_spin, meeting.address)
    process = meeting.hear()
    with pytest.raises(td.WorkerDied, match=r"closed|connection") as caught:
        task.result(PATIENCE)
    assert caught.value.pid == process
    assert goes_on(pair)


@pytest.mark.parametrize("pattern", [0, 0xFF, 0xA5, "dice 1", "dice 2", "dice 3"])
def test_a_worker_that_writes_over_its_shared_memory_hurts_nobody_else(pair, pattern):
    for _ in range(3):
        victim = pair.submit(victims.scribble, pattern)
        others = [pair.submit(victims.square, n) for n in range(QUEUED)]
        error = victim.exception(PATIENCE)
        assert error is None or isinstance(error, td.WorkerDied)
        # Tasks on the same worker's lane may be lost with it, but say so.
        for n, task in enumerate(others):
            error = task.exception(PATIENCE)
            assert (error is None and task.result() == n * n) or isinstance(error, td.WorkerDied)
    assert goes_on(pair)


def test_a_reply_that_was_written_over_is_not_believed(single):
    """The memory changes all the while that tasks read their calls from it and write their results to it."""
    for number in range(1_000):
        error = single.options(timeout=PATIENCE).submit(victims.scribble_on, number, "dice").exception(PATIENCE)
        if error is not None:
            assert isinstance(error, td.WorkerDied)
            assert "nobody understands" in error.cause or "corrupt" in error.stderr
            break
    else:
        pytest.fail("what it writes is believed")
    assert goes_on(single)


def test_a_worker_that_is_stopped_is_killed_when_its_time_is_over(pair, meeting):
    task = pair.options(timeout=0.5).submit(victims.stay, meeting.address)
    process = meeting.hear()
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        task.result(PATIENCE)
    assert witness.wait_gone([process]) == set()
    assert goes_on(pair)


def test_a_worker_that_is_stopped_can_be_cancelled(pair, meeting):
    task = pair.submit(victims.stay, meeting.address)
    process = meeting.hear()
    os.kill(process, signal.SIGSTOP)
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert witness.wait_gone([process]) == set()
    assert goes_on(pair)


def test_a_process_that_a_task_forked_may_outlive_it_and_its_worker(meeting):
    with td.Workers(1) as pool:
        task = pool.submit(victims.fork_and_leave, meeting.address)
        child = task.result(PATIENCE)
        assert meeting.hear() == child
        assert goes_on(pool)
    # The pool has been closed, although the child still lives.
    assert witness.state_of(child) in "SR"
    meeting.release()
    assert witness.wait_gone([child]) == set()


def test_a_worker_dies_while_a_process_that_its_task_forked_lives_on(single, meeting):
    def fork_and_die(address):
        if os.fork() == 0:
            victims.stay(address)
            os._exit(0)
        os._exit(8)

    with pytest.raises(td.WorkerDied, match="exit code 8"):
        single.submit(fork_and_die, meeting.address).result(PATIENCE)
    child = meeting.hear()
    assert goes_on(single)
    meeting.release()
    assert witness.wait_gone([child]) == set()


def test_threads_that_a_task_left_do_not_hinder_the_next_ones(meeting):
    with td.Workers(1) as pool:
        process = pool.submit(victims.start_threads, 5, meeting.address).result(PATIENCE)
        assert {meeting.hear() for _ in range(5)} == {process}
        assert pool.submit(victims.process).result(PATIENCE) == process
        assert goes_on(pool)


def test_a_task_that_ends_its_worker_from_a_thread(single):
    def exit_in_thread():
        import threading

        thread = threading.Thread(target=os._exit, args=(6,))
        thread.start()
        thread.join()

    with pytest.raises(td.WorkerDied, match="exit code 6"):
        single.submit(exit_in_thread).result(PATIENCE)
    assert goes_on(single)


def test_megabytes_on_stderr_pass_through_and_hold_nobody_up(capfd, pair):
    task = pair.submit(victims.chatter, 5_000_000)
    assert task.result(PATIENCE) == "said"
    assert goes_on(pair)
    pair.shutdown()
    written = capfd.readouterr().err
    assert written.endswith("the end of it\n")
    assert len(written) == 5_000_000 + len("the end of it\n")
