"""How much faster are two worker processes than none, when all they do is compute?

64 times fib(27), one task each; the same in a loop right before, in the same process. CPU beside that of the loop
shows what the pool adds, also where others use the machine: time then says more about them.
"""

from collections.abc import Callable
from time import perf_counter

import measure
import pools
import processes
import work

SPEED_UP, CPU = "speed-up", "CPU of the loop's"
N, EXPECTED = 27, 196_418


def taken(compute: Callable[[], list[int]]) -> tuple[float, float]:
    """Seconds, and seconds of CPU of all processes."""
    cpu, begin = processes.cpu_seconds(), perf_counter()
    results = compute()
    seconds = perf_counter() - begin
    if set(results) != {EXPECTED}:
        raise RuntimeError("a wrong result")
    return seconds, processes.cpu_seconds() - cpu


def case(label: str) -> measure.Case:
    def run(tasks: int) -> measure.Sample:
        with pools.opened(label) as pool:
            alone, alone_cpu = taken(lambda: [work.fib(N) for _ in range(tasks)])
            seconds, cpu = taken(lambda: pool.results([pool.submit(work.fib, N) for _ in range(tasks)]))
        return {"time of the loop's": seconds / alone, SPEED_UP: alone / seconds, CPU: cpu / alone_cpu}

    return run


QUESTIONS = [
    measure.Question(
        name="process_fib",
        title="fib(27), 64 times, in 2 worker processes",
        script=__file__,
        cases={label: case(label) for label in pools.POOLS},
        units=("time of the loop's", SPEED_UP, CPU),
        size=64,
        quick_size=4,
        target="1.9 times as fast as a loop, on two cores that nobody else uses",
        bounds=(measure.Bound(unit=SPEED_UP, at_least=1.9), measure.Bound(1.0, measure.BEST)),
        baseline=pools.STDLIB_POOL,
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
