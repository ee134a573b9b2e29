"""`td.thread`: calls that block, in helper threads, as operations."""

import queue
import threading

import pytest
import thistledown as td

from support import PATIENCE, run_program, settle


async def test_the_call_runs_in_another_thread_that_does_not_keep_the_program_alive():
    thread = await td.thread(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon
    assert thread.name.startswith("thistledown")


async def test_arguments_go_in_and_the_value_comes_out():
    def call(*args, **kwargs):
        return args, kwargs

    assert await td.thread(call, 1, 2, timeout=3, name="x") == ((1, 2), {"timeout": 3, "name": "x"})


async def test_the_very_error_comes_out_with_its_traceback():
    error = LookupError("in the thread")

    def call():
        raise error

    with pytest.raises(LookupError, match="in the thread") as caught:
        await td.thread(call)
    assert caught.value is error
    assert caught.traceback[-1].name == "call"


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit])
async def test_errors_that_are_no_exceptions_come_out_too(kind):
    def call():
        raise kind("odd")

    with pytest.raises(kind, match="odd"):
        await td.thread(call)


async def test_stop_iteration_in_the_call_neither_hangs_nor_ends_the_task_quietly():
    def call():
        raise StopIteration("surprise")

    async def body():
        await td.thread(call)
        return "never"

    with pytest.raises((RuntimeError, StopIteration)):
        await td.go(body)


async def test_the_loop_goes_on_while_a_call_blocks():
    answers, rounds = queue.SimpleQueue(), 0
    call = td.go(td.thread(answers.get, True, PATIENCE))
    for _ in range(1000):
        await td.sleep(0)
        rounds += 1
    assert not call.done()
    answers.put("value")
    assert (await call, rounds) == ("value", 1000)


async def test_calls_run_at_the_same_time():
    barrier = threading.Barrier(8)
    async with td.TaskGroup() as group:
        calls = [group.go(td.thread(barrier.wait, PATIENCE)) for _ in range(8)]
    assert sorted(call.result() for call in calls) == list(range(8))


def test_no_call_counts_on_a_thread_that_has_just_taken_another():
    program = f"""
        import queue, threading
        import thistledown as td
        from thistledown import _threads

        asked, taken, go_on = threading.Semaphore(0), threading.Event(), threading.Event()

        class Queue(queue.SimpleQueue):
            def get(self, timeout):
                asked.release()
                task = super().get(timeout=timeout)
                if holds_up:
                    taken.set()
                    go_on.wait()  # nobody can know yet that this thread has a call
                return task

        async def main():
            global holds_up
            await td.thread(int)
            asked.acquire()
            asked.acquire()  # the thread is idle
            holds_up, barrier = True, threading.Barrier(2)
            async with td.TaskGroup() as group:
                first = group.go(td.thread(barrier.wait, {PATIENCE / 2}))
                await td.sleep(0)
                taken.wait()
                second = group.go(td.thread(barrier.wait, {PATIENCE / 2}))
                await td.sleep(0)
                go_on.set()
            return sorted([first.result(), second.result()])

        holds_up = False
        _threads._threads.queue = Queue()
        print(td.run(main))
    """
    finished = run_program(program)
    assert finished.stdout == "[0, 1]\n", finished.stderr


async def test_a_cancelled_call_is_abandoned_and_its_result_dropped():
    release, entered, left = threading.Event(), td.Channel(1), td.Channel(1)

    def call():
        entered.send_nowait(None)
        release.wait(PATIENCE)
        left.send_nowait("the call ended")
        return "dropped"

    waiter = td.go(td.thread(call))
    await entered.recv()
    waiter.cancel()
    with pytest.raises(td.TaskCancelled):
        await waiter
    assert not release.is_set()  # the task did not wait for the call
    release.set()
    assert await left.recv() == "the call ended"
    assert await td.thread(int) == 0


def test_a_run_does_not_wait_for_an_abandoned_call():
    release = threading.Event()

    async def main():
        with td.move_on_after(0.01):
            await td.thread(release.wait, PATIENCE)
        return release.is_set()

    assert td.run(main) is False
    release.set()


async def test_a_call_abandoned_before_a_thread_was_free_is_never_made():
    release, entered, made = threading.Event(), threading.Semaphore(0), []

    def block():
        entered.release()
        release.wait(PATIENCE)

    blockers = [td.go(td.thread(block)) for _ in range(64)]
    for _ in range(64):
        while not entered.acquire(blocking=False):
            await td.sleep(0)
    queued = td.go(td.thread(made.append, "made"))
    await settle()
    queued.cancel()
    release.set()
    for blocker in blockers:
        await blocker
    await td.thread(int)
    assert made == []


async def test_there_are_no_more_than_64_threads_and_further_calls_queue():
    release, lock, entered = threading.Event(), threading.Lock(), td.Channel(100)
    inside, most = 0, 0

    def call():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        entered.send_nowait(None)
        release.wait(PATIENCE)
        with lock:
            inside -= 1

    async with td.TaskGroup() as group:
        for _ in range(100):
            group.go(td.thread(call))
        for _ in range(64):
            await entered.recv()
        await settle()
        release.set()
    assert most == 64


async def test_a_call_cannot_start_tasks_of_the_run():
    async def body():
        pass

    coroutine = body()
    with pytest.raises(RuntimeError, match=r"td\.run"):
        await td.thread(td.go, coroutine)
    coroutine.close()


async def test_a_call_may_have_a_run_of_its_own():
    async def inner(value):
        await td.sleep(0)
        return value * 2

    assert await td.thread(td.run, inner, 21) == 42


@pytest.mark.parametrize("function", [None, 5, "name"])
def test_a_call_needs_something_to_call(function):
    with pytest.raises(TypeError, match="function"):
        td.thread(function)


def test_a_coroutine_function_is_refused_because_it_would_not_run():
    async def body():
        pass

    with pytest.raises(TypeError, match=r"go"):
        td.thread(body)


def test_a_program_ends_although_a_call_still_blocks():
    program = """
        import threading
        import thistledown as td

        async def main():
            with td.move_on_after(0.01):
                await td.thread(threading.Event().wait)

        td.run(main)
        print("ended")
    """
    finished = run_program(program)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "ended\n", "")
