"""Two routines switch straight into each other, and hand over a letter each time: A x C a B c D b

The point: routines that know each other need no trampoline, and data that is handed over needs no queue. `td.switch`
suspends one and resumes the other with a value. The second routine is primed: it stands at its first `yield`, ready
to be given something. `trampolines.py` has the same with the trampolines written out.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

from collections.abc import Generator
from typing import Any

import thistledown as td

Routine = Generator[Any, Any, None]


class Routines:
    """The two know each other by these names."""

    first: Routine
    second: Routine


def first(data: str, routines: Routines) -> Routine:
    print("A", data, end=" ")
    data = yield from td.switch(routines.second, "a")
    print("B", data, end=" ")
    yield from td.switch(routines.second, "b")


@td.primed
def second(routines: Routines) -> Routine:
    data = yield
    print("C", data, end=" ")
    data = yield from td.switch(routines.first, "c")
    print("D", data)


def main() -> Routine:
    routines = Routines()
    routines.first = first("x", routines)
    routines.second = second(routines)
    yield from td.switch(routines.first)


if __name__ == "__main__":
    td.run(main)
