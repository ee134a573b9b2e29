"""Bad input and faults that belong to no single part: misuse is told at once, with what to write instead."""

import asyncio
import logging

import pytest
import thistledown as td
from thistledown import testing

from support import run_program, settle


async def value_of(value):
    await td.sleep(0)
    return value


def generator_of(value):
    yield
    return value


async def async_generator():
    yield 1


# --- what is no body ----------------------------------------------------------------------------------------


NO_BODIES = {
    "a number": (5, r"async def|coroutine|generator"),
    "None": (None, r"async def|coroutine|generator"),
    "a list": ([], r"async def|coroutine|generator"),
    "an async generator function": (async_generator, r"async for|async generator"),
    "a place": (td.here, r"async def|coroutine|generator"),
}


@pytest.mark.parametrize(("body", "advice"), NO_BODIES.values(), ids=NO_BODIES)
async def test_what_is_no_body_is_refused_with_advice(body, advice):
    async with td.TaskGroup() as group:
        for go in (td.go, td.here.go, td.here.options(name="x").go, group.go):
            with pytest.raises(TypeError, match=rf"(?s){advice}"):
                go(body)


@pytest.mark.parametrize(("body", "advice"), NO_BODIES.values(), ids=NO_BODIES)
def test_what_is_no_body_is_refused_by_run_too(body, advice):
    with pytest.raises(TypeError):
        td.run(body)


@pytest.mark.parametrize("body", [int, len, lambda: 5, "package.module:function"])
def test_what_is_for_a_worker_process_is_no_main(body):
    with pytest.raises(TypeError, match=r"worker process.*td\.go"):
        td.run(body)


async def test_what_can_only_be_iterated_over_is_not_said_to_be_an_async_generator():
    with pytest.raises(TypeError, match="is no body of a task: iterate over it by `async for`") as caught:
        td.go(td.Channel())
    assert "generator" not in str(caught.value)


async def test_an_async_generator_object_is_refused_with_advice():
    body = async_generator()
    with pytest.raises(TypeError, match=r"async for|async generator"):
        td.go(body)
    await body.aclose()


def finished_coroutine():
    body = value_of(1)
    td.run(body)
    return body


def finished_generator():
    body = generator_of(1)
    td.run(body)
    return body


def closed_coroutine():
    body = value_of(1)
    body.close()
    return body


def failed_coroutine():
    async def fail():
        raise ValueError("failed")

    body = fail()
    with pytest.raises(ValueError, match="failed"):
        td.run(body)
    return body


@pytest.mark.parametrize("make", [finished_coroutine, finished_generator, closed_coroutine, failed_coroutine])
def test_a_finished_body_cannot_go_again(make):
    body = make()

    async def main():
        with pytest.raises(RuntimeError, match=r"already|finished"):
            td.go(body)

    td.run(main)
    with pytest.raises(RuntimeError, match=r"already|finished"):
        td.run(body)


@pytest.mark.parametrize("make", [value_of, generator_of])
async def test_a_body_that_was_told_to_go_cannot_go_a_second_time(make):
    body = make(1)
    task = td.go(body)
    with pytest.raises(RuntimeError, match=r"already"):
        td.go(body)
    await settle(1)
    with pytest.raises(RuntimeError, match=r"already"):
        td.go(body)
    assert await task == 1


async def test_a_coroutine_that_is_being_awaited_cannot_go():
    gate = td.Channel(1)

    async def inner():
        return await gate.recv()

    async def outer():
        return await body

    body = inner()
    task = td.go(outer)
    await settle()
    with pytest.raises(RuntimeError, match=r"already|running|started"):
        td.go(body)
    gate.send_nowait("value")
    assert await task == "value"


async def test_the_coroutine_of_the_current_task_cannot_go():
    async def body():
        with pytest.raises(RuntimeError, match=r"already|running"):
            td.go(coroutine)
        return "went on"

    coroutine = body()
    assert await td.go(coroutine) == "went on"


# --- what is no operation -----------------------------------------------------------------------------------


class Stray:
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda: 5,
        lambda: "text",
        lambda: (),
        Stray,
        lambda: td.sleep(0),
        lambda: td.Channel().recv(),
        lambda: td.current_task(),
        lambda: generator_of(1),
    ],
    ids=["number", "text", "tuple", "object", "sleep", "recv", "task", "generator"],
)
def test_yielding_what_is_no_bare_yield_raises_there_and_says_yield_from(make):
    def body():
        with pytest.raises(TypeError, match="yield from"):
            yield make()
        yield
        return "went on"

    assert td.run(body) == "went on"


def test_an_awaitable_that_yields_a_stray_value_gets_the_error():
    class Foreign:
        def __await__(self):
            try:
                yield "what another library would understand"
            except TypeError as error:
                return str(error)

    async def main():
        return await Foreign()

    assert "yield from" in td.run(main)


def test_a_future_of_asyncio_is_refused_and_does_not_hang():
    loop = asyncio.new_event_loop()

    async def main():
        with pytest.raises(TypeError, match=r"yield|await|operation"):
            await loop.create_future()

    try:
        td.run(main)
    finally:
        loop.close()


# --- outside of a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("go", [td.go, td.here.go], ids=["go", "here.go"])
@pytest.mark.parametrize("body", [value_of, generator_of])
def test_go_outside_of_a_run_says_what_to_write(go, body):
    with pytest.raises(RuntimeError, match=r"td\.run\("):
        go(body, 1)


def test_a_coroutine_refused_outside_of_a_run_is_still_good_for_one():
    body = value_of("value")
    with pytest.raises(RuntimeError, match=r"td\.run\("):
        td.go(body)
    assert td.run(body) == "value"


def test_a_group_outside_of_a_run_takes_no_weightless_tasks():
    with td.TaskGroup() as group, pytest.raises(RuntimeError, match=r"td\.run\("):
        group.go(value_of, 1)


def test_an_operation_driven_by_hand_outside_of_a_run_raises():
    awaiting = td.Channel().recv().__await__()
    with pytest.raises(RuntimeError, match=r"td\.run|wait\("):
        next(awaiting)


# --- after the end of a run ---------------------------------------------------------------------------------


def test_a_task_of_a_finished_run_gives_its_result_everywhere():
    async def main():
        return td.go(value_of, "value")

    async def other(task):
        return await task, await td.select(td.Channel().recv(), task)

    task = td.run(main)
    assert task.wait(1) == task.result(1) == "value"
    assert td.run(other, task) == ("value", (1, "value"))


def test_a_wait_that_was_cut_off_by_the_end_of_its_run_is_over_for_all():
    kept = []

    async def main():
        kept.append(td.go(td.Channel().recv()))
        await settle()
        raise ValueError("end")

    async def other():
        await kept[0]

    with pytest.raises(ValueError, match="end"):
        td.run(main)
    assert kept[0].cancelled()
    with pytest.raises(td.TaskCancelled):
        kept[0].wait(1)
    with pytest.raises(td.TaskCancelled):
        td.run(other)


def test_a_group_of_a_finished_run_takes_no_more_tasks():
    kept = []

    async def main():
        async with td.TaskGroup() as group:
            kept.append(group)

    async def other():
        kept[0].go(value_of, 1)

    td.run(main)
    with pytest.raises(RuntimeError):
        td.run(other)


def test_a_server_of_a_finished_run_cannot_be_run_again():
    async def handler(client):
        pass

    server = td.serve(handler, "127.0.0.1", 0)

    async def main():
        server.stop()
        await server

    td.run(main)
    with pytest.raises((RuntimeError, OSError)):
        td.run(server)


def test_a_task_of_another_run_can_be_waited_for_while_that_run_goes_on():
    tasks, done = td.Channel(1), td.Channel()

    async def first():
        async def body():
            return await done.recv()

        await tasks.send(td.go(body))

    async def second():
        task = await tasks.recv()
        td.go(done.send("value"))
        return await task

    async def main():
        return await td.thread(td.run, second)

    async def both():
        running = td.go(main)
        await first()
        return await running

    assert td.run(both) == "value"


# --- errors in odd places -----------------------------------------------------------------------------------


async def test_an_error_in_finally_replaces_cancelling_and_keeps_its_cause():
    async def body():
        try:
            await td.Channel().recv()
        finally:
            raise LookupError("in finally")

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(LookupError, match="in finally") as caught:
        await task
    assert isinstance(caught.value.__context__, td.Cancelled)


def test_an_error_in_finally_while_the_run_ends_comes_out_beside_the_first():
    async def body():
        try:
            await td.Channel().recv()
        finally:
            raise LookupError("in finally")

    kept = []

    async def main():
        kept.append(td.go(body))
        await settle()
        raise ValueError("main failed")

    with pytest.raises((ValueError, ExceptionGroup)) as caught:
        td.run(main)
    shown = [str(error) for error in getattr(caught.value, "exceptions", [caught.value])]
    assert shown[0] == "main failed"
    assert str(kept[0].exception()) == "'in finally'" or str(kept[0].exception()) == "in finally"


def test_an_error_in_a_callback_after_the_run_has_failed_is_logged(caplog):
    def callback(task):
        raise LookupError("broken callback")

    async def main():
        td.current_task().add_done_callback(callback)
        await td.sleep(0)
        raise ValueError("main failed")

    with caplog.at_level(logging.ERROR, logger="thistledown"):
        with pytest.raises(ValueError, match="main failed"):
            td.run(main)
    assert "broken callback" in caplog.text


def test_a_task_that_refuses_to_end_keeps_its_run_from_ending_only_while_it_refuses():
    refusals = []

    async def stubborn():
        while len(refusals) < 1000:
            try:
                await td.sleep(0)
            except td.Cancelled:
                refusals.append("no")

    async def main():
        td.go(stubborn)
        await settle()
        raise ValueError("end")

    with pytest.raises(ValueError, match="end"):
        td.run(main)
    assert len(refusals) == 1000


def test_a_generator_that_ignores_being_closed_is_an_error_of_its_own():
    def body():
        while True:
            try:
                yield
            except td.Cancelled:
                return "ended by cancelling"

    async def main():
        task = td.go(body)
        await settle()
        task.cancel()
        return await task

    assert td.run(main) == "ended by cancelling"


def test_raising_stop_iteration_in_a_coroutine_is_a_runtime_error():
    async def main():
        raise StopIteration("surprise")

    with pytest.raises(RuntimeError, match="StopIteration"):
        td.run(main)


def test_recursion_that_is_too_deep_is_an_error_of_its_task_alone():
    async def deeper():
        await deeper()

    async def main():
        with pytest.raises(RecursionError):
            await td.go(deeper)
        return await td.go(value_of, "goes on")

    assert td.run(main) == "goes on"


# --- processes ----------------------------------------------------------------------------------------------


def test_a_forked_child_has_runs_and_threads_of_its_own():
    program = """
        import os, warnings
        import thistledown as td

        warnings.simplefilter("ignore", DeprecationWarning)

        async def main(name):
            await td.sleep(0.001)
            ready = await td.select(td.thread(str, name), td.after(60))
            async with td.TaskGroup() as group:
                server = td.serve(answer, "127.0.0.1", 0)
                group.go(server)
                async with await td.connect(*server.address) as client:
                    answered = await client.readline()
                server.stop()
            return ready.value, answered

        async def answer(client):
            await client.sendall(b"hello\\n")

        print(td.run(main, "before"), flush=True)
        child = os.fork()
        if child == 0:
            print(td.run(main, "child"), flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1], td.run(main, "parent"), flush=True)
    """
    finished = run_program(program)
    assert finished.stdout.splitlines() == [
        r"('before', b'hello\n')",
        r"('child', b'hello\n')",
        r"0 ('parent', b'hello\n')",
    ], finished.stderr


def test_a_child_forked_inside_a_run_leaves_the_run_of_its_parent_alone():
    program = """
        import os, warnings
        import thistledown as td

        warnings.simplefilter("ignore", DeprecationWarning)

        async def small():
            await td.sleep(0.001)
            return "child"

        async def main():
            near, far = __import__("socket").socketpair()
            with td.Socket(near) as stream, far:
                reading = td.go(stream.recv(10))
                await td.sleep(0)
                child = os.fork()
                if child == 0:
                    os._exit(5)
                status = await td.thread(os.waitpid, child, 0)
                far.send(b"data")
                return os.waitstatus_to_exitcode(status[1]), await reading

        print(td.run(main))
    """
    finished = run_program(program)
    assert finished.stdout == "(5, b'data')\n", finished.stderr


def test_a_child_forked_inside_a_task_can_run_and_close_what_its_parent_waits_for():
    program = """
        import os, socket, warnings
        import thistledown as td

        warnings.simplefilter("ignore", DeprecationWarning)

        async def in_child(stream, channel):
            stream.close()
            channel.close()
            near, far = socket.socketpair()
            with td.Socket(near) as other, td.Socket(far) as peer:
                async with td.TaskGroup() as group:
                    reading = group.go(other.readline())
                    await td.sleep(0.001)
                    await peer.sendall(await td.thread(bytes, b"child\\n"))
            return reading.result()

        async def main():
            near, far = socket.socketpair()
            channel = td.Channel()
            with td.Socket(near) as stream, far:
                reading, receiving = td.go(stream.recv(10)), td.go(channel.recv())
                await td.sleep(0.001)  # the run has asked the system for the socket
                child = os.fork()
                if child == 0:
                    print(td.run(in_child, stream, channel), flush=True)
                    os._exit(5)
                status = await td.thread(os.waitpid, child, 0)
                far.send(b"data")
                await channel.send("message")
                return os.waitstatus_to_exitcode(status[1]), await reading, await receiving

        print(td.run(main))
    """
    finished = run_program(program)
    assert finished.stdout.splitlines() == [r"b'child\n'", "(5, b'data', 'message')"], finished.stderr


@pytest.mark.parametrize(
    "call",
    ["fork_and_run(of_parent)", "await td.thread(fork_and_run, of_parent)"],
    ids=["in a task", "in a helper thread"],
)
def test_a_child_forked_inside_a_run_is_woken_by_its_own_signals(call):
    # One that another thread took, or that comes just before the sleep, ends the sleep by this pipe alone.
    program = f"""
        import os, signal, warnings
        import thistledown as td

        warnings.simplefilter("ignore", DeprecationWarning)

        def pipe_of_signals():
            writer = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(writer)
            return os.fstat(writer).st_ino

        async def in_child(of_parent):
            return pipe_of_signals() != of_parent

        def fork_and_run(of_parent):
            child = os.fork()
            if child == 0:
                os._exit(5 if td.run(in_child, of_parent) else 6)
            return child

        async def main():
            of_parent = pipe_of_signals()
            child = {call}
            status = await td.thread(os.waitpid, child, 0)
            return os.waitstatus_to_exitcode(status[1]), pipe_of_signals() == of_parent

        print(td.run(main))
    """
    finished = run_program(program)
    assert finished.stdout == "(5, True)\n", finished.stderr


def test_the_interpreter_may_end_while_a_run_goes_on_in_a_daemon_thread():
    program = """
        import threading
        import thistledown as td

        started = threading.Event()

        async def child():
            while True:
                await td.sleep(0)

        async def main():
            td.go(child)
            td.go(td.sleep(3600))
            td.go(td.thread(threading.Event().wait))
            listener = td.listen("127.0.0.1", 0)
            td.go(listener.accept())
            await td.sleep(0.001)
            started.set()
            await td.Channel().recv()

        threading.Thread(target=td.run, args=(main,), kwargs={"stall_after": None}, daemon=True).start()
        started.wait()
        print("ending")
    """
    for _ in range(3):
        finished = run_program(program)
        assert (finished.returncode, finished.stdout, finished.stderr) == (0, "ending\n", "")


def test_the_interpreter_may_end_with_unfinished_things_in_its_globals():
    program = """
        import thistledown as td

        channel, operation, kept = td.Channel(3), td.select(td.Channel().recv(), td.after(5)), []

        async def main():
            kept.append(td.go(channel.recv()))
            kept.append(td.Socket(__import__("socket").socket()))
            await td.sleep(0)
            kept[0].cancel()

        td.run(main, stall_after=None)
        unused = main()
        unused.close()
        generator = td.switch((x for x in ()))
        print("ending")
    """
    finished = run_program(program)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "ending\n", "")


@pytest.mark.parametrize(
    ("statement", "code"), [("sys.exit(7)", 7), ("os._exit(8)", 8), ("raise SystemExit('words')", 1)]
)
def test_a_task_may_end_the_program(statement, code):
    program = f"""
        import os, sys
        import thistledown as td

        async def child():
            await td.sleep(0)
            {statement}

        async def main():
            td.go(child)
            td.go(td.thread(str))
            await td.sleep(3600)

        td.run(main)
    """
    assert run_program(program).returncode == code


def test_importing_starts_no_thread_and_opens_no_file():
    program = """
        import os, threading
        before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
        import thistledown
        print(before == (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))))
    """
    finished = run_program(program)
    assert (finished.stdout, finished.stderr) == ("True\n", "")


# --- a million ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_million_tasks_live_at_once():
    awake = 0

    def body():
        nonlocal awake
        yield from td.sleep(1000)
        awake += 1

    async def main():
        for _ in range(1_000_000):
            td.go(body)
        await td.sleep(1)
        assert awake == 0

    testing.run(main)
    assert awake == 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_million_waiting_tasks_are_cancelled_with_their_group():
    cancelled = 0

    def body(channel):
        nonlocal cancelled
        try:
            yield from channel.recv()
        except td.Cancelled:
            cancelled += 1
            raise

    async def main():
        channel = td.Channel()
        async with td.TaskGroup() as group:
            for _ in range(1_000_000):
                group.go(body, channel)
            await settle(3)
            group.cancel()

    td.run(main)
    assert cancelled == 1_000_000


def test_a_hundred_thousand_waiters_leave_one_queue_one_by_one():
    async def main():
        channel = td.Channel()
        waiters = [td.go(channel.recv()) for _ in range(100_000)]
        await settle(3)
        for waiter in waiters[::2] + waiters[1::2][::-1]:
            waiter.cancel()
        await settle(3)
        return sum(waiter.cancelled() for waiter in waiters)

    assert td.run(main) == 100_000
