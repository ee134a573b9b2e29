"""Exceptions as bytes: their class, arguments, attributes, notes, causes and traceback survive the journey.

What cannot be rebuilt at the other end becomes a ``RemoteError`` with its text. So neither packing nor unpacking ever
raises. Source: ``concurrent.futures.process``, which carries the traceback as the text of a cause.
"""

import os
import pickle
import traceback
from types import TracebackType
from typing import Any

from thistledown import _pickling
from thistledown._errors import RemoteError, RemoteTraceback

__all__ = ["pack", "unpack"]

CHAIN = 20
"""Exceptions that one came from, and which are kept as such; the text has all of them."""

PACKAGE = os.path.dirname(__file__) + os.sep


def pack(error: BaseException, longest: int | None = None) -> bytes:
    """An exception as bytes, with its traceback and what it came from. Never raises.

    Args:
        longest: how many bytes it may have; else it is told by its text, as much as there is room for.
    """
    name, text = _described(error)
    try:
        links = _chain(error)
    except Exception:
        links = None
    lines = _traceback(error)
    packed = pickle.dumps((links, name, text, lines), _pickling.PROTOCOL)
    if longest is not None and len(packed) > longest:
        # A character may take four bytes. The end of a traceback says most.
        room = longest // 10
        packed = pickle.dumps((None, name[:100], text[:room], lines[-room:]), _pickling.PROTOCOL)
    return packed


def unpack(data: Any) -> BaseException:
    """The exception again; its traceback in the worker is the last of its causes. Never raises."""
    links, name, text, lines = pickle.loads(data)
    error = RemoteError(name, text) if links is None else _relinked(links)
    last = error
    seen = {id(error)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    if last.__cause__ is None and not isinstance(last, RemoteTraceback):
        last.__cause__ = RemoteTraceback(lines)
    return error


Link = tuple[bytes | None, str, str, int | None, int | None, bool]


def _chain(error: BaseException) -> list[Link]:
    """An exception and what it came from, each once: pickled, described, the places of its cause and its context."""
    errors = [error]
    places = {id(error): 0}
    # The list grows while it is walked.
    for one in errors:
        for other in (one.__cause__, one.__context__):
            if other is None or isinstance(other, RemoteTraceback):
                # What it says is in the text of this one's traceback.
                continue
            if id(other) not in places and len(errors) < CHAIN:
                places[id(other)] = len(errors)
                errors.append(other)
    return [
        (
            _pickled(one),
            *_described(one),
            places.get(id(one.__cause__)),
            places.get(id(one.__context__)),
            one.__suppress_context__,
        )
        for one in errors
    ]


def _relinked(links: list[Link]) -> BaseException:
    errors = [_rebuilt(data, name, text) for data, name, text, *_ in links]
    for error, (_, _, _, cause, context, is_hidden) in zip(errors, links, strict=True):
        error.__cause__ = None if cause is None else errors[cause]
        error.__context__ = None if context is None else errors[context]
        error.__suppress_context__ = is_hidden
    return errors[0]


def _rebuilt(data: bytes | None, name: str, text: str) -> BaseException:
    try:
        error = RemoteError(name, text) if data is None else pickle.loads(data)
    except Exception:
        return RemoteError(name, text)
    return error if isinstance(error, BaseException) else RemoteError(name, text)


def _pickled(error: BaseException) -> bytes | None:
    """The first form of it that can be rebuilt; None when there is none."""
    for form in (_whole, _by_parts, _without_odd_parts):
        try:
            data = form(error)
            if type(pickle.loads(data)).__qualname__ == type(error).__qualname__:
                return data
        except Exception:
            continue
    return None


def _whole(error: BaseException) -> bytes:
    return _pickling.dumps(error)


def _by_parts(error: BaseException) -> bytes:
    """Past an initialiser that wants other arguments than those it keeps."""
    return _pickling.dumps(_Parts(type(error), error.args, vars(error)))


def _without_odd_parts(error: BaseException) -> bytes:
    attributes = {name: value for name, value in vars(error).items() if _can_travel(value)}
    args = tuple(value if _can_travel(value) else repr(value) for value in error.args)
    return _pickling.dumps(_Parts(type(error), args, attributes))


def _can_travel(value: Any) -> bool:
    try:
        pickle.loads(_pickling.dumps(value))
    except Exception:
        return False
    return True


class _Parts:
    """Stands for an exception in a pickle: made anew without its initialiser."""

    def __init__(self, kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> None:
        self.parts = kind, args, attributes

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, self.parts


def _made(kind: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error


def _described(error: BaseException) -> tuple[str, str]:
    kind = type(error)
    is_plain = kind.__module__ in ("builtins", "__main__")
    name = kind.__qualname__ if is_plain else f"{kind.__module__}.{kind.__qualname__}"
    try:
        return name, str(error)
    except Exception as failed:
        return name, f"<its text cannot be had: {type(failed).__name__}>"


def _traceback(error: BaseException) -> str:
    """The whole traceback as text, from the first line that is not of this package."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(PACKAGE):
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))
    except Exception as failed:
        return f"{': '.join(_described(error))}\n(its traceback cannot be shown: {type(failed).__name__})\n"
