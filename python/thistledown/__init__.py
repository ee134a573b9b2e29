"""Thistledown: "this is a task. Go."

A person using Python says which work is a task, and it runs. ``td.run(main)`` starts the weightless tasks of this
thread, ``td.go(...)`` one more; whatever blocks is an operation, waited for with ``await``, ``yield from`` or
``.wait()``.
"""

import sys
from typing import TYPE_CHECKING, Any

from thistledown import _lifetime as _lifetime
from thistledown import _module as _module
from thistledown._core import (
    Channel,
    Claim,
    Operation,
    Runner,
    Scope,
    Space,
    Transaction,
    Watch,
    after,
    between,
    current_runner,
    current_task,
    go,
    move_on_after,
    one_of,
    readable,
    select,
    shield,
    sleep,
    switch,
    thread,
    timeout,
    writable,
)
from thistledown._errors import (
    ActorDied,
    ActorStopped,
    Cancelled,
    ChannelBroken,
    ChannelClosed,
    ChannelEmpty,
    ChannelFull,
    ChildFailed,
    DeadlockError,
    IncompleteReadError,
    LeaseExpired,
    LimitOverrunError,
    MailboxFull,
    NotPicklable,
    RemoteError,
    SpaceBroken,
    SpaceDamaged,
    ThistledownError,
    WatchLagged,
)
from thistledown._operations import Selected, primed

if TYPE_CHECKING:
    from thistledown._actors import Actor, actor
    from thistledown._children import Child, child
    from thistledown._collect import AsCompleted, as_completed, wait
    from thistledown._crew import WorkerProcess
    from thistledown._deathwatch import Down, Link, link, monitor
    from thistledown._decorator import TaskFunction, task
    from thistledown._errors import MemoryLimitExceeded, TaskCancelled, WorkerDied, WorkersBroken
    from thistledown._gathering import AsyncResults
    from thistledown._group import TaskGroup
    from thistledown._map import Results
    from thistledown._places import Here, here
    from thistledown._pool import Workers
    from thistledown._run import run
    from thistledown._server import Server, serve
    from thistledown._shared import Shared, share
    from thistledown._sockets import Procedure, Socket, connect, listen
    from thistledown._statistics import Counts, MessageCounts, PoolCounts, Statistics, statistics
    from thistledown._supervisors import ChildState, Supervisor
    from thistledown._task import Task
    from thistledown._tree import Line, Node, Tree, tree
    from thistledown._verbs import Place
    from thistledown._workers import map, workers

__version__ = "0.1.0"

__all__ = [
    "Actor",
    "ActorDied",
    "ActorStopped",
    "AsCompleted",
    "AsyncResults",
    "Cancelled",
    "Channel",
    "ChannelBroken",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "Child",
    "ChildFailed",
    "ChildState",
    "Claim",
    "Counts",
    "DeadlockError",
    "Down",
    "Here",
    "IncompleteReadError",
    "LeaseExpired",
    "LimitOverrunError",
    "Line",
    "Link",
    "MailboxFull",
    "MemoryLimitExceeded",
    "MessageCounts",
    "Node",
    "NotPicklable",
    "Operation",
    "Place",
    "PoolCounts",
    "Procedure",
    "RemoteError",
    "Results",
    "Runner",
    "Scope",
    "Selected",
    "Server",
    "Shared",
    "Socket",
    "Space",
    "SpaceBroken",
    "SpaceDamaged",
    "Statistics",
    "Supervisor",
    "Task",
    "TaskCancelled",
    "TaskFunction",
    "TaskGroup",
    "ThistledownError",
    "Transaction",
    "Tree",
    "Watch",
    "WatchLagged",
    "WorkerDied",
    "WorkerProcess",
    "Workers",
    "WorkersBroken",
    "actor",
    "after",
    "as_completed",
    "between",
    "child",
    "connect",
    "current_runner",
    "current_task",
    "go",
    "here",
    "link",
    "listen",
    "map",
    "monitor",
    "move_on_after",
    "one_of",
    "primed",
    "readable",
    "run",
    "select",
    "serve",
    "share",
    "shield",
    "sleep",
    "statistics",
    "switch",
    "task",
    "thread",
    "timeout",
    "tree",
    "wait",
    "workers",
    "writable",
]

# What takes long to import, and is not needed by every program, is imported when it is asked for first. So is what
# needs the class of tasks: `concurrent.futures`, of which that is made, takes as long as all of the rest, for it logs.
_LATER = {
    "Actor": "_actors",
    "AsCompleted": "_collect",
    "AsyncResults": "_gathering",
    "Child": "_children",
    "ChildState": "_supervisors",
    "Counts": "_statistics",
    "Down": "_deathwatch",
    "Here": "_places",
    "Line": "_tree",
    "Link": "_deathwatch",
    "MemoryLimitExceeded": "_deaths",
    "MessageCounts": "_statistics",
    "Node": "_tree",
    "Place": "_verbs",
    "PoolCounts": "_statistics",
    "Procedure": "_sockets",
    "Results": "_map",
    "Server": "_server",
    "Shared": "_shared",
    "Socket": "_sockets",
    "Statistics": "_statistics",
    "Supervisor": "_supervisors",
    "Task": "_task",
    "TaskCancelled": "_task",
    "TaskFunction": "_decorator",
    "TaskGroup": "_group",
    "Tree": "_tree",
    "WorkerDied": "_deaths",
    "WorkerProcess": "_crew",
    "Workers": "_pool",
    "WorkersBroken": "_deaths",
    "actor": "_actors",
    "as_completed": "_collect",
    "child": "_children",
    "connect": "_sockets",
    "here": "_places",
    "link": "_deathwatch",
    "listen": "_sockets",
    "map": "_workers",
    "monitor": "_deathwatch",
    "run": "_run",
    "serve": "_server",
    "share": "_shared",
    "statistics": "_statistics",
    "task": "_decorator",
    "tree": "_tree",
    "wait": "_collect",
    "workers": "_workers",
}


def _at_home(value: Any) -> Any:
    """Public names have one home, whichever file they are written in."""
    if hasattr(value, "__qualname__"):
        value.__module__ = __name__
    return value


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module = importlib.import_module(f"{__name__}.{_LATER[name]}")
    for other in (other for other, place in _LATER.items() if place == _LATER[name]):
        globals()[other] = _at_home(getattr(module, other))
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "sys"})


for _name in __all__:
    if _name not in _LATER:
        _at_home(globals()[_name])
del _name

sys.modules[__name__].__class__ = _module.Package
