"""What travels between processes: values, calls, functions and errors as bytes.

What the C pickler refuses goes by value: see ``_pickler``. Buffers of 64 KiB and more stay outside of the bytes, so
that they can travel without a copy; at the other end they are read-only.

Nothing here knows of processes or pools. The engine calls these functions, and nobody else has to. For what has
neither large buffers nor anything that goes by value it calls the C pickler by itself.
"""

import operator
import pickle
from collections.abc import Callable
from typing import Any

from thistledown import _carried, _core
from thistledown._chunks import Outcomes
from thistledown._errors import NotPicklable
from thistledown._pickler import PROTOCOL, dumps_by_value, explained, goes_by_value
from thistledown._refused import not_picklable

__all__ = [
    "key_number",
    "pack",
    "pack_call",
    "pack_error",
    "pack_function",
    "pack_message",
    "pack_result",
    "unpack",
    "unpack_error",
    "unpack_function",
]

LARGE_BYTES = 65_536
"""Buffers from this size on travel outside of the pickle."""

Packed = tuple[bytes, list[memoryview]]


def pack(value: Any) -> Packed:
    """A value as bytes, and its large buffers.

    Raises:
        NotPicklable: says what it is that cannot be sent.
    """
    return _pack(value, lambda error: not_picklable([("the value", value)], "", error))


def pack_call(args: tuple[Any, ...], kwargs: dict[str, Any], retry_on: tuple[type[BaseException], ...] = ()) -> Packed:
    """The arguments of a call as bytes, with what is carried along: ``(args, kwargs, extras)``.

    Args:
        args, kwargs: of the call.
        retry_on: for the worker: exceptions after which the task may be tried again.

    Raises:
        NotPicklable: says which argument cannot be sent.
    """
    extras = _carried.outgoing()
    if retry_on:
        extras = {**(extras or {}), "retry_on": retry_on}
    call = args, kwargs, extras
    if any(map(_is_large, (*args, *kwargs.values()))):
        call = tuple(map(_outside, args)), {name: _outside(value) for name, value in kwargs.items()}, extras
    return _pack(call, lambda error: not_picklable(_arguments(args, kwargs), "", error))


def pack_result(value: Any) -> Packed:
    """What a task returned, as bytes. Of several results the first that cannot be sent is the error of its call.

    Raises:
        NotPicklable: says that it is the result that cannot be sent.
    """
    try:
        return _pack_once(_outside(value), lambda error: not_picklable([("the result", value)], " back", error))
    except NotPicklable:
        if not isinstance(value, Outcomes):
            raise
        return _pack_once(_up_to_a_refused(value), lambda error: error)


def pack_message(value: Any) -> Packed:
    """A message of a channel, as bytes.

    Raises:
        NotPicklable: says what it is that cannot be sent.
    """
    return _pack_once(_outside(value), lambda error: not_picklable([("the message", value)], "", error))


def _up_to_a_refused(outcomes: Outcomes) -> Outcomes:
    for number, result in enumerate(outcomes.results):
        try:
            pack_result(result)
        except NotPicklable as error:
            return Outcomes(outcomes.seconds, outcomes.results[:number], pack_error(error))
    return outcomes


def unpack(data: Any, buffers: Any = ()) -> Any:
    """What ``pack``, ``pack_call`` or ``pack_result`` made bytes of.

    Args:
        data: the bytes, or a buffer with them.
        buffers: the large buffers, in order; what is made of them looks at their memory.

    Raises:
        ImportError, AttributeError: something it names is not to be had in this process.
    """
    try:
        # As the class that a pickler knows: whoever gets such a buffer bare can send it on.
        return pickle.loads(data, buffers=[pickle.PickleBuffer(buffer) for buffer in buffers])
    except (ImportError, AttributeError) as error:
        raise explained(error) from error


def pack_function(function: Any) -> tuple[bytes, bool, bool, str]:
    """A function as bytes; see ``_functions.pack``, which takes the place of this one: it is called for each task."""
    from thistledown import _functions

    globals()["pack_function"] = _functions.pack
    return _functions.pack(function)


def unpack_function(data: Any) -> Any:
    """The function again; see ``_functions.unpack``."""
    from thistledown import _functions

    return _functions.unpack(data)


def pack_error(error: BaseException, longest: int | None = None) -> bytes:
    """An exception as bytes; see ``_failures.pack``."""
    from thistledown import _failures

    return _failures.pack(error, longest)


def unpack_error(data: Any) -> BaseException:
    """The exception again; see ``_failures.unpack``."""
    from thistledown import _failures

    return _failures.unpack(data)


def key_number(key: Any) -> int:
    """The number that stands for a key, the same in every process.

    Equal texts, bytes, whole numbers and floats have one, whatever their classes; so have tuples and sets of them.

    Raises:
        TypeError: it cannot be hashed, or cannot be sent.
    """
    import hashlib

    hash(key)
    return int.from_bytes(hashlib.blake2b(_key_bytes(key), digest_size=8).digest(), "little")


def _key_bytes(key: Any) -> bytes:
    if isinstance(key, tuple):
        return b"(%s)" % b"".join(map(_key_part, key))
    if isinstance(key, frozenset):
        return b"{%s}" % b"".join(sorted(map(_key_part, key)))
    if isinstance(key, str):
        return b"s" + str.encode(key, "utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + bytes.__bytes__(key)
    if isinstance(key, float) and float.is_integer(key):
        key = int(key)
    if isinstance(key, float):
        return b"f" + float.hex(key).encode()
    if hasattr(type(key), "__index__"):
        return b"i%d" % operator.index(key)
    return b"p" + pack(key)[0]


def _key_part(key: Any) -> bytes:
    data = _key_bytes(key)
    return b"%d:%s" % (len(data), data)


def _pack_once(value: Any, explain: Callable[[Exception], Exception]) -> Packed:
    """The same for what is unpacked once: what was packed of it before is not sent, nor the handles in that."""
    _core._packs_anew()
    return _pack(value, explain, _core._packs_anew)


def _pack(
    value: Any, explain: Callable[[Exception], Exception], begin_again: Callable[[], None] = lambda: None
) -> Packed:
    buffers: list[memoryview] = []
    try:
        data = pickle.dumps(value, PROTOCOL, buffer_callback=_keeper(buffers))
        if not goes_by_value(data):
            return data, buffers
    except MemoryError:
        raise
    except Exception:
        pass
    buffers.clear()
    begin_again()
    try:
        return dumps_by_value(value, _keeper(buffers)), buffers
    except MemoryError:
        raise
    except Exception as error:
        raise explain(error) from error


def _keeper(buffers: list[memoryview]) -> Callable[[pickle.PickleBuffer], bool]:
    """Keeps large buffers out of a pickle: the pickler asks about each, and takes it in when the answer is true."""

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        try:
            view = buffer.raw()
        except BufferError:
            return True
        if view.nbytes < LARGE_BYTES:
            return True
        buffers.append(view)
        return False

    return is_small


class _Outside:
    """Stands for large bytes in a pickle, which would take them in by itself."""

    def __init__(self, value: bytes | bytearray) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self.value), (pickle.PickleBuffer(self.value),)


def _outside(value: Any) -> Any:
    return _Outside(value) if _is_large(value) else value


def _is_large(value: Any) -> bool:
    return type(value) in (bytes, bytearray) and len(value) >= LARGE_BYTES


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    named = [(f"argument {name!r}", value) for name, value in kwargs.items()]
    return [*((f"argument {number}", value) for number, value in enumerate(args, 1)), *named]
