"""``thistledown top`` in a terminal: a running program from inside, refreshed. Made with textual.

It only shows: what there is to know is kept by ``_watching``, and asked in a thread, so that the keys answer while the
program does not.
"""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Sparkline, Static, TabbedContent, TabPane

from thistledown._top_columns import Column, clipped, fitted, line_of
from thistledown._watching import PLACES, Watching, actor_counts, age, amount, brief_age

__all__ = ["Top", "show"]

Row = dict[str, Any]

COLUMNS = {
    "tasks": (
        Column("task", 0, 16, 40),
        Column("place", 4, 12, 30),
        Column("state", 2, 7, 20),
        Column("for", 1, 6),
        Column("is at", 0, 20, 60),
        Column("waits for", 3, 10, 40),
    ),
    "workers": (
        Column("worker", 0, 6),
        Column("pool", 8, 4),
        Column("state", 3, 7),
        Column("for", 4, 6),
        Column("cpu", 5, 4),
        Column("memory", 6, 8),
        Column("tasks", 7, 5),
        Column("runs", 0, 16, 40),
        Column("is at", 1, 16),
    ),
    "failures": (
        Column("ago", 1, 5),
        Column("task", 0, 16, 40),
        Column("place", 4, 5),
        Column("what", 0, 30, 80),
        Column("at", 2, 16),
    ),
    "actors": (
        Column("actor", 0, 12, 30),
        Column("class", 6, 8, 20),
        Column("place", 8, 12, 30),
        Column("state", 3, 7, 20),
        Column("for", 4, 6),
        Column("mailbox", 2, 12),
        Column("done", 5, 5),
        Column("runs", 1, 12, 30),
        Column("is at", 1, 16, 60),
        Column("waits for", 7, 10, 40),
    ),
    "channels": (Column("channel", 0, 12), Column("state", 0, 24), Column("shared with other processes", 1, 6)),
}

FOLLOWS = {
    "cancel": "It is told to end, as by `task.cancel()`; nobody else is.",
    "kill": "Its worker process is killed, with what runs in it; another one takes its place.",
}
"""What comes of it when somebody says yes."""

SCROLLBAR = 2
"""Cells at the right of a table that are its own."""

ORDERS: dict[str, Callable[[Row], Any]] = {
    "longest first": lambda row: -(row["since"] or 0.0),
    "by name": lambda row: row["name"],
    "by state": lambda row: (row["state"], -(row["since"] or 0.0)),
    "by place": lambda row: (row["place"], -(row["since"] or 0.0)),
    "as they stand": lambda _: 0,
}
"""In which order tasks stand; ``s`` goes from one to the next."""


def show(pid: int, every: float) -> int:
    """Shows a program until ``q``; the exit status."""
    Top(Watching(pid), every).run()
    return 0


class Asked(ModalScreen[bool]):
    """Asks before something is done that cannot be undone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes"),
        Binding("n,escape,q", "dismiss(False)", "no"),
    ]
    CSS = "Asked { align: center middle; } Asked Static { width: 70; padding: 1 2; border: thick $warning; }"

    def __init__(self, question: str, follows: str) -> None:
        super().__init__()
        self.question = question
        self.follows = follows

    def compose(self) -> ComposeResult:
        yield Static(Text(f"{self.question}\n{self.follows}\n\ny  yes      n  no"), id="question")


class Opened(ModalScreen[None]):
    """One task or worker: its family and its stack."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "back")]
    CSS = "Opened { align: center middle; } Opened VerticalScroll { width: 90%; height: 80%; border: round $accent; }"

    def __init__(self, told: Row) -> None:
        super().__init__()
        on = [f"\nwhat it waits for:\n{text}" for text in told.get("waits_on", ())]
        self.words = "\n".join([told.get("text") or told.get("error", ""), *on])

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(Text(self.words), id="opened")


class Top(App[None]):
    """The view.

    Args:
        watching: the program.
        every: seconds between two looks.
    """

    TITLE = "thistledown top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; }
    #trouble { color: $error; padding: 0 1; display: none; max-height: 12; }
    #rates { height: 2; margin: 0 1; }
    #filter { display: none; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("o", "open", "open"),
        Binding("c", "end('cancel')", "cancel"),
        Binding("k", "end('kill')", "kill"),
        Binding("p", "pause", "pause"),
    ]

    def __init__(self, watching: Watching, every: float) -> None:
        super().__init__()
        self.watching = watching
        self.every = every
        self.order = next(iter(ORDERS))
        self.wanted = ""
        self.is_paused = False
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
        self.layouts: dict[str, list[tuple[int, int]]] = {}

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="trouble")
        yield Sparkline([], id="rates")
        yield Input(placeholder="a part of a name, place, state or line; escape shows all", id="filter")
        with TabbedContent(id="tabs"):
            for name in COLUMNS:
                with TabPane(name, id=f"pane-{name}"):
                    yield DataTable(id=name, cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        self.table("tasks").focus()
        self.refresh_program()
        self.set_interval(self.every, self.refresh_program)

    def table(self, name: str) -> "DataTable[Any]":
        return self.screen_stack[0].query_one(f"#{name}", DataTable)

    # --- what is seen -------------------------------------------------------------------------------------------

    @work(exclusive=False)
    async def refresh_program(self) -> None:
        if self.is_paused or self.workers_running() > 1:
            return
        await asyncio.to_thread(self.watching.look)
        # Its answer may come when the view is being closed, and has nothing left to show it in.
        if self.is_running and self.screen_stack and self.screen_stack[0].query("#trouble"):
            self.show_all()

    def workers_running(self) -> int:
        """Looks that are on their way, this one included: a program that is slow to answer is not asked twice."""
        return sum(worker.name == "refresh_program" and worker.is_running for worker in self.workers)

    def show_all(self) -> None:
        trouble = self.screen_stack[0].query_one("#trouble", Static)
        trouble.display = bool(self.watching.trouble)
        trouble.update(Text(self.watching.trouble))
        if not self.watching.seen:
            return
        self.screen_stack[0].query_one("#head", Static).update(self.head())
        history = self.watching.history
        self.screen_stack[0].query_one("#rates", Sparkline).data = [
            sum(known[place] for place in PLACES) for known in history
        ]
        self.fill("tasks", self.task_rows())
        self.fill("workers", [self.worker_row(row) for row in self.kept(self.watching.seen["workers"])])
        failures = self.watching.seen["failures"] + [
            {"ago": row["ago"], "task": row["task"], "place": "here", "where": row["where"], "error": _stalled(row)}
            for row in self.watching.seen["stalls"]
        ]
        failures = self.kept(sorted(failures, key=lambda row: row["ago"]))
        self.fill("failures", [(row, _failure(row)) for row in failures])
        self.fill("actors", [(row, _actor(row)) for row in self.kept(self.watching.seen["actors"])])
        channels = self.kept(self.watching.seen["channels"])
        self.fill("channels", [(row, (row["name"], row["state"], "yes" if row["shared"] else "")) for row in channels])

    def head(self) -> Text:
        seen, rates = self.watching.seen, self.watching.rates
        numbers = seen["statistics"]
        places = [
            f"{place}: {_alive(numbers[place])} alive, {rates[place]:,.1f}/s, {numbers[place]['failed']} failed"
            for place in PLACES
            if numbers[place]["started"]
        ]
        queued = sum(pool["queued"] for pool in numbers["pools"])
        more = (
            f"ready {numbers['ready']}   queued {queued}   restarts {numbers['restarts']}   stalls {numbers['stalls']}"
        )
        own = self.watching.workers.get(seen["pid"])
        used = f"   cpu {own['cpu']:.0%}   {amount(own['memory_bytes'])}" if own else ""
        shown = (
            f"   [{self.order}]"
            + (f"   /{self.wanted}" if self.wanted else "")
            + ("   PAUSED" if self.is_paused else "")
        )
        unlisted = f"   {seen['unlisted']} tasks not listed" if seen["unlisted"] else ""
        actors = actor_counts(seen)
        more += f"   {actors}" if actors else ""
        program = clipped(seen["program"], max(16, self.size.width // 3))
        first = f"{seen['pid']}  {program}{used}   {more}{unlisted}{shown}"
        return Text("\n".join([first, "   ".join(places) or "nothing was told to go yet"]), no_wrap=True)

    def task_rows(self) -> list[tuple[Row, tuple[Any, ...]]]:
        rows = sorted(self.kept(self.watching.seen["tasks"]), key=ORDERS[self.order])
        indent = self.order == "as they stand"
        return [(row, _task(row, indent)) for row in rows]

    def worker_row(self, row: Row) -> tuple[Row, tuple[Any, ...]]:
        used = self.watching.workers.get(row["pid"], {})
        cpu = f"{used['cpu']:.0%}" if used else ""
        memory = amount(used["memory_bytes"]) if used else ""
        known = row["pid"] or "not born yet", row["pool"], row["state"], brief_age(row["since"]), cpu, memory
        return row, (*known, row["tasks"], row["task"] or "", line_of(row["where"]))

    def kept(self, rows: list[Row]) -> list[Row]:
        """Those that the filter lets through."""
        if not self.wanted:
            return rows
        wanted = self.wanted.lower()
        return [row for row in rows if any(wanted in str(value).lower() for value in row.values())]

    def fill(self, name: str, rows: list[tuple[Row, tuple[Any, ...]]]) -> None:
        """Shows other rows, with the cursor on the one that it was on."""
        table = self.table(name)
        old = self.chosen(name)
        self.rows[name] = [row for row, _ in rows]
        words = [[str(cell) for cell in cells] for _, cells in rows]
        layout = fitted(COLUMNS[name], words, self.size.width - SCROLLBAR)
        is_other = layout != self.layouts.get(name)
        table.clear(columns=is_other)
        self.layouts[name] = layout
        for place, width in layout if is_other else ():
            table.add_column(clipped(COLUMNS[name][place].title, width), width=width)
        for cells in words:
            table.add_row(*(Text(clipped(cells[place], width)) for place, width in layout))
        ids = [row.get("id") for row in self.rows[name]]
        if old is not None and old.get("id") in ids:
            table.move_cursor(row=ids.index(old.get("id")), scroll=False)

    def chosen(self, name: str) -> Row | None:
        """The row that the cursor is on."""
        at = self.table(name).cursor_row
        return self.rows[name][at] if 0 <= at < len(self.rows[name]) else None

    # --- keys ---------------------------------------------------------------------------------------------------

    def action_sort(self) -> None:
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self.show_all()

    def action_pause(self) -> None:
        self.is_paused = not self.is_paused
        self.show_all()

    def action_filter(self) -> None:
        field = self.screen_stack[0].query_one("#filter", Input)
        field.display = True
        field.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        self.wanted = event.value.strip()
        self.show_all()

    def on_resize(self) -> None:
        """Another width shows other columns."""
        if self.watching.seen:
            self.show_all()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        self.table(self.shown()).focus()

    def on_key(self, event: Any) -> None:
        field = self.screen_stack[0].query_one("#filter", Input)
        if event.key == "escape" and field.display:
            field.value, field.display = "", False
            self.table(self.shown()).focus()

    def shown(self) -> str:
        """The table that is seen."""
        return self.screen_stack[0].query_one("#tabs", TabbedContent).active.removeprefix("pane-")

    def on_data_table_row_selected(self, _: DataTable.RowSelected) -> None:
        self.action_open()

    def action_open(self) -> None:
        row = self.chosen(self.shown())
        if row is not None and row.get("id"):
            self.open_one(row["id"])

    @work
    async def open_one(self, about: str) -> None:
        told = await asyncio.to_thread(self.watching.ask, "open", about)
        self.push_screen(Opened(told))

    def action_end(self, what: str) -> None:
        row = self.chosen(self.shown())
        if row is None or not row.get("id"):
            self.notify("there is nothing here that could be ended", severity="warning")
            return
        name = row.get("runs") or row.get("name") or f"worker {row.get('pid')}"
        answered = functools.partial(self.end_if, what, row["id"])
        self.push_screen(Asked(f"{what} {name}?", FOLLOWS[what]), answered)

    def end_if(self, what: str, about: str, is_meant: bool | None) -> None:
        if is_meant:
            self.end_one(what, about)

    @work
    async def end_one(self, what: str, about: str) -> None:
        told = await asyncio.to_thread(self.watching.ask, what, about)
        is_error = "error" in told
        self.notify(Text(told.get("error") or told["done"]).plain, severity="error" if is_error else "information")


def _task(row: Row, indent: bool) -> tuple[Any, ...]:
    name = "  " * min(row["depth"], 20) + row["name"] if indent else row["name"]
    place = row["place"].removeprefix("run in ")
    return name, place, row["state"], brief_age(row["since"]), line_of(row["where"]), row["waits_for"] or ""


def _actor(row: Row) -> tuple[Any, ...]:
    mailbox = f"{row['mailbox']:,} of {row['limit']:,}"
    done = "" if row["done"] is None else f"{row['done']:,}"
    known = row["name"], row["class"] or "", row["place"], row["state"], brief_age(row["since"]), mailbox, done
    return *known, row["runs"] or "", line_of(row["where"]), row["waits_for"] or ""


def _failure(row: Row) -> tuple[Any, ...]:
    return age(row["ago"]), row["task"], row["place"], row["error"], line_of(row["where"])


def _stalled(row: Row) -> str:
    return f"stall: held its thread for {age(row['seconds'])}"


def _alive(counts: Row) -> int:
    known: int = counts["started"] - counts["ended"]
    return known
