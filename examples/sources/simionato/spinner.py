"""A spinner turns while a long computation runs, on another core.

The point: what is shown goes on while something computes. The computation is a plain function in a worker process,
the spinner a weightless task in this thread; the group ends the spinner when the result is there. A call in a thread
(`td.thread`) would do for what waits, but not for what computes: two threads share one core. The figure is how many
times the spinner has moved.

Source: M. Simionato's spinner, quoted in Python 3 Patterns & Idioms; told in our own words.
"""

import itertools

import thistledown as td

LIMIT = 200_000


def count_primes(limit: int) -> int:
    return sum(all(n % divisor for divisor in range(2, int(n**0.5) + 1)) for n in range(2, limit))


moves = 0


async def spin() -> None:
    global moves
    for position in itertools.cycle("|/-\\"):
        moves += 1
        print(f"\rPlease wait ... {position}", end="", flush=True)
        await td.sleep(0.05)


async def main() -> None:
    async with td.TaskGroup() as group:
        group.go(spin)
        found = await td.go(count_primes, LIMIT)
        group.cancel()
    print(f"\rThere are {found:,} primes below {LIMIT:,}; the spinner has moved {moves} times.")


td.run(main)
