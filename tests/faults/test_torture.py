"""Workers, and now and then the zygote, are killed at random under load. Each task has exactly one outcome.

For longer, or again with the same chances: ``THISTLEDOWN_TORTURE_SECONDS=60 THISTLEDOWN_TORTURE_SEED=7``.
What is checked: each task ends once; a value is the right one; a task without retries never runs twice; each death has
a process that was killed or killed itself; afterwards no process, thread, descriptor or memory is left.
"""

import collections
import contextlib
import functools
import os
import random
import struct
import threading
import time

import pytest
import thistledown as td
import victims
import witness

SECONDS = float(os.environ.get("THISTLEDOWN_TORTURE_SECONDS", "30"))
SEED = int(os.environ.get("THISTLEDOWN_TORTURE_SEED", random.SystemRandom().randrange(1 << 32)))

PATIENCE = witness.PATIENCE
ROUND = 60
"""Tasks that a thread starts before it looks at what came of them."""

ENDINGS = (td.WorkerDied, td.TaskCancelled, TimeoutError)


class Ledger:
    """What was started, and how it ended."""

    def __init__(self, path):
        self.path = path
        self.lock = threading.Lock()
        self.count = 0
        self.ends = collections.Counter()
        self.kinds = collections.Counter()
        self.faults = []
        self.once = set()

    def number(self, runs_once):
        with self.lock:
            self.count += 1
            if runs_once:
                self.once.add(self.count)
            return self.count

    def ended(self, number, task):
        with self.lock:
            self.ends[number] += 1

    def judge(self, number, kind, expected, task, wanted):
        try:
            value = task.result(PATIENCE)
        except ENDINGS as error:
            outcome = type(error).__name__
            if not isinstance(error, wanted):
                self.faults.append(f"{kind} {number}: {error!r}")
        except BaseException as error:
            outcome = "another error"
            self.faults.append(f"{kind} {number}: {error!r}")
        else:
            outcome = "value"
            if value != expected:
                self.faults.append(f"{kind} {number}: wrong value")
        with self.lock:
            self.kinds[kind, outcome] += 1

    def runs(self):
        """How many times each task has begun."""
        data = self.path.read_bytes() if self.path.exists() else b""
        return collections.Counter(number for (number,) in struct.iter_unpack("<Q", data))


class Load:
    """One thread's work for the pool."""

    def __init__(self, pool, ledger, seed):
        self.pool = pool
        self.ledger = ledger
        self.dice = random.Random(seed)

    def go_on(self, over):
        try:
            while not over.is_set():
                self.round()
        except BaseException as error:
            self.ledger.faults.append(f"a thread that starts tasks: {error!r}")

    def round(self):
        started = [self.start() for _ in range(self.dice.randrange(1, ROUND))]
        for number, kind, expected, task, wanted in started:
            self.ledger.judge(number, kind, expected, task, wanted)

    def start(self):
        kind = self.dice.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        number = self.ledger.number(runs_once=kind not in ("retried", "weightless"))
        expected, task, wanted = KINDS[kind][1](self, number)
        task.add_done_callback(functools.partial(self.ledger.ended, number))
        return number, kind, expected, task, wanted

    def tiny(self, number):
        return number, self.pool.submit(victims.note, self.ledger.path, number), td.WorkerDied

    def short(self, number):
        pause = self.dice.random() / 100
        return number, self.pool.submit(victims.note_and_sleep, self.ledger.path, number, pause), td.WorkerDied

    def large(self, number):
        size = self.dice.choice([1_000, 50_000, 100_000, 1_000_000])
        data = bytes([number % 256]) * size
        return data, self.pool.submit(victims.note_and_give, self.ledger.path, number, data), td.WorkerDied

    def keyed(self, number):
        place = self.pool.options(key=self.dice.randrange(3))
        return number, place.submit(victims.note, self.ledger.path, number), td.WorkerDied

    def urgent(self, number):
        place = self.pool.options(priority=self.dice.randrange(3))
        return number, place.submit(victims.note, self.ledger.path, number), td.WorkerDied

    def retried(self, number):
        place = self.pool.options(retries=5)
        return number, place.submit(victims.note, self.ledger.path, number), td.WorkerDied

    def cancelled(self, number):
        task = self.pool.submit(victims.note_and_sleep, self.ledger.path, number, 0.01)
        return number, CancelledLater(task), (td.WorkerDied, td.TaskCancelled)

    def timed(self, number):
        place = self.pool.options(timeout=0.01)
        pause = self.dice.random() / 50
        task = place.submit(victims.note_and_sleep, self.ledger.path, number, pause)
        return number, task, (td.WorkerDied, TimeoutError)

    def nested(self, number):
        task = self.pool.submit(victims.note_and_nest, self.ledger.path, number, self.pool)
        return number * number, task, td.WorkerDied

    def weightless(self, number):
        return number, self.pool.go(victims.rest, number), td.WorkerDied

    def deadly(self, number):
        return None, self.pool.submit(victims.note_and_exit, self.ledger.path, number), td.WorkerDied


class CancelledLater:
    """A task that is cancelled when its outcome is asked for."""

    def __init__(self, task):
        self.task = task

    def add_done_callback(self, callback):
        self.task.add_done_callback(callback)

    def result(self, timeout):
        self.task.cancel()
        return self.task.result(timeout)


KINDS = {
    "tiny": (30, Load.tiny),
    "short": (10, Load.short),
    "large": (5, Load.large),
    "keyed": (8, Load.keyed),
    "urgent": (5, Load.urgent),
    "retried": (8, Load.retried),
    "cancelled": (4, Load.cancelled),
    "timed": (3, Load.timed),
    "nested": (3, Load.nested),
    "weightless": (4, Load.weightless),
    "deadly": (1, Load.deadly),
}


def kill_at_random(pair, dice, deadline, over):
    """Kills a worker now and then, and seldom the zygote, until the time is over."""
    killed = collections.Counter()
    while time.monotonic() < deadline:
        # How long a process lives is chance as well.
        over.wait(dice.choice([0.001, 0.01, 0.03, 0.1]))
        processes = pair.statistics()["processes"]
        if not processes:
            continue
        victim = dice.choice(processes)
        if dice.random() < 0.05:
            with contextlib.suppress(OSError):
                victim = witness.zygote_of(victim)
                killed["zygote"] += victim is not None
        else:
            killed["worker"] += 1
        witness.end([victim])
    return killed


@pytest.mark.timeout(SECONDS + 60)
def test_every_task_has_exactly_one_outcome(tmp_path):
    print(f"THISTLEDOWN_TORTURE_SEED={SEED}")
    dice = random.Random(SEED)
    ledger = Ledger(tmp_path / "ledger")
    over = threading.Event()
    with td.Workers(3, grace=0.05) as pool:
        loads = [Load(pool, ledger, dice.random()) for _ in range(4)]
        threads = [threading.Thread(target=load.go_on, args=[over]) for load in loads]
        for thread in threads:
            thread.start()
        killed = kill_at_random(pool, dice, time.monotonic() + SECONDS, over)
        over.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
        assert not any(thread.is_alive() for thread in threads), "a task has no outcome"
        # And the pool is as good as before.
        assert [task.result(PATIENCE) for task in [pool.submit(victims.square, n) for n in range(100)]] == [
            n * n for n in range(100)
        ]
        assert pool.wait_idle(PATIENCE)
    print(f"{ledger.count} tasks; killed: {dict(killed)}; {dict(ledger.kinds)}")
    assert ledger.faults == []
    assert witness.eventually(lambda: len(ledger.ends) == ledger.count)
    assert set(ledger.ends.values()) == {1}
    runs = ledger.runs()
    assert {number: times for number, times in runs.items() if times > 1 and number in ledger.once} == {}
    assert killed["worker"] > 0
    assert ledger.kinds["tiny", "value"] > 0
