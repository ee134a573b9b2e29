"""Functions as bytes: by reference when the worker can import them, else by value.

A function that goes by value takes along what it reaches: globals, closure, defaults. Packing that each time costs a
hundred microseconds, so the bytes are kept as long as a snapshot says that all of it is what it was. Things that can
change inside, such as a list, are packed each time.
"""

import contextlib
import functools
import pickle
import sys
import types
import weakref
from typing import Any, Literal

from thistledown import _core
from thistledown._chunks import Chunks
from thistledown._imports import refuse_half_imported
from thistledown._pickler import PROTOCOL, dumps_by_value, explained, goes_by_value
from thistledown._reach import Snapshot, is_importable, looked_up
from thistledown._refused import not_picklable

__all__ = ["pack", "tell_path", "unpack"]

CACHED = type(functools.lru_cache(ord))

Packed = tuple[bytes, bool, bool, str]

# What all processes that were started so far were told; None before the first, False when they were told differently.
_told_path: list[str] | Literal[False] | None = None
# By the function's id: itself, as long as it lives; the path then; what it reached; its bytes.
_kept: dict[int, tuple[weakref.ref[Any], list[str], Snapshot, Packed]] = {}


def tell_path() -> list[str]:
    """The path that processes which are started now are told; later changes go with the functions."""
    global _told_path
    path = list(sys.path)
    _told_path = path if _told_path is None or _told_path == path else False
    return path


def pack(function: Any) -> Packed:
    """A function as bytes.

    Args:
        function: a callable, or ``"package.module:qualified.name"``, which the worker looks up.

    Returns:
        The bytes; whether calling it makes a task's body; whether the bytes stay good as long as this object lives;
        its name for people. While nothing it reaches has changed, the bytes are the same object each time.

    Raises:
        TypeError, ValueError: it is neither.
        NotPicklable: it reaches something that cannot be sent.
    """
    if isinstance(function, str):
        return _pack_name(function)
    known = _recall(function)
    if known is not None:
        return known
    if not callable(function):
        hint = "write the function and its arguments, `go(function, 3)` and not `go(function(3))`"
        raise TypeError(
            f"a task for a worker is a callable, or a name as 'package.module:function'; got {function!r}: {hint}"
        )
    if isinstance(function, Chunks):
        # What a map calls is taken as it is when the map begins.
        inner, _, _, name = pack(function.function)
        return pickle.dumps((None, "chunks", inner), PROTOCOL), False, True, name
    inside = _undecorated(function)
    if inside is not function and not is_importable(function):
        return pack(inside)
    by_value: list[Any] = []
    payload, is_reference = _pickled(function, by_value)
    if not by_value:
        refuse_half_imported(function)
    data = pickle.dumps((_news_of_path(), "pickle", payload), PROTOCOL)
    packed = data, _core.makes_body(inside), is_reference, _name(function)
    if not is_reference:
        _keep(function, packed, by_value)
    return packed


def _recall(function: Any) -> Packed | None:
    known = _kept.get(id(function))
    if known is None:
        return None
    held, path, snapshot, packed = known
    if held() is not function or path != sys.path or not snapshot.is_of(_innermost(function)):
        return None
    return packed


def _keep(function: Any, packed: Packed, by_value: list[Any]) -> None:
    place = id(function)
    _kept.pop(place, None)
    inside = _innermost(function)
    if type(inside) is not types.FunctionType:
        return
    with contextlib.suppress(ValueError):
        snapshot = Snapshot(inside, by_value)
        _kept[place] = weakref.ref(function, functools.partial(_forget, place)), list(sys.path), snapshot, packed


def _forget(place: int, held: weakref.ref[Any]) -> None:
    known = _kept.get(place)
    # Another function may have got its place.
    if known is not None and known[0] is held:
        del _kept[place]


def _innermost(function: Any) -> Any:
    return function.__wrapped__ if type(function) is CACHED else function


def _pack_name(name: str) -> Packed:
    module, colon, qualified = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *qualified.split("."))):
        raise ValueError(f"a function is named as 'package.module:function', got {name!r}")
    is_weightless = False
    refuse_half_imported(module)
    if module in sys.modules:
        with contextlib.suppress(AttributeError):
            is_weightless = _core.makes_body(_undecorated(looked_up(sys.modules[module], qualified)))
    return pickle.dumps((_news_of_path(), "name", (name, is_weightless)), PROTOCOL), is_weightless, False, qualified


def _pickled(function: Any, by_value: list[Any]) -> tuple[bytes, bool]:
    """The pickle of a function, and whether it only names it; adds the functions and classes that it has by value."""
    try:
        data = pickle.dumps(function, PROTOCOL)
        if not goes_by_value(data):
            return data, is_importable(function)
    except Exception:
        pass
    try:
        return dumps_by_value(function, None, by_value), False
    except MemoryError:
        raise
    except Exception as error:
        raise not_picklable([(f"the function {_name(function)}", function)], "", error) from error


def _name(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    if name is None:
        inner = getattr(function, "func", None)
        name = type(function).__qualname__ if inner is None else _name(inner)
    return str(name)


def _news_of_path() -> list[str] | None:
    """The path, when there is a worker that may have another one."""
    global _told_path
    if _told_path == sys.path:
        return None
    if _told_path:
        # Whoever hears of this one would have to hear of the way back.
        _told_path = False
        _kept.clear()
    return list(sys.path)


# --- in the worker ----------------------------------------------------------------------------------------------


def unpack(data: Any) -> Any:
    """The function that ``pack`` made bytes of.

    Raises:
        ImportError, AttributeError: it cannot be had in this process; says which module is missing.
    """
    path, form, payload = pickle.loads(data)
    if path is not None and sys.path != path:
        sys.path[:] = path
    try:
        if form == "chunks":
            return Chunks(unpack(payload))
        return _late_bound(*payload) if form == "name" else _made(payload)
    except (ImportError, AttributeError) as error:
        raise explained(error) from error


def _made(payload: bytes) -> Any:
    if b"thistledown._by_value" not in payload:
        return _undecorated(pickle.loads(payload))
    from thistledown import _by_value

    function, settled = _by_value.loads(payload)
    function = _undecorated(function)
    if not settled or _core.makes_body(function):
        # Bodies of weightless tasks run side by side, with what came last.
        return function
    return _AsSent(function, settled)


class _AsSent:
    """A function that sees the classes and globals which came with it as they came, whatever came with others since."""

    def __init__(self, function: Any, settled: Any) -> None:
        self.function = function
        self.settled = settled

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for one in self.settled:
            one.restore()
        return self.function(*args, **kwargs)


def _undecorated(function: Any) -> Any:
    """What `td.task` decorates stands for the function inside."""
    decorator = sys.modules.get("thistledown._decorator")
    return function._function if decorator is not None and isinstance(function, decorator.TaskFunction) else function


def _late_bound(name: str, is_weightless: bool) -> Any:
    import importlib

    module, _, qualified = name.partition(":")
    function = _undecorated(looked_up(importlib.import_module(module), qualified))
    if not callable(function):
        raise TypeError(f"{name} is no function: {function!r}")
    if _core.makes_body(function) and not is_weightless:
        # The caller could not know. It has a run of its own, while nothing else runs in this process.
        from thistledown._run import run

        return functools.partial(run, function)
    return function
