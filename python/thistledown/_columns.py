"""The items of a map as columns, one for each argument of its function: how they are taken, and how they travel.

A row for each item would be a tuple to make, to pickle and to make again, which costs more than small items do.
"""

import itertools
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

__all__ = ["Bounded", "Column", "Columns", "Whole"]

Column = Sequence[Any]

FROZEN = (tuple, range, str, bytes)
"""What cannot change while it is read bit by bit, and travels as it is."""

APART = (*FROZEN, list, set, frozenset, dict)
"""What gives the same whether or not something else is read between its items, and knows how many it has."""


class Whole:
    """All that the iterables gave at once; the shortest ends it."""

    def __init__(self, iterables: tuple[Iterable[Any], ...]) -> None:
        self._columns = _taken(iterables)
        self._position = 0
        self.total: int = min(map(len, self._columns))
        self.left: int = self.total

    def take(self, count: int) -> list[Column]:
        """The columns of so many items that come next, or of those that are left."""
        begin = self._position
        self._position = end = min(begin + count, self.total)
        self.left = self.total - end
        columns = [column[begin:end] for column in self._columns]
        if not self.left:
            self._columns = [()] * len(columns)
        return columns


class Bounded:
    """What the iterables give, read as far as it is asked for; nobody knows how much that will be."""

    total: None = None
    left: None = None

    def __init__(self, iterables: tuple[Iterable[Any], ...]) -> None:
        self._width = len(iterables)
        self._items = iter(iterables[0] if self._width == 1 else zip(*iterables, strict=False))
        self._failure: Exception | None = None

    def take(self, count: int) -> list[Column]:
        """The columns of so many items that come next, or of fewer when there are no more.

        Raises:
            Exception: what an iterable raised, after the items that came before it.
        """
        items: list[Any] = []
        try:
            if self._failure is not None:
                raise self._failure
            items.extend(itertools.islice(self._items, count))
        except Exception as error:
            if not items:
                raise
            self._failure = error
        return [items] if self._width == 1 else _transposed(items, self._width)


Columns = Whole | Bounded


def _taken(iterables: tuple[Iterable[Any], ...]) -> list[Column]:
    if len(iterables) == 1:
        return [_kept(iterables[0])]
    lengths = [len(iterable) for iterable in iterables if type(iterable) in APART]  # type: ignore[arg-type]
    if lengths and all(type(iterable) in (*APART, itertools.repeat) for iterable in iterables):
        return [_kept(iterable, min(lengths)) for iterable in iterables]
    # Iterators may depend on each other: the same one twice gives pairs.
    return _transposed(list(zip(*iterables, strict=False)), len(iterables))


def _kept(iterable: Iterable[Any], most: int | None = None) -> Column:
    return iterable if type(iterable) in FROZEN else list(itertools.islice(iterable, most))  # type: ignore[return-value]


def _transposed(rows: list[tuple[Any, ...]], width: int) -> list[Column]:
    return [list(map(itemgetter(place), rows)) for place in range(width)]
