"""`thistledown top`, without a screen: what a running program answers, and ending its tasks from outside."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from thistledown import _command, _programs, _watching

from support import PATIENCE, run_program
from watched import eventually_seen, watched


def named(seen, name):
    return next(row for row in seen["tasks"] if row["name"] == name)


def test_a_program_shows_its_tasks_workers_and_numbers(tmp_path):
    with watched(tmp_path, "hold", "wait", "fail") as program:
        watching = _watching.Watching(program.pid)
        seen = eventually_seen(watching, lambda seen: any(row["state"] == "running" for row in seen["tasks"]))
        assert watching.trouble == ""
        held, waiter = named(seen, "held"), named(seen, "waiter")
        assert (held["state"], held["where"].split(" in ")[1]) == ("running", "held")
        assert held["place"] in [f"worker {worker['pid']}" for worker in seen["workers"]]
        assert waiter["waits_for"] == "recv from channel 1 (capacity 3)"
        [busy] = [worker for worker in seen["workers"] if worker["task"]]
        assert (busy["task"], busy["state"]) == ("held", "busy")
        assert seen["failures"][-1]["error"] == "ValueError: bad <input>"
        assert seen["failures"][-1]["where"].endswith(" in fails")
        assert seen["statistics"]["workers"]["failed"] == 1
        assert {"cpu", "memory_bytes"} <= watching.workers[busy["pid"]].keys()
        assert seen["channels"] == [{"name": "channel 1", "state": "open, 0 of 3 taken", "shared": False}]


def test_what_workers_have_ended_is_told_once_and_only_while_somebody_looks(tmp_path):
    with watched(tmp_path, "work") as program:
        watching = _watching.Watching(program.pid)
        watching.look()
        assert not watching.spans, "nobody had looked"
        program.does("work", "fail", "work")
        watching.look()
        watching.look()
        assert [(span["name"], span["failed"]) for span in watching.spans] == [
            ("worked", False),
            ("failing", True),
            ("worked", False),
        ]
        assert all(0 <= span["took"] < PATIENCE for span in watching.spans)


@pytest.mark.parametrize(("name", "order"), [("held", "hold"), ("waiter", "wait")])
def test_a_task_is_opened_and_cancelled(tmp_path, name, order):
    with watched(tmp_path, order) as program:
        watching = _watching.Watching(program.pid)
        seen = eventually_seen(watching, lambda seen: any(row["name"] == name for row in seen["tasks"]))
        about = named(seen, name)["id"]
        assert f"task {name}" in watching.ask("open", about)["text"]
        assert "told to end" in watching.ask("cancel", about)["done"]
        program.tells(f"ended {name} cancelled\n".encode())
        # What it calls when it is done is called before it is taken off the lists.
        eventually_seen(watching, lambda seen: all(row["name"] != name for row in seen["tasks"]))
        assert watching.ask("cancel", about) == {"error": "it has ended"}
        assert watching.ask("open", about) == {"error": "it has ended"}


@pytest.mark.parametrize("what", ["task", "worker"])
def test_killing_a_task_or_its_worker_ends_that_one_alone(tmp_path, what):
    with watched(tmp_path, "wait", "hold") as program:
        watching = _watching.Watching(program.pid)
        seen = eventually_seen(watching, lambda seen: any(row["state"] == "running" for row in seen["tasks"]))
        [busy] = [worker for worker in seen["workers"] if worker["task"]]
        about = named(seen, "held")["id"] if what == "task" else busy["id"]
        assert "killed" in watching.ask("kill", about)["done"]
        program.tells(b"ended held WorkerDied\n")
        program.does("work")
        seen = eventually_seen(watching, lambda seen: seen["statistics"]["restarts"] == 1)
        assert named(seen, "waiter")["state"] == "waiting"
        assert "error" in watching.ask("kill", about)
        assert "no process of its own" in watching.ask("kill", named(seen, "waiter")["id"])["error"]
        assert watching.ask("kill", "worker 1") == {"error": "it has ended"}, "no worker of this program"


def test_actors_are_shown_wherever_they_live(tmp_path):
    with watched(tmp_path, "boxes") as program:
        watching = _watching.Watching(program.pid)
        seen = eventually_seen(watching, lambda seen: any(row["state"] == "running" for row in seen["actors"]))
        rows = {row["name"]: row for row in seen["actors"]}
        assert [row["mailbox"] for row in seen["actors"]] == [3, 2, 0, 0], "those with the most messages first"
        assert {row["class"] for row in seen["actors"]} == {"Account"}
        busy, alone = rows["Account"], rows["alone"]
        assert (busy["state"], busy["limit"], busy["runs"].split("-")[0]) == ("waiting", 50, "Account.opens")
        assert busy["waits_for"].startswith("recv from channel")
        assert busy["where"].endswith(" in Account.opens")
        assert busy["since"] >= 0
        assert busy["place"] == "thread MainThread"
        assert (alone["state"], alone["limit"], alone["done"]) == ("running", 100_000, 1)
        assert alone["where"].endswith(" in reads")
        assert alone["since"] >= 0
        assert alone["place"].endswith(" of its own")
        assert (rows["idle"]["state"], rows["idle"]["runs"], rows["idle"]["id"]) == ("idle", None, "")
        assert (rows["sharing"]["state"], rows["sharing"]["done"], rows["sharing"]["runs"]) == ("idle", 1, None)
        assert rows["sharing"]["place"] in [f"worker {worker['pid']}" for worker in seen["workers"]]
        workers = {worker["pid"]: worker for worker in seen["workers"]}
        resting = workers[int(rows["sharing"]["place"].split()[1])]
        assert (resting["task"], resting["tasks"]) == (None, 0), "an actor is no task"
        counts = seen["statistics"]["messages"]
        assert (counts["actors_here"], counts["actors_in_workers"]) == (2, 2)
        assert (counts["unanswered_here"], counts["unanswered_in_workers"]) == (3, 2)


@pytest.mark.parametrize("name", ["Account", "alone"])
def test_what_an_actor_does_now_is_opened_and_cancelled(tmp_path, name):
    with watched(tmp_path, "boxes") as program:
        watching = _watching.Watching(program.pid)
        busy = {"Account": "waiting", "alone": "running"}[name]
        row = {}

        def is_busy(seen):
            row.update(next(row for row in seen["actors"] if row["name"] == name))
            return row["state"] == busy

        eventually_seen(watching, is_busy)
        assert row["runs"] in watching.ask("open", row["id"])["text"]
        assert "told to end" in watching.ask("cancel", row["id"])["done"]
        eventually_seen(
            watching,
            lambda seen: (
                {"mailbox": 0, "state": "idle"}.items()
                <= next(row for row in seen["actors"] if row["name"] == name).items()
            ),
        )


def test_a_channel_that_is_shared_is_shown_though_nobody_waits(tmp_path):
    with watched(tmp_path, "share") as program:
        watching = _watching.Watching(program.pid)
        watching.look()
        [channel] = watching.seen["channels"]
        assert (channel["name"], channel["shared"]) == ("channel 1", True)
        assert channel["state"] == "open, 1 of 3 taken"
        counts = watching.seen["statistics"]["messages"]
        assert (counts["shared_channels"], counts["shared_values"]) == (1, 1)
        text = _programs.ask(program.pid, "metrics")
        assert "thistledown_shared_channel_values 1\n" in text


@pytest.mark.parametrize(
    "question", ["{}", "{", '{"view": 3}', '{"cancel": "here"}', '{"burn": 1}', '{"a": 1, "b": 2}']
)
def test_what_is_no_question_is_answered_with_an_error(tmp_path, question):
    with watched(tmp_path) as program:
        assert "no question" in json.loads(_programs.ask(program.pid, question))["error"]
        assert _programs.ask_tree(program.pid).startswith(f"process {program.pid}")


def test_a_program_that_is_stuck_in_c_is_said_to_be(tmp_path):
    with watched(tmp_path) as program:
        watching = _watching.Watching(program.pid)
        assert watching.look()
        program.does("stick")
        assert not watching.look()
        assert "a call in C holds the interpreter's lock" in watching.trouble
        assert "in holds_the_lock" in watching.trouble
        assert watching.seen["pid"] == program.pid, "what was seen before stays"


def test_a_program_that_has_ended_is_said_to_have(tmp_path):
    with watched(tmp_path) as program:
        watching = _watching.Watching(program.pid)
        assert watching.look()
        program.process.kill()
        program.process.wait()
        assert not watching.look()
        assert watching.trouble == f"there is no process {program.pid}"


def test_a_program_is_found_by_its_number_a_part_of_its_command_line_or_by_being_meant(tmp_path):
    with watched(tmp_path) as program:
        assert _programs.find(str(program.pid)) == program.pid
        assert _programs.find(str(tmp_path)) == program.pid
        assert program.pid in [known.pid for known in _programs.programs()]
        with pytest.raises(_programs.Unanswered, match=r"no Thistledown program with 'nobody \d' .* these do:") as said:
            _programs.find("nobody 7")
        assert str(program.pid) in str(said.value)
        (tmp_path / "other").mkdir()
        with watched(tmp_path / "other"), pytest.raises(_programs.Unanswered, match="several programs run"):
            _programs.find(str(tmp_path))


def test_the_command_says_its_version():
    command = [sys.executable, "-m", "thistledown", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout == f"thistledown {version('thistledown')}\n"


def test_numbers_for_prometheus_come_from_the_running_program(tmp_path):
    with watched(tmp_path, "fail") as program:
        text = _programs.ask(program.pid, "metrics")
    assert 'thistledown_tasks_failed_total{place="workers"} 1\n' in text
    assert 'thistledown_workers{pool="0",state="idle"}' in text


def test_without_textual_the_terminal_view_says_what_to_install(tmp_path):
    source = """
    import sys
    from thistledown import _command

    sys.modules["textual"] = None
    sys.exit(_command.main(["top", sys.argv[1]]))
    """
    with watched(tmp_path) as program:
        done = run_program(source, program.pid)
    assert done.returncode == 1
    assert "pip install 'thistledown[top]'" in done.stderr
    assert "top --web" in done.stderr


def test_top_without_a_program_says_so(capsys):
    assert _command.main(["top", "no program is called so"]) == 1
    assert "no Thistledown program" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--web"]])
def test_top_of_a_process_that_cannot_be_seen_says_so_and_ends(more, capsys):
    with subprocess.Popen([sys.executable, "-c", "print(input())"], stdin=subprocess.PIPE, text=True) as other:
        assert _command.main(["top", *more, str(other.pid)]) == 1
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert f"process {other.pid} is no Thistledown program" in told.err
    assert _command.main(["top", *more, str(other.pid)]) == 1
    assert capsys.readouterr() == ("", f"thistledown: there is no process {other.pid}\n")


def test_top_without_a_terminal_says_what_to_write_and_ends(tmp_path):
    with watched(tmp_path) as program:
        command = [sys.executable, "-m", "thistledown", "top", str(program.pid)]
        streams = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, timeout=PATIENCE, check=False, **streams)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"thistledown tree {program.pid}" in done.stderr
    assert "top --web" in done.stderr


def test_tree_finds_a_program_by_its_command_line(tmp_path, capsys):
    with watched(tmp_path) as program:
        assert _command.main(["tree", str(tmp_path)]) == 0
    assert f"process {program.pid}" in capsys.readouterr().out
    assert _command.main(["tree", "no program is called so"]) == 1
    assert "no Thistledown program" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--every", "0"], "between two looks are 0.1 to 3600 seconds, not 0"),
        (["--every", "x"], "between two looks are 0.1 to 3600 seconds, not x"),
        (["--every", "nan"], "between two looks are 0.1 to 3600 seconds, not nan"),
        (["--port", "99999"], "a port is a number from 1 to 65535, or 0 for a free one, not 99999"),
        (["--port", "x"], "a port is a number from 1 to 65535, or 0 for a free one, not x"),
    ],
)
def test_top_says_what_its_options_take(arguments, words, capsys):
    with pytest.raises(SystemExit):
        _command.main(["top", "--web", *arguments, "1"])
    assert words in capsys.readouterr().err


CUT_OFF = """
import os, socket, sys, threading
from thistledown._watching import Watching

window = socket.socket(socket.AF_UNIX)
window.bind(f"\\0thistledown-{os.getpid()}")
window.listen()

def answers(length):
    while True:
        asked = window.accept()[0]
        asked.recv(length)
        asked.sendall(b'{"version": 2, "tasks": [')
        asked.close()

threading.Thread(target=answers, args=(int(sys.argv[1]),), daemon=True).start()
watching = Watching(os.getpid())
print(watching.look(), watching.trouble == watching.ask("open", "task 1")["error"])
print(watching.trouble)
"""


# What is left unread makes its end a reset.
@pytest.mark.parametrize("length", [1000, 1], ids=["an end", "a reset"])
def test_an_answer_that_is_cut_off_is_no_answer(length):
    """The program ends while it answers."""
    done = run_program(CUT_OFF, length)
    assert done.stderr == ""
    first, trouble = done.stdout.splitlines()
    assert first == "False True"
    assert re.fullmatch(r"process \d+ .*about to( end)?", trouble)
