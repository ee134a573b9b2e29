"""A pipeline in stages: the first takes work in, looks at what it is, and switches to the stage that is for it.

The point: coroutines that loop for ever, each with its own state, and with a choice at each step of who goes on. A
stage hands its item over and gets the answer back, as a call would, but keeps its place and its variables in between.
The figures are what each stage has seen by the end.

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

from collections import deque
from collections.abc import Generator
from typing import Any

import thistledown as td

ITEMS = deque(["pear", 3, "fig", 4, None, "apple", 5])
Stage = Generator[Any, Any, None]

stages: dict[str, Stage] = {}


def get_nowait() -> object:
    """The next item: a word, a number, or None while there is nothing. Raises IndexError at the end."""
    return ITEMS.popleft()


def take_in() -> Generator[Any, Any, str]:
    idle = 0
    answers: list[object] = []
    while ITEMS:
        match get_nowait():
            case None:
                idle += 1
                yield  # somebody else may have something to do
            case int(number):
                answers.append((yield from td.switch(stages["numbers"], number)))
            case str(word):
                answers.append((yield from td.switch(stages["words"], word)))
    return f"{answers}, idle {idle} time"


@td.primed
def numbers() -> Stage:
    """Answers with the sum so far."""
    total, number = 0, (yield)
    while True:
        total += number
        number = yield from td.switch(stages["take in"], total)


@td.primed
def words() -> Stage:
    """Answers with the longest so far."""
    longest, word = "", (yield)
    while True:
        longest = max(longest, word, key=len)
        word = yield from td.switch(stages["take in"], longest)


if __name__ == "__main__":
    first = take_in()
    stages.update({"take in": first, "numbers": numbers(), "words": words()})
    print(td.run(first))
