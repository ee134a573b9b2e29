"""A bar for ``progress=True``: in a notebook one of HTML, else tqdm's when it is installed, else one line on stderr.

In a notebook it is tqdm's as well where that has its widgets (``ipywidgets``). Where they are not there, ours needs
nothing but what shows the cells anyway, and is still there when the notebook was saved.
"""

import sys
import time
from collections.abc import Callable
from html import escape
from importlib.util import find_spec
from typing import Any, Protocol

__all__ = ["Bar", "bar"]

REFRESH_SECONDS = 0.1
"""Between two looks of the line in a terminal, or of the bar in a notebook."""

LINE_SECONDS = 10.0
"""Between two lines where there is no terminal, as in a log."""

DONE, STOPPED, GOES_ON = "#2e7d32", "#c62828", "#1565c0"
"""The colours of a bar that has come to its end, of one that has ended before, and of others."""


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
    display = _display()
    if display is not None and not _has_widgets():
        return Cell(total, name, display)
    if sys.stderr is None:
        return Line(total, name)
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped]
    except ImportError:
        return Line(total, name)
    made: Bar = tqdm(total=total, desc=name)
    return made


def _display() -> Callable[..., Any] | None:
    """What shows something below a notebook's cell; None where there is no notebook."""
    found = sys.modules.get("IPython")
    shell = None if found is None else found.get_ipython()
    # The one of a terminal has no kernel.
    if getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    show: Callable[..., Any] = display
    return show


def _has_widgets() -> bool:
    return all(find_spec(name) is not None for name in ("ipywidgets", "tqdm"))


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

    def words(self, now: float) -> str:
        """How far it is."""
        seconds = now - self.begun
        share = f"/{self.total} ({100 * self.done // self.total} %)" if self.total else ""
        rate = f", {self.done / seconds:,.1f}/s" if seconds > 0 else ""
        return f"{self.name}: {self.done}{share} in {seconds:.1f} s{rate}"

    def show(self, now: float) -> None:
        if self.stream is None:
            return
        text = self.words(now)
        self.stream.write(f"\r{text}\033[K" if self.is_terminal else f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        self.show(time.monotonic())
        if self.is_terminal and self.stream is not None:
            self.stream.write("\n")
            self.stream.flush()


class Cell(Line):
    """A bar below a notebook's cell, which is shown again and again in its place."""

    def __init__(self, total: int | None, name: str, display: Callable[..., Any]) -> None:
        super().__init__(total, name)
        self.is_over = False
        self.pause = REFRESH_SECONDS
        self.next = self.begun + self.pause
        self.shown = self.begun
        self.handle = display(self, display_id=True)

    def show(self, now: float) -> None:
        self.shown = now
        self.handle.update(self)

    def close(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.show(time.monotonic())

    def __repr__(self) -> str:
        return self.words(self.shown)

    def _repr_html_(self) -> str:
        is_done = self.is_over and (self.total is None or self.done >= self.total)
        colour = DONE if is_done else STOPPED if self.is_over else GOES_ON
        # Without a value it moves to and fro, which says that nobody knows how many there will be.
        known = f' value="{self.done}" max="{self.total}"' if self.total else ' value="1" max="1"' * self.is_over
        return (
            '<div class="thistledown" style="display:flex;align-items:center;gap:10px">'
            f'<progress{known} style="width:300px;accent-color:{colour}"></progress>'
            f"<span>{escape(self.words(self.shown))}</span></div>"
        )
