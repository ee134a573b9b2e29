"""What a live view shows, kept by the viewer: the last answer of a program, rates, and what the system knows of
workers.

Outside of the program, like all of the viewer. A program that does not answer, or cannot, is no error here but a
state: the view says so and goes on asking.
"""

import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from thistledown._programs import Stuck, Unanswered, ask_json

__all__ = ["PLACES", "Watching", "actor_counts", "age", "amount"]

PLACES = ("here", "workers", "threads")

HISTORY = 300
"""Rates that are kept."""

SPANS = 5_000
"""Ended tasks of workers that are kept."""

VERSION = 2
"""Of the answers that are understood here."""

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Watching:
    """A program that is watched.

    Attributes:
        pid: its process.
        seen: its last answer; empty before the first.
        trouble: why there is no newer one, in words; empty when there is.
        rates: tasks that ended per second, by place.
        history: these rates, oldest first, each with the time.
        workers: cpu (1.0 is one core) and memory (bytes) of processes.
        spans: the last tasks that workers have ended, the oldest first.
    """

    pid: int
    seen: dict[str, Any] = field(default_factory=dict)
    trouble: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    history: deque[dict[str, float]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    workers: dict[int, dict[str, float]] = field(default_factory=dict)
    spans: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=SPANS))
    _times: dict[int, tuple[float, float]] = field(default_factory=dict)

    def look(self) -> bool:
        """Asks once more; whether there was an answer."""
        before = self.seen
        after = self.spans[-1]["ended"] if self.spans else 0.0
        try:
            seen = ask_json(self.pid, "view", {"after": after})
        except Stuck as stuck:
            self.trouble = str(stuck)
            return False
        except Unanswered as why:
            self.trouble = str(why)
            return False
        if seen.get("version") != VERSION:
            self.trouble = "the program runs another version of Thistledown than this viewer: " + seen.get("error", "")
            return False
        self.trouble, self.seen = "", seen
        self.spans.extend(sorted(seen.pop("spans"), key=lambda span: span["ended"]))
        self._rate(before, seen)
        pids = [self.pid, *(worker["pid"] for worker in seen["workers"] if worker["pid"] is not None)]
        self.workers = {pid: usage for pid in pids if (usage := self._usage(pid)) is not None}
        self._times = {pid: known for pid, known in self._times.items() if pid in self.workers}
        return True

    def ask(self, what: str, about: str) -> dict[str, Any]:
        """Opens, cancels or kills one; an answer with ``error`` when it cannot be."""
        try:
            return ask_json(self.pid, what, about)
        except (Stuck, Unanswered) as why:
            return {"error": str(why)}

    def _rate(self, before: dict[str, Any], seen: dict[str, Any]) -> None:
        seconds = seen["time"] - before["time"] if before else 0.0
        for place in PLACES:
            ended = seen["statistics"][place]["ended"]
            more = ended - before["statistics"][place]["ended"] if before else 0
            self.rates[place] = more / seconds if seconds > 0 else 0.0
        self.history.append({"time": seen["time"], **self.rates})

    def _usage(self, pid: int) -> dict[str, float] | None:
        """What the system says of a process: behind its name, which may have blanks in it."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                words = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        used, now = (int(words[11]) + int(words[12])) / _TICKS, time.monotonic()
        before, then = self._times.get(pid, (used, now))
        self._times[pid] = used, now
        cpu = (used - before) / (now - then) if now > then else 0.0
        return {"cpu": cpu, "memory_bytes": int(words[21]) * _PAGE_BYTES}


def actor_counts(seen: dict[str, Any]) -> str:
    """How many actors there are, with how many messages, and how many of them are not listed; empty without any."""
    counts = seen["statistics"]["messages"]
    count = counts["actors_here"] + counts["actors_in_workers"]
    if not count:
        return ""
    unanswered = counts["unanswered_here"] + counts["unanswered_in_workers"]
    more = count - len(seen["actors"])
    listed = f", {more:,} not listed" if more > 0 else ""
    return f"actors {count:,} with {unanswered:,} messages{listed}"


def amount(size_bytes: float) -> str:
    """A size for people."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"


def brief_age(seconds: float | None) -> str:
    """The same in six cells at most, the unit among them."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 3_600:
        return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds) // 60} min"
    return f"{seconds / 3_600:.1f} h" if seconds < 90_000 else f"{int(seconds) // 86_400} d"


def age(seconds: float | None) -> str:
    """A duration for people; nothing when it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
