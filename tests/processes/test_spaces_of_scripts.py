"""Objects of what a script has defined itself, in spaces: no other process can import these."""

import subprocess
import sys
import textwrap

import pytest
import thistledown as td

from support import PATIENCE, run_program

SCRIPT = """
    import dataclasses, enum, sys
    import thistledown as td

    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Job:
        number: int
        colour: Colour = Colour.RED

        def doubled(self):
            return 2 * self.number

    class Outer:
        class Inner:
            pass

    def work(space):
        _, job = space.take(("job", Job)).wait(60)
        assert isinstance(job, Job) and isinstance(job.colour, Colour), type(job)
        space.write_nowait(("done", Job(job.doubled())))

    def attribute(space):
        # Nothing of the script's but this function has come here before.
        return space.take(("job", ...)).wait(60)[1].number

    path = sys.argv[1] if len(sys.argv) > 1 else None
"""

WHOLE = (
    SCRIPT
    + """
    space = td.Space(path)
    local = lambda number: number + 1
    space.write_nowait(("here", Job(1), Colour.RED, Outer.Inner(), local))
    _, job, colour, inner, function = space.take_nowait(("here", Job, Colour, ..., ...))
    assert type(job) is Job and colour is Colour.RED and type(inner) is Outer.Inner and function(1) == 2
    with td.Workers(1) as pool:
        for takes in (attribute, work):
            space.write_nowait(("job", Job(21)))
            print(pool.go(takes, space).result(60))
        (_, job) = space.take(("done", Job)).wait(60)
        assert type(job) is Job and job.number == 42, job
    space.close()
"""
)


@pytest.mark.parametrize("is_on_file", [False, True])
def test_objects_of_a_scripts_own_classes_travel_through_a_space(tmp_path, is_on_file):
    done = run_program(WHOLE, *([tmp_path / "jobs.db"] if is_on_file else []))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["21", "None"]


# As a file, so that it is the same program each time.
RUNS = """
    space = td.Space(path)
    if sys.argv[2] == "write":
        space.write_nowait(("job", Job(1)))
        space.write_nowait(("job", Job(2)))
        with td.Workers(1) as pool:
            pool.go(lambda space: space.write_nowait(("job", Job(3))), space).result(60)
    else:
        assert type(space.take_nowait(("job", Job))[1]) is Job
        with td.Workers(1) as pool:
            pool.go(work, space).result(60)
        assert type(space.take_nowait(("job", Job))[1]) is Job
        assert type(space.take_nowait(("done", Job))[1]) is Job
        print(len(space))
    space.close()
"""


def script(path, source):
    path.write_text(textwrap.dedent(source))
    return path


def run_file(path, *arguments):
    command = [sys.executable, path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_the_next_run_of_a_script_takes_objects_of_its_own_classes(tmp_path):
    path = script(tmp_path / "script.py", SCRIPT + RUNS)
    for act, words in (("write", ""), ("take", "0\n")):
        done = run_file(path, tmp_path / "jobs.db", act)
        assert (done.returncode, done.stdout) == (0, words), done.stderr


def test_another_program_is_told_what_to_write_instead_and_the_tuple_is_not_lost(tmp_path):
    path, file = script(tmp_path / "script.py", SCRIPT + RUNS), tmp_path / "jobs.db"
    assert run_file(path, file, "write").returncode == 0
    with td.Space(file) as space:
        for act in (
            lambda: space.take_nowait(("job", ...)),
            lambda: space.read_nowait(("job", ...)),
            lambda: space.take(("job", ...)).wait(60),
        ):
            with pytest.raises(ImportError, match=r"needs Job, .*script\.py\): write Job in a module that both"):
                act()
        assert space.count(("job", ...)) == 3
    done = run_file(path, file, "take")
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_a_script_that_has_lost_its_class_is_told_which(tmp_path):
    path, file = script(tmp_path / "script.py", SCRIPT + RUNS), tmp_path / "jobs.db"
    assert run_file(path, file, "write").returncode == 0
    script(path, "import sys\nimport thistledown as td\ntd.Space(sys.argv[1]).take_nowait(('job', ...))")
    assert "has no more: bring Job back" in run_file(path, file).stderr
