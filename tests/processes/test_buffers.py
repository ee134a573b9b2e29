"""Large buffers travel without a copy and read-only; `td.share` puts one copy where all workers see it."""

import array
import mmap
import os
import pickle

import numpy
import pytest
import thistledown as td
import work
from pools import Workers

from leaks import eventually, open_files
from support import PATIENCE

LARGE = 1 << 20


def describe(value):
    """What a worker sees of an array."""
    return value.shape, str(value.dtype), value.flags.writeable, float(value.sum())


def is_mapped(value):
    """Whether the memory of an array is a mapping of a file that another process has written."""
    address = value.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, _, _, _, *name = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in span.split("-"))
            if start <= address < end:
                return bool(name) and "memfd" in name[0]
    return False


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, LARGE // 8])
def test_an_array_arrives_as_it_is(pool, size):
    sent = numpy.arange(size, dtype=float)
    assert pool.go(describe, sent).result(PATIENCE)[::3] == ((size,), sent.sum())
    [received], _ = pool.go(work.echo, sent).result(PATIENCE)
    assert received.dtype == sent.dtype
    assert numpy.array_equal(received, sent)


def test_a_large_array_is_mapped_and_read_only_in_the_worker(pool):
    sent = numpy.ones(LARGE, dtype="u1")
    assert pool.go(is_mapped, sent).result(PATIENCE)
    assert pool.go(describe, sent).result(PATIENCE) == ((LARGE,), "uint8", False, LARGE)
    assert sent.flags.writeable


def test_a_large_result_is_mapped_and_read_only_here(pool):
    result = pool.go(numpy.ones, LARGE).result(PATIENCE)
    assert is_mapped(result)
    assert not result.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        result[0] = 5
    assert result.sum() == LARGE


def test_a_small_array_is_a_plain_copy(pool):
    result = pool.go(numpy.ones, 10).result(PATIENCE)
    assert not is_mapped(result)
    result[0] = 5


def test_the_memory_of_large_arguments_is_given_back_after_each_task(pool):
    def blobs():
        with open("/proc/self/maps") as maps:
            return sum("thistledown-blob" in line for line in maps)

    for _ in range(3):
        # The reply comes first, but no later task meets what is left of this one.
        assert pool.go(blobs).result(PATIENCE) == 0
        assert pool.go(lambda array: (array.nbytes, blobs()), numpy.ones(LARGE, dtype="u1")).result(PATIENCE) == (
            LARGE,
            1,
        )
    files = open_files()
    assert pool.go(len, bytes(LARGE)).result(PATIENCE) == LARGE
    eventually(lambda: open_files() == files, "a blob stays open here")


def test_writing_to_a_large_argument_is_an_error_of_the_task(pool):
    def write(values):
        values[0] = 5

    with pytest.raises(ValueError, match="read-only"):
        pool.go(write, numpy.ones(LARGE)).result(PATIENCE)


def test_a_result_outlives_its_task_and_its_pool():
    with Workers(1) as pool:
        task = pool.go(numpy.arange, LARGE)
        result = task.result(PATIENCE)
        del task
    assert int(result[-1]) == LARGE - 1


def test_each_time_it_is_asked_for_a_result_is_the_same(pool):
    task = pool.go(numpy.arange, LARGE)
    first, second = task.result(PATIENCE), task.result(PATIENCE)
    assert numpy.array_equal(first, second)
    assert int(second[-1]) == LARGE - 1


def test_a_result_that_nobody_reads_leaves_nothing_behind(pool):
    files = len(open_files())
    for _ in range(20):
        pool.go(numpy.ones, LARGE)
    assert pool.wait_idle(PATIENCE)
    assert len(open_files()) <= files


LAYOUTS = {
    "in Fortran's order": lambda: numpy.asfortranarray(numpy.arange(1 << 16, dtype=float).reshape(256, 256)),
    "transposed": lambda: numpy.arange(1 << 16, dtype=float).reshape(128, 512).T,
    "every second": lambda: numpy.arange(1 << 17, dtype=float)[::2],
    "backwards": lambda: numpy.arange(1 << 16, dtype=float)[::-1],
    "a slice": lambda: numpy.arange(1 << 17, dtype=float)[100 : 100 + (1 << 16)],
    "without a dimension": lambda: numpy.array(5.0),
    "of records": lambda: numpy.zeros(1 << 14, dtype=[("a", "i4"), ("b", "f8")]),
    "of objects": lambda: numpy.array([1, "two", None] * 30_000, dtype=object),
    "of texts": lambda: numpy.array(["some", "words"] * 10_000),
    "of moments": lambda: numpy.arange(1 << 14).astype("M8[s]"),
    "read-only": lambda: numpy.frombuffer(b"x" * LARGE, dtype="u1"),
    "of complex numbers": lambda: numpy.ones(1 << 14, dtype=complex),
    "of another byte order": lambda: numpy.arange(1 << 16, dtype=">i4"),
}


@pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)
def test_arrays_of_every_layout(pool, make):
    sent = make()
    [received], _ = pool.go(work.echo, sent).result(PATIENCE)
    assert (received.dtype, received.shape) == (sent.dtype, sent.shape)
    assert numpy.array_equal(received, sent)


@pytest.mark.parametrize("kind", [bytes, bytearray], ids=lambda kind: kind.__name__)
def test_large_bytes_arrive_as_they_are(pool, kind):
    sent = kind(os.urandom(LARGE))
    (received,), _ = pool.go(work.echo, sent).result(PATIENCE)
    assert type(received) is kind
    assert received == sent
    assert pool.go(work.echo, by_name=sent).result(PATIENCE)[1]["by_name"] == sent


def test_buffers_of_the_standard_library(pool):
    sent = array.array("d", range(100_000))
    assert pool.go(work.echo, sent).result(PATIENCE) == ((sent,), {})
    view = pickle.PickleBuffer(b"v" * LARGE)
    (received,), _ = pool.go(work.echo, view).result(PATIENCE)
    assert bytes(received) == b"v" * LARGE


def test_many_buffers_in_one_call(pool):
    sent = [numpy.full(70_000, number % 250, dtype="u1") for number in range(300)]
    (received,), _ = pool.go(work.echo, sent).result(PATIENCE)
    assert len(received) == 300
    assert all(numpy.array_equal(one, other) for one, other in zip(sent, received, strict=True))
    assert pool.go(lambda *arrays: sum(int(one[0]) for one in arrays), *sent[:200]).result(PATIENCE) == sum(range(200))


def test_nested_buffers_and_one_that_comes_twice(pool):
    large = numpy.arange(LARGE, dtype=float)
    sent = {"a": [large, {"b": (large, b"y" * LARGE)}], "c": numpy.ones(3)}
    (received,), _ = pool.go(work.echo, sent).result(PATIENCE)
    assert numpy.array_equal(received["a"][0], large)
    assert received["a"][0] is received["a"][1]["b"][0]
    assert received["a"][1]["b"][1] == b"y" * LARGE
    assert received["c"].tolist() == [1, 1, 1]


def test_what_is_changed_after_the_call_is_not_seen(pool, gate):
    def look(path, values):
        work.pass_gate(path)
        return float(values.sum())

    values = numpy.ones(LARGE)
    task = pool.go(look, gate.path, values)
    gate.wait_for_arrivals()
    values[:] = 0
    gate.open()
    assert task.result(PATIENCE) == LARGE


def test_a_large_pickle_without_buffers(pool):
    sent = [str(number) for number in range(200_000)]
    assert pool.go(work.echo, sent).result(PATIENCE) == ((sent,), {})


def test_large_arguments_of_queued_tasks_do_not_use_descriptors(gate):
    """More tasks than a process may have open files. Their memory is given back when they are done."""
    with Workers(1) as pool:
        blocks = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        tasks = [pool.go(len, b"x" * 70_000) for _ in range(2000)]
        gate.open()
        blocks.result(PATIENCE)
        assert {task.result(PATIENCE) for task in tasks} == {70_000}


def test_weightless_tasks_get_buffers_too(pool):
    async def double(values):
        await td.sleep(0)
        return values * 2, values.flags.writeable

    result, writeable = pool.go(double, numpy.ones(LARGE)).result(PATIENCE)
    assert (result.sum(), writeable) == (2 * LARGE, False)


# --- td.share -----------------------------------------------------------------------------------------------


def test_a_shared_object_is_the_object_itself_in_the_worker(pool):
    with td.share({"a": 1, "b": [2, 3]}) as shared:
        assert pool.go(work.echo, shared).result(PATIENCE)[0][0] == {"a": 1, "b": [2, 3]}
        assert pool.go(work.echo, [("deep", shared)]).result(PATIENCE)[0][0] == [("deep", {"a": 1, "b": [2, 3]})]
        assert pool.go(lambda: shared["a"]).result(PATIENCE) == 1


def test_a_shared_array_is_mapped_once_in_each_worker_and_read_only(pool):
    def place_of(values):
        return os.getpid(), values.__array_interface__["data"][0], values.flags.writeable, is_mapped(values)

    with td.share(numpy.arange(LARGE)) as shared:
        places = {pool.go(place_of, shared).result(PATIENCE) for _ in range(20)}
        by_process = {process: place for process, *place in places}
        assert len(places) == len(by_process)
        assert {tuple(place[1:]) for place in by_process.values()} == {(False, True)}
        assert list(pool.map(lambda values, at: int(values[at]), [shared] * 5, range(5))) == list(range(5))


def test_the_value_of_a_shared_object_is_the_object_that_was_given():
    values = numpy.arange(LARGE)
    with td.share(values) as shared:
        assert shared.value is values
        assert not shared.closed
        assert "ndarray" in repr(shared)
    assert shared.closed
    with pytest.raises(ValueError, match="closed"):
        _ = shared.value


def test_a_closed_share_cannot_be_sent(pool):
    shared = td.share([1])
    shared.close()
    shared.close()
    with pytest.raises(td.NotPicklable, match="closed"):
        pool.go(len, shared)


def test_a_task_that_begins_after_its_share_was_closed_fails_and_says_why(gate):
    with Workers(1) as pool:
        blocks = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        shared = td.share(numpy.ones(LARGE))
        late = pool.go(len, shared)
        shared.close()
        gate.open()
        blocks.result(PATIENCE)
        with pytest.raises(ValueError, match=r"td\.share .* was closed"):
            late.result(PATIENCE)


def test_a_worker_that_has_it_mapped_keeps_it_while_it_uses_it(gate):
    def use(values, path):
        work.pass_gate(path)
        return int(values.sum())

    with Workers(1) as pool:
        with td.share(numpy.ones(LARGE, dtype="u1")) as shared:
            task = pool.go(use, shared, gate.path)
            gate.wait_for_arrivals()
        gate.open()
        assert task.result(PATIENCE) == LARGE


def test_a_dropped_share_is_closed():
    files = open_files()
    shared = td.share(numpy.ones(LARGE))
    assert len(open_files()) == len(files) + 1
    del shared
    assert open_files() == files


def test_what_is_shared_for_one_call_lives_as_long_as_that(pool):
    assert pool.go(sum, td.share([1, 2, 3])).result(PATIENCE) == 6


def test_what_a_task_shares_can_be_sent_on_and_back():
    def outer():
        with td.share(numpy.ones(LARGE, dtype="u1")) as shared:
            return td.go(lambda values: int(values.sum()), shared).result(PATIENCE)

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == LARGE


def test_a_shared_object_in_nested_tasks():
    def outer(values):
        return td.go(lambda: int(values.sum())).result(PATIENCE), td.go(numpy.sum, values).result(PATIENCE)

    with Workers(2) as pool, td.share(numpy.ones(LARGE, dtype="u1")) as shared:
        assert pool.go(outer, shared).result(PATIENCE) == (LARGE, LARGE)


def test_a_shared_lambda_and_other_things_that_go_by_value(pool):
    with td.share(lambda number: number + 1) as shared:
        assert pool.go(lambda function: function(1), shared).result(PATIENCE) == 2


def test_what_cannot_be_shared_says_why():
    with mmap.mmap(-1, 4096) as memory:
        with pytest.raises(td.NotPicklable, match="mmap"):
            td.share({"file": memory})
