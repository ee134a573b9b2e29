"""Supervisors at the end of a program, however that comes: children are stopped in order, and nothing is left."""

import contextlib
import signal
import subprocess

import pytest

from support import PATIENCE, run_program, started_program

PROGRAM = """
import os, signal, threading, time
import thistledown as td

async def child(name):
    print("+" + name, flush=True)
    try:
        async for _ in ticks():
            pass
    finally:
        print("-" + name, flush=True)

async def ticks():
    while True:
        await td.sleep(60.0)
        yield

async def stubborn():
    with td.shield():
        print("+stubborn", flush=True)
        async for _ in ticks():
            pass

def interrupt():
    waits = 0
    while waits < 2:
        waits = sum(node.name in "ab" and node.state == "waiting" for node in td.tree().of_kind("task"))
    os.kill(os.getpid(), signal.SIGINT)

supervisor = td.Supervisor([td.child(child, name).options(name=name) for name in "ab"])
"""

INTERRUPTED = "threading.Thread(target=interrupt, daemon=True).start()\n"

IN_BLOCK = "with supervisor:\n    time.sleep(3600.0)\n"
AWAITED = "td.run(supervisor)\n"
IN_RUN = """
async def main():
    await supervisor.start()
    await td.sleep(3600.0)

td.run(main)
"""
IN_ASYNCIO = """
import asyncio

async def main():
    async with supervisor:
        await asyncio.sleep(3600.0)

asyncio.run(main())
"""
IN_START = """
class Interrupted(td.Supervisor):
    def start(self):
        super().start().result()
        interrupt()

with Interrupted([td.child(child, name).options(name=name) for name in "ab"]):
    print("never")
"""
HOLDING = """
class Holds:
    def __init__(self):
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT), daemon=True).start()
        time.sleep(3600.0)

with td.Supervisor([td.child(child, "a").options(name="a"), td.child(Holds).options(place=td.here)]):
    print("never")
"""
WITH_STUBBORN = """
with td.Supervisor([td.child(stubborn).options(shutdown=3600.0)]):
    time.sleep(3600.0)
"""


def test_at_the_end_of_the_program_the_children_are_stopped_in_reverse_order():
    ended = run_program(PROGRAM + "supervisor.start().result()\n")
    assert (ended.returncode, ended.stdout.split()) == (0, ["+a", "+b", "-b", "-a"])
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "main", [IN_BLOCK, AWAITED, IN_RUN, IN_ASYNCIO], ids=["block", "td.run of it", "in a run", "in asyncio"]
)
def test_ctrl_c_stops_the_children_in_reverse_order(main):
    ended = run_program(PROGRAM + INTERRUPTED + main)
    assert ended.stdout.split() == ["+a", "+b", "-b", "-a"]
    assert ended.stderr.strip().endswith("KeyboardInterrupt")
    assert ended.returncode == -signal.SIGINT


def test_ctrl_c_in_the_start_of_a_block_stops_what_was_started_in_reverse_order():
    ended = run_program(PROGRAM + IN_START)
    assert ended.stdout.split() == ["+a", "+b", "-b", "-a"]
    assert ended.returncode == -signal.SIGINT


def test_ctrl_c_ends_a_program_in_which_a_child_holds_up_the_start():
    ended = run_program(PROGRAM + HOLDING)
    assert "never" not in ended.stdout
    assert ended.returncode == -signal.SIGINT


def test_ctrl_c_once_more_kills_the_children_and_then_the_program_ends_whatever_they_do():
    with started_program(PROGRAM + WITH_STUBBORN) as process:
        assert process.stdout.readline().strip() == "+stubborn"
        # A weightless task that shields itself cannot even be killed.
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT


BUSY = """
import os, signal, threading, time
import thistledown as td

class Busy:
    def process(self):
        return os.getpid()

    def spin(self):
        while True:
            pass

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    while not supervisor._is_stopped:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)

supervisor = td.Supervisor([td.child(Busy).options(shutdown=3600.0)])

async def serve():
    global process, spin
    process = await supervisor["Busy"].process()
    spin = supervisor["Busy"].spin()
    threading.Thread(target=interrupt, daemon=True).start()
    await td.sleep(3600.0)

async def in_block():
    async with supervisor:
        await serve()

async def in_run():
    await supervisor.start()
    await serve()

try:
    td.run(MAIN)
except KeyboardInterrupt:
    print("interrupted", type(spin.exception()).__name__)
while os.path.exists(f"/proc/{process}"):
    time.sleep(0.001)
print("gone")
"""


@pytest.mark.parametrize("main", ["in_block", "in_run"])
def test_ctrl_c_once_more_kills_the_children_in_processes_when_it_leaves_the_run(main):
    ended = run_program(BUSY.replace("MAIN", main))
    assert ended.stdout.split() == ["interrupted", "ActorDied", "gone"], ended.stderr
    assert "Exception ignored" not in ended.stderr


ALONE = """
import time
import thistledown as td

class Clock:
    def tick(self):
        return 1

supervisor = td.Supervisor([Clock])
supervisor.start()
supervisor["Clock"].tick().result()
print("runs", flush=True)
time.sleep(3600.0)
"""


def test_ctrl_c_is_the_death_of_a_program_whose_supervisor_has_no_block():
    with started_program(ALONE) as process:
        assert process.stdout.readline().strip() == "runs"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert stderr.strip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
