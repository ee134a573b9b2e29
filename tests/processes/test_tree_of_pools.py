"""Pools in `td.tree()`: workers, what each runs, since when, at which line; what waits for a worker, and for whom."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import thistledown as td
import work
from pools import Workers

from leaks import eventually
from support import PATIENCE


def waits_at(path):
    """Stands at a gate, by way of a function of its own."""
    return work.pass_gate(path)


def stuck_in_c(path):
    """The same, in a call in C that holds the interpreter's lock."""
    with open(f"{path}.arrivals", "wb", buffering=0) as arrivals:
        arrivals.write(b"stuck\n")
    passes = os.open(f"{path}.passes", os.O_RDONLY)
    ctypes.PyDLL(None).read(passes, ctypes.create_string_buffer(1), 1)
    os.close(passes)


def nests(path):
    return td.workers().options(name="inner").go(work.pass_gate, path).result()


async def weightless(path):
    return await td.thread(work.pass_gate, path)


def node_of(pool):
    """The pool in the tree, where others of this program may stand beside it."""
    processes = {f"worker {pid}" for pid in pool.statistics()["processes"]}
    nodes = td.tree().of_kind("pool")
    [node] = [one for one in nodes if processes & {child.name for child in one.children if child.kind == "worker"}]
    return node


@pytest.mark.parametrize("function", [waits_at, stuck_in_c])
def test_a_worker_shows_its_task_and_the_line_that_it_stands_at(gate, function):
    with Workers(1) as pool:
        task = pool.options(name="the task").go(function, gate.path)
        gate.wait_for_arrivals()
        [worker] = node_of(pool).children
        [node] = worker.children
        gate.open()
        task.result(PATIENCE)
        [idle] = node_of(pool).children
    assert (worker.kind, worker.state, worker.name) == ("worker", "busy", idle.name)
    assert (node.kind, node.name, node.state) == ("task", "the task", "running")
    assert 0 < node.since < PATIENCE
    assert function.__name__ in [line.function for line in node.lines]
    assert node.where == node.lines[-1]
    assert (idle.state, idle.children) == ("idle", ())


def test_a_task_that_waits_for_another_says_for_which(gate):
    with Workers(1) as pool:
        task = pool.options(name="outer").go(nests, gate.path)
        gate.wait_for_arrivals()
        eventually(lambda: td.tree().find("outer").state == "waiting", "it does not wait")
        tree = td.tree()
        gate.open()
        task.result(PATIENCE)
    states = {worker.state: worker.children[0].name for worker in tree.of_kind("worker") if worker.state != "idle"}
    assert states == {"waiting": "outer", "busy": "inner"}
    outer = tree.find("outer")
    assert (outer.waits_for, outer.waits_on) == ("the end of task inner", ("inner",))
    assert outer.where.function == "nests"


def test_tasks_that_wait_for_a_worker_are_named_with_who_stands_before_them(gate):
    with Workers(1) as pool:
        first = pool.go(waits_at, gate.path)
        gate.wait_for_arrivals()
        place = pool.options(key="a")
        queued = [place.go(work.double, number) for number in range(3)]
        node = node_of(pool)
        gate.open()
        names = [task.name for task in queued]
        assert [task.result(PATIENCE) for task in queued] == [0, 2, 4]
        assert first.done()
    [worker, *waiting] = node.children
    assert (worker.kind, node.state) == ("worker", "open, 3 queued")
    assert [task.name for task in waiting] == names
    assert [task.waits_on for task in waiting] == [(), (names[0],), (names[0],)]
    assert {task.state for task in waiting} == {"queued"}


def test_weightless_tasks_of_a_worker_are_named(gate):
    with Workers(1) as pool:
        tasks = [pool.go(weightless, gate.path) for _ in range(3)]
        gate.wait_for_arrivals(3)
        [worker] = node_of(pool).children
        gate.open(3)
        for task in tasks:
            task.result(PATIENCE)
    assert sorted(node.name for node in worker.children) == sorted(task.name for task in tasks)


def test_the_words_name_worker_task_and_line(gate):
    with Workers(1) as pool:
        task = pool.go(waits_at, gate.path)
        gate.wait_for_arrivals()
        [pid] = pool.statistics()["processes"]
        text = str(td.tree())
        gate.open()
        task.result(PATIENCE)
    assert "pool of 1 worker: open, 0 queued" in text
    assert f"worker {pid}: busy" in text
    assert f"task {task.name}: running for " in text
    assert " in waits_at" in text


def test_who_asks_changes_nothing_also_when_many_do(gate):
    with Workers(2) as pool:
        tasks = [pool.go(waits_at, gate.path) for _ in range(2)]
        gate.wait_for_arrivals(2)
        asking = [threading.Thread(target=td.tree) for _ in range(10)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        gate.open(2)
        assert [task.result(PATIENCE) for task in tasks] == [gate.path] * 2
        assert pool.statistics()["died"] == 0


def test_a_program_with_a_pool_alone_can_be_asked_from_outside(gate):
    with Workers(1) as pool:
        task = pool.go(waits_at, gate.path)
        gate.wait_for_arrivals()
        [pid] = pool.statistics()["processes"]
        eventually(lambda: " in waits_at" in asked(os.getpid()).stdout, "the program does not answer")
        told = asked(pid)
        gate.open()
        task.result(PATIENCE)
    assert told.returncode == 1
    assert f"process {pid} is a worker of process {os.getpid()}" in told.stderr


def asked(pid):
    command = [sys.executable, "-m", "thistledown", "tree", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_a_worker_is_not_ended_by_sigquit_and_says_where_it_stands(gate, capfd):
    with Workers(1) as pool:
        task = pool.go(waits_at, gate.path)
        gate.wait_for_arrivals()
        [pid] = pool.statistics()["processes"]
        os.kill(pid, signal.SIGQUIT)
        seen = []

        def is_said():
            seen.append(capfd.readouterr().err)
            return "in waits_at" in "".join(seen)

        eventually(is_said, "it says nothing")
        gate.open()
        assert task.result(PATIENCE) == gate.path


def group_in_a_run(fill, look):
    async def main():
        async with td.TaskGroup() as group:
            fill(group)
            return look()

    return td.run(main)


def group_in_asyncio(fill, look):
    async def main():
        async with td.TaskGroup() as group:
            fill(group)
            return look()

    return asyncio.run(main())


def group_in_plain_code(fill, look):
    with td.TaskGroup() as group:
        fill(group)
        return look()


@pytest.mark.parametrize("form", [group_in_a_run, group_in_asyncio, group_in_plain_code])
def test_a_groups_tasks_elsewhere_have_their_own_names_and_say_where_they_are(gate, form):
    tasks = []

    def fill(group):
        tasks.append(group.add(pool.go(work.pass_gate, gate.path)))
        gate.wait_for_arrivals()
        tasks.append(group.add(pool.go(work.double, 1)))
        tasks.append(group.thread(work.pass_gate, gate.path))
        gate.wait_for_arrivals()

    def look():
        [pid] = pool.statistics()["processes"]
        tree = td.tree()
        gate.open(2)
        return pid, tree

    with Workers(1) as pool:
        pid, tree = form(fill, look)
    [group] = tree.of_kind("group")
    assert [(node.kind, node.name, node.state, node.where) for node in group.children] == [
        ("task", tasks[0].name, f"in worker {pid}", None),
        ("task", tasks[1].name, "queued", None),
        ("task", tasks[2].name, "in a helper thread", None),
    ]
    assert f"task {tasks[0].name}: in worker {pid}" in str(tree)
    assert tree.find(f"worker {pid}").kind == "worker"


def test_a_plain_group_stands_in_its_thread_while_its_block_is_open(gate):
    with Workers(1) as pool, td.TaskGroup() as group:
        task = group.add(pool.go(work.pass_gate, gate.path))
        gate.wait_for_arrivals()
        [shown] = td.tree().find(threading.current_thread().name).children
        gate.open()
        task.result(PATIENCE)
        assert not td.tree().of_kind("group"), "nothing lives in it"
    assert (shown.kind, shown.state) == ("group", "open")


def calls_from_c(path):
    """Calls from C into Python again and again, until it may pass."""
    with open(path, "rb", buffering=0) as passes:
        os.set_blocking(passes.fileno(), False)
        while not passes.read(1):
            sorted(range(5), key=lambda number: -number)


def test_to_be_looked_at_does_not_harm_a_task_that_runs(tmp_path):
    path = tmp_path / "passes"
    os.mkfifo(path)
    with open(path, "r+b", buffering=0) as passes, Workers(1) as pool:
        task = pool.go(calls_from_c, path)
        eventually(lambda: task.running(), "it does not run")
        seen = {node.where.function for _ in range(1_000) for node in stands(pool) if node.where}
        passes.write(b"x")
        assert task.exception(PATIENCE) is None
        assert seen & {"calls_from_c", "<lambda>"}


def test_what_was_answered_late_is_no_answer_to_the_next_question(gate):
    with Workers(1) as pool:
        first = pool.go(stuck_in_c, gate.path)
        gate.wait_for_arrivals()
        assert [node.where.function for node in stands(pool)] == ["stuck_in_c"]
        # When it is out of C it answers once more.
        gate.open()
        first.result(PATIENCE)
        second = pool.go(waits_at, gate.path)
        gate.wait_for_arrivals()
        assert [node.lines[0].function for node in stands(pool)] == ["waits_at"]
        gate.open()
        second.result(PATIENCE)


def stands(pool):
    """The tasks that run in the pool's workers."""
    return [node for worker in node_of(pool).children for node in worker.children if node.state == "running"]


def test_a_task_in_a_function_in_c_shows_no_lines_of_the_package():
    with Workers(1, grace=0.1) as pool:
        task = pool.go(time.sleep, PATIENCE)
        eventually(lambda: td.tree().find(task.name).since is not None, "it does not begin")
        node = td.tree().find(task.name)
        task.cancel()
    assert (node.where, node.lines) == (None, ())
