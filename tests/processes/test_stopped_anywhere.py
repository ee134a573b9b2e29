"""A task may be stopped between any two bytecodes, also those of the package. The worker is as good as before.

Here the stop comes where a function of the package is called or returns, one place after the other, while a task
starts others and waits for them in some way. Afterwards the same worker, or another, does it undisturbed.
"""

import asyncio
import importlib
import os
import sys
import threading

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE

PLACES = 12
"""How many are tried; of some there are hundreds."""


def nested():
    return td.go(work.double, 1).result()


def closure():
    kept = [1]
    return len(td.go(lambda: kept).result()) + 1


def mapped():
    return list(td.map(work.double, range(20)))[1]


def in_a_run():
    async def main():
        return await td.go(work.double, 1)

    return td.run(main)


def in_asyncio():
    async def main():
        return await td.go(work.double, 1)

    return asyncio.run(main())


def called_back():
    called = threading.Event()
    task = td.go(work.double, 1)
    task.add_done_callback(lambda task: called.set())
    return called.wait(PATIENCE) and task.result()


def as_completed():
    return max(task.result() for task in td.as_completed([td.go(work.double, number) for number in range(2)]))


def with_options():
    return td.workers().options(key="k", retries=1, priority=1).go(work.double, 1).result()


WAYS = [nested, closure, mapped, in_a_run, in_asyncio, called_back, as_completed, with_options]


def stopped_at(place, way):
    """Calls it, and raises at this place; gives how many places there are when it came through."""
    places = 0

    def trace(frame, event, argument):
        nonlocal places
        if "/thistledown/" not in frame.f_code.co_filename:
            return trace
        if event in ("call", "return"):
            places += 1
            if places == place:
                sys.settrace(None)
                raise td.Cancelled("here")
        return trace

    sys.settrace(trace)
    try:
        way()
    finally:
        sys.settrace(None)
    return places


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_worker_is_as_good_as_before_wherever_its_task_was_stopped(way):
    with Workers(1) as pool:
        places = pool.go(stopped_at, None, way).result(PATIENCE)
        for place in range(1, places + 1, max(1, places // PLACES)):
            stop_and_look(pool, place, way)


def test_a_new_worker_is_as_good_wherever_its_first_task_was_stopped():
    """What it imports and starts with its first nested task is there for the next."""
    with Workers(1) as pool:
        places = pool.go(stopped_at, None, nested).result(PATIENCE)
    for place in range(1, places + 1, max(1, places // PLACES)):
        with Workers(1) as pool:
            stop_and_look(pool, place, nested)


def stop_and_look(pool, place, way):
    error = ended(pool.go(stopped_at, place, way))
    assert error is None or isinstance(error, td.TaskCancelled), (place, error)
    assert pool.go(way).result(PATIENCE) == 2, place


def ended(task):
    try:
        return task.exception(PATIENCE)
    except td.TaskCancelled as error:
        return error


SLOW_MODULE = """
import os, signal, time
import work
from thistledown import _core

work.write({journal!r}, "begins")
work.pass_gate({gate!r})
# The stop has been asked for: it comes a thousand times, and then some.
for _ in range(1000):
    signal.raise_signal(_core.INTERRUPT_SIGNAL)
    time.sleep(0.001)
VALUE = os.getpid()
work.write({journal!r}, "ends")
"""


def imports_and_goes_on(name):
    importlib.import_module(name)
    work.hang()


def value_of(name):
    return importlib.import_module(name).VALUE, os.getpid()


def test_a_stop_leaves_no_module_half_imported(gate, journal, tmp_path, monkeypatch):
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE.format(gate=gate.path, journal=journal.path))
    monkeypatch.syspath_prepend(tmp_path)
    with Workers(1, grace=PATIENCE) as pool:
        task = pool.go(imports_and_goes_on, "slow_module")
        gate.wait_for_arrivals()
        assert task.cancel()
        gate.open()
        with pytest.raises(td.TaskCancelled):
            task.result(PATIENCE)
        assert journal.lines() == ["begins", "ends"]
        imported_by, asked = pool.go(value_of, "slow_module").result(PATIENCE)
        assert imported_by == asked
