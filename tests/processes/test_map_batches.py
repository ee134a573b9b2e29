"""Maps whose items go together: how they are taken, what is told of each, and how the results are given."""

import builtins
import contextlib
import copy
import itertools
import operator
import os
import sys
import threading

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE

SIZES = pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
BUFFERS = pytest.mark.parametrize("buffersize", [None, 1, 5, 1000])

COUNT = 40

ITERABLES = {
    "a list": lambda: [list(range(COUNT))],
    "a tuple": lambda: [tuple(range(COUNT))],
    "a range": lambda: [range(0, 3 * COUNT, 3)],
    "a text": lambda: ["ä" * COUNT + "b"],
    "bytes": lambda: [bytes(range(COUNT))],
    "a bytearray": lambda: [bytearray(range(COUNT))],
    "a dict": lambda: [dict.fromkeys(range(COUNT))],
    "a generator": lambda: [(number for number in range(COUNT))],
    "tuples": lambda: [[(number, -number) for number in range(COUNT)]],
    "two lists": lambda: [list(range(COUNT)), list(range(COUNT - 7))],
    "three of a kind each": lambda: [range(COUNT), "x" * COUNT, set(range(COUNT + 5))],
    "one for all": lambda: [range(COUNT), itertools.repeat("x")],
    "one for some": lambda: [itertools.repeat("x", 5), range(COUNT)],
    "an endless one": lambda: [itertools.count(), range(COUNT)],
    "the same iterator twice": lambda: [iter(range(COUNT))] * 2,
    "nothing and something": lambda: [[], range(COUNT)],
}


def these(*args):
    return args


@pytest.fixture
def fixed_hash_order():
    """Sets of small integers have one order everywhere; this says that the tests rely on it."""
    assert list({2, 1, 0}) == [0, 1, 2]


@SIZES
@BUFFERS
@pytest.mark.parametrize("make", ITERABLES.values(), ids=ITERABLES)
def test_a_map_takes_items_as_the_builtin_does(pool, fixed_hash_order, make, chunksize, buffersize):
    given = list(pool.map(these, *make(), chunksize=chunksize, buffersize=buffersize))
    assert given == list(map(these, *make()))


@pytest.mark.parametrize("chunksize", [None, 7])
def test_items_are_those_of_the_call_whatever_becomes_of_their_list(pool, chunksize):
    items, others = list(range(2000)), list(range(2000))
    results = pool.map(operator.add, items, others, chunksize=chunksize)
    items.clear()
    others[:] = [None] * 2000
    assert list(results) == list(range(0, 4000, 2))


def test_a_range_is_not_written_out(pool):
    results = pool.map(work.double, range(10**15))
    assert list(itertools.islice(results, 5)) == [0, 2, 4, 6, 8]
    results.close()
    assert pool.wait_idle(PATIENCE)


# --- errors -------------------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("width", [1, 2])
def test_an_error_of_the_input_comes_after_the_results_before_it(pool, chunksize, width):
    def numbers():
        yield from range(5)
        raise LookupError("in the input")

    given = []
    with pytest.raises(LookupError, match="in the input"):
        given.extend(pool.map(these, *[numbers()] * width, buffersize=100, chunksize=chunksize))
    assert given == list(map(these, *[iter(range(5))] * width))


@SIZES
@BUFFERS
def test_an_item_that_cannot_be_sent_does_not_spoil_those_before_it(pool, chunksize, buffersize):
    given = []
    results = pool.map(these, range(9), [*"abcdefg", threading.Lock(), "i"], chunksize=chunksize, buffersize=buffersize)
    with pytest.raises(td.NotPicklable, match=r"argument 2 cannot be sent: a .*lock does not travel"):
        given.extend(results)
    assert given == list(zip(range(7), "abcdefg", strict=True))
    assert list(results) == []


@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_a_first_item_that_cannot_be_sent_is_told_at_once(pool, chunksize):
    with pytest.raises(td.NotPicklable, match=r"argument 1 cannot be sent: a .*lock does not travel"):
        pool.map(these, [threading.Lock(), 1, 2], chunksize=chunksize)
    assert pool.wait_idle(PATIENCE)


def lock_at_five(number):
    return threading.Lock() if number == 5 else number


@SIZES
def test_a_result_that_cannot_be_sent_is_told_at_its_place(pool, chunksize):
    given = []
    results = pool.map(lock_at_five, range(9), chunksize=chunksize)
    with pytest.raises(td.NotPicklable, match=r"the result cannot be sent back: a .*lock does not travel"):
        given.extend(results)
    assert given == [0, 1, 2, 3, 4]


def fail_at_seven(number):
    if number == 7:
        raise ValueError(number)
    return lock_at_five(number)


def test_the_first_of_two_errors_in_a_chunk_is_told(pool):
    with pytest.raises(td.NotPicklable):
        list(pool.map(fail_at_seven, range(9), chunksize=9))
    with pytest.raises(ValueError, match="7"):
        list(pool.map(fail_at_seven, range(6, 9), chunksize=9))


@SIZES
@pytest.mark.parametrize("kind", ["StopIteration", "StopAsyncIteration"])
@pytest.mark.parametrize("is_weightless", [False, True])
async def test_an_error_that_would_end_an_iteration_is_raised(pool, chunksize, kind, is_weightless):
    def stop_at_five(number):
        if number == 5:
            raise getattr(builtins, kind)
        return number

    def take(results):
        for value in results:
            given.append(value)

    async def take_weightless(results):
        async for value in results:
            given.append(value)

    given = []
    results = pool.map(stop_at_five, range(9), chunksize=chunksize)
    with pytest.raises(RuntimeError, match=f"the function raised {kind}"):
        await (take_weightless(results) if is_weightless else td.thread(take, results))
    assert given == [0, 1, 2, 3, 4]


def test_a_chunk_whose_worker_dies_says_which_items_it_had():
    with Workers(1) as pool:
        results = pool.map(leave_at_five, range(9), chunksize=3)
        assert list(itertools.islice(results, 3)) == [0, 1, 2]
        with pytest.raises(td.WorkerDied) as caught:
            next(results)
        assert "items 3 to 5" in "".join(caught.value.__notes__)
        assert list(results) == []


def leave_at_five(number):
    if number == 5:
        os._exit(3)
    return number


def test_retries_are_for_a_chunk_when_it_was_asked_for(journal):
    with Workers(1) as pool:
        careful = pool.options(retries=1, retry_on=LookupError)
        results = careful.map(fail_once, itertools.repeat(journal.path), range(4), chunksize=4)
        with pytest.raises(LookupError):
            # What fails in a chunk is an outcome of the chunk, so nothing is tried again.
            list(results)
        assert list(careful.map(fail_once, itertools.repeat(journal.path), range(4))) == [0, 1, 2, 3]


def fail_once(path, number):
    with open(path, "r+") as file:
        lines = file.read().splitlines()
        if number == 2 and len(lines) < 2:
            file.write("tried\n")
            raise LookupError("the first time")
    return number


# --- how results are given ----------------------------------------------------------------------------------


async def test_every_way_to_ask_takes_up_where_the_last_one_left(pool):
    results = pool.map(work.double, range(12), chunksize=6)
    assert iter(results) is results
    assert await anext(results) == 0
    assert next(results) == 2
    assert [value async for value in results if value == 4 and await anext(results) == 6] == [4]
    assert list(results) == []
    results = pool.map(work.double, range(12), chunksize=6)
    given = [await anext(results), next(results)]
    given += itertools.islice(results, 3)
    given += [await anext(results), await anext(results), next(results)]
    for value in results:
        given.append(value)
        break
    assert [*given, *results] == list(range(0, 24, 2))


@pytest.mark.parametrize("progress", [False, True])
def test_closing_in_the_middle_of_a_batch_ends_the_loop(pool, monkeypatch, progress):
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    given = []
    results = pool.map(work.double, range(100), chunksize=50, progress=progress)
    for value in results:
        given.append(value)
        if value == 6:
            results.close()
    assert given == [0, 2, 4, 6]


def test_a_loop_that_is_left_for_good_ends_the_map(gate):
    with Workers(1) as pool:
        for value in pool.map(pass_or_double, [1, 2, gate.path], chunksize=2):
            assert value == 2
            break
        assert pool.wait_idle(PATIENCE), "the gate was never opened"


def pass_or_double(what):
    return work.pass_gate(what) if isinstance(what, str) else 2 * what


def test_results_do_not_travel(pool):
    results = pool.map(work.double, range(5))
    with pytest.raises(td.NotPicklable):
        pool.go(len, results)
    assert len(list(results)) == 5
    with pytest.raises(td.NotPicklable):
        pool.go(len, results)
    with pytest.raises(TypeError, match=r"send `list\(results\)`"):
        copy.copy(results)


# --- stops --------------------------------------------------------------------------------------------------


def test_a_chunk_of_calls_of_a_c_function_is_stopped_and_its_worker_stays(tmp_path):
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    count = 200_000
    with Workers(1, grace=PATIENCE) as pool:
        before = pool.go(work.process).result(PATIENCE)
        # No Python runs in the worker between these calls, nor looks `sum` for signals. They would take a minute.
        functions = [os.open] + [sum] * count
        results = pool.map(
            operator.call, functions, [pipe] + [range(20_000)] * count, [os.O_WRONLY] + [0] * count, chunksize=count + 1
        )
        with open(pipe):
            pass
        results.close()
        assert pool.wait_idle(PATIENCE)
        assert pool.go(work.process).result(PATIENCE) == before


def test_an_interrupt_while_a_map_is_started_stops_what_it_has_started(gate):
    def paths():
        yield gate.path
        gate.wait_for_arrivals()
        raise KeyboardInterrupt

    with Workers(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(work.pass_gate, paths(), buffersize=10, chunksize=1)
        assert pool.wait_idle(PATIENCE), "the gate was never opened"


def test_what_was_interrupted_while_it_was_made_is_dropped_without_a_word(pool, capsys):
    for kind in (td.Results, td.AsCompleted):
        made = kind.__base__.__new__(kind)
        del made
    assert capsys.readouterr().err == ""


PARTS = ("_map.py", "_pump.py", "_columns.py")


def stopped_at(place, way):
    """Calls it, and is interrupted at this place of what a map is made of; gives how many places there were."""
    places = 0

    def trace(frame, event, argument):
        nonlocal places
        if os.path.basename(frame.f_code.co_filename) in PARTS:
            places += 1
            if places == place:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        way()
    finally:
        sys.settrace(None)
    return places


@pytest.mark.parametrize("buffersize", [None, 4])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_that_is_interrupted_anywhere_leaves_nothing_behind(pool, monkeypatch, buffersize, ordered):
    def way():
        return sorted(pool.map(work.double, range(6), chunksize=2, buffersize=buffersize, ordered=ordered))

    complaints = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: complaints.append(what.exc_value))
    for place in range(1, stopped_at(None, way) + 1):
        with contextlib.suppress(KeyboardInterrupt):
            stopped_at(place, way)
        assert pool.wait_idle(PATIENCE)
        # One that is raised in `__del__` goes there, as all that is.
        assert not [error for error in complaints if not isinstance(error, KeyboardInterrupt)], place
    assert way() == list(range(0, 12, 2))
