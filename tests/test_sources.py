"""The gallery of the sources, `examples/sources/`: each program is run as a reader would run it, and shows its point.

What is checked is what a program prints, never how long something took: of times and rates only that they are there.
"""

import ast
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support import PATIENCE

GALLERY = Path(__file__).resolve().parent.parent / "examples" / "sources"
NO_PROGRAMS = {"mertz/letters_his_ways.py", "mertz/letters_our_ways.py"}  # of `mertz/letters.py`, which they name


def run(name: str, *words: str) -> str:
    """Runs one to its end, which must be a good one; gives what it printed."""
    ended = subprocess.run(
        [sys.executable, GALLERY / name, *words], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout


# --- Beazley ------------------------------------------------------------------------------------------------------


def test_countdown_takes_turns() -> None:
    lines = run("beazley/countdown.py").splitlines()
    assert lines[:6] == ["10", "20", "5", "9", "19", "4"]
    assert lines.count("Task done") == 3
    assert lines[-1] == "35 turns, 24 changes from one task to another, 1 thread"


def test_the_articles_own_traps_run_through_an_adapter() -> None:
    lines = run("beazley/traps.py").splitlines()
    assert sorted(lines[:-1]) == [
        *(f"fib({n}) = {fib}" for n, fib in enumerate([1, 1, 2, 3, 5, 8, 13, 21, 34], 1)),
    ]
    # For each request one of each, and to receive also the ends of three clients, and three of four times to accept.
    assert lines[-1] == "traps: 9 future, 16 recv, 9 send"


@pytest.mark.parametrize("form", ["generator", "async", "workers"])
def test_the_fib_server_answers_in_each_form(form: str) -> None:
    words = [sys.executable, GALLERY / "beazley/fib_server.py", "--form", form, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().rpartition(":")[2].strip()
            with socket.create_connection(("127.0.0.1", int(port)), timeout=PATIENCE) as client:
                for request, reply in ((b"1", b"1\n"), (b"20", b"6765\n"), (b"x", b"send a whole number\n")):
                    client.sendall(request)
                    assert client.recv(100) == reply
            heavy = run("beazley/perf1.py", "--port", port, "--number", "10", "--count", "2")
            assert len(re.findall(r"^fib\(10\) = 55 in [\d.]+ s$", heavy, re.MULTILINE)) == 2
            light = run("beazley/perf2.py", "--port", port, "--interval", "0.05", "--seconds", "0.2")
            assert re.search(r"^[1-9]\d* requests/second$", light, re.MULTILINE)
            server.send_signal(signal.SIGINT)
            shown, complaints = server.communicate(timeout=PATIENCE)
        finally:
            server.kill()
    assert server.returncode == 0, complaints
    assert shown.endswith("fib server stopped\n")


def test_one_heavy_request_stops_everybody_in_the_loop_and_nobody_beside_it() -> None:
    in_the_loop, in_a_worker = run("beazley/stall.py").splitlines()
    assert in_the_loop == "fib(27) = 196418 in the loop: 0 light replies meanwhile"
    assert re.fullmatch(r"fib\(27\) = 196418 in a worker: [1-9]\d* light replies meanwhile", in_a_worker)


def test_futures_of_a_pool_are_waited_for_inside_the_loop() -> None:
    shown = run("beazley/futures.py")
    assert "a future: True\n" in shown
    assert "fib(24) = 46368\n" in shown
    assert re.search(r"^turns of the others meanwhile: [1-9]\d*$", shown, re.MULTILINE)
    assert shown.endswith("by await: 46368 75025\n")


# --- Mertz --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(NO_PROGRAMS))
def test_a_part_of_a_program_names_that(name: str) -> None:
    assert re.fullmatch(r"\d+ ways: `python letters.py` runs and times them\n", run(name))


def test_letters_are_counted_alike_in_every_way_and_timed() -> None:
    shown = run("mertz/letters.py", "--scale", "0.1")
    table = re.findall(r"^  (\w[\w ]*\w) +[\d,]+ letters +([\d,]+\.\d\d) us each$", shown, re.MULTILINE)
    assert [way for way, _ in table] == [
        *("plain calls", "process for each event", "fed processes", "fed threads", "polled generators"),
        *("generators that are sent to", "fresh process for each event", "task for each event", "map in workers"),
        *(
            "fed worker processes",
            "fed thread calls",
            "fed generator tasks",
            "fed coroutine tasks",
            "primed generators",
        ),
        "switching generators",
    ]
    assert shown.endswith("\nEvery way has counted the same.\n")


def test_routines_switch_straight_to_each_other() -> None:
    assert run("mertz/switching.py") == "A x C a B c D b\n"


def test_trampolines_by_hand_and_by_the_kernel_switch_alike() -> None:
    lines = run("mertz/trampolines.py").splitlines()
    assert lines[:3] == ["plain: A C B D ", "with data: A x C a B c D b ", "none: A x C a B c D b "]
    assert re.fullmatch(r"20,000 switches: [\d,]+ ns each by hand, [\d,]+ by the kernel", lines[3])


def test_round_robin_threads_carry_data_by_hand_and_by_the_kernel() -> None:
    assert run("mertz/thread_scheduler.py").splitlines() == [
        "2 4 6 8 by hand, with 3 turns for nothing",
        "2 4 6 8 by the kernel, with none",
    ]


def test_stages_keep_their_state_between_switches() -> None:
    assert run("mertz/staged_pipeline.py") == "['pear', 3, 'pear', 7, 'apple', 12], idle 1 time\n"


def test_delegation_carries_send_throw_and_close() -> None:
    assert run("mertz/pairs.py").splitlines() == [
        "(1, 'a') (1, 'b') (1, 'c') (2, 'a') (2, 'b') (2, 'c')",
        "as before: True",
        "reached from outside: close, send of 'hello', throw of ChannelClosed, throw of Cancelled",
    ]


# --- Hathaway -----------------------------------------------------------------------------------------------------


def test_a_process_is_started_by_name_and_closed_by_with() -> None:
    first, *rest = run("hathaway/start.py").splitlines()
    assert re.fullmatch(r"factorial\(300000\) has 5,025,583 bits; looked [1-9]\d* times meanwhile", first)
    assert rest == ["running: True", "closed; running: False"]


def test_a_queue_needs_no_more_processes_than_it_may_have() -> None:
    assert run("hathaway/process_queue.py").splitlines() == [
        "2000 tasks, in at most 4 processes: True; one of them this one: False",
        "quartiles: [5.75, 12.0, 29.75]",
        "out of 40: [1, 847660528, 137846528820, 847660528, 1]",
    ]


# --- Eckel's wishes -----------------------------------------------------------------------------------------------


def test_wish_1_it_works_by_default() -> None:
    assert run("eckel/wish_1_works_by_default.py").splitlines() == [
        "49: 49 - in the program's process: False",
        "a lambda: 8",
    ]


def test_wish_2_tasks_are_spread_over_processors() -> None:
    first, second = run("eckel/wish_2_spreads_over_processors.py").splitlines()
    assert first == "heard: hello - processes: 2"
    found = re.fullmatch(r"(\d+) computed at the same time, on (\d+) processors", second)
    assert found is not None
    assert min(2, int(found[2])) <= int(found[1]) <= int(found[2])


def test_wish_3_there_may_be_thousands_of_tasks() -> None:
    first, second = run("eckel/wish_3_thousands_of_tasks.py").splitlines()
    found = re.fullmatch(r"100,000 tasks at once, ([\d,]+) bytes each", first)
    assert found is not None
    assert int(found[1].replace(",", "")) < 2000
    assert second == "root of the mean square after 16 steps: 4.0"


def test_wish_4_tasks_guard_themselves() -> None:
    *lines, cause = run("eckel/wish_4_self_guarding.py").splitlines()
    assert lines == ["1 line there, 0 here", "9 of 10 are fine, and one has WorkerDied"]
    assert cause.startswith("its cause: a segmentation fault (SIGSEGV)")


def test_wish_5_deadlock_is_prevented_or_found() -> None:
    first, second = run("eckel/wish_5_no_deadlock.py").splitlines()
    assert first == "tasks that wait for each other on one worker: 51"
    assert re.fullmatch(r"a circle: wait_for-\d+ would wait for .* wait_for-\d+, which waits for it in turn", second)


def test_wish_6_objects_are_naturally_actors() -> None:
    assert run("eckel/wish_6_natural_actors.py").splitlines() == [
        "a shared object: balance 1",
        "an actor: balance 100",
        "105 (deposits are positive) 110 - and it goes on",
    ]


def test_wish_7_it_is_simple() -> None:
    assert run("eckel/wish_7_simple.py").splitlines() == ["2262 primes, by builtins", "2262 primes, by thistledown"]


def test_wish_8_a_job_that_fails_comes_back_to_the_tuple_space() -> None:
    shown = run("eckel/wish_8_tuple_space.py")
    assert "clumsy is gone in the middle of job 0\n" in shown
    assert "counted 67 letters: [('e', 11), " in shown


def test_wish_8_an_active_object_moves_and_its_messages_follow() -> None:
    lines = run("eckel/wish_8_mobile_object.py").splitlines()
    assert lines[:3] == [
        "from here: 2 letters in process 1",
        "from a pool: 4 letters in process 2",
        "from a process of its own: 6 letters in process 3",
    ]
    assert lines[3:] == ["of 30 messages on the way 30 were answered, in order: True; in 3 processes, by one handle"]


# --- Armstrong, Blais and Simionato -------------------------------------------------------------------------------


def test_ten_thousand_black_boxes_notice_each_others_ends() -> None:
    assert run("armstrong/black_boxes.py").splitlines() == [
        "20,000 messages, twice round, the last to box 9,999",
        "200 ends told (100 killed, 100 normal), of those who have ended: True",
        "each by its neighbour: True",
        "linked, and one of them killed: 10,000 killed",
    ]


def test_tasks_of_one_set_never_overlap() -> None:
    shown = run("blais/disjoint_sets.py")
    for account in ("red", "green", "blue"):
        assert f"{account}: 20 of 20 deposits, in order\n" in shown
    assert "at the same time: 0 pairs of one account, " in shown


def test_the_spinner_turns_while_a_worker_computes() -> None:
    shown = run("simionato/spinner.py")
    assert shown.startswith("\nPlease wait ... |\n")  # what is written over comes as lines of their own
    end = r"\nThere are 17,984 primes below 200,000; the spinner has moved ([1-9]\d*) times\.\n"
    assert re.search(end, shown) is not None


# --- the gallery as a whole ---------------------------------------------------------------------------------------


def test_the_table_of_the_gallery_has_every_program() -> None:
    table = re.findall(r"^\| \[(.+?)\]\(\1\) \|", (GALLERY / "README.md").read_text(), re.MULTILINE)
    programs = {str(path.relative_to(GALLERY)) for path in GALLERY.rglob("*.py")} - NO_PROGRAMS
    assert sorted(table) == sorted(programs)


def test_every_program_names_its_source_and_is_run_here() -> None:
    tests = Path(__file__).read_text()
    for path in sorted(GALLERY.rglob("*.py")):
        name = str(path.relative_to(GALLERY))
        words = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert re.search(r"^Sources?: .+\sin\sour\sown\swords\.$", words, re.MULTILINE | re.DOTALL), name
        assert name in NO_PROGRAMS or f'"{name}"' in tests, f"{name} is run by no test"
