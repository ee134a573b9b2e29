"""Weightless threads: a round-robin scheduler that carries data from one to another, by hand and by the kernel.

The point: a scheduler of threads goes round instead of to where a routine points, and who is reached gets what was
meant for it in the meantime. By hand that is a loop and an inbox each. Here the tasks have turns, and a channel is
the inbox. Each way prints who had its turn with what; the figure at the end is the turns that found nothing to do. A
loop that goes round comes by whether there is something or not; a task that waits is not woken before there is.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

from collections import deque
from collections.abc import Generator
from typing import Any

import thistledown as td

NUMBERS = range(1, 5)
idle_turns = 0


# --- by hand -----------------------------------------------------------------------------------------------------

Thread = Generator[tuple[str, int] | None, int | None, None]  # yields for whom there is something, is sent its own


def schedule(threads: dict[str, Thread]) -> None:
    """Goes round until one has ended. Each is given what has come for it, or None."""
    inboxes: dict[str, deque[int]] = {name: deque() for name in threads}
    for thread in threads.values():
        next(thread)  # primed: it stands where it can be given something
    while True:
        for name, thread in threads.items():
            try:
                sent = thread.send(inboxes[name].popleft() if inboxes[name] else None)
            except StopIteration:
                return
            if sent is not None:
                inboxes[sent[0]].append(sent[1])


def reader() -> Thread:
    yield None
    for number in NUMBERS:
        yield "doubler", number
    while True:
        yield None


def doubler() -> Thread:
    global idle_turns
    number = yield None
    while True:
        idle_turns += number is None
        number = yield None if number is None else ("printer", 2 * number)


def printer() -> Thread:
    global idle_turns
    for _ in NUMBERS:
        while (number := (yield None)) is None:
            idle_turns += 1
        print(number, end=" ")


# --- by the kernel -----------------------------------------------------------------------------------------------

Inbox = td.Channel[int]


def read(doubles: Inbox) -> Generator[Any, Any, None]:
    for number in NUMBERS:
        yield from doubles.send(number)
    doubles.close()


async def double(numbers: Inbox, doubled: Inbox) -> None:
    async for number in numbers:
        await doubled.send(2 * number)
    doubled.close()


async def show(numbers: Inbox) -> None:
    async for number in numbers:
        print(number, end=" ")


async def main() -> None:
    numbers, doubled = Inbox(capacity=1), Inbox(capacity=1)
    async with td.TaskGroup() as group:
        # In any order: who comes first waits.
        group.go(show, doubled)
        group.go(double, numbers, doubled)
        group.go(read, numbers)


if __name__ == "__main__":
    schedule({"printer": printer(), "doubler": doubler(), "reader": reader()})
    print("by hand, with", idle_turns, "turns for nothing")
    td.run(main)
    print("by the kernel, with none")
