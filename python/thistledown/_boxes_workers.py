"""Boxes in worker processes.

The engine of a pool has the box, by a number that its maker draws by lot (``_core.Mailbox``). What stands here knows
whose it is: the class, the name and the options, and when nobody holds it any more.

A box is used straight from each process that has a way to its pool: the program, and the pool's own workers. There it
may end while somebody elsewhere has not heard of it yet, so what is refused in a worker is its task's error, and not
the call's. From other processes it is used by way of one that has a way (``_boxes_far``): that which has sent the
handle, or where that one had it from. What goes to the pool alone names no such way, and is only a number.

How its end is told, and in which words, is in ``_boxes_ends``; how it moves, in ``_boxes_moving``.
"""

import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import MAILBOX, Box, Ending, Heard, Made, refusal
from thistledown._boxes_ends import Watch
from thistledown._boxes_far import FarBox
from thistledown._boxes_moving import MovingBox, carrying
from thistledown._errors import NotPicklable
from thistledown._lifetime import is_worker, worker_pool
from thistledown._moves import rebuilt
from thistledown._task import Task

__all__ = ["WorkerBox", "box_of", "make"]

_serial = itertools.count(1)
_made: "weakref.WeakValueDictionary[int, WorkerBox]" = weakref.WeakValueDictionary()
"""The boxes that this process has made, by their keys: one that comes home knows where it has moved to."""
_sent: "weakref.WeakValueDictionary[int, WorkerBox]" = weakref.WeakValueDictionary()
"""Those that others have made and that were sent to this process, for who looks at it."""


def make(
    pool: Any, is_alone: bool, options: dict[str, Any], owner: type[Any], made: Made, like: Box | None = None
) -> Box:
    """A box in a pool's engine.

    Args:
        pool: the ``Workers`` in whose engine it lives.
        is_alone: in a worker of its own, beside those of the pool; else in one that holds several.
        options: those that hold for it, checked: ``name``, ``mailbox``, ``timeout``, ``memory``.
        owner, made, like: as any maker takes them.

    Raises:
        NotPicklable: the class or an argument cannot be sent.
        RuntimeError: the pool was shut down.
    """
    given = {**(like.options if like is not None else {}), **options}
    name = given.pop("name", None) or (like.name if like is not None else f"{owner.__qualname__}-{next(_serial)}")
    key = int.from_bytes(os.urandom(8), "little")
    box = WorkerBox(pool, key, owner, name, given, like.number if like is not None else (os.getpid(), key))
    box._is_alone = is_alone
    function: Callable[..., Any] = rebuilt if isinstance(made, bytes) else owner
    args, kwargs = ((made,), {}) if isinstance(made, bytes) else made
    mailbox, memory = given.get("mailbox", MAILBOX), given.get("memory")
    box._making = carrying(lambda: box._mailbox.make(pool._pool, is_alone, mailbox, memory, function, args, kwargs))
    box._is_held = True
    _made[key] = box
    return box


class WorkerBox(MovingBox):
    """A box in a worker process, as one process has it. See ``Box``."""

    __slots__ = (
        "__weakref__",
        "_counter",
        "_is_alone",
        "_is_asked",
        "_is_held",
        "_keeper",
        "_key",
        "_making",
        "_options",
        "number",
        "owner",
    )

    def __init__(
        self,
        pool: Any,
        key: int,
        owner: type[Any],
        name: str,
        options: dict[str, Any],
        number: tuple[int, int],
    ) -> None:
        self.owner = owner
        self.name = name
        self.number = number
        self._pool = pool
        self._key = key
        self._options = options
        self._is_alone = False
        # What makes it, whose error is told when nobody asks for it.
        self._making: Task[Any] | None = None
        self._is_asked = False
        # When it is gone, nobody holds the box any more.
        self._is_held = False
        # It takes no more calls.
        self._is_stopping = False
        self._watch = None
        # Held while what is below is looked at and changed, and never while code of others may run.
        self._lock = threading.RLock()
        # Since ``leave``: what waits for the box to be somewhere, and to have been asked what came before.
        self._waiting = None
        # Where it lives on, if not here.
        self._forward = None
        # It was killed while it was nowhere.
        self._killed = False
        # What it was killed for.
        self._because = None
        # What stands for it before processes without a way to the pool, since its handle was sent to one.
        self._counter: _core.Counter | None = None
        # In another process than the one that has sent it: what keeps it there, and how others may come to it.
        self._keeper: _core.Far | None = None
        # A call goes its way without a question.
        self._is_plain = False
        self._mailbox = _core.Mailbox(pool._pool, key, name, options.get("timeout"))

    @property
    def place(self) -> Any:
        forward = self._on
        return self._pool if forward is None else forward.place

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._options)

    @property
    def is_elsewhere(self) -> bool:
        forward = self._on
        return True if forward is None else forward.is_elsewhere

    # --- messages -------------------------------------------------------------------------------------------------

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        if self._is_plain and "thistledown._shared" not in sys.modules:
            return self._mailbox.call(method, args, kwargs)
        return self._asked(
            method, lambda box: box.call(method, args, kwargs), lambda: self._mailbox.call(method, args, kwargs)
        )

    def read(self, attribute: str) -> Task[Any]:
        return self._asked(attribute, lambda box: box.read(attribute), lambda: self._mailbox.read(attribute))

    def begun(self) -> Task[Any]:
        """A task that ends when the instance is made, with the error if it cannot be. It is no call: it has no span."""
        return self._asked("__module__", lambda box: box.read("__module__"), self._mailbox.begun)

    def _asked(self, what: str, elsewhere: Callable[[Box], Task[Any]], here: Callable[[], Task[Any]]) -> Task[Any]:
        with self._lock:
            if self._is_stopping and (self._waiting is not None or self._forward is None):
                raise refusal(self.name, Ending("normal"))
            if self._waiting is not None:
                return self._later(f"{self.name}.{what}", elsewhere, here, drop=self._drop)
            forward = self._on
            if forward is None:
                if self._killed and self._pool._is_upstream:
                    # The pool is not asked here who lives, and who asks would not hear at once.
                    raise refusal(self.name, Ending("killed", self._because))
                self._is_wanted()
                self._is_plain = True
        return carrying(here) if forward is None else elsewhere(forward)

    def _is_wanted(self) -> None:
        """Whoever asks the box hears what has made it fail."""
        if self._making is not None and not self._is_asked:
            self._is_asked = True
            self._making._take_failure()

    def stop(self) -> Task[None]:
        with self._lock:
            forward = self._on if self._waiting is None else None
            if forward is None:
                self._is_plain = False
                self._is_stopping = True
            if self._waiting is not None:
                return self._later(f"the stop of {self.name}", lambda box: box.stop(), lambda: self._mailbox.stop())
        return self._mailbox.stop() if forward is None else forward.stop()

    def kill(self, because: BaseException | None = None) -> None:
        with self._lock:
            forward = self._on
            if forward is None:
                self._is_held = self._is_plain = False
                self._killed = True
                self._because = self._because or because
                if self._watch is not None:
                    self._watch.because = self._because
        if forward is not None:
            forward.kill(because)
            return
        self._is_wanted()
        self._mailbox.kill()

    def tie(self) -> None:
        """It ends when this process does, as by ``kill``: somebody here answers for it."""
        self._mailbox.tie()

    # --- its end --------------------------------------------------------------------------------------------------

    def watch(self, heard: Heard) -> None:
        with self._lock:
            forward = self._on
            if forward is None and self._watch is None:
                self._is_wanted()
                self._watch = Watch(self.name, self._mailbox.watch(), self._because)
            watch = self._watch
            is_enlisted = forward is None and watch is not None and watch.enlist(heard)
        if forward is not None:
            forward.watch(heard)
        elif watch is not None and not is_enlisted:
            watch.tell(heard)

    def unwatch(self, heard: Heard) -> None:
        with self._lock:
            forward, watch = self._on, self._watch
            if watch is not None and watch.remove(heard) and forward is None:
                self._watch = None
                self._mailbox.unwatch(watch.task)
        if forward is not None:
            forward.unwatch(heard)

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the interpreter the names of this module may be gone.
        # One that is made again elsewhere, or was sent there, is held by others, for all that is known here.
        if self._is_held and not self._is_stopping and self._forward is None and not is_finalizing():
            self._mailbox.stop()

    def __reduce__(self) -> Any:
        if self._forward is not None:
            return self._forward.__reduce__()
        reference = None
        if self._mailbox.is_bound_for:
            # From now on nobody knows who holds it.
            self._is_held = False
        else:
            reference = self._reference()
        return again, (*self._route, self.owner, self.name, self._options, self.number, reference)

    @property
    def _route(self) -> tuple[int, int]:
        """By what processes with a way to the pool know it."""
        return self._pool._token, self._key

    def _reference(self) -> bytes:
        """By what all other processes know it."""
        if self._keeper is not None:
            return self._keeper._reference()
        if self._counter is None:
            counter = self._counter = _core.Counter()
            # Who watches does not keep the box.
            self.watch(lambda _: counter._close())
        return self._counter._reference(self)


def box_of(number: int) -> WorkerBox | None:
    """The box of this number, if somebody here holds it."""
    return _made.get(number) or _sent.get(number)


def again(
    token: int,
    key: int,
    owner: type[Any],
    name: str,
    options: dict[str, Any],
    number: tuple[int, int],
    reference: bytes | None,
) -> Box:
    """A box that was sent to this process; one that was made here is itself.

    Args:
        token, key: by what processes with a way to its pool know it.
        owner, name, options, number: as it has them.
        reference: by what all others know it; None when it was sent to the pool alone.

    Raises:
        NotPicklable: there is no way from this process to the pool that it lives in.
    """
    far: Any = None if reference is None else _core.Far._of(reference, name)
    if far is not None and not isinstance(far, _core.Far):
        return far  # type: ignore[no-any-return]  # it was sent from here
    if (known := _made.get(key)) is not None:
        return known
    if is_worker() and worker_pool() == token:
        from thistledown._workers import workers

        pool: Any = workers()
    else:
        from thistledown._pool import by_token

        pool = by_token.get(token)
    if pool is not None:
        box = _sent[key] = WorkerBox(pool, key, owner, name, options, number)
        box._keeper = far
        return box
    if far is not None:
        return FarBox(far, owner, name, options, number, (token, key))
    raise NotPicklable(
        f"{name} is an actor in a worker process of another pool, whose handle was pickled for the processes of that "
        "pool alone: send the handle itself, and not bytes that were meant for another"
    )
