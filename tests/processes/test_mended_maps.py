"""Maps: their results come also when nobody calls back in time, and each item has the context of the map."""

import contextvars
import gc
import os
import threading

import pytest
import thistledown as td

from support import PATIENCE

VARIABLE = contextvars.ContextVar("VARIABLE", default=None)


def look(_):
    return VARIABLE.get()


def read(path):
    with open(path) as file:
        return file.read()


def test_results_that_are_taken_before_anybody_called_back(pool, tmp_path):
    gate, blocked = threading.Event(), threading.Event()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    task = pool.go(read, str(pipe))
    task.add_done_callback(lambda task: blocked.set() or gate.wait(PATIENCE))
    pipe.write_text("on")
    try:
        assert blocked.wait(PATIENCE)
        # All callbacks stand behind that one.
        assert list(pool.map(abs, range(200))) == list(range(200))
    finally:
        gate.set()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [None, 1, 7])
@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_every_item_once(pool, chunksize, buffersize, ordered):
    results = list(pool.map(abs, range(300), chunksize=chunksize, buffersize=buffersize, ordered=ordered))
    assert (results if ordered else sorted(results)) == list(range(300))


def test_every_item_has_the_context_of_the_map(pool):
    token = VARIABLE.set("mine")
    try:
        results = pool.map(look, range(3000))
    finally:
        VARIABLE.reset(token)
    assert set(results) == {"mine"}


@pytest.mark.parametrize("chunksize", [None, 1, 10])
def test_no_more_items_are_read_than_the_buffer_has_room_for(pool, chunksize):
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    results = pool.map(abs, items(), buffersize=5, chunksize=chunksize)
    for taken, value in enumerate(results):
        assert value == taken
        # The results of a chunk are taken together.
        assert len(read) <= taken + 5 + 5
    assert len(read) == 100


def test_what_cannot_be_sent_is_said_at_once_and_later_at_its_place(pool):
    with pytest.raises(td.NotPicklable):
        pool.map(abs, [threading.Lock()])
    results = pool.map(abs, [1, 2, threading.Lock(), 3], chunksize=1)
    assert next(results) == 1
    assert next(results) == 2
    with pytest.raises(td.NotPicklable):
        next(results)


def test_a_map_inside_of_a_task():
    with td.Workers(2) as pool:
        assert pool.go(lambda: list(td.map(abs, range(500)))).result(PATIENCE) == list(range(500))


async def test_who_leaves_a_map_in_the_middle_ends_it(pool):
    results = pool.map(abs, range(2000), chunksize=1)
    async for value in results:
        assert value == 0
        break
    async for value in results:
        assert value == 1
        break
    results.close()
    assert [value async for value in results] == []


def test_a_map_of_a_run_that_has_ended_is_let_go_without_a_word(pool, capsys):
    async def main():
        results = pool.map(abs, range(2000), chunksize=1)
        assert await anext(results) == 0
        return results

    results = td.run(main)
    pump = results._batches._pump
    del results
    gc.collect()
    assert capsys.readouterr().err == ""
    assert pump.is_stopped


def test_after_its_error_a_map_is_over(pool):
    results = pool.map(int, ["1", "x", "2"])
    assert next(results) == 1
    with pytest.raises(ValueError, match="'x'"):
        next(results)
    assert list(results) == []


def test_a_map_that_is_closed_before_its_error_is_over(pool):
    results = pool.map(int, ["1", "x"], chunksize=2)
    assert next(results) == 1
    results.close()
    assert list(results) == []
