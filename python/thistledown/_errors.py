"""Every exception of the package. One file, one base.

Where the standard library has a name it is used: a deadline is ``TimeoutError``, a descriptor's fault ``OSError``, a
misuse ``TypeError``, ``ValueError`` or ``RuntimeError``. The engine raises these by name, from one function.
"""

import concurrent.futures
import queue

__all__ = [
    "Cancelled",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "DeadlockError",
    "IncompleteReadError",
    "LimitOverrunError",
    "TaskCancelled",
    "ThistledownError",
]


class ThistledownError(Exception):
    """Base of the package's own errors."""


class Cancelled(BaseException):
    """Raised at the wait of a task that is cancelled, and at each later wait. Clean up and let it pass.

    Not an ``Exception``, so that ``except Exception`` does not swallow it. Source: trio's ``Cancelled``.
    """


class TaskCancelled(ThistledownError, concurrent.futures.CancelledError):
    """The task that was waited for had been cancelled. Whoever waits for it is not."""


class DeadlockError(ThistledownError, RuntimeError):
    """Nothing can happen any more, or a wait would close a cycle of waits. Says who waits for what, and where."""


class ChannelClosed(ThistledownError):
    """The channel is closed: nothing can be sent, and nothing is left to receive."""


class ChannelFull(ThistledownError, queue.Full):
    """``send_nowait`` would have had to wait."""


class ChannelEmpty(ThistledownError, queue.Empty):
    """``recv_nowait`` would have had to wait."""


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
