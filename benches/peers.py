"""Who is measured: the peers, whether they are installed, and how each likes to be started.

A peer is optional. It is loaded by name when its case runs, in a process of its own, so that one that is
missing costs its row and no more, and one that is present cannot disturb another.
"""

import asyncio
import importlib
import importlib.util
import platform
from collections.abc import Coroutine
from importlib import metadata
from typing import Any, TypeVar

T = TypeVar("T")

OURS = "thistledown"
#: The scheduler of the article, in plain Python: what the idea costs without an engine. It is no library.
SEED = "seed"

#: Event loops that asyncio's own tasks, queues and streams run on.
LOOPS = ("asyncio", "uvloop", "rloop")
PACKAGES = (OURS, "uvloop", "rloop", "gevent", "trio", "curio", "loky", "pebble", "mpire", "ray", "dask", "pykka")

#: Peers that take so long to start that they are measured in the first rounds only.
MOST_ROUNDS = {"ray": 2, "dask": 2}

#: Curio checks itself with assertions that search its ready queue: with a thousand tasks they cost ten times
#: what it does. So it is measured without them, as its users who care for speed run it.
INTERPRETER_FLAGS = {"curio": ("-O",)}


def peer_of(case: str) -> str:
    """The peer that a case is about: its label up to the slash (`uvloop / Protocol` -> `uvloop`)."""
    return case.split(" / ")[0]


def is_installed(peer: str) -> bool:
    return peer not in PACKAGES or importlib.util.find_spec(peer) is not None


def load(peer: str) -> Any:
    """The peer's module. Its type is not known here: most peers are not installed where types are checked."""
    return importlib.import_module(peer)


def version(peer: str) -> str:
    if peer not in PACKAGES:
        return platform.python_version()
    try:
        return metadata.version(peer)
    except metadata.PackageNotFoundError:
        # On the path without having been installed, as a package under development is.
        return str(getattr(load(peer), "__version__", "unknown"))


def run_on_loop(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` on the named loop of `LOOPS`."""
    factory = None if loop == "asyncio" else load(loop).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)
