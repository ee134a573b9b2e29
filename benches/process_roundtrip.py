"""How long does one who asks a worker process for nothing wait for the answer?

Back to back both sides are awake. Every 5 ms they have gone to sleep in between, and the system may have slowed
the processor down: that is what a server sees that hands out a task now and then.
"""

from statistics import quantiles
from time import perf_counter, sleep

import measure
import pools
import processes
import work

PAUSE = 0.005


def case(label: str, pause: float) -> measure.Case:
    def run(trips: int) -> measure.Sample:
        times = []
        with pools.opened(label) as pool:
            for _ in range(trips // 10):
                pool.result(pool.submit(work.nothing))
            cpu = processes.cpu_seconds()
            for _ in range(trips):
                if pause:
                    sleep(pause)
                begin = perf_counter()
                pool.result(pool.submit(work.nothing))
                times.append(perf_counter() - begin)
            cpu = processes.cpu_seconds() - cpu
        percent = quantiles(times, n=100)
        return {"p50 us": percent[49] * 1e6, "p99 us": percent[98] * 1e6, "CPU us/task": cpu / trips * 1e6}

    return run


def question(name: str, when: str, pause: float, size: int, target: str = "") -> measure.Question:
    return measure.Question(
        name=name,
        title=f"One round trip to a worker process, {when}",
        script=__file__,
        cases={label: case(label, pause) for label in pools.POOLS},
        units=("p50 us", "p99 us", "CPU us/task"),
        size=size,
        sizes={"ray": min(500, size), "dask": 200},
        quick_size=50,
        target=target,
        bounds=(measure.Bound(1 / 2, pools.STDLIB_POOL),) if target else (),
        baseline=pools.STDLIB_POOL,
    )


QUESTIONS = [
    question("process_roundtrip", "back to back", 0, 3_000, "at most 1/2 of multiprocessing.Pool's"),
    question("process_roundtrip_paced", "every 5 ms", PAUSE, 500),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
