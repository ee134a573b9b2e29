"""Boxes, below the handles of actors: what several threads do to one at the same time."""

import threading

import pytest
import thistledown as td
from thistledown import _boxes_here, _core
from thistledown._boxes import Ending
from thistledown._boxes_ends import Watch

MEANWHILE = 0.2
"""Seconds that another thread is given to come to its end, or to a lock that it has to wait for."""


class Clock:
    def __init__(self):
        self.ticks = 0

    def tick(self):
        self.ticks += 1
        return self.ticks


class Others:
    """Other threads, each started in the middle of something, and joined at the end."""

    def __init__(self):
        self.threads = []

    def meanwhile(self, do, *args):
        """Another thread does this, as far as it gets."""
        thread = threading.Thread(target=do, args=args)
        self.threads.append(thread)
        thread.start()
        thread.join(MEANWHILE)


@pytest.fixture
def others():
    others = Others()
    yield others
    for thread in others.threads:
        thread.join()


class Interrupted(list):
    """A list to which nothing is added before something else was done, once."""

    def __init__(self, first):
        self.first = first

    def append(self, item):
        first, self.first = self.first, None
        if first is not None:
            first()
        super().append(item)


def test_who_begins_to_watch_while_another_thread_kills_hears_of_it(others):
    async def main():
        clock, heard = td.here.actor(Clock), []
        box = clock._box
        box._more().watchers = Interrupted(lambda: others.meanwhile(clock.kill))
        box.watch(heard.append)
        for thread in others.threads:
            await td.thread(thread.join)
        assert heard == [Ending("killed")]

    td.run(main)


def test_two_threads_that_ask_for_the_number_of_a_box_at_once_get_the_same(others, monkeypatch):
    numbers = []

    async def main():
        clock = td.here.actor(Clock)
        extra, began = _boxes_here.Extra, []

        def made(owner):
            if not began:
                began.append(True)
                others.meanwhile(lambda: numbers.append(clock._box.number))
            return extra(owner)

        monkeypatch.setattr(_boxes_here, "Extra", made)
        numbers.append(clock._box.number)
        for thread in others.threads:
            await td.thread(thread.join)
        assert len(numbers) == 2
        assert len(set(numbers)) == 1

    td.run(main)


class Other:
    """A box in which another one lives on."""

    def __init__(self):
        self.watchers = []

    def watch(self, heard):
        self.watchers.append(heard)


def test_who_begins_to_watch_while_the_box_moves_watches_the_other(others):
    task = _core.pledge("the end of clock", True)
    watch, other, heard = Watch("clock", task, None), Other(), []
    watch.heard = Interrupted(lambda: others.meanwhile(watch.follow, other))
    watch.add(heard.append)
    for thread in others.threads:
        thread.join()
    assert other.watchers == [heard.append]
    task._settle(("stopped", None), None)
    assert heard == []


def test_who_watches_a_box_that_has_moved_or_ended_is_not_forgotten():
    task = _core.pledge("the end of clock", True)
    watch, heard = Watch("clock", task, None), []
    watch.add(heard.append)
    watch.add(heard.append)
    task._settle(("stopped", None), None)
    watch.add(heard.append)
    assert heard == [Ending("normal")] * 3


async def test_one_that_is_killed_while_it_moves_does_not_live_on(home):
    clock, made = td.here.actor(Clock), td.here._box_maker()

    def settle(state):
        clock.kill()
        places.append(made(Clock, state))
        return places[0]

    places = []
    with pytest.raises(td.ActorDied):
        await clock._box.leave(settle)
    heard = []
    places[0].watch(heard.append)
    assert heard == [Ending("killed")]
    with pytest.raises(td.ActorDied):
        clock.tick()


async def test_the_way_to_one_that_has_moved_often_is_short(home):
    clock = td.here.actor(Clock)
    assert await clock.tick() == 1
    for _ in range(400):
        await clock.move(td.here)
    assert await clock.tick() == 2
    assert clock.name
    clock.kill()
