"""Waiting for a task in an asyncio task: under any loop, with nothing patched and no thread between.

A loop has one guest (``_core.Guest``): a descriptor that it watches, which becomes readable when tasks have ended.
"""

import asyncio
import weakref
from collections.abc import Generator
from typing import Any, TypeVar

from thistledown import _core
from thistledown._task import Task

__all__ = ["wait_for"]

T = TypeVar("T")


class _Futures(dict[int, "asyncio.Future[None]"]):
    """What is to be set when a wait is over. Only its loop holds it, whose futures hold the loop."""


def _hear(guest: _core.Guest, futures: _Futures) -> None:
    for wait in guest.take():
        future = futures.get(wait)
        if future is not None and not future.done():
            future.set_result(None)


class _Waits:
    """What is waited for in one loop."""

    def __init__(self) -> None:
        self.guest = _core.Guest()
        self.futures: weakref.ref[_Futures] | None = None

    def begin(self, loop: asyncio.AbstractEventLoop, task: Task[Any]) -> tuple[int, asyncio.Future[None]]:
        future = loop.create_future()
        futures = self.held()
        if not futures:
            futures = _Futures()
            self.futures = weakref.ref(futures)
            # Watched only while somebody waits: an idle loop has no descriptor of ours, and can be closed.
            loop.add_reader(self.guest.fileno(), _hear, self.guest, futures)
        wait = self.guest.watch(task)
        futures[wait] = future
        return wait, future

    def held(self) -> "_Futures | None":
        return None if self.futures is None else self.futures()

    def end(self, loop: asyncio.AbstractEventLoop, wait: int) -> None:
        futures = self.held()
        if futures is not None:
            futures.pop(wait, None)
        self.guest.forget(wait)
        if not futures and not loop.is_closed():
            loop.remove_reader(self.guest.fileno())


_waits: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Waits] = weakref.WeakKeyDictionary()


def wait_for(task: Task[T]) -> Generator[Any, Any, T]:
    """Waits for the end of a task in the asyncio task that runs now; ``await task`` comes here.

    Cancelling the asyncio task ends the wait; the task itself goes on.

    Raises:
        RuntimeError: no loop runs here.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "`await task` works inside a weightless task or an asyncio task; in plain code write `task.result()`"
        ) from None
    if not task.done():
        waits = _waits.get(loop)
        if waits is None:
            waits = _waits[loop] = _Waits()
        wait, future = waits.begin(loop, task)
        try:
            yield from future
        finally:
            waits.end(loop, wait)
    return task.result()
