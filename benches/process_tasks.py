"""What does a small task cost in a worker process: how many a second, and how much CPU?

One kind does nothing, the other is given a record and gives it back. All are submitted one by one, then each result
is taken. CPU is that of all processes together: the one that asks, the workers, and whatever else the pool keeps
running. It is the robust figure.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import measure
import peers
import pools
import processes
import work

CPU = "CPU us/task"
FROM_MAIN = "thistledown / function of the program"
RECORD = {"id": 1, "name": "thistle", "seeds": [0.5, 1.5, 2.5]}


def nothing() -> None:
    """Defined in the program itself, so that it goes to the workers by value."""


def case(label: str, function: Callable[..., Any], *args: Any) -> measure.Case:
    def run(tasks: int) -> measure.Sample:
        with pools.opened(label) as pool:
            pool.results([pool.submit(function, *args) for _ in range(tasks // 10)])
            cpu, begin = processes.cpu_seconds(), perf_counter()
            results = pool.results([pool.submit(function, *args) for _ in range(tasks)])
            seconds = perf_counter() - begin
            cpu = processes.cpu_seconds() - cpu
        if results != [function(*args)] * tasks:
            raise RuntimeError("a wrong result")
        return {"us/task": seconds / tasks * 1e6, "tasks/s": tasks / seconds, CPU: cpu / tasks * 1e6}

    return run


def question(name: str, title: str, cases: dict[str, measure.Case], **more: Any) -> measure.Question:
    return measure.Question(
        name=name,
        title=f"{title}, one by one, in 2 worker processes",
        script=__file__,
        cases=cases,
        units=("us/task", "tasks/s", CPU),
        size=30_000,
        sizes={"ray": 3_000, "dask": 1_000},
        quick_size=1_000,
        baseline=pools.STDLIB_POOL,
        note="All are submitted, then each result is taken. CPU is that of all processes together.",
        **more,
    )


QUESTIONS = [
    question(
        "process_tasks",
        "Tasks that do nothing",
        {
            FROM_MAIN: case(peers.OURS, nothing),
            **{label: case(label, work.nothing) for label in pools.POOLS},
        },
        target="at least 4 times the tasks of multiprocessing.Pool and 10 times those of ProcessPoolExecutor, "
        "with at most 1/4 of Pool's CPU",
        bounds=(
            measure.Bound(1 / 4, pools.STDLIB_POOL),
            measure.Bound(1 / 10, pools.STDLIB_EXECUTOR),
            measure.Bound(1 / 4, pools.STDLIB_POOL, unit=CPU),
        ),
    ),
    question(
        "process_tasks_record",
        "Tasks that give back a record",
        {label: case(label, work.same, RECORD) for label in pools.POOLS},
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
