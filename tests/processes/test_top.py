"""`thistledown top` in a terminal: driven by its keys, and once in a real pseudo-terminal."""

import asyncio
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

import pytest
from textual.widgets import Static
from thistledown._top import Asked, Opened, Top
from thistledown._top_columns import Column, clipped, fitted, line_of
from thistledown._watching import Watching, brief_age

from support import PATIENCE
from watched import watched


async def until(pilot, is_so):
    """Lets the view go on until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, "it never comes to be so"
        await pilot.pause(0.01)


def names(view):
    return [row["name"] for row in view.rows["tasks"]]


def shown(view, table):
    return [[str(cell) for cell in view.table(table).get_row_at(at)] for at in range(view.table(table).row_count)]


def point_at(view, name):
    view.table("tasks").move_cursor(row=names(view).index(name))


def viewed(folder, *orders):
    """Runs a check on the view of a program that has done these."""

    def run(check):
        async def main(program):
            view = Top(Watching(program.pid), 0.1)
            async with view.run_test(size=(150, 40)) as pilot:
                await until(pilot, lambda: bool(names(view)))
                await check(program, view, pilot)

        with watched(folder, *orders) as program:
            asyncio.run(main(program))

    return run


def test_it_shows_tasks_workers_failures_and_numbers(tmp_path):
    async def check(program, view, pilot):
        await until(pilot, lambda: any(row[0] == "held" and row[2] == "running" for row in shown(view, "tasks")))
        await until(pilot, lambda: any(row[7] == "held" and " MiB" in row[5] for row in shown(view, "workers")))
        await until(pilot, lambda: "ValueError: bad <input>" in [row[3] for row in shown(view, "failures")])
        await until(pilot, lambda: ["channel 1", "open, 0 of 3 taken", ""] in shown(view, "channels"))
        head = str(view.query_one("#head", Static).render())
        assert str(program.pid) in head
        assert "1 failed" in head

    viewed(tmp_path, "hold", "wait", "fail")(check)


def test_it_shows_actors_and_their_mailboxes(tmp_path):
    async def check(program, view, pilot):
        await until(pilot, lambda: any(row[:4:3] == ["alone", "running"] for row in shown(view, "actors")))
        rows = {row[0]: row for row in shown(view, "actors")}
        assert rows["Account"][1] == "Account"
        assert rows["Account"][5] == "3 of 50"
        assert rows["alone"][5:7] == ["2 of 100,000", "1"]
        assert rows["idle"][3:7] == ["idle", "", "0 of 100,000", ""]
        assert "actors 4 with 5 messages" in str(view.query_one("#head", Static).render())
        view.query_one("#tabs").active = "pane-actors"
        view.table("actors").focus()
        await pilot.press("c")
        assert view.screen.question == f"cancel {view.rows['actors'][0]['runs']}?"
        await pilot.press("y")
        await until(pilot, lambda: any(row[:1] + row[5:6] == ["Account", "0 of 50"] for row in shown(view, "actors")))

    viewed(tmp_path, "wait", "boxes")(check)


def test_it_sorts_filters_and_pauses(tmp_path):
    async def check(program, view, pilot):
        await pilot.press("s")
        assert view.order == "by name"
        assert names(view) == sorted(names(view))
        await pilot.press("slash", *"WAITER")
        await until(pilot, lambda: names(view) == ["waiter"])
        await pilot.press("escape")
        await until(pilot, lambda: len(names(view)) > 1)
        await pilot.press("p")
        # One may be on its way.
        await view.workers.wait_for_complete()
        looks = len(view.watching.history)
        view.refresh_program()
        await view.workers.wait_for_complete()
        assert len(view.watching.history) == looks
        await pilot.press("p")
        await until(pilot, lambda: len(view.watching.history) > looks)

    viewed(tmp_path, "wait", "hold")(check)


def test_it_opens_a_task_and_goes_back(tmp_path):
    async def check(program, view, pilot):
        point_at(view, "waiter")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(view.screen, Opened))
        assert "recv from channel 1 (capacity 3)" in view.screen.words
        assert " in waits" in view.screen.words
        assert "channel 1: open" in view.screen.words, "what it waits for"
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(view.screen, Opened))

    viewed(tmp_path, "wait")(check)


@pytest.mark.parametrize(("key", "name", "end"), [("c", "waiter", "cancelled"), ("k", "held", "WorkerDied")])
def test_it_ends_a_task_when_it_was_told_twice(tmp_path, key, name, end):
    async def check(program, view, pilot):
        await until(pilot, lambda: any(row[0] == "held" and row[2] == "running" for row in shown(view, "tasks")))
        for answer in ("n", "y"):
            await pilot.press("p")
            point_at(view, name)
            await pilot.press(key)
            assert isinstance(view.screen, Asked)
            assert view.screen.question == f"{'cancel' if key == 'c' else 'kill'} {name}?"
            assert ("worker process" in view.screen.follows) == (key == "k")
            await pilot.press(answer, "p")
            assert not isinstance(view.screen, Asked)
            assert answer == "y" or name in names(view)
        await asyncio.to_thread(program.tells, f"ended {name} {end}\n".encode())
        await until(pilot, lambda: name not in names(view))

    viewed(tmp_path, "wait", "hold")(check)


def drawn(view):
    """The lines of the screen, as they are seen."""
    return ["".join(part.text for part in strip) for strip in view.screen._compositor.render_strips()]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["task", "state", "for", "is at", "waits for"]),
        (110, ["task", "place", "state", "for", "is at", "waits for"]),
        (160, ["task", "place", "state", "for", "is at", "waits for"]),
    ],
)
def test_names_and_functions_are_seen_in_a_terminal_of_any_width(tmp_path, width, titles):
    async def check(_, view, pilot):
        await pilot.resize_terminal(width, 40)
        await until(pilot, lambda: any(row[0] == "held" and "running" in row for row in shown(view, "tasks")))
        table = view.table("tasks")
        # What was drawn before is drawn anew for the other size.
        await until(pilot, lambda: [str(column.label) for column in table.ordered_columns] == titles)
        await until(pilot, lambda: table.virtual_size.width <= width)
        [waiter] = [line for line in drawn(view) if line.strip().startswith("waiter")]
        assert "waits  program.py:" in waiter
        [opens] = [line for line in drawn(view) if "Account.opens-" in line and "Account.opens  " in line]
        assert "waiting" in opens
        view.query_one("#tabs").active = "pane-actors"
        await until(pilot, lambda: any("2 of 100,000" in line for line in drawn(view)))
        [alone] = [line for line in drawn(view) if line.strip().startswith("alone ")]
        assert "alone.reads" in alone
        assert "reads  program" in alone
        view.query_one("#tabs").active = "pane-workers"
        await until(pilot, lambda: any("held  program.py:" in line and "busy" in line for line in drawn(view)))

    viewed(tmp_path, "wait", "hold", "boxes")(check)


COLUMNS = [Column("name", 0, 4), Column("place", 2, 6), Column("state", 1, 5, 8)]
ROWS = [("a long name", "thread MainThread", "waiting for it")]


@pytest.mark.parametrize(
    ("width", "layout"),
    [
        (100, [(0, 11), (1, 17), (2, 14)]),
        (44, [(0, 11), (1, 17), (2, 10)]),
        (35, [(0, 11), (1, 10), (2, 8)]),
        (27, [(0, 10), (1, 6), (2, 5)]),
        (20, [(0, 11), (2, 5)]),
        (10, [(0, 8)]),
        (1, [(0, 4)]),
    ],
)
def test_columns_that_matter_least_are_made_narrower_first_and_then_left_out(width, layout):
    assert fitted(COLUMNS, ROWS, width) == layout


def test_without_rows_columns_have_the_width_of_their_titles():
    assert fitted(COLUMNS, [], 100) == [(0, 4), (1, 5), (2, 5)]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("/a b/shop.py:12 in Shop.sell", "Shop.sell  shop.py:12"),
        ("<stdin>:1 in <module>", "<module>  <stdin>:1"),
        ("nowhere", "nowhere"),
        (None, ""),
    ],
)
def test_a_line_is_told_with_its_function_first(where, words):
    assert line_of(where) == words


def test_it_says_why_it_sees_nothing_new_and_goes_on(tmp_path):
    async def check(program, view, pilot):
        program.process.kill()
        await until(pilot, lambda: f"process {program.pid} has ended" in view.watching.trouble)
        await until(pilot, lambda: view.query_one("#trouble", Static).display)
        assert "waiter" in names(view), "what was seen last stays"

    viewed(tmp_path, "wait")(check)


def test_in_a_real_terminal_it_draws_and_ends_with_a_key(tmp_path):
    with watched(tmp_path, "wait", "hold") as program:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, 150, 0, 0))
        command = [sys.executable, "-m", "thistledown", "top", str(program.pid), "--every", "0.2"]
        environment = {**os.environ, "TERM": "xterm-256color", "TEXTUAL_ANIMATIONS": "none"}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        with subprocess.Popen(command, env=environment, start_new_session=True, **streams) as viewer:
            os.close(theirs)
            try:
                drawn = read_until(ours, b"waiter")
                drawn += read_until(ours, b"held") if b"held" not in drawn else b""
                os.write(ours, b"q")
                status = ended(viewer, ours)
            finally:
                viewer.kill()
                os.close(ours)
        assert b"\x1b[?1049h" in drawn, "a screen of its own"
        assert status == 0
        assert program.process.poll() is None


def read_until(terminal, words):
    """What is drawn, up to these words."""
    text = b""
    while words not in text:
        assert select.select([terminal], [], [], PATIENCE)[0], f"{words!r} is not drawn, but {text[-2000:]!r}"
        text += os.read(terminal, 65536)
    return text


def ended(viewer, terminal):
    """Its exit status; what it still draws is read, so that it can."""
    deadline = time.monotonic() + PATIENCE
    while viewer.poll() is None:
        assert time.monotonic() < deadline, "it does not end"
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                os.read(terminal, 65536)
            except OSError:
                break
    return viewer.wait(PATIENCE)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.2674, "267 ms"),
        (0.9996, "1.0 s"),
        (11.43, "11.4 s"),
        (59.99, "60.0 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1.0 h"),
        (89_999, "25.0 h"),
        (90_000, "1 d"),
    ],
)
def test_a_duration_has_its_unit_in_six_cells(seconds, words):
    assert brief_age(seconds) == words
    assert len(words) <= 6


def test_wide_letters_are_counted_as_they_are_shown():
    assert clipped("注文処理", 8) == "注文処理"
    assert clipped("注文処理", 7) == "注文処…"
    assert clipped("注文処理", 6) == "注文…"
    assert fitted([Column("name", 0, 4)], [["注文処理"]], 100) == [(0, 8)]
