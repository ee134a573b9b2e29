"""Every exception of the package. One file, one base.

Where the standard library has a name it is used: a deadline is ``TimeoutError``, a descriptor's fault ``OSError``, a
misuse ``TypeError``, ``ValueError`` or ``RuntimeError``. The engine raises these by name, from one function.

Those of a worker process that died are in ``_deaths``, and that of a cancelled task stands beside the class of tasks:
their bases in the standard library take long to import, and not every program needs them. They are found here as well.
"""

import queue

# As `pickle` has it, which takes longer to import.
from _pickle import PicklingError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thistledown._deaths import MemoryLimitExceeded, WorkerDied, WorkersBroken
    from thistledown._task import TaskCancelled

__all__ = [
    "ActorDied",
    "ActorStopped",
    "Cancelled",
    "ChannelBroken",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "ChildFailed",
    "DeadlockError",
    "IncompleteReadError",
    "LeaseExpired",
    "LimitOverrunError",
    "MailboxFull",
    "MemoryLimitExceeded",
    "NotPicklable",
    "RemoteError",
    "RemoteTraceback",
    "SpaceBroken",
    "SpaceDamaged",
    "TaskCancelled",
    "ThistledownError",
    "WatchLagged",
    "WorkerDied",
    "WorkersBroken",
]


def __getattr__(name: str) -> Any:
    if name in ("MemoryLimitExceeded", "WorkerDied", "WorkersBroken"):
        from thistledown import _deaths

        return getattr(_deaths, name)
    if name == "TaskCancelled":
        from thistledown import _task

        return _task.TaskCancelled
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ThistledownError(Exception):
    """Base of the package's own errors."""


class Cancelled(BaseException):
    """Raised at the wait of a task that is cancelled, and at each later wait. Clean up and let it pass.

    Not an ``Exception``, so that ``except Exception`` does not swallow it. Source: trio's ``Cancelled``.
    """


class DeadlockError(ThistledownError, RuntimeError):
    """Nothing can happen any more, or a wait would close a cycle of waits. Says who waits for what, and where."""


class ChannelClosed(ThistledownError):
    """The channel is closed: nothing can be sent, and nothing is left to receive."""


class ChannelBroken(ChannelClosed):
    """The channel cannot be used from here any more: the process that had it has ended, or this one was forked."""


class ChannelFull(ThistledownError, queue.Full):
    """``send_nowait`` would have had to wait."""


class ChannelEmpty(ThistledownError, queue.Empty):
    """``recv_nowait`` would have had to wait."""


class ActorStopped(ThistledownError):
    """The actor has been stopped, or is being: it takes no more messages."""


class ActorDied(ThistledownError):
    """The actor has ended before it has answered. Its cause, if there is one, is what has ended it.

    Attributes:
        reason: why, in words.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ActorDied"], tuple[str, str]]:
        return type(self), (str(self), self.reason)


class MailboxFull(ThistledownError, queue.Full):
    """So many messages to the actor are unanswered that it takes no more now. The one that it refused is not sent."""


class ChildFailed(ThistledownError):
    """A supervisor has failed for the sake of this child: it could not be started, or was restarted too often.

    Its cause, if there is one, is what the child failed by.

    Attributes:
        child: the name by which the supervisor knows it.
    """

    def __init__(self, message: str, child: str = "") -> None:
        super().__init__(message)
        self.child = child

    def __reduce__(self) -> tuple[type["ChildFailed"], tuple[str, str]]:
        return type(self), (str(self), self.child)


class LeaseExpired(ThistledownError):
    """The claim on a tuple is over: its time has passed, or it was confirmed or given back before."""


class SpaceDamaged(ThistledownError):
    """The file of a space is not what was written: bytes have changed, or some are missing. Says what is damaged.

    ``td.Space(path, repair=True)`` keeps what is whole.
    """


class SpaceBroken(ThistledownError):
    """The space cannot be used: it was closed, or its file cannot be written. What failed with this was not done."""


class WatchLagged(ThistledownError):
    """A watch has not seen all: the oldest were dropped for want of room, or the file got another owner. It goes on.

    Attributes:
        missed: how many were dropped; 0 if the file has another owner now, and nobody knows of any.
    """

    def __init__(self, message: str, missed: int) -> None:
        super().__init__(message)
        self.missed = missed

    def __reduce__(self) -> tuple[type["WatchLagged"], tuple[str, int]]:
        return type(self), (str(self), self.missed)


class IncompleteReadError(ThistledownError, EOFError):
    """The stream ended before the read was complete. Named as asyncio's.

    Attributes:
        partial: the bytes that came.
        expected: how many were asked for; None when the read was for a separator.
    """

    def __init__(self, partial: bytes, expected: int | None) -> None:
        wanted = "the separator" if expected is None else f"{expected} bytes"
        super().__init__(f"the stream ended after {len(partial)} bytes, before {wanted}")
        self.partial = partial
        self.expected = expected

    def __reduce__(self) -> tuple[type["IncompleteReadError"], tuple[bytes, int | None]]:
        return type(self), (self.partial, self.expected)


class LimitOverrunError(ThistledownError):
    """No separator within the limit. The bytes are still there, for ``recv``. Named as asyncio's.

    Attributes:
        consumed: how many bytes were looked at.
    """

    def __init__(self, message: str, consumed: int) -> None:
        super().__init__(message)
        self.consumed = consumed

    def __reduce__(self) -> tuple[type["LimitOverrunError"], tuple[str, int]]:
        return type(self), (str(self), self.consumed)


class NotPicklable(ThistledownError, TypeError, PicklingError):
    """Something cannot be sent to a worker process, or back from it. Says what it is, where it stands, and why."""


class RemoteError(ThistledownError):
    """A task in a worker process failed with an exception that cannot be rebuilt here. Its traceback is the cause.

    Attributes:
        name: the class of the exception, with its module.
        text: what the exception said.
    """

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}" if text else name)
        self.name = name
        self.text = text

    def __reduce__(self) -> tuple[type["RemoteError"], tuple[str, str]]:
        return type(self), (self.name, self.text)


class RemoteTraceback(Exception):
    """The traceback of a task's exception in its worker process, as text: the cause of the exception here."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'
