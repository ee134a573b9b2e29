"""Boxes of other processes: what a handle has where its actor does not live.

What is asked goes to the process that has the box, as a letter (``_core.Far``), is read there by a thread that may call
Python (``received``), and is a message to the box as any other. So messages of one process stand in its order, and what
holds for the box holds for who is far: its mailbox's limit, its end, its moves.

What differs: a box may have ended, or its process, while somebody far has not heard of it. So what is refused is the
error of the task, and not of the call. Who dies after he has sent a message has sent it.
"""

import contextvars
import threading
from typing import Any, NoReturn

from thistledown import _carried, _core
from thistledown._boxes import Box, Ending, Heard, refusal
from thistledown._errors import ActorDied, ActorStopped
from thistledown._pickling import pack_error, unpack_error
from thistledown._task import Task, TaskCancelled

__all__ = ["FarBox", "again", "home_gone", "received", "sent"]

CALL, READ, STOP, WATCH = range(4)
# Of all boxes. Held while it changes who watches, and never while he is told.
_lock = threading.RLock()


class FarBox:
    """A box that lives in another process. See ``Box``."""

    __slots__ = ("_far", "_heard", "_options", "_route", "_watching", "name", "number", "owner")

    def __init__(
        self,
        far: "_core.Far",
        owner: type[Any],
        name: str,
        options: dict[str, Any],
        number: tuple[int, int],
        route: tuple[int, int] | None = None,
    ) -> None:
        self._far = far
        # By what a pool's processes know it, if it lives in a worker process.
        self._route = route
        self._options = options
        self._heard: list[Heard] = []
        self._watching: Task[Any] | None = None
        self.owner = owner
        self.name = name
        self.number = number

    @property
    def place(self) -> Any:
        return Elsewhere(self._far._pid)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._options)

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        return self._far._ask(CALL, method, args, kwargs)

    def read(self, attribute: str) -> Task[Any]:
        return self._far._ask(READ, attribute, (), None)

    def stop(self) -> Task[None]:
        return self._far._ask(STOP, "stop", (), None)

    @property
    def is_elsewhere(self) -> bool:
        return True

    @property
    def further(self) -> None:
        return None

    def kill(self, because: BaseException | None = None) -> None:
        self._far._kill(because)

    def watch(self, heard: Heard) -> None:
        with _lock:
            self._heard.append(heard)
            watching = self._watching
            if watching is None:
                watching = self._watching = self._far._ask(WATCH, "watch", (), None)
        watching.add_done_callback(self._ended)

    def _ended(self, task: Any) -> None:
        try:
            word, packed = task.result()
        except TaskCancelled:
            return
        except BaseException as error:
            ending = Ending("died", error.__cause__ or error)
        else:
            ending = Ending(word, None if packed is None else unpack_error(packed))
        with _lock:
            heard, self._heard = self._heard, []
        for one in heard:
            one(ending)

    def unwatch(self, heard: Heard) -> None:
        with _lock:
            if heard in self._heard:
                self._heard.remove(heard)
            watching = self._watching
            if self._heard or watching is None or watching.done():
                return
            self._watching = None
        watching.cancel()

    def leave(self, settle: Any) -> NoReturn:
        raise TypeError(
            f"{self.name} lives in process {self._far._pid}, and is moved from there: send a message to somebody who "
            "lives there too, and who calls `move`"
        )

    def __reduce__(self) -> Any:
        reference, known = self._far._reference(), (self.owner, self.name, self._options, self.number)
        if self._route is None:
            return again, (reference, *known)
        from thistledown._boxes_workers import again as again_in_pool

        return again_in_pool, (*self._route, *known, reference)


class Elsewhere:
    """The place of an actor that lives in another process, as far as is known here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Elsewhere) and self.pid == other.pid

    def __hash__(self) -> int:
        return hash(self.pid)

    def __repr__(self) -> str:
        return f"<the place of process {self.pid}>"


def sent(counter: "_core.Counter", box: Box) -> Any:
    """What stands for a box of this process in a pickle.

    Args:
        counter: the box's own.
    """
    return again, (counter._reference(box), box.owner, box.name, box.options, box.number)


def again(reference: bytes, owner: type[Any], name: str, options: dict[str, Any], number: tuple[int, int]) -> Box:
    """A box that was sent to this process; one that lives here is itself.

    Raises:
        ActorDied: it lived here, and is no more.
    """
    far: Any = _core.Far._of(reference, name)
    if far is None:
        raise refusal(name, Ending("died", RuntimeError("nobody kept it")))
    return FarBox(far, owner, name, options, number) if isinstance(far, _core.Far) else far


def received(box: Box, letter: "_core.Letter") -> None:
    """Does what a letter asks. The herald calls this, in the process that has the box."""
    if letter._verb == WATCH:
        watch(box, letter)
        return
    task: Task[Any] = box.stop() if letter._verb == STOP else passed_on(box, letter)
    letter._begun(task)
    answered: Any = letter._answer
    task.add_done_callback(answered)


def passed_on(box: Box, letter: "_core.Letter") -> Task[Any]:
    """What a letter asks, as a message to this box. Raises as ``Box.call``."""
    if isinstance(box, _core.HereBox):
        task: Task[Any] = box.take(letter)  # type: ignore[attr-defined]  # all of its boxes derive from it
        return task
    args, kwargs, extras = letter._read()
    context = contextvars.copy_context()
    context.run(_carried.enter, extras)
    if letter._verb == READ:
        return context.run(box.read, letter._what)
    return context.run(box.call, letter._what, args, kwargs)


def watch(box: Box, letter: "_core.Letter") -> None:
    """Answers a letter with the end of the box."""

    def heard(ending: Ending) -> None:
        letter._heard()
        letter._give((ending.word, None if ending.error is None else pack_error(ending.error)))

    letter._watches(heard)
    box.watch(heard)


def home_gone(actor: str, why: str) -> ActorStopped | ActorDied:
    """The error of what is asked of an actor whose process is gone. The engine calls this."""
    return refusal(actor, Ending("died", RuntimeError(f"the place where it lived is gone: {why}")))
