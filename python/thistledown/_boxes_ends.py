"""The ends of boxes in worker processes: who wants to hear of one, and what the engine's word for it means.

Each end is told once to everybody who wanted to hear, and to who comes later at once. A box that lives on elsewhere has
not ended: who wanted to hear hears from there.

What it is not: it ends nothing (``_boxes_workers``), and knows no handle.
"""

import threading
from typing import Any

from thistledown._boxes import Box, Ending, Heard, refusal
from thistledown._errors import ActorDied, ActorStopped
from thistledown._task import Task

__all__ = ["Watch", "gone"]

WORDS = {"stopped": "normal", "closed": "killed", "killed": "killed", "unmade": "failed"}
"""What the engine says of the end of a box, and what an ``Ending`` does; all others have died."""


class Watch:
    """Who wants to hear of the end of a box, and whether it has ended. Of any threads."""

    def __init__(self, name: str, task: Task[Any], because: BaseException | None) -> None:
        self.name = name
        self.because = because
        self.task = task
        self.lock = threading.Lock()
        # What is below is changed by whoever has the lock, which nobody has who calls somebody.
        self.heard: list[Heard] = []
        self.ending: Ending | None = None
        # The box in which it lives on, and which tells of the end.
        self.follows: Box | None = None
        task.add_done_callback(self.ended)

    def add(self, heard: Heard) -> None:
        if not self.enlist(heard):
            self.tell(heard)

    def enlist(self, heard: Heard) -> bool:
        """He will be told. False: he is to be told now."""
        with self.lock:
            is_open = self.ending is None and self.follows is None
            if is_open:
                self.heard.append(heard)
            return is_open

    def tell(self, heard: Heard) -> None:
        if self.ending is not None:
            heard(self.ending)
        elif self.follows is not None:
            self.follows.watch(heard)

    def remove(self, heard: Heard) -> bool:
        """Gives whether it is to end, and nobody wants to hear of that any more."""
        with self.lock:
            if heard in self.heard:
                self.heard.remove(heard)
            return not self.heard and self.ending is None and self.follows is None

    def follow(self, other: Box) -> None:
        """The box has not ended, but lives on as this one."""
        with self.lock:
            if self.ending is not None:
                return
            self.follows = other
            heard, self.heard = self.heard, []
        for one in heard:
            other.watch(one)

    def ended(self, task: Any) -> None:
        word, error = ("killed", None) if task.cancelled() else task.result()
        end = ending(self.name, word, self.because if word == "killed" else error)
        with self.lock:
            if self.follows is not None:
                return
            self.ending = end
            heard, self.heard = self.heard, []
        for one in heard:
            one(end)


def gone(actor: str, word: str, cause: BaseException | None) -> ActorStopped | ActorDied:
    """The error of what is asked of an actor that is no more. The engine calls this."""
    if word == "killed" and cause is not None:
        # The end of its process is what the kill was, and no reason for it.
        killed = refusal(actor, Ending(word))
        killed.__cause__ = cause
        return killed
    return refusal(actor, ending(actor, word, cause))


def ending(actor: str, word: str, error: BaseException | None) -> Ending:
    """What the engine says of an end, as all boxes say it."""
    if word == "closed":
        error = RuntimeError("its pool has come to its end")
    if word not in WORDS and error is None:
        error = RuntimeError(f"nobody knows of {actor} any more")
    return Ending(WORDS.get(word, "died"), error)
