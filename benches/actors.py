"""What does a call of an actor in another process cost: one after the other, and with ten thousand under way?

The actor counts. Pykka's lives in a thread of this process, and multiprocessing's manager has its object in a process,
with a thread for each caller's connection and no way to have more than one call under way in a thread. Beside them: a
task of this package's own pool, which a call is to cost no more than.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.managers import BaseManager
from time import perf_counter
from typing import Any

import measure
import peers
import pools
import processes
import work

#: What an opened actor is: starts a call, and gives something whose answer `answer` gives.
Opened = tuple[Callable[[], Any], Callable[[Any], Any]]


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count


class Manager(BaseManager):
    pass


Manager.register("Counter", Counter)


@contextmanager
def ours() -> Iterator[Opened]:
    import thistledown as td

    with td.actor(Counter) as counter:
        yield lambda: counter.add(), lambda task: task.result()


@contextmanager
def pool_task() -> Iterator[Opened]:
    with pools.opened("thistledown", 1) as pool:
        yield lambda: pool.submit(work.nothing), pool.result


@contextmanager
def with_ray() -> Iterator[Opened]:
    ray = peers.load("ray")
    ray.init(num_cpus=pools.WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    counter = ray.remote(Counter).remote()
    try:
        yield lambda: counter.add.remote(), ray.get
    finally:
        ray.shutdown()


@contextmanager
def with_pykka() -> Iterator[Opened]:
    pykka = peers.load("pykka")

    class Counting(pykka.ThreadingActor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def add(self) -> int:
            self.count += 1
            return self.count

    reference = Counting.start()
    counter = reference.proxy()
    try:
        yield lambda: counter.add(), lambda future: future.get()
    finally:
        reference.stop()


@contextmanager
def with_manager() -> Iterator[Opened]:
    with Manager() as manager:
        counter = manager.Counter()
        yield counter.add, lambda count: count


ACTORS: dict[str, Callable[[], AbstractContextManager[Opened]]] = {
    "thistledown": ours,
    "thistledown / a task": pool_task,
    "ray": with_ray,
    "pykka": with_pykka,
    "multiprocessing.Manager": with_manager,
}


#: So many calls are under way when the first of them is waited for.
BURST = 10_000


def one_by_one(call: Callable[[], Any], answer: Callable[[Any], Any], calls: int) -> Iterator[float]:
    for _ in range(calls):
        answer(call())
    yield perf_counter()


def in_bursts(call: Callable[[], Any], answer: Callable[[Any], Any], calls: int) -> Iterator[float]:
    for _ in range(max(1, calls // BURST)):
        for pending in [call() for _ in range(min(calls, BURST))]:
            answer(pending)
        yield perf_counter()


Pattern = Callable[[Callable[[], Any], Callable[[Any], Any], int], Iterator[float]]


def case(opened: Callable[[], AbstractContextManager[Opened]], pattern: Pattern) -> measure.Case:
    def run(calls: int) -> measure.Sample:
        with opened() as (call, answer):
            for _ in range(min(calls, BURST) // 10):
                answer(call())
            cpu, begin = processes.cpu_seconds(), perf_counter()
            first, *others = pattern(call, answer, calls)
            seconds = (others[-1] if others else first) - begin
            cpu = processes.cpu_seconds() - cpu
        return {
            "us/call": seconds / calls * 1e6,
            "CPU us/call": cpu / calls * 1e6,
            "calls/s": calls / seconds,
            "first": (first - begin) / min(calls, BURST) * 1e6,
        }

    return run


OURS = frozenset({"thistledown"})
BOUNDS = (measure.Bound(1.0, "thistledown / a task", cases=OURS), measure.Bound(1.0, measure.BEST, cases=OURS))


def question(name: str, when: str, pattern: Pattern, size: int, units: tuple[str, ...], note: str) -> measure.Question:
    return measure.Question(
        name=name,
        title=f"Calls of an actor, {when}",
        script=__file__,
        cases={label: case(opened, pattern) for label, opened in ACTORS.items()},
        units=("us/call", "CPU us/call", "calls/s", *units),
        size=size,
        sizes={"ray": min(BURST if units else 2_000, size)},
        quick_size=200,
        target="no more than a task of a pool, and less than others' actors",
        bounds=BOUNDS,
        baseline="ray",
        note=note,
    )


QUESTIONS = [
    question("actors_in_sequence", "one after the other", one_by_one, 5_000, (), ""),
    question(
        "actors_under_way",
        "10,000 under way, ten times over",
        in_bursts,
        10 * BURST,
        ("first",),
        "`first`: of the first 10,000, in us, for which the process gets its memory. Ray has one round of 10,000.",
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
