"""What does a task cost that waits in a pool's queue, and how long does it take to cancel 100,000 of them?

Both workers are kept busy while the tasks are submitted. Memory is the growth of the process that submits them, with
what it holds to ask for the results by. Then each is cancelled, the workers are let go, and one more task is asked
for its result: a pool that only marks what is cancelled has it all to go through then.
"""

import gc
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import measure
import pools
import work
from memory import resident_bytes

CANCEL, NEXT = "ms to cancel all", "ms to the next result"
#: What a peer may have given to its workers already, and cannot take back.
TOO_LATE = 4 * pools.WORKERS

Cancel = Callable[[pools.Pool, Sequence[Any]], None]


def one_by_one(pool: pools.Pool, tasks: Sequence[Any]) -> None:
    cancelled = sum([task.cancel() for task in tasks])
    if cancelled < len(tasks) - TOO_LATE:
        raise RuntimeError(f"of {len(tasks)} tasks only {cancelled} were cancelled")


def by_ray(pool: pools.Pool, tasks: Sequence[Any]) -> None:
    for task in tasks:
        pool.native.cancel(task)


def by_dask(pool: pools.Pool, tasks: Sequence[Any]) -> None:
    pool.native.cancel(list(tasks))


def case(label: str, cancel: Cancel | None) -> measure.Case:
    def run(count: int) -> measure.Sample:
        with tempfile.TemporaryDirectory() as folder, pools.opened(label) as pool:
            done = Path(folder, "done")
            pool.results([pool.submit(work.same, number) for number in range(100)])
            busy = [pool.submit(work.wait_for, str(done)) for _ in range(pools.WORKERS)]
            try:
                return measured(pool, count, cancel, done)
            finally:
                done.touch()
                pool.results(busy)

    return run


def measured(pool: pools.Pool, count: int, cancel: Cancel | None, done: Path) -> measure.Sample:
    gc.collect()
    before, begin = resident_bytes(), perf_counter()
    tasks = [pool.submit(work.same, number) for number in range(count)]
    submitted = perf_counter() - begin
    sample = {"bytes/task": (resident_bytes() - before) / count, "us to submit": submitted / count * 1e6}
    if cancel is None:
        done.touch()
        pool.results(tasks)
        return sample
    begin = perf_counter()
    cancel(pool, tasks)
    sample[CANCEL] = (perf_counter() - begin) * 1e3
    begin = perf_counter()
    done.touch()
    if pool.result(pool.submit(work.same, "next")) != "next":
        raise RuntimeError("a wrong result")
    sample[NEXT] = (perf_counter() - begin) * 1e3
    return sample


#: Those who can be told to stop, and how; the others only know how to end the whole pool.
CANCELS: dict[str, Cancel | None] = {
    **dict.fromkeys(pools.POOLS, one_by_one),
    "multiprocessing.Pool / fork": None,
    "multiprocessing.Pool / spawn": None,
    "mpire / fork": None,
    "ray": by_ray,
    "dask": by_dask,
}

QUESTIONS = [
    measure.Question(
        name="process_queue",
        title="100,000 tasks in the queue of a pool",
        script=__file__,
        cases={label: case(label, cancel) for label, cancel in CANCELS.items()},
        units=("bytes/task", "us to submit", CANCEL, NEXT),
        size=100_000,
        sizes={"ray": 10_000, "dask": 2_000},
        quick_size=2_000,
        baseline=pools.STDLIB_EXECUTOR,
        note="Of ray 10,000 tasks, of dask 2,000. multiprocessing.Pool and mpire cannot cancel a task.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
