"""Asks the questions, side by side with the peers, and keeps the answers.

    python benches/run.py --write                  # everything, five rounds: about two hours
    python benches/run.py switch server --rounds 9
    python benches/run.py --quick                  # does it all work? Minutes; the numbers mean nothing

A name is a question, or the beginning of some (`switch` is `switch-2` and `switch-1000`).
With `--write` what was asked is written to benches/RESULTS.md, where the answers to the other questions stay as they
are; `--output` names another file. With `--quick` nothing is written, unless `--output` says where.
"""

import argparse
import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import measure
import report
from server_process import LOAD

HERE = Path(__file__).resolve().parent
MODULES = (
    *("switch", "spawn", "channel", "memory", "timers", "server", "idle", "syscalls", "in_asyncio"),
    *("process_tasks", "process_roundtrip", "process_start", "process_map", "process_fib", "process_arrays"),
    *(
        "process_queue",
        "process_replacement",
        "import_time",
        "server_beside",
        "space",
        "actors_here",
        "actors",
        "messages",
        "unwatched",
    ),
)


def all_questions() -> list[measure.Question]:
    return [question for name in MODULES for question in importlib.import_module(name).QUESTIONS]


def chosen(names: list[str], questions: list[measure.Question]) -> list[measure.Question]:
    for name in names:
        if not any(question.name.startswith(name) for question in questions):
            sys.exit(f"no question is called {name}; there are: {', '.join(q.name for q in questions)}")
    return [q for q in questions if not names or any(q.name.startswith(name) for name in names)]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which questions (default: all)")
    parser.add_argument("--rounds", type=int, help="how often each case runs (default: 5, or 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see whether everything works")
    parser.add_argument("--write", action="store_true", help="keep the answers in benches/RESULTS.md")
    parser.add_argument("--output", type=Path, help="keep the answers in this file")
    parser.add_argument("--list", action="store_true", help="print the questions, and do nothing")
    return parser.parse_args()


def main() -> int:
    words = arguments()
    questions = all_questions()
    if words.list:
        for question in questions:
            print(f"{question.name:16} {question.title}")
        return 0
    asked = chosen(words.names, questions)
    if any(question.needs_load_generator for question in asked):
        build_load_generator()
    rounds = words.rounds or (1 if words.quick else 5)
    command = " ".join(["python benches/run.py", *sys.argv[1:]])
    failed = False
    for question in asked:
        answer = measure.ask(question, rounds, words.quick, show_progress)
        show_progress("")
        text = report.section(answer, command, rounds, words.quick)
        print(text, flush=True)
        failed = failed or bool(answer.failures)
        # After each question: a run that is stopped keeps what it has.
        output = words.output or (HERE / "RESULTS.md" if words.write and not words.quick else None)
        if output:
            report.write(output, [text], [question.title for question in questions])
    return 1 if failed else 0


def build_load_generator() -> None:
    """Builds it where it is not up to date; without a Rust toolchain one that was built before will do."""
    manifest = HERE / "load" / "Cargo.toml"
    cargo = shutil.which("cargo")
    if cargo:
        subprocess.run([cargo, "build", "--release", "--quiet", "--manifest-path", manifest], check=True)
    elif not LOAD.exists():
        sys.exit("the server benches need the load generator in benches/load, and so cargo, which is not here")


def show_progress(line: str) -> None:
    """One line that is written over again, where somebody looks; nothing elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
