"""`td.statistics()` of worker processes: what is counted of tasks and actors there."""

import pytest
import thistledown as td


class Gate:
    def __init__(self, channel):
        self.channel = channel

    def says(self):
        return "here"

    def fails(self):
        raise ValueError("no such account")

    def waits(self):
        return self.channel.recv().wait()


def grown(before):
    """How many more tasks of workers there are than before: started, ended, failed, cancelled."""
    now = td.statistics().workers
    return tuple(getattr(now, name) - getattr(before, name) for name in ("started", "ended", "failed", "cancelled"))


def test_calls_of_actors_in_workers_are_tasks_and_what_makes_and_ends_actors_is_none():
    channel = td.Channel()
    with td.Workers(1) as pool:
        before = td.statistics().workers
        task = pool.go(Gate(channel).waits)
        actor = pool.actor(Gate, channel)
        assert actor.says().result() == "here"
        assert grown(before) == (2, 1, 0, 0)
        with pytest.raises(ValueError, match="account"):
            actor.fails().result()
        call = actor.waits()
        assert grown(before) == (4, 2, 1, 0)
        assert td.statistics().workers.alive - before.alive == 2
        channel.send(1).wait()
        channel.send(2).wait()
        assert {task.result(), call.result()} == {1, 2}
        td.monitor(actor)
        actor.stop().result()
        with pytest.raises(td.ActorStopped):
            actor.says().result()
        assert td.statistics().workers.alive == before.alive


def test_workers_with_actors_are_counted():
    with td.Workers(2) as pool:
        pool.go(int).result()
        actor = pool.actor(Gate, None)
        assert actor.says().result() == "here"
        counts = td.statistics()
        [known] = [known for known in counts.pools if known.actors == 1]
        assert known.starting + known.idle + known.busy + known.waiting + known.hosting == len(known.processes)
        assert known.hosting == 1
        assert 'state="hosting"} 1' in counts.prometheus()
        actor.stop().result()
