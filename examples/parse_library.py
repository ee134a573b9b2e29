"""Which kinds of nodes are Python programs made of? Parses every file of the standard library, on all cores.

    python examples/parse_library.py

A job with real input meets bad input, and has to come to its end all the same. Here one file crashes the process that
reads it, as a bug in a C extension would, and another never ends. Both are started like all others, with a limit of
time; what becomes of them is an outcome like any other, and the table at the end names them.

What is to be seen here: a task for each file, `options(timeout=)`, `td.as_completed` with its progress bar, and errors
taken one by one. Neither a main guard nor a module of its own is needed for what the workers run.

Source: none; a first job for who comes from `concurrent.futures`.
"""

import argparse
import ast
import ctypes
import faulthandler
import sys
import sysconfig
import time
import warnings
from collections import Counter
from pathlib import Path

import thistledown as td

#: The two that are made to fail. They stand for input that nobody has foreseen.
CRASHES, NEVER_ENDS = "antigravity.py", "sched.py"
COMMONEST = 10


def count_nodes(path: Path) -> tuple[Counter[str], float]:
    """How many nodes of each type a file has, and the seconds of processor time that it took. Runs in a worker."""
    begin = time.process_time()
    if path.name == CRASHES:
        faulthandler.disable()  # its traceback would stand in the middle of the progress bar
        ctypes.string_at(0)
    while path.name == NEVER_ENDS:
        pass
    tree = ast.parse(path.read_bytes())
    counts = Counter(type(node).__name__ for node in ast.walk(tree))
    return counts, time.process_time() - begin


def files_of_the_library(library: Path, at_most: int | None) -> list[Path]:
    """The Python files below a folder, without what was installed; if fewer are wanted, some from all over."""
    files = sorted(path for path in library.rglob("*.py") if "site-packages" not in path.parts)
    if at_most is None or at_most >= len(files):
        return files
    some = set(files[:: -(-len(files) // at_most)])
    return [path for path in files if path in some or path.name in (CRASHES, NEVER_ENDS)]


def parse_all(files: list[Path], seconds: float) -> tuple[Counter[str], float, dict[Path, Exception]]:
    """Counts the nodes of all files, on all cores.

    Args:
        files: each is a task.
        seconds: that a file may take.

    Returns:
        The counts, the seconds of processor time that they took, and the files that have none, with the reason.
    """
    counts: Counter[str] = Counter()
    busy = 0.0
    failures: dict[Path, Exception] = {}
    with td.Workers() as pool:
        careful = pool.options(timeout=seconds)
        tasks = {careful.go(count_nodes, path): path for path in files}
        for task in td.as_completed(tasks, progress=True):
            try:
                counts_of_file, busy_with_file = task.result()
            except Exception as error:  # whatever it is, it is this file's alone
                failures[tasks[task]] = error
            else:
                counts += counts_of_file
                busy += busy_with_file
    return counts, busy, failures


def show_counts(counts: Counter[str]) -> None:
    total = counts.total()
    print(f"\nThe {COMMONEST} commonest of {total:,} nodes:\n")
    for place, (name, count) in enumerate(counts.most_common(COMMONEST), 1):
        print(f"  {place:>2}. {name:<12} {count:>9,} {100 * count / total:>5.1f} %  {'#' * (150 * count // total)}")


def show_failures(failures: dict[Path, Exception], library: Path) -> None:
    old = [path for path, error in failures.items() if isinstance(error, SyntaxError)]
    print("\nNot counted, and why:\n")
    for path, error in sorted(failures.items()):
        if path not in old:
            # A death has its cause in few words; the rest of its text says which process, and what it wrote last.
            why = error.cause if isinstance(error, td.WorkerDied) else error
            print(f"  {path.relative_to(library)}\n      {type(error).__name__}: {why}")
    if old:
        print(f"  and {len(old)} that are no Python of today, most of them on purpose\n      SyntaxError")


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts the kinds of nodes in Python's standard library.")
    parser.add_argument("--library", type=Path, default=Path(sysconfig.get_path("stdlib")), help="another folder")
    parser.add_argument("--files", type=int, help="parse only about so many (default: all)")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds that a file may take (default: 3)")
    words = parser.parse_args()
    if words.files is not None and words.files < 1:
        parser.error("--files is at least 1")
    if not words.timeout > 0:
        parser.error("--timeout is more than 0 seconds")
    library = words.library.resolve()
    files = files_of_the_library(library, words.files)
    if not files:
        sys.exit(f"there are no Python files in {library}")

    # Some files warn of their own strings when they are parsed. Workers warn of what their parent warns of.
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    counts, busy, failures = parse_all(files, words.timeout)
    took = time.perf_counter() - begin

    show_counts(counts)
    show_failures(failures, library)
    print(f"\n{len(files) - len(failures):,} of {len(files):,} files in {took:.1f} s: {busy:.1f} s of parsing.")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
