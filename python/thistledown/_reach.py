"""What a function that goes by value reaches, and whether all of it is still what it was.

The bytes of such a function are good as long as everything in them stands unchanged: its code, defaults, attributes
and annotations, the globals that it names, the contents of its closure, and the same of each function and class that
it reaches so. A ``Snapshot`` remembers which things these were, and compares them by identity; so a number that was
replaced by an equal one counts as a change. What reaches something that can change inside, as a list can, has no
snapshot.

Functions and classes are held weakly: a snapshot must not keep alive what may hold the function itself. What Python
makes for a class, such as ``__dataclass_fields__``, is compared as a whole, not inside.
"""

import enum
import functools
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thistledown._pickler import MAINS

__all__ = ["Snapshot", "is_importable", "looked_up"]

REACHED = 500
"""Names that a function may reach and still have a snapshot; comparing must stay cheaper than packing."""

ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented), range)

UNCHANGING = {
    "builtins.wrapper_descriptor",
    "contextvars.ContextVar",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "decimal.Decimal",
    "fractions.Fraction",
    "logging.Logger",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib._local.PosixPath",
    "pathlib._local.PurePosixPath",
    "re.Pattern",
    "uuid.UUID",
}
"""Classes whose objects do not change inside, or stand for something by name."""

PARTS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func", "attrname"),
    type(functools.lru_cache(ord)): ("__wrapped__",),
    # These have nothing inside that could change, but hold the class that they belong to.
    types.GetSetDescriptorType: (),
    types.MemberDescriptorType: (),
}
"""What stands around functions, and where in it they are."""

GONE = object()

Held = Callable[[], Any]


class _Changeable(Exception):
    """Something reached may change inside, or there is too much of it."""


class Snapshot:
    """What a function reached when this was made.

    Raises:
        ValueError: it reaches what may change inside, or too much.
    """

    __slots__ = ("function", "others")

    def __init__(self, function: types.FunctionType, by_value: Iterable[Any]) -> None:
        """Takes it.

        Args:
            function: what is looked at.
            by_value: each function and class that is in its bytes. One that is not found here makes it changeable.
        """
        reach = _Reach()
        try:
            self.function = reach.function(function)
        except _Changeable:
            raise ValueError("it reaches something that may change") from None
        if any(id(one) not in reach.seen for one in by_value):
            raise ValueError("it reaches something in a way that is not known")
        self.others: list[tuple[Held, _FunctionState | _ClassState]] = [*reach.functions, *reach.classes]

    def is_of(self, function: types.FunctionType) -> bool:
        """Whether all that the function reaches is what it was."""
        if not self.function.is_of(function):
            return False
        for held, state in self.others:
            one = held()
            if one is None or not state.is_of(one):
                return False
        return True


class _Table:
    """Values by name."""

    __slots__ = ("firm", "parts", "size", "weak")

    def __init__(self, size: int | None) -> None:
        # None: there may be more names, which do not matter.
        self.size = size
        self.firm: list[tuple[Any, Any]] = []
        self.weak: list[tuple[Any, Held]] = []
        self.parts: list[tuple[Any, type, list[tuple[str, Held]]]] = []

    def is_of(self, values: Mapping[Any, Any]) -> bool:
        if self.size is not None and self.size != len(values):
            return False
        get = values.get
        for name, value in self.firm:
            if get(name, GONE) is not value:
                return False
        if not self.weak and not self.parts:
            return True
        for name, held in self.weak:
            if get(name, GONE) is not held():
                return False
        for name, kind, parts in self.parts:
            whole = get(name, GONE)
            if type(whole) is not kind or any(getattr(whole, part) is not held() for part, held in parts):
                return False
        return True


class _FunctionState:
    __slots__ = (
        "annotations",
        "attributes",
        "closure",
        "code",
        "defaults",
        "documentation",
        "globals",
        "keywords",
        "module",
        "name",
    )

    def __init__(self, function: types.FunctionType) -> None:
        self.code = function.__code__
        self.defaults = function.__defaults__
        self.name = function.__qualname__
        self.module = function.__module__
        self.documentation = function.__doc__
        self.globals = _Table(None)
        # None: there were none.
        self.keywords: _Table | None = None
        self.annotations: _Table | None = None
        self.attributes: _Table | None = None
        self.closure: _Table | None = None

    def is_of(self, function: types.FunctionType) -> bool:
        if (
            function.__code__ is not self.code
            or function.__defaults__ is not self.defaults
            or function.__qualname__ is not self.name
            or function.__module__ is not self.module
            or function.__doc__ is not self.documentation
            or not self.globals.is_of(function.__globals__)
        ):
            return False
        # Mostly there are none of these; asking each by itself is what takes least time.
        values = function.__kwdefaults__
        if values if self.keywords is None else not self.keywords.is_of(values or {}):
            return False
        values = function.__annotations__
        if values if self.annotations is None else not self.annotations.is_of(values):
            return False
        values = function.__dict__
        if values if self.attributes is None else not self.attributes.is_of(values):
            return False
        return self.closure is None or self.closure.is_of(_closure(function))


class _ClassState:
    __slots__ = ("attributes", "bases")

    def __init__(self, class_: type) -> None:
        self.bases: list[Held] = [weakref.ref(base) for base in class_.__bases__]
        self.attributes = _Table(len(vars(class_)))

    def is_of(self, class_: type) -> bool:
        bases = class_.__bases__
        if len(bases) != len(self.bases) or any(one is not held() for one, held in zip(bases, self.bases, strict=True)):
            return False
        return self.attributes.is_of(class_.__dict__)


class _Reach:
    """One walk through what a function reaches."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.functions: list[tuple[Held, _FunctionState]] = []
        self.classes: list[tuple[Held, _ClassState]] = []
        self.count = 0

    def function(self, function: types.FunctionType) -> _FunctionState:
        self.seen.add(id(function))
        state = _FunctionState(function)
        known = function.__globals__
        for name in _names(function.__code__):
            self.add(state.globals, name, known.get(name, GONE))
        self.items(function.__defaults__ or ())
        state.keywords = self.table(function.__kwdefaults__, self.value)
        state.attributes = self.table(function.__dict__, self.value)
        state.annotations = self.table(function.__annotations__, self.annotation)
        state.closure = self.table(_closure(function), self.value)
        return state

    def table(self, values: Mapping[Any, Any] | None, look: Callable[[Any], None]) -> _Table | None:
        if not values:
            return None
        table = _Table(len(values))
        for name, value in values.items():
            self.add(table, name, value, look)
        return table

    def add(self, table: _Table, name: Any, value: Any, look: Callable[[Any], None] | None = None) -> None:
        self.count += 1
        if self.count > REACHED:
            raise _Changeable
        names = PARTS.get(type(value))
        if names is not None:
            parts = [(part, getattr(value, part)) for part in names]
            for _, one in parts:
                self.value(one)
            table.parts.append((name, type(value), [(part, _held(one)) for part, one in parts]))
            return
        (look or self.value)(value)
        if isinstance(value, types.FunctionType | type):
            table.weak.append((name, weakref.ref(value)))
        else:
            table.firm.append((name, value))

    def value(self, value: Any) -> None:
        if value is GONE or isinstance(value, ATOMS) or id(value) in self.seen:
            return
        kind = type(value)
        if kind is tuple or kind is frozenset:
            self.items(value)
        elif issubclass(kind, types.ModuleType):
            if sys.modules.get(value.__name__) is not value:
                raise _Changeable
        elif is_importable(value) or f"{kind.__module__}.{kind.__qualname__}" in UNCHANGING:
            return
        elif kind is types.FunctionType:
            self.functions.append((weakref.ref(value), self.function(value)))
        elif kind is type or kind is enum.EnumMeta:
            self.class_(value)
        elif isinstance(value, enum.Enum):
            self.value(kind)
        else:
            raise _Changeable

    def items(self, items: Iterable[Any]) -> None:
        """Values that something holds which is itself held here: no functions or classes that go by value."""
        for item in items:
            if isinstance(item, types.FunctionType | type) and not is_importable(item):
                raise _Changeable
            self.value(item)

    def class_(self, class_: type) -> None:
        self.seen.add(id(class_))
        state = _ClassState(class_)
        self.classes.append((weakref.ref(class_), state))
        for base in class_.__bases__:
            self.value(base)
        is_enum = isinstance(class_, enum.EnumMeta)
        for name, value in list(vars(class_).items()):
            if name == "__annotations__":
                self.annotation(tuple(value.values()))
            if (is_enum or name.startswith("__")) and not _is_written(value):
                self.made(value)
                state.attributes.firm.append((name, value))
            else:
                self.add(state.attributes, name, value)

    def made(self, value: Any) -> None:
        """What Python has made for a class: nobody changes it inside."""
        if isinstance(value, type):
            self.value(value)
        elif isinstance(value, types.FunctionType) and id(value) not in self.seen:
            self.seen.add(id(value))
            for inner in (*_closure(value).values(), *vars(value).values()):
                self.made(inner)

    def annotation(self, value: Any) -> None:
        """Looks for classes; whatever else stands in an annotation is compared as a whole."""
        if isinstance(value, type) and not isinstance(value, types.GenericAlias):
            self.value(value)
            return
        parts = value if isinstance(value, tuple) else getattr(value, "__args__", ())
        for part in parts if isinstance(parts, tuple) else ():
            self.annotation(part)


def _held(value: Any) -> Held:
    return weakref.ref(value) if isinstance(value, types.FunctionType | type) else lambda: value


def _closure(function: types.FunctionType) -> dict[int, Any]:
    contents = {}
    for place, cell in enumerate(function.__closure__ or ()):
        try:
            contents[place] = cell.cell_contents
        except ValueError:
            contents[place] = GONE
    return contents


def _names(code: types.CodeType) -> set[str]:
    """Names that may be globals, those of inner functions as well."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names(constant)
    return names


def _is_written(value: Any) -> bool:
    """Whether it is a method that somebody wrote, and that was not made by ``dataclasses``."""
    if not isinstance(value, types.FunctionType):
        return type(value) in PARTS
    if value.__globals__.get("__name__") in ("dataclasses", "reprlib"):
        # One of their own, which all classes share; or what they have put around one, and holds a set.
        value = vars(value).get("__wrapped__")
        if value is None:
            return False
    return not value.__code__.co_qualname.startswith("__create_fn__.")


def is_importable(value: Any) -> bool:
    """Whether a worker can import it by the name that it has."""
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualified, str) or module in MAINS:
        return False
    try:
        return module in sys.modules and looked_up(sys.modules[module], qualified) is value
    except AttributeError:
        return False


def looked_up(module: types.ModuleType, qualified: str) -> Any:
    """What a module has by a qualified name.

    Raises:
        AttributeError: it has nothing by that name.
    """
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part)
    return found
