"""Where programs come from: scripts without a guard, `-c`, stdin, `-m`, pytest, notebooks, threads, odd folders.

Each is a program of its own, which must end by itself, quietly and with nothing left.
"""

import subprocess
import sys
import textwrap

import pytest

from leaks import descendants, eventually
from support import PATIENCE

PROGRAM = """
    import os, sys
    import thistledown as td

    FACTOR = 3

    def scale(number):
        return FACTOR * number

    class Box:
        def __init__(self, content):
            self.content = content
        def opened(self):
            return self.content, os.getpid() != MAIN

    MAIN = os.getpid()

    tasks = [td.go(scale, number) for number in range(5)]
    print([task.result() for task in tasks])
    print(list(td.map(lambda number: scale(number) + 1, range(5))))
    print(td.go(Box(7).opened).result())
    print(type(td.go(Box, 5).result()) is Box)

    class Odd(Exception):
        pass

    def fail():
        raise Odd("of main")

    try:
        td.go(fail).result()
    except Odd as error:
        print("caught", error)
    FACTOR = 10
    print(td.go(scale, 1).result())

    async def weightless():
        await td.sleep(0)
        return scale(1)

    print(td.workers().go(weightless).result())

    async def main():
        return await td.go(scale, 2)

    print(td.run(main))
"""
EXPECTED = """\
[0, 3, 6, 9, 12]
[1, 4, 7, 10, 13]
(7, True)
True
caught of main
10
10
20
"""


def run(*command, source=None, **options):
    """Runs a program to its end; it must leave no process and say nothing on stderr."""
    before = descendants()
    done = subprocess.run(
        command, input=source, capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )
    assert descendants() == before
    return done


def check(done, expected=EXPECTED):
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 0)


@pytest.fixture
def script(tmp_path):
    """Writes a program to a file; gives its path."""

    def write(source, name="program.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


# --- ways to start a program --------------------------------------------------------------------------------


def test_a_script_without_a_guard(script):
    check(run(sys.executable, script(PROGRAM)))


def test_a_command(script):
    check(run(sys.executable, "-c", textwrap.dedent(PROGRAM)))


def test_stdin():
    check(run(sys.executable, "-", source=textwrap.dedent(PROGRAM)))
    check(run(sys.executable, source=textwrap.dedent(PROGRAM)))


def test_a_module(script, tmp_path):
    script("", "package/__init__.py")
    script(PROGRAM, "package/program.py")
    check(run(sys.executable, "-m", "package.program", cwd=tmp_path))
    script(PROGRAM, "package/__main__.py")
    check(run(sys.executable, "-m", "package", cwd=tmp_path))


def test_a_module_with_neighbours(script, tmp_path):
    script("", "package/__init__.py")
    script("def double(number):\n    return 2 * number\n", "package/neighbour.py")
    script(
        """
        import thistledown as td
        from . import neighbour
        from .neighbour import double

        def use(number):
            return double(number) + neighbour.double(number)

        print(td.go(double, 2).result(), td.go(use, 1).result(), td.go("package.neighbour:double", 4).result())
        """,
        "package/program.py",
    )
    check(run(sys.executable, "-m", "package.program", cwd=tmp_path), "4 4 8\n")


def test_an_interactive_session():
    source = textwrap.dedent(
        """
        import thistledown as td
        def double(number):
            return 2 * number

        print(td.go(double, 4).result())
        print(list(td.map(lambda number: double(number), [1, 2])))
        """
    )
    done = run(sys.executable, "-i", "-q", source=source)
    assert (done.stdout, done.returncode) == ("8\n[2, 4]\n", 0)


def test_a_script_with_a_guard_is_run_once(script):
    source = """
    import thistledown as td

    print("imported")

    def double(number):
        return 2 * number

    if __name__ == "__main__":
        print(td.go(double, 4).result())
    """
    check(run(sys.executable, script(source)), "imported\n8\n")


def test_a_zipped_program(tmp_path):
    import zipapp

    folder = tmp_path / "program"
    folder.mkdir()
    folder.joinpath("neighbour.py").write_text("def double(number):\n    return 2 * number\n")
    folder.joinpath("__main__.py").write_text(
        "import thistledown as td, neighbour\nprint(td.go(neighbour.double, 4).result(), td.go(lambda: 1).result())\n"
    )
    zipapp.create_archive(folder, tmp_path / "program.pyz")
    check(run(sys.executable, str(tmp_path / "program.pyz")), "8 1\n")


@pytest.mark.parametrize("flags", [["-O"], ["-I"], ["-W", "error"], ["-X", "dev"], ["-u"], ["-P"], ["-B", "-q"]])
def test_flags_of_the_interpreter_are_those_of_the_workers(flags, script):
    source = f"""
    import sys
    sys.path[:] = {sys.path!r}
    import thistledown as td

    def look():
        return tuple(sys.flags), sys.warnoptions, sorted(sys._xoptions)

    assert td.go(look).result() == look(), (td.go(look).result(), look())
    print(td.go(len, "four").result())
    """
    check(run(sys.executable, *flags, script(source)), "4\n")


def test_pytest_itself(script, tmp_path):
    script(
        """
        import thistledown as td

        LIMIT = 5

        def under(number):
            return number < LIMIT

        def test_functions_of_a_test_file():
            assert list(td.map(under, [1, 9])) == [True, False]

        def test_a_closure():
            seen = [1]
            assert td.go(lambda: seen).result() == [1]

        def test_output(capfd):
            td.go(print, "from a worker").result()
        """,
        "test_inner.py",
    )
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_inner.py", cwd=tmp_path)
    assert "3 passed" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_cells_of_a_notebook(script):
    source = """
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance()

    def cell(source):
        shell.run_cell(source).raise_error()

    cell("import thistledown as td")
    cell("def scale(number): return FACTOR * number")
    cell("FACTOR = 2")
    cell("print(td.go(scale, 2).result())")
    cell("FACTOR = 5")
    cell("print(td.go(scale, 2).result(), list(td.map(scale, range(3))))")
    cell("def scale(number): return -FACTOR * number")
    cell("print(td.go(scale, 2).result())")
    cell("class Box:\\n    x = 1\\n    def look(self): return self.x")
    cell("print(td.go(Box().look).result(), isinstance(td.go(Box).result(), Box))")
    cell("class Box:\\n    def look(self): return 'new'")
    cell("print(td.go(Box().look).result(), isinstance(td.go(Box).result(), Box))")
    cell("async def later(): return await td.go(scale, 3)")
    cell("print(td.run(later))")
    cell("print(await td.go(scale, 4))")
    """
    check(
        run(sys.executable, script(source)),
        "4\n10 [0, 5, 10]\n-10\n1 True\nnew True\n-15\n-20\n",
    )


# --- odd surroundings ---------------------------------------------------------------------------------------


def test_a_path_that_changes_after_the_start(script, tmp_path):
    script("def answer():\n    return 42\n", "late/late_module.py")
    source = """
    import sys
    import thistledown as td
    print(td.go(len, "four").result())
    sys.path.append(sys.argv[1])
    import late_module
    print(td.go(late_module.answer).result(), td.go(lambda: late_module.answer()).result())
    print(td.go("late_module:answer").result())
    """
    check(run(sys.executable, script(source), str(tmp_path / "late")), "4\n42 42\n42\n")


def test_a_folder_that_is_gone(script, tmp_path):
    source = """
    import os
    folder = os.path.join(os.path.dirname(__file__), "gone")
    os.mkdir(folder)
    os.chdir(folder)
    os.rmdir(folder)
    import thistledown as td
    print(td.go(lambda number: number + 1, 4).result())
    """
    check(run(sys.executable, script(source)), "5\n")


def test_a_module_in_the_folder_that_is_called_like_one_of_the_library(script, tmp_path):
    for name in ("signal", "queue", "select", "pickle", "_worker"):
        script("raise SystemExit('the wrong module')", f"traps/{name}.py")
    source = "import sys; del sys.path[0]; import thistledown as td; print(td.go(lambda: 5).result())"
    check(run(sys.executable, "-c", source, cwd=tmp_path / "traps"), "5\n")


def test_closed_streams(script):
    source = """
    import os, sys
    import thistledown as td

    def speak():
        print("spoken")
        return 5

    result = td.go(speak).result()
    with open(sys.argv[1], "w") as file:
        file.write(str(result))
    """
    path = script(source)
    result = path + ".result"
    command = " ".join([sys.executable, path, result, "<&- >&- 2>&-"])
    done = run("sh", "-c", command)
    assert done.returncode == 0
    with open(result) as file:
        assert file.read() == "5"


def test_everything_in_a_thread(script):
    source = """
    import threading
    import thistledown as td

    def work():
        print(td.go(lambda: 5).result(), sum(td.map(abs, range(100))))
        with td.Workers(1) as pool:
            print(pool.go(len, "four").result())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    print(td.go(lambda: 6).result())
    """
    check(run(sys.executable, script(source)), "5 4950\n4\n6\n")


def test_many_threads_start_the_default_pool_at_once(script):
    source = """
    import threading
    import thistledown as td
    results = []
    barrier = threading.Barrier(8)

    def work(number):
        barrier.wait()
        results.append(td.go(abs, -number).result())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(sorted(results), len(td.workers().statistics()["processes"]) <= td.workers()._max_workers)
    """
    check(run(sys.executable, script(source)), "[0, 1, 2, 3, 4, 5, 6, 7] True\n")


def test_the_end_of_the_program_waits_for_its_tasks(script, tmp_path):
    source = """
    import sys
    import thistledown as td

    def write(path, text):
        with open(path, "a") as file:
            file.write(text)

    with_results = td.map(write, [sys.argv[1]] * 50, "x" * 50)
    td.go(write, sys.argv[1], "y")
    """
    result = tmp_path / "result"
    check(run(sys.executable, script(source), str(result)), "")
    assert sorted(result.read_text()) == ["x"] * 50 + ["y"]


def test_a_program_that_fails_ends_with_its_error(script):
    source = """
    import thistledown as td
    task = td.go(abs, -1)
    td.go(int, "no number").result()
    """
    done = run(sys.executable, script(source))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: invalid literal for int() with base 10: 'no number'")


def test_a_program_that_exits_in_the_middle(script):
    source = """
    import sys
    import thistledown as td
    tasks = [td.go(abs, number) for number in range(1000)]
    sys.exit(3)
    """
    done = run(sys.executable, script(source))
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 3)


def test_os_exit_leaves_no_process(script):
    source = """
    import os, time
    import thistledown as td
    pools = [td.Workers(1) for _ in range(2)]
    print(*[pool.go(os.getpid).result() for pool in pools], flush=True)
    for pool in pools:
        pool.go(time.sleep, 1000)
    os._exit(4)
    """
    # Its workers hold the pipe of its output: what is read to its end has no writer any more.
    done = run(sys.executable, script(source))
    assert done.returncode == 4
    for process in done.stdout.split():
        eventually(lambda process=process: is_gone(process), f"process {process} goes on")


def is_gone(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_locks_of_the_parent_are_not_inherited(script):
    """A thread holds the import lock and others while the pool starts; workers know nothing of them."""
    source = """
    import threading, logging
    import thistledown as td

    # Importing what makes pools takes that lock, too.
    td.Workers
    held, go_on = threading.Event(), threading.Event()

    def hold():
        with logging._lock:
            held.set()
            go_on.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    pool = td.Workers(1)
    held.wait()
    go_on.set()
    thread.join()
    print(pool.go(lambda: logging.getLogger("x").name).result())
    pool.shutdown()
    """
    check(run(sys.executable, script(source)), "x\n")


def test_a_cached_function_of_main(script):
    source = """
    import functools
    import thistledown as td

    @functools.cache
    def fib(number):
        return number if number < 2 else fib(number - 1) + fib(number - 2)

    def use(number):
        return fib(number)

    print(td.go(fib, 50).result(), td.go(use, 50).result(), list(td.map(fib, [3, 4])))
    """
    check(run(sys.executable, script(source)), "12586269025 12586269025 [2, 3]\n")


MAIN_THINGS = """
    import dataclasses, enum, typing, collections, abc
    import thistledown as td

    class Colour(enum.Enum):
        RED = 1

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 0

    Pair = collections.namedtuple("Pair", "a b")

    class Base(abc.ABC):
        @abc.abstractmethod
        def look(self): ...

    class Derived(Base):
        def look(self):
            return super().__init__() or "derived"

    def same(value):
        return value

    assert td.go(same, Colour.RED).result() is Colour.RED
    assert td.go(lambda colour: colour is Colour.RED, Colour.RED).result()
    assert td.go(same, Point(1, 2)).result() == Point(1, 2)
    assert td.go(same, Pair(1, 2)).result() == Pair(1, 2)
    assert td.go(Derived().look).result() == "derived"
    assert isinstance(td.go(same, Derived()).result(), Base)
    assert td.go(same, Point).result() is Point
    assert td.go(same, same).result()(5) == 5
    assert list(td.map(same, [Point(n) for n in range(100)])) == [Point(n) for n in range(100)]
    assert {td.go(same, Point(1)).result(): 1}[Point(1)] == 1
    print("all")
"""


def test_what_is_made_in_main_comes_back_as_what_it_was(script):
    check(run(sys.executable, script(MAIN_THINGS)), "all\n")


def test_objects_with_slots_of_main_come_back(script):
    source = """
    import dataclasses
    import thistledown as td

    class Slotted:
        __slots__ = ("x",)
        def __init__(self, x): self.x = x

    @dataclasses.dataclass(slots=True)
    class Point:
        x: int

    def moved(point):
        point.x += 1
        return point

    print(td.go(moved, Slotted(5)).result().x, td.go(moved, Point(1)).result())
    """
    check(run(sys.executable, script(source)), "6 Point(x=2)\n")


CHILD_OF_MULTIPROCESSING = """
    import multiprocessing
    import sys

    import thistledown as td

    class Account:
        def __init__(self, name):
            self.name = name

        def says(self):
            return f"{GREETING} {self.name}"

    GREETING = "hello"

    def greet(name):
        return f"{GREETING} {name}"

    def make(name):
        return Account(name)

    def child(queue):
        try:
            space = td.Space()
            space.write_nowait(("account", Account("d")))
            said = (
                td.go(greet, "a").result(),
                td.go(lambda: greet("b")).result(),
                list(td.map(greet, ["c"])),
                td.actor(Account, "e").says().result(),
                type(td.go(make, "f").result()) is Account,
                space.take_nowait(("account", Account))[1].says(),
                td.go(lambda: space.write(("from there", Account("g"))).wait()).result(),
                type(space.take_nowait(("from there", ...))[1]) is Account,
            )
        except BaseException as error:
            said = repr(error)
        queue.put(said)

    if __name__ == "__main__":
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_what_a_script_defines_travels_from_a_child_of_multiprocessing(tmp_path, method):
    """Such a child has the script under another name, and its workers have it not at all."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CHILD_OF_MULTIPROCESSING))
    done = subprocess.run(
        [sys.executable, str(script), method], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "('hello a', 'hello b', ['hello c'], 'hello e', True, 'hello d', None, True)\n", done.stderr
