"""`td.statistics()`: how many tasks there were and are, by place; the same for Prometheus; what went wrong of late."""

import dataclasses
import gc
import json
import pickle
import re
import time

import pytest
import thistledown as td
from thistledown import _core, _seen

from support import settle

SAMPLE = re.compile(r'^(\w+)(?:\{(\w+="[^"]*"(?:,\w+="[^"]*")*)\})? (\d+)$')


def grown(before, place):
    """How many more there are than before: started, ended, failed, cancelled."""
    now = getattr(td.statistics(), place)
    then = getattr(before, place)
    return tuple(getattr(now, name) - getattr(then, name) for name in ("started", "ended", "failed", "cancelled"))


async def fails():
    raise ValueError("no such account")


async def receives(channel):
    await channel.recv()


async def test_weightless_tasks_are_counted_by_how_they_ended():
    before = td.statistics()
    channel = td.Channel()
    waiting, failing, fine = td.go(receives, channel), td.go(fails), td.go(td.sleep(0))
    with pytest.raises(ValueError, match="account"):
        await failing
    await fine
    await settle()
    assert grown(before, "here") == (3, 2, 1, 0)
    assert td.statistics().here.alive - before.here.alive == 1
    waiting.cancel()
    await settle()
    assert grown(before, "here") == (3, 3, 1, 1)


async def test_calls_in_threads_are_counted():
    before = td.statistics()
    await td.thread(len, "abc")
    with pytest.raises(ZeroDivisionError):
        await td.thread(divmod, 1, 0)
    assert grown(before, "threads") == (2, 2, 1, 0)
    assert grown(before, "workers") == (0, 0, 0, 0)


async def test_ready_tasks_are_counted_while_they_are_ready():
    before = td.statistics().ready
    tasks = [td.go(td.sleep(0)) for _ in range(7)]
    ready = td.statistics().ready
    for task in tasks:
        await task
    assert ready - before == 7


def test_a_run_that_is_over_leaves_nobody_alive():
    before = td.statistics().here

    async def main():
        td.go(receives, td.Channel())
        raise KeyError("over")

    with pytest.raises(KeyError):
        td.run(main)
    after = td.statistics().here
    assert after.alive == before.alive
    assert (after.cancelled - before.cancelled, after.failed - before.failed) == (1, 1)


class Gate:
    def __init__(self):
        self.channel = td.Channel()

    async def waits(self):
        await self.channel.recv()

    def opens(self):
        return 1


def boxes(kind):
    """How many weightless actors there are, the messages to them, and those of this class that are named."""
    counts = td.statistics().messages
    named = [row for row in _core.survey_actors(100_000) if row[0] is kind]
    return counts.actors_here, counts.unanswered_here, named


async def test_weightless_actors_are_counted_and_their_messages():
    class Account(Gate):
        pass

    alive, unanswered, _ = boxes(Account)
    actors = [td.here.options(mailbox=9).actor(Account) for _ in range(3)]
    tasks = [actors[1].waits(), actors[1].opens(), actors[2].opens()]
    await settle()
    now, waiting, named = boxes(Account)
    assert (now - alive, waiting - unanswered) == (3, 2)
    assert [(row[3], row[4]) for row in named] == [(2, 9), (0, 9), (0, 9)]
    assert [row[5] is None for row in named] == [False, True, True]
    actors[1].kill()
    await actors[2].stop()
    with pytest.raises(td.ActorDied):
        await tasks[0]
    assert boxes(Account)[0] - alive == 1, "one that has ended is counted no more, though it has a handle"
    del actors, tasks, named
    gc.collect()
    await settle()
    assert boxes(Account) == (alive, unanswered, [])


async def test_however_many_actors_there_are_few_are_named_but_every_busy_one_is_found():
    class Model(Gate):
        pass

    alive = boxes(Model)[0]
    actors = [td.here.actor(Model) for _ in range(3_000)]
    tasks = [actors[-1].waits(), actors[-1].opens(), actors[-2].opens()]
    count, _, named = boxes(Model)
    assert count - alive == 3_000
    assert len(named) <= 1_002
    assert sorted(row[3] for row in named)[-2:] == [1, 2]
    assert len(_core.survey_actors(10)) == 10
    tasks[0].cancel()
    await tasks[1]
    await tasks[2]
    kept = actors[0]
    del actors, tasks, named
    gc.collect()
    await settle()
    assert boxes(Model)[0] - alive == 1
    task = kept.waits()
    assert len(boxes(Model)[2]) == 1, "an old one is found as soon as it has something to do"
    task.cancel()
    await settle()
    assert [row[3] for row in boxes(Model)[2]] == [0], "and is named from then on"
    fresh = td.here.actor(Model)
    assert len(boxes(Model)[2]) == 2, "there is room for the names of others"
    await fresh.stop()
    await kept.stop()
    assert boxes(Model)[2] == []


async def test_actors_that_come_and_go_leave_nobody_in_the_set_of_names():
    class Brief(Gate):
        pass

    alive = boxes(Brief)[0]
    kept = td.here.actor(Brief)
    for _ in range(5_000):
        td.here.actor(Brief)
    assert boxes(Brief)[0] - alive == 1
    assert len(boxes(Brief)[2]) == 1, "one that lives is not forgotten for the sake of such as have ended"
    await kept.stop()


async def test_one_that_runs_is_shown_with_its_task():
    class Looks(Gate):
        def looks(self):
            [row] = boxes(Looks)[2]
            return row[5][1].name, row[5][3]

    name, state = await td.here.actor(Looks).looks()
    assert name.startswith("test_one_that_runs")
    assert state == "running"


def test_the_actors_of_a_run_that_is_over_are_not_shown():
    kept = []

    async def main():
        kept.append(td.here.actor(Gate))
        assert len(boxes(Gate)[2]) == 1

    td.run(main)
    assert boxes(Gate)[2] == []


async def test_a_channel_that_was_shared_keeps_its_name_and_tells_what_lies_in_it():
    channel = td.Channel(4)
    names = {row[0] for row in _core.shared_channels()}
    before = td.statistics().messages
    await channel.send("x")
    again = pickle.loads(pickle.dumps(channel))
    [row] = [row for row in _core.shared_channels() if row[0] not in names]
    assert row[1:] == (False, 1, 4)
    after = td.statistics().messages
    assert (after.shared_channels - before.shared_channels, after.shared_values - before.shared_values) == (1, 1)
    assert await again.recv() == "x"


def test_statistics_are_plain_numbers_that_nobody_can_change():
    numbers = td.statistics()
    with pytest.raises(dataclasses.FrozenInstanceError):
        numbers.stalls = 3
    known = json.loads(json.dumps(numbers.as_dict()))
    assert known["here"]["started"] == numbers.here.started
    assert known["restarts"] == numbers.restarts


def test_prometheus_can_read_every_line():
    numbers = td.statistics()
    text = numbers.prometheus()
    samples, families = {}, []
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
        elif not line.startswith("# HELP "):
            name, labels, value = SAMPLE.match(line).groups()
            assert name == families[-1]
            samples[name, labels] = int(value)
    assert text.endswith("\n")
    assert len(families) == len(set(families))
    assert samples["thistledown_tasks_started_total", 'place="here"'] == numbers.here.started
    assert samples["thistledown_stalls_total", None] == numbers.stalls
    assert samples["thistledown_actors", 'place="here"'] == numbers.messages.actors_here
    assert samples["thistledown_channels", None] == numbers.messages.channels


class Loud(Exception):
    """One whose words are code of the user's."""

    def __str__(self):
        raise AssertionError("nobody may ask it")


class Odd:
    def __repr__(self):
        raise AssertionError("nobody may ask it")

    __str__ = __repr__


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("bad", 3), "ValueError: bad, 3"),
        (KeyError(), "KeyError"),
        (ValueError(Odd()), "ValueError: ..."),
        (Loud("x"), "Loud: x"),
        (ValueError("a\nb" + "c" * 1000), "ValueError: a b" + "c" * 297 + "..."),
    ],
)
def test_an_error_is_put_in_words_by_none_of_the_users_code(error, words):
    assert_noted(error, words)


@pytest.mark.parametrize("raised", [True, False])
def test_an_error_that_answers_by_code_of_its_own_is_not_asked(raised):
    calls = []

    def told(self, *_):
        calls.append("asked")

    class Kind(type):
        __getattribute__ = __eq__ = __hash__ = __instancecheck__ = told

    names = ("args", "__traceback__", "__cause__", "__class__")
    more = {"__str__": told, **{name: property(told) for name in names}}
    guile = Kind("Guile", (ValueError,), {**more, "__module__": "thistledown_of_mine"})
    error = guile("x", 3)
    calls.clear()
    try:
        if raised:
            raise error
    except ValueError as caught:
        _seen.failed("somebody", "here", caught)
    else:
        _seen.failed("somebody", "here", error)
    assert calls == []
    assert_noted(error, "Guile: x, 3")
    assert_noted(ValueError(error), "ValueError: ...")
    assert_noted(td.ActorDied(error), "ActorDied: ...")
    assert_noted(td.ActorDied("it was killed"), "ActorDied: it was killed")
    assert calls == []


def test_a_circle_of_causes_is_noted_and_ends():
    first, second = KeyError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert_noted(first, "KeyError: first")
    assert _seen.failures[-1].where == ""


def assert_noted(error, words):
    _seen.failed("somebody", "here", error)
    noted = _seen.failures[-1]
    assert (noted.task, noted.error) == ("somebody", words)


async def test_a_failure_is_noted_with_its_line_and_holds_nothing():
    _seen.failures.clear()
    task = td.go(fails)
    with pytest.raises(ValueError, match="account"):
        await task
    # Others may have failed just before: then this one is only counted.
    while not _seen.failures:
        again = td.go(fails)
        with pytest.raises(ValueError, match="account"):
            await again
    noted = _seen.failures[-1]
    assert noted.error == "ValueError: no such account"
    assert noted.where.endswith(" in fails")
    assert all(isinstance(getattr(noted, name), str | float) for name in noted.__slots__)


async def test_however_many_fail_few_are_put_in_words(monkeypatch):
    before, moments = td.statistics(), []
    monkeypatch.setattr(_seen, "failed", lambda *_: moments.append(time.monotonic()))
    began = time.monotonic()
    for _ in range(300):
        with pytest.raises(ValueError, match="account"):
            await td.go(fails)
    assert grown(before, "here")[2] == 300
    assert len(moments) <= (time.monotonic() - began) / 0.02 + 1, "one in 20 ms"
