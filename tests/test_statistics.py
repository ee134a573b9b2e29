"""`td.statistics()`: how many tasks there were and are, by place; the same for Prometheus; what went wrong of late."""

import dataclasses
import json
import re

import pytest
import thistledown as td
from thistledown import _seen

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


async def test_however_many_fail_few_are_put_in_words():
    before, noted = td.statistics(), len(_seen.failures)
    for _ in range(300):
        with pytest.raises(ValueError, match="account"):
            await td.go(fails)
    assert grown(before, "here")[2] == 300
    assert len(_seen.failures) - noted < 300
