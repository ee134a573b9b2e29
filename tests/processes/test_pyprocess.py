"""`thistledown.pyprocess`: functions in processes of their own, started by name, in the words of its inventor."""

import os

import pytest
import thistledown as td
from thistledown import pyprocess

from support import PATIENCE


def test_start_running_result(gate):
    with pyprocess.start("work", "pass_gate", gate.path, name="it") as process:
        assert gate.arrival() == "it"
        assert process.running()
        gate.open()
        assert process.result(PATIENCE) == gate.path
        assert not process.running()


def test_the_function_runs_in_another_process():
    with pyprocess.start("os", "getpid") as process:
        first = process.result(PATIENCE)
        assert first != os.getpid()
        assert process.call("os", "getpid").result(PATIENCE) == first, "the process goes on for another function"
        assert process.result(PATIENCE) == first


def test_modules_in_packages_and_arguments_by_name():
    with pyprocess.start("os.path", "join", "a", "b") as process:
        assert process.result(PATIENCE) == "a/b"
        assert process.call("builtins", "int", "11", base=2).result(PATIENCE) == 3
        module = process.call("work", "echo", module=1, function=2, self=3)
        assert module.result(PATIENCE) == ((), {"module": 1, "function": 2, "self": 3})


def test_an_error_is_raised_by_result():
    with pyprocess.start("work", "fail", LookupError("lost")) as process:
        for _ in range(2):
            with pytest.raises(LookupError, match="lost"):
                process.result(PATIENCE)
        assert not process.running()


def test_a_module_that_does_not_exist():
    with pyprocess.start("no_such_module", "function") as process:
        with pytest.raises(ImportError, match="no_such_module"):
            process.result(PATIENCE)
    with pytest.raises(ValueError, match="function"):
        pyprocess.start("no module", "function")


def test_result_gives_up_after_its_timeout(gate):
    with pyprocess.start("work", "pass_gate", gate.path) as process:
        with pytest.raises(TimeoutError):
            process.result(0.01)
        gate.open()
        assert process.result(PATIENCE) == gate.path


def test_leaving_the_block_ends_the_process_whatever_it_does(gate):
    with pyprocess.start("work", "pass_gate", gate.path) as process:
        gate.wait_for_arrivals()
    assert not process.running()
    with pytest.raises(td.TaskCancelled):
        process.result(PATIENCE)
    with pytest.raises(RuntimeError):
        process.call("os", "getpid")
    process.close()


def test_a_process_that_dies_says_how():
    with pyprocess.start("os", "_exit", 3) as process:
        with pytest.raises(td.WorkerDied, match="exit code 3"):
            process.result(PATIENCE)


def test_a_dropped_process_ends_after_its_function(gate, journal):
    process = pyprocess.start("work", "pass_gate", gate.path)
    process.call("work", "write", journal.path, "after")
    task = process._task
    del process
    gate.wait_for_arrivals()
    gate.open()
    assert task.result(PATIENCE) is None
    assert journal.lines() == ["after"]


def test_a_queue_runs_so_many_at_a_time(gate):
    with pyprocess.ProcessQueue(max_processes=2) as queue:
        tasks = [queue.put("work", "pass_gate", gate.path, name) for name in "abcd"]
        assert sorted(gate.wait_for_arrivals(2)) == ["a", "b"]
        assert [task.running() for task in tasks] == [True, True, False, False]
        assert not gate.has_arrivals()
        gate.open(4)
        assert [task.result(PATIENCE) for task in tasks] == [gate.path] * 4


def test_leaving_the_block_of_a_queue_waits_for_all():
    with pyprocess.ProcessQueue() as queue:
        tasks = [queue.put("work", "double", number) for number in range(20)]
    assert [task.result(0) for task in tasks] == list(range(0, 40, 2))
    with pytest.raises(RuntimeError):
        queue.put("work", "double", 1)
    queue.close()


def test_a_queue_that_cannot_be_made():
    with pytest.raises(ValueError, match="greater than 0"):
        pyprocess.ProcessQueue(max_processes=0)


def test_a_queue_goes_on_after_a_death():
    with pyprocess.ProcessQueue(1) as queue:
        dies, lives = queue.put("os", "_exit", 3), queue.put("work", "double", 4)
        assert isinstance(dies.exception(PATIENCE), td.WorkerDied)
        assert lives.result(PATIENCE) == 8
