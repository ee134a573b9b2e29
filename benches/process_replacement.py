"""How long does a pool of one take, when its worker is killed in the midst of a task, to have done the next one?

The next task waits in the queue, and what it gives is the process that it ran in. A pool that breaks is replaced by
a new one, as its user has to do. Beside it: what it takes to start a process at all, until it has said something.
"""

import multiprocessing
import os
import signal
import tempfile
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter, sleep

import measure
import pools
import work

FORKSERVER = "multiprocessing.Process / forkserver"


def kill_the_busy(pool: pools.Pool, path: Path) -> tuple[object, float]:
    """Kills the worker while it runs a task; gives the task behind it, and the moment of the kill."""
    pool.submit(work.tell_and_stay, str(path))
    while not path.exists():
        sleep(0.001)
    following = pool.submit(os.getpid)
    killed = int(path.read_text())
    begin = perf_counter()
    os.kill(killed, signal.SIGKILL)
    return following, begin


def in_pool(label: str) -> measure.Case:
    def run(kills: int) -> measure.Sample:
        times = []
        with tempfile.TemporaryDirectory() as folder, pools.opened(label, workers=1) as pool:
            for number in range(kills):
                following, begin = kill_the_busy(pool, Path(folder, str(number)))
                pool.result(following)
                times.append(perf_counter() - begin)
        return sample(times)

    return run


def with_a_new_pool(label: str) -> measure.Case:
    def run(kills: int) -> measure.Sample:
        times = []
        with tempfile.TemporaryDirectory() as folder:
            for number in range(kills):
                with pools.opened(label, workers=1) as pool:
                    following, begin = kill_the_busy(pool, Path(folder, str(number)))
                    with suppress(BrokenExecutor):
                        pool.result(following)
                        raise RuntimeError("the pool was to be broken")
                with pools.POOLS[label](1) as pool:
                    pool.result(pool.submit(os.getpid))
                    times.append(perf_counter() - begin)
        return sample(times)

    return run


def process(method: str) -> measure.Case:
    def run(starts: int) -> measure.Sample:
        pools.hide_main()
        context = multiprocessing.get_context(method)
        times = []
        for _ in range(1 + starts):
            receiver, sender = context.Pipe(duplex=False)
            begin = perf_counter()
            process = context.Process(target=work.tell, args=(sender,))
            process.start()
            receiver.recv()
            times.append(perf_counter() - begin)
            process.join()
        # The first one started the fork server.
        return sample(times[1:])

    return run


def sample(times: list[float]) -> measure.Sample:
    return {"ms": median(times) * 1e3, "p90 ms": quantiles(times, n=10)[8] * 1e3}


NEW = "ProcessPoolExecutor / fork", "ProcessPoolExecutor / forkserver", "loky"

QUESTIONS = [
    measure.Question(
        name="process_replacement",
        title="A worker process is killed: until the next task has run",
        script=__file__,
        cases={
            **{label: in_pool(label) for label in ("thistledown", pools.STDLIB_POOL, "pebble / fork")},
            **{f"{label}, a new pool": with_a_new_pool(label) for label in NEW},
            **{f"multiprocessing.Process / {how}": process(how) for how in ("fork", "forkserver", "spawn")},
        },
        units=("ms", "p90 ms"),
        size=20,
        quick_size=3,
        target="less than a process from a fork server takes",
        bounds=(measure.Bound(1.0, FORKSERVER),),
        baseline=FORKSERVER,
        note="ProcessPoolExecutor and loky break, and a new pool is made. mpire, ray and dask are not asked: "
        "they hang, or run the task again.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
