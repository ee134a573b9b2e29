"""Boxes: what stands behind the handle of an actor, wherever it lives. A protocol of the package's own.

The face (``Actor``) knows no place, and a place knows no face: between them is a ``Box``. A box is a private key and an
instance. A call is a task with that key, in that place. So its tasks begin in the order of the calls and never overlap,
not even at their waits, and all that tasks can do, calls can.

What every box keeps:

- ``call`` and ``read`` give a task at once, or raise at once and have done nothing. From one thread they are answered
  in their order.
- An exception of a method is its task's, and the box goes on. An exception of the constructor ends the box.
- ``stop`` is a message behind all others: they are answered first. From its call on, further ones raise
  ``ActorStopped``.
- ``kill`` and any other end fail what is begun and what is queued with ``ActorDied``, all at once.
- A box ends exactly once, with an ``Ending``, and tells whoever watches it exactly once, also who comes later.
- A box that nobody holds and that has no call ends by itself, as by ``stop``.
- ``leave`` is a message as well. When its turn comes the instance is pickled, and the box stands still: what is queued
  behind does not begin before somebody has made another box of it. Then that one answers the queue, in its order, and
  all later calls, also those that come through this one; or, when it could not be made, this one goes on. A box that
  was left has not ended: who watches it hears of the end of the other.

Not in here: names and arguments, which the face has looked at.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

from thistledown._errors import ActorDied, ActorStopped, MailboxFull
from thistledown._task import Task

__all__ = ["MAILBOX", "Box", "Ending", "Heard", "Made", "Maker", "full", "last", "making", "refusal"]

MAILBOX = 100_000
"""Calls that an actor may have unanswered, if nothing else was said; one more raises ``MailboxFull``."""


class Ending(NamedTuple):
    """How a box has ended: in a word, and by what error.

    ``normal``: it was stopped or given up. ``killed``: by ``kill``; with ``error`` it is that which has ended it: one
    that it was linked to has failed, or the run or pool that it lived in is over.
    ``failed``: its constructor raised ``error``. ``died``: its process did, and ``error`` is the ``WorkerDied``.
    """

    word: str
    error: BaseException | None = None


Heard: TypeAlias = Callable[[Ending], None]
Made: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]] | bytes
"""What an instance is made of: the arguments of its class, or the instance as ``leave`` has pickled it."""


class Maker(Protocol):
    """Makes boxes in a place, from any thread: what a place's ``_box_maker()`` gives, once it has found its run."""

    def __call__(self, owner: type[Any], made: Made, like: "Box | None" = None) -> "Box":
        """A new box.

        Args:
            owner: the class of the instance.
            made: what the instance is made of.
            like: the box that the instance comes from, which goes on in the new one: that takes over its name, number
                and options, as far as the place has none of its own.
        """
        ...


class Box(Protocol):
    """An actor where it lives."""

    @property
    def owner(self) -> type[Any]:
        """The class of the instance."""
        ...

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def place(self) -> Any:
        """Where it lives, as the face shows it: ``td.here``, a pool."""
        ...

    @property
    def options(self) -> dict[str, Any]:
        """Those that it was made with, but the name."""
        ...

    @property
    def number(self) -> tuple[int, int]:
        """The process that has made it, and its number among those of that process: what equal handles share."""
        ...

    def call(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task[Any]:
        """A message: ``getattr(instance, method)(*args, **kwargs)``, and what that waits for, if it is a coroutine or
        a generator, as a task.

        Raises:
            ActorStopped, ActorDied: it takes no more calls.
            MailboxFull: so many are unanswered.
            NotPicklable: an argument cannot be sent.
        """
        ...

    def read(self, attribute: str) -> Task[Any]:
        """A message: ``getattr(instance, attribute)``. Raises as ``call``."""
        ...

    def stop(self) -> Task[None]:
        """A message behind which there are none. Gives a task that is done when the box has ended, each caller one of
        his own: who cancels it does not wait any more, and the box is to end all the same.
        """
        ...

    @property
    def is_elsewhere(self) -> bool:
        """Whether it may end though nothing happens in this process."""
        ...

    @property
    def further(self) -> "Box | None":
        """The box that answers what this one is asked, and before which nothing stands here any more; None: itself."""
        ...

    def kill(self, because: BaseException | None = None) -> None:
        """Ends it now, wherever it stands; its ending is ``killed`` by this error. Of one that has ended nothing."""
        ...

    def watch(self, heard: Heard) -> None:
        """Calls ``heard(ending)`` once, in any thread, when the box has ended; at once when it already has.

        It does not keep the box alive, nor a program that comes to its end.
        """
        ...

    def unwatch(self, heard: Heard) -> None:
        """Takes that back, if it was not called yet."""
        ...

    def leave(self, settle: "Callable[[bytes], Box]") -> Task[None]:
        """A message: the instance moves to another box.

        Args:
            settle: given the pickled instance, makes the box that goes on; called once, in any thread. When it raises,
                this box goes on.

        Returns:
            A task that is done when the other one has the queue; it fails with what ``settle`` raised, or with
            ``NotPicklable``.

        Raises:
            ActorStopped, ActorDied, MailboxFull: as ``call``.
        """
        ...

    def __reduce__(self) -> Any:
        """What stands for it in another process; refuses by ``NotPicklable`` where it cannot be used from others."""
        ...


def last(box: Box) -> Box:
    """The box that answers what this one is asked, after all of its moves. Who keeps it finds it at once the next time:
    so the way does not grow with the moves (union-find's path compression).
    """
    while (further := box.further) is not None:
        box = further
    return box


def making(box: Box) -> Task[Any] | None:
    """The task that makes what is in a box in another process; None: it was made with the box."""
    task: Task[Any] | None = getattr(box, "_making", None)
    return task


def refusal(name: str, ending: Ending) -> ActorStopped | ActorDied:
    """The error of a message to an actor that has ended."""
    if ending.word == "normal":
        return ActorStopped(f"actor {name} has been stopped, and takes no more messages")
    words = {
        "killed": "it was killed" if ending.error is None else f"it was killed: {ending.error}",
        "failed": f"its constructor raised {ending.error!r}",
        "died": str(ending.error),
    }[ending.word]
    error = ActorDied(f"actor {name} has ended: {words}", ending.word)
    error.__cause__ = ending.error
    return error


def full(name: str, limit: int) -> MailboxFull:
    """The error of a message for which there is no room."""
    return MailboxFull(
        f"{limit} messages to actor {name} are unanswered: wait for some, or give it more room by "
        "`options(mailbox=...)`"
    )
