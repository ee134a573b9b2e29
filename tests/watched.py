"""A program that is looked at from outside: it does what it is told on its standard input, and says what came of it."""

import contextlib
import os
import select
import subprocess
import sys
import time

from support import PATIENCE

# `held` reads a pipe that nobody writes to; `fails` fails; `main` does what it is told until its input ends.
SOURCE = """
import ctypes, os, sys, threading
import thistledown as td

def held(path):
    with open(path) as file:
        return file.read()

def fails():
    raise ValueError("bad <input>")

def holds_the_lock():
    libc, mine, buffer = ctypes.PyDLL(None), os.pipe()[0], ctypes.create_string_buffer(1)
    sys.setswitchinterval(1000)
    libc.write(1, b"there\\n", 6)
    libc.read(mine, buffer, 1)

async def waits(channel):
    await channel.recv()

class Account:
    def __init__(self, path):
        self.path, self.gate = path, td.Channel()

    def ping(self):
        return "pong"

    def reads(self):
        with open(self.path) as file:
            return file.read()

    async def opens(self):
        await self.gate.recv()

def ended(task):
    kind = "cancelled" if task.cancelled() else type(task.exception()).__name__
    print("ended", task.name, kind, flush=True)

kept = []

async def obeys(pool, word, path, channel):
    if word == "hold":
        pool.options(name="held").go(held, path).add_done_callback(ended)
    elif word == "wait":
        task = td.go(waits, channel)
        task.name = "waiter"
        task.add_done_callback(ended)
    elif word == "fail":
        task = pool.options(name="failing").go(fails)
        try:
            await task
        except ValueError:
            pass
    elif word == "work":
        await pool.options(name="worked").go(len, "abc")
    elif word == "boxes":
        kept.append(td.here.options(mailbox=50).actor(Account, path))
        kept[-1].opens()
        kept[-1].ping()
        kept[-1].ping()
        kept.append(td.here.options(name="idle").actor(Account, path))
        kept.append(td.actor.options(name="alone")(Account, path))
        await kept[-1].ping()
        kept[-1].reads()
        kept[-1].ping()
        kept.append(pool.options(name="sharing").actor(Account, path))
        await kept[-1].ping()
    elif word == "share":
        await channel.send("a value")
        await pool.go(repr, channel)
    elif word == "stick":
        holds_the_lock()
    print("there", flush=True)

async def main(path):
    channel = td.Channel(3)
    async with td.Workers(2) as pool:
        await pool.go(len, "")
        print("there", flush=True)
        while word := (await td.thread(sys.stdin.readline)).strip():
            await obeys(pool, word, path, channel)

td.run(main, sys.argv[1], stall_after=None)
"""


class Watched:
    """A program that does what it is told."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.said = b""

    def tells(self, words):
        """Waits until it has said these words, or has before."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.said:
            left = deadline - time.monotonic()
            assert select.select([self.process.stdout], [], [], max(0, left))[0], f"no {words!r}, but {self.said!r}"
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"it ended after {self.said!r}: {self.process.stderr.read()}"
            self.said += part
        self.said = self.said.split(words, 1)[1]

    def does(self, *orders):
        """Has it do these, one after the other, each begun when the one before is done."""
        for order in orders:
            self.process.stdin.write(f"{order}\n")
            self.process.stdin.flush()
            self.tells(b"there\n")


@contextlib.contextmanager
def watched(folder, *orders):
    """A program that has done these, and whose window is open."""
    path = folder / "held"
    os.mkfifo(path)
    # In a file: no line is known of what a worker runs that was given on the command line.
    source = folder / "program.py"
    source.write_text(SOURCE)
    command = [sys.executable, source, path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as process:
        try:
            program = Watched(process)
            program.tells(b"there\n")
            program.does(*orders)
            deadline = time.monotonic() + PATIENCE
            while f"@thistledown-{process.pid}\n" not in _sockets():
                assert time.monotonic() < deadline, "its window does not open"
                time.sleep(0.01)  # another process cannot be waited for in another way
            yield program
        finally:
            process.kill()


def _sockets():
    with open("/proc/net/unix") as file:
        return file.read()


def eventually_seen(watching, is_so):
    """Looks until something is so."""
    deadline = time.monotonic() + PATIENCE
    while True:
        watching.look()
        if watching.seen and is_so(watching.seen):
            return watching.seen
        assert time.monotonic() < deadline, watching.trouble or watching.seen
