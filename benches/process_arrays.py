"""How fast does a NumPy array of 100 MB come to a worker and back, and how much memory does it take on the way?

As an argument, as a result, and as the argument of 100 tasks, of which a few are on their way at a time; there
also with what a peer has for data that many tasks use. Whoever gets the array reads something of each of its
pages. Time and memory are measured one after the other, for looking at memory takes time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import repeat
from multiprocessing.shared_memory import SharedMemory
from time import perf_counter
from typing import Any

import measure
import peers
import pools
import processes
import work

SIZE_BYTES = 100_000_000
TOTAL = len(range(0, SIZE_BYTES, work.PAGE))
SPEED, PEAK = "GB/s", "peak PSS MiB"
#: Tasks that run, or wait, at a time: two for each worker.
WINDOW = 2 * pools.WORKERS

Work = Callable[[Any], float]
#: Moves so many arrays through an open pool; gives the totals of all.
Move = Callable[[pools.Pool, int], Iterator[float]]


def array() -> Any:
    return work.ones(SIZE_BYTES)


def as_argument(pool: pools.Pool, times: int) -> Iterator[float]:
    for _ in range(times):
        yield pool.result(pool.submit(work.touch, array()))


def as_result(pool: pools.Pool, times: int) -> Iterator[float]:
    for _ in range(times):
        yield work.touch(pool.result(pool.submit(work.made, SIZE_BYTES)))


def windowed(pool: pools.Pool, function: Work, arguments: Iterable[Any]) -> Iterator[float]:
    """One task for each argument, never more than `WINDOW` at a time."""
    running: deque[Any] = deque()
    for argument in arguments:
        if len(running) == WINDOW:
            yield pool.result(running.popleft())
        running.append(pool.submit(function, argument))
    for handle in running:
        yield pool.result(handle)


def to_many(pool: pools.Pool, times: int) -> Iterator[float]:
    return windowed(pool, work.touch, repeat(array(), times))


def by_map(pool: pools.Pool, times: int) -> Iterator[float]:
    yield from pool.native.map(work.touch, repeat(array(), times), chunksize=1, buffersize=WINDOW)


def by_share(pool: pools.Pool, times: int) -> Iterator[float]:
    import thistledown as td

    with td.share(array()) as shared:
        yield from windowed(pool, work.touch, repeat(shared, times))


def by_put(pool: pools.Pool, times: int) -> Iterator[float]:
    return windowed(pool, work.touch, repeat(peers.load("ray").put(array()), times))


def by_scatter(pool: pools.Pool, times: int) -> Iterator[float]:
    return windowed(pool, work.touch, repeat(pool.native.scatter(array(), hash=False), times))


def by_shared_memory(pool: pools.Pool, times: int) -> Iterator[float]:
    """What the standard library has: a block with a name, into which the array is copied by hand."""
    with closing(SharedMemory(create=True, size=SIZE_BYTES)) as block:
        block.buf[:] = array().data
        yield from windowed(pool, work.touch_block, repeat(block.name, times))
        block.unlink()


def case(label: str, move: Move) -> measure.Case:
    def run(times: int) -> measure.Sample:
        with pools.opened(label) as pool:
            # NumPy is there, in all processes, before memory is looked at.
            pool.results([pool.submit(work.pause_with_numpy, 0.1) for _ in range(pools.WORKERS)])
            before = processes.memory_bytes(processes.tree())
            with processes.PeakMemory() as memory:
                move_checked(move, pool, min(times, 2 * WINDOW))
            begin = perf_counter()
            move_checked(move, pool, times)
            seconds = perf_counter() - begin
        speed = times * SIZE_BYTES / 1e9 / seconds
        return {"ms/array": seconds / times * 1e3, SPEED: speed, PEAK: (memory.peak_bytes - before) / 2**20}

    return run


def move_checked(move: Move, pool: pools.Pool, times: int) -> None:
    if list(move(pool, times)) != [TOTAL] * times:
        raise RuntimeError("a wrong result")


def question(way: str, title: str, cases: dict[str, measure.Case], size: int, **more: Any) -> measure.Question:
    return measure.Question(
        name=f"process_arrays_{way}",
        title=f"A NumPy array of 100 MB {title}",
        script=__file__,
        cases=cases,
        units=("ms/array", SPEED, PEAK),
        size=size,
        quick_size=2,
        baseline=pools.STDLIB_POOL,
        note="Memory is the most that all processes had above what they had before there was an array; "
        "one array is 95 MiB.",
        **more,
    )


#: By the pipe there are four a second: too slow for a hundred of them.
BY_PIPE = dict.fromkeys(("multiprocessing.Pool", "ProcessPoolExecutor", "loky", "pebble", "mpire"), 2 * WINDOW)

MANY: dict[str, measure.Case] = {
    "thistledown / map": case("thistledown", by_map),
    "thistledown / share": case("thistledown", by_share),
    **{label: case(label, to_many) for label in pools.POOLS},
    "multiprocessing.shared_memory": case(pools.STDLIB_POOL, by_shared_memory),
    "ray / put": case("ray", by_put),
    "dask / scatter": case("dask", by_scatter),
}

QUESTIONS = [
    question("argument", "as an argument", {label: case(label, as_argument) for label in pools.POOLS}, 2 * WINDOW),
    question("result", "as a result", {label: case(label, as_result) for label in pools.POOLS}, 2 * WINDOW),
    question(
        "tasks",
        "to 100 tasks",
        MANY,
        100,
        sizes={**BY_PIPE, "ray": 20, "dask": 8, "ray / put": 100, "dask / scatter": 100},
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
