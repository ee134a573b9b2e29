"""What goes wrong in a task, or with what is sent to it or back: an error that says so, never a hang."""

import asyncio
import linecache
import pickle
import subprocess
import sys
import threading
import traceback

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE


class WithTwoArguments(Exception):
    """Its initialiser wants other arguments than it keeps: pickle alone cannot rebuild it."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class WithNamedArguments(Exception):
    def __init__(self, *, code):
        super().__init__()
        self.code = code


class WithReduce(Exception):
    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        return type(self), (self.value,)


class WithoutText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Unbuildable(Exception):
    def __reduce__(self):
        return work.fail, (ValueError("cannot be rebuilt"),)


class Unpicklable(Exception):
    def __reduce__(self):
        raise ValueError("cannot be taken apart")


def raise_it(kind, *args, **kwargs):
    raise kind(*args, **kwargs)


# --- errors of tasks ----------------------------------------------------------------------------------------

ERRORS = {
    "of the language": lambda: ValueError("a", 2),
    "without arguments": LookupError,
    "of the system": lambda: FileNotFoundError(2, "No such file", "/a/b"),
    "of texts": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "of a module": lambda: subprocess.CalledProcessError(3, ["ls"], b"out", b"err"),
    "of imports": lambda: ImportError("no", name="x", path="/y"),
    "of this module": lambda: WithReduce([1, 2]),
    "of asyncio": lambda: asyncio.IncompleteReadError(b"ab", 5),
    "that ends loops": lambda: StopIteration(5),
    "that ends async loops": StopAsyncIteration,
    "of generators": GeneratorExit,
    "of this package": lambda: td.RemoteError("name", "text"),
    "a group": lambda: ExceptionGroup("two", [ValueError(1), TypeError(2)]),
}


@pytest.mark.parametrize("make", ERRORS.values(), ids=ERRORS)
def test_an_error_keeps_its_class_arguments_and_attributes(pool, make):
    sent = make()
    error = pool.go(work.fail, sent).exception(PATIENCE)
    assert type(error) is type(sent)
    assert str(error.args) == str(sent.args)
    assert str(error) == str(sent)
    assert str(vars(error)) == str(vars(sent))


def test_an_error_whose_initialiser_wants_other_arguments(pool):
    error = pool.go(raise_it, WithTwoArguments, 404, "gone").exception(PATIENCE)
    assert type(error) is WithTwoArguments
    assert (str(error), error.code, error.reason) == ("404: gone", 404, "gone")
    error = pool.go(raise_it, WithNamedArguments, code=5).exception(PATIENCE)
    assert (type(error), error.code) == (WithNamedArguments, 5)


def test_an_error_with_something_unpicklable_keeps_the_rest(pool):
    def fail():
        error = ValueError("with a lock", threading.Lock())
        error.lock = threading.Lock()
        error.number = 5
        raise error

    error = pool.go(fail).exception(PATIENCE)
    assert type(error) is ValueError
    assert error.args[0] == "with a lock"
    assert "lock" in error.args[1]
    assert error.number == 5
    assert not hasattr(error, "lock")


def test_an_error_of_a_class_made_in_the_task(pool):
    def fail():
        class Inner(LookupError):
            pass

        raise Inner("inside")

    with pytest.raises(LookupError, match="inside") as caught:
        pool.go(fail).result(PATIENCE)
    assert type(caught.value).__name__ == "Inner"


@pytest.mark.parametrize("kind", [Unbuildable, Unpicklable], ids=lambda kind: kind.__name__)
def test_an_error_that_cannot_be_rebuilt_becomes_one_with_its_text(pool, kind):
    error = pool.go(raise_it, kind, "some text").exception(PATIENCE)
    if type(error) is kind:
        assert error.args == ("some text",)
    else:
        assert type(error) is td.RemoteError
        assert kind.__name__ in error.name
        assert (error.text, "some text" in str(error)) == ("some text", True)
    assert "in raise_it" in str(error.__cause__)
    assert pool.go(work.double, 2).result(PATIENCE) == 4


def test_an_error_whose_class_cannot_be_had_here(pool, tmp_path, monkeypatch):
    def fail(folder):
        sys.path.insert(0, folder)
        import class_of_elsewhere

        raise class_of_elsewhere.Odd("from there")

    tmp_path.joinpath("class_of_elsewhere.py").write_text("class Odd(Exception):\n    pass\n")
    error = pool.go(fail, str(tmp_path)).exception(PATIENCE)
    assert type(error) is td.RemoteError
    assert (error.name, error.text) == ("class_of_elsewhere.Odd", "from there")
    assert "in fail" in str(error.__cause__)


def test_an_error_without_a_text_is_no_hang(pool):
    error = pool.go(raise_it, WithoutText, 5).exception(PATIENCE)
    assert type(error) is WithoutText
    assert error.args == (5,)


# --- tracebacks, causes, notes ------------------------------------------------------------------------------


def chain():
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError:
        raise LookupError("third")  # noqa: B904


def test_the_traceback_of_the_worker_is_shown(pool):
    error = pool.go(work.fail, LookupError("lost")).exception(PATIENCE)
    text = "".join(traceback.format_exception(error))
    assert 'work.py", line' in text
    assert "in fail" in text
    assert "raise error" in text
    assert text.rstrip().endswith("LookupError: lost")


def test_a_traceback_shows_the_tasks_lines_and_none_of_the_packages(pool):
    def outer():
        inner()

    def inner():
        raise LookupError("lost")

    text = str(pool.go(outer).exception(PATIENCE).__cause__)
    assert text.count("  File ") == 2
    assert text.index("in outer") < text.index("in inner")


def test_a_traceback_shows_the_lines_of_a_prompt(pool):
    source = "def fail():\n    raise LookupError('of a cell')\n"
    linecache.cache["<cell 5>"] = len(source), None, source.splitlines(keepends=True), "<cell 5>"
    cell = {"__name__": "__main__"}
    exec(compile(source, "<cell 5>", "exec"), cell)
    text = str(pool.go(cell["fail"]).exception(PATIENCE).__cause__)
    assert """  File "<cell 5>", line 2, in fail\n    raise LookupError('of a cell')\n""" in text


def test_causes_and_contexts_are_kept(pool):
    error = pool.go(chain).exception(PATIENCE)
    assert (type(error), error.args) == (LookupError, ("third",))
    assert (type(error.__context__), error.__context__.args) == (ValueError, ("second",))
    first = error.__context__.__cause__
    assert (type(first), first.args) == (KeyError, ("first",))
    text = "".join(traceback.format_exception(error))
    assert "direct cause" in text
    assert text.count("in chain") >= 3


def test_a_hidden_context_stays_hidden(pool):
    def hide():
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None

    text = "".join(traceback.format_exception(pool.go(hide).exception(PATIENCE)))
    assert "shown" in text
    assert "hidden\n" not in text.replace("raise KeyError", "")


def test_a_circle_of_causes_is_no_hang(pool):
    def circle():
        first, second = KeyError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first

    assert type(pool.go(circle).exception(PATIENCE)) is KeyError


def test_a_long_chain_is_no_hang(pool):
    def long_chain():
        error = None
        for number in range(2000):
            error, last = ValueError(number), error
            error.__cause__ = last
        raise error

    assert pool.go(long_chain).exception(PATIENCE).args == (1999,)


def test_notes_are_kept(pool):
    def fail():
        error = ValueError("x")
        error.add_note("in row 5")
        raise error

    assert pool.go(fail).exception(PATIENCE).__notes__ == ["in row 5"]


def test_errors_inside_of_a_group_keep_their_causes(pool):
    def fail():
        inner = ValueError("inner")
        inner.__cause__ = KeyError("cause")
        raise ExceptionGroup("all", [inner, td.TaskCancelled("x")])

    error = pool.go(fail).exception(PATIENCE)
    assert [type(one) for one in error.exceptions] == [ValueError, td.TaskCancelled]


class OddGroup(ExceptionGroup):
    """Made of something else than what it keeps: it says itself how it is rebuilt."""

    def __new__(cls, code, errors):
        self = super().__new__(cls, f"code {code}", errors)
        self.code = code
        return self

    def __reduce__(self):
        return OddGroup, (self.code, list(self.exceptions))


def raise_groups():
    both = [WithTwoArguments(404, "gone"), ExceptionGroup("inner", [WithNamedArguments(code=5), KeyError(1)])]
    group = ExceptionGroup("outer", both)
    group.add_note("of two")
    both[0].__cause__ = group.exceptions[1]
    raise group


def test_a_group_and_its_members_keep_their_classes(pool):
    error = pool.go(raise_groups).exception(PATIENCE)
    assert (type(error), error.message, error.__notes__) == (ExceptionGroup, "outer", ["of two"])
    first, inner = error.exceptions
    assert (type(first), first.code, first.reason) == (WithTwoArguments, 404, "gone")
    assert first.__cause__ is inner
    assert (type(inner), [type(one) for one in inner.exceptions]) == (ExceptionGroup, [WithNamedArguments, KeyError])
    assert "in raise_groups" in "".join(traceback.format_exception(error))


def test_a_member_that_cannot_be_rebuilt_does_not_spoil_its_group(pool):
    def fail():
        raise BaseExceptionGroup("all", [Unbuildable("text"), KeyboardInterrupt(), OddGroup(3, [ValueError(1)])])

    error = pool.go(fail).exception(PATIENCE)
    assert type(error) is BaseExceptionGroup
    lost, stopped, odd = error.exceptions
    assert type(lost) in (Unbuildable, td.RemoteError)
    assert type(stopped) is KeyboardInterrupt
    assert (type(odd), odd.code, odd.exceptions[0].args) == (OddGroup, 3, (1,))


def test_a_group_in_a_circle_is_no_hang(pool):
    def circle():
        error = ValueError("inside")
        error.__cause__ = ExceptionGroup("of itself", [error])
        raise error

    error = pool.go(circle).exception(PATIENCE)
    assert error.__cause__.exceptions == (error,)


def test_all_members_of_a_large_group_are_kept(pool):
    def fail():
        raise ExceptionGroup("many", [WithTwoArguments(number, "x") for number in range(100)])

    assert [one.code for one in pool.go(fail).exception(PATIENCE).exceptions] == list(range(100))


# --- what ends programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_would_end_the_program_is_the_tasks_own_error(pool, error):
    one = pool.options(key="one worker")
    process = one.go(work.process).result(PATIENCE)
    with pytest.raises(type(error)) as caught:
        one.go(work.fail, error).result(PATIENCE)
    assert caught.value.args == error.args
    assert one.go(work.process).result(PATIENCE) == process


def test_sys_exit_in_a_task(pool):
    error = pool.go(sys.exit, "words").exception(PATIENCE)
    assert (type(error), error.code) == (SystemExit, "words")


def test_a_task_that_raises_cancelled_itself_is_cancelled(pool):
    task = pool.go(raise_it, td.Cancelled, "by myself")
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert task.cancelled()


def test_the_recursion_limit_is_the_tasks_own_error(pool):
    def recurse(number):
        return recurse(number + 1)

    with pytest.raises(RecursionError):
        pool.go(recurse, 0).result(PATIENCE)
    assert pool.go(work.double, 2).result(PATIENCE) == 4


def test_a_memory_error_is_the_tasks_own_error(pool):
    with pytest.raises(MemoryError):
        pool.go(bytes, 1 << 60).result(PATIENCE)
    assert pool.go(work.double, 2).result(PATIENCE) == 4


# --- what cannot be sent ------------------------------------------------------------------------------------


class Refuses:
    def __init__(self, name):
        self.name = name

    def __reduce__(self):
        raise RuntimeError(f"{self.name} stays here")


UNSENDABLE = {
    "a lock": (threading.Lock, "lock"),
    "a generator": (lambda: (number for number in ()), "generator"),
    "a thread": (threading.Thread, "thread|lock"),
    "a local of threads": (threading.local, "local"),
    "one that refuses": (lambda: Refuses("it"), "it stays here"),
    "one inside of others": (lambda: {"a": [1, {"b": Refuses("deep")}]}, r"\['a'\]\[1\]\['b'\]"),
}


@pytest.mark.parametrize(("make", "words"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_an_argument_that_cannot_be_sent_is_refused_at_once_and_named(pool, make, words):
    before = pool.statistics()["submitted"]
    with pytest.raises(td.NotPicklable, match=rf"argument 2 .*({words})"):
        pool.go(work.echo, 1, make(), 3)
    with pytest.raises(td.NotPicklable, match=rf"argument 'given' .*({words})"):
        pool.go(work.echo, 1, given=make())
    assert pool.statistics()["submitted"] == before


@pytest.mark.parametrize("mode", ["r", "w", "w+", "a", "rb", "wb"])
def test_an_open_file_is_refused_however_it_was_opened(pool, mode, tmp_path):
    path = tmp_path / "file"
    path.write_text("text")

    def give():
        held.append(open(path, mode))  # noqa: SIM115
        return held[0]

    held = []
    with open(path, mode) as file, pytest.raises(td.NotPicklable, match=r"argument 1 cannot be sent.*send its path"):
        pool.go(work.echo, file)
    with pytest.raises(td.NotPicklable, match=r"the result cannot be sent back.*send its path"):
        pool.go(give).result(PATIENCE)


def test_a_file_in_a_closure_or_shared_is_refused_too(pool):
    with open(__file__) as file:
        with pytest.raises(td.NotPicklable, match=r"its variable 'file'.*TextIOWrapper"):
            pool.go(lambda: file.read())
        with pytest.raises(td.NotPicklable, match="TextIOWrapper"):
            td.share([file])


def test_the_standard_streams_stand_for_those_of_the_worker(pool, monkeypatch):
    """Outside of pytest they are plain files of text."""
    with open("/dev/null", "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert pool.go(lambda stream=out: stream is sys.stdout).result(PATIENCE)


@pytest.mark.parametrize(("make", "words"), UNSENDABLE.values(), ids=UNSENDABLE)
def test_a_result_that_cannot_be_sent_is_an_error_that_says_so(pool, make, words):
    with pytest.raises(td.NotPicklable, match=rf"the result .*({words})"):
        pool.go(lambda: make()).result(PATIENCE)
    assert pool.go(work.double, 2).result(PATIENCE) == 4


def test_a_function_that_reaches_what_cannot_be_sent_is_refused_and_both_are_named(pool):
    lock = threading.Lock()

    def locked():
        with lock:
            return 1

    with pytest.raises(td.NotPicklable, match=r"locked.*'lock'"):
        pool.go(locked)


def test_not_picklable_is_what_the_standard_library_raises_too():
    assert issubclass(td.NotPicklable, pickle.PicklingError)
    assert issubclass(td.NotPicklable, TypeError)


def test_an_argument_that_cannot_be_rebuilt_fails_the_task(pool):
    class Breaks:
        def __reduce__(self):
            return work.fail, (LookupError("on arrival"),)

    with pytest.raises(LookupError, match="on arrival"):
        pool.go(work.echo, Breaks()).result(PATIENCE)
    assert pool.go(work.double, 2).result(PATIENCE) == 4


def test_a_result_that_cannot_be_rebuilt_here_is_an_error(pool):
    class Breaks:
        def __reduce__(self):
            return work.fail, (LookupError("on arrival"),)

    task = pool.go(Breaks)
    for _ in range(2):
        with pytest.raises(LookupError, match="on arrival"):
            task.result(PATIENCE)
    assert isinstance(task.exception(PATIENCE), LookupError)


def test_what_runs_in_pickling_may_use_the_pool(pool):
    class Asks:
        def __reduce__(self):
            return int, (pool.go(work.double, 4).result(PATIENCE),)

    assert pool.go(work.echo, Asks()).result(PATIENCE) == ((8,), {})


def test_wrong_arguments_are_the_tasks_own_error(pool):
    with pytest.raises(TypeError, match="double"):
        pool.go(work.double).result(PATIENCE)
    with pytest.raises(TypeError, match="unexpected"):
        pool.go(work.double, 1, other=2).result(PATIENCE)


# --- errors that nobody asks for ----------------------------------------------------------------------------


def test_an_error_that_nobody_asks_for_is_no_hang_and_no_crash():
    with Workers(1) as pool:
        for _ in range(50):
            pool.go(work.fail, ValueError("nobody asks"))
        assert pool.go(work.double, 2).result(PATIENCE) == 4


def test_a_death_says_who_when_and_how(pool):
    with Workers(1) as own:
        process = own.go(work.process).result(PATIENCE)
        error = own.options(name="the-victim").go("os:_exit", 3).exception(PATIENCE)
        assert isinstance(error, td.WorkerDied)
        assert (error.pid, error.exitcode) == (process, 3)
        for words in ("the-victim", str(process), "exit code 3"):
            assert words in str(error)
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), copy.pid, copy.exitcode) == (str(error), error.pid, error.exitcode)
