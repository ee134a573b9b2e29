"""Trampolines: the loop that coroutines bounce on, written by hand twice, and then not written at all.

The point: a generator can stop, but cannot say who goes on. So each gives that back to a loop, the trampoline, which
is a few lines; with data to hand over it is a few more. `td.switch` has it in the kernel. The figures are the
letters, which come in the same order every time, and what a switch costs on either.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

import time
from collections.abc import Callable, Generator
from typing import Any

import thistledown as td

Routine = Generator[Any, Any, None]
SWITCHES = 20_000


# --- the plain trampoline: a routine yields who is next -----------------------------------------------------------


def plain_trampoline(current: Routine | None) -> None:
    while current is not None:
        current = next(current, None)


def plain() -> None:
    def one() -> Routine:
        print("A", end=" ")
        yield other_routine
        print("B", end=" ")
        yield other_routine

    def other() -> Routine:
        print("C", end=" ")
        yield one_routine
        print("D", end=" ")

    one_routine, other_routine = one(), other()
    plain_trampoline(one_routine)


# --- with data: a routine yields who is next, and what he is given ------------------------------------------------


def data_trampoline(current: Routine) -> None:
    data = None
    while True:
        try:
            current, data = current.send(data)
        except StopIteration:
            return


def with_data() -> None:
    def one(data: str) -> Routine:
        print("A", data, end=" ")
        data = yield other_routine, "a"
        print("B", data, end=" ")
        yield other_routine, "b"

    @td.primed
    def other() -> Routine:
        data = yield
        print("C", data, end=" ")
        data = yield one_routine, "c"
        print("D", data, end=" ")

    one_routine, other_routine = one("x"), other()
    data_trampoline(one_routine)


# --- none: the kernel is the trampoline --------------------------------------------------------------------------


def none() -> None:
    def one(data: str) -> Routine:
        print("A", data, end=" ")
        data = yield from td.switch(other_routine, "a")
        print("B", data, end=" ")
        yield from td.switch(other_routine, "b")

    @td.primed
    def other() -> Routine:
        data = yield
        print("C", data, end=" ")
        data = yield from td.switch(one_routine, "c")
        print("D", data, end=" ")

    one_routine, other_routine = one("x"), other()
    td.run(one_routine)


# --- what a switch costs -----------------------------------------------------------------------------------------


def by_hand() -> int:
    def one() -> Routine:
        data = 0
        while data < SWITCHES:
            data = yield other_routine, data + 1
        seen.append(data)

    @td.primed
    def other() -> Routine:
        data = yield
        while True:
            data = yield one_routine, data + 1

    seen: list[int] = []
    one_routine, other_routine = one(), other()
    data_trampoline(one_routine)
    return seen[0]


def by_the_kernel() -> int:
    def one() -> Generator[Any, Any, int]:
        data = 0
        while data < SWITCHES:
            data = yield from td.switch(other_routine, data + 1)
        return data

    @td.primed
    def other() -> Routine:
        data = yield
        while True:
            data = yield from td.switch(one_routine, data + 1)

    one_routine, other_routine = one(), other()
    return td.run(one_routine)


def timed(way: Callable[[], int]) -> float:
    begin = time.perf_counter()
    if way() != SWITCHES:
        raise RuntimeError(f"{way.__name__} lost a switch")
    return 1e9 * (time.perf_counter() - begin) / SWITCHES


if __name__ == "__main__":
    for way in (plain, with_data, none):
        print(f"{way.__name__.replace('_', ' ')}: ", end="")
        way()
        print()
    print(f"{SWITCHES:,} switches: {timed(by_hand):,.0f} ns each by hand, {timed(by_the_kernel):,.0f} by the kernel")
