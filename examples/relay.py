"""Which words are the longest of a text? A pipeline of processes, with channels between them.

    python examples/relay.py [--lines N] [--counters N]

The program reads, and each line goes through two stages, each in processes of its own: one splits lines into words,
others measure them. Between the stages are channels. They are bounded, so a stage that is slow holds back the one
before it, and no stage has more to keep than a channel holds. When the program closes the first channel the stages
end one after the other, each when it has done what was left.

What is to be seen here: channels that go to workers as arguments, a channel that several processes receive from,
`close` that runs through a whole pipeline, and plain functions that wait beside a coroutine that does.

Source: the fed processes of David Mertz' weightless threads talk, with channels in the place of pipes.
"""

import argparse
from collections.abc import Iterator

import thistledown as td

ROOM = 64
TEXT = "many small messages travel from one process to another and arrive in the order in which they were sent"


def received(channel: td.Channel[str]) -> Iterator[str]:
    """All that comes through a channel, until it is closed."""
    while True:
        try:
            yield channel.recv().wait()
        except td.ChannelClosed:
            return


def split(lines: td.Channel[str], words: td.Channel[str]) -> int:
    """The first stage. Runs in a worker.

    Returns:
        How many lines there were.
    """
    count = 0
    for line in received(lines):
        count += 1
        for word in line.split():
            words.send(word).wait()
    words.close()
    return count


def measure(words: td.Channel[str], lengths: td.Channel[tuple[int, str]]) -> int:
    """The second stage, of which there are several. Runs in a worker.

    Returns:
        How many words it has measured.
    """
    count = 0
    for word in received(words):
        count += 1
        lengths.send((len(word), word)).wait()
    return count


async def main(lines_to_send: int, counters: int) -> None:
    lines, words = td.Channel[str](ROOM), td.Channel[str](ROOM)
    lengths = td.Channel[tuple[int, str]](ROOM)
    with td.Workers(counters + 1) as pool:
        splitter = pool.go(split, lines, words)
        measurers = [pool.go(measure, words, lengths) for _ in range(counters)]

        async def feed() -> None:
            for _ in range(lines_to_send):
                await lines.send(TEXT)
            lines.close()

        async def close_when_all_is_measured() -> None:
            for measurer in measurers:
                await measurer
            lengths.close()

        longest: tuple[int, str] = (0, "")
        async with td.TaskGroup() as group:
            group.go(feed())
            group.go(close_when_all_is_measured())
            async for length_and_word in lengths:
                longest = max(longest, length_and_word)
        counts = [measurer.result() for measurer in measurers]
        print(f"{splitter.result()} lines, {sum(counts)} words, measured by {len(counts)} processes")
        print(f"the longest has {longest[0]} letters: {longest[1]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lines", type=int, default=500, help="how many lines are sent (500)")
    parser.add_argument("--counters", type=int, default=2, help="how many processes measure words (2)")
    options = parser.parse_args()
    td.run(main(options.lines, options.counters))
