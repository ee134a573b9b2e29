"""The letter counter in the talk's ways, with nothing but the standard library; `letters.py` runs and times them.

Each way takes a text, in which every letter is an event that somebody must handle, and gives how many vowels,
consonants and others there were. The counting stands for work that is dear; the ways differ in who does it.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

import multiprocessing
import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

KINDS = ("vowel", "consonant", "other")
STOP = None  # what ends who is fed through a queue

Counts = dict[str, int]
processes = multiprocessing.get_context("fork")


def kind_of(letter: str) -> str:
    return "other" if not letter.isalpha() else "vowel" if letter in "aeiouAEIOU" else "consonant"


class Counter:
    """One kind's handler: an object that is called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, letter: str) -> None:
        self.count += 1


def plain_calls(text: str) -> Counts:
    counters = {kind: Counter() for kind in KINDS}
    for letter in text:
        counters[kind_of(letter)](letter)
    return {kind: counter.count for kind, counter in counters.items()}


# --- processes and threads --------------------------------------------------------------------------------------


def add_one(total: Any) -> None:
    total.value += 1


def process_for_each_event(text: str) -> Counts:
    totals = {kind: processes.Value("i", 0) for kind in KINDS}
    for letter in text:
        handler = processes.Process(target=add_one, args=(totals[kind_of(letter)],))
        handler.start()
        handler.join()
    return {kind: total.value for kind, total in totals.items()}


def count_what_is_fed(events: Any, result: Callable[[int], object]) -> None:
    """Handles what comes through a queue, until it is told to stop. Blocks in between."""
    result(sum(1 for _ in iter(events.get, STOP)))


def fed_processes(text: str) -> Counts:
    events = {kind: processes.SimpleQueue() for kind in KINDS}
    results = {kind: processes.SimpleQueue() for kind in KINDS}
    handlers = [processes.Process(target=count_what_is_fed, args=(events[kind], results[kind].put)) for kind in KINDS]
    for handler in handlers:
        handler.start()
    for letter in text:
        events[kind_of(letter)].put(letter)
    for kind in KINDS:
        events[kind].put(STOP)
    counts = {kind: results[kind].get() for kind in KINDS}
    for handler in handlers:
        handler.join()
    return counts


def fed_threads(text: str) -> Counts:
    events: dict[str, queue.SimpleQueue[str | None]] = {kind: queue.SimpleQueue() for kind in KINDS}
    counts: Counts = {}
    handlers = [
        threading.Thread(target=count_what_is_fed, args=(events[kind], lambda n, kind=kind: counts.update({kind: n})))
        for kind in KINDS
    ]
    for handler in handlers:
        handler.start()
    for letter in text:
        events[kind_of(letter)].put(letter)
    for kind in KINDS:
        events[kind].put(STOP)
    for handler in handlers:
        handler.join()
    return counts


# --- generators -------------------------------------------------------------------------------------------------


def count_what_is_there(events: queue.SimpleQueue[str | None]) -> Generator[int, None, None]:
    """Handles one event each time it is asked, if there is one, and gives the count so far. Never blocks."""
    count = 0
    while True:
        if not events.empty():
            if events.get() is STOP:
                return
            count += 1
        yield count


def polled_generators(text: str) -> Counts:
    events: dict[str, queue.SimpleQueue[str | None]] = {kind: queue.SimpleQueue() for kind in KINDS}
    handlers = {kind: count_what_is_there(events[kind]) for kind in KINDS}
    counts = dict.fromkeys(KINDS, 0)
    for letter in text:
        kind = kind_of(letter)
        events[kind].put(letter)
        counts[kind] = next(handlers[kind])
    for kind in KINDS:
        events[kind].put(STOP)
        if next(handlers[kind], STOP) is not STOP:
            raise RuntimeError(f"the handler of {kind} did not stop")
    return counts


def count_what_is_sent() -> Generator[int, str, None]:
    count = 0
    while True:
        yield count
        count += 1


def generators_that_are_sent_to(text: str) -> Counts:
    handlers = {kind: count_what_is_sent() for kind in KINDS}
    counts = {kind: next(handler) for kind, handler in handlers.items()}  # primes them
    for letter in text:
        kind = kind_of(letter)
        counts[kind] = handlers[kind].send(letter)
    return counts


#: Each way, and how many letters it gets for the table: fewer where each costs more.
WAYS: dict[Callable[[str], Counts], int] = {
    plain_calls: 20_000,
    process_for_each_event: 40,
    fed_processes: 4_000,
    fed_threads: 20_000,
    polled_generators: 20_000,
    generators_that_are_sent_to: 20_000,
}


if __name__ == "__main__":
    print(f"{len(WAYS)} ways: `python letters.py` runs and times them")
