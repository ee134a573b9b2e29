"""How tasks, pools and groups show themselves in a notebook: as HTML, when a cell ends with one.

Nothing is waited for, and nothing is asked for by it: an error that is shown has not been seen by the program.
"""

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thistledown._group import TaskGroup
    from thistledown._pool import Workers
    from thistledown._task import Task

__all__ = ["of_group", "of_pool", "of_task"]

LISTED = 20
"""Tasks of a group, or workers of a pool, that are shown; more are counted."""

LONGEST = 500
"""Characters of an error's words."""

COLOURS = {"running": "#1565c0", "done": "#2e7d32", "failed": "#c62828", "cancelled": "#757575", "open": "#2e7d32"}


def of_task(task: "Task[Any]") -> str:
    """A task: its name, its place, how it stands, and what it failed with."""
    state = _state(task)
    rows = [("task", escape(task.name)), ("place", _place(task)), ("state", _badge(state))]
    if state == "failed":
        rows.append(("error", _code(_error(task))))
    return _table(rows)


def of_pool(pool: "Workers") -> str:
    """A pool: what its workers do."""
    known = pool.statistics()
    head = [("pool", f"{pool._max_workers} worker{'' if pool._max_workers == 1 else 's'}")]
    if "processes" not in known:
        return _table([*head, ("state", "the pool of the program that this worker works for")])
    ended, died = known["replied"], known["died"]
    state = "open" if pool._pool.takes_tasks() else "closed"
    rows = [
        *head,
        ("state", _badge(state)),
        (
            "tasks",
            f"{known['queued']} queued, {known['offered']} with workers, {ended} ended, {known['retried']} retried",
        ),
        ("workers", f"{known['busy']} busy, {known['waiting']} waiting, {known['idle']} idle, {died} died"),
    ]
    return _table(rows) + _listed([f"worker {pid}" for pid in known["processes"]], len(known["processes"]))


def of_group(group: "TaskGroup") -> str:
    """A group: how many tasks live in it, and which."""
    if group._over:
        return _table([("group", _badge("done"))])
    try:
        count, here = group._scope.seen_tasks(LISTED)
    except RuntimeError:
        return _table([("group", "not entered yet: write <code>async with td.TaskGroup() as group:</code>")])
    elsewhere = [task for task in list(group._elsewhere) if not task.done()]
    state = "cancelled" if group._scope.cancelled else "open"
    known = [f"{escape(task.name)} {_badge(_state(task))}" for task in [*here, *elsewhere]]
    rows = [("group", _badge(state)), ("tasks", str(count)), ("failed", str(len(group._errors)))]
    return _table(rows) + _listed(known, count)


def _state(task: "Task[Any]") -> str:
    if not task.done():
        return "running" if task.running() else "queued"
    if task.cancelled():
        return "cancelled"
    return "failed" if task._has_failed() else "done"


def _place(task: "Task[Any]") -> str:
    return "a worker process" if task._in_process else "this process"


def _error(task: "Task[Any]") -> str:
    error = task._failure()
    if error is None:
        return ""
    try:
        words = f"{type(error).__name__}: {error}"
    except Exception:
        words = type(error).__name__
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}..."


def _badge(state: str) -> str:
    colour = COLOURS.get(state, "#616161")
    style = f"background:{colour};color:#fff;border-radius:3px;padding:0 6px"
    return f'<span style="{style}">{escape(state)}</span>'


def _code(text: str) -> str:
    return f'<code style="white-space:pre-wrap">{escape(text)}</code>'


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(
        f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{value}</td></tr>'
        for name, value in rows
    )
    return f'<table class="thistledown">{cells}</table>'


def _listed(items: list[str], count: int) -> str:
    more = [f"and {count - len(items[:LISTED])} more"] if count > len(items[:LISTED]) else []
    shown = "".join(f"<li>{item}</li>" for item in [*items[:LISTED], *more])
    return f"<ul>{shown}</ul>" if shown else ""
