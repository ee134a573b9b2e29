"""The programs in `examples/` do what they say: each is run as a reader would run it, and ends well."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


# --- the demo, and what it is made of ---------------------------------------------------------------------------


def test_the_demo_shows_both_parts() -> None:
    shown = run_example(
        "demo.py", "--seconds", "0.4", "--number", "27", "--files", "20", "--timeout", "2", patience=50
    ).stdout
    assert shown.count("fib(27) = 196418") == 2
    assert re.search(r"fib\(n\) in the loop +[\d,]+ ", shown)
    assert re.search(r"await td\.go\(fib, n\) +[\d,]+ ", shown)
    assert "The 10 commonest of" in shown
    assert shown.endswith("Every reply was right, the servers have stopped, and the job came to its end.\n")


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


@pytest.mark.parametrize("form", ["generator", "async", "workers"])
def test_the_fib_server_answers_in_each_form(form: str) -> None:
    words = [sys.executable, EXAMPLES / "fib_server.py", "--form", form, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                for request, reply in ((b"1", b"1\n"), (b"20", b"6765\n"), (b"x", b"send a whole number\n")):
                    client.sendall(request)
                    assert client.recv(100) == reply
            heavy = run_example("perf1.py", "--port", str(port), "--number", "10", "--count", "2").stdout
            assert heavy.count("fib(10) = 55 in ") == 2
            light = run_example("perf2.py", "--port", str(port), "--interval", "0.05", "--seconds", "0.2").stdout
            assert re.search(r"^[1-9]\d* requests/second$", light, re.MULTILINE)
            server.send_signal(signal.SIGINT)
            shown, complaints = server.communicate(timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode == 0, complaints
    assert shown.endswith("fib server stopped\n")


# --- the small ones ---------------------------------------------------------------------------------------------


def test_countdown_takes_turns() -> None:
    numbers = run_example("countdown.py").stdout.split("\n")
    assert numbers[:6] == ["10", "20", "5", "9", "19", "4"]
    assert numbers.count("Task done") == 3


def test_letters_go_straight_from_one_routine_to_the_other() -> None:
    assert run_example("letters_switch.py").stdout == "A x C a B c D b\n"


def test_hathaways_processes_and_queue() -> None:
    assert run_example("hathaway_queue.py").stdout.splitlines() == [
        "factorial(20) = 2432902008176640000",
        "running: False",
        "running: True",
        "out of 40: [1, 847660528, 137846528820, 847660528, 1]",
        "quartiles: [5.75, 12.0, 29.75]",
        "roots: [1000, 1000000]",
    ]


def test_the_spinner_turns_while_a_worker_computes() -> None:
    shown = run_example("spinner.py").stdout.split()  # what is written over comes as lines of its own
    assert shown[:4] == ["Please", "wait", "...", "|"]
    assert " ".join(shown[-6:]) == "There are 17,984 primes below 200,000."


def test_futures_of_a_pool_are_waited_for_inside_the_loop() -> None:
    shown = run_example("futures.py").stdout.splitlines()
    assert sorted(shown) == [
        "a future: True",
        "by await: 46368 75025",
        "fib(24) = 46368",
        "the others had their turns meanwhile: True",
    ]


def test_eckels_wishes_are_met_as_far_as_it_says() -> None:
    assert run_example("eckel_wishes.py").stdout.splitlines() == [
        "1 49",
        "2 said hello",
        "3 333283335000",
        "4 1 line there, 0 here",
        "4 exit code 3 and the other one has 64",
        "5 depth 20 on one worker",
        "7 [0, 1, 4, 9]",
        "8 120",
    ]


def test_a_job_that_fails_comes_back_to_the_space() -> None:
    shown = run_example("linda_space.py").stdout
    assert "clumsy is gone in the middle of job 0\n" in shown
    assert "counted 67 letters: [('e', 11), " in shown


def test_tasks_of_one_set_never_overlap() -> None:
    shown = run_example("keyed_sets.py").stdout
    for account in ("red", "green", "blue"):
        assert f"{account}: 20 of 20 deposits, in order\n" in shown
    assert "at the same time: 0 pairs of one account, " in shown
