"""How the zygote of a pool is started: its command, its environment, and what it is prepared with."""

import os
import pickle
import sys
import types
from collections.abc import Callable
from typing import Any

from thistledown import _carried, _chunks, _core, _functions, _pickler, _pickling, _reach, _spaces
from thistledown._errors import NotPicklable
from thistledown._pickler import MAINS

__all__ = ["cores", "launch", "packed_initializer"]

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
"""Where this package is, for an interpreter that would not find it by itself."""

START = """\
import sys
if not sys.flags.safe_path:
    del sys.path[0]
sys.path.append({folder!r})
from thistledown._zygote import main
main(int(sys.argv[-1]))
"""
"""The program of the zygote. Nothing of the current folder may stand in the way of a module of the library."""

FLAGS = (
    "debug",
    "optimize",
    "dont_write_bytecode",
    "no_user_site",
    "no_site",
    "ignore_environment",
    "verbose",
    "bytes_warning",
    "quiet",
    "isolated",
    "dev_mode",
    "safe_path",
)
"""Flags of the interpreter that go along."""

Packed = tuple[bytes, list[bytes]]


def launch(
    size: int, preload: list[str], initializer: tuple[bytes | None, Packed], token: int, first: Any
) -> tuple[list[str], dict[str, str], bytes]:
    """What starts the zygote of a pool. The engine calls this, before it packs the first task.

    Args:
        size: of the pool: processes that work at a time.
        preload: names of modules that the zygote is to import.
        initializer: what each worker calls first, packed.
        token: the pool's number, which its workers know it by.
        first: the function of the first task.

    Returns:
        Its command, to which the number of its socket's descriptor is to be added; its environment; what it is to be
        prepared with.
    """
    if not sys.executable:
        raise RuntimeError(
            "worker processes need a Python interpreter to run, and this one, embedded in another program, does not "
            "know of any: set sys.executable to the path of one before the first task"
        )
    folder = _folder()
    flags = _interpreter_flags()
    if folder is None:
        # CPython 3.13.0 cannot import much while the first folder of its path is one that is gone.
        flags.append("-P")
    command = [sys.executable, *flags, "-c", START.format(folder=FOLDER)]
    environment = dict(os.environ)
    environment |= _carried.thread_limits(max(1, cores() // size), environment)
    settings = {
        "telling": _carried.telling(),
        "initializer": initializer,
        "pool": token,
        "program": _spaces.program(),
    }
    preparation = {
        "path": _functions.tell_path(),
        "cwd": folder or "/",
        "argv": list(getattr(sys, "argv", [""])),
        "authkey": _authkey(),
        "preload": [*preload, *(["cloudpickle"] if _will_send_by_value(first) else [])],
        "worker": pickle.dumps(settings, _pickler.PROTOCOL),
    }
    return command, environment, pickle.dumps(preparation, _pickler.PROTOCOL)


def _interpreter_flags() -> list[str]:
    if not sys.warnoptions and not sys._xoptions and not any(getattr(sys.flags, name) for name in FLAGS):
        return []
    # The standard library knows how to write them; it takes milliseconds to import.
    import subprocess

    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return flags


def _will_send_by_value(first: Any) -> bool:
    """Whether the workers will soon need cloudpickle: it is in use here, or there are functions that go by value."""
    if "cloudpickle" in sys.modules:
        return True
    inner = first.function if isinstance(first, _chunks.Chunks) else first
    if type(inner) is types.FunctionType and not _reach.is_importable(inner):
        return True
    values = list(vars(sys.modules["__main__"]).values())
    return any(type(value) is types.FunctionType and value.__module__ in MAINS for value in values)


def _authkey() -> bytes | None:
    """What opens the connections of this program's ``multiprocessing``, as to a manager's queues, if it has any."""
    multiprocessing = sys.modules.get("multiprocessing.process")
    return None if multiprocessing is None else bytes(multiprocessing.current_process().authkey)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def packed_initializer(
    initializer: Callable[..., object] | str | None, initargs: tuple[Any, ...]
) -> tuple[bytes | None, Packed]:
    if initializer is None:
        return None, (b"", [])
    if not callable(initializer) and not isinstance(initializer, str):
        raise TypeError(f"initializer must be a function, got {initializer!r}")
    if callable(initializer) and _core.makes_body(initializer):
        raise TypeError(
            f"initializer must be a plain function, got {initializer!r}, which makes a weightless task: "
            "write a function that calls `td.run(...)` with it"
        )
    try:
        args = tuple(initargs)
    except TypeError:
        raise TypeError(f"initargs is a tuple of arguments, got {initargs!r}") from None
    try:
        data, buffers = _pickling.pack_call(args, {})
    except NotPicklable as error:
        raise NotPicklable(f"of initargs {error}") from error.__cause__
    return _pickling.pack_function(initializer)[0], (data, [bytes(buffer) for buffer in buffers])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
