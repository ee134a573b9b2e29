"""One small program, again and again: counts vowels, consonants and others, where each letter is an event.

The point: what it costs to have an event handled by a call, a generator, a task, a thread or a process, and that a
handler may have any of these shapes. The figure is the table: microseconds an event, in the talk's ways with the
standard library, and in ours. Times are of this machine, and of this moment; each way has been gone once before.

    python letters.py
    python letters.py --scale 10    # ten times the letters, for steadier times

Source: D. Mertz, the talk on weightless threads; told in our own words.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Mapping

import letters_his_ways
import letters_our_ways
from letters_his_ways import Counts, plain_calls

assert __doc__ is not None
TEXT = __doc__


def text_of(length: int) -> str:
    return "".join(itertools.islice(itertools.cycle(TEXT), length))


def show(title: str, ways: Mapping[Callable[[str], Counts], int], scale: float) -> None:
    print(f"\n{title}\n")
    for way, letters in ways.items():
        way(TEXT[:3])
        text = text_of(max(1, round(letters * scale)))
        begin = time.perf_counter()
        counts = way(text)
        took = time.perf_counter() - begin
        if counts != plain_calls(text):
            raise ValueError(f"{way.__name__} counts {counts}")
        name = way.__name__.replace("_", " ")
        print(f"  {name:<30} {len(text):>7,} letters {1e6 * took / len(text):>11,.2f} us each")


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts letters in many ways, and times them.")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the letters (default: 1)")
    words = parser.parse_args()
    if not words.scale > 0:
        parser.error("--scale is more than 0")
    # First what forks: later on there are threads, and a fork has none of them.
    show("With the standard library:", letters_his_ways.WAYS, words.scale)
    show("On Thistledown:", letters_our_ways.WAYS, words.scale)
    print("\nEvery way has counted the same.")


if __name__ == "__main__":
    main()
