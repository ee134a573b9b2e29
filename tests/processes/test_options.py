"""Options of tasks: time limits, retries, priorities, names, keys; as `options(...)` and as `@td.task(...)`."""

import concurrent.futures as futures
import os
import signal

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE


def spin():
    while True:
        pass


def here():
    pass


# --- timeout ------------------------------------------------------------------------------------------------


def test_a_task_in_time_is_not_disturbed(pool):
    assert pool.options(timeout=PATIENCE).go(work.double, 4).result(PATIENCE) == 8
    assert pool.options(timeout=None).go(work.double, 4).result(PATIENCE) == 8
    assert pool.options(timeout=float("inf")).go(work.double, 4).result(PATIENCE) == 8


def test_a_task_out_of_time_fails_and_its_worker_goes_on(pool):
    one = pool.options(key="the same worker")
    # The first task of this file has it imported there, which is nothing that is stopped in its middle.
    one.go(here).result(PATIENCE)
    task = one.options(timeout=0.05).go(spin)
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        task.result(PATIENCE)
    assert (task.done(), task.cancelled()) == (True, False)
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_task_out_of_time_can_clean_up(pool, journal):
    def wait_in_vain(path, work_on):
        try:
            work_on()
        finally:
            work.write(path, "cleaned up")

    one = pool.options(key="the same worker")
    one.go(wait_in_vain, journal.path, work.process).result(PATIENCE)
    with pytest.raises(TimeoutError):
        # What the worker has to import for its arguments would count.
        one.options(timeout=0.5).go(wait_in_vain, journal.path, signal.pause).result(PATIENCE)
    assert journal.lines() == ["cleaned up"] * 2


def test_time_counts_from_the_beginning_of_the_task_itself(gate):
    """A queued task loses no time. Its limit ends long before the one in front of it does."""
    with Workers(1) as pool:
        blocks = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        waits = pool.options(timeout=0.5).go(work.double, 4)
        with pytest.raises(TimeoutError):
            waits.result(1.0)
        assert not waits.done()
        gate.open()
        assert blocks.result(PATIENCE) == gate.path
        assert waits.result(PATIENCE) == 8


def test_a_task_that_swallows_its_end_is_killed_after_the_grace():
    def hold_on():
        while True:
            try:
                spin()
            except BaseException:
                continue

    with Workers(1, grace=0.05) as pool:
        with pytest.raises(TimeoutError):
            pool.options(timeout=0.05).go(hold_on).result(PATIENCE)
        assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_what_a_task_returns_after_its_time_does_not_count():
    def return_all_the_same():
        try:
            spin()
        except BaseException:
            return "too late"

    with Workers(1) as pool:
        with pytest.raises(TimeoutError):
            pool.options(timeout=0.05).go(return_all_the_same).result(PATIENCE)


def test_a_task_whose_time_is_over_cannot_be_cancelled_any_more(gate):
    def linger(path, work_on, arrive, wait_at):
        try:
            work_on()
        except BaseException:
            arrive(path)
            wait_at(path)

    with Workers(1, grace=PATIENCE) as pool:
        # What the worker has to import does not count.
        pool.go(linger, gate.path, int, work.arrive, work.wait_at).result(PATIENCE)
        task = pool.options(timeout=0.05).go(linger, gate.path, signal.pause, work.arrive, work.wait_at)
        gate.arrival()
        assert task.cancel() is False
        gate.open()
        with pytest.raises(TimeoutError):
            task.result(PATIENCE)


# --- cancel of what runs ------------------------------------------------------------------------------------


def test_a_running_task_can_be_cancelled_and_its_worker_goes_on(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert task.cancelled()
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_running_task_that_is_cancelled_sees_cancelled_and_cleans_up(pool, gate, journal):
    def stand(path, journal):
        try:
            work.pass_gate(path)
        except td.Cancelled:
            work.write(journal, "cancelled")
            raise
        finally:
            work.write(journal, "cleaned up")

    task = pool.go(stand, gate.path, journal.path)
    gate.wait_for_arrivals()
    task.cancel()
    futures.wait([task], PATIENCE)
    assert journal.lines() == ["cancelled", "cleaned up"]


def test_a_task_that_is_stopped_where_errors_are_ignored_is_stopped_a_little_later(gate):
    """Python ignores what is raised in `__del__`."""

    class Stands:
        def __init__(self, path):
            self.path = path

        def __del__(self):
            work.pass_gate(self.path)

    def drop_and_spin(path):
        Stands(path)
        spin()

    with Workers(1, grace=PATIENCE / 10) as pool:
        process = pool.go(work.process).result(PATIENCE)
        task = pool.go(drop_and_spin, gate.path)
        gate.wait_for_arrivals()
        assert task.cancel()
        with pytest.raises(td.TaskCancelled):
            task.result(PATIENCE)
        assert pool.go(work.process).result(PATIENCE) == process, "its worker had to be killed"


# --- retries ------------------------------------------------------------------------------------------------


def fail_at_first(path, times, how):
    """Counts its calls in a journal, and fails so many times."""
    work.write(path, "tried")
    with open(path) as journal:
        tried = len(journal.readlines())
    if tried > times:
        return tried
    return how()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def raise_lookup():
    raise KeyError("not yet")


def raise_value():
    raise ValueError("never")


def test_a_task_whose_worker_died_is_tried_again(journal):
    with Workers(1) as pool:
        assert pool.options(retries=2).go(fail_at_first, journal.path, 2, die).result(PATIENCE) == 3
        assert pool.statistics()["retried"] == 2
        assert pool.statistics()["died"] == 2


def test_no_more_than_so_many_times(journal):
    with Workers(1) as pool:
        with pytest.raises(td.WorkerDied):
            pool.options(retries=1).go(fail_at_first, journal.path, 5, die).result(PATIENCE)
        assert journal.lines() == ["tried"] * 2
        assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_without_retries_a_death_is_final(journal):
    with Workers(1) as pool:
        with pytest.raises(td.WorkerDied):
            pool.go(fail_at_first, journal.path, 1, die).result(PATIENCE)
        assert journal.lines() == ["tried"]


def test_a_task_is_tried_again_after_an_exception_that_was_named(pool, journal):
    safe = pool.options(retries=3, retry_on=(KeyError, OSError))
    assert safe.go(fail_at_first, journal.path, 2, raise_lookup).result(PATIENCE) == 3


def test_a_subclass_of_what_was_named_counts(pool, journal):
    safe = pool.options(retries=1, retry_on=LookupError)
    assert safe.go(fail_at_first, journal.path, 1, raise_lookup).result(PATIENCE) == 2


def test_the_last_error_is_raised_when_the_tries_are_over(pool, journal):
    with pytest.raises(KeyError, match="not yet"):
        pool.options(retries=2, retry_on=KeyError).go(fail_at_first, journal.path, 5, raise_lookup).result(PATIENCE)
    assert journal.lines() == ["tried"] * 3


def test_after_another_exception_it_is_not_tried_again(pool, journal):
    with pytest.raises(ValueError, match="never"):
        pool.options(retries=2, retry_on=KeyError).go(fail_at_first, journal.path, 1, raise_value).result(PATIENCE)
    assert journal.lines() == ["tried"]


def test_an_exception_that_nobody_named_is_not_tried_again(pool, journal):
    """`retries` alone is for deaths."""
    with pytest.raises(ValueError, match="never"):
        pool.options(retries=2).go(fail_at_first, journal.path, 1, raise_value).result(PATIENCE)
    assert journal.lines() == ["tried"]


def test_an_exception_of_the_program_itself_can_be_named(pool, journal):
    class Busy(Exception):
        pass

    def be_busy():
        raise Busy

    assert pool.options(retries=1, retry_on=Busy).go(fail_at_first, journal.path, 1, be_busy).result(PATIENCE) == 2


def test_a_task_out_of_time_is_not_tried_again(pool, journal):
    with pytest.raises(TimeoutError):
        pool.options(retries=2, timeout=0.5).go(fail_at_first, journal.path, 5, spin).result(PATIENCE)
    assert len(journal.lines()) <= 1  # on a busy machine its time may be over before it has begun to write


def test_a_cancelled_task_is_not_tried_again(pool, journal, gate):
    def stand():
        work.pass_gate(gate_path)

    gate_path = gate.path
    task = pool.options(retries=2, retry_on=BaseException).go(fail_at_first, journal.path, 5, stand)
    gate.wait_for_arrivals()
    assert task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    assert journal.lines() == ["tried"]


def test_a_weightless_task_is_tried_again_too(pool, journal):
    async def fail_once(path):
        work.write(path, "tried")
        with open(path) as lines:
            if len(lines.readlines()) < 2:
                raise KeyError
        return "done"

    assert pool.options(retries=1, retry_on=KeyError).go(fail_once, journal.path).result(PATIENCE) == "done"


# --- priority -----------------------------------------------------------------------------------------------


def test_higher_priorities_begin_first_and_equal_ones_in_their_order(gate, journal):
    with Workers(1) as pool:
        blocks = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        for name, priority in [("a", 0), ("b", 5), ("c", -3), ("d", 5), ("e", 0), ("f", 100), ("g", -3)]:
            pool.options(priority=priority).go(work.write, journal.path, name)
        pool.go(work.write, journal.path, "h")
        gate.open()
        blocks.result(PATIENCE)
    assert journal.lines() == list("fbdaehcg")


def test_a_later_task_of_higher_priority_overtakes_what_waits_at_a_busy_worker(gate, journal):
    """Also when tasks are so small that many are laid in front of one worker."""
    with Workers(1) as pool:
        for task in [pool.go(work.double, number) for number in range(200)]:
            task.result(PATIENCE)
        blocks = pool.go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        for number in range(20):
            pool.go(work.write, journal.path, number)
        pool.options(priority=1).go(work.write, journal.path, "first")
        gate.open()
        blocks.result(PATIENCE)
    assert journal.lines() == ["first", *map(str, range(20))]


# --- name ---------------------------------------------------------------------------------------------------


def test_the_name_of_a_task_is_in_its_errors(pool):
    task = pool.options(name="the-resizer", timeout=0.05).go(spin)
    assert task.name == "the-resizer"
    with pytest.raises(TimeoutError, match="the-resizer"):
        task.result(PATIENCE)


# --- key ----------------------------------------------------------------------------------------------------


def note_both(path, name):
    work.write(path, f"{name} begins")
    work.write(path, f"{name} ends")


def test_tasks_of_one_key_keep_their_order_and_never_overlap(journal):
    with Workers(3) as pool:
        one = pool.options(key="account-17")
        for number in range(30):
            one.go(note_both, journal.path, number)
    assert journal.lines() == [f"{number} {what}" for number in range(30) for what in ("begins", "ends")]


def test_a_task_waits_for_the_one_of_its_key_and_other_keys_run_beside_it(gates):
    first, other = gates(), gates()
    with Workers(2) as pool:
        one = pool.options(key=("account", 1))
        runs, waits = one.go(work.pass_gate, first.path, "runs"), one.go(work.pass_gate, first.path, "waits")
        first.wait_for_arrivals()
        beside = pool.options(key=("account", 2)).go(work.pass_gate, other.path)
        other.wait_for_arrivals()
        assert not first.has_arrivals()
        assert (runs.running(), waits.running(), beside.running()) == (True, False, True)
        first.open()
        assert first.arrival() == "waits"
        first.open()
        other.open()
        assert [task.result(PATIENCE) for task in (runs, waits, beside)] == [first.path, first.path, other.path]


def test_a_key_that_waits_does_not_hold_tasks_without_a_key_up(gate):
    with Workers(2) as pool:
        one = pool.options(key=1)
        runs, waits = [one.go(work.pass_gate, gate.path) for _ in range(2)]
        gate.wait_for_arrivals()
        assert [pool.go(work.double, number).result(PATIENCE) for number in range(5)] == [0, 2, 4, 6, 8]
        gate.open(2)
        assert [runs.result(PATIENCE), waits.result(PATIENCE)] == [gate.path] * 2


def test_keys_go_on_after_errors_cancels_timeouts_and_deaths(gate):
    with Workers(2, grace=0.1) as pool:
        one = pool.options(key="k")
        ends = [
            one.go(work.pass_gate, gate.path),
            one.go(raise_value),
            one.options(timeout=0.05).go(spin),
            one.go(die),
            one.go(work.double, 1),
            one.go(work.double, 2),
        ]
        gate.wait_for_arrivals()
        assert ends[4].cancel()
        gate.open()
        assert ends[5].result(PATIENCE) == 4
        kinds = [type(task.exception(0)) for task in ends[1:4]]
        assert kinds == [ValueError, TimeoutError, td.WorkerDied]


def test_a_key_prefers_the_worker_that_it_had_last(pool):
    one = pool.options(key="warm")
    processes = {one.go(work.process).result(PATIENCE) for _ in range(20)}
    assert len(processes) == 1


def test_equal_keys_are_one_key(gate):
    with Workers(2) as pool:
        runs = pool.options(key=("a", 1, None)).go(work.pass_gate, gate.path)
        gate.wait_for_arrivals()
        waits = pool.options(key=("a", 1, None)).go(work.pass_gate, gate.path)
        assert pool.go(work.double, 1).result(PATIENCE) == 2
        assert not waits.running()
        gate.open(2)
        assert [runs.result(PATIENCE), waits.result(PATIENCE)] == [gate.path] * 2


def test_weightless_tasks_of_one_key_never_overlap(journal):
    async def note(path, name):
        work.write(path, f"{name} begins")
        await td.sleep(0)
        await td.sleep(0.001)
        work.write(path, f"{name} ends")

    with Workers(2) as pool:
        one = pool.options(key="k")
        for number in range(10):
            one.go(note, journal.path, number)
    assert journal.lines() == [f"{number} {what}" for number in range(10) for what in ("begins", "ends")]


# --- all of them --------------------------------------------------------------------------------------------


def test_options_never_mix_with_the_functions_own_arguments(pool):
    own = {"timeout": 1, "key": 2, "name": 3, "priority": 4, "retries": 5, "memory": 6}
    assert pool.options(timeout=PATIENCE, name="x").go(work.echo, **own).result(PATIENCE) == ((), own)


def test_options_add_up_and_the_last_word_counts(pool):
    place = pool.options(name="first", priority=1).options(name="second")
    task = place.go(work.double, 1)
    assert (task.name, task.result(PATIENCE)) == ("second", 2)
    assert place.submit(work.double, 2).result(PATIENCE) == 4
    assert list(place.map(work.double, [1, 2])) == [2, 4]


def test_a_place_of_a_closed_pool_refuses():
    with Workers(1) as pool:
        place = pool.options(priority=1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        place.go(work.double, 1)


WRONG = {
    "no such option": ({"timeouts": 1}, TypeError, "timeouts"),
    "a negative timeout": ({"timeout": -1}, ValueError, "timeout"),
    "no timeout at all": ({"timeout": 0}, ValueError, "timeout"),
    "a timeout that is no number": ({"timeout": "1"}, TypeError, "timeout"),
    "a timeout that is not a number": ({"timeout": float("nan")}, ValueError, "timeout"),
    "negative retries": ({"retries": -1}, ValueError, "retries"),
    "half a retry": ({"retries": 0.5}, TypeError, "retries"),
    "no exception": ({"retry_on": "ValueError"}, TypeError, "retry_on"),
    "an object of an exception": ({"retry_on": ValueError()}, TypeError, "retry_on"),
    "a priority that is no number": ({"priority": "high"}, TypeError, "priority"),
    "a priority out of range": ({"priority": 1 << 40}, ValueError, "priority"),
    "a name that is no text": ({"name": 5}, TypeError, "name"),
    "a key that cannot be hashed": ({"key": []}, TypeError, "key"),
    "no memory": ({"memory": 0}, ValueError, "memory"),
    "memory in words": ({"memory": "a lot"}, ValueError, "memory"),
}


@pytest.mark.parametrize(("options", "kind", "word"), WRONG.values(), ids=WRONG)
def test_a_wrong_option_is_refused_at_once_and_named(pool, options, kind, word):
    with pytest.raises(kind, match=word):
        pool.options(**options)
    with pytest.raises(kind, match=word):
        td.task(**options)(work.double)


# --- td.task ------------------------------------------------------------------------------------------------


@td.task
def triple(number):
    """Three times as much."""
    return 3 * number


@td.task(name="waiter", timeout=0.05)
def wait_in_vain():
    spin()


class Shop:
    price = 3

    @td.task
    def total(self, count):
        return self.price * count


def test_a_task_function_stays_what_it_is():
    assert triple(4) == 12
    assert (triple.__name__, triple.__doc__) == ("triple", "Three times as much.")
    assert Shop().total(2) == 6


def test_a_task_function_can_be_told_to_go(default_pool):
    assert triple.go(4).result(PATIENCE) == 12
    assert list(triple.map([1, 2, 3])) == [3, 6, 9]
    assert Shop().total.go(2).result(PATIENCE) == 6


def test_a_task_function_has_its_options(default_pool):
    task = wait_in_vain.go()
    assert task.name == "waiter"
    with pytest.raises(TimeoutError, match=r"0\.05 s"):
        task.result(PATIENCE)
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        wait_in_vain.options(timeout=0.01).go().result(PATIENCE)
    assert triple.options(name="other").go(1).name == "other"


def test_a_task_function_of_this_function_can_go(default_pool):
    factor = 5

    @td.task(priority=1)
    def scale(number):
        return factor * number

    assert scale.go(2).result(PATIENCE) == 10


def test_a_task_function_is_called_in_a_task_like_any_function(pool):
    assert pool.go(lambda: triple(5)).result(PATIENCE) == 15


async def test_a_weightless_task_function_runs_here():
    @td.task(name="here")
    async def process():
        await td.sleep(0)
        return os.getpid()

    task = process.go()
    assert task.name == "here"
    assert await task == os.getpid()


def test_td_task_refuses_what_is_no_function():
    with pytest.raises(TypeError, match="function"):
        td.task(5)
