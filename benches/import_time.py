"""How much longer does an interpreter take to start when it imports the package?

An interpreter that imports nothing runs before each one that does, and is taken off: the median of the differences.
The least CPU of each is what is left where others use the machine.
"""

import os
import subprocess
import sys
from statistics import median
from time import perf_counter

import measure
import peers

#: Without these there is no class of futures with types; ours are a part of it.
FLOOR = "concurrent.futures and typing"

IMPORTS: dict[str, str] = {
    "thistledown": "import thistledown",
    "thistledown / with a pool": "import thistledown; thistledown.Workers",
    FLOOR: "from concurrent.futures import Future; import typing",
    "asyncio": "import asyncio",
    "multiprocessing.Pool": "import multiprocessing.pool",
    "ProcessPoolExecutor": "from concurrent.futures import ProcessPoolExecutor",
    **{peer: f"import {peer}" for peer in ("loky", "pebble", "mpire", "trio", "gevent", "ray")},
    "dask": "import distributed",
}


def run_interpreter(*words: str) -> tuple[float, float]:
    """Seconds, and seconds of CPU."""
    begin = perf_counter()
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"python {' '.join(words)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime


def modules(statement: str) -> int:
    words = [sys.executable, "-X", "importtime", "-c", statement]
    done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=True)
    return sum(line.startswith("import time:") for line in done.stderr.splitlines())


def case(statement: str) -> measure.Case:
    def run(times: int) -> measure.Sample:
        run_interpreter("-c", statement)
        count = modules(statement) - modules("pass")
        pairs = [(run_interpreter("-c", "pass"), run_interpreter("-c", statement)) for _ in range(times)]
        least, least_bare = min(with_it[1] for _, with_it in pairs), min(bare[1] for bare, _ in pairs)
        return {
            "ms": median(with_it[0] - bare[0] for bare, with_it in pairs) * 1e3,
            "CPU ms": median(with_it[1] - bare[1] for bare, with_it in pairs) * 1e3,
            "least CPU ms": (least - least_bare) * 1e3,
            "modules": count,
        }

    return run


QUESTIONS = [
    measure.Question(
        name="import_time",
        title="Import, over an interpreter that imports nothing",
        script=__file__,
        cases={label: case(statement) for label, statement in IMPORTS.items()},
        units=("ms", "CPU ms", "least CPU ms", "modules"),
        size=30,
        sizes={"ray": 5, "dask": 5},
        quick_size=2,
        target="at most 20 ms",
        bounds=(measure.Bound(20.0, cases=frozenset({peers.OURS})),),
        baseline=FLOOR,
        note="`with a pool`: what a program imports that starts worker processes.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
