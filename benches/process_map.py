"""What does an item cost in a map over many small ones, which go to the workers in batches?

Where a peer leaves the size of the batches to its caller they are as large as multiprocessing.Pool makes them:
four for each worker, so that little is left to do but to pickle.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import measure
import pools
import processes
import work

CPU = "CPU ns/item"
OF_POOLS_SIZE = "thistledown / batches as large as Pool's"

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]


def sample(map: Map, items: int) -> measure.Sample:
    numbers = range(items)
    map(work.same, range(items // 10))
    cpu, begin = processes.cpu_seconds(), perf_counter()
    results = map(work.same, numbers)
    seconds = perf_counter() - begin
    cpu = processes.cpu_seconds() - cpu
    if results != list(numbers):
        raise RuntimeError("the results are not those of the items")
    return {"ns/item": seconds / items * 1e9, "items/s": items / seconds, CPU: cpu / items * 1e9}


def case(label: str) -> measure.Case:
    def run(items: int) -> measure.Sample:
        with pools.opened(label) as pool:
            return sample(pool.map, items)

    return run


def of_pools_size(items: int) -> measure.Sample:
    import thistledown as td

    def map(function: Callable[[Any], Any], numbers: Sequence[Any]) -> list[Any]:
        return list(workers.map(function, numbers, chunksize=pools.batch(numbers)))

    with td.Workers(pools.WORKERS) as workers:
        return sample(map, items)


QUESTIONS = [
    measure.Question(
        name="process_map",
        title="A map over small items, in batches",
        script=__file__,
        cases={OF_POOLS_SIZE: of_pools_size, **{label: case(label) for label in pools.POOLS}},
        units=("ns/item", "items/s", CPU),
        size=500_000,
        sizes={"ray": 100_000, "dask": 1_000, "mpire": 100_000},
        quick_size=2_000,
        target="as fast as multiprocessing.Pool's",
        bounds=(measure.Bound(1.0, pools.STDLIB_POOL),),
        baseline=pools.STDLIB_POOL,
        note="`thistledown` finds the size of its batches by itself, while it works.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
