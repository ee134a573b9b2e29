"""Debuggers in workers: what a task sets to trace itself is taken away, and `breakpoint()` says what to do instead."""

import sys
import threading

import pytest
import thistledown as td
from pools import Workers

from support import PATIENCE


def trace(*_):
    return None


def traces():
    return sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()


SETTERS = {
    "sys.settrace": lambda: sys.settrace(trace),
    "sys.setprofile": lambda: sys.setprofile(trace),
    "threading.settrace": lambda: threading.settrace(trace),
    "threading.setprofile": lambda: threading.setprofile(trace),
}


@pytest.fixture(scope="module")
def single():
    with Workers(1) as pool:
        assert pool.go(len, "").result(PATIENCE) == 0
        yield pool


@pytest.mark.parametrize("setter", SETTERS.values(), ids=SETTERS)
def test_what_a_task_leaves_to_trace_with_is_taken_away(single, setter):
    def fails():
        setter()
        raise LookupError("with it")

    single.go(setter).result(PATIENCE)
    assert single.go(traces).result(PATIENCE) == (None, None, None, None)
    assert isinstance(single.go(fails).exception(PATIENCE), LookupError)
    assert single.go(traces).result(PATIENCE) == (None, None, None, None)


def test_so_is_what_a_weightless_task_leaves(single):
    async def body():
        await td.sleep(0)
        for setter in SETTERS.values():
            setter()

    single.go(body).result(PATIENCE)
    assert single.go(traces).result(PATIENCE) == (None, None, None, None)


def test_a_debugger_at_the_end_of_a_task_does_not_stop_the_next_one(single):
    def debugged():
        import pdb

        # As `pdb.set_trace()` on the last line leaves it: it stops at the next line that runs, wherever that is.
        debugger = pdb.Pdb()
        sys.settrace(debugger.trace_dispatch)
        debugger.set_step()

    single.go(debugged).exception(PATIENCE)
    assert [single.go(lambda number: number, number).result(PATIENCE) for number in range(3)] == [0, 1, 2]


def test_what_was_set_before_the_first_task_stays():
    def set_all():
        for setter in SETTERS.values():
            setter()

    def names():
        return [getattr(one, "__name__", None) for one in traces()]

    with Workers(1, initializer=set_all) as pool:
        assert pool.go(names).result(PATIENCE) == ["trace"] * 4
        pool.go(sys.settrace, None).result(PATIENCE)
        assert pool.go(names).result(PATIENCE) == ["trace"] * 4


def test_a_breakpoint_says_that_there_is_no_terminal(single):
    def stops():
        breakpoint()

    with pytest.raises(RuntimeError, match=r"no terminal.*call it yourself.*`f\(x\)` instead of `td\.go\(f, x\)`"):
        single.go(stops).result(PATIENCE)


def test_a_debugger_that_was_named_is_called(monkeypatch):
    def stops():
        return breakpoint("abc")

    monkeypatch.setenv("PYTHONBREAKPOINT", "builtins.len")
    with Workers(1) as pool:
        assert pool.go(stops).result(PATIENCE) == 3
