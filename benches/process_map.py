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
#: What is mapped over: a sequence for each argument of the function.
Columns = tuple[Sequence[Any], ...]


def sample(map: Map, items: int) -> measure.Sample:
    return sample_of(map, work.same, (range(items // 10),), (range(items),))


def sample_of(
    map: Callable[..., list[Any]], function: Callable[..., Any], few: Columns, all: Columns
) -> measure.Sample:
    """What an item costs in the second map. The function gives its first argument."""
    map(function, *few)
    cpu, begin = processes.cpu_seconds(), perf_counter()
    results = map(function, *all)
    seconds = perf_counter() - begin
    cpu = processes.cpu_seconds() - cpu
    items = len(all[0])
    if results != list(all[0]):
        raise RuntimeError("the results are not those of the items")
    return {"ns/item": seconds / items * 1e9, "items/s": items / seconds, CPU: cpu / items * 1e9}


def case(label: str) -> measure.Case:
    def run(items: int) -> measure.Sample:
        with pools.opened(label) as pool:
            return sample(pool.map, items)

    return run


def sized(workers: Any) -> Callable[..., list[Any]]:
    return lambda function, *columns: list(workers.map(function, *columns, chunksize=pools.batch(columns[0])))


def of_pools_size(items: int) -> measure.Sample:
    with pools.opened("thistledown") as pool:
        return sample(sized(pool.native), items)


def lists(items: int) -> Columns:
    return (list(range(items)),)


def pairs(items: int) -> Columns:
    return list(range(items)), list(range(items))


def texts(items: int) -> Columns:
    return ([f"{number:0100}" for number in range(items)],)


def beside_pool(make: Callable[[int], Columns]) -> dict[str, measure.Case]:
    """Ours, with its own batches and with Pool's, and Pool."""

    def function(columns: Columns) -> Callable[..., Any]:
        return work.same if len(columns) == 1 else work.first

    def measured(map: Callable[..., list[Any]], items: int) -> measure.Sample:
        few, all = make(items // 10), make(items)
        return sample_of(map, function(all), few, all)

    def of_own_size(items: int) -> measure.Sample:
        with pools.opened("thistledown") as pool:
            return measured(lambda function, *columns: list(pool.native.map(function, *columns)), items)

    def of_pools_size(items: int) -> measure.Sample:
        with pools.opened("thistledown") as pool:
            return measured(sized(pool.native), items)

    def pool_itself(items: int) -> measure.Sample:
        def map(function: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
            if len(columns) == 1:
                results: list[Any] = pool.native.map(function, columns[0])
            else:
                results = pool.native.starmap(function, zip(*columns, strict=True))
            return results

        with pools.opened(pools.STDLIB_POOL) as pool:
            return measured(map, items)

    return {"thistledown": of_own_size, OF_POOLS_SIZE: of_pools_size, pools.STDLIB_POOL: pool_itself}


def question_beside_pool(name: str, title: str, make: Callable[[int], Columns]) -> measure.Question:
    return measure.Question(
        name=name,
        title=title,
        script=__file__,
        cases=beside_pool(make),
        units=("ns/item", "items/s", CPU),
        size=500_000,
        quick_size=2_000,
        target="as fast as multiprocessing.Pool's, at no more CPU",
        bounds=(measure.Bound(1.0, pools.STDLIB_POOL), measure.Bound(1.0, pools.STDLIB_POOL, unit=CPU)),
        baseline=pools.STDLIB_POOL,
    )


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
        target="as fast as multiprocessing.Pool's, at no more CPU",
        bounds=(measure.Bound(1.0, pools.STDLIB_POOL), measure.Bound(1.0, pools.STDLIB_POOL, unit=CPU)),
        baseline=pools.STDLIB_POOL,
        note="`thistledown` finds the size of its batches by itself, while it works. Parts of a range go as ranges.",
    ),
    question_beside_pool("process_map_list", "A map over a list of numbers", lists),
    question_beside_pool("process_map_pairs", "A map over two lists, beside `starmap`", pairs),
    question_beside_pool("process_map_texts", "A map over texts of 100 characters", texts),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
