"""Ctrl-C: real SIGINTs to real programs, which end promptly with KeyboardInterrupt and clean up first."""

import contextlib
import signal

import pytest
import thistledown as td

from support import PATIENCE, run_program, started_program

# What main does while the signal comes. Each says "ready" when it is (about to be) inside its wait. (A single long
# `time.sleep` would miss a signal that comes just before it.)
WAITS = {
    "sleep": "await td.sleep(3600)",
    "channel": "await td.select(td.Channel().recv(), td.after(3600))",
    "socket": "await td.listen('127.0.0.1', 0).accept()",
    "thread": "await td.thread(threading.Event().wait)",
    "other task": "await td.go(td.sleep(3600))",
    "group": "await in_group()",
    "giving way": "await give_way()",
    "computing": "compute()",
    "blocking": "for _ in range(360_000): time.sleep(0.01)",
    "operations that complete at once": "await ping_pong()",
}

PROGRAM = """
    import sys, threading, time
    import thistledown as td

    def compute():
        while True:
            pass

    async def give_way():
        while True:
            await td.sleep(0)

    async def ping_pong():
        channel = td.Channel(1)
        while True:
            await channel.send(1)
            await channel.recv()

    async def in_group():
        async with td.TaskGroup() as group:
            group.go(td.sleep(3600))

    async def other():
        try:
            await td.sleep(3600)
        finally:
            print("other cleaned up")

    async def main():
        td.go(other)
        await td.sleep(0)
        try:
            print("ready")
            {wait}
        finally:
            print("main cleaned up")

    try:
        td.run(main)
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(3)
    """


def interrupt(process, text="ready"):
    assert process.stdout.readline() == f"{text}\n"
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_an_interrupt_ends_the_run_and_finally_blocks_run(wait):
    with started_program(PROGRAM.format(wait=wait)) as process:
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3, errors
    assert sorted(output.splitlines()) == ["interrupted", "main cleaned up", "other cleaned up"]
    assert output.splitlines()[-1] == "interrupted"


def test_an_interrupt_without_a_handler_ends_the_program_by_the_signal():
    program = """
        import thistledown as td

        async def main():
            print("ready")
            await td.sleep(3600)

        td.run(main)
    """
    with started_program(program) as process:
        interrupt(process)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    "stubborn",
    [
        "with td.shield(): await td.sleep(3600)",
        "await td.thread(threading.Event().wait)",
        "for _ in range(360_000): time.sleep(0.01)",
    ],
    ids=["shielded wait", "wait", "blocking"],
)
@pytest.mark.parametrize("where", ["main", "task"])
def test_a_second_interrupt_gives_up_on_cleaning_up(stubborn, where):
    program = f"""
        import sys, threading, time
        import thistledown as td

        async def stubborn():
            try:
                print("ready")
                await td.sleep(3600)
            finally:
                with td.shield():
                    print("cleaning up")
                    {stubborn}
                    print("never")

        async def main():
            if {where == "task"}:
                td.go(stubborn)
                await td.sleep(3600)
            else:
                await stubborn()

        try:
            td.run(main)
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(3)
    """
    with started_program(program) as process:
        interrupt(process)
        interrupt(process, "cleaning up")
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (3, "interrupted\n"), errors


@pytest.mark.parametrize("ended", ["before", "after"])
def test_an_interrupt_inside_a_done_callback_ends_the_run(ended):
    program = f"""
        import sys
        import thistledown as td

        def callback(task):
            print("ready")
            while True:
                pass

        async def other():
            try:
                await td.sleep(3600)
            finally:
                print("other cleaned up")

        async def main():
            td.go(other)
            await td.sleep(0)
            task = td.go(td.sleep(0))
            if {ended == "before"}:
                await task
            try:
                task.add_done_callback(callback)
                await td.sleep(3600)
            finally:
                print("main cleaned up", task.done() and task.exception())

        try:
            td.run(main)
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(3)
    """
    with started_program(program) as process:
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (3, "")
    assert sorted(output.splitlines()) == ["interrupted", "main cleaned up None", "other cleaned up"]
    assert output.splitlines()[-1] == "interrupted"


def test_a_task_that_catches_the_interrupt_of_its_own_computing_goes_on():
    program = """
        import thistledown as td

        async def main():
            try:
                print("ready")
                while True:
                    pass
            except KeyboardInterrupt:
                print("caught")
            await td.sleep(0)
            return "went on"

        print(td.run(main))
    """
    with started_program(program) as process:
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "caught\nwent on\n"), errors


def test_other_signal_handlers_run_while_the_run_waits():
    program = """
        import signal
        import thistledown as td

        channel = td.Channel(1)
        signal.signal(signal.SIGUSR1, lambda number, frame: channel.send_nowait("handled"))

        async def main():
            print("ready")
            return await td.select(channel.recv(), td.after(3600))

        print(*td.run(main))
    """
    with started_program(program) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "0 handled\n"), errors


def test_an_error_in_a_signal_handler_leaves_run():
    program = """
        import signal
        import thistledown as td

        class Stop(Exception):
            pass

        def stop(number, frame):
            raise Stop("from the handler")

        signal.signal(signal.SIGTERM, stop)

        async def main():
            try:
                print("ready")
                await td.sleep(3600)
            finally:
                print("cleaned up")

        try:
            td.run(main)
        except Stop as error:
            print(error)
    """
    with started_program(program) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "cleaned up\nfrom the handler\n"), errors


class Struck:
    """Ctrl-C strikes while words are made of this, or its name is asked for."""

    def __repr__(self):
        signal.raise_signal(signal.SIGINT)
        return "Struck()"

    def __call__(self):
        return "called"

    def __getattr__(self, name):
        if name == "__qualname__":
            signal.raise_signal(signal.SIGINT)
        raise AttributeError(name)


def yields_it():
    yield Struck()


async def waits_for_so_many_seconds():
    await td.sleep(Struck())


async def calls_it_in_a_thread():
    await td.thread(Struck())


@pytest.mark.parametrize("main", [yields_it, waits_for_so_many_seconds, calls_it_in_a_thread])
def test_an_interrupt_is_not_lost_where_the_engine_asks_for_words(main):
    with pytest.raises(KeyboardInterrupt):
        td.run(main)


def test_an_interrupt_outside_of_a_run_is_not_lost_where_the_engine_asks_for_words():
    with pytest.raises(KeyboardInterrupt):
        with contextlib.suppress(TypeError):
            td.sleep(Struck())
        for _ in range(1000):
            pass


def test_an_interrupt_while_waiters_of_the_standard_library_are_told_leaves_none_of_them_out():
    class Waiter:
        def __init__(self, strikes):
            self.strikes = strikes
            self.told = []

        def add_result(self, task):
            self.told.append(task)
            if self.strikes:
                signal.raise_signal(signal.SIGINT)

    def register(task):
        with task._condition:
            task._waiters.extend(waiters)

    waiters = [Waiter(strikes=True), Waiter(strikes=False)]
    tasks = []

    async def main():
        done = td.Channel()
        tasks.append(td.go(done.recv()))
        await td.thread(register, tasks[0])
        await done.send(None)
        await td.sleep(3600)

    with pytest.raises(KeyboardInterrupt):
        td.run(main)
    assert [waiter.told for waiter in waiters] == [tasks, tasks]


def test_what_a_handler_raises_is_not_lost_when_the_value_comes_with_it():
    program = """
        import signal
        import thistledown as td

        class Stop(Exception):
            pass

        channel = td.Channel(1)

        def stop(number, frame):
            channel.send_nowait("value")
            raise Stop("from the handler")

        signal.signal(signal.SIGTERM, stop)
        try:
            print("ready")
            print(channel.recv().wait(3600))
        except Stop as error:
            print(error)
    """
    with started_program(program) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "from the handler\n"), errors


def test_an_interrupt_reaches_a_plain_wait_in_the_main_thread():
    program = """
        import sys
        import thistledown as td

        try:
            print("ready")
            td.Channel().recv().wait(3600)
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(3)
    """
    with started_program(program) as process:
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (3, "interrupted\n"), errors


@pytest.mark.parametrize("wait", ["td.run(td.sleep(3600))", "td.Channel().recv().wait(3600)"], ids=["run", "wait"])
def test_an_interrupt_is_seen_at_whatever_moment_it_comes(wait):
    program = f"""
        import random, signal, sys, threading, time
        import thistledown as td

        main_thread, start = threading.get_ident(), threading.Lock()
        start.acquire()
        rounds, moments = 3000, random.Random(1)
        # What is imported when it is needed first is there now: in the importer's own callbacks Python drops Ctrl-C.
        td.run(td.sleep(0))
        td.after(0).wait()
        sys.setswitchinterval(1e-5)

        def interrupt():
            for _ in range(rounds):
                start.acquire()
                until = time.perf_counter() + moments.uniform(0, 0.0006)
                while time.perf_counter() < until:
                    pass
                signal.pthread_kill(main_thread, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        seen = 0
        for _ in range(rounds):
            try:
                start.release()
                {wait}
            except KeyboardInterrupt:
                seen += 1
        print(seen)
    """
    finished = run_program(program, timeout=50)
    assert (finished.returncode, finished.stdout) == (0, "3000\n"), finished.stderr


def test_a_run_after_an_interrupted_one_works():
    program = """
        import thistledown as td

        async def main():
            print("ready")
            await td.sleep(3600)

        async def again():
            await td.sleep(0)
            return "again"

        try:
            td.run(main)
        except KeyboardInterrupt:
            print(td.run(again))
    """
    with started_program(program) as process:
        interrupt(process)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "again\n"), errors
