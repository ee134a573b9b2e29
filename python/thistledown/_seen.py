"""What went wrong of late, for whoever looks: tasks that failed, and turns that held their thread for too long.

The engine calls ``failed`` at most some tens of times a second, however many tasks fail. The words are made at once, so
that no exception, and nothing that its frames hold, is kept. None of the user's code runs for them: an exception is
asked by what ``BaseException`` itself has, whatever its class says of ``args`` or of its name.
"""

import re
import sys
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

CHAIN = 100
"""Causes of causes that are looked through: they may go round in a circle."""

HOMES = ("thistledown._errors", "thistledown._deaths", "thistledown._task")
"""Where this package's own errors are, whose words are made here; those that others derive from them are not."""

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


# As the interpreter itself has them: a class, and the class of a class, may say otherwise, by code of their own.
_qualname = vars(type)["__qualname__"].__get__
_args = vars(BaseException)["args"].__get__
_traceback = vars(BaseException)["__traceback__"].__get__
_cause = vars(BaseException)["__cause__"].__get__


def _words(error: BaseException) -> str:
    name, args = _qualname(type(error)), _args(error)
    if not all(any(type(arg) is plain for plain in PLAIN) for arg in args):
        words = "..."
    elif _is_own(type(error), name):
        words = str(error)
    else:
        words = ", ".join(str(arg) for arg in args)
    words = words.strip().replace("\n", " ")
    words = words if len(words) <= LONGEST else f"{words[:LONGEST]}..."
    return f"{name}: {words}" if words else name


def _is_own(kind: type[BaseException], name: str) -> bool:
    return any(vars(module).get(name) is kind for home in HOMES if (module := sys.modules.get(home)) is not None)


_FRAME = re.compile(r'^ +File "(.*)", line (\d+), in (.*)$', re.MULTILINE)


def _where_elsewhere(cause: BaseException | None) -> str:
    """The line in a worker: the innermost that its traceback has, which is the text of a cause."""
    for _ in range(CHAIN):
        if cause is None or type(cause) is RemoteTraceback:
            break
        cause = _cause(cause)
    known = _FRAME.findall(cause.text) if type(cause) is RemoteTraceback else []
    return "{}:{} in {}".format(*known[-1]) if known else ""


def _where(error: BaseException) -> str:
    trace: Any = _traceback(error)
    if trace is None:
        return _where_elsewhere(_cause(error))
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{code.co_filename}:{trace.tb_lineno} in {code.co_qualname}"
