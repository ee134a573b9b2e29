"""``td.tree``: who waits for what, since when, and at which line, as data and in words.

One graph over runs, groups, tasks, plain threads, channels and worker processes. It is made when somebody asks, from
what the engine and the interpreter know anyway, so it costs nothing while nobody does.
"""

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from thistledown import _core
from thistledown._lines import PACKAGE, Line, lines_of_body, lines_of_thread, own

if TYPE_CHECKING:
    from thistledown import _tree_asyncio
    from thistledown._group import TaskGroup

__all__ = ["LIMIT", "Line", "Node", "Tree", "channel_state", "thread_name", "tree"]

LIMIT = 10_000
"""Tasks and groups of one run that a tree names; more are counted."""

RUN_FILE = f"{PACKAGE}_run.py"
"""The frames above this file's are those of the task that has its turn."""

Kind = Literal["run", "group", "task", "thread", "channel", "pool", "worker", "actor", "supervisor", "child"]


@dataclass(frozen=True, slots=True)
class Node:
    """Somebody who runs or waits, or what holds such: a part of a ``Tree``.

    Attributes:
        kind: ``run`` (also of an asyncio loop that uses the package), ``group``, ``task`` (weightless, or the loop's),
            ``thread``, ``channel``, ``pool``, ``worker``, ``actor``, or ``supervisor`` and, in that, ``child``. A group
            of plain code stands in its thread. What a child runs stands where it runs, too.
        name: of a task its name, of a thread too; else what people call it, as ``worker 4711``.
        state: ``waiting``, ``ready``, ``running``; ``cancelled`` when it was told to end; of a group's task that runs
            elsewhere where that is (``in worker 4711``, ``in a helper thread``) or ``queued``; of a worker ``idle``,
            ``busy``, ``waiting``, ``starting`` or ``leaving``; of a channel ``open`` or ``closed``; of a child what it
            is, whether it runs, and how many times it was restarted.
        waits_for: the operation in words; None when it does not wait.
        waits_on: the names of the tasks and channels that it waits for, as far as they have one.
        since: seconds that this has lasted; None when that is not known. Of a task's wait it is exact to the turn in
            which the wait began.
        where: the innermost line of the user's own; None when there is none, or it is not known.
        lines: the await chain of a suspended body, or the stack of what runs: the outermost first.
        children: what is in it.
        unlisted: how many more are in it, which are not named.
        id: tells it from all others of its program while it lives, for ``thistledown top``; empty when it needs none.
    """

    kind: Kind
    name: str
    state: str
    waits_for: str | None = None
    waits_on: tuple[str, ...] = ()
    since: float | None = None
    where: Line | None = None
    lines: tuple[Line, ...] = field(default=(), repr=False)
    children: tuple["Node", ...] = field(default=(), repr=False)
    unlisted: int = 0
    id: str = field(default="", repr=False)

    def __str__(self) -> str:
        from thistledown import _tree_words

        return _tree_words.of_nodes((self,))

    def nodes(self) -> Iterator["Node"]:
        """This one and all that are in it, each before its own."""
        ahead = [self]
        while ahead:
            node = ahead.pop()
            yield node
            ahead.extend(reversed(node.children))


@dataclass(frozen=True, slots=True)
class Tree:
    """How a program stands: made by ``td.tree()``, printed by ``print(td.tree())``.

    Attributes:
        pid: of the process.
        program: how it was started.
        children: its runs, pools, threads, channels and supervisors, in this order.
    """

    pid: int
    program: str
    children: tuple[Node, ...]

    def nodes(self) -> Iterator[Node]:
        """Everything in it, each before what is in it."""
        for child in self.children:
            yield from child.nodes()

    def of_kind(self, kind: Kind) -> tuple[Node, ...]:
        """The nodes of one kind, wherever they stand.

        Args:
            kind: as of ``Node.kind``.
        """
        return tuple(node for node in self.nodes() if node.kind == kind)

    def find(self, name: str) -> Node:
        """The first node of this name.

        Args:
            name: of a task, an actor, a channel, a supervisor, or what else is in the tree.

        Raises:
            LookupError: there is none.
        """
        for node in self.nodes():
            if node.name == name:
                return node
        raise LookupError(f"there is no {name!r} in the tree")

    def __str__(self) -> str:
        from thistledown import _tree_words

        return _tree_words.of_tree(self)


def tree(limit: int = LIMIT) -> Tree:
    """How this program stands: who waits for what, since when, and at which line.

    Can be called anywhere and at any time: in a task, in a thread, in a debugger, in a signal's handler. The same is
    printed by ``thistledown tree PID`` from outside. It is a picture of one moment, and not of the very same moment in
    all threads: what runs goes on while it is taken.

    Args:
        limit: tasks and groups of one run that are named; more are counted.

    Returns:
        A ``Tree``, whose ``str`` is for people.
    """
    channels: dict[int, tuple[str, Any]] = {}
    groups = _groups()
    members = [task for group in groups for task in list(group._elsewhere)]
    surveyed, sleepers = _core.survey(max(0, limit), members)
    # Only a program that uses worker processes has it imported.
    pools = _pools() if "thistledown._pool" in sys.modules else ()
    places = _places(pools) if groups else {}
    runs = tuple(_run(run, channels, places) for run in surveyed)
    threads = tuple(_threads({run[0] for run in surveyed}, sleepers, channels, _plain_groups(groups, places)))
    awaited = tuple(_channel(name, channel) for name, channel in channels.values())
    program = " ".join(getattr(sys, "argv", None) or [sys.executable or "python"])
    supervisors = _supervisors() if "thistledown._supervisors" in sys.modules else ()
    return Tree(os.getpid(), program, runs + pools + threads + awaited + supervisors)


def _pools() -> tuple[Node, ...]:
    from thistledown import _tree_pools

    return _tree_pools.pools()


def _supervisors() -> tuple[Node, ...]:
    from thistledown import _tree_supervisors

    return _tree_supervisors.supervisors()


# --- groups with tasks that run elsewhere -----------------------------------------------------------------------

Places = dict[str, str]
"""Where the pools' tasks are, by their names."""


def _groups() -> "list[TaskGroup]":
    group = sys.modules.get("thistledown._group")
    return [] if group is None else group.holding()


def _places(pools: tuple[Node, ...]) -> Places:
    places: Places = {}
    for pool in pools:
        for child in pool.children:
            if child.kind == "worker":
                places.update((task.name, f"in {child.name}") for task in child.children)
            else:
                places[child.name] = child.state
    return places


def _plain_groups(groups: "list[TaskGroup]", places: Places) -> dict[int, tuple[Node, ...]]:
    """The groups of plain code, by the numbers of their threads, the outermost first."""
    found: dict[int, tuple[Node, ...]] = {}
    for group in groups:
        members = [task for task in list(group._elsewhere) if not task.done()]
        if group._owner is None or not members or group._over:
            continue
        is_cancelled = group._scope.cancelled
        tasks = tuple(_elsewhere(task, is_cancelled, places) for task in members)
        found[group._owner] = (*found.get(group._owner, ()), _group(is_cancelled, tasks))
    return found


def _group(is_cancelled: bool, children: tuple[Node, ...]) -> Node:
    return Node("group", "group", "cancelled" if is_cancelled else "open", children=children)


def _elsewhere(task: Any, is_cancelled: bool, places: Places) -> Node:
    """A member of a group whose body runs in a thread or in another process. Its lines stand there."""
    if task is None:
        # It has ended, or is about to be taken in.
        name, state = "a task", "elsewhere"
    elif task._in_process:
        name, state = task.name, places.get(task.name, "in a worker process")
    else:
        from thistledown import _threads

        name, state = task.name, "queued" if _threads.is_queued(task) else "in a helper thread"
    return Node("task", name, f"{state}, cancelled" if is_cancelled else state)


# --- runs, with their groups and tasks --------------------------------------------------------------------------

Target = tuple[str, Any]


def _run(surveyed: Any, channels: dict[int, Target], places: Places) -> Node:
    thread, is_virtual, event_loop, count, rows = surveyed
    loop = None if event_loop is None else _loop(event_loop, thread)
    children: list[list[Node]] = [[] for _ in rows]
    top: list[Node] = []
    # Each row stands behind what it is in, so that from behind what is in it is complete.
    for number in reversed(range(len(rows))):
        inside, behind = rows[number][0], tuple(reversed(children[number]))
        _, task, _, state, _, _, _, is_cancelled, _, _ = rows[number]
        node: Node | None
        if _rests(rows[number]):
            # A supervisor's own task, which people know by the supervisor. What it has started stands in its place.
            inner = tuple(each for child in behind for each in (child.children if child.kind == "group" else (child,)))
            (top if inside is None else children[inside]).extend(reversed(inner))
            continue
        if state == "group":
            node = _group(is_cancelled, behind)
        elif state == "elsewhere":
            node = _elsewhere(task, is_cancelled, places)
        elif loop is None:
            node = _row(rows[number], thread, behind, channels)
        else:
            node = _lodger(rows[number], loop, behind, channels)
        if node is not None:
            (top if inside is None else children[inside]).append(node)
    named = sum(row[3] != "group" for row in rows)
    nodes = tuple(reversed(top))
    is_running = (loop is not None and loop.is_running()) or any(
        child.state.startswith("running") for node in nodes for child in node.nodes()
    )
    name = f"{'run' if loop is None else loop.name} in thread {thread_name(thread)}"
    name += ", on a virtual clock" if is_virtual else ""
    return Node("run", name, "running" if is_running else "waiting", children=nodes, unlisted=max(0, count - named))


_NOWHERE = object()


def _rests(row: Any) -> bool:
    """Whether it is a supervisor's own task, with nothing to do or about to look what there is."""
    _, task, _, state, _, _, targets, _, _, _ = row
    at = getattr(task, "_rests_at", _NOWHERE)
    return at is not _NOWHERE and (at is None or state == "ready" or [what for _, what in targets] == [at])


def _loop(event_loop: Any, thread: int) -> "_tree_asyncio.Loop":
    from thistledown import _tree_asyncio

    return _tree_asyncio.Loop(event_loop, thread)


def _row(row: Any, thread: int, children: tuple[Node, ...], channels: dict[int, Target]) -> Node:
    _, task, body, state, since, waits_for, targets, is_cancelled, _, number = row
    lines = own(lines_of_thread(thread, above=RUN_FILE)) if state == "running" else lines_of_body(body)
    name = "a task" if task is None else task.name
    known = f"here {number}"
    return _task(name, state, is_cancelled, since, waits_for, _names(targets, channels), lines, children, known)


def _lodger(
    row: Any, loop: "_tree_asyncio.Loop", children: tuple[Node, ...], channels: dict[int, Target]
) -> Node | None:
    """One that lives in an asyncio loop: of ours, or of asyncio's. None: it only keeps the others."""
    _, task, body, state, since, waits_for, targets, is_cancelled, future, number = row
    known = f"here {number}"
    if state == "visits":
        task = loop.task_of(task, future)
        if loop.is_own(task):
            return None
        known = "" if task is None else f"asyncio {id(task)}"
        name = "a task" if task is None else task.get_name()
        state, lines = loop.state(task), loop.lines(task)
        if waits_for is None:
            since = None
            waits_for, targets = loop.awaited(loop.future_of(task))
    else:
        name = "a task" if task is None else task.name
        lines = loop.lines_of_current() if state == "running" else lines_of_body(body)
        if waits_for is None:
            waits_for, targets = loop.awaited(future)
    return _task(name, state, is_cancelled, since, waits_for, _names(targets, channels), lines, children, known)


def _task(
    name: str,
    state: str,
    is_cancelled: bool,
    since: float | None,
    waits_for: str | None,
    waits_on: tuple[str, ...],
    lines: tuple[Line, ...],
    children: tuple[Node, ...],
    known: str,
) -> Node:
    state = f"{state}, cancelled" if is_cancelled else state
    where = _innermost(lines)
    return Node("task", name, state, waits_for, waits_on, since, where, lines, children, id=known)


def _innermost(lines: tuple[Line, ...]) -> Line | None:
    return own(lines)[-1] if lines else None


def _names(targets: list[Target], channels: dict[int, Target]) -> tuple[str, ...]:
    for name, what in targets:
        if isinstance(what, _core.Channel):
            channels[id(what)] = name, what
    return tuple(name for name, _ in targets)


def _channel(name: str, channel: Any) -> Node:
    is_closed, length = channel._seen()
    return Node("channel", name, channel_state(is_closed, length, channel.capacity))


def channel_state(is_closed: bool, length: int | None, capacity: int) -> str:
    """A channel in words. How much lies in one of another process is not known here, and nobody is asked for it."""
    state = "closed" if is_closed else "open"
    return f"{state}, capacity {capacity}" if length is None else f"{state}, {length} of {capacity} taken"


# --- threads ----------------------------------------------------------------------------------------------------


def thread_name(number: int) -> str:
    """What people call a thread."""
    for thread in threading.enumerate():
        if thread.ident == number:
            return thread.name
    return str(number)


def _threads(
    running: set[int], sleepers: list[Any], channels: dict[int, Target], groups: dict[int, tuple[Node, ...]]
) -> Iterator[Node]:
    """Every thread of Python's but those of the engine that rest."""
    asleep = {thread: (waits_for, targets, since) for thread, waits_for, targets, since in sleepers}
    for thread in threading.enumerate():
        number = thread.ident
        if number is None:
            continue
        lines, held = lines_of_thread(number), groups.get(number, ())
        if number in asleep:
            waits_for, targets, since = asleep[number]
            names = _names(targets, channels)
            yield Node("thread", thread.name, "waiting", waits_for, names, since, _innermost(lines), own(lines), held)
        elif not (thread.name.startswith("thistledown-") and lines and lines[-1].file.startswith((PACKAGE, _QUEUE))):
            state = "in a run" if number in running else "running"
            yield Node("thread", thread.name, state, where=_innermost(lines), lines=own(lines), children=held)


_QUEUE = os.path.dirname(threading.__file__) + os.sep + "threading.py"
