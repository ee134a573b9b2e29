"""Several calls in one task, for maps over many small items."""

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from thistledown._errors import Cancelled
from thistledown._failures import pack as pack_error

__all__ = ["Chunks", "Outcomes"]

STRIDE_SECONDS = 0.001
"""How long calls of a chunk may take together, by what the last ones took, before Python looks for signals."""


class Outcomes(NamedTuple):
    """What came of several calls in one task, which go back together."""

    seconds: float
    """That they took."""

    results: list[Any]
    """What they returned, up to the first error."""

    failure: bytes | None
    """That error, packed."""


class Chunks:
    """A function that is called for each of several items in one task, for maps over many small ones."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, *columns: Sequence[Any]) -> Outcomes:
        """What came of the calls, each with an argument from each column. The first error is the last of them."""
        results: list[Any] = []
        failure = None
        begun = time.perf_counter()
        try:
            self._extend(results, columns, begun)
        except Cancelled:
            raise
        except BaseException as error:
            failure = pack_error(error)
        return Outcomes(time.perf_counter() - begun, results, failure)

    def _extend(self, results: list[Any], columns: tuple[Sequence[Any], ...], begun: float) -> None:
        """Adds the results, also those before an error. No Python runs between two calls, but now and then."""
        calls, count, stride = map(self.function, *columns), len(columns[0]), 1
        while len(results) < count:
            wanted = min(len(results) + stride, count)
            # Between two of these a task can be stopped whose function is written in C.
            results.extend(itertools.islice(calls, stride))
            if len(results) < wanted:
                raise RuntimeError("the function raised StopIteration")
            seconds = max(time.perf_counter() - begun, 1e-9)
            stride = max(1, min(2 * stride, int(STRIDE_SECONDS * wanted / seconds)))
