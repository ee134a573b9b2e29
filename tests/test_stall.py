"""The watchdog: a task that holds the thread is reported once per stall, with its name and line."""

import itertools
import logging
import threading
import time

import pytest
import thistledown as td
from thistledown import _report

from support import PATIENCE, place_of


class Watcher(logging.Handler):
    """Keeps the reports, and lets a stalled task know that one has come."""

    def __init__(self):
        super().__init__()
        self.reports = []
        self.reported = threading.Event()

    def emit(self, record):
        self.reports.append(record)
        self.reported.set()


@pytest.fixture
def watcher():
    logger, handler = logging.getLogger("thistledown.stall"), Watcher()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def block_until_reported(watcher):
    assert watcher.reported.wait(PATIENCE)  # mark: blocking call


def compute_until_reported(watcher):
    while not watcher.reported.is_set():
        pass  # mark: blocking call


@pytest.mark.parametrize("stall", [block_until_reported, compute_until_reported])
@pytest.mark.parametrize("kind", ["async", "generator"])
def test_a_stall_is_reported_with_task_and_place_while_it_lasts(watcher, stall, kind):
    async def async_body():
        await td.sleep(0)
        stall(watcher)

    def generator_body():
        yield
        stall(watcher)

    async def main():
        await td.here.options(name="the-heavy-one").go(async_body if kind == "async" else generator_body)

    td.run(main, stall_after=0.05)
    [report] = watcher.reports
    assert (report.name, report.levelno) == ("thistledown.stall", logging.WARNING)
    message = report.getMessage()
    assert "the-heavy-one" in message
    assert "test_stall.py:" in message or "threading.py:" in message


def test_a_stall_names_the_line_that_is_running(watcher):
    async def main():
        any(watcher.reports for _ in itertools.count())  # mark: the loop

    td.run(main, stall_after=0.05)
    place = place_of(test_a_stall_names_the_line_that_is_running, "the loop")
    assert place in watcher.reports[0].getMessage()


def test_a_stall_is_reported_once_however_long_it_lasts(watcher):
    async def main():
        block_until_reported(watcher)
        time.sleep(0.3)  # many times the limit, still the same stall

    td.run(main, stall_after=0.02)
    assert len(watcher.reports) == 1


def test_each_stall_has_its_report(watcher):
    async def main():
        for _ in range(3):
            watcher.reported.clear()
            block_until_reported(watcher)
            await td.sleep(0)

    td.run(main, stall_after=0.02)
    assert len(watcher.reports) == 3


def test_an_import_of_this_package_is_no_stall_and_one_of_the_users_is(watcher, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    # A file of the package whose import waits, as on a slow disk; and the same as a user writes it.
    (tmp_path / "slow_part.py").write_text("import time\ntime.sleep(0.5)\n")
    (tmp_path / "users_part.py").write_text("import time\ntime.sleep(0.5)\n")
    ours = compile("def lazily():\n    import slow_part\n", _report.PACKAGE + "_a_part.py", "exec")
    names = {}
    exec(ours, names)

    async def main():
        names["lazily"]()
        await td.sleep(0)
        import users_part  # noqa: F401

    td.run(main, stall_after=0.1)
    [report] = watcher.reports
    assert "users_part.py:2" in report.getMessage()


@pytest.mark.parametrize("stall_after", [None, 3600])
def test_a_task_within_its_limit_is_not_reported(watcher, stall_after):
    async def main():
        time.sleep(0.3)

    td.run(main, stall_after=stall_after)
    assert watcher.reports == []


def test_a_call_that_lets_no_other_thread_run_is_reported_when_it_has_ended(watcher):
    def is_named():
        return any("the-heavy-one" in report.getMessage() for report in watcher.reports)

    async def main():
        # Whom nobody asks for the interpreter in its last moments ends the turn before it can be named: then once more.
        while not is_named():
            watcher.reported.clear()
            sum(range(20_000_000))  # one call into C, which keeps the interpreter to itself
            await td.thread(watcher.reported.wait, PATIENCE)

    async def named():
        await td.here.options(name="the-heavy-one").go(main)

    td.run(named, stall_after=0.01)
    assert is_named()


def test_waiting_is_no_stall(watcher):
    async def main():
        await td.sleep(0.5)
        await td.thread(time.sleep, 0.5)

    td.run(main, stall_after=0.2)
    assert watcher.reports == []


def test_many_short_turns_are_no_stall(watcher):
    async def turns(until):
        while time.monotonic() < until:
            await td.sleep(0)

    async def main():
        until = time.monotonic() + 1.0
        async with td.TaskGroup() as group:
            for _ in range(10):
                group.go(turns, until)

    td.run(main, stall_after=0.5)
    assert watcher.reports == []


def test_by_default_a_tenth_of_a_second_is_too_long(watcher):
    async def main():
        block_until_reported(watcher)

    td.run(main)
    assert len(watcher.reports) == 1


def test_each_of_two_runs_in_two_threads_is_watched(watcher):
    both = threading.Barrier(2)

    async def stalling(name):
        both.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not any(name in report.getMessage() for report in watcher.reports):
            assert time.monotonic() < deadline

    async def main(name):
        await td.here.options(name=name).go(stalling, name)

    threads = [
        threading.Thread(target=td.run, args=(main, name), kwargs={"stall_after": 0.05})
        for name in ("first-run", "second-run")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = [report.getMessage() for report in watcher.reports]
    assert [sum(name in message for message in messages) for name in ("first-run", "second-run")] == [1, 1]


@pytest.mark.parametrize("stall_after", [0, -1, float("nan")])
def test_a_limit_is_above_zero(stall_after):
    async def main():
        pass

    with pytest.raises(ValueError, match="stall_after"):
        td.run(main, stall_after=stall_after)
