"""The class of the package's own module, whose attributes the engine finds faster than the interpreter would."""

import types
from typing import Any

from thistledown import _core

__all__ = ["Package"]


class Package(types.ModuleType):
    """A module that imports some of its attributes when they are asked for. It is pickled by its name."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, (self.__name__,)


_core.set_module_class(Package)
