"""Boxes in worker processes that move: the instance is given out, and somebody settles it elsewhere.

From ``leave`` until that is done the box is nowhere, and what it is asked waits here, in its order. Then it is asked of
the box that lives on, or of this one if it has stayed; what comes meanwhile stands behind it. Calls that the engine had
already follow by themselves (``Mailbox.moved``). A box that has gone knows where to, by the shortest way.

What it is not: it makes no box and packs no instance (``_moves``), and asks nothing of its own.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._boxes import Box, Ending, last, making, refusal
from thistledown._boxes_ends import Watch
from thistledown._later import Later
from thistledown._task import Task

__all__ = ["MovingBox", "carrying"]


class MovingBox:
    """What a box in a worker process has to move. ``WorkerBox`` says what each of these stands for."""

    __slots__ = (
        "_because",
        "_forward",
        "_is_plain",
        "_is_stopping",
        "_killed",
        "_lock",
        "_mailbox",
        "_pool",
        "_waiting",
        "_watch",
        "name",
    )

    name: str
    _because: BaseException | None
    _forward: Box | None
    _is_plain: bool
    _is_stopping: bool
    _killed: bool
    _lock: threading.RLock
    _mailbox: _core.Mailbox
    _pool: Any
    _waiting: deque[tuple[Later, Callable[[bytes], Box] | None]] | None
    _watch: Watch | None

    def _is_wanted(self) -> None:
        raise NotImplementedError

    @property
    def further(self) -> Box | None:
        return None if self._waiting is not None else self._forward

    @property
    def _on(self) -> Box | None:
        """Where it lives on, by the shortest way; None: here."""
        if self._forward is not None:
            self._forward = last(self._forward)
        return self._forward

    def leave(self, settle: Callable[[bytes], Box]) -> Task[None]:
        with self._lock:
            forward = self._on if self._waiting is None else None
            if forward is None:
                if self._pool._is_upstream:
                    raise TypeError(
                        f"{self.name} lives in a pool of the program's, and is moved from there: send a message to "
                        "somebody who lives in the program, and who calls `move`"
                    )
                if self._is_stopping:
                    raise refusal(self.name, Ending("normal"))
                name = f"the move of {self.name}"
                if self._waiting is not None:
                    return self._later(name, lambda box: box.leave(settle), None, settle)
                self._is_wanted()
                self._is_plain = False
                self._waiting = deque()
        if forward is not None:
            return forward.leave(settle)
        promise: Task[None] = _core.pledge(name, True)
        try:
            self._set_out(settle, promise)
        except BaseException:
            self._settle(self)
            raise
        return promise

    def _set_out(self, settle: Callable[[bytes], Box], promise: Task[None]) -> None:
        """Has the instance given out. What comes then waits until it is somewhere."""
        leaving = self._mailbox.give()

        def left(task: Any) -> None:
            try:
                state = task.result()
            except BaseException as error:
                self._settle(self)
                promise._settle(None, error)
                return
            try:
                other = settle(state)
            except BaseException as error:
                stays(error)
                return
            made = making(other)
            if made is None:
                goes(other)
            else:
                # Only what is whole there is let go here.
                made.add_done_callback(lambda made: arrived(other, made))

        def arrived(other: Box, made: Any) -> None:
            try:
                made.result()
            except BaseException as error:
                stays(error)
            else:
                goes(other)

        def goes(other: Box) -> None:
            self._moved(other)
            promise._settle(None, None)

        def stays(error: BaseException) -> None:
            self._mailbox.moved(None)
            self._settle(self)
            promise._settle(None, error)

        leaving.add_done_callback(left)

    def _moved(self, other: Box) -> None:
        """The other box answers what is queued, and all calls from now on."""
        with self._lock:
            self._forward = other
            killed, watch = self._killed, self._watch
        if killed:
            # By somebody who did not know of the other.
            other.kill(self._because)
        if watch is not None:
            watch.follow(other)
            self._mailbox.unwatch(watch.task)
        if isinstance(other, MovingBox) and other._pool is self._pool:
            self._mailbox.moved(other._mailbox)
        else:
            self._mailbox.moved_out()
        self._settle(other)

    def _later(
        self,
        name: str,
        elsewhere: Callable[[Box], Task[Any]],
        here: Callable[[], Task[Any]] | None,
        settle: Callable[[bytes], Box] | None = None,
        drop: Callable[[Later], bool] | None = None,
    ) -> Task[Any]:
        """What is asked while the box is nowhere. It is asked where the box will be. Who calls this holds the lock."""
        assert self._waiting is not None

        def how(box: Any) -> Task[Any]:
            if box is not self:
                return elsewhere(box)
            assert here is not None
            return carrying(here)

        later = Later(name, how, drop)
        self._waiting.append((later, settle))
        return later.answer

    def _drop(self, later: Later) -> bool:
        """Forgets what waits for the box to be somewhere. False when it waits no more."""
        with self._lock:
            if self._waiting is None or (later, None) not in self._waiting:
                return False
            self._waiting.remove((later, None))
            return True

    def _settle(self, box: Any) -> None:
        """The box is here, or there, and is asked what has waited for that, in its order, and what comes meanwhile."""
        while True:
            with self._lock:
                assert self._waiting is not None
                if not self._waiting:
                    self._waiting = None
                    return
                later, settle = self._waiting.popleft()
            if box is not self or settle is None:
                later.ask(box)
                continue
            # It moves again, and what is behind waits for that.
            try:
                self._set_out(settle, later.answer)
            except BaseException as error:
                later.settle(None, error)
            else:
                return


def carrying(start: Callable[[], Task[Any]]) -> Task[Any]:
    """Starts a task. What it was given by ``td.share`` is held until it ends."""
    shared = sys.modules.get("thistledown._shared")
    task: Task[Any] = start() if shared is None else shared.holding(start)
    return task
