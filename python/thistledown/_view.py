"""A running program as data, for ``thistledown top``: what is asked comes as a line of JSON, and so does the answer.

Made of the same tree and numbers that ``td.tree()`` and ``td.statistics()`` give, in a thread of the window, so no
thread is started for it and nothing is kept, but one thing: while somebody looks, pools remember which tasks their
workers have ended, for the timeline. That ends by itself, some seconds after the last question.

Requests: ``{"view": {"limit": 1000, "after": 0}}``, ``{"open": ID}``, ``{"cancel": ID}``, ``{"kill": ID}``.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from thistledown import _core, _seen
from thistledown._statistics import statistics
from thistledown._tree import Node, Tree, tree
from thistledown._view_messages import actors, channels

__all__ = ["VERSION", "answer"]

VERSION = 2
"""Of what is answered; a viewer that knows another one says so."""

LIMIT = 1_000
"""Tasks that are named; more are counted."""

KEEP_SECONDS = 15.0
"""For how long what workers have ended is remembered, after each question."""

Row = dict[str, Any]


def answer(request: str) -> str:
    """Answers one question, in JSON. What is no question is answered with an error."""
    try:
        asked = json.loads(request)
        [(what, about)] = asked.items()
        told = _ANSWERS[what](about)
    except Exception as error:
        # Whatever is sent, who asked is told: no answer at all would read as if the program were stuck.
        told = {"error": f"no question that is known here: {error!r}"}
    return json.dumps(told) + "\n"


def _view(about: Row) -> Row:
    began = time.monotonic()
    limit = min(int(about.get("limit", LIMIT)), 10_000)
    seen = tree(limit)
    now = time.monotonic()
    tasks, unlisted = _tasks(seen, limit)
    return {
        "version": VERSION,
        "pid": seen.pid,
        "program": seen.program,
        "time": now,
        "took": now - began,
        "statistics": statistics().as_dict(),
        "tasks": tasks,
        "unlisted": unlisted,
        "workers": _workers(seen),
        "pools": [{"name": pool.name, "state": pool.state} for pool in seen.of_kind("pool")],
        "runs": [{"name": run.name, "state": run.state} for run in seen.of_kind("run")],
        "threads": [_row(thread, "thread") for thread in seen.of_kind("thread")],
        "channels": channels(seen),
        "actors": actors(seen),
        "failures": [_dated(failure, now) for failure in list(_seen.failures)],
        "stalls": [_dated(stall, now) for stall in list(_seen.stalls)],
        "spans": _spans(float(about.get("after", 0))),
    }


def _tasks(seen: Tree, limit: int) -> tuple[list[Row], int]:
    rows: list[Row] = []
    unlisted = 0
    for top in seen.children:
        unlisted += top.unlisted
        for node, place, depth in _walk(top):
            if node.kind == "task" and len(rows) < limit:
                rows.append({**_row(node, place), "depth": depth})
            elif node.kind == "task":
                unlisted += 1
    return rows, unlisted


def _walk(top: Node) -> Iterator[tuple[Node, str, int]]:
    """Everything in a run, a pool or a thread, with the words for its place, and how deep in the family it stands."""
    ahead = [(top, top.name, 0)]
    while ahead:
        node, place, depth = ahead.pop()
        if node.kind == "worker":
            place = node.name
        yield node, place, depth
        inner = depth + (node.kind == "task")
        ahead.extend((child, place, inner) for child in reversed(node.children))


def _row(node: Node, place: str) -> Row:
    return {
        "id": node.id,
        "name": node.name,
        "place": place,
        "state": node.state,
        "since": node.since,
        "waits_for": node.waits_for,
        "where": None if node.where is None else str(node.where),
    }


def _workers(seen: Tree) -> list[Row]:
    rows = []
    for number, pool in enumerate(seen.of_kind("pool")):
        for worker in (node for node in pool.children if node.kind == "worker"):
            tasks = [node for node in worker.children if node.kind == "task"]
            running = next((task for task in tasks if task.since is not None), None)
            rows.append(
                {
                    "id": worker.id,
                    "pid": int(worker.id.rpartition(" ")[2]) if worker.id else None,
                    "pool": number,
                    "state": worker.state,
                    "since": worker.since,
                    "task": running.name if running else tasks[0].name if tasks else None,
                    "where": str(running.where) if running and running.where else None,
                    "tasks": len(tasks),
                }
            )
    return rows


def _dated(noted: Any, now: float) -> Row:
    row = {name: getattr(noted, name) for name in noted.__slots__}
    row["ago"] = now - row.pop("moment")
    return row


def _spans(after: float) -> list[Row]:
    """What workers have ended after a moment of the program's clock, that of a former answer."""
    known = _core.spans(max(0, int(after * 1e9)), KEEP_SECONDS)
    return [
        {"pid": pid, "name": name, "ended": ended / 1e9, "took": took / 1e9, "failed": failed}
        for pid, name, ended, took, failed in known
    ]


# --- one of them ------------------------------------------------------------------------------------------------


def _open(about: str) -> Row:
    """One task, or worker: its family and its stack in words."""
    seen = tree(10_000)
    node = _find(seen, about)
    if node is None:
        return {"error": "it has ended"}
    on = [str(other) for name in node.waits_on for other in seen.nodes() if other.name == name][:5]
    return {"name": node.name, "text": str(node), "waits_on": on}


def _find(seen: Tree, about: str) -> Node | None:
    return next((node for node in seen.nodes() if node.id and node.id == about), None)


def _cancel(about: str) -> Row:
    kind, _, name = about.partition(" ")
    if kind == "here":
        return _done(_core.cancel_party(int(name)), "it is told to end, at its wait")
    if kind == "job":
        number, _, name = name.partition(" ")
        return _done(_core.cancel_job(name, int(number)), "it is told to end, and killed if it does not in time")
    if kind == "asyncio":
        return _done(_cancel_of_asyncio(int(name)), "it is told to end, by asyncio")
    return {"error": "only a task can be cancelled"}


def _kill(about: str) -> Row:
    """Kills the worker that runs a task, or a worker."""
    kind, _, name = about.partition(" ")
    if kind == "job":
        number, _, name = name.partition(" ")
        if _core.kill_job(name, int(number)):
            return {"done": "its worker was killed, and another one takes its place"}
        return {"error": "it does not run in a worker of its own now: cancel it"}
    if kind == "worker":
        if not any(str(pid) == name for pool in statistics().pools for pid in pool.processes):
            return {"error": "it has ended"}
        os.kill(int(name), signal.SIGKILL)
        return {"done": "it was killed, and another one takes its place"}
    return {"error": "a weightless task has no process of its own that could be killed: cancel it"}


def _done(is_done: bool, words: str) -> Row:
    return {"done": words} if is_done else {"error": "it has ended"}


def _cancel_of_asyncio(number: int) -> bool:
    runs, _ = _core.survey(0, [])
    for _, _, event_loop, _, _ in runs:
        if event_loop is None:
            continue
        for task in asyncio.all_tasks(event_loop):
            if id(task) == number:
                event_loop.call_soon_threadsafe(task.cancel)
                return True
    return False


_ANSWERS: dict[str, Callable[[Any], Row]] = {"view": _view, "open": _open, "cancel": _cancel, "kill": _kill}
"""What can be asked."""
