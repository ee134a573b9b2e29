"""What travels between processes: values, calls, functions and errors as bytes.

The C pickler goes first. What it refuses, and what belongs to ``__main__``, which no worker imports, goes by value
with cloudpickle, imported when it is needed first. Buffers of 64 KiB and more stay outside of the bytes, so that they
can travel without a copy; at the other end they are read-only.

Nothing here knows of processes or pools. The engine calls these functions, and nobody else has to. For what has
neither large buffers nor anything that goes by value it calls the C pickler by itself.
"""

import operator
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from thistledown import _carried
from thistledown._errors import NotPicklable

__all__ = [
    "Outcomes",
    "dumps",
    "dumps_by_value",
    "key_number",
    "pack",
    "pack_call",
    "pack_error",
    "pack_function",
    "pack_result",
    "unpack",
    "unpack_error",
    "unpack_function",
]

PROTOCOL = 5

LARGE_BYTES = 65_536
"""Buffers from this size on travel outside of the pickle."""

DEPTH = 6
"""How deep an error message looks for the very thing that cannot be sent."""

BREADTH = 200
"""How many things it tries in each."""

Packed = tuple[bytes, list[memoryview]]


class Outcomes(NamedTuple):
    """What came of several calls in one task, which go back together."""

    seconds: float
    """That they took."""

    results: list[Any]
    """What they returned, up to the first error."""

    failure: bytes | None
    """That error, packed."""


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
        return _pack(_outside(value), lambda error: not_picklable([("the result", value)], " back", error))
    except NotPicklable:
        if not isinstance(value, Outcomes):
            raise
        return _pack(_up_to_a_refused(value), lambda error: error)


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


def dumps(value: Any) -> bytes:
    """A pickle in which what no worker can import stands by value: by the C pickler, if that can do it."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        if not goes_by_value(data):
            return data
    except MemoryError:
        raise
    except Exception:
        pass
    return dumps_by_value(value)


def dumps_by_value(
    value: Any,
    keep: Callable[[pickle.PickleBuffer], bool] | None = None,
    by_value: list[Any] | None = None,
) -> bytes:
    """A pickle in which what no worker can import stands by value; see ``_by_value.dumps``."""
    from thistledown import _by_value

    return _by_value.dumps(value, PROTOCOL, keep, by_value)


def goes_by_value(data: bytes) -> bool:
    """Whether a pickle names something that no worker can import, or that is registered to go by value."""
    if b"__main__" in data:
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    # Another thread may be importing it just now.
    registry: set[str] = getattr(cloudpickle, "list_registry_pickle_by_value", set)()
    return bool(registry) and any(name.encode() in data for name in registry)


def explained(error: ImportError | AttributeError) -> ImportError | AttributeError:
    """The same, saying that it is this process which cannot import something; others are given back as they are."""
    if isinstance(error, ImportError):
        words = f"process {os.getpid()} cannot import what the task needs: {error}; it looks in {sys.path}"
        kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
        return kind(words, name=error.name, path=error.path)
    if not str(error).startswith("Can't get attribute"):
        return error
    words = f"process {os.getpid()} does not find what the task needs: {error}"
    return AttributeError(words, name=error.name, obj=error.obj)


def _pack(value: Any, explain: Callable[[Exception], Exception]) -> Packed:
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


# --- what to say when something cannot be sent ------------------------------------------------------------------


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Any]]:
    named = [(f"argument {name!r}", value) for name, value in kwargs.items()]
    return [*((f"argument {number}", value) for number, value in enumerate(args, 1)), *named]


def not_picklable(candidates: list[tuple[str, Any]], back: str, error: Exception) -> NotPicklable:
    """The error for the first of some values that cannot be sent, and in it the innermost that is to blame."""
    for name, value in candidates:
        refusal = _refusal(value)
        if refusal is not None:
            place, culprit, refusal = _innermost(name, value, refusal, DEPTH)
            inner = "" if place == name else f", because of {place}"
            return NotPicklable(
                f"{name} cannot be sent{back}{inner}: {_kind(culprit)} does not travel to another process "
                f"({refusal}); {_advice(culprit)}"
            )
    return NotPicklable(f"{' or '.join(name for name, _ in candidates[:3])} cannot be sent{back}: {error}")


def _refusal(value: Any) -> Exception | None:
    try:
        dumps_by_value(value)
    except Exception as error:
        return error
    return None


def _innermost(name: str, value: Any, refusal: Exception, depth: int) -> tuple[str, Any, Exception]:
    if depth:
        for number, (suffix, child) in enumerate(_children(value)):
            if number == BREADTH:
                break
            inner = _refusal(child)
            if inner is not None:
                return _innermost(name + suffix, child, inner, depth - 1)
    return name, value, refusal


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value, each with how to write it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, list | tuple | set | frozenset):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif hasattr(value, "__code__"):
        names = value.__code__.co_names
        known = getattr(value, "__globals__", {})
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f" (its variable {name!r})", cell.cell_contents
            except ValueError:
                continue
        for name in names:
            if name in known and known[name] is not value:
                yield f" (its global {name!r})", known[name]
    elif not isinstance(value, type):
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item


def _kind(value: Any) -> str:
    kind = type(value)
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"


def _advice(value: Any) -> str:
    """What to do instead, by what it is."""
    name = type(value).__name__.lower()
    if hasattr(value, "add_done_callback"):
        return "send its result: `task.result()`, or `await task`"
    if "lock" in name or name in ("condition", "event", "semaphore", "barrier"):
        return "no two processes share it; tasks that must not overlap get one `key` by `pool.options(key=...)`"
    if "generator" in name or "coroutine" in name or name.endswith("iterator"):
        return "send what it is made from, or a list of what it gives"
    if hasattr(value, "fileno"):
        return "send its path or address, and open it in the task"
    return "send what it is made from, and make it in the task, or once a worker with `initializer=`"
