"""What goes along with tasks: context variables, log records, warnings, streams, limits for threads."""

import contextlib
import contextvars
import decimal
import logging
import os
import subprocess
import sys
import threading
import warnings

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE

variable = contextvars.ContextVar("variable", default="nothing")
other = contextvars.ContextVar("other")


def look():
    return variable.get(), other.get(None)


def in_context(function, *args):
    return contextvars.copy_context().run(function, *args)


# --- context variables --------------------------------------------------------------------------------------


def test_a_task_sees_what_was_set_when_it_was_told_to_go(pool, gate):
    def tell():
        variable.set("first")
        task = pool.go(look)
        variable.set("second")
        other.set({"a": [1]})
        return task, pool.go(look)

    first, second = in_context(tell)
    assert first.result(PATIENCE) == ("first", None)
    assert second.result(PATIENCE) == ("second", {"a": [1]})
    assert pool.go(look).result(PATIENCE) == ("nothing", None)


def test_what_a_task_sets_stays_in_it(pool):
    def set_it():
        variable.set("from the task")
        return variable.get()

    one = pool.options(key="one worker")
    assert one.go(set_it).result(PATIENCE) == "from the task"
    assert one.go(look).result(PATIENCE) == ("nothing", None)
    assert variable.get() == "nothing"


def test_a_variable_of_this_function_travels_with_what_uses_it(pool):
    own = contextvars.ContextVar("own", default=0)

    def tell():
        own.set(5)
        return pool.go(lambda: own.get())

    assert in_context(tell).result(PATIENCE) == 5
    assert pool.go(lambda: own.get()).result(PATIENCE) == 0


def test_what_cannot_travel_stays_and_hurts_nobody(pool):
    def tell():
        variable.set(threading.Lock())
        other.set("fine")
        return pool.go(look)

    assert in_context(tell).result(PATIENCE) == ("nothing", "fine")


def test_contexts_of_the_standard_library_travel(pool):
    def tell():
        decimal.getcontext().prec = 5
        return pool.go(lambda: str(decimal.Decimal(1) / 3))

    assert in_context(tell).result(PATIENCE) in ("0.33333", "0.3333333333333333333333333333")


def test_weightless_and_nested_tasks_see_it_too(pool):
    async def look_later():
        await td.sleep(0)
        return look()

    def nested():
        return td.go(look).result(PATIENCE)

    def tell():
        variable.set("carried")
        return pool.go(look_later), list(pool.map(call, [look] * 3))

    task, mapped = in_context(tell)
    assert task.result(PATIENCE)[0] == "carried"
    assert [one[0] for one in mapped] == ["carried"] * 3

    with Workers(1) as own:

        def tell_nested():
            variable.set("deep")
            return own.go(nested)

        assert in_context(tell_nested).result(PATIENCE)[0] == "deep"


def call(function):
    return function()


def test_weightless_tasks_of_one_worker_have_contexts_of_their_own(pool):
    async def set_and_look(value):
        variable.set(value)
        await td.sleep(0.001)
        return variable.get()

    tasks = [pool.go(set_and_look, value) for value in range(20)]
    assert [task.result(PATIENCE) for task in tasks] == list(range(20))


# --- logging ------------------------------------------------------------------------------------------------


def log(name, level, *args, **kwargs):
    logging.getLogger(name).log(level, *args, **kwargs)


@pytest.fixture
def listener():
    """Collects the records that reach the root's handlers, and says when so many are there."""

    class Listener(logging.Handler):
        def __init__(self):
            super().__init__()
            self.records = []
            self.came = threading.Condition()

        def emit(self, record):
            with self.came:
                self.records.append(record)
                self.came.notify_all()

        def wait_for(self, count):
            with self.came:
                assert self.came.wait_for(lambda: len(self.records) >= count, PATIENCE), self.records
                return self.records

    handler = Listener()
    logging.root.addHandler(handler)
    level, logging.root.level = logging.root.level, logging.INFO
    yield handler
    logging.root.removeHandler(handler)
    logging.root.setLevel(level)


def test_log_records_reach_the_handlers_here(listener):
    with Workers(1) as pool:
        pool.go(log, "shop.orders", logging.WARNING, "order %d of %s", 7, "Ada").result(PATIENCE)
        [record] = listener.wait_for(1)
        assert (record.name, record.levelname, record.getMessage()) == ("shop.orders", "WARNING", "order 7 of Ada")
        assert record.process in pool.statistics()["processes"]
        assert record.funcName == "log"


def test_records_of_one_task_come_in_their_order(listener):
    def log_many():
        for number in range(300):
            logging.getLogger("many").info("%d", number)

    with Workers(1) as pool:
        pool.go(log_many).result(PATIENCE)
        assert [record.getMessage() for record in listener.wait_for(300)] == [str(number) for number in range(300)]


def test_an_error_is_logged_with_its_traceback(listener):
    def log_error():
        try:
            work.fail(LookupError("lost"))
        except LookupError:
            logging.getLogger("shop").exception("it failed")

    with Workers(1) as pool:
        pool.go(log_error).result(PATIENCE)
        [record] = listener.wait_for(1)
        text = logging.Formatter().format(record)
        assert text.startswith("it failed")
        assert "in fail" in text
        assert "LookupError: lost" in text


def test_extra_fields_and_objects_in_messages(listener):
    def log_odd():
        logger = logging.getLogger("odd")
        logger.info("an order", extra={"customer": "Ada", "lock": threading.Lock()})
        logger.info("an object %s", threading.Lock())

    with Workers(1) as pool:
        pool.go(log_odd).result(PATIENCE)
        first, second = listener.wait_for(2)
        assert first.customer == "Ada"
        assert "lock" in second.getMessage()


def test_what_nobody_listens_to_here_is_not_even_sent(listener):
    logging.getLogger("quiet").setLevel(logging.ERROR)
    logging.getLogger("loud").setLevel(logging.DEBUG)
    try:
        with Workers(1) as pool:
            for name in ("quiet", "quiet.inner", "other"):
                pool.go(log, name, logging.DEBUG, "unheard").result(PATIENCE)
            pool.go(log, "quiet", logging.ERROR, "heard").result(PATIENCE)
            pool.go(log, "loud", logging.DEBUG, "heard").result(PATIENCE)
            assert [record.getMessage() for record in listener.wait_for(2)] == ["heard", "heard"]
            assert pool.go(lambda: logging.getLogger("quiet").isEnabledFor(logging.INFO)).result(PATIENCE) is False
            assert pool.go(lambda: logging.getLogger("loud").isEnabledFor(logging.DEBUG)).result(PATIENCE) is True
    finally:
        logging.getLogger("quiet").setLevel(logging.NOTSET)
        logging.getLogger("loud").setLevel(logging.NOTSET)


def test_a_filter_and_a_handler_of_a_logger_here_see_the_record(listener):
    logger = logging.getLogger("filtered")

    def refuse(record):
        return "secret" not in record.getMessage()

    logger.addFilter(refuse)
    try:
        with Workers(1) as pool:
            pool.go(log, "filtered", logging.INFO, "a secret").result(PATIENCE)
            pool.go(log, "filtered", logging.INFO, "no news").result(PATIENCE)
            assert [record.getMessage() for record in listener.wait_for(1)] == ["no news"]
    finally:
        logger.removeFilter(refuse)


def test_weightless_tasks_log_too(listener):
    async def log_later():
        await td.sleep(0)
        logging.getLogger("later").info("from a weightless task")

    with Workers(1) as pool:
        pool.go(log_later).result(PATIENCE)
        assert [record.getMessage() for record in listener.wait_for(1)] == ["from a weightless task"]


def test_records_of_an_initializer_come_too(listener):
    with Workers(1, initializer=log, initargs=("init", logging.WARNING, "made")) as pool:
        pool.go(work.double, 1).result(PATIENCE)
        assert [record.getMessage() for record in listener.wait_for(1)] == ["made"]


def test_what_was_logged_before_the_end_is_heard_after_it(listener):
    def log_many():
        for number in range(100):
            logging.getLogger("end").info("%d", number)

    with Workers(1) as pool:
        pool.go(log_many)
    assert len(listener.wait_for(100)) == 100


# --- warnings -----------------------------------------------------------------------------------------------


def warn(text, kind=UserWarning):
    warnings.warn(text, kind, stacklevel=1)


def test_warnings_are_shown_here():
    shown, came = [], threading.Event()

    def show(message, category, filename, lineno, file=None, line=None):
        shown.append((str(message), category, filename))
        came.set()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show
        with Workers(1) as pool:
            pool.go(warn, "old", DeprecationWarning).result(PATIENCE)
            assert came.wait(PATIENCE)
    assert shown == [("old", DeprecationWarning, __file__)]


def test_filters_of_this_process_are_those_of_the_workers():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Workers(1) as pool:
            with pytest.raises(UserWarning, match="as an error"):
                pool.go(warn, "as an error").result(PATIENCE)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore")
        with Workers(1) as pool:
            assert pool.go(warn, "ignored").result(PATIENCE) is None
    assert seen == []


@contextlib.contextmanager
def recording(action="always", **filter_of):
    with warnings.catch_warnings(record=True) as seen:
        warnings.filterwarnings(action, **filter_of)
        yield seen


def texts(seen):
    return [str(one.message) for one in seen]


async def warn_later(text):
    await td.sleep(0)
    warnings.warn(text, UserWarning, stacklevel=1)


@pytest.mark.parametrize("function", [warn, warn_later], ids=["plain", "weightless"])
def test_who_records_warnings_sees_those_of_tasks_however_old_the_pool_is(pool, function):
    for _ in range(3):
        with recording() as seen:
            pool.go(function, "told").result(PATIENCE)
            assert texts(seen) == ["told"]
        [one] = seen
        assert (one.category, one.filename) == (UserWarning, __file__)


def test_what_was_said_before_the_end_is_told_before_a_result_is_given(pool):
    def warn_much():
        for number in range(200):
            warn(f"number {number}")

    with recording() as seen:
        pool.go(warn_much).result(PATIENCE)
        assert texts(seen) == [f"number {number}" for number in range(200)]
    with recording() as seen:
        pool.go(warn_much)
        assert pool.wait_idle(PATIENCE)
        assert len(seen) == 200


def test_a_warning_becomes_an_error_at_its_place_when_that_is_wanted_later(pool):
    with recording("default"):
        pool.go(warn, "told").result(PATIENCE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for function in (warn, warn_later):
            error = pool.go(function, "raised").exception(PATIENCE)
            assert type(error) is UserWarning
            assert f"in {function.__name__}" in str(error.__cause__)
        warnings.filterwarnings("ignore", message="but not this")
        assert pool.go(warn, "but not this").result(PATIENCE) is None
    with recording() as seen:
        assert pool.go(warn, "told again").result(PATIENCE) is None
        assert texts(seen) == ["told again"]


def test_a_nested_task_has_the_filters_of_the_program():
    def nested():
        return td.go(warn, "deep").exception(PATIENCE)

    with Workers(2) as own:
        with recording() as seen:
            assert own.go(nested).result(PATIENCE) is None
            assert texts(seen) == ["deep"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert type(own.go(nested).result(PATIENCE)) is UserWarning


def test_each_place_warns_once_unless_it_is_to_warn_always(pool):
    def repeat(text):
        for _ in range(5):
            warn(text)

    for action, count in (("default", 1), ("once", 1), ("module", 1), ("always", 15)):
        with recording(action) as seen:
            for _ in range(3):
                pool.go(repeat, "again").result(PATIENCE)
            assert texts(seen) == ["again"] * count


def test_what_was_told_here_is_not_told_again_for_a_task(pool):
    with recording("default") as seen:
        warn("once in all")
        pool.go(warn, "once in all").result(PATIENCE)
        assert texts(seen) == ["once in all"]


def test_the_name_of_the_module_is_what_filters_go_by(pool):
    with recording("ignore") as seen:
        warnings.filterwarnings("always", module=rf"{__name__}$")
        pool.go(warn, "here").result(PATIENCE)
        pool.go(warnings.warn_explicit, "elsewhere", UserWarning, "file.py", 3).result(PATIENCE)
        assert texts(seen) == ["here"]
        warnings.filterwarnings("error", module="^file$")
        error = pool.go(warnings.warn_explicit, "elsewhere", UserWarning, "file.py", 3).exception(PATIENCE)
        assert type(error) is UserWarning


class OwnWarning(UserWarning):
    def __init__(self, text, number=0):
        super().__init__(text)
        self.number = number


def test_a_warning_keeps_its_class(pool):
    def warn_so():
        warnings.warn(OwnWarning("own", 5), stacklevel=1)

    with recording() as seen:
        pool.go(warn_so).result(PATIENCE)
        assert [(type(one.message), one.message.number) for one in seen] == [(OwnWarning, 5)]


def test_what_a_task_or_an_initializer_filters_stays_there():
    def record():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            warn("mine")
        return [str(one.message) for one in seen]

    with recording() as seen, Workers(1) as own:
        assert own.go(record).result(PATIENCE) == ["mine"]
        assert seen == []
    with Workers(1, initializer=warnings.filterwarnings, initargs=("ignore", "quiet")) as own, recording() as seen:
        own.go(warn, "quiet").result(PATIENCE)
        own.go(warn, "loud").result(PATIENCE)
        assert texts(seen) == ["loud"]


SCRIPT = """
import warnings
import thistledown as td

class Own(UserWarning):
    pass

def old():
    warnings.warn("careful", DeprecationWarning)
    warnings.warn("own", Own)

td.go(old).result()
td.go(old).result()
with warnings.catch_warnings():
    warnings.simplefilter("error", Own)
    print(type(td.go(old).exception()) is Own)
"""


def test_warnings_of_a_script_are_told_as_python_tells_them(tmp_path):
    """By default those for programmers are shown when the script itself is to blame."""
    tmp_path.joinpath("script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "True\n"
    # The place of a block of filters counts as new.
    assert done.stderr.count(": DeprecationWarning: careful") == 2
    assert done.stderr.count(": Own: own") == 1
    assert "script.py:9: " in done.stderr


# --- streams ------------------------------------------------------------------------------------------------


def speak(text):
    print(f"out {text}")
    print(f"err {text}", file=sys.stderr)
    os.write(1, f"raw out {text}\n".encode())
    os.write(2, f"raw err {text}\n".encode())


def test_what_tasks_print_comes_out_here(capfd):
    with Workers(1) as pool:
        pool.go(speak, "ä").result(PATIENCE)
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["out ä", "raw out ä"]
    assert sorted(err.splitlines()) == ["err ä", "raw err ä"]


def test_much_on_stderr_is_no_problem(capfd):
    def shout():
        for _ in range(1000):
            os.write(2, b"x" * 999 + b"\n")

    with Workers(1) as pool:
        pool.go(shout).result(PATIENCE)
    assert capfd.readouterr().err.count("x" * 999 + "\n") == 1000


def test_the_last_lines_on_stderr_are_in_the_error_of_a_death(capfd):
    def shout_and_die():
        for number in range(100):
            print("line", number, file=sys.stderr)
        os._exit(3)

    with Workers(1) as pool:
        error = pool.go(shout_and_die).exception(PATIENCE)
    assert isinstance(error, td.WorkerDied)
    assert error.exitcode == 3
    assert "line 99" in str(error)
    assert error.stderr.rstrip().endswith("line 99")
    assert "line 1\n" not in str(error)
    assert capfd.readouterr().err.count("line") == 100


def test_tasks_read_nothing_from_the_terminal(pool):
    assert pool.go(lambda: sys.stdin is None or sys.stdin.read()).result(PATIENCE) in (True, "")


# --- environment --------------------------------------------------------------------------------------------

LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def environment(*names):
    return [os.environ.get(name) for name in names]


def test_numerical_libraries_share_the_cores(monkeypatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    cores = len(os.sched_getaffinity(0))
    for workers in (1, cores, 4 * cores):
        with Workers(workers) as pool:
            expected = str(max(1, cores // workers))
            assert pool.go(environment, *LIMITS).result(PATIENCE) == [expected] * len(LIMITS)
    assert environment(*LIMITS) == [None] * len(LIMITS)


def test_a_limit_that_is_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Workers(1) as pool:
        assert pool.go(environment, "OMP_NUM_THREADS").result(PATIENCE) == ["7"]


def test_the_environment_and_the_folder_are_those_at_the_start(monkeypatch, tmp_path):
    monkeypatch.setenv("THISTLEDOWN_TEST", "set")
    monkeypatch.chdir(tmp_path)
    with Workers(1) as pool:
        assert pool.go(environment, "THISTLEDOWN_TEST").result(PATIENCE) == ["set"]
        assert pool.go(os.getcwd).result(PATIENCE) == str(tmp_path)
        assert pool.go(lambda: list(sys.argv)).result(PATIENCE) == sys.argv


def test_two_workers_draw_different_numbers(gate):
    def draw(path):
        import random

        work.pass_gate(path)
        return os.getpid(), random.random(), tuple(numpy_numbers())

    def numpy_numbers():
        import numpy

        return numpy.random.rand(2)

    with Workers(2, preload=["random", "numpy.random"]) as pool:
        tasks = [pool.go(draw, gate.path) for _ in range(2)]
        gate.wait_for_arrivals(2)
        gate.open(2)
        first, second = (task.result(PATIENCE) for task in tasks)
        assert first[0] != second[0]
        assert first[1] != second[1]
        assert first[2] != second[2]


MANAGER = """
import multiprocessing
import thistledown as td

if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        queue = manager.Queue()
        td.go(queue.put, 5).result()
        td.go(lambda: queue.put(6)).result()
        print(queue.get(), queue.get())
"""


def test_the_queues_of_a_manager_can_be_handed_over(tmp_path):
    tmp_path.joinpath("script.py").write_text(MANAGER)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout == "5 6\n"
