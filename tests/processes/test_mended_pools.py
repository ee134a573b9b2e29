"""Pools: left in an ``async def``, what they hold for their tasks, and what becomes of them when nobody holds them."""

import asyncio
import contextlib
import enum
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import numpy
import pytest
import thistledown as td
from thistledown import _pickling

from support import PATIENCE


def wait_for_ever(path):
    with open(path) as file:
        return file.read()


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


# --- leaving the block in a coroutine ---------------------------------------------------------------------------


async def test_async_with_waits_and_lets_the_others_run(pipe):
    turns = 0

    async def other():
        nonlocal turns
        for _ in range(3):
            await td.sleep(0)
            turns += 1
        await td.thread(lambda: pipe.write_text("on"))

    async with td.Workers(1) as pool:
        task = pool.go(wait_for_ever, str(pipe))
        td.go(other)
    assert turns == 3
    assert task.done()
    assert await task == "on"
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.go(len, "")


@pytest.mark.parametrize("when", ["in the block", "at its end"])
async def test_who_is_cancelled_ends_the_tasks(pipe, when):
    with td.move_on_after(0.05) as scope:
        async with td.Workers(1, grace=0.1) as pool:
            task = pool.go(wait_for_ever, str(pipe))
            if when == "in the block":
                await task
    assert scope.expired
    assert task.cancelled()


async def test_an_error_in_the_block_waits_for_the_tasks():
    with pytest.raises(ValueError, match="mine"):
        async with td.Workers(1) as pool:
            task = pool.go(len, "ab")
            raise ValueError("mine")
    assert task.done()
    assert await task == 2


def test_async_with_in_asyncio(pipe):
    async def main():
        async with td.Workers(1) as pool:
            task = pool.go(wait_for_ever, str(pipe))
            await asyncio.get_running_loop().run_in_executor(None, pipe.write_text, "on")
        return task.done(), task.result()

    async def cancelled():
        async with td.Workers(1, grace=0.1) as pool:
            task = pool.go(wait_for_ever, str(pipe))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    async with pool:
                        await task
        return task.cancelled()

    assert asyncio.run(main()) == (True, "on")
    assert asyncio.run(cancelled())


async def test_with_in_a_coroutine_whose_tasks_have_ended():
    with td.Workers(1) as pool:
        assert await pool.go(len, "ab") == 2
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.go(len, "")
    await td.thread(pool.shutdown)


async def test_with_in_a_coroutine_whose_tasks_have_not_ended_says_what_to_write(pipe):
    with pytest.raises(RuntimeError, match="async with"):
        with td.Workers(1, grace=0.1) as pool:
            task = pool.go(wait_for_ever, str(pipe))
    task.cancel()
    await td.thread(pool.shutdown)


# --- what tasks hold --------------------------------------------------------------------------------------------


def test_a_task_holds_what_was_shared_for_it(pipe):
    with td.Workers(1) as pool:
        first = pool.go(wait_for_ever, str(pipe))
        sums = [pool.go(sum, td.share([1, 2, number])) for number in range(3)]
        results = pool.map(lambda given, more: sum(given) + more, [td.share([5]), td.share([6])], [1, 2], chunksize=1)
        gc.collect()
        pipe.write_text("on")
        assert [task.result(PATIENCE) for task in sums] == [3, 4, 5]
        assert list(results) == [6, 8]
        assert first.result(PATIENCE) == "on"


def test_what_was_shared_is_let_go_with_its_task():
    with td.Workers(1) as pool:
        shared = td.share([1, 2])
        ref = weakref.ref(shared)
        called = threading.Event()
        task = pool.go(sum, shared)
        del shared
        task.add_done_callback(lambda task: called.set())
        assert task.result(PATIENCE) == 3
        assert called.wait(PATIENCE)
        gc.collect()
        assert ref() is None


# --- the end ----------------------------------------------------------------------------------------------------


async def test_a_pool_that_nobody_holds_is_closed_without_a_word_in_a_run():
    pool = td.Workers(1)
    assert await pool.go(len, "ab") == 2
    closed = pool._pool
    del pool
    gc.collect()
    assert not closed.takes_tasks()
    assert await td.thread(closed.closed, PATIENCE)


def pool_in_a_forked_child():
    upstream = td.workers()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        said = b"nothing"
        try:
            upstream.go(len, "ab")
        except RuntimeError as error:
            said = str(error).encode()
        with td.Workers(1) as own:
            said += b"; own: %d" % own.go(len, "ab").result(PATIENCE)
        os.write(writer, said)
        os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


def test_a_process_that_a_task_has_forked_has_not_the_pool_of_the_worker():
    with td.Workers(1) as pool:
        said = pool.go(pool_in_a_forked_child).result(PATIENCE)
        assert "forked" in said
        assert said.endswith("; own: 2")
        assert pool.go(len, "abc").result(PATIENCE) == 3


def test_a_thread_that_outlives_the_main_one_can_have_a_pool(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import threading, thistledown as td\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    with td.Workers(1) as pool:\n"
        "        print(pool.go(len, 'ab').result())\n"
        "threading.Thread(target=late).start()\n"
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    if sys.version_info[:2] == (3, 12):
        # That one starts no thread any more.
        assert "can't create new thread at interpreter shutdown" in ended.stderr
    else:
        assert (ended.stdout, ended.stderr) == ("2\n", "")


def test_a_loop_that_is_closed_while_somebody_waits_is_let_go(pipe):
    with td.Workers(1, grace=0.1) as pool:
        task = pool.go(wait_for_ever, str(pipe))

        async def wait():
            await task

        loop = asyncio.new_event_loop()
        waiting = loop.create_task(wait())
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        loop.close()
        ref = weakref.ref(loop)
        waiting._log_destroy_pending = False
        del loop, waiting
        gc.collect()
        assert ref() is None
        task.cancel()


def test_a_forked_child_has_nothing_to_wait_for():
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(td.Workers(1))
        results = pool.map(abs, range(10), buffersize=2)
        assert pool.go(len, "ab").result(PATIENCE) == 2
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(20)
                stack.close()
                pool.shutdown(cancel_futures=True)
                code = 7
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert list(results) == list(range(10))


# --- what they are given ----------------------------------------------------------------------------------------


async def body():
    pass


def test_an_initializer_that_would_not_run_is_refused():
    with pytest.raises(TypeError, match=r"td\.run"):
        td.Workers(1, initializer=body)


class Name(str):
    __slots__ = ()


class Level(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "equal",
    [
        (1, True, 1.0, Level.ONE, numpy.int64(1)),
        (0, False, 0.0, -0.0),
        ("a", Name("a"), numpy.str_("a")),
        (1.5, numpy.float64(1.5)),
        ((1, "a"), (1.0, Name("a"))),
        (frozenset("abcdefgh"), frozenset("hgfedcba")),
        (1 << 100, float(1 << 100)),
    ],
    ids=["numbers", "nothing", "texts", "fractions", "tuples", "sets", "large"],
)
def test_keys_that_are_equal_are_one(equal):
    assert len(set(equal)) == 1
    assert len({_pickling.key_number(key) for key in equal}) == 1


def test_keys_that_differ_are_several():
    keys = [
        0,
        1,
        -1,
        1.5,
        "1",
        b"1",
        None,
        "",
        b"",
        (),
        ("a",),
        ("a", "b"),
        ("ab",),
        (("a",), "b"),
        frozenset(),
        "f1",
        ("1",),
        1 << 64,
        "\udc80",
    ]
    assert len({_pickling.key_number(key) for key in keys}) == len(keys)
    with pytest.raises(TypeError):
        _pickling.key_number([])
