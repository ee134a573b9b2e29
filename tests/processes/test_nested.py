"""Tasks that start tasks and wait for them, to any depth: a worker that waits gives up its place."""

import concurrent.futures as futures
import contextlib
import functools
import os

import pytest
import thistledown as td
import work
from pools import Workers

from leaks import eventually
from support import PATIENCE


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_nest_to_a_depth_of_fifty(workers):
    with Workers(workers) as pool:
        assert pool.go(work.dig, 50).result(PATIENCE) == 50


def test_a_tree_of_tasks():
    with Workers(2) as pool:
        assert pool.go(work.fork_out, 5).result(PATIENCE) == 32


def test_many_tasks_that_all_nest():
    with Workers(2) as pool:
        assert list(pool.map(work.dig, [3] * 10, chunksize=1)) == [3] * 10


def test_a_nested_task_that_fails_fails_who_waits_with_the_same_error():
    def outer():
        return td.go(work.fail, LookupError("deep down")).result(PATIENCE)

    with Workers(1) as pool:
        with pytest.raises(LookupError, match="deep down") as caught:
            pool.go(outer).result(PATIENCE)
        assert "in fail" in str(caught.value.__cause__)
        assert "in outer" in str(caught.value.__cause__)


def test_a_nested_error_can_be_caught():
    def outer():
        try:
            td.go(work.fail, LookupError("deep down")).result(PATIENCE)
        except LookupError as error:
            return f"caught {error}"

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == "caught deep down"


def test_a_nested_task_whose_worker_dies_is_told_to_who_waits():
    def outer():
        try:
            td.go(os._exit, 3).result(PATIENCE)
        except td.WorkerDied as error:
            return error.exitcode

    with Workers(2) as pool:
        assert pool.go(outer).result(PATIENCE) == 3


def test_a_nested_task_can_be_cancelled(gate):
    def outer(path):
        task = td.go(work.pass_gate, path)
        work.wait_at(f"{path}")
        cancelled = task.cancel()
        try:
            task.result(PATIENCE)
        except td.TaskCancelled:
            return cancelled, task.cancelled()

    with Workers(2) as pool:
        task = pool.go(outer, gate.path)
        gate.wait_for_arrivals()
        gate.open()
        try:
            assert task.result(5) == (True, True)
        except TimeoutError:
            gate.open()  # the inner one took the pass
            assert task.result(PATIENCE) is None


def test_options_of_nested_tasks(journal):
    def outer(path):
        def spin():
            while True:
                pass

        place = td.workers().options(timeout=0.05, name="inner")
        try:
            place.go(spin).result(PATIENCE)
        except TimeoutError as error:
            return str(error)

    with Workers(2) as pool:
        assert "0.05 s" in pool.go(outer, journal.path).result(PATIENCE)


def test_retries_of_nested_tasks(journal):
    def fail_once(path):
        work.write(path, "tried")
        with open(path) as lines:
            if len(lines.readlines()) < 2:
                os._exit(3)
        return "done"

    def outer(path):
        return td.workers().options(retries=1).go(fail_once, path).result(PATIENCE)

    with Workers(2) as pool:
        assert pool.go(outer, journal.path).result(PATIENCE) == "done"


def test_keys_of_nested_tasks_are_the_keys_of_the_pool(journal):
    def note(path, name):
        work.write(path, f"{name} begins")
        work.write(path, f"{name} ends")

    def outer(path, name):
        td.workers().options(key="k").go(note, path, name).result(PATIENCE)

    with Workers(3) as pool:
        for name in range(10):
            pool.go(outer, journal.path, name)
    lines = journal.lines()
    assert len(lines) == 20
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert begin.split() == [end.split()[0], "begins"]


def test_the_pool_can_be_handed_along():
    def outer(pool, number):
        return pool.go(work.double, number).result(PATIENCE), pool.submit(work.double, 1).result(PATIENCE)

    with Workers(1) as pool:
        assert pool.go(outer, pool, 5).result(PATIENCE) == (10, 2)


def test_a_map_in_a_task():
    def outer(count):
        return list(td.map(work.double, range(count)))

    with Workers(2) as pool:
        assert pool.go(outer, 500).result(PATIENCE) == list(range(0, 1000, 2))
        assert list(pool.map(outer, [3, 2])) == [[0, 2, 4], [0, 2]]


WAYS = {
    "result": lambda tasks: [task.result(PATIENCE) for task in tasks],
    "exception": lambda tasks: [task.exception(PATIENCE) or task.result(0) for task in tasks],
    "as_completed of the standard library": lambda tasks: [
        task.result(0) for task in futures.as_completed(tasks, PATIENCE)
    ],
    "wait of the standard library": lambda tasks: [task.result(0) for task in futures.wait(tasks, PATIENCE).done],
    "td.as_completed": lambda tasks: [task.result(0) for task in td.as_completed(tasks, PATIENCE)],
    "td.wait": lambda tasks: [task.result(0) for task in td.wait(tasks, PATIENCE).done],
    "wait of a task": lambda tasks: [task.wait(PATIENCE) for task in tasks],
    "select": lambda tasks: [td.select(task).wait(PATIENCE).value for task in tasks],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_wait_gives_up_the_place(way):
    def outer():
        return sorted(way([td.go(work.double, number) for number in range(5)]))

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == [0, 2, 4, 6, 8]


def test_waiting_in_a_thread_of_a_task_gives_up_the_place():
    def outer():
        with futures.ThreadPoolExecutor(2) as threads:
            waits = [threads.submit(lambda n=n: td.go(work.double, n).result(PATIENCE)) for n in range(4)]
            return [wait.result(PATIENCE) for wait in waits]

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == [0, 2, 4, 6]


def test_stages_that_feed_each_other_go_on_with_a_single_place():
    def stage(inbox, outbox):
        while True:
            try:
                number = inbox.recv().wait()
            except td.ChannelClosed:
                break
            outbox.send(number + 1).wait()
        outbox.close()

    with Workers(1) as pool:
        first, *others = channels = [td.Channel(2) for _ in range(4)]
        # The last one first, so that it has the place.
        stages = [pool.go(stage, *pair) for pair in reversed(list(zip(channels, others, strict=False)))]
        feeder = pool.go(lambda: [first.send(number).wait() for number in range(10)] and first.close())
        with td.timeout(PATIENCE):
            assert [others[-1].recv().wait() for _ in range(10)] == list(range(3, 13))
            for task in (feeder, *stages):
                task.result()


WAITS_FOR_OTHERS = {
    "a channel": (lambda channel, space: channel.recv().wait(), lambda channel, space: channel.send("x").wait()),
    "one of two": (
        lambda channel, space: td.select(channel.recv(), space.take(("y",))).wait()[1],
        lambda channel, space: channel.send("x").wait(),
    ),
    "a space": (lambda channel, space: space.take((str,)).wait()[0], lambda channel, space: space.write_nowait(("x",))),
    "a time": (
        lambda channel, space: channel.recv().wait(PATIENCE),
        lambda channel, space: channel.send("x").wait(PATIENCE),
    ),
}


@pytest.mark.parametrize(("waits", "acts"), WAITS_FOR_OTHERS.values(), ids=WAITS_FOR_OTHERS)
def test_a_wait_for_what_others_do_gives_up_the_place(waits, acts):
    channel, space = td.Channel(1), td.Space()
    with Workers(1) as pool, td.timeout(PATIENCE):
        waiting = pool.go(waits, channel, space)
        pool.go(acts, channel, space).result()
        assert waiting.result() == "x"


def test_a_callback_of_a_nested_task_is_called_in_the_worker():
    def outer():
        import threading

        called = threading.Event()
        task = td.go(work.process)
        task.add_done_callback(lambda task: called.set())
        task.result(PATIENCE)
        return called.wait(PATIENCE), task.result(0) != os.getpid()

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == (True, True)


def test_nested_tasks_that_nobody_waits_for_run_all_the_same(journal):
    def outer(path):
        for number in range(5):
            td.go(work.write, path, number)

    with Workers(2) as pool:
        pool.go(outer, journal.path).result(PATIENCE)
    assert sorted(journal.lines()) == ["0", "1", "2", "3", "4"]


def test_a_nested_task_outlives_the_one_that_started_it(gate, journal):
    def inner(gate_path, path):
        work.pass_gate(gate_path)
        work.write(path, "inner")

    def outer(gate_path, path):
        td.go(inner, gate_path, path)

    with Workers(2) as pool:
        pool.go(outer, gate.path, journal.path).result(PATIENCE)
        gate.wait_for_arrivals()
        gate.open()
    assert journal.lines() == ["inner"]


def test_a_nested_task_outlives_the_worker_of_the_one_that_started_it(gates, journal):
    inside, outside = gates(), gates()

    def inner(gate_path, path):
        work.pass_gate(gate_path)
        work.write(path, "inner")

    def outer(inside, outside, path):
        td.go(inner, inside, path)
        work.wait_at(outside)
        # This one has not begun.
        td.go(work.write, path, "unbegun")
        os._exit(3)

    with Workers(2) as pool:
        task = pool.go(outer, inside.path, outside.path, journal.path)
        inside.wait_for_arrivals()
        outside.open()
        assert task.exception(PATIENCE).exitcode == 3
        inside.open()
    assert sorted(journal.lines()) == ["inner", "unbegun"]


def test_a_nested_task_that_fails_after_its_starters_worker_died_is_logged(gates, caplog):
    inside, outside = gates(), gates()

    def inner(gate_path):
        work.pass_gate(gate_path)
        raise LookupError("of nobody")

    def outer(inside, outside):
        td.go(inner, inside)
        work.wait_at(outside)
        os._exit(3)

    with Workers(2) as pool:
        task = pool.go(outer, inside.path, outside.path)
        inside.wait_for_arrivals()
        outside.open()
        process = task.exception(PATIENCE).pid
        inside.open()
        assert pool.wait_idle(PATIENCE)
        eventually(lambda: caplog.records, "nothing was logged")
    [record] = caplog.records
    assert f"(process {process}) failed in a worker process, and nobody asked" in record.getMessage()
    assert str(record.exc_info[1]) == "of nobody"


def test_the_pool_that_runs_a_task_is_not_its_to_close():
    def closes(how):
        if how == "shutdown":
            td.workers().shutdown()
        else:
            with td.workers() as pool:
                assert pool.go(work.double, 1).result(PATIENCE) == 2
        return td.go(work.double, 2).result(PATIENCE)

    with Workers(1) as pool:
        with pytest.raises(RuntimeError, match="the pool that runs this very task"):
            pool.go(closes, "shutdown").result(PATIENCE)
        assert pool.go(closes, "with").result(PATIENCE) == 4


def test_nested_weightless_tasks_wait_for_plain_ones():
    async def outer(depth):
        if depth == 0:
            return await td.workers().go(work.double, 1)
        return await td.workers().go(outer, depth - 1)

    with Workers(2, concurrency=3) as pool:
        assert pool.go(outer, 10).result(PATIENCE) == 2


def test_a_weightless_task_in_a_worker_starts_tasks_of_the_pool():
    async def outer():
        tasks = [td.go(work.double, number) for number in range(20)]
        return [await task for task in tasks]

    with Workers(2) as pool:
        tasks = [pool.go(outer) for _ in range(5)]
        assert [task.result(PATIENCE) for task in tasks] == [list(range(0, 40, 2))] * 5


def test_a_plain_task_runs_a_loop_of_its_own():
    async def main():
        return await td.go(work.double, 4) + await td.go(inner)

    async def inner():
        await td.sleep(0)
        return 1

    with Workers(1) as pool:
        assert pool.go(td.run, main).result(PATIENCE) == 9


def test_asyncio_in_a_task_awaits_nested_tasks():
    def outer():
        import asyncio

        async def main():
            return await asyncio.gather(*(asyncio.wrap_future(td.go(work.double, n)) for n in range(3)))

        return asyncio.run(main())

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == [0, 2, 4]


def test_a_pool_inside_of_a_task():
    def outer():
        with td.Workers(1) as pool:
            return pool.go(work.process).result(PATIENCE), os.getpid()

    with Workers(1) as pool:
        inner, worker = pool.go(outer).result(PATIENCE)
        assert inner != worker


def test_a_nested_result_with_a_large_buffer():
    def outer():
        return len(td.go(bytes, 1 << 20).result(PATIENCE)), td.go(len, b"x" * (1 << 20)).result(PATIENCE)

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == (1 << 20, 1 << 20)


def test_a_task_cannot_be_sent():
    with Workers(1) as pool:
        task = pool.go(work.double, 1)
        with pytest.raises(td.NotPicklable, match=r"task\.result\(\)"):
            pool.go(work.echo, task)
        assert task.result(PATIENCE) == 2


def test_a_timeout_of_the_outer_task_ends_it_while_it_waits(gate):
    def outer(path):
        td.go(work.pass_gate, path).result(PATIENCE)

    with Workers(2) as pool:
        with pytest.raises(TimeoutError):
            pool.options(timeout=0.5).go(outer, gate.path).result(PATIENCE)
        gate.open()


def test_cancelling_the_outer_task_ends_its_wait(gate):
    def outer(path):
        td.go(work.pass_gate, path).result(PATIENCE)

    with Workers(2) as pool:
        task = pool.go(outer, gate.path)
        gate.wait_for_arrivals()
        assert task.cancel()
        with pytest.raises(td.TaskCancelled):
            task.result(PATIENCE)
        assert pool.statistics()["died"] == 0
        gate.open()


def test_a_task_that_is_stopped_at_its_first_nested_one_does_not_spoil_later_ones():
    """It is stopped where the worker makes ready to hear of nested tasks, which it does once."""

    def stop_in_the_middle():
        from thistledown import _report

        start_herald = _report.start_herald

        def stop():
            _report.start_herald = start_herald
            raise td.Cancelled("in the middle")

        _report.start_herald = stop

    def nest():
        return td.go(work.double, 1).result()

    with Workers(1) as pool:
        pool.go(stop_in_the_middle).result(PATIENCE)
        with contextlib.suppress(td.TaskCancelled):
            assert pool.go(nest).result(PATIENCE) == 2
        assert pool.go(nest).result(PATIENCE) == 2
        assert pool.statistics()["died"] == 0


def test_partials_and_methods_in_nested_tasks():
    def outer():
        return td.go(functools.partial(pow, 2), 5).result(PATIENCE), td.go("a b".split).result(PATIENCE)

    with Workers(1) as pool:
        assert pool.go(outer).result(PATIENCE) == (32, ["a", "b"])
