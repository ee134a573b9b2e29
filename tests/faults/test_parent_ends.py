"""However the parent ends, no worker outlives it; and when it ends in an orderly way, its work is done first."""

import os
import signal

import pytest
import witness
from witness import PATIENCE

HEAD = """
import os, signal, sys, threading, time
import thistledown as td, victims

def work(*_):
    print("begun", flush=True)
    getattr(victims, sys.argv[1])()

def note(path, number):
    with open(path, "a") as file:
        file.write(f"{number} ")
"""

ENDS = {
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "os._exit": "os._exit(0)",
    "segfault": "victims.segfault()",
}


@pytest.mark.parametrize("work", ["spin", "sleep", "swallow", "deaf", "deaf_with_lock"])
def test_busy_workers_of_a_killed_parent_are_gone(script, mark, work):
    program = script(HEAD + "tasks = [td.workers().submit(work) for _ in range(50)]\ntasks[0].result()", work)
    for _ in range(len(os.sched_getaffinity(0))):
        program.line()
    program.kill()
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_idle_workers_of_a_killed_parent_are_gone(script, mark):
    program = script(HEAD + "print(td.go(victims.square, 3).result(), flush=True)\ntime.sleep(3600)")
    assert program.line() == "9"
    assert len(witness.marked(mark)) >= 3
    program.kill()
    assert witness.wait_gone(witness.marked(mark)) == set()


@pytest.mark.parametrize("end", ENDS)
def test_however_a_parent_dies_its_workers_are_gone(script, mark, end):
    program = script(HEAD + f"task = td.go(work)\nsys.stdin.close()\nthreading.Event().wait(0.1)\n{ENDS[end]}", "spin")
    program.process.wait(PATIENCE)
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_worker_that_is_being_started_when_the_parent_dies_is_gone(script, mark):
    program = script(HEAD + "td.go(work)\nos.kill(os.getpid(), signal.SIGKILL)", "spin")
    program.process.wait(PATIENCE)
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_stopped_worker_of_a_killed_parent_is_gone(script, mark):
    program = script(HEAD + "print(td.go(victims.process).result(), flush=True)\ntime.sleep(3600)")
    os.kill(int(program.line()), signal.SIGSTOP)
    program.kill()
    assert witness.wait_gone(witness.marked(mark)) == set()


# --- in an orderly way --------------------------------------------------------------------------------------

QUEUES = {
    "default pool": "for n in range(200): td.go(note, sys.argv[1], n)",
    "a pool": "pool = td.Workers(2)\nfor n in range(200): pool.submit(note, sys.argv[1], n)",
    "pools nobody holds": (
        "for n in range(200): (td.Workers(1).submit if n % 100 == 0 else td.go)(note, sys.argv[1], n)"
    ),
    "map": "results = td.map(note, [sys.argv[1]] * 200, range(200))",
    "shutdown without waiting": (
        "pool = td.Workers(2)\nfor n in range(200): pool.submit(note, sys.argv[1], n)\npool.shutdown(wait=False)"
    ),
}

EXITS = {"end": ("", 0), "sys.exit": ("sys.exit(5)", 5), "an error": ("raise ValueError('of the program')", 1)}


@pytest.mark.parametrize("exit_", EXITS)
@pytest.mark.parametrize("queue", QUEUES)
def test_what_is_queued_at_the_end_of_a_program_is_done(script, mark, tmp_path, queue, exit_):
    line, expected = EXITS[exit_]
    program = script(HEAD + QUEUES[queue] + "\n" + line, tmp_path / "notes")
    code, _, errors = program.ends()
    assert code == expected, errors
    assert ("of the program" in errors) == (expected == 1)
    assert expected == 1 or not errors
    assert sorted(map(int, (tmp_path / "notes").read_text().split())) == list(range(200))
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_threads_that_wait_for_tasks_do_not_hinder_the_end(script, mark):
    program = script(
        HEAD
        + """
pool = td.Workers(2)
def wait(task):
    task.result()
for n in range(8):
    threading.Thread(target=wait, args=[pool.submit(time.sleep, 0.05 * n)], daemon=True).start()
for n in range(8):
    threading.Thread(target=lambda: list(pool.map(victims.square, range(1000))), daemon=True).start()
for n in range(100):
    pool.submit(victims.square, n).add_done_callback(lambda task: task.result())
"""
    )
    code, _, errors = program.ends()
    assert code == 0, errors
    assert "Fatal" not in errors
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_daemon_threads_that_go_on_starting_tasks_do_not_hinder_the_end(script, mark):
    program = script(
        HEAD
        + """
begun = threading.Barrier(5)
pool = td.Workers(2)
def go_on():
    begun.wait()
    while True:
        try:
            pool.submit(victims.square, 3).result()
        except RuntimeError as error:
            assert "shutdown" in str(error), error
            return
for _ in range(4):
    threading.Thread(target=go_on, daemon=True).start()
begun.wait()
pool.submit(victims.square, 3).result()
"""
    )
    code, _, errors = program.ends()
    assert code == 0, errors
    assert "Fatal" not in errors
    assert witness.wait_gone(witness.marked(mark)) == set()


@pytest.mark.parametrize("round_", range(5))
def test_the_end_comes_in_the_middle_of_everything(script, mark, round_):
    program = script(
        HEAD
        + """
import asyncio, random, gc
dice = random.Random(int(sys.argv[1]))
pool, other = td.Workers(2), td.Workers(1)
def stir():
    while True:
        try:
            tasks = [dice.choice([pool, other]).submit(victims.square, n) for n in range(dice.randrange(50))]
            for task in tasks:
                task.cancel() if dice.random() < 0.2 else None
                task.add_done_callback(lambda task: None)
            td.wait(tasks)
            pool.submit(os._exit, 3)
        except RuntimeError:
            return
for _ in range(3):
    threading.Thread(target=stir, daemon=True).start()
async def main():
    for n in range(20):
        await td.go(victims.square, n)
td.run(main)
asyncio.run(main())
print("main is over", flush=True)
""",
        round_,
    )
    assert program.line() == "main is over"
    code, _, errors = program.ends()
    assert code == 0, errors
    assert "Fatal" not in errors
    assert "Traceback" not in errors.replace("RuntimeError", "")
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_what_is_printed_in_the_last_moment_is_not_lost(script):
    program = script(
        HEAD
        + """
def speak(n):
    print("out", n)
    print("err", n, file=sys.stderr)
for n in range(50):
    td.go(speak, n)
"""
    )
    code, output, errors = program.ends()
    assert code == 0
    assert sorted(output.splitlines()) == sorted(f"out {n}" for n in range(50))
    assert sorted(errors.splitlines()) == sorted(f"err {n}" for n in range(50))


def test_a_worker_has_no_way_to_the_parent_s_terminal_input(script):
    program = script(HEAD + "import io\nprint(repr(td.go(victims.read_input).result()), flush=True)")
    assert program.line() == "''"
    assert program.ends()[0] == 0


# --- errors that nobody has asked for ---------------------------------------------------------------------------

FAILS = """
def fail(number):
    raise LookupError(f"failed: {number}")
def fail_in_turn(pool, numbers):
    return [pool.submit(fail, number) for number in numbers]
"""


def told(errors):
    lines = [line.rpartition(" ")[2] for line in errors.splitlines() if line.startswith("LookupError: failed")]
    # Each stands in the traceback of the worker, too.
    assert lines[::2] == lines[1::2]
    return lines[::2]


def test_errors_that_a_global_holds_to_the_end_are_told_once_in_their_order(script, mark):
    program = script(HEAD + FAILS + "tasks = fail_in_turn(td.Workers(1), range(5))\ntasks.reverse()")
    code, _, errors = program.ends()
    assert code == 0
    assert told(errors) == ["0", "1", "2", "3", "4"]
    assert errors.count("nobody asked for its outcome") == 5


def test_errors_that_were_asked_for_are_not_told_again(script, mark):
    program = script(
        HEAD
        + FAILS
        + """
import asyncio, concurrent.futures
async def awaits(task):
    try:
        await task
    except LookupError:
        pass
pool = td.Workers(1)
tasks = fail_in_turn(pool, range(7))
tasks[0].exception()
try:
    tasks[1].result()
except LookupError:
    pass
asyncio.run(awaits(tasks[2]))
td.run(awaits, tasks[3])
tasks[4].add_done_callback(lambda task: task.exception())
concurrent.futures.wait(tasks)
fine = pool.submit(victims.square, 3)
cancelled = pool.submit(victims.sleep)
cancelled.cancel()
results = pool.map(fail, [8, 9])
try:
    next(results)
except LookupError:
    pass
""",
    )
    code, _, errors = program.ends()
    assert code == 0
    assert told(errors) == ["5", "6"]


def test_of_many_errors_some_are_told_and_the_others_counted(script, mark):
    program = script(HEAD + FAILS + "tasks = fail_in_turn(td.workers(), range(3000))")
    code, _, errors = program.ends()
    assert code == 0
    assert len(told(errors)) == 50
    assert "2950 more tasks failed" in errors


def test_errors_of_tasks_that_are_gone_are_told_as_they_go_and_not_again(script, mark):
    program = script(
        HEAD
        + FAILS
        + """
tasks = fail_in_turn(td.Workers(1), range(3))
concurrent = __import__("concurrent.futures").futures
concurrent.wait(tasks)
del tasks[1]
print("dropped", file=sys.stderr)
"""
    )
    _, _, errors = program.ends()
    first, _, rest = errors.partition("dropped\n")
    assert (told(first), told(rest)) == (["1"], ["0", "2"])


def test_a_forked_child_does_not_tell_the_errors_of_its_parent(script, mark):
    program = script(
        HEAD
        + FAILS
        + """
tasks = fail_in_turn(td.Workers(1), range(3))
concurrent = __import__("concurrent.futures").futures
concurrent.wait(tasks)
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
print("child is gone", file=sys.stderr)
"""
    )
    _, _, errors = program.ends()
    first, _, rest = errors.partition("child is gone\n")
    assert (told(first), told(rest)) == ([], ["0", "1", "2"])


ACTORS = """
import os, signal, sys, threading, time
import thistledown as td, victims

class Victim:
    def rest(self):
        return 1
    def run(self):
        print("begun", flush=True)
        getattr(victims, sys.argv[1])()

actors = [td.actor(Victim), td.workers().actor(Victim), td.workers().actor(Victim)]
assert [actor.rest().result() for actor in actors] == [1, 1, 1]
"""


def test_idle_actors_of_a_killed_parent_are_gone(script, mark):
    program = script(ACTORS + 'print("made", flush=True)\ntime.sleep(3600)')
    assert program.line() == "made"
    program.kill()
    assert witness.wait_gone(witness.marked(mark)) == set()


@pytest.mark.parametrize("work", ["spin", "deaf"])
def test_busy_actors_of_a_killed_parent_are_gone(script, mark, work):
    program = script(ACTORS + "tasks = [actor.run() for actor in actors]\ntasks[0].result()", work)
    program.line()
    program.kill()
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_idle_actors_keep_no_program_from_its_end(script, mark):
    program = script(ACTORS + 'print("made", flush=True)')
    assert program.line() == "made"
    assert program.process.wait(PATIENCE) == 0
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_ctrl_c_ends_a_program_whose_actors_are_busy(script, mark):
    program = script(ACTORS + "tasks = [actor.run() for actor in actors]\ntasks[0].result()", "spin")
    program.line()
    program.process.send_signal(signal.SIGINT)
    assert program.process.wait(PATIENCE) != 0
    assert witness.wait_gone(witness.marked(mark)) == set()


def test_a_forked_child_is_told_whose_the_actors_are(script, mark):
    program = script(
        ACTORS
        + """
if (child := os.fork()) == 0:
    try:
        actors[0].rest()
    except RuntimeError as error:
        print("make one of this process" in str(error), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(actors[0].rest().result(), flush=True)
"""
    )
    assert [program.line(), program.line()] == ["True", "1"]
    assert program.process.wait(PATIENCE) == 0
    assert witness.wait_gone(witness.marked(mark)) == set()
