"""What a space holds that is no plain value: its pickle.

Who takes it may be this process, a worker, or, of a space on a file, the next run of the program; so what no other
process can import (classes and functions of the main module, lambdas, local classes) has its name in the pickle, and
its value too. The program itself finds it by the name, so that an object of ``Job`` is one of that ``Job`` which the
script has now; a worker, which never imports that script, finds it among what came with its functions, or makes it.

A name of the main module means something in that program alone. Another one that opens the same file is told so.
"""

import _pickle
import functools
import io
import os
import sys
import types
from typing import Any

from thistledown._errors import NotPicklable
from thistledown._lifetime import is_worker
from thistledown._pickler import MAINS, PROTOCOL, dumps_by_reference, dumps_by_value
from thistledown._reach import is_importable, looked_up

__all__ = ["found", "pack", "program"]

MAIN = "__main__"


@functools.cache
def program() -> str:
    """The name of the program that this process is, or of that of which it is a worker: the file of its main module."""
    if is_worker():
        return str(sys.modules["thistledown._worker"].program)
    file = getattr(sys.modules[MAIN], "__file__", None)
    # What was typed in is there only as long as the process.
    return os.path.realpath(file) if isinstance(file, str) else f"process {os.getpid()}, {os.urandom(8).hex()}"


def pack(value: Any) -> bytes:
    """The pickle of what is written into a space.

    Raises:
        NotPicklable: it has none.
    """
    data = dumps_by_reference(value)
    if data is not None:
        return data
    try:
        file = io.BytesIO()
        _Pickler(file, PROTOCOL).dump(value)
        return file.getvalue()
    except MemoryError:
        raise
    except Exception as error:
        kind = type(value).__qualname__
        raise NotPicklable(
            f"a {kind} cannot be written into a space, which keeps a copy of it, its pickle ({error}): write plain "
            "values from which it can be made"
        ) from error


class _Pickler(_pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, type | types.FunctionType) or value.__module__ == "builtins" or is_importable(value):
            return NotImplemented
        return found, (program(), _name(value), value.__qualname__, dumps_by_value(value))


def _name(value: Any) -> str | None:
    """By which the program finds it, if there is such a name."""
    name: str = value.__qualname__
    if value.__module__ not in MAINS or "<" in name:
        return None
    # What a worker has of the main module came from there. At home another one may have taken its place.
    return name if is_worker() or _in_main(vars(sys.modules[MAIN]), name) is value else None


def _in_main(names: dict[str, Any], name: str) -> Any:
    first, _, rest = name.partition(".")
    try:
        return looked_up(names[first], rest) if rest else names[first]
    except (KeyError, AttributeError):
        return None


def found(written_by: str, name: str | None, shown: str, value: bytes) -> Any:
    """What no other process can import, where a tuple with it is taken.

    Args:
        written_by: the program whose it is.
        name: by which its main module has it; ``None``: by none.
        shown: what people call it.
        value: it, by value.

    Raises:
        ImportError: it is another program's, or its program has it no more.
    """
    if written_by != program():
        raise ImportError(
            f"the tuple holds an object that needs {shown}, which is of the main module of another program "
            f"({written_by}): write {shown} in a module that both programs import"
        )
    if name is not None:
        known = _in_main(_names(), name)
        if known is not None:
            return known
        if not is_worker():
            raise ImportError(
                f"the tuple holds an object that needs {name}, which the main module of this program has no more: "
                f"bring {name} back to take it"
            )
    return _pickle.loads(value)


def _names() -> dict[str, Any]:
    if not is_worker():
        return vars(sys.modules[MAIN])
    by_value = sys.modules.get("thistledown._by_value")
    return {} if by_value is None else by_value.names_of_main()
