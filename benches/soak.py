"""Everything at once for a long time, with faults: does anything grow that should not? `make soak`.

    python benches/soak.py                       # twenty minutes
    python benches/soak.py --seconds 120 --only pool,sockets

A round runs every load of `soak_loads.py` in a thread of its own, for some seconds: tasks that crash, are killed, run
out of time or memory, and are cancelled; pools, servers, channels, actors and spaces that come and go. Each load checks
what it gets: a result that is wrong, or an error that is not the one that was provoked, ends the soak. Then all of it
rests, and what the process and its descendants have is looked at.

The first quarter of the looks is for warming up. The last quarter must not show more than the second: no more threads,
descriptors or processes, and no more memory than some percents above it. `malloc` has one arena here, and gives back
what it keeps for later before each look: with one for each thread it never does, which says nothing about who holds
what. In the end everything is closed, and nothing may be left.
"""

import argparse
import ctypes
import faulthandler
import gc
import os
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median

import processes
import soak_loads
from soak_loads import LOADS, Load

#: Between two runs of a load, so that the quick ones leave something to the others, and some ports to the system.
PAUSE_SECONDS = 0.05
#: A round that is over by so much hangs.
PATIENCE_SECONDS = 180.0
SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Look:
    """What there is at rest. The unit of memory is MiB."""

    memory: float
    allocated: float
    python_blocks: int
    descriptors: int
    threads: int
    processes: int
    memory_of_processes: float
    descriptors_of_processes: int


#: Descriptors that come and go.
SPARE_DESCRIPTORS = 3

#: How much more the last quarter may have than the second: in percent, and in units. A leak of one a round is more.
ALLOWED = {
    "memory": (5.0, 4.0),
    "allocated": (3.0, 1.0),
    "python_blocks": (2.0, 2000.0),
    # One more process at rest has six of them here.
    "descriptors": (0.0, 6.0 + SPARE_DESCRIPTORS),
    "threads": (0.0, 3.0),
    "processes": (0.0, 1.0),
    "memory_of_processes": (10.0, 16.0),
    "descriptors_of_processes": (0.0, 12.0),
}


#: What goes up and down by itself, and is looked at in the middle instead of at its highest. How much the processes
#: have depends on how many of them there are in that moment, so the most of it counts.
BY_ITSELF = {"memory", "allocated", "python_blocks"}


def count(path: str) -> int:
    try:
        return len(os.listdir(path))
    except OSError:  # it has just ended
        return 0


class Malloc(ctypes.Structure):
    """`struct mallinfo2` of the GNU C library."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    )


C = ctypes.CDLL(None)
C.mallinfo2.restype = Malloc


def allocated_bytes() -> int:
    """What somebody holds, of Rust's and C's; Python keeps its small objects elsewhere."""
    known = C.mallinfo2()
    return int(known.uordblks + known.hblkhd)


def look() -> Look:
    others = processes.tree()[1:]
    return Look(
        memory=processes.memory_bytes([os.getpid()]) / 2**20,
        allocated=allocated_bytes() / 2**20,
        python_blocks=sys.getallocatedblocks(),
        descriptors=count("/proc/self/fd"),
        threads=count("/proc/self/task"),
        processes=len(others),
        memory_of_processes=processes.memory_bytes(others) / 2**20,
        descriptors_of_processes=sum(count(f"/proc/{pid}/fd") for pid in others),
    )


def look_at_rest() -> Look:
    """Looks when two looks in a row have counted the same: what has just ended takes a moment to be gone."""
    gc.collect()
    C.malloc_trim(0)
    deadline = time.monotonic() + SETTLE_SECONDS
    last = look()
    while True:
        time.sleep(0.2)
        this = look()
        if (this.descriptors, this.threads, this.processes) == (
            last.descriptors,
            last.threads,
            last.processes,
        ) or time.monotonic() > deadline:
            return this
        last = this


class Round:
    """All loads, each in a thread, until a moment."""

    def __init__(self, loads: dict[str, Load], seconds: float, done: Counter[str]) -> None:
        self.failures: list[str] = []
        self._seconds = seconds
        self._done = done
        end = time.monotonic() + seconds
        self._threads = [
            threading.Thread(target=self._run, args=(name, load, end), name=name, daemon=True)
            for name, load in loads.items()
        ]

    def run(self) -> None:
        for thread in self._threads:
            thread.start()
        patience = time.monotonic() + self._seconds + PATIENCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, patience - time.monotonic()))
            if thread.is_alive():
                faulthandler.dump_traceback(all_threads=True)
                print(soak_loads.td.tree(), file=sys.stderr)
                self.failures.append(f"{thread.name} hangs; above is where")

    def _run(self, name: str, load: Load, end: float) -> None:
        try:
            while time.monotonic() < end and not self.failures:
                self._done[name] += load()
                time.sleep(PAUSE_SECONDS)
        except BaseException:
            self.failures.append(f"{name}:\n{traceback.format_exc()}")


def verdicts(looks: list[Look]) -> tuple[list[str], bool]:
    """The table, and whether all of it is flat."""
    quarter = len(looks) // 4
    early, late = looks[quarter : 2 * quarter], looks[-quarter:]
    lines = [f"{'':26}{'at first':>10}{'2nd quarter':>13}{'last quarter':>14}{'allowed':>10}"]
    is_flat = True
    for field in fields(Look):
        values = [[getattr(one, field.name) for one in part] for part in (early, late)]
        before, after = map(median if field.name in BY_ITSELF else max, values)
        percent, units = ALLOWED[field.name]
        limit = before + max(before * percent / 100, units)
        is_flat = is_flat and after <= limit
        word = "" if after <= limit else "  GROWS"
        first = getattr(looks[0], field.name)
        name = field.name.replace("_", " ") + (", MiB" if field.type is float else "")
        lines.append(f"{name:26}{first:10.6g}{before:13.6g}{after:14.6g}{limit:10.6g}{word}")
    return lines, is_flat


def left_behind(descriptors: int) -> list[str]:
    """What there still is when everything is closed."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        left = [f"process {pid}" for pid in processes.tree()[1:]]
        if (more := count("/proc/self/fd") - descriptors) > SPARE_DESCRIPTORS:
            left += [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()][-more:]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200.0, help="how long (default: 1200)")
    parser.add_argument("--round", type=float, default=10.0, help="seconds of a round (default: 10)")
    parser.add_argument("--only", type=lambda names: names.split(","), default=list(LOADS), help="these loads, a,b,c")
    return parser.parse_args()


def main() -> int:
    words = arguments()
    if os.environ.get("MALLOC_ARENA_MAX") != "1":
        os.environ["MALLOC_ARENA_MAX"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    if unknown := set(words.only) - LOADS.keys():
        sys.exit(f"no load is called {', '.join(unknown)}; there are: {', '.join(LOADS)}")
    loads = {name: LOADS[name] for name in words.only}
    faulthandler.enable()
    descriptors = count("/proc/self/fd")
    done: Counter[str] = Counter()
    looks: list[Look] = []
    end = time.monotonic() + words.seconds
    while time.monotonic() < end or len(looks) < 8:
        round = Round(loads, words.round, done)
        round.run()
        if round.failures:
            print("\n".join(round.failures), file=sys.stderr, flush=True)
            os._exit(1)  # whoever hangs may hold up any other way to end
        looks.append(look_at_rest())
        now = "  ".join(f"{value:.6g}" for value in astuple(looks[-1]))
        print(f"{len(looks):4} rounds, {sum(done.values()):,} done: {now}", flush=True)
    lines, is_flat = verdicts(looks)
    print("\n" + "\n".join(lines) + "\n")
    print("done: " + ", ".join(f"{name} {number:,}" for name, number in sorted(done.items())))
    soak_loads.close()
    gc.collect()
    left = left_behind(descriptors)
    print("left behind: " + (", ".join(left) or "nothing"))
    return 0 if is_flat and not left else 1


if __name__ == "__main__":
    sys.exit(main())
