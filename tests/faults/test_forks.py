"""Processes that the parent makes while its pool runs: forks get a clear error, and nobody keeps the pool's things."""

import os
import signal

import pytest
import thistledown as td
import victims
import witness

HEAD = """
import multiprocessing, os, signal, subprocess, sys, threading, time, warnings
# Python 3.12 warns of what is tried here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import thistledown as td, victims

pool = td.Workers(2)
pool.submit(victims.square, 2).result()
pending = pool.submit(time.sleep, 0.2)

def try_it(*_):
    try:
        pool.submit(victims.square, 3).result(10)
    except RuntimeError as error:
        print("refused:", error, flush=True)
    try:
        pending.result(10)
    except (RuntimeError, td.ThistledownError) as error:
        print("refused:", error, flush=True)
    print("own:", td.go(victims.square, 4).result(10), flush=True)

def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""

GOES_ON = """
pending.result()
print("parent:", pool.submit(victims.square, 5).result(), flush=True)
pool.shutdown()
"""

FORKS = {
    "os.fork": """
child = os.fork()
if child == 0:
    try_it()
    sys.exit(7)
print("child:", code_of(child), flush=True)
""",
    "os.fork and os._exit": """
child = os.fork()
if child == 0:
    try_it()
    os._exit(7)
print("child:", code_of(child), flush=True)
""",
    "multiprocessing": """
child = multiprocessing.get_context("fork").Process(target=lambda: (try_it(), sys.exit(7)))
child.start()
child.join()
print("child:", child.exitcode, flush=True)
""",
    "from a thread": """
def fork():
    child = os.fork()
    if child == 0:
        try_it()
        os._exit(7)
    print("child:", code_of(child), flush=True)
thread = threading.Thread(target=fork)
thread.start()
thread.join()
""",
}


@pytest.mark.parametrize("fork", FORKS)
def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on(script, mark, fork):
    program = script(HEAD + FORKS[fork] + GOES_ON)
    code, output, errors = program.ends()
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert sum(line.startswith("refused:") and "fork" in line for line in lines) == 2, output
    assert lines[-3:] == ["own: 16", "child: 7", "parent: 25"]
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_child_that_c_has_forked_may_fork(script, mark):
    """Python does not hear of it; C libraries become daemons that way."""
    program = script(
        HEAD
        + """
import ctypes
begun = threading.Event()
async def stay():
    begun.set()
    await td.sleep(3600)
threading.Thread(target=td.run, args=[stay], daemon=True).start()
begun.wait()
# It holds the interpreter's lock, so the child has it too.
c = ctypes.PyDLL(None)
child = c.fork()
if child == 0:
    grandchild, status = c.fork(), ctypes.c_int()
    if grandchild == 0:
        c._exit(7)
    c.waitpid(grandchild, ctypes.byref(status), 0)
    c._exit(status.value >> 8)
print("child:", code_of(child), flush=True)
"""
        + GOES_ON
        + "os._exit(0)"
    )
    code, output, errors = program.ends()
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["child: 7", "parent: 25"]


def test_a_pool_of_multiprocessing_beside_ours(script, mark):
    program = script(
        HEAD
        + """
with multiprocessing.get_context("fork").Pool(2) as other:
    print("other:", other.map(victims.square, [1, 2]), flush=True)
"""
        + GOES_ON
    )
    code, output, errors = program.ends()
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["other: [1, 4]", "parent: 25"]


def test_forks_while_threads_start_tasks(script, mark):
    program = script(
        HEAD
        + """
over = threading.Event()
def stir():
    while not over.is_set():
        for task in [pool.submit(victims.square, n) for n in range(20)]:
            task.result()
threads = [threading.Thread(target=stir) for _ in range(3)]
for thread in threads:
    thread.start()
codes = set()
for _ in range(50):
    child = os.fork()
    if child == 0:
        try:
            pool.submit(victims.square, 3)
        except RuntimeError:
            os._exit(7)
        os._exit(8)
    codes.add(code_of(child))
over.set()
for thread in threads:
    thread.join()
print(codes, flush=True)
"""
        + GOES_ON
    )
    code, output, errors = program.ends()
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["{7}", "parent: 25"]


GENERATIONS = """
def sleeps(name):
    states = [witness.state_of(f"self/task/{thread}") for thread in witness.native_threads_named(name)]
    return states and set(states) == {"S"}

def live(generation):
    "Starts all threads that there are, and forks the next generation while they sleep."
    own, told, begun = td.Workers(1), threading.Event(), threading.Event()
    task = own.submit(victims.square, generation)
    task.add_done_callback(lambda _: told.set())
    assert task.result(20) == generation * generation
    assert told.wait(20)
    async def stay():
        begun.set()
        await td.sleep(3600)
    async def rest():
        await td.sleep(0.001)
    threading.Thread(target=td.run, args=[stay], daemon=True).start()
    assert begun.wait(20)
    for _ in range(5):
        td.run(rest)
    assert witness.eventually(lambda: herald_rests() and all(map(sleeps, ["-wat", "-tre"])))
    if generation == 12:
        return 7
    child = os.fork()
    return code_of(child) if child else be_child(generation + 1)

def be_child(generation):
    code = 8
    try:
        code = live(generation)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)

print(live(1), flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("round_", range(3))
def test_threads_that_sleep_at_a_fork_do_not_disturb_the_child(script, mark, round_):
    """What they sleep in is there in the child, and they are not. Memory that was theirs belongs to new threads."""
    head = "import traceback, witness\nfrom thistledown._core import herald_rests\n"
    code, output, errors = script(HEAD + head + GENERATIONS).ends()
    assert (code, output, errors) == (0, "7\n", "")
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_fork_inside_of_a_with_block_leaves_it(script, mark):
    """The child leaves the block as well, and does not wait for what is not its own."""
    program = script(
        HEAD
        + """
with td.Workers(1) as inner:
    inner.submit(victims.square, 3).result()
    busy = inner.submit(time.sleep, 0.3)
    child = os.fork()
if child == 0:
    sys.exit(7)
print("child:", code_of(child), busy.done(), flush=True)
"""
        + GOES_ON
    )
    code, output, errors = program.ends()
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["child: 7 True", "parent: 25"]


OTHERS = {
    "a fork": "child = os.fork()\nif child == 0:\n    time.sleep(3600)",
    "Popen": "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'], close_fds=False).pid",
    "a fork by C": "import ctypes\nchild = ctypes.CDLL(None).fork()\nif child == 0:\n    ctypes.CDLL(None).sleep(3600)",
}


@pytest.mark.parametrize("other", OTHERS)
def test_workers_of_a_killed_parent_are_gone_although_its_other_child_lives(script, mark, meeting, other):
    source = HEAD + "workers = pool.statistics()['processes']\n" + OTHERS[other]
    program = script(source + "\nprint(child, *workers, flush=True)\ntime.sleep(3600)")
    child, *workers = map(int, program.line().split())
    zygote = witness.zygote_of(workers[0])
    program.kill()
    try:
        assert witness.wait_gone([*workers, zygote]) == set()
        assert witness.state_of(child) in "SR"
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("other", ["a fork", "Popen"])
def test_a_pool_closes_although_another_child_lives(script, mark, other):
    program = script(HEAD + OTHERS[other] + "\npool.shutdown()\nprint(child, flush=True)")
    child = int(program.line())
    try:
        # The child has the streams of the program, so its end cannot be read there.
        assert program.process.wait(witness.PATIENCE) == 0
        assert witness.wait_gone(witness.marked(mark) - {child}) == set()
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_program_that_is_started_inherits_nothing(script, mark):
    program = script(
        HEAD
        + """
show = "import os; print(*(os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if int(n) > 2))"
shown = subprocess.run([sys.executable, "-c", show], close_fds=False, capture_output=True, text=True)
print(shown.stdout + shown.stderr, flush=True)
"""
    )
    line = program.line()
    for name in ("memfd", "eventfd", "socket", "pipe"):
        assert name not in line
    assert program.ends()[0] == 0


def test_a_task_may_start_programs_of_its_own(pair):
    def echo():
        import subprocess

        return subprocess.run(["echo", "said"], capture_output=True, text=True, check=True).stdout

    assert pair.submit(echo).result(witness.PATIENCE) == "said\n"


def test_a_task_may_use_pools_of_the_standard_library(pair):
    def sum_of_squares():
        import concurrent.futures
        import multiprocessing

        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as inner:
            return sum(inner.map(victims.square, range(5)))

    assert pair.submit(sum_of_squares).result(witness.PATIENCE) == 30


def test_a_process_that_a_task_forks_is_no_worker(pair):
    """It must not speak for the worker; a pool of its own is what it may have."""

    def fork():
        import os

        child = os.fork()
        if child == 0:
            code = 1
            try:
                with td.Workers(1) as own:
                    code = own.submit(victims.square, 3).result(witness.PATIENCE)
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert pair.submit(fork).result(witness.PATIENCE) == 9
