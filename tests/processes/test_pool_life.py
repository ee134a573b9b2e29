"""What a pool is from its making to its end: initializers, preloading, fresh workers, being idle, numbers."""

import math
import os
import re
import subprocess
import sys
import textwrap
import threading

import pytest
import thistledown as td
import work
from gates import Gate
from pools import Workers

from leaks import descendants, eventually
from support import PATIENCE, started_program

made = []


def make(*args):
    made.append(args)


def what_was_made():
    return made


def test_the_size_is_the_number_of_cores_unless_it_is_said():
    with Workers() as pool:
        assert pool._max_workers == len(os.sched_getaffinity(0))
    with Workers(3) as pool:
        assert pool._max_workers == 3
        assert "3" in repr(pool)


def test_workers_are_started_when_they_are_needed(gate):
    before = descendants()
    with Workers(3) as pool:
        assert descendants() == before
        tasks = [pool.go(work.pass_gate, gate.path)]
        gate.wait_for_arrivals()
        assert len(pool.statistics()["processes"]) <= 2
        tasks += [pool.go(work.pass_gate, gate.path) for _ in range(5)]
        gate.wait_for_arrivals(2)
        assert len(pool.statistics()["processes"]) == 3
        gate.open(6)
        assert [task.result(PATIENCE) for task in tasks] == [gate.path] * 6


def test_as_many_tasks_run_at_a_time_as_the_pool_has_workers(gate):
    with Workers(3) as pool:
        tasks = [pool.go(work.pass_gate, gate.path) for _ in range(7)]
        gate.wait_for_arrivals(3)
        assert sum(task.running() for task in tasks) == 3
        gate.open(7)
        assert [task.result(PATIENCE) for task in tasks] == [gate.path] * 7


# --- initializer and preload --------------------------------------------------------------------------------


def test_an_initializer_is_called_once_in_each_worker(gate):
    def made_here(path):
        work.pass_gate(path)
        return os.getpid(), what_was_made()

    with Workers(2, initializer=make, initargs=(1, "two", [3])) as pool:
        tasks = [pool.go(made_here, gate.path) for _ in range(6)]
        gate.wait_for_arrivals(2)
        gate.open(6)
        results = [task.result(PATIENCE) for task in tasks]
        assert len({process for process, _ in results}) == 2
        assert {str(made) for _, made in results} == {str([(1, "two", [3])])}


INITIALIZERS = {
    "a lambda": lambda journal: lambda: work.write(journal.path, "made"),
    "a closure": lambda journal: closure_over(journal.path),
}


def closure_over(path):
    def initialize():
        work.write(path, "made")

    return initialize


@pytest.mark.parametrize("kind", INITIALIZERS.values(), ids=INITIALIZERS)
def test_an_initializer_may_be_any_function(journal, kind):
    with Workers(1, initializer=kind(journal)) as pool:
        assert pool.go(work.double, 1).result(PATIENCE) == 2
    assert journal.lines() == ["made"]


def test_an_initializer_may_be_a_name(journal):
    with Workers(1, initializer="work:write", initargs=(journal.path, "made")) as pool:
        assert pool.go(work.double, 1).result(PATIENCE) == 2
    assert journal.lines() == ["made"]


@pytest.mark.parametrize("error", [LookupError("no table"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_failing_initializer_breaks_the_pool_and_its_error_is_the_cause(error):
    with Workers(2, initializer=work.fail, initargs=(error,)) as pool:
        tasks = [pool.go(work.double, number) for number in range(3)]
        for task in tasks:
            with pytest.raises(td.WorkersBroken) as caught:
                task.result(PATIENCE)
            assert type(caught.value.__cause__) is type(error)
            assert caught.value.__cause__.args == error.args


def test_an_initializer_that_cannot_be_found_breaks_the_pool():
    with Workers(1, initializer="no_such_module:function") as pool:
        with pytest.raises(td.WorkersBroken) as caught:
            pool.go(work.double, 1).result(PATIENCE)
        assert isinstance(caught.value.__cause__, ImportError)


def test_an_initializer_that_cannot_be_sent_is_refused_at_once():
    with pytest.raises(td.NotPicklable, match="lock"):
        td.Workers(1, initializer=make, initargs=(threading.Lock(),))
    with pytest.raises(TypeError, match="initializer"):
        td.Workers(1, initializer=5)


def test_a_weightless_initializer_is_refused_at_once():
    async def initialize():
        pass

    with pytest.raises(TypeError, match="initializer"):
        td.Workers(1, initializer=initialize)


def test_what_an_initializer_sets_is_there_for_tasks_by_value():
    def initialize():
        import builtins

        builtins.made_by_initializer = 5

    with Workers(1, initializer=initialize) as pool:
        assert pool.go(lambda: made_by_initializer).result(PATIENCE) == 5  # noqa: F821


def test_modules_are_preloaded_once_for_all_workers(tmp_path, monkeypatch, journal, gate):
    source = f"import os, work\nwork.write({journal.path!r}, os.getpid())\n"
    tmp_path.joinpath("preloaded_module.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))

    def is_loaded(path):
        work.pass_gate(path)
        return os.getpid(), "preloaded_module" in sys.modules

    with Workers(2, preload=["preloaded_module", "json.decoder"]) as pool:
        tasks = [pool.go(is_loaded, gate.path) for _ in range(2)]
        gate.wait_for_arrivals(2)
        gate.open(2)
        results = dict(task.result(PATIENCE) for task in tasks)
        assert list(results.values()) == [True, True]
    [process] = journal.lines()
    assert int(process) not in results


def test_a_module_that_cannot_be_preloaded_breaks_the_pool_and_is_named():
    with Workers(1, preload=["no_such_module"]) as pool:
        with pytest.raises(td.WorkersBroken, match="no_such_module"):
            pool.go(work.double, 1).result(PATIENCE)


WRONG = {
    "no workers": ((0,), {}, ValueError, "max_workers"),
    "half a worker": ((0.5,), {}, TypeError, "max_workers"),
    "a truth": ((True,), {}, TypeError, "max_workers"),
    "no tasks": ((1,), {"max_tasks_per_child": 0}, ValueError, "max_tasks_per_child"),
    "a text for tasks": ((1,), {"max_tasks_per_child": "1"}, TypeError, "max_tasks_per_child"),
    "a negative grace": ((1,), {"grace": -1}, ValueError, "grace"),
    "no number for grace": ((1,), {"grace": None}, TypeError, "grace"),
    "not a number": ((1,), {"grace": math.nan}, ValueError, "grace"),
    "no concurrency": ((1,), {"concurrency": 0}, ValueError, "concurrency"),
    "one name for a list": ((1,), {"preload": "json"}, TypeError, "preload"),
    "modules for names": ((1,), {"preload": [os]}, TypeError, "preload"),
    "no such argument": ((1,), {"mp_context": None}, TypeError, "mp_context"),
}


@pytest.mark.parametrize(("args", "kwargs", "kind", "word"), WRONG.values(), ids=WRONG)
def test_a_pool_that_cannot_be_made_says_why(args, kwargs, kind, word):
    with pytest.raises(kind, match=word):
        td.Workers(*args, **kwargs)


# --- max_tasks_per_child ------------------------------------------------------------------------------------


def test_a_worker_is_replaced_after_so_many_tasks():
    with Workers(1, max_tasks_per_child=3) as pool:
        processes = [pool.go(work.process).result(PATIENCE) for _ in range(10)]
        counts = [processes.count(process) for process in dict.fromkeys(processes)]
        assert counts == [3, 3, 3, 1]


def test_a_fresh_worker_for_each_task():
    with Workers(2, max_tasks_per_child=1) as pool:
        tasks = [pool.go(work.process) for _ in range(20)]
        assert len({task.result(PATIENCE) for task in tasks}) == 20
        assert pool.statistics()["died"] == 0


def test_a_fresh_worker_is_initialized(journal):
    with Workers(1, max_tasks_per_child=2, initializer=work.write, initargs=(journal.path, "made")) as pool:
        for _ in range(4):
            pool.go(work.process).result(PATIENCE)
    assert journal.lines().count("made") in (2, 3)


def test_exit_functions_and_streams_of_a_worker_that_is_replaced(journal):
    def leave_word(path):
        import atexit

        atexit.register(work.write, path, "at exit")

    with Workers(1, max_tasks_per_child=1) as pool:
        pool.go(leave_word, journal.path).result(PATIENCE)
        pool.go(work.process).result(PATIENCE)
    assert journal.lines() == ["at exit"]


# --- wait_idle and statistics -------------------------------------------------------------------------------


def test_wait_idle_waits_for_the_last_task(gate):
    with Workers(2) as pool:
        assert pool.wait_idle(0)
        tasks = [pool.go(work.pass_gate, gate.path) for _ in range(4)]
        gate.wait_for_arrivals(2)
        assert not pool.wait_idle(0)
        assert not pool.wait_idle(0.01)
        gate.open(4)
        assert pool.wait_idle(PATIENCE)
        assert all(task.done() for task in tasks)


def test_wait_idle_counts_the_rest_of_a_map_and_weightless_tasks():
    async def give():
        await td.sleep(0.01)

    with Workers(2) as pool:
        results = pool.map(work.double, range(10_000))
        tasks = [pool.go(give) for _ in range(10)]
        assert pool.wait_idle()
        assert all(task.done() for task in tasks)
        assert list(results) == list(range(0, 20_000, 2))


def test_workers_that_nested_tasks_needed_leave_again():
    with Workers(2) as pool:
        assert pool.go(work.dig, 10).result(PATIENCE) == 10
        assert pool.go(work.double, 1).result(PATIENCE) == 2
        eventually(lambda: len(pool.statistics()["processes"]) <= 2, "too many workers stay")


def test_a_first_task_that_cannot_be_sent_leaves_a_pool_that_works():
    """Its processes come up while it is packed."""
    with Workers(1) as pool:
        with pytest.raises(td.NotPicklable):
            pool.go(len, (number for number in range(3)))
        assert pool.go(work.double, 1).result(PATIENCE) == 2
    with Workers(1) as pool, pytest.raises(td.NotPicklable):
        pool.go(len, (number for number in range(3)))


def test_the_statistics_count(gate):
    with Workers(1) as pool:
        empty = pool.statistics()
        assert {name: empty[name] for name in ("queued", "offered", "submitted", "replied")} == dict.fromkeys(
            ("queued", "offered", "submitted", "replied"), 0
        )
        tasks = [pool.go(work.pass_gate, gate.path) for _ in range(3)]
        gate.wait_for_arrivals()
        busy = pool.statistics()
        assert (busy["submitted"], busy["replied"], busy["busy"], busy["idle"]) == (3, 0, 1, 0)
        assert busy["queued"] + busy["offered"] == 3
        gate.open(3)
        assert [task.result(PATIENCE) for task in tasks] == [gate.path] * 3
        done = pool.statistics()
        assert (done["replied"], done["queued"], done["offered"]) == (3, 0, 0)
        assert (done["started"], done["died"], done["retried"], done["waiting"]) == (1, 0, 0, 0)
        assert len(done["processes"]) == 1
        assert pool.go(work.process).result(PATIENCE) in done["processes"]


# --- the end ------------------------------------------------------------------------------------------------


def test_after_shutdown_no_process_is_left():
    before = descendants()
    with Workers(2) as pool:
        assert list(pool.map(work.double, range(10))) == list(range(0, 20, 2))
        assert descendants() - before
    assert descendants() == before


def test_children_of_tasks_do_not_keep_a_pool_from_closing():
    def start_child():
        return subprocess.Popen(["sleep", "1000"]).pid

    with Workers(1) as pool:
        child = pool.go(start_child).result(PATIENCE)
    os.kill(child, 9)


def test_threads_of_tasks_are_waited_for_when_the_worker_leaves(gate, journal):
    def start_thread(gate_path, journal_path):
        def stand():
            work.pass_gate(gate_path)
            work.write(journal_path, "the thread's end")

        threading.Thread(target=stand).start()

    pool = td.Workers(1)
    pool.go(start_thread, gate.path, journal.path).result(PATIENCE)
    gate.wait_for_arrivals()
    pool.shutdown(wait=False)
    gate.open()
    pool.shutdown()
    assert journal.lines() == ["the thread's end"]


def test_many_pools_one_after_the_other():
    for number in range(10):
        with Workers(1) as pool:
            assert pool.go(work.double, number).result(PATIENCE) == 2 * number


def test_several_pools_at_a_time():
    pools = [td.Workers(1) for _ in range(4)]
    tasks = [pool.go(work.process) for pool in pools]
    assert len({task.result(PATIENCE) for task in tasks}) == 4
    for pool in pools:
        pool.shutdown()


WAITS_AT_ITS_END = """
    import sys
    import threading
    import thistledown as td
    import work

    for path in sys.argv[2:]:
        (td.workers() if path == sys.argv[2] else td.Workers(1)).go(work.pass_gate, path)
    if sys.argv[1] == "sys.exit":
        sys.exit(3)
    if sys.argv[1] == "an error":
        raise ValueError("the program fails")
"""


@pytest.mark.parametrize(("how", "code"), [("the last line", 0), ("sys.exit", 3), ("an error", 1)])
def test_a_program_that_waits_for_tasks_at_its_end_says_so_once(tmp_path, how, code):
    gates = [Gate(tmp_path) for _ in range(2)]
    source = f"import sys; sys.path.append({os.path.dirname(__file__)!r})" + textwrap.dedent(WAITS_AT_ITS_END)
    with started_program(source, how, *(gate.path for gate in gates)) as program:
        for gate in gates:
            gate.wait_for_arrivals()
        while not (line := program.stderr.readline()).startswith("thistledown: "):
            assert line, "it has ended, and said nothing"
        assert re.fullmatch(
            r"thistledown: waiting for 2 tasks in workers to end: pass_gate-\d+, pass_gate-\d+; Ctrl-C ends them\n",
            line,
        )
        for gate in gates:
            gate.open()
        assert program.wait(PATIENCE) == code
        assert "thistledown: " not in program.stderr.read()
    for gate in gates:
        gate.close()
