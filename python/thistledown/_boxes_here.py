"""Boxes of weightless actors: what is rare about them.

The engine's part of the class has the instance and the line of messages, and sends. Here is how a box ends, is watched
and is left. All of it happens in the thread of the run that the box is in, as messages to the box itself, but for
``kill`` and for calls, which come from anywhere.
"""

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import MAILBOX, Box, Ending, Heard, Made, Maker, full, refusal
from thistledown._errors import Cancelled
from thistledown._task import Task

__all__ = ["HereBox", "maker"]

_numbers = itertools.count(1)


class Extra:
    """What few boxes have: a name, somebody who watches, an end."""

    __slots__ = ("counter", "ending", "moved", "name", "number", "owner", "stopping", "watchers")

    def __init__(self, owner: type[Any]) -> None:
        self.owner = owner
        self.name: str | None = None
        self.number: tuple[int, int] | None = None
        self.watchers: list[Heard] = []
        # The task that stops it, since it was asked to.
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
            extra = self._extra = Extra(type(self._instance))
        return extra

    @property
    def owner(self) -> type[Any]:
        extra: Extra | None = self._extra
        return type(self._instance) if extra is None else extra.owner

    @property
    def name(self) -> str:
        more = self._more()
        if more.moved is not None:
            return more.moved.name
        if more.name is None:
            more.name = f"{more.owner.__qualname__}-{self.number[1]}"
        return more.name

    @property
    def place(self) -> Any:
        from thistledown._places import here

        moved = self._more().moved
        return here if moved is None else moved.place

    @property
    def options(self) -> dict[str, Any]:
        return {"mailbox": self._limit}

    @property
    def number(self) -> tuple[int, int]:
        more = self._more()
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
        return None if self._is_busy else more.moved

    def _gone(self) -> Exception:
        """The error of a message that came too late, because the run is over."""
        self._end(Ending("killed", RuntimeError("the run that it lived in is over")))
        ending = self._more().ending
        assert ending is not None
        return refusal(self.name, ending)

    def _without_instance(self, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any] | None) -> Any:
        """A message whose turn has come, and the instance is not here."""
        more = self._more()
        if more.moved is None:
            raise refusal(self.name, more.ending or Ending("normal"))
        return self._passed_on(more.moved, name, args, kwargs)

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
        if more.stopping is None:
            if more.ending is None and more.moved is not None and not self._is_busy:
                return more.moved.stop()
            try:
                more.stopping = self._send_own("_stopped", ()) if more.ending is None else _done(self.name)
            except RuntimeError:
                self._gone()
                more.stopping = _done(self.name)
        return more.stopping

    def _stopped(self) -> Any:
        moved = self._more().moved
        if moved is not None:
            return _ended(moved)
        self._end(Ending("normal"))
        return None

    def _end_now(self) -> None:
        """It is stopped, though the message that was to do so did not come to its turn."""
        moved = self._more().moved
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
        moved = self._more().moved
        return moved is not None and moved.is_elsewhere

    def kill(self, because: BaseException | None = None) -> None:
        more = self._more()
        if more.moved is not None:
            more.moved.kill(because)
            return
        self._end(Ending("killed", because))
        self._cancel_all()

    def _end(self, ending: Ending) -> None:
        more = self._more()
        if more.ending is not None:
            return
        more.ending = ending
        self._forget_instance()
        if more.counter is not None:
            more.counter._close()
        watchers, more.watchers = more.watchers, []
        self._home._watch(self, False)
        for heard in watchers:
            heard(ending)

    def _death(self) -> Exception | None:
        """The error of a message that was cancelled because the box has ended."""
        ending = self._more().ending
        return None if ending is None or ending.word == "normal" else refusal(self.name, ending)

    def _run_is_over(self) -> None:
        """The engine calls this at the end of the run, if somebody watches."""
        self._end(Ending("killed", RuntimeError("the run that it lived in is over")))

    def watch(self, heard: Heard) -> None:
        more = self._more()
        if more.ending is None and more.moved is None and self._home._is_over:
            self._run_is_over()
        if more.ending is not None:
            heard(more.ending)
        elif more.moved is not None:
            more.moved.watch(heard)
        else:
            more.watchers.append(heard)
            self._home._watch(self, True)

    def unwatch(self, heard: Heard) -> None:
        more = self._more()
        if more.moved is not None:
            more.moved.unwatch(heard)
        elif heard in more.watchers:
            more.watchers.remove(heard)
            if not more.watchers:
                self._home._watch(self, False)

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
        other = settle(pickled(self._instance))
        more.moved = other
        self._forget_instance()
        watchers, more.watchers = more.watchers, []
        self._home._watch(self, False)
        for heard in watchers:
            other.watch(heard)
        return None

    def __reduce__(self) -> Any:
        more = self._more()
        if more.moved is not None:
            return more.moved.__reduce__()
        from thistledown._boxes_far import sent

        if more.counter is None:
            more.counter = _core.Counter()
        return sent(more.counter, self)


async def _ended(box: Box) -> None:
    await box.stop()


async def _left_there(box: Box, settle: Callable[[bytes], Box]) -> None:
    await box.leave(settle)


def _done(name: str) -> Task[None]:
    """A task that is done."""
    task: Task[None] = _core.pledge(f"stop of {name}", False)
    task._settle(None, None)
    return task


def pickled(instance: object) -> bytes:
    """An instance on its way to another box."""
    import pickle

    from thistledown._pickling import pack

    data, buffers = pack(instance)
    return pickle.dumps((data, [bytes(buffer) for buffer in buffers]))


def unpickled(data: bytes) -> Any:
    """The same where it has come."""
    import pickle

    from thistledown._pickling import unpack

    return unpack(*pickle.loads(data))


def maker(options: dict[str, Any]) -> Maker:
    """Makes boxes in the run of this thread, or in its asyncio loop.

    Raises:
        RuntimeError: there is neither.
    """
    home = _core.home()

    def make(owner: type[Any], made: Made, like: Box | None = None) -> Box:
        instance = unpickled(made) if isinstance(made, bytes) else owner(*made[0], **made[1])
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
