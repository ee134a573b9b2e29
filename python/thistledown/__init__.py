"""Thistledown: "this is a task. Go."

A person using Python says which work is a task, and it runs. ``td.run(main)`` starts the weightless tasks of this
thread, ``td.go(...)`` one more; whatever blocks is an operation, waited for with ``await``, ``yield from`` or
``.wait()``.
"""

from thistledown._core import (
    Channel,
    Operation,
    Scope,
    after,
    current_task,
    go,
    move_on_after,
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
    Cancelled,
    ChannelClosed,
    ChannelEmpty,
    ChannelFull,
    DeadlockError,
    IncompleteReadError,
    LimitOverrunError,
    TaskCancelled,
    ThistledownError,
)
from thistledown._group import TaskGroup
from thistledown._operations import Selected, primed
from thistledown._places import Here, here
from thistledown._run import run
from thistledown._server import Server, serve
from thistledown._sockets import Procedure, Socket, connect, listen
from thistledown._task import Task

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "DeadlockError",
    "Here",
    "IncompleteReadError",
    "LimitOverrunError",
    "Operation",
    "Procedure",
    "Scope",
    "Selected",
    "Server",
    "Socket",
    "Task",
    "TaskCancelled",
    "TaskGroup",
    "ThistledownError",
    "after",
    "connect",
    "current_task",
    "go",
    "here",
    "listen",
    "move_on_after",
    "primed",
    "readable",
    "run",
    "select",
    "serve",
    "shield",
    "sleep",
    "switch",
    "thread",
    "timeout",
    "writable",
]

for _name in __all__:
    # Public names have one home, whichever file they are written in.
    if hasattr(globals()[_name], "__qualname__"):
        globals()[_name].__module__ = __name__
del _name
