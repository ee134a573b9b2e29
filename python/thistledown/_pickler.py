"""Python's pickler, and cloudpickle for what belongs to ``__main__``, which no worker imports.

The C pickler goes first; the other one is imported when it is needed first.
"""

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["MAINS", "PROTOCOL", "dumps", "dumps_by_reference", "dumps_by_value", "explained", "goes_by_value"]

PROTOCOL = 5

MAINS = ("__main__", "__mp_main__")
"""What a program's main module is called: by itself, and in a child that ``multiprocessing`` has started anew."""


def dumps(value: Any) -> bytes:
    """A pickle in which what no worker can import stands by value: by the C pickler, if that can do it."""
    data = dumps_by_reference(value)
    return dumps_by_value(value) if data is None else data


def dumps_by_reference(value: Any) -> bytes | None:
    """The C pickler's pickle, if it can make one that every process can read."""
    try:
        data = pickle.dumps(value, PROTOCOL)
        return None if goes_by_value(data) else data
    except MemoryError:
        raise
    except Exception:
        return None


def dumps_by_value(
    value: Any,
    keep: Callable[[pickle.PickleBuffer], bool] | None = None,
    by_value: list[Any] | None = None,
) -> bytes:
    """A pickle in which what no worker can import stands by value; see ``_by_value.dumps``."""
    from thistledown import _by_value

    return _by_value.dumps(value, PROTOCOL, keep, by_value)


def goes_by_value(data: bytes) -> bool:
    """Whether a pickle names something that no worker can import, or that is registered to go by value."""
    # Each of `MAINS`.
    if b"_main__" in data:
        return True
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is None:
        return False
    # Another thread may be importing it just now.
    registry: set[str] = getattr(cloudpickle, "list_registry_pickle_by_value", set)()
    return bool(registry) and any(name.encode() in data for name in registry)


def explained(error: ImportError | AttributeError) -> ImportError | AttributeError:
    """The same, saying that it is this process which cannot import something; others are given back as they are."""
    if isinstance(error, ImportError):
        words = f"process {os.getpid()} cannot import what the task needs: {error}; it looks in {sys.path}"
        kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
        return kind(words, name=error.name, path=error.path)
    if not str(error).startswith("Can't get attribute"):
        return error
    words = f"process {os.getpid()} does not find what the task needs: {error}"
    return AttributeError(words, name=error.name, obj=error.obj)
