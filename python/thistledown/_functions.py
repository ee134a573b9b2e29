"""Functions as bytes: by reference when the worker can import them, else by value.

A function that goes by value takes along what it reaches: globals, closure, defaults. Packing that each time costs a
hundred microseconds, so the bytes are kept, together with a list of what was reached; as long as each name still
stands for the very same thing, they are good. Things that can change inside, such as a list, are packed each time.
"""

import contextlib
import contextvars
import enum
import functools
import pickle
import sys
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._errors import Cancelled
from thistledown._pickling import PROTOCOL, dumps_by_value, explained, goes_by_value, not_picklable, pack_error

__all__ = ["Chunks", "pack", "tell_path", "unpack"]

REACHED = 500
"""Names that a function may reach and still be kept; checking them must stay cheaper than packing."""

ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), range, enum.Enum, enum.EnumMeta)
GONE = object()
ITSELF = object()

Place = tuple[Callable[..., Any], tuple[Any, ...], Any]

_told_path: list[str] = []
_kept: "weakref.WeakKeyDictionary[Any, tuple[list[str], list[Place], tuple[bytes, bool, bool, str]]]"
_kept = weakref.WeakKeyDictionary()


class Chunks:
    """A function that is called for each of several items in one task, for maps over many small ones."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, items: list[tuple[Any, ...]]) -> tuple[float, list[Any], bytes | None]:
        """The seconds that the calls took, what they returned, and what the last one raised instead, packed."""
        function = self.function
        results = []
        failure = None
        begun = time.perf_counter()
        try:
            for item in items:
                results.append(function(*item))
        except Cancelled:
            raise
        except BaseException as error:
            failure = pack_error(error)
        return time.perf_counter() - begun, results, failure


def tell_path() -> list[str]:
    """The path that processes which are started now are told; later changes go with the functions."""
    global _told_path
    _told_path = list(sys.path)
    return _told_path


def pack(function: Any) -> tuple[bytes, bool, bool, str]:
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
        raise TypeError(f"a task for a worker is a callable, or a name as 'package.module:function'; got {function!r}")
    if isinstance(function, Chunks):
        # What a map calls is taken as it is when the map begins.
        inner, _, _, name = pack(function.function)
        return pickle.dumps((None, "chunks", inner), PROTOCOL), False, True, name
    payload, is_reference = _pickled(function)
    data = pickle.dumps((_news_of_path(), "pickle", payload), PROTOCOL)
    packed = data, _core.makes_body(_undecorated(function)), is_reference, _name(function)
    if not is_reference:
        _keep(function, packed)
    return packed


def _pack_name(name: str) -> tuple[bytes, bool, bool, str]:
    module, colon, qualified = name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *qualified.split("."))):
        raise ValueError(f"a function is named as 'package.module:function', got {name!r}")
    is_weightless = False
    if module in sys.modules:
        with contextlib.suppress(AttributeError):
            is_weightless = _core.makes_body(_undecorated(_looked_up(sys.modules[module], qualified)))
    return pickle.dumps((_news_of_path(), "name", (name, is_weightless)), PROTOCOL), is_weightless, False, qualified


def _pickled(function: Any) -> tuple[bytes, bool]:
    """The pickle of a function, and whether it only names it."""
    try:
        data = pickle.dumps(function, PROTOCOL)
        if not goes_by_value(data):
            return data, isinstance(function, types.FunctionType | types.BuiltinFunctionType | type)
    except Exception:
        pass
    try:
        return dumps_by_value(function), False
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
    return None if sys.path == _told_path else list(sys.path)


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
        return _late_bound(*payload) if form == "name" else _undecorated(pickle.loads(payload))
    except (ImportError, AttributeError) as error:
        raise explained(error) from error


def _undecorated(function: Any) -> Any:
    """What `td.task` decorates stands for the function inside."""
    decorator = sys.modules.get("thistledown._decorator")
    return function._function if decorator is not None and isinstance(function, decorator.TaskFunction) else function


def _late_bound(name: str, is_weightless: bool) -> Any:
    import importlib

    module, _, qualified = name.partition(":")
    function = _undecorated(_looked_up(importlib.import_module(module), qualified))
    if not callable(function):
        raise TypeError(f"{name} is no function: {function!r}")
    if _core.makes_body(function) and not is_weightless:
        # The caller could not know. It has a run of its own, while nothing else runs in this process.
        from thistledown._run import run

        return functools.partial(run, function)
    return function


def _looked_up(module: types.ModuleType, qualified: str) -> Any:
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part)
    return found


# --- what was reached -------------------------------------------------------------------------------------------


class _Changeable(Exception):
    """It reaches something that may change inside, or too much."""


def _recall(function: Any) -> tuple[bytes, bool, bool, str] | None:
    known = _kept.get(function) if type(function) is types.FunctionType else None
    if known is None:
        return None
    path, places, packed = known
    if path != sys.path:
        return None
    for look, where, then in places:
        if look(*where) is not (function if then is ITSELF else then):
            return None
    return packed


def _keep(function: Any, packed: tuple[bytes, bool, bool, str]) -> None:
    if type(function) is not types.FunctionType:
        return
    places: list[Place] = []
    try:
        _reach_function(function, places, {id(function)})
    except _Changeable:
        _kept.pop(function, None)
        return
    # Nothing kept may hold the function itself: it is to be forgotten when nobody else has it.
    path = list(sys.path)
    _kept[function] = (
        path,
        [(look, where, ITSELF if then is function else then) for look, where, then in places],
        packed,
    )


def _reach_function(function: types.FunctionType, places: list[Place], seen: set[int]) -> None:
    if vars(function).keys() - {"__wrapped__"}:
        raise _Changeable
    for value in vars(function).values():
        _reach_value(value, places, seen)
    for cell in function.__closure__ or ():
        inner = _cell_contents(cell)
        if isinstance(inner, types.FunctionType | type) and not _is_importable(inner):
            # It may be, or hold, the function itself: keeping the cell would keep both for ever.
            raise _Changeable
        _reach(_cell_contents, (cell,), places, seen)
    for name in _names(function.__code__):
        _reach(function.__globals__.get, (name, GONE), places, seen)
    for value in (function.__defaults__ or (), *(function.__kwdefaults__ or {}).values()):
        _reach_value(value, places, seen)


def _names(code: types.CodeType) -> set[str]:
    """Names that may be globals, those of inner functions as well."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _cell_contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return GONE


def _reach(look: Callable[..., Any], where: tuple[Any, ...], places: list[Place], seen: set[int]) -> None:
    value = look(*where)
    places.append((look, where, value))
    if len(places) > REACHED:
        raise _Changeable
    _reach_value(value, places, seen)


def _reach_value(value: Any, places: list[Place], seen: set[int]) -> None:
    if value is GONE or isinstance(value, ATOMS) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, tuple | frozenset) and type(value) in (tuple, frozenset):
        for item in value:
            _reach_value(item, places, seen)
    elif isinstance(value, types.ModuleType):
        if sys.modules.get(value.__name__) is not value:
            raise _Changeable
    elif isinstance(value, contextvars.ContextVar) or _is_importable(value):
        return
    elif isinstance(value, staticmethod | classmethod):
        _reach_value(value.__func__, places, seen)
    elif isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            _reach_value(part, places, seen)
    elif type(value) is types.FunctionType:
        _reach_function(value, places, seen)
    elif type(value) is type:
        _reach_class(value, places, seen)
    else:
        raise _Changeable


def _reach_class(class_: type, places: list[Place], seen: set[int]) -> None:
    for base in class_.__bases__:
        _reach_value(base, places, seen)
    for name, value in list(vars(class_).items()):
        if name.startswith("__") and not (isinstance(value, types.FunctionType) and _is_written(value)):
            places.append((vars(class_).get, (name, GONE), value))
        else:
            _reach(vars(class_).get, (name, GONE), places, seen)


def _is_written(method: types.FunctionType) -> bool:
    """Whether a special method was written by somebody, and not made by ``dataclasses``."""
    return method.__code__.co_filename != "<string>" and method.__globals__.get("__name__") != "dataclasses"


def _is_importable(value: Any) -> bool:
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualified, str) or module == "__main__":
        return False
    try:
        return module in sys.modules and _looked_up(sys.modules[module], qualified) is value
    except AttributeError:
        return False
