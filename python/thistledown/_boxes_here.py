"""Boxes of weightless actors: what is rare about them.

The engine's part of the class has the instance and the line of messages, and sends: what a handle is called with goes
there at once, until the box is to end or was left; from then on it comes by here. Here is also how a box ends, is
watched and is left. It stops and is left in the thread of the run that it is in, by messages to the box itself; it is
asked, watched and killed from any thread. So what is rare about a box is changed by whoever has the lock of all boxes,
which is held for as long as that takes, and never while anybody is called.
"""

import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import MAILBOX, Box, Ending, Heard, Made, Maker, full, last, making, refusal
from thistledown._errors import Cancelled
from thistledown._task import Task

__all__ = ["HereBox", "maker"]

_numbers = itertools.count(1)
# Of all boxes, since each of a million would be too much. Whoever has it may come again, by a finalizer.
_lock = threading.RLock()


class Extra:
    """What few boxes have: a name, somebody who watches, an end."""

    __slots__ = ("counter", "ending", "moved", "name", "number", "owner", "stopping", "watchers")

    def __init__(self, owner: type[Any]) -> None:
        self.owner = owner
        self.name: str | None = None
        self.number: tuple[int, int] | None = None
        self.watchers: list[Heard] = []
        # What stops it, since it was asked to. Who has asked waits for a message behind this one.
        self.stopping: Task[None] | None = None
        self.ending: Ending | None = None
        # The box that the instance has gone to.
        self.moved: Box | None = None
        # What stands for the box before other processes, since its handle was sent to one.
        self.counter: _core.Counter | None = None


class HereBox(_core.HereBox):
    """A weightless actor's box. See ``Box``."""

    __slots__ = ()

    def _more(self) -> Extra:
        extra: Extra | None = self._extra
        if extra is None:
            with _lock:
                extra = self._extra
                if extra is None:
                    extra = self._extra = Extra(type(self._instance))
        return extra

    @property
    def _moved(self) -> Box | None:
        """The box that it was left for, by the shortest way."""
        more = self._more()
        moved = more.moved
        if moved is not None:
            moved = more.moved = last(moved)
        return moved

    @property
    def further(self) -> Box | None:
        return None if self._extra is None or self._is_busy else self._more().moved

    @property
    def owner(self) -> type[Any]:
        extra: Extra | None = self._extra
        return type(self._instance) if extra is None else extra.owner

    @property
    def name(self) -> str:
        moved = self._moved
        if moved is not None:
            return moved.name
        more = self._more()
        with _lock:
            if more.name is None:
                more.name = f"{more.owner.__qualname__}-{self.number[1]}"
            return more.name

    @property
    def place(self) -> Any:
        from thistledown._places import here

        moved = self._moved
        return here if moved is None else moved.place

    @property
    def options(self) -> dict[str, Any]:
        return {"mailbox": self._limit}

    @property
    def number(self) -> tuple[int, int]:
        more = self._more()
        with _lock:
            if more.number is None:
                more.number = os.getpid(), next(_numbers)
            return more.number

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        if self._extra is not None:
            moved = self._open()
            if moved is not None:
                return moved.call(method, args, kwargs)
        return self._sent(method, args, kwargs)

    def read(self, attribute: str) -> Task[Any]:
        if self._extra is not None:
            moved = self._open()
            if moved is not None:
                return moved.read(attribute)
        return self._sent(attribute, None, None)

    def take(self, letter: "_core.Letter") -> Task[Any]:
        """A message of another process, whose arguments are read when it is its turn. Raises as ``call``."""
        if self._extra is not None:
            moved = self._open()
            if moved is not None:
                from thistledown._boxes_far import passed_on

                return passed_on(moved, letter)
        try:
            task = self._send_letter(letter)
        except RuntimeError:
            raise self._gone() from None
        if task is None:
            raise full(self.name, self._limit)
        return task

    def _sent(self, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None) -> Task[Any]:
        try:
            task = self._send(name, args, kwargs)
        except RuntimeError:
            raise self._gone() from None
        if task is None:
            raise full(self.name, self._limit)
        return task

    def _open(self) -> Box | None:
        """Refuses messages to a box that has ended, or is to. Gives the box that gets them, if that is another.

        As long as messages stand here, further ones stand behind them, so that their order is kept.
        """
        more = self._more()
        if more.ending is not None:
            raise refusal(self.name, more.ending)
        if more.stopping is not None:
            raise refusal(self.name, Ending("normal"))
        return None if more.moved is None or self._is_busy else self._moved

    def _gone(self) -> Exception:
        """The error of a message that came too late, because the run is over."""
        self._run_is_over()
        return refusal(self.name, self._more().ending or _run_over())

    def _without_instance(self, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None) -> Any:
        """A message whose turn has come, and the instance is not here."""
        moved = self._moved
        if moved is None:
            raise refusal(self.name, self._more().ending or Ending("normal"))
        return self._passed_on(moved, name, args, kwargs)

    async def _passed_on(
        self, moved: Box, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None
    ) -> Any:
        task = moved.read(name) if args is None else moved.call(name, args, kwargs or {})
        try:
            return await task
        except Cancelled:
            task.cancel()
            raise

    def stop(self) -> Task[None]:
        more = self._more()
        moved = self._moved
        if more.stopping is None and more.ending is None and moved is not None and not self._is_busy:
            return moved.stop()
        if more.ending is not None:
            return _done(self.name)
        try:
            if more.stopping is None:
                # Nobody else has it, so nobody cancels it.
                more.stopping = self._send_own("_stopped", ())
                self._ask_first()
            return self._send_own("_stopped", ())
        except RuntimeError:
            self._gone()
            return _done(self.name)

    def _stopped(self) -> Any:
        moved = self._moved
        if moved is not None:
            return _ended(moved)
        self._end(Ending("normal"))
        return None

    def _end_now(self) -> None:
        """It is stopped, though the message that was to do so did not come to its turn."""
        moved = self._moved
        if moved is not None:
            moved.stop()
        else:
            self._end(Ending("normal"))

    @property
    def _running(self) -> Task[Any] | None:
        """The task that answers a message now. Who asks looks at all actors, so it is for rare moments."""
        more = self._more()
        for _, extra, _, _, _, row in _core.survey_actors(sys.maxsize):
            if extra is more:
                return None if row is None else row[1]
        return None

    @property
    def is_elsewhere(self) -> bool:
        moved = self._moved
        return moved is not None and moved.is_elsewhere

    def kill(self, because: BaseException | None = None) -> None:
        if not self._end(Ending("killed", because)) and (moved := self._moved) is not None:
            moved.kill(because)
            return
        self._cancel_all()

    def _end(self, ending: Ending) -> bool:
        """It has ended so, unless it had ended before, or was left."""
        more = self._more()
        with _lock:
            if more.ending is not None or more.moved is not None:
                return False
            more.ending = ending
            watchers, more.watchers = more.watchers, []
        self._forget_instance()
        if more.counter is not None:
            more.counter._close()
        self._home._watch(self, False)
        for heard in watchers:
            heard(ending)
        return True

    def _death(self) -> Exception | None:
        """The error of a message that was cancelled because the box has ended."""
        ending = self._more().ending
        return None if ending is None or ending.word == "normal" else refusal(self.name, ending)

    def _run_is_over(self) -> None:
        """The engine calls this at the end of the run, if somebody watches."""
        self._end(_run_over())

    def watch(self, heard: Heard) -> None:
        more = self._more()
        with _lock:
            ending, moved = more.ending, self._moved
            if ending is None and moved is None:
                more.watchers.append(heard)
                self._home._watch(self, True)
        if ending is not None:
            heard(ending)
        elif moved is not None:
            moved.watch(heard)
        elif self._home._is_over:
            # Which was told to whoever was known then.
            self._run_is_over()

    def unwatch(self, heard: Heard) -> None:
        more = self._more()
        with _lock:
            moved = self._moved
            if moved is None and heard in more.watchers:
                more.watchers.remove(heard)
                if not more.watchers and not self._is_kept:
                    self._home._watch(self, False)
        if moved is not None:
            moved.unwatch(heard)

    def leave(self, settle: Callable[[bytes], Box]) -> Task[None]:
        moved = self._open()
        if moved is not None:
            return moved.leave(settle)
        return self._send_own("_left", (settle,))

    def _left(self, settle: Callable[[bytes], Box]) -> Any:
        more = self._more()
        if more.moved is not None:
            return _left_there(more.moved, settle)
        if more.ending is not None:
            raise refusal(self.name, more.ending)
        from thistledown._moves import pickled

        other = settle(pickled(self._instance))
        made = making(other)
        return self._gone_to(other) if made is None else self._gone_when_made(other, made)

    async def _gone_when_made(self, other: Box, made: Task[Any]) -> None:
        """Only what is whole there is let go here."""
        try:
            await made
        except Cancelled:
            other.kill()
            raise
        self._gone_to(other)

    def _gone_to(self, other: Box) -> None:
        more = self._more()
        with _lock:
            if more.ending is None:
                more.moved = other
            watchers, more.watchers = more.watchers, []
        if more.ending is not None:
            # Somebody was faster, and did not know of the other.
            other.kill(more.ending.error)
            raise refusal(self.name, more.ending)
        self._forget_instance()
        self._home._watch(self, False)
        if more.counter is not None:
            other.watch(self._has_ended_there)
        for heard in watchers:
            other.watch(heard)

    def __reduce__(self) -> Any:
        more = self._more()
        moved = self._moved
        if moved is not None:
            return moved.__reduce__()
        from thistledown._boxes_far import sent

        with _lock:
            if more.counter is None:
                more.counter = _core.Counter()
        standing = sent(more.counter, self)
        if self._is_kept:
            self._closes_with_its_end()
        return standing

    @property
    def _is_kept(self) -> bool:
        """Whether handles that are nowhere keep it until its end, or that of its run."""
        counter = self._more().counter
        return counter is not None and counter._is_lasting

    def _closes_with_its_end(self) -> None:
        more = self._more()
        with _lock:
            ending, moved = more.ending, self._moved
            if ending is None and moved is None:
                self._home._watch(self, True)
        if ending is not None or (moved is None and self._home._is_over):
            self._has_ended_there(_run_over())
        elif moved is not None:
            moved.watch(self._has_ended_there)

    def _has_ended_there(self, _: Ending) -> None:
        counter = self._more().counter
        if counter is not None:
            counter._close()


def _run_over() -> Ending:
    return Ending("killed", RuntimeError("the run that it lived in is over"))


async def _ended(box: Box) -> None:
    await box.stop()


async def _left_there(box: Box, settle: Callable[[bytes], Box]) -> None:
    await box.leave(settle)


def _done(name: str) -> Task[None]:
    """A task that is done."""
    task: Task[None] = _core.pledge(f"stop of {name}", False)
    task._settle(None, None)
    return task


def _rebuilt(state: bytes) -> Any:
    from thistledown._moves import rebuilt

    return rebuilt(state)


def maker(options: dict[str, Any]) -> Maker:
    """Makes boxes in the run of this thread, or in its asyncio loop.

    Raises:
        RuntimeError: there is neither.
    """
    home = _core.home()

    def make(owner: type[Any], made: Made, like: Box | None = None) -> Box:
        instance = _rebuilt(made) if isinstance(made, bytes) else owner(*made[0], **made[1])
        known = {} if like is None else like.options
        box = HereBox(instance, options.get("mailbox") or known.get("mailbox") or MAILBOX, home)
        name = options.get("name") or (None if like is None else like.name)
        if name is not None:
            box._more().name = name
        if like is not None:
            box._more().number = like.number
        box._settled()
        return box

    return make
