"""A process that was forked after pools were started: it has none of them, says so, and can make its own."""

import contextlib
import os
import sys
import textwrap
import threading
import traceback

import pytest
import thistledown as td
import work
from pools import Workers
from thistledown import _report

from support import PATIENCE, run_program

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def in_a_fork(function):
    """Calls a function in a forked child; gives what it returns as text, or its traceback."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        text = "it did not come so far"
        try:
            os.close(reading)
            text = str(function())
        except BaseException:
            text = traceback.format_exc()
        finally:
            with open(writing, "w") as pipe:
                pipe.write(text)
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(process, 0)
    return text


def test_the_parents_pool_refuses_and_says_what_to_do(pool):
    def child():
        words = []
        for use in (
            lambda: pool.go(work.double, 1),
            lambda: pool.submit(work.double, 1),
            lambda: pool.map(work.double, [1]),
            lambda: pool.options(priority=1).go(work.double, 1),
            pool.wait_idle,
        ):
            try:
                use()
            except RuntimeError as error:
                words.append(str(error))
        return words

    said = in_a_fork(child)
    assert said.count("td.Workers") == 5, said
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_pool_of_its_own_works(pool):
    def child():
        with td.Workers(1) as own:
            return own.go(work.double, 4).result(PATIENCE), own.go(lambda: 5).result(PATIENCE)

    assert in_a_fork(child) == "(8, 5)"
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_the_default_pool_of_the_child_is_its_own(default_pool):
    processes = default_pool.statistics()["processes"]

    def child():
        process = td.go(work.process).result(PATIENCE)
        own = td.workers() is not default_pool
        td.workers().shutdown()
        return own and process not in processes

    assert in_a_fork(child) == "True"
    assert td.go(work.process).result(PATIENCE) in processes


def test_tasks_that_run_at_the_fork_are_the_parents(pool, gate):
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()

    def child():
        try:
            return task.result(0.1)
        except (TimeoutError, RuntimeError, td.ThistledownError) as error:
            return type(error).__name__

    assert in_a_fork(child) != gate.path
    gate.open()
    assert task.result(PATIENCE) == gate.path


def test_waiting_for_a_task_of_the_parent_is_no_hang(pool, gate):
    """Its end never comes here. It says so."""
    task = pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals()

    def child():
        try:
            return task.result()
        except RuntimeError as error:
            return f"refused: {error}"

    process = in_a_fork(child)
    gate.open()
    assert process.startswith("refused"), process
    assert task.result(PATIENCE) == gate.path


def test_tasks_that_were_done_at_the_fork_have_their_results_in_the_child(pool):
    good, bad = pool.go(work.double, 4), pool.go(work.fail, LookupError("lost"))
    pool.wait_idle(PATIENCE)

    def child():
        return good.done(), good.result(0), type(bad.exception(0)).__name__

    assert in_a_fork(child) == "(True, 8, 'LookupError')"


def test_a_child_that_shuts_the_parents_pool_down_does_not(pool):
    def child():
        with contextlib.suppress(RuntimeError):
            pool.shutdown()
        return "fine"

    assert in_a_fork(child) == "fine"
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def test_a_child_that_drops_everything_leaves_the_parents_pool_alone():
    import gc

    with Workers(1) as pool:
        pool.go(work.double, 1).result(PATIENCE)
        pools = [pool]
        del pool

        def child():
            pools.clear()
            gc.collect()
            return "fine"

        assert in_a_fork(child) == "fine"
        assert pools[0].go(work.double, 4).result(PATIENCE) == 8


def test_a_child_that_outlives_its_parents_pool_does_not_keep_it():
    reading, writing = os.pipe()
    pool = td.Workers(1)
    assert pool.go(work.double, 4).result(PATIENCE) == 8
    process = os.fork()
    if process == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    pool.shutdown()
    os.close(writing)
    os.close(reading)
    os.waitpid(process, 0)


def test_multiprocessing_by_fork_beside_a_pool(pool):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    with context.Pool(1) as other:
        assert other.map(in_another_pool, [1, 2]) == [2, 4]
    assert pool.go(work.double, 4).result(PATIENCE) == 8


def in_another_pool(number):
    with td.Workers(1) as own:
        return own.go(work.double, number).result(PATIENCE)


def test_a_task_may_fork(pool):
    def fork_and_wait():
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.write(writing, b"child")
            os._exit(0)
        os.close(writing)
        said = os.read(reading, 10)
        os.close(reading)
        return said, os.waitpid(process, 0)[1]

    assert pool.go(fork_and_wait).result(PATIENCE) == (b"child", 0)


def test_multiprocessing_inside_of_a_task(pool):
    def use_multiprocessing():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as inner:
            return inner.map(work.double, range(5))

    assert pool.go(use_multiprocessing).result(PATIENCE) == [0, 2, 4, 6, 8]


def test_the_tasks_of_the_parent_are_not_told_of_as_lost(pool, gate, caplog):
    kept = pool.go(work.pass_gate, gate.path)
    pool.go(work.pass_gate, gate.path)
    gate.wait_for_arrivals(2)

    def child():
        dropped.clear()
        _report.failed_unasked()
        told = threading.Event()
        with td.Workers(1) as own:
            own.go(int).add_done_callback(lambda _: told.set())
            told.wait(PATIENCE)
        return caplog.text

    dropped = [kept]
    del kept
    assert in_a_fork(child) == ""
    gate.open()


def run_forking(source):
    """A program that forks. That it has other threads, of which CPython warns since 3.12, is what is tested."""
    ignored = "import warnings\nwarnings.filterwarnings('ignore', 'This process .* is multi-threaded')\n"
    return run_program(ignored + textwrap.dedent(source))


FORKS = """
    import os, sys, warnings
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    import thistledown as td

    def refused(kind, uses):
        child = os.fork()
        if child == 0:
            for use in uses:
                try:
                    print("not refused:", use())
                except kind as error:
                    print(error)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
"""

ACTOR = """
    class Counter:
        def add(self):
            return 1

    with td.Workers(1) as pool:
        used, fresh = pool.actor(Counter), pool.actor(Counter)
        used.add().result()
        refused(RuntimeError, [used.add, fresh.add, fresh.stop])
        print(used.add().result() + fresh.add().result())
"""


def test_an_actor_of_the_parent_refuses_and_says_what_to_do():
    done = run_program(textwrap.dedent(FORKS) + textwrap.dedent(ACTOR))
    *said, last = done.stdout.splitlines()
    assert (len(said), last) == (3, "2"), done.stderr
    assert all("forked from: make one of this process by `td.actor(Class, ...)`" in line for line in said), said


SPACE = """
    space, own = td.Space(), td.Space()
    own.write_nowait(("own",))
    with td.Workers(1) as pool:
        pool.go(lambda: space.write(("a", 1)).wait()).result()
    watch = space.watch(...)
    refused(td.SpaceBroken, [
        lambda: space.count(),
        lambda: space.take_nowait(("a", int)),
        lambda: space.take(("a", int)).wait(),
        lambda: space.write(("b",)).wait(),
        lambda: space.write_nowait(("b",)),
        lambda: space.read_all(),
        lambda: space.transaction(),
        lambda: watch.recv().wait(),
    ])
    # What nobody has shared is copied, as any object is.
    refused(td.SpaceBroken, [lambda: own.take_nowait(("own",))])
    print(space.read_all(), own.count())
"""


def test_a_space_in_memory_that_is_shared_is_the_parents():
    done = run_program(textwrap.dedent(FORKS) + textwrap.dedent(SPACE))
    *said, own, last = done.stdout.splitlines()
    assert (len(said), own, last) == (8, "not refused: ('own',)", "[('a', 1)] 1"), done.stderr
    assert all("the space belongs to the process that this one was forked from" in line for line in said), said


class Clock:
    def tick(self):
        return 1


async def endless():
    await td.sleep(3600.0)


def test_the_supervisor_of_the_parent_refuses_and_says_what_to_do():
    children = [
        td.child(Clock).options(name="here", place=td.here),
        td.child(Clock).options(name="far"),
        endless,
        td.Supervisor([td.child(Clock).options(name="deep", place=td.here)], name="inner"),
    ]
    with td.Supervisor(children) as supervisor:
        actors = supervisor["here"], supervisor["far"], supervisor["inner"]["deep"]
        uses = [
            supervisor.stop,
            supervisor.kill,
            supervisor.wait,
            supervisor.start,
            supervisor.which_children,
            supervisor.count_children,
            lambda: supervisor.start_child(td.child(Clock).options(name="other")),
            lambda: supervisor.terminate_child("here"),
            lambda: supervisor["endless"],
            lambda: supervisor.__exit__(None, None, None),
            lambda: td.run(supervisor),
            lambda: td.monitor(supervisor),
            supervisor["inner"].stop,
            supervisor._over.result,
        ]
        for actor in actors:
            uses += [actor.tick, actor.stop, lambda actor=actor: td.monitor(actor)]

        def child():
            words = []
            for use in uses:
                with contextlib.suppress(KeyError):
                    try:
                        words.append(f"no error, but {use()!r}")
                    except RuntimeError as error:
                        words.append(str(error))
            said = [word for word in words if "the process that this one was forked from" not in word]
            with td.Supervisor([Clock, td.child(Clock).options(name="near", place=td.here)]) as own:
                return len(words), said, own["Clock"].tick().result(PATIENCE), own["near"].tick().result(PATIENCE)

        assert in_a_fork(child) == f"({len(uses)}, [], 1, 1)"
        assert [actor.tick().result(PATIENCE) for actor in actors] == [1, 1, 1]
        assert {known.state for known in supervisor.which_children()} == {"running"}


@pytest.mark.parametrize("main", ["", "import sys; sys.exit(3)"], ids=["to its end", "by an exception"])
def test_a_child_that_was_forked_while_a_supervisor_runs_comes_to_its_end(main):
    """With the standard library's own pool, too, which forks."""
    ended = run_forking(
        f"""
        import concurrent.futures, multiprocessing, os
        import thistledown as td

        class Clock:
            pass

        def child():
            print("child works", flush=True)
            {main}

        fork = multiprocessing.get_context("fork")
        with td.Supervisor([td.child(Clock).options(place=td.here)]) as supervisor:
            process = fork.Process(target=child)
            process.start()
            process.join()
            print(process.exitcode)
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
                print(pool.submit(abs, -5).result())
            process = os.fork()
            if process == 0:
                raise SystemExit(4)
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        print("over")
        """
    )
    code = "3" if main else "0"
    assert ended.stdout.split() == ["child", "works", code, "5", "4", "over"], ended.stderr
    assert ended.stderr == ""


def test_a_fork_waits_for_imports_of_this_package_in_other_threads():
    """Else the child has half a module for ever."""
    ended = run_forking(
        """
        import importlib.abc, logging, os, sys, threading
        import thistledown as td

        class Finder(importlib.abc.MetaPathFinder):
            # Lets a module of the package begin, and stay half for a while.
            def find_spec(self, name, path, target=None):
                half = sys.modules.get("thistledown._run")
                if half is not None and threading.current_thread() is not threading.main_thread():
                    begun.set()
                    forking.wait()
                return None

        begun, forking = threading.Event(), threading.Event()
        sys.meta_path.insert(0, Finder())
        os.register_at_fork(before=forking.set)

        async def main():
            return "ran"

        thread = threading.Thread(target=lambda: td.run)
        thread.start()
        begun.wait()
        process = os.fork()
        if process == 0:
            print(td.run(main), flush=True)
            os._exit(0)
        os.waitpid(process, 0)
        thread.join()
        """
    )
    assert (ended.stdout, ended.stderr) == ("ran\n", "")


def test_a_monitor_that_is_refused_says_so_alone():
    ended = run_forking(
        """
        import os
        import thistledown as td

        class Clock:
            pass

        actor = td.actor(Clock)
        process = os.fork()
        if process == 0:
            try:
                td.monitor(actor)
            except RuntimeError as error:
                print("forked" in str(error), flush=True)
            os._exit(0)
        os.waitpid(process, 0)
        """
    )
    assert (ended.stdout, ended.stderr) == ("True\n", "")
