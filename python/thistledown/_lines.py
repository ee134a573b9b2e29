"""Where code stands: the lines of bodies that are suspended, and of threads that run.

Read from what the interpreter keeps anyway, when somebody asks. Lines of this package are left out where users look for
their own.
"""

import gc
import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["PACKAGE", "Line", "lines_of_body", "lines_of_thread", "own"]

PACKAGE = os.path.dirname(__file__) + os.sep
"""Where the files of this package are."""

DEPTH = 1_000
"""Frames of one body or thread that are looked at."""

_WRAPPERS = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable")
"""What stands between two bodies and has no frame: the next body is what it refers to."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a program: ``file``, ``line``, and the qualified name of the ``function`` that it stands in."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def _line(frame: types.FrameType) -> Line:
    # No line is known of a frame between two instructions of its beginning.
    return Line(frame.f_code.co_filename, frame.f_lineno or frame.f_code.co_firstlineno, frame.f_code.co_qualname)


def frames_of_body(body: Any) -> Iterator[types.FrameType]:
    """The frames of a generator or coroutine and of what it delegates to or awaits, outermost first."""
    for _ in range(DEPTH):
        if body is None:
            return
        frame = getattr(body, "gi_frame", None) or getattr(body, "cr_frame", None) or getattr(body, "ag_frame", None)
        if frame is not None:
            yield frame
        body = _next_body(body)


def _next_body(body: Any) -> Any:
    for name in ("gi_yieldfrom", "cr_await", "ag_await"):
        following = getattr(body, name, None)
        if following is not None:
            return following
    if type(body).__name__ in _WRAPPERS:
        kinds = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
        return next((held for held in gc.get_referents(body) if isinstance(held, kinds)), None)
    return None


def lines_of_body(body: Any) -> tuple[Line, ...]:
    """The await chain of a suspended generator or coroutine: its own line first, the innermost last."""
    return tuple(_line(frame) for frame in frames_of_body(body))


def lines_of_thread(
    number: int, *, above: str | None = None, outermost: types.FrameType | None = None
) -> tuple[Line, ...]:
    """The lines at which a thread stands, the innermost last.

    Args:
        number: the interpreter's number of the thread.
        above: a file; only the frames above its innermost one, which are those that it has called.
        outermost: a frame; only itself and those that it has called.
    """
    frame = sys._current_frames().get(number)
    lines: list[Line] = []
    while frame is not None and len(lines) < DEPTH and frame.f_code.co_filename != above:
        lines.append(_line(frame))
        frame = None if frame is outermost else frame.f_back
    return tuple(reversed(lines))


def own(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Those that are none of this package's; all, when all are."""
    theirs = tuple(line for line in lines if not line.file.startswith(PACKAGE))
    return theirs or lines
