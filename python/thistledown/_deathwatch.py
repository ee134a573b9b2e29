"""Deaths noticed: monitors, which tell of an end, and links, by which one end brings another.

The rules are those of Erlang's reference manual (Processes: Links; Error Handling; Monitors), for tasks, actors and
worker processes. Two differ, for here an end is remembered: who asks for the end of one that is dead already hears how
it ended, where Erlang says ``noproc``; and a link with one that has ended well does nothing.
"""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from thistledown import _core
from thistledown._actors import Actor
from thistledown._boxes import Box, Ending
from thistledown._crew import End, WorkerProcess
from thistledown._supervising import Supervising
from thistledown._task import Task

__all__ = ["Down", "Link", "link", "monitor"]


class Down(NamedTuple):
    """How something has ended, as ``td.monitor`` tells it.

    Attributes:
        who: the task, actor, supervisor or worker process, as it was given.
        reason: ``"normal"``, of a worker process too that its pool had leave; ``"killed"`` of an actor, by ``kill``;
            ``"cancelled"`` of a task; or the exception that has ended it. That of a process is ``WorkerDied``, with its
            exit code or signal, or ``MemoryLimitExceeded``.
    """

    who: Any
    reason: str | BaseException


Linked: TypeAlias = Task[Any] | Actor[Any] | Supervising
"""Who has an end, and can be ended."""
Mortal: TypeAlias = Linked | WorkerProcess
"""Who has an end."""
Told: TypeAlias = Callable[[str | BaseException], None]


class Watch:
    """Somebody who hears once how one has ended, unless he stops before."""

    def __init__(self, who: Mortal, told: Told) -> None:
        self._box = _watched(who)
        self._told: Told | None = told
        # Until it has ended; with the very object that it will call.
        self._task: tuple[Task[Any], Callable[[Any], None]] | None = None
        if self._box is not None:
            self._box.watch(self._heard)
        else:
            task, done = self._task = _task_of(who), self._done
            task.add_done_callback(done)

    def _heard(self, ending: Ending) -> None:
        self._tell(ending.word if ending.error is None else ending.error)

    def _done(self, task: Any) -> None:
        self._task = None
        if self._told is not None:
            self._tell(_reason(task))

    def _tell(self, reason: str | BaseException) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(reason)

    def stop(self) -> None:
        if self._told is not None:
            self._told = None
            if self._box is not None:
                self._box.unwatch(self._heard)
            elif self._task is not None:
                task, done = self._task
                self._task = None
                task._forget_callback(done)


def _watched(who: Mortal) -> Box | End | None:
    """What tells of its end, if that is no task."""
    return who._box if isinstance(who, Actor) else who._end if isinstance(who, WorkerProcess) else None


def _task_of(who: Mortal) -> Task[Any]:
    """The task whose end is that of this one, which is no actor and no process."""
    if isinstance(who, Supervising):
        return who._has_started()
    task: Task[Any] = who  # type: ignore[assignment]  # no other is left
    return task


def _reason(task: Task[Any]) -> str | BaseException:
    if task.cancelled():
        return "cancelled"
    failure = task._failure()
    return "normal" if failure is None else failure


def _checked(who: Any, function: str, kinds: str = "tasks, actors and supervisors", hint: str = "") -> None:
    if not isinstance(who, Task | Actor | Supervising):
        raise TypeError(f"{function} takes {kinds}, got {who!r}{hint}")


def monitor(who: Mortal, /) -> "_core.Operation[Down]":
    """Tells how a task, an actor, a supervisor or a worker process ends: an operation that gives its ``Down``.

    ``down = await td.monitor(account)``. One end is told once, also to who asks when it was over already; the operation
    can be waited for again, and then gives the same. It watches from this call on, until it is let go, and keeps the
    actor alive meanwhile. An error that it tells of has reached somebody. Source: Erlang's ``monitor``.

    Args:
        who: a task, in whichever place it runs, an actor, a supervisor that was started, or one of
            ``pool.processes()``.

    Raises:
        TypeError: something else.
    """
    if isinstance(who, WorkerProcess):
        task, is_elsewhere = None, True
    else:
        hint = ": `pool.processes()` gives the processes of a pool" if isinstance(who, int) else ""
        _checked(who, "monitor", "tasks, actors, supervisors and worker processes", hint)
        task = None if isinstance(who, Actor) else _task_of(who)
        is_elsewhere = who._box.is_elsewhere if isinstance(who, Actor) else _is_elsewhere(who)
    pledge: Task[Down] = _core.pledge(f"the end of {_named(who)}", is_elsewhere)
    watch: Watch | None = None

    def let_go(_: object) -> None:
        # None when it could not be made.
        if watch is not None:
            watch.stop()

    def told(reason: str | BaseException) -> None:
        waiting = known()
        if waiting is not None:
            waiting._settle(Down(who, reason), None)

    known = weakref.ref(pledge, let_go)
    watch = Watch(who, told)
    return _core.heard(pledge, task)


def _is_elsewhere(who: Task[Any] | Supervising) -> bool:
    return who._has_thread if isinstance(who, Supervising) else who._in_process


def _named(who: Mortal) -> str:
    if isinstance(who, WorkerProcess):
        return f"worker process {who.pid}"
    kind = "actor" if isinstance(who, Actor) else "supervisor" if isinstance(who, Supervising) else "task"
    return f"{kind} {who.name}"


class Link:
    """Two that end together, made by ``td.link``."""

    __slots__ = ("_both", "_watches")

    def __init__(self, one: Linked, other: Linked) -> None:
        self._both: tuple[Linked, ...] = (one, other)
        self._watches: list[Watch] = []
        self._watches.append(Watch(one, lambda reason: self._ended(other, reason)))
        # The first may have ended already, and the link with it.
        if self._both:
            self._watches.append(Watch(other, lambda reason: self._ended(one, reason)))

    def _ended(self, left: Linked, reason: str | BaseException) -> None:
        self.unlink()
        if reason != "normal":
            _end(left, reason)

    def unlink(self) -> None:
        """Takes the link away: from now on, neither end brings the other."""
        self._both = ()
        watches, self._watches = self._watches, []
        for watch in watches:
            watch.stop()

    def __repr__(self) -> str:
        return f"<thistledown.Link of {' and '.join(map(_named, self._both)) or 'nobody any more'}>"


class Falling(threading.local):
    """Who is to be ended because of a link, in the thread that ends somebody for one; None while it does not."""

    line: "deque[tuple[Linked, str | BaseException]] | None" = None


_falling = Falling()


def _end(who: Linked, reason: str | BaseException) -> None:
    """Ends who is linked. One after the other and not one inside of the other: a chain of links may be long."""
    if _falling.line is not None:
        _falling.line.append((who, reason))
        return
    line = _falling.line = deque([(who, reason)])
    try:
        while line:
            _end_one(*line.popleft())
    finally:
        _falling.line = None


def _end_one(who: Linked, reason: str | BaseException) -> None:
    if isinstance(who, Actor):
        who._box.kill(reason if isinstance(reason, BaseException) else None)
    elif isinstance(who, Supervising):
        who._ask_to_stop()
    else:
        who.cancel()


def link(one: Linked, other: Linked, /) -> Link:
    """Links two tasks, actors or supervisors: when one fails or is killed, the other is ended for the same reason.

    So it is when one is cancelled. A task is cancelled, an actor killed, a supervisor stopped. An end that is
    ``normal`` does nothing. When one has failed already the other is ended at once. A link keeps both alive. Source:
    Erlang's ``link``.

    Args:
        one, other: tasks, in whichever places they run, or actors; ``td.current_task()`` for oneself.

    Returns:
        The link, whose ``unlink()`` takes it away.

    Raises:
        TypeError: something else.
        ValueError: both are the same.
    """
    _checked(one, "link")
    _checked(other, "link")
    if one == other:
        raise ValueError(f"{_named(one)} cannot be linked with itself")
    return Link(one, other)
