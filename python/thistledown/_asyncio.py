"""Thistledown as the guest of an asyncio loop: under any loop, with nothing patched and no thread between.

Each loop that uses the package has one guest (``_core.Guest``): a descriptor that the loop watches, and at most one
timer. It is made at first need. While weightless tasks live in it an asyncio task of its own does, the keeper, so that
the end of ``asyncio.run`` finds them, cancels them and waits for them as for any other.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from thistledown import _core, _report
from thistledown._errors import Cancelled
from thistledown._task import Task

__all__ = ["CancelledInLoop", "call_in_loop", "cancel_again", "guest_of", "keep", "run_in"]


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
    """Weightless tasks begin to live in the guest. The engine calls this, in whichever thread they are told to go."""
    loop = guest.event_loop

    def begin() -> None:
        # Asked for by another thread, and the run is over meanwhile.
        if guest._house() is not house:
            return
        loop.create_task(_keep(weakref.ref(guest), house), name="thistledown")

    if asyncio._get_running_loop() is loop:
        begin()
    else:
        loop.call_soon_threadsafe(begin)


async def _keep(guest: weakref.ref[_core.Guest], house: _core.Scope) -> None:
    """Lives as long as they do. When it is cancelled they are, and it waits for them all the same."""
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await house.drain()
            left = guest()
            if left is None or left._vacate():
                break
            del left
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            cancelled = error
            house.cancel()
    if cancelled is not None:
        raise cancelled


def cancel_again(task: asyncio.Task[Any]) -> None:
    """Delivers a cancellation that came second to something else, unless it was taken back meanwhile."""
    if not task.done() and task.cancelling() > 0:
        task.uncancel()
        task.cancel()


class CancelledInLoop(Cancelled, asyncio.CancelledError):
    """Raised in a weightless task that is cancelled while it waits for something of asyncio's: both know it."""


def call_in_loop(
    loop: asyncio.AbstractEventLoop,
    task: Task[Any],
    stand_in: object,
    function: Callable[[Any], object],
    context: contextvars.Context | None,
) -> None:
    """Lets the loop call a function when a weightless task of its guest has ended. The engine calls this."""
    task.add_done_callback(lambda _: loop.call_soon(function, stand_in, context=context))


def run_in(loop: Any, main: Any, args: tuple[Any, ...]) -> Any:
    """``td.run(main, *args, loop=loop)``."""
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("a loop runs in this thread: start a task with `td.go(...)` and wait for it with `await`")
    if isinstance(loop, asyncio.AbstractEventLoop):
        return _run_until_complete(loop, _rule(main, args, is_last=False))
    if loop is not True and not callable(loop):
        raise TypeError(
            "loop is True for a new loop, an asyncio loop that does not run, or what makes one, as "
            f"`uvloop.new_event_loop`; got {loop!r}"
        )
    with asyncio.Runner(loop_factory=None if loop is True else loop) as runner:
        return runner.run(_rule(main, args, is_last=True))


def _run_until_complete(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    ruler = loop.create_task(coroutine)
    try:
        return loop.run_until_complete(ruler)
    except BaseException:
        if not ruler.done():
            # Ctrl-C struck in the middle of the loop: everything in it ends first.
            ruler.cancel()
            loop.run_until_complete(asyncio.wait([ruler]))
        raise


async def _rule(main: Any, args: tuple[Any, ...], *, is_last: bool) -> Any:
    """Lives as long as the run: starts its main task, and waits until all of them have ended."""
    loop = asyncio.get_running_loop()
    guest = guest_of(loop)
    try:
        return await _ruled(guest, main, args)
    finally:
        if is_last:
            # From now on nobody can start anything: the loop is closed next. Tasks of its own that still wait for
            # something of ours are cancelled before, and if that makes them wait again they get another guest.
            loop.remove_reader(guest.fileno())
            _guests.pop(loop, None)
            guest.end()


async def _ruled(guest: _core.Guest, main: Any, args: tuple[Any, ...]) -> Any:
    guest._collect()
    task = guest._go(main, args)
    ending: BaseException | None = None
    try:
        await task
    except BaseException as error:
        ending = error
        guest._cancel()
    while (house := guest._house()) is not None:
        try:
            # Its keeper closes the empty house in the loop's next round.
            await (asyncio.sleep(0) if house.empty else house.drain())
        except asyncio.CancelledError as error:
            ending = error
            guest._cancel()
    errors, unlisted = guest._failed()
    if ending is not None and not isinstance(ending, Exception):
        _report.failed_in_ending_run(errors)
        raise ending
    if ending is not None and ending not in errors:
        errors.insert(0, ending)
    if len(errors) > 1 or (errors and unlisted):
        raise _report.group_of_failed(errors, unlisted)
    if errors:
        raise errors[0]
    return task.result()
