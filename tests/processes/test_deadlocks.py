"""Tasks of worker processes that wait for each other: the wait that can never end is told so at once."""

import re

import pytest
import thistledown as td
import work
from pools import Workers

from leaks import eventually
from support import PATIENCE


def starts_and_waits(keys):
    """Starts a task with the next key and waits for it, and so on; the last has nothing to wait for."""
    if not keys:
        return "the end"
    return td.workers().options(key=keys[0], name=f"has {keys[0]}").go(starts_and_waits, keys[1:]).result()


async def starts_and_awaits(keys):
    if not keys:
        return "the end"
    return await td.workers().options(key=keys[0], name=f"has {keys[0]}").go(starts_and_awaits, keys[1:])


@pytest.fixture
def nested():
    """A pool of two workers; tasks that wait for others make it have more."""
    with Workers(2) as pool:
        yield pool


BODIES = [starts_and_waits, starts_and_awaits]


def started(pool, body, keys):
    return pool.options(key=keys[0], name=f"has {keys[0]}").go(body, keys[1:])


@pytest.mark.parametrize("body", BODIES)
def test_a_task_that_waits_for_one_of_its_own_key_is_told_at_once(nested, body):
    with pytest.raises(td.DeadlockError, match="has a would wait for has a, which waits for it in turn"):
        started(nested, body, "aa").result(PATIENCE)


@pytest.mark.parametrize("body", BODIES)
def test_a_cycle_over_several_keys_is_told_at_once(nested, body):
    with pytest.raises(td.DeadlockError) as told:
        started(nested, body, "abca").result(PATIENCE)
    lines = str(told.value).splitlines()
    assert lines[0] == "has c would wait for has a, which waits for it in turn:"
    assert sum("stands behind has a, which has the same key" in line for line in lines) == 1
    for waits, on in ("ab", "bc", "ca"):
        [line] = [line for line in lines if line.startswith(f"  has {waits}, in worker ")]
        assert line.endswith(f"waits for the end of task has {on}")


@pytest.mark.parametrize("body", BODIES)
def test_tasks_of_different_keys_wait_for_each_other_to_any_depth(nested, body):
    assert started(nested, body, "abcdef").result(PATIENCE) == "the end"


def test_the_key_is_free_and_the_pool_goes_on_afterwards(nested):
    with pytest.raises(td.DeadlockError):
        started(nested, starts_and_waits, "aa").result(PATIENCE)
    assert started(nested, starts_and_waits, "ab").result(PATIENCE) == "the end"


def catches():
    """The wait ends with the error, and the task goes on; the other begins when it has ended."""
    other = td.workers().options(key="a").go(work.double, 1)
    try:
        return other.result()
    except td.DeadlockError as error:
        return type(error).__name__, other.done()


def test_who_is_told_can_go_on(nested):
    assert nested.options(key="a").go(catches).result(PATIENCE) == ("DeadlockError", False)


def waits_with_a_limit():
    other = td.workers().options(key="a").go(work.double, 1)
    try:
        return other.result(0.001)
    except TimeoutError:
        return "went on"


async def waits_with_a_way_out():
    other = td.workers().options(key="a").go(work.double, 1)
    with td.move_on_after(0.001):
        await other
    return (await td.select(other, td.after(0.001))).index


def test_a_wait_with_a_way_out_is_no_deadlock(nested):
    assert nested.options(key="a").go(waits_with_a_limit).result(PATIENCE) == "went on"
    assert nested.options(key="a").go(waits_with_a_way_out).result(PATIENCE) == 1


class Turns:
    """Waits for what it asks itself."""

    def set(self, me):
        self.me = me

    def plain(self, depth):
        return depth and self.me.plain(depth - 1).result()

    async def awaits(self, depth):
        return depth and await self.me.awaits(depth - 1)

    def ends(self):
        return self.me.stop().result()


@pytest.mark.parametrize("method", ["plain", "awaits"])
def test_an_actor_that_waits_for_its_own_turn_waits_and_the_turn_stands_behind(nested, method):
    actor = nested.options(name="anna").actor(Turns)
    actor.set(actor).result(PATIENCE)
    with pytest.raises(td.DeadlockError) as told:
        actor.ask(method, 1).result(PATIENCE)
    first, waits, behind = str(told.value).splitlines()[:3]
    outer, inner = re.fullmatch(r"(\S+) would wait for (\S+), which waits for it in turn:", first).groups()
    assert re.fullmatch(rf"  {outer}, in worker \d+, waits for the end of task {inner}", waits)
    assert behind == f"  {inner} stands behind {outer}, in its actor"


def test_an_actor_that_waits_for_its_own_stop_is_told_so_in_plain_words(nested):
    actor = nested.options(name="anna").actor(Turns)
    actor.set(actor).result(PATIENCE)
    with pytest.raises(td.DeadlockError) as told:
        actor.ends().result(PATIENCE)
    first, waits, behind = str(told.value).splitlines()[:3]
    outer = re.fullmatch(r"(anna\.ends-\d+) would wait for the stop of anna, which waits for it in turn:", first)[1]
    assert re.fullmatch(rf"  {outer}, in worker \d+, waits for the stop of anna", waits)
    assert behind == f"  the stop of anna stands behind {outer}, in its actor"


def meets(key, gate, other):
    """Has one key, and when all are there, waits for a task that needs another."""
    work.pass_gate(gate)
    return td.workers().options(key=other).go(work.double, 1).result()


def test_two_that_wait_for_each_others_keys_are_a_cycle(gate):
    with Workers(2) as pool:
        tasks = [
            pool.options(key=key, name=key).go(meets, key, gate.path, other)
            for key, other in (("left", "right"), ("right", "left"))
        ]
        gate.wait_for_arrivals(2)
        gate.open(2)
        ends = [task.exception(PATIENCE) for task in tasks]
    [error] = [error for error in ends if error is not None]
    assert isinstance(error, td.DeadlockError)
    assert "left, in worker" in str(error)
    assert "right, in worker" in str(error)


def test_the_last_wait_closes_the_cycle_also_when_it_is_for_one_that_runs(nested, gate):
    task = nested.options(key="a", name="outer").go(waits_later, gate.path)
    gate.wait_for_arrivals()
    eventually(lambda: nested.statistics()["waiting"] == 1, "the inner task does not wait")
    gate.open()
    assert task.result(PATIENCE) == "told"


def waits_later(gate):
    inner = td.workers().options(name="inner").go(needs_a)
    work.pass_gate(gate)
    try:
        return inner.result()
    except td.DeadlockError:
        return "told"


def needs_a():
    try:
        return td.workers().options(key="a").go(work.double, 1).result()
    except td.DeadlockError as error:
        raise td.DeadlockError("told, too") from error
