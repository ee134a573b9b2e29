"""What does a task cost that does nothing, in a worker process: how many a second, and how much CPU?

All are submitted one by one, then each result is taken. CPU is that of all processes together: the one that
asks, the workers, and whatever else the pool keeps running. It is the robust figure.
"""

from collections.abc import Callable
from time import perf_counter

import measure
import pools
import processes
import work

CPU = "CPU us/task"


OURS_FROM_MAIN = "thistledown / function of the program"


def nothing() -> None:
    """Defined in the program itself, so that it goes to the workers by value."""


def case(label: str, function: Callable[[], None] = work.nothing) -> measure.Case:
    def run(tasks: int) -> measure.Sample:
        with pools.opened(label) as pool:
            pool.results([pool.submit(function) for _ in range(tasks // 10)])
            cpu, begin = processes.cpu_seconds(), perf_counter()
            pool.results([pool.submit(function) for _ in range(tasks)])
            seconds = perf_counter() - begin
            cpu = processes.cpu_seconds() - cpu
        return {"us/task": seconds / tasks * 1e6, "tasks/s": tasks / seconds, CPU: cpu / tasks * 1e6}

    return run


QUESTIONS = [
    measure.Question(
        name="process_tasks",
        title="Tasks that do nothing, one by one, in 2 worker processes",
        script=__file__,
        cases={OURS_FROM_MAIN: case("thistledown", nothing), **{label: case(label) for label in pools.POOLS}},
        units=("us/task", "tasks/s", CPU),
        size=30_000,
        sizes={"ray": 3_000, "dask": 1_000},
        quick_size=1_000,
        target="at least 4 times the tasks of multiprocessing.Pool and 10 times those of ProcessPoolExecutor, "
        "with at most 1/4 of Pool's CPU",
        bounds=(
            measure.Bound(1 / 4, pools.STDLIB_POOL),
            measure.Bound(1 / 10, pools.STDLIB_EXECUTOR),
            measure.Bound(1 / 4, pools.STDLIB_POOL, unit=CPU),
        ),
        baseline=pools.STDLIB_POOL,
        note="All are submitted, then each result is taken. CPU is that of all processes together.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
