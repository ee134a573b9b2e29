"""``td.statistics``: how many tasks there were and are, by the place where they run; and the same for Prometheus.

The numbers are counted where the events pass anyway, so nobody pays for them but who asks.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from thistledown import _core

__all__ = ["Counts", "MessageCounts", "PoolCounts", "Statistics", "statistics"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks of one place, since the program was started.

    Attributes:
        started: were told to go.
        ended: have ended, in whatever way.
        failed: of these, ended with an error.
        cancelled: of these, were cancelled.
    """

    started: int
    ended: int
    failed: int
    cancelled: int

    @property
    def alive(self) -> int:
        """How many have not ended."""
        return self.started - self.ended


@dataclass(frozen=True, slots=True)
class MessageCounts:
    """Actors and channels of this process, as they stand.

    Attributes:
        actors_here: weightless actors that have not ended.
        actors_in_workers: actors in the workers of the pools that are open.
        unanswered_here: messages to weightless actors that were sent and have no answer.
        unanswered_in_workers: the same of those in workers; what makes an actor is one as well.
        channels: channels that this process has made.
        shared_channels: channels that it shares with other processes, whoever has made them.
        shared_values: values that lie in those of them that it has made.
    """

    actors_here: int
    actors_in_workers: int
    unanswered_here: int
    unanswered_in_workers: int
    channels: int
    shared_channels: int
    shared_values: int


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """A pool of worker processes.

    Attributes:
        size: workers that run tasks at a time.
        queued: tasks that wait for a worker.
        offered: tasks that were given to one and have not ended.
        starting, idle, busy, waiting: workers without actors, by what they do.
        submitted: tasks that it was given, ever.
        replied: answers of workers, ever.
        retried: tasks that were tried again, ever.
        started: workers that were started, ever.
        died: of these, died without having been told to.
        processes: the workers' process ids.
        actors: actors that live in its workers.
        unanswered: messages to these that have no answer.
        hosting: workers that have actors, or will, whatever they do.
    """

    size: int
    queued: int
    offered: int
    starting: int
    idle: int
    busy: int
    waiting: int
    submitted: int
    replied: int
    retried: int
    started: int
    died: int
    processes: tuple[int, ...]
    actors: int
    unanswered: int
    hosting: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a program has done and does, in numbers: made by ``td.statistics()``.

    Attributes:
        pid: of the process.
        time: ``time.monotonic()`` when they were taken, for rates.
        here: weightless tasks, of all runs and loops.
        workers: tasks of worker processes, and calls of actors in these.
        threads: calls in helper threads.
        ready: weightless tasks that are ready and have not their turn.
        stalls: turns that held their thread for too long.
        pools: the pools that are open.
        messages: actors with their mailboxes, and channels.
    """

    pid: int
    time: float
    here: Counts
    workers: Counts
    threads: Counts
    ready: int
    stalls: int
    pools: tuple[PoolCounts, ...]
    messages: MessageCounts

    @property
    def restarts(self) -> int:
        """Workers of the pools that are open that have died, in whose place others were started."""
        return sum(pool.died for pool in self.pools)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists and numbers, as for ``json``."""
        return {**asdict(self), "restarts": self.restarts}

    def prometheus(self) -> str:
        """The same in the text format that Prometheus reads (version 0.0.4)."""
        return "".join(f"{line}\n" for line in _lines(self))


def statistics() -> Statistics:
    """What this program has done and does, in numbers: tasks by place, pools, stalls, actors and channels.

    Can be called anywhere and at any time; it costs some microseconds, and with thousands of actors that have messages
    a part of a millisecond. Rates are differences of two of them. A forked
    child goes on from its parent's numbers.

    Returns:
        A ``Statistics``: plain numbers, which do not change any more.
    """
    here, workers, threads, ready, stalls, pools = _core.tallies()
    known = tuple(PoolCounts(**{**pool, "processes": tuple(pool["processes"])}) for pool in pools)
    actors, unanswered, *channels = _core.count_messages()
    in_workers, asked = sum(pool.actors for pool in known), sum(pool.unanswered for pool in known)
    return Statistics(
        os.getpid(),
        time.monotonic(),
        Counts(*here),
        Counts(*workers),
        Counts(*threads),
        ready,
        stalls,
        known,
        MessageCounts(actors, in_workers, unanswered, asked, *channels),
    )


PLACES = ("here", "workers", "threads")


def _lines(numbers: Statistics) -> Iterator[str]:
    """Names and units as Prometheus advises: https://prometheus.io/docs/practices/naming/"""
    counts = {place: getattr(numbers, place) for place in PLACES}
    for name, words in (
        ("started", "Tasks that were told to go."),
        ("ended", "Tasks that have ended, in whatever way."),
        ("failed", "Tasks that ended with an error."),
        ("cancelled", "Tasks that were cancelled."),
    ):
        yield from _family(f"thistledown_tasks_{name}_total", "counter", words)
        for place, count in counts.items():
            yield f'thistledown_tasks_{name}_total{{place="{place}"}} {getattr(count, name)}'
    yield from _family("thistledown_tasks_alive", "gauge", "Tasks that have not ended.")
    for place, count in counts.items():
        yield f'thistledown_tasks_alive{{place="{place}"}} {count.alive}'
    yield from _family("thistledown_tasks_ready", "gauge", "Weightless tasks that stand in a ready queue.")
    yield f"thistledown_tasks_ready {numbers.ready}"
    yield from _family("thistledown_stalls_total", "counter", "Turns that held their thread for too long.")
    yield f"thistledown_stalls_total {numbers.stalls}"
    yield from _message_lines(numbers.messages)
    yield from _pool_lines(numbers.pools)


def _message_lines(counts: MessageCounts) -> Iterator[str]:
    yield from _family("thistledown_actors", "gauge", "Actors that have not ended.")
    yield f'thistledown_actors{{place="here"}} {counts.actors_here}'
    yield f'thistledown_actors{{place="workers"}} {counts.actors_in_workers}'
    yield from _family("thistledown_actor_messages", "gauge", "Messages to actors that have no answer.")
    yield f'thistledown_actor_messages{{place="here"}} {counts.unanswered_here}'
    yield f'thistledown_actor_messages{{place="workers"}} {counts.unanswered_in_workers}'
    yield from _family("thistledown_channels", "gauge", "Channels that this process has made.")
    yield f"thistledown_channels {counts.channels}"
    yield from _family("thistledown_shared_channels", "gauge", "Channels that are shared with other processes.")
    yield f"thistledown_shared_channels {counts.shared_channels}"
    yield from _family("thistledown_shared_channel_values", "gauge", "Values in shared channels of this process.")
    yield f"thistledown_shared_channel_values {counts.shared_values}"


def _pool_lines(pools: tuple[PoolCounts, ...]) -> Iterator[str]:
    for name, kind, words, field in (
        ("thistledown_pool_queued", "gauge", "Tasks that wait for a worker.", "queued"),
        ("thistledown_pool_offered", "gauge", "Tasks that workers have.", "offered"),
        ("thistledown_pool_retries_total", "counter", "Tasks that were tried again.", "retried"),
        ("thistledown_workers_started_total", "counter", "Workers that were started.", "started"),
        ("thistledown_workers_died_total", "counter", "Workers that died without having been told to.", "died"),
    ):
        yield from _family(name, kind, words)
        for number, pool in enumerate(pools):
            yield f'{name}{{pool="{number}"}} {getattr(pool, field)}'
    yield from _family("thistledown_workers", "gauge", "Workers, by what they do.")
    for number, pool in enumerate(pools):
        for state in ("starting", "idle", "busy", "waiting", "hosting"):
            yield f'thistledown_workers{{pool="{number}",state="{state}"}} {getattr(pool, state)}'


def _family(name: str, kind: str, words: str) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} {kind}"
