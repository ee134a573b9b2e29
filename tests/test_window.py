"""`thistledown tree PID` and `kill -QUIT PID`: a program is asked from outside how it stands, and answers."""

import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import thistledown as td
from thistledown import _command

from leaks import eventually, open_files
from support import PATIENCE, run_program, started_program

# Says that it is there when its window is open, which the tests ask for by its socket; then does something.
PROGRAM = """
import ctypes, os, signal, sys, time
import thistledown as td

signal.signal(signal.SIGQUIT, signal.SIG_DFL)

async def waits_for_ever():
    await td.Channel().recv()

def holds_the_lock():
    libc, mine, buffer = ctypes.PyDLL(None), os.pipe()[0], ctypes.create_string_buffer(1)
    # Nobody gets the lock between the two calls, nor while it says so.
    sys.setswitchinterval(1000)
    libc.write(1, b"there", 5)
    libc.read(mine, buffer, 1)

def lets_go_of_the_lock():
    print("there", flush=True)
    time.sleep(30)

def computes():
    print("there", flush=True)
    while True:
        pass

async def sleeps():
    print("there", flush=True)
    await td.sleep(30)

async def main(what):
    td.go(waits_for_ever)
    while f"@thistledown-{os.getpid()}" not in open("/proc/net/unix").read():
        await td.sleep(0.01)
    # What its thread has to prepare is done when it answers.
    await td.thread(ask)
    done = globals()[what]()
    if done is not None:
        await done

def ask():
    from thistledown import _command
    _command.ask_tree(os.getpid())

td.run(main, sys.argv[1], stall_after=None)
"""


def asked(*arguments, **more):
    command = [sys.executable, "-m", "thistledown", "tree", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, **more)


def read_until(stream, words):
    """What comes from a stream, up to these words."""
    text = b""
    while words not in text:
        assert select.select([stream], [], [], PATIENCE)[0], f"{words!r} does not come, but {text!r}"
        part = os.read(stream.fileno(), 65536)
        assert part, f"the stream ended after {text!r}"
        text += part
    return text.decode()


@pytest.mark.parametrize("what", ["sleeps", "computes", "lets_go_of_the_lock"])
def test_a_program_says_how_it_stands_whatever_it_does(what):
    with started_program(PROGRAM, what) as process:
        read_until(process.stdout, b"there")
        done = asked(process.pid)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"process {process.pid}" in done.stdout
    assert f"in {what}" in done.stdout
    assert "waits_for_ever" in done.stdout
    assert "recv from channel" in done.stdout


def test_a_program_that_is_stuck_in_c_shows_its_threads():
    with started_program(PROGRAM, "holds_the_lock") as process:
        read_until(process.stdout, b"there")
        done = asked(process.pid)
    assert done.returncode == 0
    assert "a call in C holds the interpreter's lock" in done.stdout
    assert "in holds_the_lock" in done.stdout


@pytest.mark.parametrize(
    ("what", "words"), [("sleeps", b"waits_for_ever"), ("computes", b"waits_for_ever"), ("holds_the_lock", b"threads")]
)
def test_sigquit_prints_the_tree_and_ends_nothing(what, words):
    with started_program(PROGRAM, what) as process:
        read_until(process.stdout, b"there")
        for _ in range(2):
            process.send_signal(signal.SIGQUIT)
            text = read_until(process.stderr, b"in " + what.encode())
            assert words.decode() in text
        assert process.poll() is None


def test_a_handler_of_the_programs_own_stays():
    program = PROGRAM.replace("signal.SIG_DFL", 'lambda *_: print("my own", flush=True)')
    with started_program(program, "sleeps") as process:
        read_until(process.stdout, b"there")
        process.send_signal(signal.SIGQUIT)
        read_until(process.stdout, b"my own")


def test_without_a_run_the_signal_does_what_it_always_does():
    source = """
    import os, signal
    import thistledown as td

    async def nothing():
        pass

    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    td.run(nothing)
    os.kill(os.getpid(), signal.SIGQUIT)
    """
    assert run_program(source).returncode == -signal.SIGQUIT


def test_it_can_be_switched_off():
    source = """
    import os, sys
    import thistledown as td

    async def main():
        print("there", flush=True)
        await td.thread(sys.stdin.read)

    td.run(main)
    """
    environment = {**os.environ, "THISTLEDOWN_TREE": "0"}
    command = [sys.executable, "-c", source.replace("\n    ", "\n")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        read_until(process.stdout, b"there")
        done = asked(process.pid)
        names = {path.read_text() for path in Path(f"/proc/{process.pid}/task").glob("*/comm")}
        process.kill()
    assert (done.returncode, done.stdout) == (1, "")
    assert "THISTLEDOWN_TREE=0 is set" in done.stderr
    assert "thistledown-tre\n" not in names


def test_what_cannot_be_asked_is_said():
    with subprocess.Popen(["sleep", "1000"]) as other:
        done = asked(other.pid)
        other.kill()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"thistledown: process {other.pid} is no Thistledown program\n"
    assert asked(other.pid).stderr == f"thistledown: there is no process {other.pid}\n"
    assert "no run and no pool" in alone("print(_command.ask_tree(os.getpid()))").stderr


def alone(source):
    """Runs it in a program of its own: in this one another test may have left a pool for the next."""
    head = """
import os
import thistledown as td
from thistledown import _command
from leaks import engine_threads, eventually, open_files
from test_window import *
"""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-c", head + textwrap.dedent(source)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_command_says_how_it_is_used():
    done = subprocess.run(
        [sys.executable, "-m", "thistledown", "--help"], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert "tree" in done.stdout
    assert asked().returncode == 2


async def opened():
    """Waits until the window of this process is open."""
    await td.thread(eventually, is_open, "the window does not open")


def is_open():
    return f"@thistledown-{os.getpid()}\n" in Path("/proc/net/unix").read_text()


def test_nothing_of_it_is_left_when_the_run_is_over():
    done = alone(
        """
        async def main():
            await opened()
            return set(open_files(window=True)) - set(files)

        files = open_files(window=True)
        assert td.run(main)
        assert not is_open()
        left = {target for fd, target in open_files(window=True).items() if fd not in files}
        assert not any(word in target for target in left for word in ("socket", "thistledown", "eventfd")), left
        eventually(lambda: not engine_threads("tree"), "its thread stays")
        """
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_short_run_opens_nothing():
    done = alone(
        """
        async def main():
            return is_open()

        assert not any(td.run(main) for _ in range(100))
        """
    )
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_forked_child_does_not_answer_for_its_parent():
    async def main():
        await opened()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            left = [name for name in open_files().values() if "thistledown-lines" in name]
            caught = int(Path("/proc/self/status").read_text().split("SigCgt:")[1].split()[0], 16)
            os.write(writer, f"{len(left)} {caught >> (signal.SIGQUIT - 1) & 1}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        told = os.read(reader, 100).decode()
        os.close(reader)
        os.close(writer)
        return told, await td.thread(_command.ask_tree, os.getpid())

    told, text = td.run(main)
    assert told == "0 0"
    assert f"process {os.getpid()}:" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_not_answered():
    def ask():
        child = os.fork()
        if child == 0:
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(f"\0thistledown-{os.getppid()}")
                os._exit(len(asking.recv(100)))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def main():
        await opened()
        return await td.thread(ask)

    assert td.run(main) == 0


async def test_it_can_be_asked_again_and_again_by_many():
    await opened()
    async with td.TaskGroup() as group:
        tasks = [group.go(asks) for _ in range(20)]
    assert len({await task for task in tasks}) == 1


async def asks():
    text = await td.thread(_command.ask_tree, os.getpid())
    return text.splitlines()[0]
