"""Draws the main questions of `benches/RESULTS.md` as a picture, `docs/images/comparison.svg`: `make plot`.

    python scripts/plot.py            # write it
    python scripts/plot.py --check    # does it show what the results say? Exit status 1 when not

A row is a question: our best case beside the best of the others, and how many times apart they are, on a logarithmic
axis. To the right we are better, to the left worse; nothing is left out because of where it falls. It is plain SVG,
whose colours follow the reader's light or dark theme.
"""

import math
import sys
from html import escape
from pathlib import Path
from typing import NamedTuple

from measured import RESULTS, questions

PICTURE = RESULTS.parent.parent / "docs" / "images" / "comparison.svg"

#: What is shown: how the title of a question begins, and what it is called here.
MAIN = {
    "Bare switch, 1,000 tasks": "a switch between weightless tasks",
    "Spawn + join": "starting a weightless task, and its end",
    "Items through a bounded(64)": "an item through a channel",
    "200,000 concurrent timers": "a timer",
    "Memory of 1,000,000 tasks": "memory of a task that sleeps",
    "Fib server, 1 connection": "a request to a server, 1 connection",
    "Fib server, 100 connections": "a request to a server, 100 connections",
    "Inside of asyncio: await of what another": "inside of asyncio: what another task gives",
    "Tasks that do nothing, one by one": "a task in a worker process",
    "One round trip to a worker process, back": "a round trip to a worker process",
    "First result of a worker process": "the first result, from a fresh interpreter",
    "A map over small items": "an item of a map over worker processes",
    "fib(27), 64 times": "a computation in 2 worker processes",
    "A NumPy array of 100 MB as an argument": "an array of 100 MB to a worker process",
    "A worker process is killed": "a killed worker: until the next result",
    "Messages to another process, as fast": "a message to another process, in a stream",
    "A message to another process and back": "a message to another process, and its answer",
    "A write and a take by two leading values, among 1,000,000": "a write and a take, among 1,000,000 tuples",
}

WIDTH, LABEL, VALUE = 960, 310, 250
TOP, ROW, BAR, BOTTOM = 58, 26, 14, 34
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 } .quiet { fill: #57606a; font-size: 12px }
  .better { fill: #0d9488 } .worse { fill: #d97706 } line { stroke: #d0d7de } .even { stroke: #57606a }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } line { stroke: #30363d } .even { stroke: #9198a1 }
    .better { fill: #2dd4bf } .worse { fill: #f59e0b } .paper { fill: #0d1117 }
  }
"""


class Row(NamedTuple):
    """One question: how many times better we are (below one: worse), and than whom."""

    label: str
    times: float
    rival: str


def rows(results: str) -> list[Row]:
    """The main questions, in their order.

    Raises:
        ValueError: one of them is not in the results, or nobody is there to compare with.
    """
    asked = list(questions(results))
    found = []
    for beginning, label in MAIN.items():
        question = next((question for question in asked if question.title.startswith(beginning)), None)
        if question is None:
            raise ValueError(f"{RESULTS.name} has no question that begins with {beginning!r}: see MAIN in {__file__}")
        ours, other = question.best(ours=True), question.best(ours=False)
        if ours is None or other is None:
            raise ValueError(f"{question.title}: one of ours, and one of others, is needed")
        (_, _, mine), (rival, _, theirs) = question.cases[ours], question.cases[other]
        low, high = sorted((mine, theirs))
        times = high / low if low else 1.0
        found.append(Row(label, times if ours < other else 1 / times, rival))
    return found


def picture(rows: list[Row]) -> str:
    """The rows as SVG."""
    low = max((tick for tick in TICKS if tick <= min(row.times for row in rows)), default=TICKS[0])
    low, high = (
        min(low, 0.5),
        min((tick for tick in TICKS if tick >= max(row.times for row in rows)), default=TICKS[-1]),
    )
    left, right = LABEL, WIDTH - VALUE
    bottom = TOP + ROW * len(rows)

    def place(times: float) -> float:
        share = math.log(times / low) / math.log(high / low)
        return left + min(max(share, 0.0), 1.0) * (right - left)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img">',
        "<title>Thistledown beside the best of the others, for each question</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{bottom + BOTTOM}" rx="6"/>',
        '<text class="title" x="16" y="26">How many times better than the best of the others</text>',
        f'<text class="quiet" x="{WIDTH - 16}" y="26" text-anchor="end">logarithmic; left of 1 is worse</text>',
    ]
    for tick in TICKS:
        if low <= tick <= high:
            x, kind = place(tick), ' class="even"' if tick == 1 else ""
            parts.append(f'<line{kind} x1="{x:.1f}" y1="{TOP - 8}" x2="{x:.1f}" y2="{bottom}"/>')
            parts.append(f'<text class="quiet" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:g}</text>')
    for number, row in enumerate(rows):
        y = TOP + ROW * number
        start, end = sorted((place(1), place(row.times)))
        kind = "better" if row.times >= 1 else "worse"
        width = max(end - start, 1.5)
        parts.append(f'<text x="{left - 12}" y="{y + BAR - 2}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(f'<rect class="{kind}" x="{start:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        times = f"{row.times:.{2 if row.times < 1 else row.times < 10:d}f}"
        parts.append(
            f'<text x="{right + 10}" y="{y + BAR - 2}">{times} <tspan class="quiet">{escape(row.rival)}</tspan></text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> int:
    drawn = picture(rows(RESULTS.read_text()))
    if "--check" in sys.argv[1:]:
        return 0 if PICTURE.exists() and PICTURE.read_text() == drawn else 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(drawn)
    print(PICTURE.relative_to(Path.cwd()) if PICTURE.is_relative_to(Path.cwd()) else PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
