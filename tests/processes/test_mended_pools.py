"""Pools: left in an ``async def``, what they hold for their tasks, and what becomes of them when nobody holds them."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
import weakref

import pytest
import thistledown as td

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
