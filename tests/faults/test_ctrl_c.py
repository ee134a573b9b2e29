"""Ctrl-C: a program that waits for its workers ends at once, says so in few words, and leaves no process behind."""

import fcntl
import os
import signal
import subprocess
import termios

import pytest
import witness
from witness import PATIENCE

import support

LINES = 25
"""A traceback may be this long."""

WORK = """
import asyncio, concurrent.futures, time, ctypes, signal, sys
import thistledown as td, victims

def work(*_):
    print("begun", flush=True)
    getattr(victims, sys.argv[1])()
"""

WAITS = {
    "result": "td.go(work).result()",
    "result with a time": "td.go(work).result(3600)",
    "exception": "td.go(work).exception()",
    "map": "list(td.map(work, range(10)))",
    "map of a pool": """
with td.Workers(2) as pool:
    list(pool.map(work, range(10), chunksize=1))
""",
    "exit of with": """
with td.Workers(2) as pool:
    pool.submit(work)
""",
    "shutdown": """
pool = td.Workers(2)
pool.submit(work)
pool.shutdown()
""",
    "wait_idle": """
pool = td.Workers(2)
pool.submit(work)
pool.wait_idle()
""",
    "as_completed": "list(td.as_completed([td.go(work)]))",
    "end of a group": """
with td.TaskGroup() as group:
    group.go(work)
    group.thread(time.sleep, 0)
""",
    "inside of a group and a timeout": """
with td.timeout(3600), td.TaskGroup() as group:
    group.go(work).result()
""",
    "wait": "td.wait([td.go(work)])",
    "stdlib's as_completed": "list(concurrent.futures.as_completed([td.go(work)]))",
    "stdlib's wait": "concurrent.futures.wait([td.go(work)])",
    "await in td.run": """
async def main():
    await td.go(work)
td.run(main)
""",
    "await in asyncio": """
async def main():
    await td.go(work)
asyncio.run(main())
""",
    "wrap_future": """
async def main():
    await asyncio.wrap_future(td.go(work))
asyncio.run(main())
""",
    "something else": """
td.go(work)
time.sleep(3600)
""",
    "nested": """
def outer():
    return td.go(work).result()
td.go(outer).result()
""",
    "weightless": """
async def body():
    print("begun", flush=True)
    await td.sleep(3600)
td.workers().go(body).result()
""",
}


def is_short(errors):
    return errors.rstrip().endswith("KeyboardInterrupt") and len(errors.splitlines()) <= LINES


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_program_that_waits(script, mark, wait):
    program = script(WORK + WAITS[wait], "spin")
    program.line()
    program.interrupt()
    code, _, errors = program.ends()
    assert code == -signal.SIGINT, errors
    assert is_short(errors), errors
    assert witness.wait_gone(witness.marked(mark)) == set()


@pytest.mark.parametrize("work", ["swallow", "deaf", "deaf_with_lock"])
@pytest.mark.parametrize("wait", ["result", "exit of with", "await in td.run", "await in asyncio"])
def test_ctrl_c_does_not_wait_for_a_worker_that_does_not_listen(script, mark, wait, work):
    program = script(WORK + WAITS[wait], work)
    program.line()
    program.interrupt()
    code, _, errors = program.ends()
    assert code == -signal.SIGINT, errors
    assert is_short(errors), errors
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_ctrl_c_at_the_end_of_a_program_that_has_work_left(script, mark):
    program = script(WORK + "td.go(work)", "spin")
    program.line()
    # The main thread is at the end of the program, or just before it.
    witness.eventually(lambda: witness.state_of(program.pid) == "S")
    program.interrupt()
    code, _, errors = program.ends()
    assert code == -signal.SIGINT, errors
    assert len(errors.splitlines()) <= LINES, errors
    assert witness.wait_gone(witness.marked(mark)) == set()


@pytest.mark.parametrize("tasks", [1, 5])
def test_ctrl_c_while_the_end_waits_says_what_was_not_finished(script, mark, tmp_path, tasks):
    path = tmp_path / "written"
    program = script(
        WORK
        + f"""
import atexit, threading
unflushed = open({str(path)!r}, "w")
unflushed.write("all of it")
atexit.register(print, "at exit")
# Those of the standard library's kind are called before ours, as they were registered later.
tasks = [td.go(work) for _ in range({tasks})]
threading._register_atexit(print, "at the end", flush=True)
sys.exit(7)
""",
        "spin",
    )
    lines = {program.line(), program.line()}
    assert lines <= {"begun", "at the end"}
    while "at the end" not in lines:
        lines.add(program.line())
    witness.eventually(lambda: witness.state_of(program.pid) == "S")
    program.interrupt()
    code, output, errors = program.ends()
    counted = "1 task was" if tasks == 1 else f"{tasks} tasks were"
    # On a busy machine it has said before for what it waits.
    assert errors.splitlines()[-1] == f"KeyboardInterrupt at the end of the program: {counted} not finished"
    assert code == -signal.SIGINT
    assert output.endswith("at exit\n"), "exit functions are called"
    assert path.read_text() == "all of it", "files are flushed"
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_program_that_catches_ctrl_c_goes_on_with_its_pool(script, mark):
    program = script(
        WORK
        + """
with td.Workers(2) as pool:
    task = pool.submit(work)
    try:
        task.result()
    except KeyboardInterrupt:
        print("caught", task.cancel(), pool.submit(victims.square, 3).result(), flush=True)
""",
        "spin",
    )
    program.line()
    program.interrupt()
    assert program.line() == "caught True 9"
    assert program.ends() == (0, "", "")
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_ctrl_c_twice_is_no_worse_than_once(script, mark):
    program = script(WORK + WAITS["exit of with"], "swallow")
    program.line()
    program.interrupt()
    program.interrupt()
    code, _, errors = program.ends()
    assert code == -signal.SIGINT, errors
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_ctrl_c_while_many_tasks_stream(script, mark):
    program = script(
        WORK
        + """
with td.Workers(2) as pool:
    print("begun", flush=True)
    while True:
        for task in [pool.submit(victims.square, n) for n in range(100)]:
            task.result()
""",
        "spin",
    )
    program.line()
    program.interrupt()
    code, _, errors = program.ends()
    assert code == -signal.SIGINT, errors
    assert is_short(errors), errors
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_ctrl_c_typed_at_a_terminal(mark):
    """As a person does it: the terminal sends the signal to its foreground process group."""
    path = os.pathsep.join([witness.HERE, os.environ.get("PYTHONPATH", "")])
    master, slave = os.openpty()
    try:
        process = subprocess.Popen(
            support.program_command(WORK + WAITS["map of a pool"], "spin"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": path},
        )
        os.close(slave)
        output = b""
        while b"begun" not in output:
            output += os.read(master, 1000)
        os.write(master, b"\x03")
        assert process.wait(PATIENCE) == -signal.SIGINT
        assert witness.wait_gone(witness.marked(mark)) == set()
        with open(master, "rb", buffering=0, closefd=False) as terminal:
            try:
                while data := terminal.read(1000):
                    output += data
            except OSError:  # nobody holds the other side any more
                pass
        text = output.decode().replace("\r", "").partition("^C")[2]
        assert text.count("Traceback") == 1, text
        assert is_short(text), text
    finally:
        os.close(master)
