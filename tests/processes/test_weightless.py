"""`async def` and generator functions in a pool: weightless tasks inside its workers, many at a time."""

import functools
import os

import pytest
import thistledown as td
import work
from pools import Workers

from support import PATIENCE


async def give(value):
    await td.sleep(0)
    return value


def generate(value):
    yield
    yield from td.sleep(0)
    return value


class Giver:
    def __init__(self, value):
        self.value = value

    async def give(self):
        await td.sleep(0)
        return self.value

    @staticmethod
    async def give_static(value):
        return value


async def stand_at(path, name=""):
    """As `work.pass_gate`, and lets others run meanwhile."""
    work.arrive(path, name)
    passes = os.open(f"{path}.passes", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            await td.readable(passes)
            try:
                if os.read(passes, 1):
                    return os.getpid()
            except BlockingIOError:
                continue
    finally:
        os.close(passes)


BODIES = {
    "an async def": (give, (1,), 1),
    "a generator function": (generate, (2,), 2),
    "a bound method": (Giver(3).give, (), 3),
    "a static method": (Giver.give_static, (4,), 4),
    "a partial": (functools.partial(give, 5), (), 5),
    "a partial of a bound method": (functools.partial(Giver(6).give), (), 6),
}


@pytest.mark.parametrize(("body", "args", "result"), BODIES.values(), ids=BODIES)
def test_what_makes_a_body_runs_as_a_weightless_task_of_a_worker(pool, body, args, result):
    for _ in range(2):
        assert pool.go(body, *args).result(PATIENCE) == result
    assert pool.submit(body, *args).result(PATIENCE) == result


def test_a_body_of_this_function_travels_by_value(pool):
    kept = [1, 2]

    async def outer():
        async def inner(number):
            await td.sleep(0)
            return number + sum(kept)

        async with td.TaskGroup() as group:
            tasks = [group.go(inner, number) for number in range(3)]
        return [task.result() for task in tasks]

    assert pool.go(outer).result(PATIENCE) == [3, 4, 5]


def test_many_run_in_one_worker_at_a_time(gate):
    with Workers(1) as pool:
        tasks = [pool.go(stand_at, gate.path) for _ in range(50)]
        gate.wait_for_arrivals(50)
        assert all(task.running() for task in tasks)
        gate.open(50)
        assert len({task.result(PATIENCE) for task in tasks}) == 1


def test_no_more_than_the_limit_run_at_a_time_in_a_worker(gate):
    with Workers(1, concurrency=3) as pool:
        tasks = [pool.go(stand_at, gate.path, name) for name in range(10)]
        assert sorted(gate.wait_for_arrivals(3)) == ["0", "1", "2"]
        for name in range(3, 10):
            assert not gate.has_arrivals()
            gate.open()
            assert gate.arrival() == str(name)
        gate.open(3)
        assert len({task.result(PATIENCE) for task in tasks}) == 1


def test_they_are_spread_over_the_workers(gate):
    with Workers(2, concurrency=4) as pool:
        tasks = [pool.go(stand_at, gate.path) for _ in range(8)]
        gate.wait_for_arrivals(8)
        gate.open(8)
        processes = [task.result(PATIENCE) for task in tasks]
        assert sorted(processes.count(process) for process in set(processes)) == [4, 4]


def test_plain_and_weightless_tasks_take_turns():
    """A worker has tasks of one kind at a time; all get their turn."""
    tasks = []
    with Workers(2) as pool:
        for number in range(300):
            body = (work.double, give, generate)[number % 3]
            tasks.append((number * 2 if number % 3 == 0 else number, pool.go(body, number)))
        assert [task.result(PATIENCE) for _, task in tasks] == [result for result, _ in tasks]


def test_a_plain_task_does_not_hold_weightless_ones_up(gates):
    plain, weightless = gates(), gates()
    with Workers(2) as pool:
        blocks = pool.go(work.pass_gate, plain.path)
        plain.wait_for_arrivals()
        tasks = [pool.go(stand_at, weightless.path) for _ in range(5)]
        weightless.wait_for_arrivals(5)
        weightless.open(5)
        assert len({task.result(PATIENCE) for task in tasks}) == 1
        assert not blocks.done()
        plain.open()
        assert blocks.result(PATIENCE) == plain.path


def test_one_can_be_cancelled_and_the_others_go_on(gate, journal):
    async def clean_up(path):
        try:
            return await stand_at(path, "victim")
        finally:
            work.write(journal.path, "cleaned up")

    with Workers(1) as pool:
        first = [pool.go(stand_at, gate.path) for _ in range(3)]
        gate.wait_for_arrivals(3)
        victim = pool.go(clean_up, gate.path)
        assert gate.arrival() == "victim"
        assert victim.cancel()
        with pytest.raises(td.TaskCancelled):
            victim.result(PATIENCE)
        assert victim.cancelled()
        assert journal.lines() == ["cleaned up"]
        gate.open(3)
        assert len({task.result(PATIENCE) for task in first}) == 1
        assert pool.statistics()["died"] == 0


def test_a_plain_task_behind_what_a_weightless_one_has_left_can_be_cancelled(gate, journal):

    async def leave_behind(path):
        async def stay():
            with td.shield():
                await stand_at(path)

        td.go(stay)
        await td.sleep(0)

    with Workers(1, grace=PATIENCE) as pool:
        left = pool.go(leave_behind, gate.path)
        gate.wait_for_arrivals()
        plain = pool.go(work.write, journal.path, "ran")
        assert left.result(PATIENCE) is None
        assert plain.cancel()
        gate.open()
        with pytest.raises(td.TaskCancelled):
            plain.result(PATIENCE)
        assert pool.go(work.double, 4).result(PATIENCE) == 8
        assert pool.statistics()["died"] == 0
    assert journal.lines() == []


def test_one_that_is_queued_behind_the_limit_can_be_cancelled(gate, journal):
    async def write():
        work.write(journal.path, "ran")

    with Workers(1, concurrency=1) as pool:
        runs = pool.go(stand_at, gate.path)
        gate.wait_for_arrivals()
        waits = pool.go(write)
        assert waits.cancel()
        assert waits.cancelled()
        gate.open()
        runs.result(PATIENCE)
    assert journal.lines() == []


async def fail(error):
    await td.sleep(0)
    raise error


def test_an_error_of_one_is_its_own(pool):
    tasks = [pool.go(fail if number % 2 else give, ValueError(number)) for number in range(10)]
    for number, task in enumerate(tasks):
        if number % 2:
            with pytest.raises(ValueError, match=str(number)):
                task.result(PATIENCE)
        else:
            assert task.result(PATIENCE).args == (number,)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_one_that_leaves_the_program_fails_alone(pool, kind):
    """The error comes back as it is; the worker, and what else it runs, goes on."""
    with pytest.raises(kind):
        pool.go(fail, kind("over")).result(PATIENCE)
    assert pool.go(give, 5).result(PATIENCE) == 5
    assert pool.go(work.double, 5).result(PATIENCE) == 10


def test_a_timeout_ends_one_of_them(gate):
    with Workers(1) as pool:
        others = [pool.go(stand_at, gate.path) for _ in range(2)]
        gate.wait_for_arrivals(2)
        with pytest.raises(TimeoutError):
            pool.options(timeout=0.05).go(stand_at, gate.path).result(PATIENCE)
        gate.open(2)
        assert [task.exception(PATIENCE) for task in others] == [None, None]
        assert pool.statistics()["died"] == 0


async def in_a_thread():
    return await td.thread(os.getpid) == os.getpid()


async def use_timeout():
    with td.move_on_after(0.001) as scope:
        await td.sleep(PATIENCE)
    return scope.expired


async def use_channel():
    channel = td.Channel()
    async with td.TaskGroup() as group:
        group.go(send, channel)
        return await channel.recv()


async def send(channel):
    await channel.send(5)


def test_everything_of_a_run_is_there(pool):
    assert pool.go(in_a_thread).result(PATIENCE)
    assert pool.go(use_timeout).result(PATIENCE)
    assert pool.go(use_channel).result(PATIENCE) == 5


@pytest.mark.parametrize("concurrency", [1, 2])
def test_weightless_tasks_that_wait_for_others_of_the_pool_leave_them_room(concurrency):
    async def dig(depth):
        return depth and 1 + await td.workers().go(dig, depth - 1)

    with Workers(1, concurrency=concurrency) as pool:
        assert pool.go(dig, 10).result(PATIENCE) == 10


def test_a_worker_is_replaced_after_so_many_weightless_tasks():
    async def process():
        await td.sleep(0.001)
        return os.getpid()

    with Workers(1, max_tasks_per_child=3) as pool:
        tasks = [pool.go(process) for _ in range(10)]
        processes = [task.result(PATIENCE) for task in tasks]
        assert sorted(processes.count(process) for process in set(processes)) == [1, 3, 3, 3]


def test_an_async_generator_function_is_refused(pool):
    async def numbers():
        yield 1

    with pytest.raises(TypeError):
        pool.go(numbers).result(PATIENCE)


def test_a_body_that_has_begun_cannot_be_sent(pool):
    body = give(1)
    with pytest.raises(TypeError):
        pool.go(body)
    body.close()


def test_a_thousand(pool):
    tasks = [pool.go(give, number) for number in range(1000)]
    assert [task.result(PATIENCE) for task in tasks] == list(range(1000))


# --- tasks that can never go on ---------------------------------------------------------------------------------


async def waits_for_nothing():
    await td.Channel().recv()


def test_tasks_that_can_never_go_on_are_told_why_and_their_worker_goes_on():
    with Workers(1) as pool:
        tasks = [pool.go(waits_for_nothing) for _ in range(2)]
        for task in tasks:
            with pytest.raises(td.DeadlockError, match="nothing can happen any more; 2 tasks wait") as caught:
                task.result(PATIENCE)
            assert str(caught.value).count("waits_for_nothing waits for recv from channel") == 2
        assert pool.go(give, 3).result(PATIENCE) == 3
        assert pool.go(work.double, 3).result(PATIENCE) == 6


def test_a_task_that_something_may_still_come_for_is_left_alone(gate):
    async def waits_for_nested(path):
        return await td.workers().go(work.pass_gate, path)

    with Workers(2) as pool:
        task = pool.go(waits_for_nested, gate.path)
        gate.wait_for_arrivals()
        dead = pool.go(waits_for_nothing)
        assert not dead.done()
        gate.open()
        assert task.result(PATIENCE) == gate.path
        assert isinstance(dead.exception(PATIENCE), td.DeadlockError)


def test_a_task_that_can_never_go_on_cleans_up_first(journal):
    async def cleans_up(path):
        try:
            await td.Channel().recv()
        finally:
            work.write(path, "cleaned up")

    async def catches():
        try:
            await td.Channel().recv()
        except td.Cancelled:
            return "caught"

    with Workers(1) as pool:
        cleaning, catching = pool.go(cleans_up, journal.path), pool.go(catches)
        assert isinstance(cleaning.exception(PATIENCE), td.DeadlockError)
        assert catching.result(PATIENCE) == "caught"
    assert journal.lines() == ["cleaned up"]


def test_a_task_that_does_not_even_end_is_given_up():
    async def stubborn():
        with td.shield():
            await td.Channel().recv()

    with Workers(1) as pool:
        assert isinstance(pool.go(stubborn).exception(PATIENCE), td.DeadlockError)
        assert pool.go(give, 3).result(PATIENCE) == 3


# --- what they begin ------------------------------------------------------------------------------------------


async def in_background(path):
    try:
        await td.Channel(1).recv()
    finally:
        work.write(path, "cleaned up")


async def begin(path):
    td.go(in_background, path)
    await td.sleep(0)


class Beginner:
    async def begin(self, path):
        await begin(path)


async def begin_and_wait():
    async with td.TaskGroup() as group:
        group.go(give, 1)
        group.go(give, 2)
    return await td.go(give, 3)


@pytest.mark.parametrize("of_actor", [False, True])
def test_what_they_begin_and_do_not_wait_for_is_stopped_with_the_last_of_them_and_named(journal, caplog, of_actor):
    with Workers(1) as pool:
        if of_actor:
            pool.actor(Beginner).begin(journal.path).result(PATIENCE)
        else:
            pool.go(begin, journal.path).result(PATIENCE)
    assert journal.lines() == ["cleaned up"]
    (said,) = [record.getMessage() for record in caplog.records if "stopped in its worker" in record.getMessage()]
    assert "in_background-" in said
    assert "td.TaskGroup" in said


def test_nothing_is_said_of_what_they_have_waited_for(caplog):
    with Workers(1) as pool:
        assert pool.go(begin_and_wait).result(PATIENCE) == 3
    assert not caplog.records


def test_a_run_inside_of_a_plain_task_finds_its_deadlock():
    with Workers(1) as pool:
        assert isinstance(pool.go(lambda: td.run(waits_for_nothing)).exception(PATIENCE), td.DeadlockError)
