"""Maps of coroutine and generator functions: bounded, lazy, in order or as they come, and nothing left over."""

import contextlib
import itertools
import logging

import pytest
import thistledown as td

pytestmark = pytest.mark.virtual_clock


class Crowd:
    """Counts how many run at a time."""

    def __init__(self):
        self.running = self.most = self.begun = self.ended = 0

    async def work(self, seconds):
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await td.sleep(seconds)
        finally:
            self.running -= 1
            self.ended += 1
        return seconds


async def test_results_come_in_the_order_of_the_items():
    crowd = Crowd()
    assert [value async for value in td.map(crowd.work, [3, 1, 2], concurrency=3)] == [3, 1, 2]
    assert crowd.most == 3


async def test_or_as_they_come():
    crowd = Crowd()
    assert [value async for value in td.map(crowd.work, [3, 1, 2], concurrency=3, ordered=False)] == [1, 2, 3]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("concurrency", [1, 2, 20])
async def test_no_more_run_at_a_time_than_it_says(concurrency, ordered):
    crowd = Crowd()
    results = td.map(crowd.work, [5, *[1] * 99], concurrency=concurrency, ordered=ordered)
    assert sorted([value async for value in results]) == [*[1] * 99, 5]
    assert crowd.most == concurrency


@pytest.mark.parametrize("ordered", [True, False])
async def test_an_endless_input_is_read_no_further_than_there_is_room(ordered):
    crowd, read = Crowd(), []

    def numbers():
        for number in itertools.count(1):
            read.append(number)
            yield number

    taken = 0
    async with contextlib.aclosing(td.map(crowd.work, numbers(), concurrency=4, ordered=ordered)) as results:
        async for _ in results:
            taken += 1
            assert len(read) <= taken + 3
            if taken == 10:
                break
    assert crowd.begun == len(read)
    assert crowd.running == 0


async def test_a_buffer_lets_the_others_run_ahead_of_a_slow_first_one():
    crowd, moments = Crowd(), []
    async for value in td.map(crowd.work, [10, *[1] * 8], concurrency=2, buffersize=100):
        moments.append((value, crowd.begun))
    assert moments[0] == (10, 9), "all had begun when the first came"


async def test_without_a_number_a_hundred_run_at_a_time():
    crowd = Crowd()
    assert len([value async for value in td.map(crowd.work, [1] * 250)]) == 250
    assert crowd.most == 100


async def test_generator_functions_and_several_iterables():
    def add(one, other):
        yield from td.sleep(1)
        return one + other

    assert [value async for value in td.map(add, itertools.count(), [10, 20, 30], concurrency=2)] == [10, 21, 32]


async def test_a_place_with_a_name_maps_too():
    names = []

    async def note(_):
        names.append(td.current_task().name)

    assert [value async for value in td.here.options(name="reader").map(note, [1, 2])] == [None, None]
    assert names == ["reader", "reader"]


async def fail_at(seconds, when):
    await td.sleep(seconds)
    if seconds == when:
        raise LookupError("lost")
    return seconds


@pytest.mark.parametrize(("ordered", "expected"), [(True, [3]), (False, [1])])
async def test_an_error_comes_at_its_place_and_ends_the_rest(ordered, expected):
    ended, taken = [], []

    async def work(seconds):
        try:
            return await fail_at(seconds, 2)
        finally:
            ended.append(seconds)

    results = td.map(work, [3, 2, 1, 1000], concurrency=4, ordered=ordered)
    with pytest.raises(LookupError, match="lost"):
        async for value in results:
            taken.append(value)
    assert taken == expected
    assert sorted(ended) == [1, 2, 3, 1000], "nothing of it runs any more"
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_an_error_of_the_input_comes_after_the_results_before_it():
    def items():
        yield 1
        yield 2
        raise LookupError("of the input")

    taken = []
    with pytest.raises(LookupError, match="of the input"):
        async for value in td.map(Crowd().work, items(), concurrency=10):
            taken.append(value)
    assert taken == [1, 2]


async def test_cancelling_whoever_iterates_ends_the_tasks():
    crowd = Crowd()
    with pytest.raises(TimeoutError), td.timeout(5):
        async for _ in td.map(crowd.work, [1000] * 10, concurrency=3):
            raise AssertionError("none is done")
    assert (crowd.begun, crowd.running) == (3, 0)


async def test_a_map_that_takes_too_long_ends():
    crowd = Crowd()
    taken = []
    with pytest.raises(TimeoutError, match="the map did not end within 5 s"):
        async for value in td.map(crowd.work, [1, 2, 1000, 1000], concurrency=3, timeout=5):
            taken.append(value)
    assert (taken, crowd.running) == ([1, 2], 0)


async def test_letting_go_of_it_in_the_middle_cancels_the_rest():
    crowd = Crowd()
    async for _ in td.map(crowd.work, [1, 1000, 1000], concurrency=3):
        break
    await td.sleep(0)
    await td.sleep(0)
    assert (crowd.begun, crowd.running) == (3, 0)


async def test_what_fails_among_the_rest_is_logged_and_ends_nothing(caplog):
    async def work(number):
        if number == 0:
            await td.sleep(1)
            return number
        raise LookupError(f"number {number}")

    with caplog.at_level(logging.ERROR, logger="thistledown"):
        async with contextlib.aclosing(td.map(work, [0, 1, 2], concurrency=3)) as results:
            assert await anext(results) == 0
    assert sorted(str(record.exc_info[1]) for record in caplog.records) == ["number 1", "number 2"]


def test_in_plain_code_it_says_what_to_write():
    async def work(_):
        raise AssertionError("called")

    with pytest.raises(TypeError, match=r"`async for`.*`td\.workers\(\)\.map"):
        iter(td.map(work, [1, 2]))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"concurrency": 0}, ValueError),
        ({"concurrency": 1.5}, TypeError),
        ({"buffersize": 0}, ValueError),
        ({"chunksize": 2}, ValueError),
    ],
)
async def test_impossible_values_are_refused(arguments, error):
    with pytest.raises(error):
        td.map(Crowd().work, [1], **arguments)


async def test_a_plain_function_has_no_place_here():
    with pytest.raises(TypeError, match=r"td\.map"):
        td.here.map(len, ["a"])


# --- as_completed -------------------------------------------------------------------------------------------


async def test_as_completed_starts_coroutines_and_generators():
    def generator():
        yield from td.sleep(1)
        return 1

    crowd = Crowd()
    tasks = td.as_completed([crowd.work(3), generator(), td.go(crowd.work, 2)])
    assert [task.result() async for task in tasks] == [1, 2, 3]
