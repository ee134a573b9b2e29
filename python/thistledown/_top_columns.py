"""Which columns of a table are seen in a terminal of some width, and how wide each is.

What people look for is the name and the function: these are never left out. Where there is too little room the columns
that matter least are made narrower first, and left out when they would say nothing any more.

Not in here: what stands in them, and how it is drawn.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len

__all__ = ["Column", "clipped", "fitted", "line_of"]

GAP = 2
"""Cells that a column takes beside its words."""


class Column(NamedTuple):
    """A column.

    Attributes:
        title: stands above it.
        rank: 0 is never left out; the others go in the order of their ranks, the highest first.
        least: cells below which it says nothing any more.
        most: cells above which it is cut off, unless there is room that nobody else wants.
    """

    title: str
    rank: int
    least: int
    most: int = 200


def fitted(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int) -> list[tuple[int, int]]:
    """The columns that are seen: their places, in order, and how many cells each has for its words.

    Args:
        columns: of the table.
        rows: what stands in it.
        width: cells of the terminal that the table may take.
    """
    wanted = [len(column.title) for column in columns]
    for row in rows:
        wanted = [max(known, cell_len(cell)) for known, cell in zip(wanted, row, strict=True)]
    sizes = {place: min(wanted[place], column.most) for place, column in enumerate(columns)}
    by_rank = sorted(sizes, key=lambda place: -columns[place].rank)
    for place in by_rank:
        over = _over(sizes, width)
        if over > 0:
            sizes[place] = max(min(columns[place].least, sizes[place]), sizes[place] - over)
    for place in by_rank:
        if _over(sizes, width) > 0 and columns[place].rank > 0:
            del sizes[place]
    # What a column that was left out has given back goes to those that matter most.
    for place in sorted(sizes, key=lambda place: columns[place].rank):
        sizes[place] += max(0, min(-_over(sizes, width), wanted[place] - sizes[place]))
    return list(sizes.items())


def _over(sizes: dict[int, int], width: int) -> int:
    """Cells by which these columns are too wide."""
    return sum(sizes.values()) + GAP * len(sizes) - width


def clipped(words: str, width: int) -> str:
    """The words as far as they have room. Some letters take two cells."""
    if cell_len(words) <= width:
        return words
    room = max(0, width - 1)
    taken = itertools.accumulate(cell_len(letter) for letter in words)
    return words[: sum(cells <= room for cells in taken)] + "…"


def line_of(where: str | None) -> str:
    """A line of code as it is told, ``/a/shop.py:12 in Shop.sell``, with the function first: ``Shop.sell  shop.py:12``.

    So the end of it, which is cut off first, is what is looked up in the opened task.
    """
    if not where:
        return ""
    path, found, function = where.rpartition(" in ")
    return f"{function}  {path.rpartition('/')[2]}" if found else where
