"""Moving an actor: it leaves its box, and another box is made of what it was. Source: Eckel's mobile tasks."""

import functools
import pickle
from typing import Any

from thistledown._boxes import Box
from thistledown._pickling import pack, unpack
from thistledown._task import Task

__all__ = ["move", "pickled", "rebuilt"]


def move(box: Box, place: Any) -> Task[None]:
    """Moves what is in the box to another place. See ``Actor.move``."""
    maker = getattr(place, "_box_maker", None)
    if isinstance(place, type):
        raise TypeError(f"{place!r} is a class, and no place for actors: write a pool, as `td.workers()` gives one")
    if maker is None:
        raise TypeError(f"{place!r} is no place for actors: there are `td.here`, a pool of workers, and `td.actor`")
    return box.leave(functools.partial(maker(), box.owner, like=box))


def pickled(instance: object) -> bytes:
    """An instance on its way to another box. The engine calls this in a worker.

    Raises:
        NotPicklable: it cannot be sent.
    """
    data, buffers = pack(instance)
    return pickle.dumps((data, [bytes(buffer) for buffer in buffers]))


def rebuilt(state: bytes) -> Any:
    """The same where it has come."""
    return unpack(*pickle.loads(state))
