"""The letter counter on Thistledown, in ways that correspond to the talk's; `letters.py` runs and times them.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Any

import thistledown as td
from letters_his_ways import KINDS, Counts, kind_of

CAPACITY = 64


# --- a process for each event, and processes that are kept -------------------------------------------------------


def in_order(counts: Counter[str]) -> Counts:
    return {kind: counts[kind] for kind in KINDS}


def fresh_process_for_each_event(text: str) -> Counts:
    """Nothing is shared: the handler gives what it found, and whoever asks counts."""
    with td.Workers(2, max_tasks_per_child=1) as pool:
        events = [pool.go(kind_of, letter) for letter in text]
        return in_order(Counter(event.result() for event in events))


def task_for_each_event(text: str) -> Counts:
    events = [td.go(kind_of, letter) for letter in text]
    return in_order(Counter(event.result() for event in events))


def map_in_workers(text: str) -> Counts:
    return in_order(Counter(td.map(kind_of, text)))


# --- handlers that are fed through channels ----------------------------------------------------------------------


def count_in_a_thread(channel: td.Channel[str]) -> int:
    count = 0
    try:
        while True:
            channel.recv().wait()
            count += 1
    except td.ChannelClosed:
        return count


def count_in_a_generator(channel: td.Channel[str]) -> Generator[Any, Any, int]:
    count = 0
    try:
        while True:
            yield from channel.recv()
            count += 1
    except td.ChannelClosed:
        return count


async def count_in_a_coroutine(channel: td.Channel[str]) -> int:
    count = 0
    async for _ in channel:
        count += 1
    return count


def fed(text: str, start: Callable[[td.Channel[str]], td.Task[int]]) -> Counts:
    """Feeds three handlers with a channel each, whatever they are."""

    async def feed() -> Counts:
        channels = {kind: td.Channel[str](CAPACITY) for kind in KINDS}
        handlers = {kind: start(channel) for kind, channel in channels.items()}
        for letter in text:
            await channels[kind_of(letter)].send(letter)
        for channel in channels.values():
            channel.close()
        return {kind: await handler for kind, handler in handlers.items()}

    return td.run(feed)


def fed_thread_calls(text: str) -> Counts:
    return fed(text, lambda channel: td.go(td.thread(count_in_a_thread, channel)))


def fed_generator_tasks(text: str) -> Counts:
    return fed(text, lambda channel: td.go(count_in_a_generator, channel))


def fed_coroutine_tasks(text: str) -> Counts:
    return fed(text, lambda channel: td.go(count_in_a_coroutine, channel))


def fed_worker_processes(text: str) -> Counts:
    """Processes that stay, as the talk's fed ones: with a channel for the queue, and without the rest."""
    with td.Workers(len(KINDS)) as pool:
        return fed(text, lambda channel: pool.go(count_in_a_thread, channel))


# --- generators that are sent to, and such that switch to each other ---------------------------------------------


@td.primed
def count_what_is_sent() -> Generator[int, str, None]:
    count = 0
    while True:
        yield count
        count += 1


def primed_generators(text: str) -> Counts:
    handlers = {kind: count_what_is_sent() for kind in KINDS}
    counts = dict.fromkeys(KINDS, 0)
    for letter in text:
        kind = kind_of(letter)
        counts[kind] = handlers[kind].send(letter)
    return counts


def switching_generators(text: str) -> Counts:
    """Nobody dispatches: who has a letter that is not its own switches to whose it is, and hands it over."""
    letters: Iterator[str] = iter(text)
    counts = dict.fromkeys(KINDS, 0)
    routines: dict[str, Generator[Any, Any, None]] = {}

    @td.primed
    def count(kind: str) -> Generator[Any, Any, None]:
        letter = yield
        while letter is not None:
            if kind_of(letter) == kind:
                counts[kind] += 1
                letter = next(letters, None)
            else:
                letter = yield from td.switch(routines[kind_of(letter)], letter)

    def main() -> Generator[Any, Any, None]:
        routines.update({kind: count(kind) for kind in KINDS})
        if (first := next(letters, None)) is not None:
            yield from td.switch(routines[kind_of(first)], first)

    td.run(main)
    return counts


#: Each way, and how many letters it gets for the table.
WAYS: dict[Callable[[str], Counts], int] = {
    fresh_process_for_each_event: 100,
    task_for_each_event: 4_000,
    map_in_workers: 20_000,
    fed_worker_processes: 4_000,
    fed_thread_calls: 4_000,
    fed_generator_tasks: 20_000,
    fed_coroutine_tasks: 20_000,
    primed_generators: 20_000,
    switching_generators: 20_000,
}


if __name__ == "__main__":
    print(f"{len(WAYS)} ways: `python letters.py` runs and times them")
