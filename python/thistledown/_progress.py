"""A bar for ``progress=True``: tqdm's when it is installed, else one line on stderr."""

import sys
import time
from typing import Any, Protocol

__all__ = ["Bar", "bar"]

REFRESH_SECONDS = 0.1
"""Between two looks of the line in a terminal."""

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal, as in a log."""


class Bar(Protocol):
    """What shows how far something is."""

    def update(self, n: int = 1) -> Any:
        """So many more are done."""

    def close(self) -> Any:
        """No more comes."""


def bar(total: int | None, name: str) -> Bar:
    """A bar, from the start.

    Args:
        total: how many there will be; None when nobody knows.
        name: of what is being done.
    """
    if sys.stderr is None:
        return Line(total, name)
    try:
        import warnings

        with warnings.catch_warnings():
            # In a notebook without its widgets it warns, and shows text.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm  # type: ignore[import-untyped]

            made: Bar = tqdm(total=total, desc=name)
            return made
    except ImportError:
        return Line(total, name)


class Line:
    """One line of text that is written again and again; refreshed at most ten times a second."""

    def __init__(self, total: int | None, name: str) -> None:
        self.total = total
        self.name = name
        self.done = 0
        self.begun = time.monotonic()
        self.stream = sys.stderr
        self.is_terminal = self.stream is not None and self.stream.isatty()
        self.pause = REFRESH_SECONDS if self.is_terminal else LINE_SECONDS
        self.next = self.begun + (0 if self.is_terminal else self.pause)

    def update(self, n: int = 1) -> None:
        self.done += n
        now = time.monotonic()
        if now >= self.next:
            self.next = now + self.pause
            self.show(now)

    def show(self, now: float) -> None:
        if self.stream is None:
            return
        seconds = now - self.begun
        share = f"/{self.total} ({100 * self.done // self.total} %)" if self.total else ""
        rate = f", {self.done / seconds:,.1f}/s" if seconds > 0 else ""
        text = f"{self.name}: {self.done}{share} in {seconds:.1f} s{rate}"
        self.stream.write(f"\r{text}\033[K" if self.is_terminal else f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        self.show(time.monotonic())
        if self.is_terminal and self.stream is not None:
            self.stream.write("\n")
            self.stream.flush()
