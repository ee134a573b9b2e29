"""Moving an actor: it leaves its box, and another box is made of what it was.

The old box stands still from when its state is pickled, so nothing is lost between the two: what is queued begins in
the new one, or, when that cannot be made, in the old one again. Source: Eckel's mobile tasks.
"""

import concurrent.futures
from typing import Any

from thistledown import _core
from thistledown._boxes import Box
from thistledown._task import Task

__all__ = ["move"]


def move(box: Box, place: Any) -> Task[None]:
    """Moves what is in the box to another place. See ``Actor.move``."""
    maker = getattr(place, "_box_maker", None)
    if maker is None:
        raise TypeError(f"{place!r} is no place for actors: there are `td.here`, a pool of workers, and `td.actor`")
    make = maker()
    moving = _core.pledge(f"move of {box.name}")

    def left(leaving: concurrent.futures.Future[bytes]) -> None:
        try:
            state = leaving.result()
        except BaseException as error:
            moving._settle(None, error)
            return
        try:
            other = make(box.owner, state, box)
        except BaseException as error:
            box.stays()
            moving._settle(None, error)
        else:
            box.moved(other)
            moving._settle(None, None)

    box.leave().add_done_callback(left)
    return moving
