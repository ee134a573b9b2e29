"""What went wrong of late, for whoever looks: tasks that failed, and turns that held their thread for too long.

The engine calls ``failed`` at most some tens of times a second, however many tasks fail. The words are made at once, so
that no exception, and nothing that its frames hold, is kept; none of the user's code runs for them.
"""

import re
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from thistledown._errors import RemoteTraceback

__all__ = ["Failure", "Stalled", "failed", "failures", "stalled", "stalls"]

KEPT = 100
"""Failures and stalls that are kept, the newest."""

LONGEST = 300
"""Characters of an error's words."""

PLAIN = (str, int, float, bool, bytes, type(None))
"""What can be put in words without running anybody's code."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A task that failed: when (``time.monotonic``), its name, its place, the error in words, and the line of it."""

    moment: float
    task: str
    place: str
    error: str
    where: str


@dataclass(frozen=True, slots=True)
class Stalled:
    """A turn that held its thread for too long: when it was seen, whose it was, for how long, and where."""

    moment: float
    task: str
    seconds: float
    where: str


failures: deque[Failure] = deque(maxlen=KEPT)
stalls: deque[Stalled] = deque(maxlen=KEPT)


def failed(task: str, place: str, error: BaseException) -> None:
    """A task has failed with this, as is known from now on."""
    failures.append(Failure(time.monotonic(), task, place, _words(error), _where(error)))


def stalled(task: str, seconds: float, where: str) -> None:
    """A turn holds its thread."""
    stalls.append(Stalled(time.monotonic(), task, seconds, where))


def _words(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__.startswith("thistledown"):
        words = str(error)
    elif any(type(arg) not in PLAIN for arg in error.args):
        words = "..."
    else:
        words = ", ".join(str(arg) for arg in error.args)
    words = words.strip().replace("\n", " ")
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
    return f"{name}: {words}" if words else name


_FRAME = re.compile(r'^ +File "(.*)", line (\d+), in (.*)$', re.MULTILINE)


def _where_elsewhere(cause: BaseException | None) -> str:
    """The line in a worker: the innermost that its traceback has, which is the text of a cause."""
    while cause is not None and not isinstance(cause, RemoteTraceback):
        cause = cause.__cause__
    known = _FRAME.findall(cause.text) if cause is not None else []
    return "{}:{} in {}".format(*known[-1]) if known else ""


def _where(error: BaseException) -> str:
    trace: Any = error.__traceback__
    if trace is None:
        return _where_elsewhere(error.__cause__)
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} in {code.co_qualname}"
