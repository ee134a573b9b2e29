"""What misuses of pools are told: what is wrong, by the names that the caller knows, and what to write instead."""

import asyncio
import concurrent.futures
import itertools
import os
import subprocess
import sys
import threading

import pytest
import thistledown as td
import work
from pools import Workers
from thistledown import pyprocess

from support import PATIENCE


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


class Unbuildable:
    """Pickle makes it without the arguments that it wants."""

    def __init__(self, first, second):
        self.values = first, second

    def __reduce__(self):
        return Unbuildable, ()


# --- what is sent -------------------------------------------------------------------------------------------


def test_an_argument_that_cannot_be_rebuilt_is_told_as_one(pool):
    error = pool.go(work.echo, Unbuildable(1, 2)).exception(PATIENCE)
    assert type(error) is TypeError
    assert "the arguments of the task were rebuilt in its worker" in "".join(error.__notes__)


def test_a_result_that_cannot_be_rebuilt_is_told_as_one(pool):
    error = pool.go(Unbuildable, 1, 2).exception(PATIENCE)
    assert type(error) is TypeError
    assert "the result of the task was rebuilt here" in "".join(error.__notes__)


def test_what_is_nested_too_deeply_is_told_as_that(pool):
    with pytest.raises(td.NotPicklable, match="argument 1 cannot be sent: it is nested too deeply"):
        pool.go(work.echo, nested(100_000))
    with pytest.raises(td.NotPicklable, match="the result cannot be sent back: it is nested too deeply"):
        pool.go(nested, 100_000).result(PATIENCE)


def test_a_share_made_in_a_task_is_no_result_of_it(pool):
    with pytest.raises(td.NotPicklable, match=r"the result cannot be sent back.*return the object itself"):
        pool.go(lambda: td.share([1])).result(PATIENCE)


def test_initargs_are_named():
    with pytest.raises(td.NotPicklable, match=r"of initargs argument 2 cannot be sent: a .*lock"):
        td.Workers(1, initializer=print, initargs=(1, threading.Lock()))
    with pytest.raises(TypeError, match="initargs is a tuple of arguments, got 3"):
        td.Workers(1, initializer=print, initargs=3)


# --- calls --------------------------------------------------------------------------------------------------


def test_calls_that_do_not_fit_are_named_as_people_know_them(pool):
    with pytest.raises(TypeError, match=r"Workers\.go\(\) missing 1 required positional argument: 'fn'"):
        pool.go()
    with pytest.raises(TypeError, match=r"takes a function, and then .* got \[1, 2\] for the function"):
        pool.map([1, 2], abs)


@pytest.mark.parametrize("verb", [td.as_completed, td.wait], ids=["as_completed", "wait"])
def test_what_is_no_list_of_tasks_is_told(pool, verb):
    task = pool.go(work.double, 1)
    with pytest.raises(TypeError, match=rf"got one: write `td\.{verb.__name__}\(\[task\]\)`"):
        verb(task)
    with pytest.raises(TypeError, match="got 1 among them"):
        verb([task, 1])
    results = pool.map(work.double, [1])
    with pytest.raises(TypeError, match="got the results of a map"):
        verb(results)
    assert list(results) == [2]
    assert task.result(PATIENCE) == 2


def test_any_iterable_of_any_futures_is_taken(pool):
    done = concurrent.futures.Future()
    done.set_result(1)
    tasks = [pool.go(work.double, 1), done]
    assert set(td.as_completed(iter(tasks))) == set(tasks) == td.wait(iter(tasks)).done


SECONDS = {
    "result": lambda task, pool: task.result("1"),
    "exception": lambda task, pool: task.exception("1"),
    "wait_idle": lambda task, pool: pool.wait_idle("1"),
    "sleep": lambda task, pool: td.sleep("1"),
    "after": lambda task, pool: td.after("1"),
    "wait of an operation": lambda task, pool: td.sleep(0).wait("1"),
}


@pytest.mark.parametrize("call", SECONDS.values(), ids=SECONDS)
def test_seconds_that_are_no_number_are_told(pool, call):
    task = pool.go(work.double, 1)
    with pytest.raises(TypeError, match="must be a number of seconds, got '1'"):
        call(task, pool)
    assert task.result(None) == 2


def test_memory_beyond_all_bounds_is_told(pool):
    for memory in (1 << 80, "9999999999TiB"):
        with pytest.raises(ValueError, match=r"memory must be in 1\.\."):
            pool.options(memory=memory)


def test_retry_on_goes_with_retries(pool):
    for options in ({}, {"retries": 0}):
        with pytest.raises(ValueError, match="retries how often: give both"):
            pool.options(retry_on=ValueError, **options)
    with pytest.raises(ValueError, match="give both"):
        td.task(retry_on=ValueError)
    assert pool.options(retries=1).options(retry_on=ValueError).go(work.double, 1).result(PATIENCE) == 2


def test_an_operation_is_run_as_what_it_makes():
    with pytest.raises(TypeError, match=r"sleep.* makes an operation.*td\.run\(td\.sleep\(1\)\)"):
        td.run(td.sleep, 0.01)


OPERATION = r"sleep.* makes an operation.*`td\.go\(td\.sleep\(1\)\)`"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: (td.sleep, 0.1), OPERATION),
        (lambda: (td.Channel().send, 1), r"send .*makes an operation.*`td\.go\(channel\.send\(value\)\)`"),
        (lambda: (td.Channel().recv,), r"recv .*makes an operation.*`td\.go\(channel\.recv\(\)\)`"),
    ],
)
def test_what_makes_an_operation_is_not_sent_to_a_worker(make, words):
    with pytest.raises(TypeError, match=words):
        td.go(*make())
    with td.TaskGroup() as group, pytest.raises(TypeError, match=words):
        group.go(*make())

    async def main():
        async with td.TaskGroup() as group:
            with pytest.raises(TypeError, match=words):
                group.go(*make())

    td.run(main)


def test_a_method_of_a_socket_is_not_sent_to_a_worker(tcp_pair):
    with pytest.raises(TypeError, match=r"sendall .*makes an operation.*`td\.go\(sock\.sendall\(data\)\)`"):
        td.go(tcp_pair[0].sendall, b"data")


@pytest.mark.parametrize("body", [5, None, [1]])
def test_what_is_no_body_is_told_as_such_in_plain_code_too(body):
    with pytest.raises(TypeError, match=r"a task's body is an `async def` or generator function.*; got "):
        td.go(body)


def test_a_group_of_another_threads_run_says_whose_it_is():
    async def child():
        pass

    async def main():
        async with td.TaskGroup() as group:
            with pytest.raises(RuntimeError, match=r"belongs to a run in another thread.*td\.current_runner\(\)"):
                await td.thread(group.go, child)

    td.run(main)


def test_a_group_that_was_not_entered_says_how_to_enter_it_here():
    with pytest.raises(RuntimeError, match=r"use it as `with td\.TaskGroup\(\) as group:`"):
        td.TaskGroup().go(work.double, 1)

    async def main():
        with pytest.raises(RuntimeError, match=r"use it as `async with td\.TaskGroup\(\) as group:`"):
            td.TaskGroup().go(td.sleep(1))

    td.run(main)
    asyncio.run(main())


async def test_a_look_whether_a_pool_is_idle_takes_no_time_and_is_allowed(pool):
    assert pool.wait_idle(0) in (True, False)
    with pytest.raises(RuntimeError, match="would stop the thread"):
        pool.wait_idle(1)


# --- closed -------------------------------------------------------------------------------------------------

CLOSED = """
import threading
import thistledown as td

with td.workers():
    pass
for call in (lambda: td.go(len, ""), lambda: td.map(len, [""])):
    try:
        call()
    except RuntimeError as error:
        print(error)
"""

ENDED = """
import threading
import thistledown as td

def late():
    threading.main_thread().join()
    try:
        td.go(len, "")
    except RuntimeError as error:
        print(error)

td.go(len, "").result()
threading.Thread(target=late).start()
"""


def output_of(script):
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr == ""
    return done.stdout


def test_a_closed_default_pool_says_what_closed_it():
    lines = output_of(CLOSED).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("cannot schedule new futures after shutdown: the default pool was closed, by")
        assert "td.Workers()" in line


def test_the_end_of_the_program_is_told_as_that():
    assert output_of(ENDED) == "cannot schedule new futures after shutdown: the program has come to its end\n"


# --- reprs --------------------------------------------------------------------------------------------------


def test_reprs(pool):
    assert repr(pool.options(retries=1).options(name="x")) == f"{pool!r}.options(retries=1, name='x')"
    with Workers(1) as own:
        assert repr(own) == "<thistledown.Workers of 1>"
    assert repr(own) == "<thistledown.Workers of 1 closed>"
    results = pool.map(work.double, [1])
    assert repr(results) == "<thistledown.Results of a map>"
    assert list(itertools.chain(results)) == [2]


async def test_the_repr_of_a_server_says_where_it_is():
    async def handle(client):
        pass

    server = td.serve(handle, "127.0.0.1", 0)
    assert repr(server) == f"<thistledown.Server at {server.address}>"
    for socket in server.sockets:
        socket.close()


# --- pyprocess ----------------------------------------------------------------------------------------------


def test_pyprocess_speaks_of_what_it_was_given():
    with pytest.raises(TypeError, match=r"the function is given by its name.*got <built-in function len>"):
        pyprocess.start("builtins", len)
    with pytest.raises(TypeError, match="the module is given by its name"):
        pyprocess.start(os, "getpid")
    with pytest.raises(ValueError, match="no name of a function: 'get pid'"):
        pyprocess.start("os", "get pid")
    with pytest.raises(ValueError, match="max_processes must be greater than 0, got 0"):
        pyprocess.ProcessQueue(0)
    with pytest.raises(TypeError, match="max_processes is a whole number"):
        pyprocess.ProcessQueue("2")


def test_what_of_pyprocess_is_closed_says_so():
    with pyprocess.start("os", "getpid") as process:
        process.result(PATIENCE)
        assert repr(process).startswith("<thistledown.pyprocess.Process idle: getpid")
    assert repr(process).startswith("<thistledown.pyprocess.Process closed: getpid")
    with pytest.raises(RuntimeError, match="this process was closed"):
        process.call("os", "getpid")
    with pyprocess.ProcessQueue(2) as queue:
        assert repr(queue) == "<thistledown.pyprocess.ProcessQueue of 2>"
    assert repr(queue) == "<thistledown.pyprocess.ProcessQueue of 2 closed>"
    with pytest.raises(RuntimeError, match="this queue was closed"):
        queue.put("os", "getpid")
