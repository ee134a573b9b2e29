"""Modules that start tasks while they are imported: refused, where that would go on without end.

A worker imports the module of what it calls. When that module starts a task in turn, another worker imports it, and so
on; and a module that waits for a task of its own waits for ever. So tasks are refused in a thread that imports for the
sake of a task (``_core.set_importing``), and everywhere when their function is of a module that is half imported.
Source: ``multiprocessing``, which refuses to start a process while the main module is imported again.
"""

import functools
import sys
import types
from typing import Any, NoReturn

__all__ = ["refuse_half_imported", "refuse_while_importing"]


def refuse_half_imported(function: Any) -> None:
    """Refuses a function, or the name of a module, that a worker can only have by importing what is being imported.

    Raises:
        RuntimeError: its module, or a package around that, is being imported.
    """
    while isinstance(function, functools.partial):
        function = function.func
    name = function if isinstance(function, str) else getattr(function, "__module__", None)
    while isinstance(name, str) and name:
        if _is_half_imported(sys.modules.get(name)):
            _refuse(name)
        name = name.rpartition(".")[0]


def refuse_while_importing() -> None:
    """Refuses a task that a module starts while this thread imports it for the sake of another one.

    The engine calls this when a task is started there. It may be code of a module that is imported already: what runs
    while an object is unpacked may start tasks.

    Raises:
        RuntimeError: a module is being imported.
    """
    frame: types.FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_globals.get("__name__")
        module = sys.modules.get(name) if isinstance(name, str) else None
        if frame.f_code.co_name == "<module>" and _is_half_imported(module):
            assert isinstance(name, str)
            _refuse(name)
        frame = frame.f_back


def _is_half_imported(module: types.ModuleType | None) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


def _refuse(name: str) -> NoReturn:
    raise RuntimeError(
        f"module {name} starts tasks while it is imported, and each worker that runs one would import it in turn: put "
        'that in a function, or under `if __name__ == "__main__":`'
    )
