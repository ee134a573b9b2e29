"""Leases: tuples that end by themselves, and claims that come back unless they are confirmed."""

import math

import pytest
import thistledown as td

from spaces import backend, new_space, owner, settle  # noqa: F401
from support import PATIENCE
from tuples import space_of, take_into, virtual

pytestmark = pytest.mark.usefixtures("backend")


@virtual
async def test_a_tuple_is_gone_when_its_lease_is_over():
    space = new_space()
    await space.write(("short",), lease=10)
    await space.write(("long",), lease=20)
    await space.write(("for ever",), lease=math.inf)
    await td.sleep(9.9)
    assert len(space) == 3
    await td.sleep(0.1)
    assert space.read_all() == [("long",), ("for ever",)]
    await td.sleep(10)
    assert space.read_all() == [("for ever",)]


@virtual
async def test_a_claim_that_is_not_confirmed_comes_back_to_its_place():
    space = space_of(("job", 1), ("job", 2))
    claim = await space.take(("job", int), lease=30)
    assert (claim.tuple, space.read_all()) == (("job", 1), [("job", 2)])
    await td.sleep(29)
    assert len(space) == 1
    await td.sleep(1)
    assert space.read_all() == [("job", 1), ("job", 2)]
    with pytest.raises(td.LeaseExpired):
        claim.confirm()
    with pytest.raises(td.LeaseExpired):
        claim.renew(5)
    claim.give_back()
    assert len(space) == 2


@virtual
async def test_who_waits_gets_a_claimed_tuple_when_the_claim_is_over():
    space = space_of(("job", 1))
    log = []
    claim = space.take_nowait(("job", int), lease=30)
    td.go(take_into, log, "after", space, ("job", int))
    await td.sleep(29)
    assert log == []
    await td.sleep(1)
    await settle()
    assert log == [("after", ("job", 1))]
    assert "over" not in repr(claim)


@virtual
async def test_who_waits_hears_of_claims_that_are_made_while_it_does():
    space, log = new_space(), []
    for name in ("first", "second", "third"):
        td.go(take_into, log, name, space, ("job", int), lease=10)
        await settle()
    await space.write(("job", 1))
    await td.sleep(10.5)
    assert [name for name, _ in log] == ["first", "second"]
    await td.sleep(10)
    assert [name for name, _ in log] == ["first", "second", "third"]


@virtual
async def test_a_claim_is_confirmed_by_its_block_and_given_back_by_an_exception():
    space = space_of(("job", 1))
    with pytest.raises(ZeroDivisionError):
        with await space.take(("job", int), lease=30) as job:
            assert job == ("job", 1)
            1 / 0  # noqa: B018
    assert len(space) == 1
    with await space.take(("job", int), lease=30) as job:
        assert job == ("job", 1)
    await td.sleep(100)
    assert len(space) == 0


@virtual
async def test_a_claim_can_be_renewed():
    space = space_of(("job", 1))
    claim = space.take_nowait(("job", int), lease=30)
    await td.sleep(20)
    claim.renew(lease=30)
    await td.sleep(29)
    claim.confirm()
    await td.sleep(100)
    assert len(space) == 0
    with pytest.raises(td.LeaseExpired):
        claim.confirm()


@virtual
async def test_the_lease_of_a_tuple_ends_it_in_a_claim_too():
    space = new_space()
    await space.write(("job", 1), lease=5)
    claim = await space.take(("job", int), lease=10)
    await td.sleep(6)
    claim.give_back()
    assert len(space) == 0


@virtual
async def test_a_claim_that_a_cancelled_wait_was_handed_comes_back_at_once():
    space = new_space()

    async def wait():
        await td.select(space.take(("a",), lease=30), td.sleep(math.inf))

    waiter = td.go(wait)
    await settle()
    waiter.cancel()
    space.write_nowait(("a",))
    with pytest.raises(td.TaskCancelled):
        await waiter
    await settle()
    assert len(space) == 1


def test_a_thread_waits_for_the_end_of_a_claim():
    space = space_of(("job", 1))
    space.take_nowait(("job", int), lease=0.01)
    assert space.take(("job", int)).wait(PATIENCE) == ("job", 1)


@virtual
async def test_a_claim_that_is_over_says_what_was_done_with_it():
    space = space_of(("job", 1), ("job", 2))
    confirmed, given_back = [space.take_nowait(("job", int), lease=30) for _ in range(2)]
    confirmed.confirm()
    given_back.give_back()
    for act in (confirmed.confirm, confirmed.give_back, lambda: confirmed.renew(5)):
        with pytest.raises(td.LeaseExpired, match=r"confirmed .*gone for good"):
            act()
    for act in (given_back.confirm, lambda: given_back.renew(5)):
        with pytest.raises(td.LeaseExpired, match="given back already"):
            act()
    given_back.give_back()
    assert space.read_all() == [("job", 2)]
    assert all(repr(claim).endswith(", over>") for claim in (confirmed, given_back))


@virtual
async def test_a_block_of_a_claim_that_was_ended_in_it_does_nothing_more():
    space = space_of(("job", 1), ("job", 2))
    confirmed = space.take_nowait(("job", 1), lease=30)
    with pytest.raises(ZeroDivisionError), confirmed:
        confirmed.confirm()
        1 / 0  # noqa: B018
    given_back = space.take_nowait(("job", 2), lease=30)
    with given_back:
        given_back.give_back()
    assert space.read_all() == [("job", 2)]
