"""Boxes that outlive their instances: what stands behind the handle of a supervised actor.

A kept box has an inner box, that of the instance which lives now, and passes messages on to it. When that has ended the
kept one stands still: what comes then is held, as much as the mailbox has room for, until its supervisor says ``renew``
(the next instance answers) or ``give_up`` (they fail, and so do further ones, until it is renewed after all). So the
handle names the box and not the process, and is good as long as somebody keeps it.

Invariants: what an instance was asked and has not answered fails with it, and is not asked of the next. What was held
comes before what comes later, in its order. Whoever watches is told of the end of one instance, that of now; while
there is none, of the last one's at once.

What it is not: it decides nothing. When an instance is made again, the supervisor says.
"""

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from thistledown import _core
from thistledown._boxes import MAILBOX, Box, Ending, Heard, Made, Maker, refusal
from thistledown._boxes import full as no_room
from thistledown._errors import ActorDied, ActorStopped, NotPicklable
from thistledown._task import Task

__all__ = ["Kept"]

_numbers = itertools.count(1)


class Held(NamedTuple):
    """A message that waits for the next instance; without arguments it reads an attribute."""

    name: str
    args: tuple[Any, ...] | None
    kwargs: dict[str, Any]
    answer: Task[Any]


class Kept:
    """The box of a supervised actor. See ``Box``."""

    def __init__(self, owner: type[Any], name: str, place: Any, made: Made) -> None:
        self.owner = owner
        self._name = name
        self._place = place
        self._made = made
        self._number = os.getpid(), -next(_numbers)
        # What is below is changed by any thread that has the lock.
        self._lock = threading.RLock()
        self._inner: Box | None = None
        # How the last instance has ended; None before there was one.
        self._last = Ending("normal")
        # Whether there is to be a next one.
        self._is_awaited = False
        # In the pool that has the instances: by what other processes name this box.
        self._public: Public | None = None
        self._held: deque[Held] = deque()

    # --- for its supervisor -----------------------------------------------------------------------------------------

    def make(self, maker: Maker) -> Box:
        """A new instance, which is not asked anything before ``renew``. Raises what the maker raises."""
        return maker(self.owner, self._made, self)

    def renew(self, inner: Box) -> None:
        """This one answers from now on, what was held first."""
        with self._lock:
            self._is_awaited = True
            while self._held:
                _pass_on(inner, self._held.popleft())
            self._inner = inner
        if isinstance(inner, self._worker_box()):
            if self._public is None:
                self._public = Public(self, inner)
            self._public.renew(inner)

    def stands_still(self, inner: Box, ending: Ending) -> None:
        """This instance has ended. There may be a next one."""
        with self._lock:
            self._last = ending
            if self._inner is inner:
                self._inner = None

    def give_up(self) -> None:
        """There is no next instance: what was held fails, and so does what comes."""
        with self._lock:
            self._is_awaited = False
            held, self._held = self._held, deque()
            error = refusal(self._name, self._last)
        for one in held:
            one.answer._settle(None, error)
        if self._public is not None:
            self._public.mailbox.renew(None)

    # --- as a box ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    @property
    def place(self) -> Any:
        inner = self._inner
        return self._place if inner is None else inner.place

    @property
    def options(self) -> dict[str, Any]:
        inner = self._inner
        return {} if inner is None else inner.options

    @property
    def number(self) -> tuple[int, int]:
        return self._number

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        return self._ask(method, args, kwargs)

    def read(self, attribute: str) -> Task[Any]:
        return self._ask(attribute, None, {})

    def _ask(self, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any]) -> Task[Any]:
        inner = self._inner
        if inner is not None:
            try:
                return inner.read(name) if args is None else inner.call(name, args, kwargs)
            except (ActorStopped, ActorDied):
                # It has ended or is about to, and its supervisor has not heard of it.
                pass
        with self._lock:
            if self._inner is not None and self._inner is not inner:
                return self._ask(name, args, kwargs)
            if not self._is_awaited:
                raise refusal(self._name, self._last)
            if len(self._held) >= MAILBOX:
                raise no_room(self._name, MAILBOX)
            answer = _core.pledge(f"{self._name}.{name}", True)
            self._held.append(Held(name, args, kwargs, answer))
            return answer

    def stop(self) -> Task[None]:
        """Ends the instance. Its supervisor decides whether there is a next one."""
        inner = self._inner
        if inner is not None:
            return inner.stop()
        stopped: Task[None] = _core.pledge(f"stop of {self._name}", False)
        stopped._settle(None, None)
        return stopped

    @property
    def is_elsewhere(self) -> bool:
        inner = self._inner
        return inner is not None and inner.is_elsewhere

    def kill(self, because: BaseException | None = None) -> None:
        """Ends the instance now. Its supervisor decides whether there is a next one."""
        inner = self._inner
        if inner is not None:
            inner.kill(because)

    def watch(self, heard: Heard) -> None:
        inner = self._inner
        if inner is not None:
            inner.watch(heard)
        else:
            heard(self._last)

    def unwatch(self, heard: Heard) -> None:
        inner = self._inner
        if inner is not None:
            inner.unwatch(heard)

    def leave(self, settle: Callable[[bytes], Box]) -> Task[None]:
        """The instance of now moves. The next one is made where its supervisor says."""
        with self._lock:
            inner = self._inner
            if inner is None:
                raise refusal(self._name, self._last)

        def settled(state: bytes) -> Box:
            other = settle(state)
            with self._lock:
                if self._inner is inner:
                    self._inner = other
            return other

        return inner.leave(settled)

    def __reduce__(self) -> Any:
        public = self._public
        if public is not None and public.is_kept:
            from thistledown._boxes_workers import again

            return again, public.sent
        inner = self._inner
        if inner is None:
            raise NotPicklable(f"actor {self._name} is being restarted, or does not run: send its handle when it runs")
        return inner.__reduce__()

    @staticmethod
    def _worker_box() -> Any:
        """The class of boxes in worker processes, if there are any in this program."""
        boxes = sys.modules.get("thistledown._boxes_workers")
        return () if boxes is None else boxes.WorkerBox


class Public:
    """A number by which a pool knows the box, whichever instance is in it, and keeps what it is asked between two."""

    def __init__(self, kept: Kept, inner: Any) -> None:
        key = int.from_bytes(os.urandom(8), "little")
        pool, options = inner._pool, inner.options
        self.mailbox = _core.Mailbox(pool._pool, key, kept.name, options.get("timeout"))
        self.limit: int = options.get("mailbox", MAILBOX)
        # Only the program that has made the pool can do that; elsewhere a handle that is sent names the instance.
        self.is_kept = False
        self.sent = pool._token, key, kept.owner, kept.name, options, kept.number

    def renew(self, inner: Any) -> None:
        self.is_kept = self.mailbox.keep(self.limit)
        self.mailbox.renew(inner._mailbox)


def _pass_on(inner: Box, held: Held) -> None:
    """Asks what was held, and lets who has asked it have the answer."""
    answer = held.answer
    try:
        task = inner.read(held.name) if held.args is None else inner.call(held.name, held.args, held.kwargs)
    except BaseException as error:
        answer._settle(None, error)
        return

    def answered(task: Any) -> None:
        try:
            answer._settle(task.result(), None)
        except BaseException as error:
            answer._settle(None, error)

    task.add_done_callback(answered)
