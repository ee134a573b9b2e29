"""What can be said to an actor, as its class has it: methods and their arguments, and what else it has.

Asked before anything is sent, so that a slip is an error where it is made. What a class says of itself is remembered
with it, and forgotten with it.

Not in here: instances. An attribute that only an instance has is known by its name in the code of the class.
"""

import contextlib
import functools
import sys
import types
import weakref
from collections.abc import Iterator
from typing import Any

from thistledown import _core

__all__ = ["Messages", "check", "messages_of"]

VARIADIC = 0x04 | 0x08
"""Flags of a function's code: it takes any number of arguments, by position or by name."""

ASYNC_GENERATOR = 0x200
"""The flag of its code."""

MANY = 1 << 30
"""More arguments than there are."""

FREELY = frozenset({"setattr", "__dict__", "vars", "update"})
"""Names in the code of a class that may give instances attributes of any name."""


BOUND_LATE = (staticmethod, classmethod, functools.partialmethod, functools.singledispatchmethod)
"""What stands in a class for a method, and can be called of an instance alone."""

CONSTRUCTORS = ("__init__", "__new__", "__init_subclass__")


class Messages:
    """What instances of a class understand."""

    def __init__(self, owner: type[Any]) -> None:
        self._owner = weakref.ref(owner)
        self._methods: dict[str, Counts | None] = {}

    @property
    def owner(self) -> type[Any]:
        owner = self._owner()
        assert owner is not None
        return owner

    def is_method(self, name: str) -> bool:
        """Whether this is a method; else it is an attribute.

        Raises:
            AttributeError: it is neither.
        """
        if name in self._methods:
            return True
        owner = self.owner
        found = _found(owner, name)
        if callable(found) or isinstance(found, BOUND_LATE):
            self._methods[name] = _counts(found)
            return True
        if found is None and not _may_have(owner, name):
            raise AttributeError(_no_such(owner, name), name=name, obj=owner)
        return False

    def name_of(self, method: Any) -> str:
        """The name of a method that the class has, its own or inherited; what overrides it is called in its place.

        Raises:
            TypeError: it is none of the class, or makes its instances.
        """
        name = method if isinstance(method, str) else getattr(method, "__name__", None)
        if not isinstance(name, str):
            raise TypeError(f"ask takes a method of the actor's class or its name, got {method!r}")
        owner = self.owner
        if not isinstance(method, str) and not any(
            _is_same(getattr(kind, name, None), method) for kind in owner.__mro__
        ):
            word = getattr(method, "__qualname__", name)
            raise TypeError(
                f"{word} is no method of {owner.__qualname__}, which the actor is: write "
                f"`handle.ask({owner.__qualname__}.method, ...)`, or the method's name"
            )
        if name in CONSTRUCTORS:
            raise TypeError(
                f"{owner.__qualname__}.{name} has made the actor, and is called once: make another one, or give "
                f"{owner.__qualname__} a method that begins anew"
            )
        return name

    def check(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Whether a method takes these arguments.

        Raises:
            TypeError: it does not; in the words of a call.
            AttributeError: it is no method.
        """
        if not self.is_method(name):
            raise AttributeError(f"{self.owner.__qualname__}.{name} is an attribute and not a method", name=name)
        counts = self._methods[name]
        if counts is not None and (kwargs or not counts.least <= len(args) <= counts.most):
            _explain(_function(_found(self.owner, name)), counts.bound, args, kwargs)

    def route(self, name: str) -> _core.Route:
        """A method as the engine knows it, so that a call of it need not be looked at here when its arguments fit."""
        counts = self._methods[name]
        found = getattr(self.owner, name, None)
        origin = getattr(found, "__qualname__", None)
        least, most = (0, MANY) if counts is None else (counts.least, counts.most)
        return _core.Route(sys.intern(name), origin if isinstance(origin, str) else name, least, most)

    def check_making(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Whether an instance can be made of these arguments, as far as that can be known.

        Raises:
            TypeError: it cannot; in the words of a call.
        """
        owner = self.owner
        is_plain = type(owner) is type and _found(owner, "__new__") is _found(object, "__new__")
        if is_plain and isinstance(_found(owner, "__init__"), types.FunctionType):
            self.check("__init__", args, kwargs)
            return
        import inspect

        # Some that are not written in Python do not say.
        with contextlib.suppress(ValueError):
            making = inspect.signature(owner, follow_wrapped=False)
            try:
                making.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{owner.__qualname__}(): {error}") from None


class Counts:
    """How many arguments a method takes by position."""

    __slots__ = ("bound", "least", "most")

    def __init__(self, function: types.FunctionType, bound: int) -> None:
        code, defaults = function.__code__, function.__defaults__ or ()
        keyword_only = code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
        # What stands before them: the instance, or the class.
        self.bound = bound
        # One that must be given by name is looked at with the names; an async generator is refused.
        is_simple = keyword_only == 0 and not code.co_flags & ASYNC_GENERATOR
        self.least = code.co_argcount - len(defaults) - bound if is_simple else MANY
        self.most = MANY if code.co_flags & VARIADIC else code.co_argcount - bound


def _counts(found: Any) -> Counts | None:
    function = _function(found)
    return None if function is None else Counts(function, 0 if isinstance(found, staticmethod) else 1)


def _function(found: Any) -> types.FunctionType | None:
    """The function that a method is, if it is one. It may keep its class, so it is not remembered with that."""
    function = found.__func__ if isinstance(found, staticmethod | classmethod) else found
    return function if isinstance(function, types.FunctionType) else None


def _explain(function: types.FunctionType | None, bound: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuses arguments in the words of a call. ``bound``: how many stand before them, as the instance does."""
    import inspect

    if function is None:
        return
    if function.__code__.co_flags & ASYNC_GENERATOR:
        raise TypeError(
            f"{function.__qualname__} is an async generator, whose values would be made outside of the "
            "actor's turns: let it send them into a channel that it is given, `await channel.send(value)`, or "
            "return a list"
        )
    signature = inspect.signature(function)
    try:
        # First what is not known there: when a name is misspelt, that says more than that another one is missing.
        signature.bind_partial(*(None,) * bound, *args, **kwargs)
        signature.bind(*(None,) * bound, *args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{function.__qualname__}(): {error}") from None


def _is_same(found: Any, method: Any) -> bool:
    """Whether it is the same, or was: a class that came by value gets new functions when it has changed at home."""
    if found is method:
        return True
    names = [(getattr(one, "__module__", None), getattr(one, "__qualname__", None)) for one in (found, method)]
    return names[0] == names[1] and None not in names[0]


def _found(owner: type[Any], name: str) -> Any:
    """What the class has by this name, as it stands there; None for nothing."""
    for kind in owner.__mro__:
        if name in kind.__dict__:
            return kind.__dict__[name]
    return None


def _may_have(owner: type[Any], name: str) -> bool:
    """Whether an instance may have this attribute, though the class has not."""
    if _found(owner, "__getattr__") or _found(owner, "__getattribute__") is not object.__dict__["__getattribute__"]:
        return True
    return any(name in names or names & FREELY for names in _written(owner))


def _written(owner: type[Any]) -> Iterator[set[str] | frozenset[str]]:
    """The names that its code and its annotations speak of."""
    import inspect

    for kind in owner.__mro__[:-1]:
        yield frozenset(inspect.get_annotations(kind))
        for value in kind.__dict__.values():
            function = getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType):
                yield {name for code in _codes(function.__code__) for name in code.co_names}


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _no_such(owner: type[Any], name: str) -> str:
    import difflib

    names = {known for known in dir(owner) if not known.startswith("_")}
    names |= {known for written in _written(owner) for known in written if not known.startswith("_")}
    near = difflib.get_close_matches(name, sorted(names), 1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return f"{owner.__qualname__} has no method or attribute {name!r}{hint}"


_known: "weakref.WeakKeyDictionary[type[Any], Messages]" = weakref.WeakKeyDictionary()


def messages_of(owner: type[Any]) -> Messages:
    """What instances of this class understand."""
    known = _known.get(owner)
    if known is None:
        known = _known[owner] = Messages(owner)
    return known


def check(owner: type[Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Whether a method of this class takes these arguments. The engine calls this. Raises as ``Messages.check``."""
    messages_of(owner).check(name, args, kwargs)
