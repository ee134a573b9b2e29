"""Random trees of groups, timeouts and shields, over all places, against a naive reference.

Which of two things happens first is left open, as it is in truth: the reference gives every end that a tree may come
to. After each tree nothing of it is left: no task, no call, no work for the pool.
"""

import math
import threading
import time

import thistledown as td
import work
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

trees_of_chance = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)

OK, CANCELLED, HANGS = "ok", "cancelled", "hangs"
SECONDS = 0.003

# --- trees: ("value" | "fail" | "hang", place), ("timeout" | "move on" | "shield", tree), ("group", trees, at the end)


def leaves(places):
    return st.tuples(st.sampled_from(["value", "fail", "hang"]), st.sampled_from(places))


def trees(places, widest, actions):
    """Groups whose members are leaves and at most `widest` trees, and what is done at their ends."""

    def grow(inner):
        bounds = st.tuples(st.sampled_from(["timeout", "move on", "shield"]), inner)
        members = st.tuples(
            st.lists(leaves(places), max_size=3),
            st.lists(st.one_of(inner, bounds), max_size=widest),
            st.sampled_from(["", *actions]),
        )
        # In plain code a tree is played inside of the block, which ends with it.
        groups = members.map(lambda it: ("group", (*it[0], *it[1]), "" if it[1] and widest == 1 else it[2]))
        return st.one_of(groups, st.tuples(st.sampled_from(["timeout", "move on"]), groups))

    lowest = st.tuples(
        st.just("group"), st.lists(leaves(places), max_size=4).map(tuple), st.sampled_from(["", *actions])
    )
    return st.recursive(lowest, grow, max_leaves=3)


# --- the reference ------------------------------------------------------------------------------------------


def ends(tree):
    """How it may end by itself, and how if it is cancelled from outside sooner or later; errors as sets of names."""
    kind = tree[0]
    if kind == "value":
        return {OK}, {OK, CANCELLED}
    if kind == "fail":
        return {frozenset(["failed"])}, {frozenset(["failed"]), CANCELLED}
    if kind == "hang":
        return {HANGS}, {CANCELLED}
    if kind == "group":
        return ends_of_group(*tree[1:])
    free, cut = ends(tree[1])
    if kind == "shield":
        return free, free
    expired = frozenset(["timeout"]) if kind == "timeout" else OK
    free = (free - {HANGS}) | {expired if end == CANCELLED else end for end in cut}
    return free, free | cut


def ends_of_group(members, action):
    known = [ends(member) for member in members]
    # One that is cancelled before it begins never does.
    any_way = [(free - {HANGS}) | cut | {CANCELLED} for free, cut in known]
    errors = together(any_way, {frozenset(["raised"] if action == "raise" else [])})
    well = {OK} if action or all(OK in free for free, _ in known) else set()
    cut = {end for error in errors for end in ([error] if error else {CANCELLED} | well)}
    if action:
        return cut - {CANCELLED}, cut
    # Nobody fails; or one does, and the others are cancelled.
    quiet = together([{end for end in free if not is_error(end)} for free, _ in known], {frozenset()})
    free = {end or OK for end in quiet}
    for first, (alone, _) in enumerate(known):
        others = any_way[:first] + any_way[first + 1 :]
        free |= together(others, set(filter(is_error, alone)))
    return free, cut


def together(members, errors):
    """The errors that may come of all of these, beside one of those; it hangs when one does."""
    for ends in members:
        errors = {
            HANGS if HANGS in (error, end) else error | (end if is_error(end) else frozenset())
            for error in errors
            for end in ends
        }
    return errors


def is_error(end):
    return isinstance(end, frozenset)


# --- the real thing -----------------------------------------------------------------------------------------


class Ground:
    """Where a tree is played, and what there is of it."""

    def __init__(self, pool):
        self.pool = pool
        self.tasks = []
        self.lock = threading.Lock()
        self.calls = 0

    def call(self, kind):
        with self.lock:
            self.calls += 1
        try:
            if kind == "fail":
                raise work.Failure("failed")
            while kind == "hang":
                time.sleep(0)
        finally:
            with self.lock:
                self.calls -= 1

    async def weightless(self, kind):
        await td.sleep(0)
        if kind == "fail":
            raise work.Failure("failed")
        if kind == "hang":
            await td.sleep(math.inf)

    def start(self, group, leaf):
        kind, place = leaf
        if place == "weightless":
            task = group.go(self.weightless, kind)
        elif place == "process":
            task = group.add(self.pool.go(LEAVES_OF_PROCESSES[kind]))
        else:
            task = group.thread(self.call, kind)
        self.tasks.append(task)

    def finish(self, group, action):
        if action == "cancel":
            group.cancel()
        elif action == "raise":
            raise work.Failure("raised")


LEAVES_OF_PROCESSES = {"value": work.process, "fail": work.fail_by_name, "hang": work.hang}
BOUNDS = {"timeout": lambda: td.timeout(SECONDS), "move on": lambda: td.move_on_after(SECONDS), "shield": td.shield}


def is_leaf(tree):
    return tree[0] in ("value", "fail", "hang")


async def play(ground, tree):
    if tree[0] != "group":
        with BOUNDS[tree[0]]():
            await play(ground, tree[1])
        return
    async with td.TaskGroup() as group:
        for member in tree[1]:
            if is_leaf(member):
                ground.start(group, member)
            else:
                ground.tasks.append(group.go(play, ground, member))
        ground.finish(group, tree[2])


def play_in_generator(ground, tree):
    if tree[0] != "group":
        with BOUNDS[tree[0]]():
            yield from play_in_generator(ground, tree[1])
        return
    with td.TaskGroup() as group:
        for member in tree[1]:
            if is_leaf(member):
                ground.start(group, member)
            else:
                ground.tasks.append(group.go(play_in_generator, ground, member))
        ground.finish(group, tree[2])
        yield from group.join()


def play_plain(ground, tree):
    if tree[0] != "group":
        with BOUNDS[tree[0]]():
            play_plain(ground, tree[1])
        return
    with td.TaskGroup() as group:
        for member in tree[1]:
            if is_leaf(member):
                ground.start(group, member)
        for member in tree[1]:
            if not is_leaf(member):
                play_plain(ground, member)
        ground.finish(group, tree[2])


def names(error):
    if isinstance(error, BaseExceptionGroup):
        return frozenset().union(*map(names, error.exceptions))
    return frozenset(["timeout" if isinstance(error, TimeoutError) else str(error)])


def check(pool, tree, run):
    expected, _ = ends(tree)
    assume(HANGS not in expected)
    ground = Ground(pool)
    try:
        run(ground, tree)
        outcome = OK
    except (work.Failure, TimeoutError, ExceptionGroup) as error:
        outcome = names(error)
    assert outcome in expected
    assert all(task.done() for task in ground.tasks)
    assert ground.calls == 0
    statistics = pool.statistics()
    assert (statistics["queued"], statistics["offered"], statistics["busy"]) == (0, 0, 0)


PLACES = ["weightless", "process", "thread"]


@trees_of_chance
@given(tree=trees(PLACES, widest=3, actions=["cancel", "raise"]))
def test_trees_of_groups_over_all_places_end_as_arithmetic_says(pool, tree):
    check(pool, tree, lambda ground, tree: td.run(play, ground, tree))


@trees_of_chance
@given(tree=trees(PLACES, widest=3, actions=["cancel"]))
def test_trees_of_groups_in_generators_end_as_arithmetic_says(pool, tree):
    check(pool, tree, lambda ground, tree: td.run(play_in_generator, ground, tree))


@trees_of_chance
@given(tree=trees(PLACES[1:], widest=1, actions=["cancel", "raise"]))
def test_trees_of_groups_in_plain_code_end_as_arithmetic_says(pool, tree):
    check(pool, tree, play_plain)


def test_what_the_reference_says_of_small_trees():
    value, fail, hang = ("value", "thread"), ("fail", "thread"), ("hang", "thread")
    failed, timed_out = frozenset(["failed"]), frozenset(["timeout"])

    def free(tree):
        return ends(tree)[0]

    assert free(("group", (value, value), "")) == {OK}
    assert free(("group", (value, hang), "")) == {HANGS}
    assert free(("group", (fail, hang), "")) == {failed}
    assert free(("group", (value, hang), "cancel")) == {OK}
    assert free(("timeout", ("group", (hang,), ""))) == {timed_out}
    assert free(("group", (fail, ("timeout", ("group", (hang,), ""))), "")) == {failed, failed | timed_out, timed_out}
    assert HANGS in free(("move on", ("group", (hang, ("shield", ("group", (hang,), ""))), "")))
