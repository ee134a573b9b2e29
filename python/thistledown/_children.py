"""Children of supervisors: what is to be started, and how it is minded. ``td.child`` and its options."""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypedDict, Unpack, get_args

from thistledown import _core
from thistledown._supervision import Restart

__all__ = ["Child", "ChildOptions", "as_child", "as_children", "child", "no_such_child"]

P = ParamSpec("P")

SHUTDOWN = 5.0
"""Seconds that a child has to end; a supervisor has as long as it takes."""


class ChildOptions(TypedDict, total=False):
    """For type checkers: the options of children and their values; see ``Child.options``."""

    name: str
    restart: Restart
    shutdown: float
    place: Any


class Child:
    """What a supervisor starts, and how it minds it: made by ``td.child``, and started by its supervisor alone."""

    def __init__(self, *_: object) -> None:
        raise TypeError("children are made by `td.child(Class, *args)` or `td.child(function, *args)`")

    _start: Any
    _args: tuple[Any, ...]
    _kwargs: dict[str, Any]
    _given: dict[str, Any]

    def options(self, **options: Unpack[ChildOptions]) -> "Child":
        """The same child with options. They never mix with the arguments of its class or function.

        Args:
            name: by which the supervisor knows it, as in ``supervisor["account"]``; else that of its class or function.
            restart: when it is started again: ``"permanent"``, which it is if nothing is said, always; ``"transient"``
                when it has failed or died, and not when it came to its end; ``"temporary"`` never.
            shutdown: seconds that it has to end once it was told to, then it is killed; 0 kills it at once. 5 if
                nothing is said, and ``math.inf`` for a supervisor.
            place: where it lives: ``td.here``, a pool, ``td.actor`` for a worker process of its own; with or without
                ``options``. If nothing is said, a worker of its own, and for a weightless body ``td.here``, which is
                where the supervisor runs.

        Raises:
            TypeError, ValueError: there is no such option, or it cannot have this value.
        """
        unknown = options.keys() - ChildOptions.__annotations__.keys()
        if unknown:
            known = ", ".join(ChildOptions.__annotations__)
            raise TypeError(f"children have no option {', '.join(sorted(unknown))}; there are {known}")
        given = {**self._given, **options}
        _check(given)
        if "place" in options:
            _check_place(self._start, options["place"])
        return _made(self._start, self._args, self._kwargs, given)

    @property
    def name(self) -> str:
        """By which the supervisor knows it."""
        return str(self._given["name"])

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"<thistledown.Child {getattr(self._start, '__qualname__', self._start)!s} with {options}>"


def child(start: Callable[P, Any] | Any, /, *args: P.args, **kwargs: P.kwargs) -> Child:
    """Says of what a supervisor's child is made: ``td.child(Account, 100).options(name="account")``.

    Args:
        start: a class, for an actor; a function, or the name of one as ``"package.module:function"``, for a task that
            runs once or for ever: weightless for a coroutine or generator function, else in a worker process; or a
            supervisor, which needs this for its options alone.
        args, kwargs: for it, each time that it is started. To a worker process they are copied.

    Returns:
        What ``td.Supervisor`` takes.

    Raises:
        TypeError: it is none of these, or a class whose constructor does not take these arguments.
    """
    if (known := _of_supervisor(start)) is not None:
        if args or kwargs:
            raise TypeError("a supervisor is there already, and takes no arguments: write `td.child(supervisor)`")
        return known
    if isinstance(start, type):
        from thistledown._messages import messages_of

        messages_of(start).check_making(args, kwargs)
    if isinstance(start, str):
        name = start.rpartition(":")[2]
    elif callable(start):
        name = getattr(start, "__name__", type(start).__name__)
    else:
        raise TypeError(
            f"a child is made of a class or a function, which can be called again when it is restarted, got {start!r}"
        )
    return _made(start, args, kwargs, {"name": name})


def _made(start: Any, args: tuple[Any, ...], kwargs: dict[str, Any], given: dict[str, Any]) -> Child:
    made: Child = object.__new__(Child)
    made._start, made._args, made._kwargs, made._given = start, args, kwargs, given
    return made


def _of_supervisor(given: Any) -> Child | None:
    from thistledown._supervisors import Supervisor

    if not isinstance(given, Supervisor):
        return None
    return _made(given, (), {}, {"name": given.name, "shutdown": math.inf})


def as_child(given: Any) -> Child:
    """What was given to a supervisor, as a child: one already, a supervisor, or what is made without arguments.

    Raises:
        TypeError: it can be none.
    """
    if isinstance(given, Child):
        return given
    if (known := _of_supervisor(given)) is not None:
        return known
    if hasattr(given, "__await__") or hasattr(given, "send"):
        raise TypeError(f"{given!r} can run only once, and a child is started again: write `td.child(function, *args)`")
    return child(given)


def as_children(given: Any) -> list[Child]:
    """What a supervisor was given, as children.

    Raises:
        TypeError: it is no list of what can be a child.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        word = getattr(given, "__name__", "child")
        raise TypeError(f"the children of a supervisor are a list, got {given!r}: write `td.Supervisor([{word}])`")
    return [as_child(one) for one in given]


def _check(given: dict[str, Any]) -> None:
    if not isinstance(given["name"], str) or not given["name"]:
        raise TypeError(f"the name of a child is a text, got {given['name']!r}")
    restart = given.get("restart", "permanent")
    if restart not in get_args(Restart):
        raise ValueError(f"restart is one of {', '.join(map(repr, get_args(Restart)))}, got {restart!r}")
    shutdown = given.get("shutdown", SHUTDOWN)
    if isinstance(shutdown, bool) or not isinstance(shutdown, int | float):
        raise TypeError(f"shutdown is a number of seconds, 0 to kill at once, got {shutdown!r}")
    if not shutdown >= 0:
        raise ValueError(f"shutdown must be >= 0 seconds, got {shutdown!r}")


def _check_place(start: Any, place: Any) -> None:
    from thistledown._places import Here

    if getattr(place, "_box_maker", None) is None:
        raise TypeError(f"{place!r} is no place: there are `td.here`, a pool of workers, and `td.actor`")
    if _of_supervisor(start) is not None:
        raise TypeError("a supervisor lives where its own supervisor does: leave out the place")
    is_function = isinstance(start, str) or not isinstance(start, type)
    if is_function and isinstance(place, Here) and (isinstance(start, str) or not _core.makes_body(start)):
        raise TypeError(f"{start!r} is a plain function, which runs in a worker process: leave out the place")


def no_such_child(name: object, known: list[str]) -> str:
    """What to say of a child that is not there."""
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f": did you mean {near[0]!r}?" if near else f"; there are {', '.join(map(repr, known))}" if known else ""
    return f"there is no child {name!r}{hint}"
