"""What cannot travel says so: arguments where they are given, results and exceptions where they are asked for."""

import subprocess
import sys
import threading

import pytest
import thistledown as td
import victims
from witness import PATIENCE


@pytest.fixture(autouse=True)
def goes_on(single):
    """After each of these the same worker runs the next task."""
    process = single.submit(victims.process).result(PATIENCE)
    yield
    assert single.submit(victims.process).result(PATIENCE) == process


def test_an_argument_that_cannot_travel_is_named_at_once(single):
    with pytest.raises(td.NotPicklable, match="lock"):
        single.submit(print, 1, threading.Lock())
    with pytest.raises(td.NotPicklable, match="stays here"):
        single.submit(print, here=victims.Unpicklable())


def test_a_function_that_cannot_travel_is_named_at_once(single):
    lock = threading.Lock()
    with pytest.raises(td.NotPicklable, match="lock"):
        single.submit(lambda: lock)


def test_a_map_over_an_item_that_cannot_travel_raises_and_does_not_hang(single):
    with pytest.raises(td.NotPicklable, match="stays here"):
        list(single.map(str, [1, victims.Unpicklable(), 3]))


@pytest.mark.parametrize("make", [victims.give_lock, victims.Unpicklable])
def test_a_result_that_cannot_travel_is_an_error_that_says_so(single, make):
    with pytest.raises(td.NotPicklable, match="result"):
        single.submit(victims.give, make).result(PATIENCE)


def test_a_result_that_cannot_be_opened_here_is_an_error_of_who_asks(single):
    task = single.submit(victims.crash_on_arrival)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="opened"):
            task.result(PATIENCE)


def test_an_argument_that_cannot_be_opened_there_is_an_error_of_the_task(single):
    with pytest.raises(RuntimeError, match="opened"):
        single.submit(print, victims.BombOnArrival()).result(PATIENCE)


def test_an_exception_that_cannot_travel_keeps_its_text(single):
    """What hinders it is left behind; or it comes as a `RemoteError`."""
    error = single.submit(victims.fail_with, victims.WithLock, "the text").exception(PATIENCE)
    assert isinstance(error, victims.WithLock | td.RemoteError)
    assert "the text" in str(error)
    assert "in fail_with" in str(error.__cause__)


def test_an_exception_of_a_class_that_cannot_travel_keeps_its_text(single):
    error = single.submit(victims.fail_unknown, "the text").exception(PATIENCE)
    assert isinstance(error, td.RemoteError)
    assert error.text == "the text"
    assert error.name.endswith("Unknown")
    assert "in fail_unknown" in str(error.__cause__)


def test_an_exception_whose_class_cannot_be_rebuilt_keeps_its_text(single):
    error = single.submit(victims.fail_with, victims.TwoArguments, 7, "seven").exception(PATIENCE)
    assert "7: seven" in str(error)
    assert "in fail_with" in str(error.__cause__)
    assert isinstance(error, victims.TwoArguments | td.RemoteError)


def test_an_exception_with_no_text_at_all_still_arrives(single):
    error = single.submit(victims.fail_with, victims.BadText).exception(PATIENCE)
    assert isinstance(error, victims.BadText | td.RemoteError)
    assert "in fail_with" in str(error.__cause__)


def test_the_causes_of_an_exception_arrive_with_it(single):
    error = single.submit(victims.fail_deep).exception(PATIENCE)
    assert "the second" in str(error)
    assert "the first" in str(error.__cause__)


def test_an_exception_of_the_standard_library_keeps_what_it_has(single):
    error = single.submit(open, "/no/such/file").exception(PATIENCE)
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (2, "/no/such/file")
    failed = single.submit(subprocess.run, [sys.executable, "-c", "exit(3)"], check=True).exception(PATIENCE)
    assert isinstance(failed, subprocess.CalledProcessError)
    assert failed.returncode == 3


@pytest.mark.parametrize("code", [(), (0,), (3,), ("words",)])
def test_sys_exit_in_a_task_is_an_error_of_the_task(single, code):
    with pytest.raises(SystemExit) as caught:
        single.submit(victims.leave, *code).result(PATIENCE)
    assert caught.value.code == (code[0] if code else None)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, GeneratorExit, SystemExit, StopIteration, td.Cancelled])
def test_an_exception_that_is_no_plain_one_is_an_error_of_the_task(single, raised):
    error = None
    try:
        single.submit(victims.fail_with, raised, "by hand").result(PATIENCE)
    except BaseException as caught:
        error = caught
    assert isinstance(error, raised | td.TaskCancelled)


def test_an_exception_group_arrives_whole(single):
    with pytest.raises(ExceptionGroup) as caught:
        single.submit(victims.fail_with, ExceptionGroup, "both", [ValueError(1), KeyError(2)]).result(PATIENCE)
    assert [type(error) for error in caught.value.exceptions] == [ValueError, KeyError]


def test_an_exception_with_megabytes_of_text_arrives(single):
    with pytest.raises(ValueError, match="xxx") as caught:
        single.submit(victims.fail_with, ValueError, "x" * 5_000_000).result(PATIENCE)
    assert len(str(caught.value)) == 5_000_000


def test_a_recursion_without_end_is_an_error_of_the_task(single):
    def recurse():
        return recurse()

    with pytest.raises(RecursionError):
        single.submit(recurse).result(PATIENCE)


def test_a_callback_that_raises_is_reported_and_stops_nobody(single, caplog):
    called = threading.Event()

    def fail(task):
        raise ValueError("of a callback")

    task = single.submit(victims.square, 3)
    task.add_done_callback(fail)
    task.add_done_callback(lambda task: called.set())
    assert task.result(PATIENCE) == 9
    assert called.wait(PATIENCE)
    assert single.submit(victims.square, 4).result(PATIENCE) == 16
    assert "of a callback" in caplog.text


def test_a_callback_that_starts_a_task_and_one_that_shuts_the_pool_down():
    ended = threading.Event()
    later = []

    with td.Workers(1) as pool:

        def go_on(task):
            later.append(pool.submit(victims.square, 5))
            later[0].add_done_callback(close)

        def close(task):
            pool.shutdown(wait=False)
            ended.set()

        pool.submit(victims.square, 4).add_done_callback(go_on)
        assert ended.wait(PATIENCE)
    assert later[0].result(PATIENCE) == 25
