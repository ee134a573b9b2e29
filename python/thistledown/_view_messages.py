"""Actors and channels as data, for a live view: who has how much in his mailbox, what he does, and what lies where.

Made when somebody asks, of what the engine knows anyway. What is named is named by its class: an actor that nobody has
asked for its name has none, and gets none here.
"""

import sys
from collections.abc import Iterator
from typing import Any

from thistledown import _core
from thistledown._lines import lines_of_body, own
from thistledown._tree import Node, Tree, channel_state, thread_name

__all__ = ["ACTORS", "actors", "channels"]

ACTORS = 200
"""Actors of each kind that are listed, those with the most messages first; more are counted."""

Row = dict[str, Any]


def actors(seen: Tree) -> list[Row]:
    """The actors of this program, those with the most messages first."""
    known = {node.id: node for node in seen.nodes() if node.id}
    rows = [*_weightless(known), *_in_workers(known)]
    return sorted(rows, key=lambda row: (-row["mailbox"], row["name"]))


def _weightless(known: dict[str, Node]) -> Iterator[Row]:
    for owner, extra, thread, mailbox, limit, task in _core.survey_actors(ACTORS):
        owner = owner or getattr(extra, "owner", None)
        kind = getattr(owner, "__qualname__", "?")
        given = getattr(extra, "name", None) or (extra.number and f"{kind}-{extra.number[1]}" if extra else None)
        row: Row = {
            "id": "",
            "name": given or kind,
            "class": kind,
            "place": f"thread {thread_name(thread)}",
            "state": "idle",
            "mailbox": mailbox,
            "limit": limit,
            "done": None,
            "runs": None,
            "since": None,
            "waits_for": None,
            "where": None,
        }
        if task is not None:
            _, message, body, state, since, waits_for, _, is_cancelled, _, number = task
            row["id"] = f"here {number}"
            row["runs"] = None if message is None else message.name
            row["state"] = f"{state}, cancelled" if is_cancelled else state
            row["since"], row["waits_for"] = since, waits_for
            # A task that has its turn has its lines with its thread, where the tree has looked.
            node = known.get(row["id"])
            lines = own(lines_of_body(body)) if body is not None else ()
            where = node.where if node is not None else lines[-1] if lines else None
            row["where"] = None if where is None else str(where)
        yield row


def _in_workers(known: dict[str, Node]) -> Iterator[Row]:
    boxes = sys.modules.get("thistledown._boxes_workers")
    if boxes is None:
        return
    for number, name, state, pid, is_alone, mailbox, limit, done, first in _core.survey_actors_in_workers(ACTORS):
        box = boxes.box_of(number)
        worker = "a worker not born yet" if pid is None else f"worker {pid}"
        row: Row = {
            "id": "",
            "name": name,
            "class": None if box is None else box.owner.__qualname__,
            "place": f"{worker} of its own" if is_alone else worker,
            "state": state,
            "mailbox": mailbox,
            "limit": limit,
            "done": done,
            "runs": None,
            "since": None,
            "waits_for": None,
            "where": None,
        }
        if first is not None:
            called, since, waits_for, job = first
            row["id"], row["runs"], row["since"] = f"job {job} {called}", called, since
            if state == "busy" and waits_for is not None:
                row["state"], row["waits_for"] = "waiting", f"the end of task {waits_for}"
            elif state == "busy" and since is not None:
                row["state"] = "running"
            node = known.get(row["id"])
            row["where"] = str(node.where) if node is not None and node.where is not None else None
        yield row


def channels(seen: Tree) -> list[Row]:
    """The channels at which somebody waits, and those that are shared with other processes."""
    rows = {node.name: {"name": node.name, "state": node.state, "shared": False} for node in seen.of_kind("channel")}
    for name, is_closed, length, capacity in _core.shared_channels():
        rows[name] = {"name": name, "state": channel_state(is_closed, length, capacity), "shared": True}
    return list(rows.values())
