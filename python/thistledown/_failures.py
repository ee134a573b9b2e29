"""Exceptions as bytes: their class, arguments, attributes, notes, causes and traceback survive the journey.

What cannot be rebuilt at the other end becomes a ``RemoteError`` with its text. So neither packing nor unpacking ever
raises. Source: ``concurrent.futures.process``, which carries the traceback as the text of a cause.
"""

import linecache
import os
import pickle
import re
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NamedTuple

from thistledown._errors import RemoteError, RemoteTraceback
from thistledown._pickler import MAINS, PROTOCOL, dumps

__all__ = ["pack", "unpack"]

CHAIN = 20
"""Causes and contexts that are kept as such; the text has all of them. The members of groups do not count."""

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
    packed = pickle.dumps((links, name, text, lines), PROTOCOL)
    if longest is not None and len(packed) > longest:
        # A character may take four bytes. The end of a traceback says most.
        room = longest // 10
        packed = pickle.dumps((None, name[:100], text[:room], lines[-room:]), PROTOCOL)
    return packed


def unpack(data: Any) -> BaseException:
    """The exception again; its traceback in the worker is the last of its causes. Never raises."""
    links, name, text, lines = pickle.loads(data)
    error = RemoteError(name, text) if links is None else _relinked(links)
    lines = _with_sources(lines)
    last = error
    seen = {id(error)}
    while last.__cause__ is not None and id(last.__cause__) not in seen:
        last = last.__cause__
        seen.add(id(last))
    if last.__cause__ is None and not isinstance(last, RemoteTraceback):
        last.__cause__ = RemoteTraceback(lines)
    return error


LINE = re.compile(r'  File "(.+)", line (\d+), in ')


def _with_sources(text: str) -> str:
    """A traceback with the lines of cells and prompts, which are known in this process and not in the worker."""
    lines = text.splitlines(keepends=True)
    shown = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        shown.append(line)
        place = LINE.match(line)
        if place is not None and not following.startswith("    "):
            source = linecache.getline(place[1], int(place[2])).strip()
            shown.append(f"    {source}\n" if source else "")
    return "".join(shown)


class _Link(NamedTuple):
    """An exception, and the places of those that belong to it."""

    data: bytes | None
    name: str
    text: str
    members: list[int]
    cause: int | None
    context: int | None
    is_hidden: bool


def _chain(error: BaseException) -> list[_Link]:
    """An exception, the members of a group, and what each came from; each once."""
    errors = [error]
    places = {id(error): 0}
    origins = 0

    def add(other: BaseException) -> None:
        if id(other) not in places:
            places[id(other)] = len(errors)
            errors.append(other)

    # The list grows while it is walked.
    for one in errors:
        for member in _members(one):
            add(member)
        for other in (one.__cause__, one.__context__):
            # What a remote traceback says is in the text of this one's traceback.
            if other is not None and not isinstance(other, RemoteTraceback) and origins < CHAIN:
                origins += id(other) not in places
                add(other)
    return [
        _Link(
            _pickled(one),
            *_described(one),
            [places[id(member)] for member in _members(one)],
            places.get(id(one.__cause__)),
            places.get(id(one.__context__)),
            one.__suppress_context__,
        )
        for one in errors
    ]


def _members(error: BaseException) -> Sequence[BaseException]:
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()


def _relinked(links: list[_Link]) -> BaseException:
    errors: list[BaseException | None] = [None] * len(links)
    # A group needs its members. They stand behind it, but for one that stands there as somebody's origin as well.
    for place in reversed(range(len(links))):
        _rebuild(place, links, errors)
    whole = [error for error in errors if error is not None]
    for error, link in zip(whole, links, strict=True):
        error.__cause__ = None if link.cause is None else whole[link.cause]
        error.__context__ = None if link.context is None else whole[link.context]
        error.__suppress_context__ = link.is_hidden
    return whole[0]


def _rebuild(place: int, links: list[_Link], errors: list[BaseException | None]) -> BaseException:
    known = errors[place]
    if known is None:
        link = links[place]
        members = [_rebuild(member, links, errors) for member in link.members]
        known = errors[place] = _rebuilt(link.data, members, link.name, link.text)
    return known


def _rebuilt(data: bytes | None, members: list[BaseException], name: str, text: str) -> BaseException:
    try:
        error = None if data is None else pickle.loads(data)
        error = error.joined(members) if isinstance(error, _Group) else error
    except Exception:
        error = None
    return error if isinstance(error, BaseException) else RemoteError(name, text)


def _pickled(error: BaseException) -> bytes | None:
    """The first form of it that can be rebuilt; None when there is none."""
    is_group = isinstance(error, BaseExceptionGroup)
    forms = (_as_group, _whole) if is_group else (_whole, _by_parts, _without_odd_parts)
    for form in forms:
        try:
            data = form(error)
            if type(_rebuilt(data, list(_members(error)), "", "")).__qualname__ == type(error).__qualname__:
                return data
        except Exception:
            continue
    return None


def _as_group(error: BaseException) -> bytes:
    """Without its members, which travel beside it."""
    attributes = {name: value for name, value in vars(error).items() if _can_travel(value)}
    return dumps(_Group(type(error), str(error.args[0]), attributes))


class _Group(NamedTuple):
    """What a group is without its members."""

    kind: type[BaseException]
    message: str
    attributes: dict[str, Any]

    def joined(self, members: list[BaseException]) -> BaseException:
        return _made(self.kind, (self.message, members), self.attributes)


def _whole(error: BaseException) -> bytes:
    return dumps(error)


def _by_parts(error: BaseException) -> bytes:
    """Past an initialiser that wants other arguments than those it keeps."""
    return dumps(_Parts(type(error), error.args, vars(error)))


def _without_odd_parts(error: BaseException) -> bytes:
    attributes = {name: value for name, value in vars(error).items() if _can_travel(value)}
    args = tuple(value if _can_travel(value) else repr(value) for value in error.args)
    return dumps(_Parts(type(error), args, attributes))


def _can_travel(value: Any) -> bool:
    try:
        pickle.loads(dumps(value))
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
    is_plain = kind.__module__ in ("builtins", *MAINS)
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
