"""PEP 380: a loop is moved into a generator of its own, and `yield from` carries everything to it and back.

The point: refactoring. The inner loop of `pairs` becomes `pairs_with`, and whoever uses `pairs` cannot tell. For
tasks it is the same, and more: what is sent in, thrown in, and the closing reach the innermost generator, through as
many `yield from` as there are. The figures are the pairs, and what the innermost was reached by.

Source: D. Mertz, the talk on weightless threads, and G. Ewing, PEP 380; told in our own words.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import thistledown as td

FIRST, SECOND = (1, 2), "abc"
Pair = tuple[int, str]

reached_by: list[str] = []  # what has come to an innermost generator


def pairs_in_one() -> Iterator[Pair]:
    for one in FIRST:
        for other in SECOND:
            yield one, other


def pairs() -> Iterator[Pair]:
    for one in FIRST:
        yield from pairs_with(one)


def pairs_with(one: int) -> Iterator[Pair]:
    try:
        for other in SECOND:
            yield one, other
    except GeneratorExit:
        reached_by.append("close")
        raise


# --- in tasks ----------------------------------------------------------------------------------------------------


def innermost(channel: td.Channel[str]) -> Generator[Any, Any, str]:
    try:
        value = yield from channel.recv()
        reached_by.append(f"send of {value!r}")
        yield from channel.recv()
    except td.ChannelClosed as error:
        reached_by.append(f"throw of {type(error).__name__}")
    try:
        yield from td.sleep(3600)
    except td.Cancelled as error:
        reached_by.append(f"throw of {type(error).__name__}")
        raise
    return "never"


def deeper(depth: int, channel: td.Channel[str]) -> Generator[Any, Any, str]:
    return (yield from deeper(depth - 1, channel) if depth else innermost(channel))


def main() -> Generator[Any, Any, None]:
    channel = td.Channel[str]()
    task = td.go(deeper, 100, channel)
    yield from channel.send("hello")
    channel.close()  # the wait fails, and the error is thrown in
    yield from td.sleep(0)
    task.cancel()
    yield from td.sleep(0)


if __name__ == "__main__":
    print(*pairs())
    print("as before:", list(pairs()) == list(pairs_in_one()))
    with closing(pairs()) as given_up:
        next(given_up)
    td.run(main)
    print("reached from outside:", ", ".join(reached_by))
