"""What share of a task's instructions is there for whoever might look at the program, while nobody does?

What is counted is what the program itself executes for one task more, from `td.go` to its result, in a process that is
not watched: by callgrind, of valgrind, so that the answer is a count, and the same on each machine. Of these
instructions those stand for whoever might look that come from a line of `BOOKKEEPING`, also where the compiler has put
them into other functions. Interpreter and library are in the whole, as they are in a program.

An atomic addition is one instruction, and takes as long as some twenty; so these are told too.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parent.parent

#: What is there for `td.statistics`, `td.tree` and `thistledown top`, by file; an empty pattern is each line of it.
BOOKKEEPING = {
    "crates/python/src/tally.rs": "",
    "crates/python/src/actor/census.rs": "",
    "crates/kernel/src/kernel.rs": r"self\.(spawned|ended) \+= 1",
    "crates/kernel/src/waits.rs": r"party\.since = ",
    "crates/workers/src/hall/replies.rs": r"self\.spans\.are_wanted",
    "crates/workers/src/view.rs": r"self\.until",
    "crates/workers/src/policy/calls.rs": r"actor\.ended \+= 1",
}

PROGRAM = """
import sys
import thistledown as td

kind, count = sys.argv[1], int(sys.argv[2])

class Account:
    def deposit(self):
        pass

async def nothing():
    pass

async def main():
    if kind == "weightless":
        for _ in range(count):
            await td.go(nothing)
    elif kind == "actor":
        account = td.here.actor(Account)
        for _ in range(count):
            await account.deposit()
    else:
        with td.Workers(1) as pool:
            for _ in range(count):
                await pool.go(abs, -1)

td.run(main)
"""

UNITS = ("% of instructions", "bookkeeping", "atomic additions", "all instructions")

Counted = tuple[int, Counter[int]]


def counted(kind: str, count: int, folder: Path) -> Counted:
    """The instructions of the whole program, and how often each one of the engine was executed, by its address."""
    out = folder / f"{kind}-{count}"
    command = ["valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no", "--compress-strings=no"]
    command += [f"--callgrind-out-file={out}", sys.executable, "-c", PROGRAM, kind, str(count)]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return parsed(out)


def parsed(out: Path) -> Counted:
    """Source of the format: https://valgrind.org/docs/manual/cl-format.html"""
    whole, engine = 0, Counter[int]()
    is_engine = is_call = False
    with out.open() as lines:
        for line in lines:
            if line.startswith("ob="):
                is_engine = "thistledown/_core" in line
            elif line.startswith("calls="):
                is_call = True
            elif line.startswith("0x"):
                # Behind a call stands what it cost in all, which is counted where it was spent.
                if not is_call:
                    address, _, cost = line.split()[:3]
                    whole += int(cost)
                    if is_engine:
                        engine[int(address, 16)] += int(cost)
                is_call = False
    return whole, engine


def bookkeeping_lines() -> set[tuple[str, int]]:
    lines = set()
    for name, pattern in BOOKKEEPING.items():
        found = [n for n, text in enumerate((ROOT / name).read_text().splitlines(), 1) if re.search(pattern, text)]
        if not found:
            raise SystemExit(f"there is no {pattern} in {name} any more")
        lines |= {(name, number) for number in found}
    return lines


def marked(library: Path, addresses: list[int]) -> set[int]:
    """Those of the addresses that come from such a line, in whichever function they are."""
    wanted = bookkeeping_lines()
    asked = "".join(f"{address:#x}\n" for address in addresses)
    command = ["addr2line", "-a", "-i", "-e", str(library)]
    told = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
    address, found = 0, set()
    for line in told.splitlines():
        if line.startswith("0x"):
            address = int(line, 16)
        elif (place := re.search(r"(crates/\S+):(\d+)", line)) and (place[1], int(place[2])) in wanted:
            found.add(address)
    return found


def atomic(library: Path, addresses: set[int]) -> set[int]:
    """Those of them that lock the memory that they change."""
    found = set()
    for address in addresses:
        bounds = [f"--start-address={address:#x}", f"--stop-address={address + 1:#x}"]
        told = subprocess.run(["objdump", "-d", *bounds, library], capture_output=True, text=True, check=True).stdout
        if re.search(r"\block\b", told):
            found.add(address)
    return found


def share(kind: str) -> measure.Case:
    def run(count: int) -> measure.Sample:
        for tool in ("valgrind", "addr2line", "objdump"):
            if shutil.which(tool) is None:
                raise SystemExit(f"{tool} is not installed")
        from thistledown import _core

        library = Path(_core.__file__)
        with tempfile.TemporaryDirectory() as folder:
            few, many = (counted(kind, size, Path(folder)) for size in (count, 2 * count))
        # What a program costs once is in both.
        engine = {address: times - few[1][address] for address, times in many[1].items()}
        kept = marked(library, [address for address, times in engine.items() if times])
        locks = atomic(library, kept)
        whole, mine = many[0] - few[0], sum(engine[address] for address in kept)
        additions = sum(engine[address] for address in locks)
        return dict(zip(UNITS, (100 * mine / whole, mine / count, additions / count, whole / count), strict=True))

    return run


QUESTIONS = [
    measure.Question(
        name="unwatched",
        title="What a task pays for being looked at, while nobody looks",
        script=__file__,
        cases={f"thistledown / {kind}": share(kind) for kind in ("weightless", "actor", "worker")},
        units=UNITS,
        size=2_000,
        quick_size=200,
        target="below 1 % of the instructions of the program for one task more",
        bounds=(measure.Bound(1.0),),
        baseline="thistledown / weightless",
        note="Counted by callgrind, in the program's process; one round is enough.",
        timeout=300.0,
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
