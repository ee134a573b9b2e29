"""Pools of worker processes in a ``Tree``: what each worker does, which task it runs, and at which line it stands.

A worker tells its line itself: it writes the stack of its main thread to a pipe of its own, and that is read here. The
engine sends the signal that asks for it, which Python answers between two bytecodes. A worker that stands still in a
system call, or inside of a call in C, does not. From here it gets the signal of ``faulthandler``'s handler, which may
look at no thread that runs.
"""

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Any

from thistledown import _core
from thistledown._lines import PACKAGE, Line
from thistledown._tree import Node

__all__ = ["cancel", "pools"]

ANSWER_SECONDS = 0.5
"""How long workers have to say at which lines they stand; those that have not by then stand at no known line."""

POLITE_SECONDS = 0.1
"""After so long a worker that has said nothing stands still. What runs has its next bytecode much sooner."""

LISTED = 1_000
"""Tasks that wait for a worker of one pool, and are named; more are counted."""

_FRAME = re.compile(rb'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_OUTERMOST = re.compile(rb'^(  File "<string>", line \d+ in <module>|  \.\.\.)\n', re.MULTILINE)
"""The last line of a stack: where the program of the zygote stands, or that there is more."""

_WHEN = re.compile(rb"^at (\d+)\n", re.MULTILINE)
"""The line in front of a stack that Python has written, in ns: an older one was asked for by somebody else."""


def pools() -> tuple[Node, ...]:
    """The pools of this process."""
    begin = time.monotonic_ns()
    surveyed = _core.survey_pools(LISTED)
    workers = [worker for pool in surveyed for worker in pool[2]]
    asked = {pid: lines for pid, _, lines, _, _ in workers if pid is not None and lines is not None}
    lines = _lines(asked, begin) if asked else {}
    return tuple(_pool(*pool, lines) for pool in surveyed)


def cancel(names: set[str]) -> None:
    """Cancels the tasks of these names in every pool of this process: for who knows them from a tree alone."""
    _core.cancel_jobs(names)


Lines = dict[int, tuple[Line, ...]]
Task = tuple[str, float | None, str | None, int]


def _pool(size: int, is_closing: bool, workers: list[Any], queued: list[Task], count: int, lines: Lines) -> Node:
    name = f"pool of {size} worker{'' if size == 1 else 's'}"
    state = f"{'closing' if is_closing else 'open'}, {count} queued"
    children = [_worker(worker, lines) for worker in workers]
    children += [
        Node("task", name, "queued", *_waits(waits_for, "its turn behind"), id=f"job {number} {name}")
        for name, _, waits_for, number in queued
    ]
    return Node("pool", name, state, children=tuple(children), unlisted=count - len(queued))


def _worker(worker: Any, lines: Lines) -> Node:
    pid, phase, _, jobs, actors = worker
    stack = lines.get(pid or 0, ())
    tasks = tuple(_task(job, stack) for job in jobs)
    since = next((node.since for node in tasks if node.since is not None), None)
    name = "worker not born yet" if pid is None else f"worker {pid}"
    children = (*map(_actor, actors or ()), *tasks)
    return Node("worker", name, phase, since=since, children=children, id="" if pid is None else f"worker {pid}")


def _actor(actor: tuple[str, int]) -> Node:
    name, calls = actor
    return Node("actor", name, f"{calls} call{'' if calls == 1 else 's'} unanswered")


def _task(job: Task, stack: tuple[Line, ...]) -> Node:
    """A task that was given to a worker. Only of the one that is known to run can a line be known."""
    name, since, waits_for, number = job
    known = f"job {number} {name}"
    if since is None:
        return Node("task", name, "given to a worker", *_waits(waits_for, "the end of task"), id=known)
    state = "running" if waits_for is None else "waiting"
    where = stack[-1] if stack else None
    return Node("task", name, state, *_waits(waits_for, "the end of task"), since, where, stack, id=known)


def _waits(name: str | None, words: str) -> tuple[str | None, tuple[str, ...]]:
    return (None, ()) if name is None else (f"{words} {name}", (name,))


# --- lines ------------------------------------------------------------------------------------------------------


class _Asked:
    """A worker that was asked for its lines: its pipe, and what has come."""

    def __init__(self, pid: int, number: int, begin: int, stack: contextlib.ExitStack) -> None:
        self.pid = pid
        self.begin = begin
        self._text = bytearray()
        self._is_pressed = False
        path = f"/proc/{pid}/fd/{number}"
        self._process = os.pidfd_open(pid)
        stack.callback(os.close, self._process)
        self.pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, self.pipe)
        # So the process that was opened is the worker, and no later one of the same number.
        if os.stat(path).st_ino != os.fstat(self.pipe).st_ino:
            raise ProcessLookupError

    def has_told(self) -> bool:
        self._read()
        return _OUTERMOST.search(self.answer()) is not None

    def answer(self) -> bytes:
        """The stack, as far as it has come."""
        stacks = [match.end() for match in _WHEN.finditer(self._text) if int(match[1]) >= self.begin]
        if stacks:
            return bytes(self._text[stacks[-1] :])
        return bytes(self._text) if self._is_pressed else b""

    def press(self) -> None:
        """From now on what has no time is an answer as well."""
        self._read()
        self._text.clear()
        self._is_pressed = True
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._process, _core.LINES_SIGNAL)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self._text += os.read(self.pipe, 65536)


def _lines(asked: dict[int, int], begin: int) -> Lines:
    """What the workers say that were asked since then, by their processes."""
    with contextlib.ExitStack() as stack:
        workers = []
        for pid, number in asked.items():
            # One that has ended meanwhile, or may not be looked at, says nothing.
            with contextlib.suppress(OSError):
                workers.append(_Asked(pid, number, begin, stack))
        silent = _hear({worker.pipe: worker for worker in workers}, POLITE_SECONDS)
        for worker in silent.values():
            worker.press()
        _hear(silent, ANSWER_SECONDS)
        return {worker.pid: _parsed(worker.answer()) for worker in workers}


def _hear(workers: dict[int, _Asked], seconds: float) -> dict[int, _Asked]:
    """Those of them that have not told all in this time."""
    silent = dict(workers)
    poll = select.poll()
    for pipe in silent:
        poll.register(pipe, select.POLLIN)
    deadline = time.monotonic() + seconds
    while silent and (left := deadline - time.monotonic()) > 0:
        for pipe, _ in poll.poll(left * 1_000):
            if silent[pipe].has_told():
                poll.unregister(pipe)
                del silent[pipe]
    return silent


def _parsed(text: bytes) -> tuple[Line, ...]:
    """The stack of the last answer, outermost first. None of it may be the user's own, as in a function in C."""
    last = text.rpartition(b"(most recent call first):\n")[2]
    lines = reversed(list(_frames(_FRAME.findall(last))))
    return tuple(line for line in lines if not line.file.startswith(PACKAGE))


def _frames(found: Iterable[tuple[bytes, bytes, bytes]]) -> Iterator[Line]:
    for file, line, function in found:
        if file != b"<string>":
            yield Line(file.decode(errors="replace"), int(line), function.decode(errors="replace"))
