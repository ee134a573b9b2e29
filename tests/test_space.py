"""Spaces: what matches, and who is served."""

import asyncio
import contextlib
import datetime
import decimal
import math
import threading

import pytest
import thistledown as td

from spaces import backend, new_space, owner, settle  # noqa: F401
from support import PATIENCE, run_program
from tuples import space_of, take_into

pytestmark = pytest.mark.usefixtures("backend")

# --- values and templates -----------------------------------------------------------------------------------


class Job:
    def __init__(self, number):
        self.number = number

    def __eq__(self, other):
        raise AssertionError("a space compares nothing itself")

    __hash__ = None


class Number(int):
    """Not an int to a space: a subclass stays what it is."""


VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    2**2000,
    0.0,
    1.0,
    math.inf,
    "",
    "a",
    "ä€𝄞",
    "\ud800",
    "nul\0",
    b"",
    b"a",
    (),
    (1,),
    (1, ("a", (None,))),
]


def same(one, two):
    if isinstance(one, tuple) and isinstance(two, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return type(one) is type(two) and one == two


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_out_as_it_went_in_and_is_found_by_itself_alone(value):
    space = space_of(*((other,) for other in VALUES))
    found = space.take_nowait((value,))
    assert found is not None
    assert same(found[0], value)
    assert len(space) == len(VALUES) - 1
    assert space.take_nowait((value,)) is None


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_type_finds_its_own_values(value):
    space = space_of((value,))
    for kind in (type(None), bool, int, float, str, bytes, tuple):
        assert (space.read_nowait((kind,)) is not None) == (type(value) is kind)


def test_not_a_number_matches_nothing_and_zero_has_no_sign():
    space = space_of((math.nan,), (-0.0,))
    assert space.take_nowait((math.nan,)) is None
    assert math.copysign(1, space.take_nowait((0.0,))[0]) == -1
    assert math.isnan(space.take_nowait((float,))[0])


def test_a_template_has_as_many_fields_as_the_tuple():
    space = space_of((1, 2), (1, 2, 3))
    assert space.take_nowait((1,)) is None
    assert space.count((..., ..., ...)) == 1
    assert space.count((1, ...)) == 1
    assert space.count((1, ..., int)) == 1
    assert space.count(...) == space.count() == 2


def test_a_tuple_in_a_template_is_a_template():
    space = space_of(("at", (1, 2)), ("at", (1, "x")))
    assert space.read_nowait(("at", (1, str))) == ("at", (1, "x"))
    assert space.read_nowait(("at", (1, 2))) == ("at", (1, 2))
    assert space.count(("at", (..., ...))) == 2
    assert space.count(("at", (..., ..., ...))) == 0


def test_between_takes_both_its_ends():
    space = space_of(*((n,) for n in (1, 2, 3, 4, 2.0, True, "2", 2**70)))
    assert space.read_all((td.between(2, 3),)) == [(2,), (3,)]
    assert space.read_all((td.between(3, ...),)) == [(3,), (4,), (2**70,)]
    assert space.read_all((td.between(..., 2),)) == [(1,), (2,)]
    assert space.read_all((td.between(1.0, 2.0),)) == [(2.0,)]
    assert space.read_all((td.between("1", "3"),)) == [("2",)]


def test_one_of_takes_values_types_and_ranges():
    space = space_of(*((n,) for n in ("a", "b", 7, 8, None, b"x")))
    assert space.read_all((td.one_of("b", None, td.between(8, 9), bytes),)) == [("b",), (8,), (None,), (b"x",)]


def test_what_is_no_plain_value_is_a_copy_found_by_its_exact_type():
    job = Job(7)
    space = space_of(("job", job), ("day", datetime.date(2026, 1, 2)), ("number", Number(3)))
    found = space.read_nowait(("job", Job))[1]
    assert (type(found), found.number) == (Job, 7)
    assert found is not job
    job.number = 8
    assert space.take_nowait(("job", Job))[1].number == 7
    assert space.take_nowait(("day", datetime.date)) == ("day", datetime.date(2026, 1, 2))
    assert space.read_nowait(("number", int)) is None
    assert type(space.take_nowait(("number", Number))[1]) is Number


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda: [1], "not lists: write a tuple"),
        (lambda: "job", "not one of type str"),
        (lambda: td.Selected(1, 2), "write `tuple"),
        (lambda: (1, int), "part of a template"),
        (lambda: (1, ...), "part of a template"),
        (lambda: (1, td.between(1, 2)), "part of a template"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(write, words):
    space = new_space()
    with pytest.raises(TypeError, match=words):
        space.write(write())
    assert len(space) == 0


def test_what_has_no_pickle_cannot_be_written():
    with pytest.raises(td.NotPicklable, match="a lock cannot be written"):
        new_space().write(("job", threading.Lock()))


def nested(depth):
    value = ()
    for _ in range(depth):
        value = (value,)
    return value


@pytest.mark.parametrize("act", [td.Space.write, td.Space.take])
def test_tuples_are_nested_up_to_a_limit(act):
    act(new_space(), nested(99))
    with pytest.raises(ValueError, match="100 deep"):
        act(new_space(), nested(100_000))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (lambda: [1], r"templates are tuples, .*, not lists: write a tuple"),
        (lambda: "job", r"write `\('job',\)`, or with more fields `\('job', \.\.\.\)`"),
        (lambda: ("job", int | str), r"`td\.one_of\(int, str\)`"),
        (lambda: ("job", list[int]), "write `list`"),
        (lambda: ("job", lambda x: x > 3), "a template calls nothing"),
        (lambda: (object,), r"write `\.\.\.` for anything"),
        (lambda: (decimal.Decimal(1),), "write Decimal instead"),
        (lambda: ({1: 2},), "write dict instead"),
        (lambda: (("a", {1: 2}),), "write dict instead"),
        (lambda: (td.between(1, 2.0),), "two values of one type"),
        (lambda: (td.between(True, False),), "whole numbers, floats, texts or bytes"),
        (lambda: (td.between(..., ...),), "one end"),
        (lambda: (td.one_of(),), "at least one"),
        (lambda: (td.one_of(1, {}),), "write dict instead"),
    ],
)
def test_what_cannot_be_looked_for_is_refused_by_name(template, words):
    with pytest.raises(TypeError, match=words):
        new_space().take(template())


@pytest.mark.parametrize(("low", "high"), [(3, 1), ("b", "a"), (math.nan, 1.0), (1.0, math.nan), (math.nan, ...)])
def test_a_range_that_holds_nothing_is_refused(low, high):
    with pytest.raises(ValueError, match="nothing is between"):
        td.between(low, high)


@pytest.mark.parametrize("lease", [0, -1, math.nan])
def test_a_lease_is_longer_than_nothing(lease):
    for act in (lambda: new_space().write((1,), lease=lease), lambda: new_space().take((1,), lease=lease)):
        with pytest.raises(ValueError, match="lease"):
            act()


# --- taking and reading -------------------------------------------------------------------------------------


def test_the_one_written_first_is_taken_first():
    space = space_of(("job", 3), ("other", 0), ("job", 1), ("job", 2))
    assert [space.take_nowait(("job", int))[1] for _ in range(3)] == [3, 1, 2]
    assert space.read_all() == [("other", 0)]


async def test_reading_leaves_it_there():
    space = space_of(("a", 1))
    assert await space.read(("a", ...)) == ("a", 1)
    assert await space.take(("a", ...)) == ("a", 1)
    assert space.read_nowait(("a", ...)) is None


async def test_an_operation_that_nobody_waits_for_does_nothing():
    space = space_of((1,))
    space.write((2,))
    space.take((1,))
    assert space.read_all() == [(1,)]


async def test_who_waits_is_served_in_order():
    space, log = new_space(), []
    for name in "abc":
        td.go(take_into, log, name, space, ("job", int))
    await settle()
    for number in range(3):
        await space.write(("job", number))
        assert len(space) == 0
    await settle()
    assert log == [("a", ("job", 0)), ("b", ("job", 1)), ("c", ("job", 2))]


async def test_a_tuple_goes_to_the_first_who_wants_one_like_it():
    space, log = new_space(), []
    for name, template in [("text", ("job", str)), ("seven", ("job", 7)), ("any", ...), ("int", ("job", int))]:
        td.go(take_into, log, name, space, template)
    await settle()
    for tuple_ in [("job", 7), ("job", 8), ("job", 9), ("job", "x")]:
        space.write_nowait(tuple_)
    await settle()
    assert log == [("seven", ("job", 7)), ("any", ("job", 8)), ("int", ("job", 9)), ("text", ("job", "x"))]


async def test_a_tuple_that_was_handed_over_is_not_there_for_who_comes_later():
    space, log = new_space(), []
    td.go(take_into, log, "waiter", space, ("job", int))
    await settle()
    space.write_nowait(("job", 1))
    assert space.take_nowait(("job", int)) is None
    await settle()
    assert log == [("waiter", ("job", 1))]


async def test_everybody_who_waits_to_read_sees_it_and_one_takes_it():
    space, log = new_space(), []

    async def read(name):
        log.append((name, await space.read(("news", ...))))

    td.go(read, "before")
    await settle()
    td.go(take_into, log, "taker", space, ("news", ...))
    await settle()
    td.go(read, "after")
    await settle()
    space.write_nowait(("news", 1))
    await settle()
    assert sorted(log) == [(name, ("news", 1)) for name in ("after", "before", "taker")]
    assert len(space) == 0


async def test_a_select_of_two_takes_commits_to_one():
    space = new_space()
    waiter = td.go(td.select(space.take(("a",)), space.take(("b",))))
    await settle()
    space.write_nowait(("b",))
    space.write_nowait(("a",))
    assert await waiter == (1, ("b",))
    # The other one may be on its way out of a file already, and is seen again when that is undone.
    assert await space.read(("a",)) == ("a",)
    assert space.read_all() == [("a",)]


async def test_a_cancelled_take_takes_nothing_even_when_it_is_cancelled_as_a_tuple_comes():
    space = new_space()
    waiter = td.go(space.take(("a",)))
    await settle()
    waiter.cancel()
    space.write_nowait(("a",))
    with pytest.raises(td.TaskCancelled):
        await waiter
    # What is on its way into a file is undone when it is there: then it can be seen again.
    assert await space.read(("a",)) == ("a",)
    assert space.read_all() == [("a",)]


async def test_a_take_that_has_committed_is_not_cancelled(request):
    space = new_space()
    waiter = td.go(space.take(("a",)))
    await settle()
    space.write_nowait(("a",))
    waiter.cancel()
    try:
        assert await waiter == ("a",)
        assert len(space) == 0
    except td.TaskCancelled:
        # It commits when that is in the file, and until then it can be undone.
        assert request.node.callspec.params["backend"] != "memory"
        assert await space.read(("a",)) == ("a",)
        assert space.read_all() == [("a",)]


async def test_what_was_handed_to_a_wait_that_is_thrown_away_comes_back_to_its_place():
    space = new_space()
    operation = space.take(("a", int))
    steps = operation.__await__()
    body = td.go(drive(steps))
    await settle()
    space.write_nowait(("a", 1))
    space.write_nowait(("a", 2))
    del steps, operation
    await body
    assert [space.take_nowait(("a", int)) for _ in range(2)] == [("a", 1), ("a", 2)]


async def drive(steps):
    """Waits at an operation by hand, and throws it away when it was met."""
    with contextlib.suppress(Exception):
        await Once(next(steps))


class Once:
    def __init__(self, what):
        self.what = what

    def __await__(self):
        try:
            yield self.what
        finally:
            self.what = None


def test_threads_and_tasks_lose_nothing_and_take_nothing_twice():
    space, taken, count = new_space(), [], 2_000

    def take(which):
        while (one := space.take(("job", int, td.between(0, which % 3))).wait(PATIENCE))[1] >= 0:
            taken.append(one[1])

    def write(numbers):
        for number in numbers:
            space.write_nowait(("job", number, number % 2))

    takers = [threading.Thread(target=take, args=(which,)) for which in (1, 2, 4)]
    writers = [threading.Thread(target=write, args=(range(part, count, 4),)) for part in range(4)]
    for thread in takers + writers:
        thread.start()

    async def main():
        async with td.TaskGroup() as group:
            for which in (1, 2):
                group.go(td.thread(take, which))
            await td.thread(lambda: [writer.join() for writer in writers])
            for _ in range(len(takers) + 2):
                await space.write(("job", -1, 0))

    td.run(main)
    for thread in takers:
        thread.join(PATIENCE)
    assert sorted(taken) == list(range(count))
    assert len(space) == 0


def test_one_writer_to_one_taker_keeps_the_order():
    space = new_space()
    thread = threading.Thread(target=lambda: [space.write_nowait((number,)) for number in range(1_000)])
    thread.start()
    assert [space.take((int,)).wait(PATIENCE)[0] for _ in range(1_000)] == list(range(1_000))
    thread.join()


def test_who_waits_for_what_nobody_writes_is_told_so():
    ended = run_program("""
        import thistledown as td
        td.run(td.Space().take(("job", int)))
    """)
    assert "DeadlockError: nothing can happen any more" in ended.stderr
    assert "waits for take ('job', int) from space 1" in ended.stderr


async def test_the_tree_names_the_space():
    space = new_space()
    waiter = td.go(space.take(("job", td.between(1, 5), ...)))
    await settle()
    assert "take ('job', between(1, 5), ...) from space" in str(td.tree())
    waiter.cancel()


def test_tasks_of_asyncio_wait_as_all_others_do():
    space = new_space()

    async def take():
        return await space.take(("job", int), lease=30)

    async def main():
        waiting = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.wait(waiting[1:2])
        for number in range(3):
            await space.write(("job", number))
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(ended[1], asyncio.CancelledError)
        assert [ended[0].tuple, ended[2].tuple] == [("job", 0), ("job", 1)]
        with space.watch(("job", int)) as watch:
            looking = asyncio.create_task(anext(aiter(watch)))
            await asyncio.sleep(0)
            await space.write(("job", 3))
            assert await looking == ("job", 3)

    asyncio.run(main())
    assert space.read_all() == [("job", 2), ("job", 3)]


# --- the face -----------------------------------------------------------------------------------------------


def test_a_space_is_true_even_when_it_is_empty():
    space = new_space()
    assert space
    assert len(space) == 0
    assert repr(space_of((1,))).endswith(": 1 tuples>")


def test_operations_say_what_they_wait_for():
    space = new_space()
    shown = repr(space.take(("job", int, ..., td.one_of("a", 1.0), td.between(..., b"x"))))
    assert "take ('job', int, ..., one_of('a', 1.0), between(..., b'x')) from space" in shown
    assert "read ... from space" in repr(space.read(...))
    assert "recv from watch (1,) of space" in repr(space.watch((1,)).recv())
    assert repr(td.between(3, 9)) == "td.between(3, 9)"


def test_a_tuple_without_brackets_of_its_own_is_told_so():
    with pytest.raises(TypeError, match=r"write `\('job',\)`, or with more fields .* in brackets of its own"):
        td.Space().write("job", 1)


async def test_the_blocks_of_spaces_and_transactions_are_plain_ones():
    space = td.Space()
    for block in (space, space.transaction()):
        with pytest.raises(TypeError, match="write `with`, not `async with`"):
            async with block:
                pass


def test_a_space_is_not_iterated_and_says_what_to_write():
    with pytest.raises(TypeError, match=r"`space\.read_all\(template\)` .* `space\.watch\(template\)`"):
        iter(td.Space())


def test_options_that_are_no_truth_are_named(tmp_path):
    with pytest.raises(TypeError, match="fsync is True or False, got 'no'"):
        td.Space(tmp_path / "jobs.db", fsync="no")
    with pytest.raises(TypeError, match="repair is True or False, got 1"):
        td.Space(tmp_path / "jobs.db", repair=1)
    with pytest.raises(TypeError, match="nothing to repair: write"):
        td.Space(repair=True)
