"""`td.current_runner().go(...)`: tasks told to go from other threads, into each kind of loop; and Ctrl-C there."""

import asyncio
import contextlib
import signal
import threading

import pytest
import thistledown as td

from support import PATIENCE, started_program


async def give(value):
    await td.sleep(0)
    return value, threading.get_ident()


def in_thread(function, *args):
    """Calls it in a thread of its own; gives an operation for its end."""
    return td.thread(function, *args)


async def test_a_task_runs_in_the_thread_of_the_run(home):
    here = threading.get_ident()
    runner = td.current_runner()

    def elsewhere():
        assert threading.get_ident() != here
        return runner.go(give, 1).result(PATIENCE), runner.go(give(2)).result(PATIENCE)

    assert await in_thread(elsewhere) == ((1, here), (2, here))


async def test_generators_and_operations_go_as_well(home):
    runner = td.current_runner()

    def count():
        yield
        return (yield from td.thread(int, "3"))

    def elsewhere():
        return runner.go(count).result(PATIENCE), runner.go(td.sleep(0)).result(PATIENCE)

    assert await in_thread(elsewhere) == (3, None)


async def test_many_threads_at_once(home):
    runner = td.current_runner()

    def elsewhere(first):
        return sum(runner.go(give, number).result(PATIENCE)[0] for number in range(first, first + 50))

    async def all_of_them():
        return [await call for call in [td.go(in_thread(elsewhere, first)) for first in range(0, 400, 50)]]

    assert sum(await all_of_them()) == sum(range(400))


async def test_the_run_that_sleeps_is_woken(home):
    runner, channel = td.current_runner(), td.Channel()
    thread = threading.Thread(target=runner.go, args=(send, channel, "value"))
    thread.start()
    assert await channel.recv() == "value"
    thread.join()


async def send(channel, value):
    await channel.send(value)


async def test_an_error_reaches_who_waits(home):
    async def fail():
        raise LookupError("lost")

    runner = td.current_runner()

    def elsewhere():
        with pytest.raises(LookupError, match="lost"):
            runner.go(fail).result(PATIENCE)

    await in_thread(elsewhere)


async def test_a_task_can_be_cancelled_from_there(home):
    runner = td.current_runner()

    def elsewhere():
        task = runner.go(td.sleep(3600))
        assert task.cancel()
        with pytest.raises(td.TaskCancelled):
            task.result(PATIENCE)

    await in_thread(elsewhere)


async def test_it_works_inside_of_the_run_as_well(home):
    assert (await td.current_runner().go(give, 1))[0] == 1


async def test_what_is_no_body_is_refused(home):
    with pytest.raises(TypeError):
        td.current_runner().go(7)


async def test_messages_between_threads_and_tasks(home):
    questions, answers = td.Channel(), td.Channel()

    async def answer(questions):
        async for question in questions:
            await answers.send(question + 1)

    def answer_plainly(questions):
        with contextlib.suppress(td.ChannelClosed):
            while True:
                answers.send(questions.recv().wait(PATIENCE) + 1).wait(PATIENCE)

    def ask():
        got = []
        for number in range(100):
            questions.send(number).wait(PATIENCE)
            got.append(answers.recv().wait(PATIENCE))
        questions.close()
        return got

    answer.plain = answer_plainly
    answering = home.start(answer, questions)
    assert await in_thread(ask) == list(range(1, 101))
    await answering


async def test_one_channel_from_any_number_of_threads(home):
    channel = td.Channel()
    threads = [threading.Thread(target=channel.send(number).wait, args=(PATIENCE,)) for number in range(20)]
    for thread in threads:
        thread.start()
    assert sorted([await channel.recv() for _ in threads]) == list(range(20))
    for thread in threads:
        await in_thread(thread.join)


def test_outside_of_a_run_there_is_none():
    with pytest.raises(RuntimeError, match=r"td\.run"):
        td.current_runner()


async def see():
    return td.current_runner()


def test_a_run_that_is_over_takes_nothing(loop_factory):
    for runner in (td.run(see), td.run(see, loop=loop_factory)):
        with pytest.raises(RuntimeError, match="over"):
            runner.go(give, 1)
        assert "over" in repr(runner)


def test_nothing_is_lost_when_the_run_ends_meanwhile(loop_factory):
    """Tasks that come as the run ends have run, or are refused, or end as cancelled; none is left as it was."""

    async def main(runners, started):
        runners.append(td.current_runner())
        started.set()
        await asyncio.sleep(0.001)

    for _ in range(10):
        runners, started, tasks = [], threading.Event(), []

        def go_on_while_it_ends(runners=runners, started=started, tasks=tasks):
            started.wait(PATIENCE)
            for _ in range(50):
                try:
                    tasks.append(runners[0].go(give, 1))
                except RuntimeError:
                    return
                with contextlib.suppress(td.TaskCancelled):
                    tasks[-1].result(PATIENCE)  # between two of them the run may end

        thread = threading.Thread(target=go_on_while_it_ends)
        thread.start()
        td.run(main, runners, started, loop=loop_factory)
        thread.join()
        assert all(task.done() for task in tasks)


# --- one Ctrl-C ends a main thread that waits for any of these ---------------------------------------------

WAITS = {
    "a task of another thread's run": "runner.go(td.sleep(3600)).result()",
    "a task, by wait": "runner.go(td.sleep(3600)).wait()",
    "recv": "td.Channel().recv().wait()",
    "send": "td.Channel().send(1).wait()",
    "sleep": "td.sleep(3600).wait()",
    "select": "td.select(td.Channel().recv(), td.after(3600)).wait()",
    "thread": "td.thread(threading.Event().wait).wait()",
    "a socket": "near.recv(1).wait()",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=list(WAITS))
def test_one_ctrl_c_ends_a_main_thread_that_waits(wait):
    program = f"""
        import socket, threading
        import thistledown as td

        runners, started = [], threading.Event()

        async def main():
            runners.append(td.current_runner())
            started.set()
            await td.sleep(3600)

        plain, far = socket.socketpair()
        near = td.Socket(plain)
        threading.Thread(target=td.run, args=(main,), daemon=True).start()
        started.wait()
        runner = runners[0]
        try:
            print("ready", flush=True)
            {wait}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    with started_program(program) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=PATIENCE)
    assert (out, process.returncode) == ("interrupted\n", 0), error
