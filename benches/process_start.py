"""How long does a program take, from the start of its interpreter to its first result from a worker process?

Each peer has a script, as its users would write it: a function of its own, a guard where one is needed, a pool of
two, one call. Then the script waits, and its processes are counted and their memory is measured, before it ends.
A function of the script itself is the harder case for who starts clean and asks for no guard: it travels by value.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import measure
import processes

FUNCTION = "def add_one(x):\n    return x + 1\n"
FIRST, CPU, WHOLE = "ms to first result", "CPU ms", "ms whole script"


class Script(NamedTuple):
    """What differs between the scripts: an import, an expression for the pool, and one for the result."""

    imports: str
    pool: str
    result: str
    is_guarded: bool = True
    function: str = FUNCTION


STDLIB = "import multiprocessing"
FUTURES = "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor"
DASK_POOL = "Client(n_workers=2, threads_per_worker=1, dashboard_address=None)"
RAY_POOL = 'ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")'
OURS = Script("import thistledown as td", "td.Workers(2)", "pool.go(add_one, 1).result()", is_guarded=False)


def stdlib_pool(method: str) -> Script:
    return Script(STDLIB, f'multiprocessing.get_context("{method}").Pool(2)', "pool.apply(add_one, (1,))")


def stdlib_executor(method: str) -> Script:
    pool = f'ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}"))'
    return Script(FUTURES, pool, "pool.submit(add_one, 1).result()")


def pebble(method: str) -> Script:
    pool = f'ProcessPool(max_workers=2, context=multiprocessing.get_context("{method}"))'
    return Script(f"{STDLIB}\nfrom pebble import ProcessPool", pool, "pool.schedule(add_one, args=(1,)).result()")


SCRIPTS: dict[str, Script] = {
    "thistledown": OURS,
    "thistledown / function of a module": OURS._replace(function="from adding import add_one\n"),
    **{f"multiprocessing.Pool / {how}": stdlib_pool(how) for how in ("fork", "spawn", "forkserver")},
    **{f"ProcessPoolExecutor / {how}": stdlib_executor(how) for how in ("fork", "spawn", "forkserver")},
    "loky": Script(
        "import loky", "loky.get_reusable_executor(2)", "pool.submit(add_one, 1).result()", is_guarded=False
    ),
    **{f"pebble / {how}": pebble(how) for how in ("fork", "spawn")},
    "mpire / fork": Script("from mpire import WorkerPool", "WorkerPool(n_jobs=2)", "pool.apply(add_one, (1,))"),
    "ray": Script("import ray", RAY_POOL, "ray.get(ray.remote(add_one).remote(1))", is_guarded=False),
    "dask": Script("from distributed import Client", DASK_POOL, "pool.submit(add_one, 1).result()"),
}


def text(script: Script) -> str:
    body = f"with {script.pool} as pool:\n    print({script.result}, flush=True)\n    input()\n"
    if script.is_guarded:
        body = 'if __name__ == "__main__":\n' + "".join(f"    {line}\n" for line in body.splitlines())
    return f"{script.imports}\n\n\n{script.function}\n\n{body}"


def case(label: str) -> measure.Case:
    def run(times: int) -> measure.Sample:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "script.py")
            Path(folder, "adding.py").write_text(FUNCTION)
            path.write_text(text(SCRIPTS[label]))
            # The first time is for the files that the system has to read.
            samples = [run_script(path) for _ in range(1 + times)][1:]
        return {unit: median(sample[unit] for sample in samples) for unit in samples[0]}

    return run


def run_script(path: Path) -> dict[str, float]:
    begin = perf_counter()
    process = subprocess.Popen([sys.executable, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    line = process.stdout.readline()
    first = perf_counter() - begin
    if line != "2\n":
        process.kill()
        raise SystemExit(f"the script printed {line!r}")
    members = processes.tree(process.pid)
    cpu = processes.cpu_seconds_of(members)
    memory = processes.memory_bytes(members)
    begin = perf_counter()
    process.communicate("\n")
    whole = first + perf_counter() - begin
    return {
        FIRST: first * 1e3,
        CPU: cpu * 1e3,
        WHOLE: whole * 1e3,
        "processes": len(members),
        "PSS MiB": memory / 2**20,
    }


QUESTIONS = [
    measure.Question(
        name="process_start",
        title="First result of a worker process, from a fresh interpreter",
        script=__file__,
        cases={label: case(label) for label in SCRIPTS},
        units=(FIRST, CPU, WHOLE, "processes", "PSS MiB"),
        size=3,
        sizes={"ray": 1, "dask": 1},
        quick_size=1,
        target="as fast as the peers that start from a fork server, and so from a clean process",
        bounds=(
            measure.Bound(1.0, "multiprocessing.Pool / forkserver"),
            measure.Bound(1.0, "ProcessPoolExecutor / forkserver"),
        ),
        baseline="ProcessPoolExecutor / forkserver",
        note="CPU is that of all processes until then. Pools that start their workers when they are needed have one "
        "process fewer.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
