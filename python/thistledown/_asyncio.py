"""Thistledown as the guest of an asyncio loop: under any loop, with nothing patched and no thread between.

Each loop that uses the package has one guest (``_core.Guest``): a descriptor that the loop watches, and at most one
timer. It is made at first need. While weightless tasks live in it an asyncio task of its own does, the keeper, so that
the end of ``asyncio.run`` finds them, cancels them and waits for them as for any other.
"""

import asyncio
import weakref
from typing import Any

from thistledown import _core

__all__ = ["cancel_again", "guest_of", "keep"]


class _Lease:
    """What the loop watches the guest's descriptor with; it alone holds the guest. A loop that is closed lets it go."""

    __slots__ = ("guest",)

    def __init__(self, guest: _core.Guest) -> None:
        self.guest = guest

    def visit(self) -> None:
        self.guest.visit()

    def __del__(self) -> None:
        self.guest.end()


_guests: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[_core.Guest]] = weakref.WeakKeyDictionary()


def guest_of(loop: asyncio.AbstractEventLoop) -> _core.Guest:
    """The guest of a loop, which runs in this thread. The engine calls this."""
    known = _guests.get(loop)
    guest = None if known is None else known()
    if guest is None:
        guest = _core.Guest(loop)
        guest._settle_in()
        loop.add_reader(guest.fileno(), _Lease(guest).visit)
        _guests[loop] = weakref.ref(guest)
    return guest


def keep(guest: _core.Guest, house: _core.Scope) -> None:
    """Weightless tasks begin to live in the guest. The engine calls this."""
    asyncio.get_running_loop().create_task(_keep(weakref.ref(guest), house), name="thistledown")


async def _keep(guest: weakref.ref[_core.Guest], house: _core.Scope) -> None:
    """Lives as long as they do. When it is cancelled they are, and it waits for them all the same."""
    cancelled: asyncio.CancelledError | None = None
    while not house.empty:
        try:
            await house.drain()
        except asyncio.CancelledError as error:
            cancelled = error
            house.cancel()
    left = guest()
    if left is not None:
        left._vacate()
    if cancelled is not None:
        raise cancelled


def cancel_again(task: asyncio.Task[Any]) -> None:
    """Delivers a cancellation that came second to something else, unless it was taken back meanwhile."""
    if not task.done() and task.cancelling() > 0:
        task.uncancel()
        task.cancel()
