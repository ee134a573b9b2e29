"""`td.run(main, loop=...)`: weightless tasks that await what is asyncio's, in each kind of loop."""

import asyncio
import os
import signal

import pytest
import thistledown as td
import uvloop

from support import LOOPS, run_program, settle


async def give(value):
    await asyncio.sleep(0.001)
    return value


async def fail(error):
    await asyncio.sleep(0)
    raise error


async def for_ever(log):
    try:
        await asyncio.sleep(3600)
    finally:
        log.append("ended")


# --- which loop ---------------------------------------------------------------------------------------------


async def see_loop():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


def test_true_is_a_new_loop_that_is_closed_at_the_end():
    loop = td.run(see_loop, loop=True)
    assert loop.is_closed()


def test_what_makes_a_loop():
    assert isinstance(td.run(see_loop(), loop=uvloop.new_event_loop), uvloop.Loop)


def test_a_loop_that_is_there_stays_open(loop_factory):
    loop = loop_factory()
    assert td.run(see_loop, loop=loop) is loop
    assert td.run(see_loop, loop=loop) is loop
    loop.close()


@pytest.mark.parametrize("loop", [7, "uvloop", object()])
def test_what_is_no_loop_is_refused(loop):
    with pytest.raises(TypeError, match="loop"):
        td.run(give, 1, loop=loop)


def test_a_plain_function_is_refused(loop_factory):
    with pytest.raises(TypeError, match="plain function"):
        td.run(len, [], loop=loop_factory)


def test_a_run_inside_of_a_running_loop_is_refused(run):
    async def main():
        with pytest.raises(RuntimeError, match="loop runs in this thread"):
            td.run(see_loop, loop=True)

    run(main)


# --- what is asyncio's --------------------------------------------------------------------------------------


def test_futures_tasks_and_coroutines_of_asyncio(loop_factory):
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        assert await future == "future"
        assert await future == "future"
        assert await asyncio.ensure_future(give("task")) == "task"
        assert await asyncio.sleep(0.001, "coroutine") == "coroutine"
        assert await asyncio.gather(give(1), give(2), asyncio.to_thread(int, "3")) == [1, 2, 3]
        assert await asyncio.wait_for(give(4), 30) == 4
        with pytest.raises(LookupError, match="lost"):
            await asyncio.ensure_future(fail(LookupError("lost")))
        with pytest.raises(asyncio.CancelledError):
            cancelled = loop.create_future()
            cancelled.cancel()
            await cancelled
        return "done"

    assert td.run(main, loop=loop_factory) == "done"


def test_generator_tasks_wait_for_futures(loop_factory):
    def main():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "value")
        value = yield from future
        yield from td.sleep(0.001)
        return value

    assert td.run(main, loop=loop_factory) == "value"


def test_locks_queues_and_groups_of_asyncio(loop_factory):
    async def main():
        queue, lock, event = asyncio.Queue(1), asyncio.Lock(), asyncio.Event()

        async def produce():
            for number in range(10):
                async with lock:
                    await queue.put(number)
            event.set()

        async with td.TaskGroup() as ours, asyncio.TaskGroup() as theirs:
            ours.go(produce)
            summing = theirs.create_task(sum_of(queue, 10))
            await event.wait()
        return summing.result()

    async def sum_of(queue, count):
        return sum([await queue.get() for _ in range(count)])

    assert td.run(main, loop=loop_factory) == 45


def test_streams_of_asyncio(loop_factory):
    async def echo(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            answers = []
            for word in (b"one\n", b"two\n"):
                writer.write(word)
                answers.append(await reader.readline())
            writer.close()
            await writer.wait_closed()
        return answers

    assert td.run(main, loop=loop_factory) == [b"ONE\n", b"TWO\n"]


class Database(asyncio.Protocol):
    """The server's side of a protocol like a database's: numbered requests, answered out of order."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for request in reversed(data.decode().split()):
            number, _, query = request.partition(":")
            self.transport.write(f"{number}:{query[::-1]}\n".encode())


class Connection(asyncio.Protocol):
    """The client's side, as asyncpg has it: a future for each request, set by what is received."""

    def __init__(self):
        self.waiters, self.rest, self.closed = {}, "", asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        *lines, self.rest = (self.rest + data.decode()).split("\n")
        for line in lines:
            number, _, answer = line.partition(":")
            waiter = self.waiters.pop(int(number))
            if not waiter.done():
                waiter.set_result(answer)

    def connection_lost(self, error):
        self.closed.set_result(None)

    async def fetch(self, query, timeout=None):
        number = len(self.waiters) + 1
        self.waiters[number] = asyncio.get_running_loop().create_future()
        self.transport.write(f"{number}:{query} ".encode())
        async with asyncio.timeout(timeout):
            return await self.waiters[number]


def test_protocols_and_transports_of_asyncio(loop_factory):
    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Database, "127.0.0.1", 0)
        _, connection = await loop.create_connection(Connection, *server.sockets[0].getsockname())
        async with td.TaskGroup() as group:
            queries = [group.go(connection.fetch, f"query{number}", 30) for number in range(20)]
        connection.transport.close()
        await connection.closed
        server.close()
        await server.wait_closed()
        return [query.result() for query in queries]

    assert td.run(main, loop=loop_factory) == [f"query{number}"[::-1] for number in range(20)]


# --- the current task ---------------------------------------------------------------------------------------


def test_each_task_has_a_current_task_of_its_own_that_stays(loop_factory):
    async def look(name):
        first = asyncio.current_task()
        await asyncio.sleep(0.001)
        await td.sleep(0.001)
        assert asyncio.current_task() is first
        assert first.get_loop() is asyncio.get_running_loop()
        assert not first.done()
        return first

    async def main():
        tasks = [td.go(look, name) for name in "abc"]
        found = [await task for task in tasks] + [asyncio.current_task()]
        assert len(set(found)) == 4
        assert all(stand_in.done() for stand_in in found[:3])
        assert td.current_task().name in repr(asyncio.current_task())
        assert asyncio.current_task().get_name() == td.current_task().name

    td.run(main, loop=loop_factory)


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(3600), lambda: td.sleep(3600)], ids=["theirs", "ours"])
def test_timeouts_of_asyncio(loop_factory, wait):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.001)
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0.001)
        await td.sleep(0.001)

    td.run(main, loop=loop_factory)


@pytest.mark.parametrize("wait", [lambda: asyncio.sleep(3600), lambda: td.sleep(3600)], ids=["theirs", "ours"])
def test_timeouts_of_ours(loop_factory, wait):
    async def main():
        with pytest.raises(TimeoutError), td.timeout(0.001):
            await wait()
        with td.move_on_after(0.001) as scope:
            async with asyncio.timeout(3600):
                await wait()
        assert scope.expired
        await asyncio.sleep(0.001)
        await td.sleep(0.001)

    td.run(main, loop=loop_factory)


def test_what_an_operation_has_committed_to_counts_and_the_interruption_comes_next(loop_factory):
    async def main():
        channel = td.Channel(1)
        task = asyncio.current_task()
        asyncio.get_running_loop().call_soon(lambda: (channel.send_nowait("value"), task.cancel()))
        assert await channel.recv() == "value"
        with pytest.raises(asyncio.CancelledError):
            await td.sleep(3600)
        await td.sleep(0)  # it is told once, as by asyncio
        assert (task.cancelling(), task.uncancel()) == (1, 0)

    td.run(main, loop=loop_factory)


@pytest.mark.parametrize("wait", [asyncio.sleep, td.sleep], ids=["asyncio's", "ours"])
@pytest.mark.parametrize("comes", ["in its turn", "in its wait"])
def test_a_cancellation_that_is_taken_back_is_what_it_is_in_asyncio(loop_factory, comes, wait):
    def cancel_and_take_back(task):
        task.cancel()
        assert task.uncancel() == 0

    async def body():
        task = asyncio.current_task()
        if comes == "in its turn":
            cancel_and_take_back(task)
        else:
            asyncio.get_running_loop().call_soon(cancel_and_take_back, task)
        try:
            await wait(0.01)
        except asyncio.CancelledError:
            return "cancelled"
        return "went on"

    async def main():
        return await asyncio.ensure_future(body()), await td.go(body)

    theirs, ours = td.run(main, loop=loop_factory)
    assert theirs == ours


def test_a_cancelled_task_cancels_the_future_it_waits_for_and_waits_for_its_end(loop_factory):
    async def main():
        log, started = [], asyncio.Event()

        async def slow_to_end():
            started.set()
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0.01)
                log.append("theirs ended")

        async def wait_for_it():
            try:
                await asyncio.ensure_future(slow_to_end())
            except asyncio.CancelledError as error:
                log.append(isinstance(error, td.Cancelled))
                raise

        task = td.go(wait_for_it)
        await started.wait()
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task
        return log

    assert td.run(main, loop=loop_factory) == ["theirs ended", True]


def test_a_value_that_came_in_spite_of_the_cancellation_counts(loop_factory):
    async def main():
        log, started = [], asyncio.Event()

        async def does_not_end():
            started.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return "value"

        async def wait_for_it():
            log.append(await asyncio.ensure_future(does_not_end()))
            await td.sleep(0)
            log.append("never")

        task = td.go(wait_for_it)
        await started.wait()
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task
        return log

    assert td.run(main, loop=loop_factory) == ["value"]


def test_weightless_tasks_in_asyncio_run_await_its_futures_too(run):
    async def main():
        return await td.go(give, 1)

    assert run(main) == 1


# --- how it ends --------------------------------------------------------------------------------------------


def test_the_run_waits_for_all_of_its_tasks(loop_factory):
    log = []

    async def late():
        await asyncio.sleep(0.01)
        log.append("late")

    async def main():
        td.go(late)
        return "main"

    assert td.run(main, loop=loop_factory) == "main"
    assert log == ["late"]


def test_when_main_fails_the_others_are_cancelled(loop_factory):
    log = []

    async def main():
        td.go(for_ever, log)
        await settle()
        raise LookupError("main")

    with pytest.raises(LookupError, match="main"):
        td.run(main, loop=loop_factory)
    assert log == ["ended"]


def test_an_error_that_nobody_asked_for_is_raised_at_the_end(loop_factory):
    async def main():
        td.go(fail, LookupError("lost"))

    with pytest.raises(LookupError, match="lost"):
        td.run(main, loop=loop_factory)


def test_several_come_as_a_group(loop_factory):
    async def main():
        tasks = [td.go(fail, LookupError(str(number))) for number in range(3)]
        await asyncio.sleep(0.001)
        return len(tasks)

    with pytest.raises(ExceptionGroup) as caught:
        td.run(main, loop=loop_factory)
    assert len(caught.value.exceptions) == 3


def test_one_ctrl_c_cancels_everything_and_is_raised(loop_factory):
    log = []

    async def main():
        td.go(for_ever, log)
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        await for_ever(log)

    with pytest.raises(KeyboardInterrupt):
        td.run(main, loop=loop_factory)
    assert log == ["ended", "ended"]


def test_one_ctrl_c_in_a_loop_that_was_there():
    log = []

    async def main():
        td.go(for_ever, log)
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        await for_ever(log)

    loop = LOOPS["asyncio"]()
    with pytest.raises(KeyboardInterrupt):
        td.run(main, loop=loop)
    assert log == ["ended", "ended"]
    loop.close()


def test_importing_the_package_imports_no_asyncio():
    finished = run_program("import sys, thistledown; print('asyncio' in sys.modules)")
    assert finished.stdout == "False\n", finished.stderr
