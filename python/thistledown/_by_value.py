"""Pickling by value: cloudpickle, and what it does not know. Imported when it is needed first; it takes a while.

A class that goes by value is one class in each process that it comes to, however often it comes, so that its objects
stay its objects. It is changed to what came last; but the process in which it was written never takes changes of it
from others: what comes back are its objects alone. A function brings the classes that it needs back to what they were
when it was told to go.

The functions of the program's main module share one namespace in a worker, as they do at home: what one of them, or
the initializer, leaves in a global the others find. A global that comes along takes its place there only when it is
not what came before, so that one which nobody has changed at home stays what the worker has made of it.
"""

import contextlib
import contextvars
import enum
import functools
import hashlib
import io
import itertools
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from thistledown import _variables
from thistledown._lifetime import is_worker
from thistledown._pickler import MAINS
from thistledown._reach import is_importable

__all__ = ["Settled", "dumps", "loads", "names_of_main"]


def dumps(
    value: Any,
    protocol: int,
    keep: Callable[[pickle.PickleBuffer], bool] | None,
    by_value: list[Any] | None = None,
) -> bytes:
    """A pickle of the value.

    Args:
        keep: the pickler's ``buffer_callback``.
        by_value: each function and class that it has by value is added here.
    """
    main = sys.modules.get("__mp_main__")
    if main is not None and main.__name__ == "__mp_main__":
        # Here it can be imported by that name, and in a worker it cannot.
        cloudpickle.register_pickle_by_value(main)
    file = io.BytesIO()
    _Pickler(file, protocol, keep, by_value).dump(value)
    return file.getvalue()


def loads(data: bytes) -> tuple[Any, list["Settled | SettledNames"]]:
    """What was pickled, and the classes and globals that came with it by value."""
    known = getattr(_loading, "settled", None)
    settled: list[Settled | SettledNames] = []
    _loading.settled = settled
    try:
        return pickle.loads(data), settled
    finally:
        _loading.settled = known


def _note(settled: "Settled | SettledNames") -> None:
    settled.restore()
    noted = getattr(_loading, "settled", None)
    if noted is not None:
        noted.append(settled)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, protocol: int, keep: Any, by_value: list[Any] | None) -> None:
        super().__init__(file, protocol=protocol, buffer_callback=keep)
        self._by_value = by_value

    def reducer_override(self, value: Any) -> Any:
        reducer = _REDUCERS.get(type(value))
        if reducer is not None:
            return reducer(value)
        reduced = super().reducer_override(value)
        # Six parts, the last of them a setter, are of what is made anew.
        if not isinstance(reduced, tuple) or len(reduced) != 6:
            return reduced
        if self._by_value is not None:
            self._by_value.append(value)
        if isinstance(value, type):
            return _with_our_setter(value, reduced)
        if isinstance(value, types.FunctionType) and value.__globals__.get("__name__") in MAINS:
            return _in_main(reduced)
        return reduced


# --- classes ----------------------------------------------------------------------------------------------------

# Classes that were written in this process; those that came, with the number of what they were changed to last and
# the names that this gave them.
_own: "weakref.WeakSet[type]" = weakref.WeakSet()
_came: "weakref.WeakKeyDictionary[type, tuple[int, set[str]]]" = weakref.WeakKeyDictionary()
_changing = threading.RLock()
_numbers = itertools.count()
_loading = threading.local()


class Settled:
    """A class that came by value, and what it was to be."""

    def __init__(self, class_: type, setter: Callable[[type, Any], object], state: Any) -> None:
        self.class_ = class_
        self.setter = setter
        self.state = state
        self.number = -1

    def restore(self) -> None:
        """Changes the class to what came, unless it is that."""
        if self.number == _came.get(self.class_, (-1,))[0] != -1:
            return
        with _changing:
            self.number = next(_numbers)
            names = set(self.state[0])
            _, known = _came.get(self.class_, (0, set[str]()))
            for name in known - names:
                with contextlib.suppress(AttributeError, TypeError):
                    delattr(self.class_, name)
            self.setter(self.class_, self.state)
            _came[self.class_] = self.number, names


def _with_our_setter(class_: type, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """The recipe for a class, as cloudpickle has it, but that the last step, which changes the class, is ours."""
    if class_ not in _came:
        _own.add(class_)
    make, args, state, _, _, setter = reduced
    slots = vars(class_).get("__slots__")
    # These see to themselves.
    is_special = isinstance(class_, enum.EnumMeta) or (issubclass(class_, tuple) and "_fields" in vars(class_))
    if isinstance(slots, str | tuple | list | dict) and not is_special:
        # Without them its objects would have a dictionary there, which those here have no place for.
        args = (*args[:3], {**args[3], "__slots__": slots}, *args[4:])
        written = {name: value for name, value in state[0].items() if type(value) is not types.MemberDescriptorType}
        state = written, *state[1:]
    return make, args, (setter, state), None, None, _settle


def _settle(class_: type, change: tuple[Callable[[type, Any], object], Any]) -> None:
    if class_ in _own:
        return
    _note(Settled(class_, *change))


# --- globals of the main module ---------------------------------------------------------------------------------

ATOMS = (type(None), bool, int, float, complex, str, bytes)

_names: dict[str, Any] = {}
"""In a worker: the namespace of the functions that were written in the program's main module."""

_marks: dict[str, object] = {}
"""What each name there came with last."""

_changed = 0
"""Which change of the marks was the last."""


def names_of_main() -> dict[str, Any]:
    """In a worker: what came with functions of the program's main module, by its names there."""
    return _names


class SettledNames:
    """Globals that came with a function, and what they were to be."""

    def __init__(self, values: dict[str, Any], marks: dict[str, bytes]) -> None:
        self.values = values
        # Without a mark it is not what anything else was.
        self.marks: dict[str, object] = {name: marks.get(name) or object() for name in values}
        self.seen = -1

    def restore(self) -> None:
        """Puts those in their places which are not what came there last."""
        global _changed
        if self.seen == _changed:
            return
        with _changing:
            for name, mark in self.marks.items():
                if _marks.get(name) != mark:
                    _names[name] = self.values[name]
                    _marks[name] = mark
                    _changed += 1
            self.seen = _changed


class _Digest:
    """A file that keeps nothing but a digest of what is written to it."""

    def __init__(self, value: Any) -> None:
        self.hash = hashlib.blake2b(digest_size=16)
        if type(value) not in ATOMS:
            # A new one in its place is another one, even if it looks the same: that is how a cache is emptied.
            self.hash.update(id(value).to_bytes(8, "little"))

    def write(self, data: Any) -> None:
        self.hash.update(data)


def _mark(value: Any) -> bytes | None:
    """The same for what has not changed since; nothing for what is not compared."""
    if isinstance(value, types.FunctionType | types.ModuleType | type):
        return None
    digest = _Digest(value)
    try:
        pickle.Pickler(digest, pickle.HIGHEST_PROTOCOL).dump(value)
    except Exception:
        return None
    return digest.hash.digest()


def _in_main(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """The recipe for a function of the main module, as cloudpickle has it, but for its namespace."""
    make, args, state, _, _, setter = reduced
    values = state[1]["__globals__"]
    marks = {name: mark for name, value in values.items() if (mark := _mark(value)) is not None}
    return _made_in_main, (make, args), (setter, state, marks), None, None, _settle_in_main


def _made_in_main(make: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if not is_worker():
        # What comes back has a namespace of its own: the program's own names stay as they are.
        return make(*args)
    code, module, *rest = args
    for name, value in module.items():
        _names.setdefault(name, value)
    return make(code, _names, *rest)


def _settle_in_main(function: Any, change: tuple[Callable[[Any, Any], object], Any, dict[str, bytes]]) -> None:
    setter, state, marks = change
    if function.__globals__ is _names:
        values = state[1]["__globals__"]
        state[1]["__globals__"] = {}
        _note(SettledNames(values, marks))
    setter(function, state)


# --- what cloudpickle does not know -----------------------------------------------------------------------------


def _reduce_cached(function: Any) -> Any:
    """A function with ``functools.lru_cache``, which begins with an empty cache wherever it comes to."""
    if is_importable(function):
        return NotImplemented
    attributes = {
        name: value for name, value in vars(function).items() if name not in ("__wrapped__", "cache_parameters")
    }
    return _cached, (function.__wrapped__, function.cache_parameters()), attributes


def _cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _reduce_cached_property(value: functools.cached_property[Any]) -> Any:
    """Without the lock that it has in older versions of Python."""
    return functools.cached_property, (value.func,), {"attrname": value.attrname, "__doc__": value.__doc__}


def _reduce_file(file: io.TextIOWrapper) -> Any:
    """Refused, as other files are. cloudpickle would send its text, and what is written there would be lost."""
    if file in (sys.stdout, sys.stderr):
        # They are there in each process.
        return NotImplemented
    raise TypeError(f"cannot pickle {type(file).__qualname__!r} object")


def _reduce_weak(mapping: Any) -> tuple[type, tuple[()], None, None, Iterable[tuple[Any, Any]]]:
    """``functools.singledispatch`` has one."""
    return type(mapping), (), None, None, iter(list(mapping.items()))


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    contextvars.ContextVar: _variables.reduce_variable,
    type(functools.lru_cache(ord)): _reduce_cached,
    functools.cached_property: _reduce_cached_property,
    io.TextIOWrapper: _reduce_file,
    weakref.WeakKeyDictionary: _reduce_weak,
    weakref.WeakValueDictionary: _reduce_weak,
}
