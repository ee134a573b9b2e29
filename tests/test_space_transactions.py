"""Transactions of a space, which happen at once or not; and watches, which see what is written."""

import pytest
import thistledown as td

from spaces import backend, new_space, owner, settle  # noqa: F401
from tuples import space_of, take_into, virtual

pytestmark = pytest.mark.usefixtures("backend")

# --- transactions -------------------------------------------------------------------------------------------


async def test_a_transaction_happens_at_its_end():
    space = space_of(("from", 10), ("to", 0))
    with space.transaction() as act:
        _, left = await act.take(("from", int))
        _, there = await act.take(("to", int))
        await act.write(("from", left - 3))
        await act.write(("to", there + 3))
        assert len(space) == 0
    assert space.read_all() == [("from", 7), ("to", 3)]


async def test_a_transaction_that_fails_never_happened():
    space = space_of(("a", 1), ("a", 2))
    with pytest.raises(ZeroDivisionError):
        with space.transaction() as act:
            await act.take(("a", 1))
            await act.write(("b", 1))
            1 / 0  # noqa: B018
    assert space.read_all() == [("a", 1), ("a", 2)]


async def test_a_transaction_sees_what_it_wrote_and_nobody_else_does():
    space = new_space()
    with space.transaction() as act:
        await act.write(("own", 1))
        assert await act.read(("own", int)) == ("own", 1)
        assert space.read_nowait(("own", int)) is None
        assert act.take_nowait(("own", int)) == ("own", 1)
        assert act.read_nowait(("own", int)) is None
    assert len(space) == 0


async def test_who_waits_gets_what_a_transaction_wrote_when_it_is_committed():
    space, log = new_space(), []
    td.go(take_into, log, "waiter", space, ("b", int))
    await settle()
    with space.transaction() as act:
        act.write_nowait(("b", 1))
        await settle()
        assert log == []
    await settle()
    assert log == [("waiter", ("b", 1))]


async def test_who_waits_gets_what_a_transaction_gives_back():
    space, log = space_of(("a",)), []
    act = space.transaction()
    assert act.take_nowait(("a",)) == ("a",)
    td.go(take_into, log, "waiter", space, ("a",))
    await settle()
    act.roll_back()
    await settle()
    assert log == [("waiter", ("a",))]
    act.roll_back()
    with pytest.raises(RuntimeError, match="has ended"):
        act.commit()


async def test_a_take_in_a_transaction_waits_and_is_undone_with_it():
    space = new_space()
    act = space.transaction()
    waiter = td.go(act.take(("a",)))
    await settle()
    space.write_nowait(("a",))
    assert await waiter == ("a",)
    act.roll_back()
    assert space.read_all() == [("a",)]


@pytest.mark.parametrize("end", ["commit", "roll_back"])
async def test_a_wait_in_a_transaction_that_ends_is_told_and_what_it_was_handed_is_not_lost(end):
    space = new_space()
    act = space.transaction()
    waiting, handed = td.go(act.take(("never",))), td.go(act.take(("a",)))
    await settle()
    space.write_nowait(("a",))
    getattr(act, end)()
    for task in (waiting, handed):
        with pytest.raises(RuntimeError, match="has ended"):
            await task
    assert space.read_all() == [("a",)]


async def test_two_tasks_of_one_transaction_meet_in_it():
    space = new_space()
    with space.transaction() as act:
        waiter = td.go(act.take(("own", int)))
        await settle()
        await act.write(("own", 1))
        assert await waiter == ("own", 1)
    assert len(space) == 0


async def test_a_transaction_that_is_dropped_is_rolled_back():
    space = space_of(("a",))
    space.transaction().take_nowait(("a",))
    assert space.read_all() == [("a",)]


@virtual
async def test_a_lease_of_a_transaction_begins_at_its_end():
    space = new_space()
    with space.transaction() as act:
        await act.write(("a",), lease=10)
        await td.sleep(20)
    assert len(space) == 1
    await td.sleep(10)
    assert len(space) == 0


# --- watches ------------------------------------------------------------------------------------------------


async def test_a_watch_sees_what_is_written_also_what_is_taken_at_once():
    space, log = space_of(("old", 1)), []
    td.go(take_into, log, "waiter", space, ("w", int))
    await settle()
    with space.watch(("w", ...)) as watch:
        for one in [("w", 1), ("other", 1), ("w", 2)]:
            space.write_nowait(one)
        with space.transaction() as act:
            act.take_nowait(("w", 2))
            act.write_nowait(("w", 3))
        assert [await watch.recv() for _ in range(3)] == [("w", 1), ("w", 2), ("w", 3)]
        waiter = td.go(watch.recv())
        await settle()
        space.write_nowait(("w", 4))
        assert await waiter == ("w", 4)
    assert space.read_all() == [("old", 1), ("other", 1), ("w", 3), ("w", 4)]


async def test_what_comes_back_is_not_written_again():
    space = new_space()
    watch = space.watch()
    space.write_nowait((1,))
    space.take_nowait((1,), lease=30).give_back()
    space.write_nowait((2,))
    assert [await watch.recv(), await watch.recv()] == [(1,), (2,)]


async def test_iterating_a_watch_ends_when_it_is_closed():
    space, seen = new_space(), []
    watch = space.watch((int,))

    async def look():
        async for one in watch:
            seen.append(one)

    looker = td.go(look)
    await settle()
    for number in range(3):
        await space.write((number,))
    await settle()
    watch.close()
    watch.close()
    await looker
    assert seen == [(0,), (1,), (2,)]
    with pytest.raises(td.ChannelClosed):
        await watch.recv()


async def test_a_watch_that_lags_says_how_many_it_missed_and_goes_on():
    space = new_space()
    watch = space.watch(capacity=2)
    for number in range(5):
        space.write_nowait((number,))
    with pytest.raises(td.WatchLagged) as caught:
        await watch.recv()
    assert caught.value.missed == 3
    assert [await watch.recv(), await watch.recv()] == [(3,), (4,)]
    for capacity in (0, -1, -(10**30)):
        with pytest.raises(ValueError, match=f"capacity must be a whole number > 0, got {capacity}"):
            space.watch(capacity=capacity)
    with pytest.raises(TypeError, match=r"capacity must be a whole number > 0, got 1\.5"):
        space.watch(capacity=1.5)


async def test_several_may_wait_at_one_watch():
    space = new_space()
    watch = space.watch()
    waiters = [td.go(watch.recv()) for _ in range(3)]
    await settle()
    for number in range(3):
        space.write_nowait((number,))
    assert sorted([await waiter for waiter in waiters]) == [(0,), (1,), (2,)]
