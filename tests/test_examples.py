"""The larger programs in `examples/` do what they say: each is run as a reader would run it, and ends well."""

import re
import subprocess
import sys
from pathlib import Path

from support import PATIENCE

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_example(name: str, *words: str, patience: float = PATIENCE) -> subprocess.CompletedProcess[str]:
    """Runs one to its end, which must be a good one."""
    ended = subprocess.run(
        [sys.executable, EXAMPLES / name, *words], capture_output=True, text=True, timeout=patience, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def test_the_demo_shows_both_parts() -> None:
    shown = run_example(
        "demo.py", "--seconds", "0.4", "--number", "27", "--files", "20", "--timeout", "2", patience=50
    ).stdout
    assert shown.count("fib(27) = 196418") == 2
    assert re.search(r"fib\(n\) in the loop +[\d,]+ ", shown)
    assert re.search(r"await td\.go\(fib, n\) +[\d,]+ ", shown)
    assert "The 10 commonest of" in shown
    assert shown.endswith("Every reply was right, the servers have stopped, and the job came to its end.\n")


def test_the_supervised_service_keeps_its_books_over_deaths() -> None:
    shown = run_example("supervised_service.py", "--clients", "5", "--payments", "10", "--crashes", "2").stdout
    assert len(re.findall(r"^death \d: the worker process \d+ .* exit code 70", shown, re.MULTILINE)) == 2
    assert "supervisor bank: one_for_one, running\n  child ledger: actor, running, restarted 2 times\n" in shown
    assert "\n52 payments in the books, of 52\n" in shown


def test_what_goes_through_the_relay_arrives() -> None:
    shown = run_example("relay.py", "--lines", "40").stdout
    assert shown == "40 lines, 760 words, measured by 2 processes\nthe longest has 8 letters: messages\n"


def make_library(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text("first = 1\nsecond = first + 1\n")
    (folder / "old.py").write_text("print 'of another time'\n")


def test_the_table_comes_out_although_one_file_crashes_and_one_never_ends(tmp_path: Path) -> None:
    make_library(tmp_path, "antigravity.py", "sched.py", "one.py", "two.py", "three.py")
    shown = run_example("parse_library.py", "--library", str(tmp_path), "--timeout", "2")
    assert re.search(r"commonest of 39 nodes", shown.stdout)
    assert re.search(r" 1\. Name +9 ", shown.stdout)
    assert re.search(r"antigravity\.py\n +WorkerDied: a segmentation fault \(SIGSEGV\)", shown.stdout)
    assert re.search(r"sched\.py\n +TimeoutError: .* 2 s", shown.stdout)
    assert re.search(r" and 1 that .*\n +SyntaxError", shown.stdout)
    assert "\n3 of 6 files in " in shown.stdout
    assert "6/6" in shown.stderr


def test_a_part_of_the_library_has_the_bad_files_all_the_same(tmp_path: Path) -> None:
    make_library(tmp_path, "antigravity.py", "sched.py", *(f"{number}.py" for number in range(50)))
    shown = run_example("parse_library.py", "--library", str(tmp_path), "--timeout", "2", "--files", "5").stdout
    assert "antigravity.py" in shown
    assert "sched.py" in shown
    assert re.search(r"\n5 of 7 files in ", shown)
