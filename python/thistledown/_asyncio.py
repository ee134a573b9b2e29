"""Thistledown as the guest of an asyncio loop: under any loop, with nothing patched and no thread between.

Each loop that uses the package has one guest (``_core.Guest``): a descriptor that the loop watches, and at most one
timer. It is made at first need. While weightless tasks live in it an asyncio task of its own does, the keeper, so that
the end of ``asyncio.run`` finds them, cancels them and waits for them as for any other.
"""

import asyncio
import contextlib
import contextvars
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, TypeAlias

from thistledown import _core
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
        # The loop would keep the context of whoever happens to be the first.
        contextvars.Context().run(loop.add_reader, guest.fileno(), _Lease(guest).visit)
        _guests[loop] = weakref.ref(guest)
    return guest


Unbegun: TypeAlias = "list[weakref.finalize[..., Any]]"


def keep(guest: _core.Guest, house: _core.Scope) -> None:
    """Weightless tasks begin to live in the guest. The engine calls this, in whichever thread they are told to go."""
    loop, context = guest.event_loop, contextvars.Context()

    def begin() -> None:
        # Asked for by another thread, and the run is over meanwhile.
        if guest._house() is not house:
            return
        # In its last round a loop may take in a task that it never begins: its body is closed when it goes.
        unbegun: Unbegun = []
        body = _begin(weakref.ref(guest), house, unbegun)
        keeper = context.run(loop.create_task, body, name="thistledown")
        unbegun.append(weakref.finalize(keeper, body.close))
        # Of a loop that is closed without cancelling its tasks: this one is not the user's to hear of.
        keeper._log_destroy_pending = False  # type: ignore[attr-defined]

    if asyncio._get_running_loop() is loop:
        begin()
    else:
        loop.call_soon_threadsafe(begin, context=context.copy())


async def _begin(guest: weakref.ref[_core.Guest], house: _core.Scope, unbegun: Unbegun) -> None:
    """A keeper: from here on nobody but the loop holds it."""
    unbegun.pop().detach()
    await _keep(guest, house)


async def _keep(guest: weakref.ref[_core.Guest], house: _core.Scope) -> None:
    """Lives as long as they do. When it is cancelled they are, and it waits for them all the same."""
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            await house.drain()
            if _is_vacated(guest, house):
                break
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            cancelled = error
            house.cancel()
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            # The error knows this frame, which must not know it.
            del cancelled


def _is_vacated(guest: weakref.ref[_core.Guest], house: _core.Scope) -> bool:
    # In a call of its own: an error that is kept keeps the frames it went through, and these must not keep the guest.
    present = guest()
    return present is None or present._vacate(house)


def cancel_again(task: asyncio.Task[Any], count: int, message: Any) -> None:
    """Delivers a cancellation that came second to something else, unless it was taken back meanwhile.

    Args:
        count: how many there were when it came.
        message: of the cancellation.
    """
    if not task.done() and task.cancelling() >= max(count, 1):
        task.uncancel()
        task.cancel(message)


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
        if loop.is_closed():
            raise RuntimeError("the loop is closed: give another one, or loop=True for a new one")
        if loop.is_running():
            raise RuntimeError(
                "the loop runs in another thread: call `td.current_runner()` in it, and start tasks by what it gives"
            )
        return _run_until_complete(loop, _rule(main, args))
    if loop is not True and not callable(loop):
        raise TypeError(
            "loop is True for a new loop, an asyncio loop that does not run, or what makes one, as "
            f"`uvloop.new_event_loop`; got {loop!r}"
        )
    with asyncio.Runner(loop_factory=None if loop is True else loop) as runner:
        # Its end cancels what asyncio tasks the run has left, and waits for them, before the loop is closed.
        return runner.run(_rule(main, args))


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


async def _rule(main: Any, args: tuple[Any, ...]) -> Any:
    """Lives as long as the run: starts its main task, and waits until all of them have ended."""
    guest = guest_of(asyncio.get_running_loop())
    ending: BaseException | None = None
    guest._collect(True)
    try:
        with _generators_closed():
            task = guest._go(main, args)
            ending = await _end_of(guest, task)
        return guest._conclude(ending, task)
    finally:
        guest._collect(False)
        # An error goes through this frame, and may be kept.
        del guest, ending


@contextlib.contextmanager
def _generators_closed() -> Iterator[None]:
    """Lets async generators that are dropped in the middle clean up in a weightless task, for which the run waits.

    The loop would do it in a task of its own, and cancel that at its end. It goes on knowing each one that begins.
    """
    runner = _core.current_runner()
    theirs = sys.get_asyncgen_hooks()
    is_over = False

    def begin(generator: AsyncGenerator[Any, Any]) -> None:
        _core.generator_begins(generator)
        if theirs.firstiter is not None:
            theirs.firstiter(generator)

    def close(generator: AsyncGenerator[Any, Any]) -> None:
        if not is_over:
            runner.go(generator.aclose())
        elif theirs.finalizer is not None:
            theirs.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=begin, finalizer=close)
    try:
        yield
    finally:
        is_over = True
        # A loop that has stopped in between has set its own again.
        if sys.get_asyncgen_hooks().finalizer is close:
            sys.set_asyncgen_hooks(*theirs)


async def _end_of(guest: _core.Guest, task: Task[Any]) -> BaseException | None:
    """Waits for the end of the main task and of all others; gives what has ended the run before its time."""
    ending: BaseException | None = None
    try:
        await task
    except BaseException as error:
        ending = error
        guest._cancel()
    while (house := guest._house()) is not None:
        try:
            if not house.empty:
                await house.drain()
                continue
            # Its keeper closes the empty house in the loop's next round, if nothing has ended the keeper before.
            await asyncio.sleep(0)
            guest._vacate(house)
        except asyncio.CancelledError as error:
            ending = error
            guest._cancel()
    try:
        return ending
    finally:
        del ending, guest
