"""Boxes that outlive their instances: what stands behind the handle of a supervised actor.

A kept box has an inner box, that of the instance which lives now, and passes messages on to it. When that has ended the
kept one stands still: what comes then is held, as much as the mailbox has room for, until its supervisor says ``renew``
(the next instance answers) or ``give_up`` (they fail, and so do further ones, until it is renewed after all). So the
handle names the box and not the process, and is good as long as somebody keeps it.

Invariants: what an instance was asked and has not answered fails with it, and is not asked of the next. What was held
comes before what comes later, in its order; when it is cancelled it is asked of nobody. Whoever watches is told of the
end of one instance, that of now; while there is none, of the last one's at once.

What it is not: it decides nothing. When an instance is made again, the supervisor says.
"""

import itertools
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import MAILBOX, Box, Ending, Heard, Made, Maker, refusal
from thistledown._boxes import full as no_room
from thistledown._errors import ActorDied, ActorStopped
from thistledown._later import Later
from thistledown._task import Task

__all__ = ["Kept", "tie"]

_numbers = itertools.count(1)


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
        # The last that has ended.
        self._gone: Box | None = None
        # How the last instance has ended; None before there was one.
        self._last = Ending("normal")
        # Whether there is to be a next one, and whether its supervisor was ever started.
        self._is_awaited = False
        self._is_known = False
        # In the pool that has the instances: by what other processes name this box.
        self._public: Public | None = None
        # The oldest first.
        self._held: dict[Later, None] = {}
        # What stands for it before other processes, since its handle was sent to one.
        self._counter: _core.Counter | None = None
        # In a forked child: that it is the parent's.
        self._not_here: str | None = None

    # --- for its supervisor -----------------------------------------------------------------------------------------

    def make(self, maker: Maker) -> Box:
        """A new instance, which is not asked anything before ``renew``. Raises what the maker raises."""
        return maker(self.owner, self._made, self)

    def expect(self) -> None:
        """There will be an instance."""
        with self._lock:
            self._is_awaited = self._is_known = True

    def renew(self, inner: Box) -> None:
        """This one answers from now on, what was held first."""
        while True:
            with self._lock:
                self._is_awaited = self._is_known = True
                held, self._held = self._held, {}
                if not held:
                    self._inner = None if self._gone is inner else inner
                    break
            # Asking packs what is asked, which may run foreign code.
            for one in held:
                one.ask(inner)
        if isinstance(inner, self._worker_box()):
            if self._public is None:
                self._public = Public(self, inner)
            self._public.renew(inner)

    def stands_still(self, inner: Box, ending: Ending) -> None:
        """This instance has ended. There may be a next one."""
        with self._lock:
            self._last = ending
            self._gone = inner
            if self._inner is inner:
                self._inner = None

    def give_up(self) -> None:
        """There is no next instance: what was held fails, and so does what comes."""
        with self._lock:
            self._is_awaited = False
            held, self._held = self._held, {}
            error = self._refusal()
        for one in held:
            one.settle(None, error)
        if self._public is not None:
            self._public.mailbox.renew(None)

    def drop(self, held: Later) -> bool:
        """Forgets what is held. False when it is not held any more."""
        with self._lock:
            return self._held.pop(held, self) is None

    def leave_to_parent(self) -> None:
        """In a forked child, where its supervisor and its instance do not exist: who asks is told."""
        self._not_here = (
            f"actor {self._name} belongs to the process that this one was forked from: make one of this process by "
            "`td.actor(Class, ...)`, or by a supervisor of this process"
        )
        self._inner = None
        self._is_awaited = False
        held, self._held = self._held, {}
        for one in held:
            one.settle(None, self._refusal())
            one.answer._take_failure()

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
                return _asked(inner, name, args, kwargs)
            except (ActorStopped, ActorDied):
                # It has ended or is about to, and its supervisor has not heard of it.
                pass
        with self._lock:
            if self._inner is not None and self._inner is not inner:
                return self._ask(name, args, kwargs)
            if not self._is_awaited:
                raise self._refusal()
            if len(self._held) >= MAILBOX:
                raise no_room(self._name, MAILBOX)
            held = Later(f"{self._name}.{name}", lambda box: _asked(box, name, args, kwargs), self.drop)
            self._held[held] = None
            return held.answer

    def _refusal(self) -> Exception:
        """The error of what is asked while there is no instance and will be none."""
        if self._not_here is not None:
            return RuntimeError(self._not_here)
        if self._is_known:
            return refusal(self._name, self._last)
        return RuntimeError(
            f"actor {self._name} does not run, because its supervisor was not started: write `with supervisor:`, in a "
            "coroutine `async with supervisor:`, or `supervisor.start()`"
        )

    def stop(self) -> Task[None]:
        """Ends the instance. Its supervisor decides whether there is a next one."""
        if self._not_here is not None:
            raise self._refusal()
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

    @property
    def further(self) -> None:
        return None

    def kill(self, because: BaseException | None = None) -> None:
        """Ends the instance now. Its supervisor decides whether there is a next one."""
        inner = self._inner
        if inner is not None:
            inner.kill(because)

    def watch(self, heard: Heard) -> None:
        if self._not_here is not None:
            raise self._refusal()
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
                raise self._refusal()

        def settled(state: bytes) -> Box:
            other = settle(state)
            tie(other)
            with self._lock:
                if self._inner is inner:
                    self._inner = other
            return other

        return inner.leave(settled)

    def __reduce__(self) -> Any:
        public = self._public
        if public is not None and public.is_kept:
            from thistledown._boxes_workers import again

            reference = None if public.mailbox.is_bound_for else self._reference()
            return again, (*public.sent, reference)
        from thistledown._boxes_far import again as again_far

        return again_far, (self._reference(), self.owner, self._name, self.options, self._number)

    def _reference(self) -> bytes:
        """By what other processes know it. They come to it by way of this one."""
        if self._counter is None:
            self._counter = _core.Counter()
        return self._counter._reference(self)

    @staticmethod
    def _worker_box() -> Any:
        """The class of boxes in worker processes, if there are any in this program."""
        boxes = sys.modules.get("thistledown._boxes_workers")
        return () if boxes is None else boxes.WorkerBox


def tie(box: Any) -> None:
    """What lives in a worker process ends with its supervisor, also when that is killed with a process of its own."""
    if not isinstance(box, _core.HereBox):
        box.tie()


def _asked(box: Box, name: str, args: tuple[Any, ...] | None, kwargs: dict[str, Any]) -> Task[Any]:
    """Asks a box; without arguments for an attribute."""
    return box.read(name) if args is None else box.call(name, args, kwargs)


class Public:
    """A number by which a pool knows the box, whichever instance is in it, and keeps what it is asked between two."""

    def __init__(self, kept: Kept, inner: Any) -> None:
        key = int.from_bytes(os.urandom(8), "little")
        pool, options = inner._pool, inner.options
        self.mailbox = _core.Mailbox(pool._pool, key, kept.name, options.get("timeout"))
        self.limit: int = options.get("mailbox", MAILBOX)
        # Only the program that has made the pool can do that; elsewhere others come to the box by way of this process.
        self.is_kept = False
        self.sent = pool._token, key, kept.owner, kept.name, options, kept.number

    def renew(self, inner: Any) -> None:
        self.is_kept = self.mailbox.keep(self.limit)
        self.mailbox.renew(inner._mailbox)
