"""Context variables in other processes: each is known there by where it stands, the module and the name it has in it.

One that stands nowhere a worker can import gets a token when it is sent first, which it keeps wherever it goes.
"""

import contextvars
import os
import sys
from typing import Any

__all__ = ["Location", "Variable", "found", "location", "reduce_variable"]

Variable = contextvars.ContextVar[Any]
Location = tuple[str, str]

_locations: dict[Variable, Location] = {}
_nowhere: dict[Variable, int] = {}
_by_token: dict[str, Variable] = {}


def reduce_variable(variable: Variable) -> tuple[Any, ...]:
    """For a pickler: a context variable stands for the one of the same place in the other process."""
    place = location(variable)
    if place is None or place[0] == "":
        return _anywhere, (_token(variable), variable.name, *_default(variable))
    return _standing, place


def location(variable: Variable) -> Location | None:
    """Where a variable stands: module and name, or nothing and a token; None when no other process can know it."""
    known = _locations.get(variable)
    if known is not None:
        module, name = known
        if not module or getattr(sys.modules.get(module), name, None) is variable:
            return known
        del _locations[variable]
    # Looking everywhere takes milliseconds: again only when there are more modules to look into.
    if _nowhere.get(variable) == len(sys.modules):
        return None
    main = sys.modules["__main__"]
    for module, there in list(sys.modules.items()):
        if there is main or getattr(there, "__spec__", None) is None:
            continue  # No worker can import it.
        for name, value in list(getattr(there, "__dict__", {}).items()):
            if value is variable:
                _locations[variable] = module, name
                return module, name
    if any(value is variable for value in list(vars(main).values())):
        _token(variable)
        return _locations[variable]
    _nowhere[variable] = len(sys.modules)
    return None


def _token(variable: Variable) -> str:
    known = _locations.get(variable)
    if known is not None and known[0] == "":
        return known[1]
    token = f"{os.getpid()}-{len(_by_token)}-{variable.name}"
    _by_token[token] = variable
    _locations[variable] = "", token
    return token


def _default(variable: Variable) -> tuple[Any, ...]:
    try:
        return (contextvars.Context().run(variable.get),)
    except LookupError:
        return ()


def _anywhere(token: str, name: str, *default: Any) -> Variable:
    """The variable of a token: made once in each process that it comes to."""
    if token not in _by_token:
        made: Variable = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
        _by_token[token] = made
        _locations[made] = "", token
    return _by_token[token]


def _standing(module: str, name: str) -> Variable:
    import importlib

    found: Variable = getattr(importlib.import_module(module), name)
    return found


def found(place: Location) -> Variable | None:
    module, name = place
    return _standing(module, name) if module else _by_token.get(name)
