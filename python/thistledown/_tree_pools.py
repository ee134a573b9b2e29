"""Pools of worker processes in a ``Tree``: what each worker does, which task it runs, and at which line it stands.

A worker tells its line itself, also when it is inside of a call in C: it has a handler, ``faulthandler``'s, that writes
the stack of its main thread to a pipe of its own. The engine sends the signal, and what comes is read here.
"""

import contextlib
import os
import re
import select
import time
from collections.abc import Iterable, Iterator
from typing import Any

from thistledown import _core
from thistledown._lines import PACKAGE, Line
from thistledown._tree import Node

__all__ = ["cancel", "pools"]

ANSWER_SECONDS = 0.5
"""How long workers have to say at which lines they stand; those that have not by then stand at no known line."""

LISTED = 1_000
"""Tasks that wait for a worker of one pool, and are named; more are counted."""

_FRAME = re.compile(rb'^  File "(.*)", line (\d+) in (.*)$', re.MULTILINE)
_OUTERMOST = re.compile(rb'^(  File "<string>", line \d+ in <module>|  \.\.\.)\n', re.MULTILINE)
"""The last line of a stack: where the program of the zygote stands, or that there is more."""


def pools() -> tuple[Node, ...]:
    """The pools of this process."""
    surveyed = _core.survey_pools(LISTED)
    workers = [worker for pool in surveyed for worker in pool[2]]
    asked = {pid: lines for pid, _, lines, _, _ in workers if pid is not None and lines is not None}
    lines = _lines(asked) if asked else {}
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


def _lines(asked: dict[int, int]) -> Lines:
    """What the workers say that were asked, by their processes."""
    with contextlib.ExitStack() as stack:
        poll = select.poll()
        told: dict[int, tuple[int, bytearray]] = {}
        for pid, number in asked.items():
            # One that has ended meanwhile, or may not be looked at, says nothing.
            with contextlib.suppress(OSError):
                pipe = os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, pipe)
                told[pipe] = pid, bytearray()
                poll.register(pipe, select.POLLIN)
        _hear(poll, told)
    return {pid: _parsed(bytes(text)) for pid, text in told.values()}


def _hear(poll: select.poll, told: dict[int, tuple[int, bytearray]]) -> None:
    left = set(told)
    deadline = time.monotonic() + ANSWER_SECONDS
    while left and (seconds := deadline - time.monotonic()) > 0:
        for pipe, _ in poll.poll(seconds * 1_000):
            text = told[pipe][1]
            with contextlib.suppress(OSError):
                text += os.read(pipe, 65536)
            if _OUTERMOST.search(text):
                poll.unregister(pipe)
                left.discard(pipe)


def _parsed(text: bytes) -> tuple[Line, ...]:
    """The stack of the last answer, outermost first: an earlier one may still have been there. None of it may be the
    user's own, as in a function in C."""
    last = text.rpartition(b"(most recent call first):\n")[2]
    lines = reversed(list(_frames(_FRAME.findall(last))))
    return tuple(line for line in lines if not line.file.startswith(PACKAGE))


def _frames(found: Iterable[tuple[bytes, bytes, bytes]]) -> Iterator[Line]:
    for file, line, function in found:
        if file != b"<string>":
            yield Line(file.decode(errors="replace"), int(line), function.decode(errors="replace"))
