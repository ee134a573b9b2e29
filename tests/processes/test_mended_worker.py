"""Workers: what one task does to itself is its own, and what is long is told as far as there is room."""

import contextlib
import io
import itertools
import logging
import queue
import sys
import warnings

import pytest
import thistledown as td
from thistledown import _failures, _progress

from support import PATIENCE


@pytest.fixture(scope="module")
def pool():
    with td.Workers(1) as pool:
        assert pool.go(len, "").result(PATIENCE) == 0
        yield pool


# --- weightless tasks -------------------------------------------------------------------------------------------


async def sleep_and_give(value):
    await td.sleep(0.05)
    return value


async def leave(error):
    await td.sleep(0)
    raise error


def leave_at_once(error):
    raise error
    yield


def by_generator(value):
    yield
    return (yield from td.thread(lambda: value))


@pytest.mark.parametrize("how", [leave, leave_at_once], ids=["later", "at once"])
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt("now"), td.Cancelled("me"), ValueError("x")], ids=repr
)
def test_an_error_of_a_weightless_task_is_its_own(pool, how, error):
    others = [pool.go(sleep_and_give, number) for number in range(3)]
    failing = [pool.go(how, error) for _ in range(3)]
    others += [pool.go(sleep_and_give, number) for number in range(3, 6)]
    for task in failing:
        with pytest.raises((type(error), td.TaskCancelled)) as caught:
            task.result(PATIENCE)
        if not isinstance(error, td.Cancelled):
            assert caught.value.args == error.args
    assert [task.result(PATIENCE) for task in others] == list(range(6))


def test_every_kind_of_body(pool):
    assert pool.go(by_generator, 1).result(PATIENCE) == 1
    assert pool.go(sleep_and_give, 2).result(PATIENCE) == 2


def test_a_weightless_task_that_cannot_be_begun_is_the_only_one_that_fails(pool):
    tasks = [pool.go(sleep_and_give), pool.go(sleep_and_give, 1), pool.go(sleep_and_give, 1, 2)]
    assert isinstance(tasks[0].exception(PATIENCE), TypeError)
    assert tasks[1].result(PATIENCE) == 1
    assert isinstance(tasks[2].exception(PATIENCE), TypeError)


async def leave_behind(path, error=None):
    async def behind():
        if error is not None:
            raise error
        try:
            await td.Channel().recv()
        finally:
            with open(path, "w") as file:
                file.write("ended")

    td.go(behind())
    await td.sleep(0)
    return 1


def test_what_a_weightless_task_leaves_behind_does_not_keep_the_worker(pool, tmp_path):
    for number in range(3):
        path = tmp_path / str(number)
        assert pool.go(leave_behind, str(path)).result(PATIENCE) == 1
        assert pool.go(len, "ab").result(PATIENCE) == 2
        assert path.read_text() == "ended"
        assert pool.go(sleep_and_give, 3).result(PATIENCE) == 3


def test_what_fails_behind_a_weightless_task_is_logged(pool, tmp_path):
    handler = Records()
    logging.getLogger("thistledown").addHandler(handler)
    try:
        assert pool.go(leave_behind, "", ValueError("behind")).result(PATIENCE) == 1
        record = handler.records.get(timeout=PATIENCE)
    finally:
        logging.getLogger("thistledown").removeHandler(handler)
    assert "ValueError: behind" in logging.Formatter().format(record)


# --- what is long -----------------------------------------------------------------------------------------------


class Records(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = queue.Queue()

    def emit(self, record):
        self.records.put(record)


@pytest.fixture
def records():
    handler = Records()
    logger = logging.getLogger("test.long")
    logger.addHandler(handler)
    yield handler.records
    logger.removeHandler(handler)


@pytest.mark.parametrize("text", ["x" * 200_000, "\N{WIND CHIME}" * 200_000], ids=["narrow", "wide"])
def test_a_long_log_record_is_cut(pool, records, text):
    def log(text):
        logging.getLogger("test.long").warning("%s", text, extra={"more": text})

    pool.go(log, text).result(PATIENCE)
    message = records.get(timeout=PATIENCE).getMessage()
    assert message.startswith(text[:5_000])
    assert message.endswith("(cut)")


def test_a_long_warning_fails_nobody_and_is_cut(pool, monkeypatch):
    def warn():
        warnings.simplefilter("always")
        warnings.warn("x" * 200_000, RuntimeWarning, stacklevel=1)
        return 1

    shown = queue.Queue()
    monkeypatch.setattr(warnings, "showwarning", lambda *what: shown.put(what))
    assert pool.go(warn).result(PATIENCE) == 1
    message, category, *_ = shown.get(timeout=PATIENCE)
    assert category is RuntimeWarning
    assert str(message).startswith("x" * 5_000)
    assert str(message).endswith("(cut)")


def test_an_initializer_whose_error_is_long_breaks_the_pool_with_it():
    def fail():
        raise ValueError("y" * 200_000)

    with td.Workers(1, initializer=fail) as pool, pytest.raises(td.WorkersBroken) as caught:
        pool.go(len, "").result(PATIENCE)
    assert "ValueError: yyyy" in str(caught.value.__cause__)


def retried(levels):
    try:
        raise ValueError(levels)
    except ValueError as error:
        if levels:
            try:
                retried(levels - 1)
            except Exception as inner:
                raise RuntimeError(levels) from inner
        raise LookupError(levels) from error


def test_an_error_with_many_causes_does_not_grow_beyond_measure():
    with pytest.raises(Exception) as caught:  # noqa: PT011
        retried(15)
    packed = _failures.pack(caught.value)
    assert len(packed) < 500_000
    error = _failures.unpack(packed)
    links = [error]
    while links[-1].__cause__ is not None:
        links.append(links[-1].__cause__)
    assert [type(one) for one in links[:3]] == [RuntimeError, RuntimeError, RuntimeError]
    assert error.__context__ is error.__cause__


def test_errors_that_stand_in_a_circle_come_back_so():
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__context__ = second, first
    error = _failures.unpack(_failures.pack(first))
    assert (error.args, error.__context__.args) == ((1,), (2,))
    assert error.__context__.__context__ is error


# --- the rest ---------------------------------------------------------------------------------------------------


def test_each_pool_hears_of_a_path_that_changes_after_its_start(tmp_path, monkeypatch):
    tmp_path.joinpath("found_later.py").write_text("def answer(): return 42\n")
    with td.Workers(1) as first, td.Workers(1) as second:
        assert first.go(len, "").result(PATIENCE) == 0
        monkeypatch.syspath_prepend(str(tmp_path))
        assert second.go(len, "").result(PATIENCE) == 0
        assert first.go("found_later:answer").result(PATIENCE) == 42
        assert second.go("found_later:answer").result(PATIENCE) == 42


def test_a_map_that_is_closed_before_its_first_result_is_over(pool):
    results = pool.map(abs, itertools.repeat(1, 1000))
    results.close()
    assert list(results) == []


def test_a_bar_where_there_is_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    bar = _progress.bar(2, "none")
    bar.update(1)
    bar.close()
    with contextlib.redirect_stderr(io.StringIO()) as shown:
        bar = _progress.Line(2, "some")
        bar.update(2)
        bar.close()
    assert "2/2" in shown.getvalue()


@pytest.mark.parametrize("what", [len, lambda: 1, "math:sqrt"], ids=["builtin", "lambda", "name"])
async def test_what_runs_in_a_worker_is_refused_here_and_told_where_to_go(what):
    with pytest.raises(TypeError, match=r"td\.go"):
        td.here.go(what)
