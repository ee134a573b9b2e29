"""Random programs, done by a space and by a list that is looked through: both give the same."""

import dataclasses
import itertools
import math
from typing import Any

import pytest
import thistledown as td
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spaces import backend, new_space, owner  # noqa: F401

pytestmark = pytest.mark.usefixtures("backend")

PLAIN = st.sampled_from([None, True, False, 0, 1, 2, 2**70, 0.0, 1.0, math.nan, "", "a", "b", b"a", (), (1,), (1, "a")])
TUPLES = st.lists(PLAIN, max_size=3).map(tuple)
KINDS = st.sampled_from([type(None), bool, int, float, str, bytes, tuple])


@dataclasses.dataclass(frozen=True)
class Between:
    low: Any
    high: Any


@dataclasses.dataclass(frozen=True)
class OneOf:
    fields: tuple[Any, ...]


ANYTHING = st.just(...)
RANGES = st.sampled_from([Between(0, 1), Between(1, ...), Between(..., 0.5), Between("a", "b"), Between(2, 2**71)])
SIMPLE = st.one_of(PLAIN, PLAIN, PLAIN, KINDS, ANYTHING, RANGES)
FIELDS = st.one_of(SIMPLE, SIMPLE, st.lists(SIMPLE, min_size=1, max_size=3).map(tuple).map(OneOf))
TEMPLATES = st.one_of(st.lists(FIELDS, max_size=3).map(tuple), st.just(...))
STEPS = st.one_of(
    st.tuples(st.just("write"), TUPLES),
    st.tuples(st.just("write"), TUPLES),
    st.tuples(st.sampled_from(["take", "read", "all", "count", "claim", "take within"]), TEMPLATES),
    st.tuples(st.just("write within"), TUPLES),
    st.tuples(st.sampled_from(["confirm", "give back", "commit", "roll back"]), st.none()),
)


def fits(field, value):
    match field:
        case Between(low, high):
            kind = type(high if low is ... else low)
            return type(value) is kind and (low is ... or low <= value) and (high is ... or value <= high)
        case OneOf(fields):
            return any(fits(one, value) for one in fields)
        case tuple():
            return type(value) is tuple and matches(field, value)
    if field is ...:
        return True
    if isinstance(field, type):
        return type(value) is field
    return type(value) is type(field) and value == field


def matches(template, values):
    return template is ... or (
        len(template) == len(values) and all(fits(*pair) for pair in zip(template, values, strict=True))
    )


def to_field(field):
    match field:
        case Between(low, high):
            return td.between(low, high)
        case OneOf(fields):
            return td.one_of(*map(to_field, fields))
    return field


def to_template(template):
    return template if template is ... else tuple(map(to_field, template))


class List:
    """A space of lists. Each tuple has a number, by which it comes back to its place."""

    def __init__(self):
        self.tuples, self.numbers = [], itertools.count()
        self.claimed, self.taken, self.written = [], [], []

    def write(self, values):
        self.tuples.append((next(self.numbers), values))

    def find(self, template):
        return next((one for one in self.tuples if matches(template, one[1])), None)

    def take(self, template, into=None):
        found = self.find(template)
        if found is None:
            return None
        self.tuples.remove(found)
        if into is not None:
            into.append(found)
        return found[1]

    def take_within(self, template):
        for place, values in enumerate(self.written):
            if matches(template, values):
                return self.written.pop(place)
        return self.take(template, self.taken)

    def come_back(self, held):
        self.tuples = sorted(self.tuples + held, key=lambda one: one[0])

    def end(self, commits):
        if commits:
            for values in self.written:
                self.write(values)
        else:
            self.come_back(self.taken)
        self.taken, self.written = [], []


def shown(result):
    """Equal for what is the same, not-a-number and all, and for `1` and `1.0` not."""
    return repr(result)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=60))
def test_a_space_does_what_a_list_does(steps):
    space, naive = new_space(), List()
    transaction, claims = space.transaction(), []
    for step, word in steps:
        given_, expected = None, None
        match step:
            case "write":
                space.write_nowait(word)
                naive.write(word)
            case "take":
                given_, expected = space.take_nowait(to_template(word)), naive.take(word)
            case "read":
                found = naive.find(word)
                given_, expected = space.read_nowait(to_template(word)), found and found[1]
            case "all" | "count":
                expected = [values for _, values in naive.tuples if matches(word, values)]
                given_ = space.read_all(to_template(word))
                assert space.count(to_template(word)) == len(expected)
            case "claim":
                claim = space.take_nowait(to_template(word), lease=math.inf)
                expected = naive.take(word, naive.claimed)
                if claim is not None:
                    given_ = claim.tuple
                    claims.append(claim)
            case "confirm" if claims:
                claims.pop().confirm()
                naive.claimed.pop()
            case "give back" if claims:
                claims.pop().give_back()
                naive.come_back([naive.claimed.pop()])
            case "take within":
                given_, expected = transaction.take_nowait(to_template(word)), naive.take_within(word)
            case "write within":
                transaction.write_nowait(word)
                naive.written.append(word)
            case "commit" | "roll back":
                transaction.commit() if step == "commit" else transaction.roll_back()
                naive.end(step == "commit")
                transaction = space.transaction()
        assert shown(given_) == shown(expected), (step, word)
    transaction.roll_back()
    naive.end(False)
    assert shown(space.read_all()) == shown([values for _, values in naive.tuples])
