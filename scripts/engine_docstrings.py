"""Gives the documentation the engine's docstrings: a griffe extension, used by `mkdocs.yml`.

The types of `thistledown._core` are in its stub, its docstrings in the compiled module. griffe reads the
stub; this adds to each thing in it the docstring of the real one, so that neither has to be written twice.
"""

import importlib
import inspect
from typing import Any

import griffe

ENGINE = "thistledown._core"


def _take_overloads(owner: griffe.Module | griffe.Class) -> None:
    """A function of which the stub has nothing but overloads is the first of them."""
    for name, overloads in owner.overloads.items():
        if name not in owner.members:
            function = overloads[0]
            function.overloads = overloads
            owner.set_member(name, function)


class EngineDocstrings(griffe.Extension):
    """Sets the docstring of everything that was read from the engine's stub."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Called for each module when it has been read: a stub may have nothing but overloads of a name."""
        if mod.path == ENGINE:
            _take_overloads(mod)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for each class when it has been read: the engine's are made by `__new__`, not `__init__`."""
        if cls.path.startswith(ENGINE + "."):
            _take_overloads(cls)
        if cls.path.startswith(ENGINE + ".") and "__new__" in cls.members and "__init__" not in cls.members:
            cls.set_member("__init__", cls.members["__new__"])

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for each object when all of the package has been read."""
        if obj.docstring is None and obj.path.startswith(ENGINE + "."):
            text = inspect.getdoc(_engine_object(obj.path))
            if text:
                obj.docstring = griffe.Docstring(text, parent=obj, parser="google")


def _engine_object(path: str) -> object:
    found: object = importlib.import_module(ENGINE)
    for name in path.removeprefix(ENGINE + ".").split("."):
        found = getattr(found, name, None)
    return found
