"""Random programs: whatever is started, cancelled, asked and listened to, each task has one outcome, the right one.

The model is small. A task of each kind has a known outcome; a task whose `cancel()` said True is cancelled, and one
whose `cancel()` said False, or that nobody cancelled, is not.
"""

import collections
import contextlib
import itertools
import threading

import pytest
import thistledown as td
import work
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import COSTLY, ENDLESS, KINDS
from pools import Workers

from support import PATIENCE

reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=50)

options = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.integers(-2, 2),
        "key": st.sampled_from(["a", "b"]),
        "name": st.just("named"),
        "retries": st.integers(0, 2),
    },
)
starts = st.tuples(st.just("start"), st.sampled_from([kind for kind in KINDS if kind not in COSTLY]), options)
costly = st.tuples(st.just("start"), st.sampled_from(COSTLY), options)
endless = st.tuples(st.just("start"), st.sampled_from([*ENDLESS]), st.just({}))
others = st.tuples(st.sampled_from(["cancel", "listen", "ask", "select", "idle"]), st.integers(0, 30), st.just(None))
programs = st.lists(st.one_of(starts, starts, starts, others, others, endless, costly), min_size=1, max_size=40)


class Run:
    """One program, and what its model knows."""

    def __init__(self, pool):
        self.pool = pool
        self.tasks = []
        self.kinds = []
        self.cancelled = {}
        self.calls = collections.Counter()
        self.expected_calls = collections.Counter()
        self.called = threading.Condition()

    def start(self, kind, options):
        if kind in ENDLESS and self.has_endless():
            return  # Two would hold both workers.
        number = len(self.tasks)
        function = ENDLESS.get(kind) or KINDS[kind][0]
        if kind == "closure":
            function = lambda value, one=1: value + one  # noqa: E731
        if "late" in kind:
            options = {**options, "timeout": 0.02}
        self.tasks.append(self.pool.options(**options).go(function, number))
        self.kinds.append(kind)

    def act(self, verb, place):
        if not self.tasks:
            return
        number = place % len(self.tasks)
        task, kind = self.tasks[number], self.kinds[number]
        if verb == "cancel":
            said = task.cancel()
            assert not (said and number in self.cancelled and not self.cancelled[number]), "it was over before"
            self.cancelled[number] = self.cancelled.get(number, False) or said
        elif verb == "listen":
            self.expected_calls[number] += 1
            task.add_done_callback(lambda task: self.hear(number))
        elif verb == "ask" and kind not in ENDLESS:
            self.check(number)
        elif verb == "select":
            with contextlib.suppress(Exception):  # the outcome is looked at in the end
                td.select(task, td.after(0)).wait()
        elif verb == "idle" and not self.has_endless():
            assert self.pool.wait_idle(PATIENCE)
            assert all(task.done() for task in self.tasks)

    def has_endless(self):
        return any(kind in ENDLESS and number not in self.cancelled for number, kind in enumerate(self.kinds))

    def hear(self, number):
        with self.called:
            self.calls[number] += 1
            self.called.notify_all()

    def end(self):
        for number, kind in enumerate(self.kinds):
            if kind in ENDLESS and number not in self.cancelled:
                self.cancelled[number] = self.tasks[number].cancel()
                assert self.cancelled[number], "it runs for ever"
        for number in range(len(self.tasks)):
            self.check(number)
        with self.called:
            assert self.called.wait_for(lambda: self.calls == self.expected_calls, PATIENCE), "callbacks are missing"
        assert self.pool.wait_idle(PATIENCE)

    def check(self, number):
        task, kind = self.tasks[number], self.kinds[number]
        if self.cancelled.get(number):
            with pytest.raises(td.TaskCancelled):
                task.result(PATIENCE)
            assert task.cancelled()
            return
        expected = KINDS[kind][1](number)
        if isinstance(expected, Exception):
            error = task.exception(PATIENCE)
            assert type(error) is type(expected)
            assert error.args == expected.args or kind in COSTLY
        else:
            assert task.result(PATIENCE) == expected
        assert (task.done(), task.running(), task.cancelled()) == (True, False, False)


def test_each_task_has_the_outcome_that_it_must_have():
    with Workers(2, grace=PATIENCE) as pool:

        @reproducible
        @given(programs)
        def check(program):
            run = Run(pool)
            try:
                for verb, what, options in program:
                    if verb == "start":
                        run.start(what, options)
                    else:
                        run.act(verb, what)
            finally:
                run.end()

        check()


def test_one_worker_begins_tasks_by_priority_and_then_by_age(gate, journal):
    """Behind a task that holds the worker, so that all are there when it chooses."""
    with Workers(1) as pool:

        @settings(reproducible, max_examples=30)
        @given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([None, "a", "b"])), max_size=30))
        def check(submissions):
            blocks = pool.go(work.pass_gate, gate.path)
            gate.wait_for_arrivals()
            before = len(journal.lines())
            for number, (priority, key) in enumerate(submissions):
                pool.options(priority=priority, key=key).go(work.write, journal.path, number)
            gate.open()
            blocks.result(PATIENCE)
            assert pool.wait_idle(PATIENCE)
            assert [int(line) for line in journal.lines()[before:]] == modelled(submissions)

        check()


def modelled(submissions):
    """A task with a key cannot begin before those of its key that came before it."""
    left, order = list(enumerate(submissions)), []
    while left:
        first_of_key = {}
        for number, (_, key) in left:
            first_of_key.setdefault(key, number)
        ready = [(-priority, number) for number, (priority, key) in left if key is None or first_of_key[key] == number]
        chosen = min(ready)[1]
        order.append(chosen)
        left = [one for one in left if one[0] != chosen]
    return order


@settings(reproducible, max_examples=40)
@given(
    items=st.lists(st.integers(-5, 5), max_size=60),
    chunksize=st.one_of(st.none(), st.integers(1, 70)),
    buffersize=st.one_of(st.none(), st.integers(1, 70)),
    ordered=st.booleans(),
    taken=st.one_of(st.none(), st.integers(0, 60)),
)
def test_a_map_gives_what_the_builtin_gives(pool, items, chunksize, buffersize, ordered, taken):
    def outcomes(results):
        got = []
        try:
            for result in itertools.islice(results, taken):
                got.append(result)
        except ZeroDivisionError:
            got.append("error")
        return got

    results = pool.map(invert, items, chunksize=chunksize, buffersize=buffersize, ordered=ordered)
    given, expected = outcomes(results), outcomes(map(invert, items))
    if ordered:
        assert given == expected
    elif "error" not in given:
        known = collections.Counter(invert(item) for item in items if item)
        assert not collections.Counter(given) - known
        assert taken is not None or 0 not in items
    results.close()
    assert list(results) == []
    assert pool.wait_idle(PATIENCE)


def invert(number):
    return 60 // number
