"""`td.run`: what it takes, what it returns, when it ends, and where the errors of its tasks come out."""

import gc
import logging
import threading

import pytest
import thistledown as td

from support import settle


class Awaitable:
    """An object that is a body because it has `__await__`."""

    def __init__(self, value):
        self.value = value

    def __await__(self):
        yield from td.sleep(0)
        return self.value


async def coroutine_body(value):
    await td.sleep(0)
    return value


def generator_body(value):
    yield
    return value


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        pytest.param(lambda: coroutine_body, ("value",), id="coroutine function"),
        pytest.param(lambda: generator_body, ("value",), id="generator function"),
        pytest.param(lambda: coroutine_body("value"), (), id="coroutine"),
        pytest.param(lambda: generator_body("value"), (), id="generator"),
        pytest.param(lambda: Awaitable("value"), (), id="awaitable"),
    ],
)
def test_run_returns_the_result_of_any_kind_of_body(main, arguments):
    assert td.run(main(), *arguments) == "value"


@pytest.mark.parametrize("value", [None, 0, False, StopIteration, (1, 2)])
def test_run_returns_any_value_as_it_is(value):
    assert td.run(coroutine_body, value) is value


def test_run_raises_the_very_error_of_main():
    error = ValueError("from main")

    async def main():
        await td.sleep(0)
        raise error

    with pytest.raises(ValueError, match="from main") as caught:
        td.run(main)
    assert caught.value is error


def test_the_traceback_of_an_error_leads_to_the_line_that_raised_it():
    async def deep():
        await td.sleep(0)
        raise LookupError("deep down")

    async def main():
        await deep()

    with pytest.raises(LookupError) as caught:
        td.run(main)
    assert [entry.name for entry in caught.traceback][-2:] == ["main", "deep"]


def test_run_ends_only_when_every_task_has_ended():
    events = []

    async def late():
        await settle(5)
        events.append("late ended")

    async def main():
        td.go(late)
        events.append("main ended")
        return "result"

    assert td.run(main) == "result"
    assert events == ["main ended", "late ended"]


def test_tasks_started_by_tasks_after_main_ended_are_waited_for_too():
    events = []

    async def link(remaining):
        await td.sleep(0)
        events.append(remaining)
        if remaining:
            td.go(link, remaining - 1)

    async def main():
        td.go(link, 5)

    td.run(main)
    assert events == [5, 4, 3, 2, 1, 0]


def test_an_async_generator_dropped_in_the_middle_is_closed_by_the_run_in_a_task_of_its_own():
    closers = []

    async def numbers():
        try:
            yield 1
            yield 2
        finally:
            await td.sleep(0)
            closers.append(td.current_task())

    async def main():
        async for _ in numbers():
            break
        return td.current_task()

    main_task = td.run(main)
    [closer] = closers
    assert isinstance(closer, td.Task)
    assert closer is not main_task


def test_when_main_raises_the_other_tasks_are_cancelled_and_their_finally_blocks_run():
    events = []

    async def other(name):
        try:
            await td.Channel().recv()
        except td.Cancelled:
            events.append(f"{name} cancelled")
            raise
        finally:
            events.append(f"{name} cleaned up")

    async def main():
        td.go(other, "a")
        td.go(other, "b")
        await settle()
        raise ValueError("main failed")

    with pytest.raises(ValueError, match="main failed"):
        td.run(main)
    assert sorted(events) == ["a cancelled", "a cleaned up", "b cancelled", "b cleaned up"]


async def failing(error):
    await td.sleep(0)
    raise error


def test_an_error_nobody_asked_for_is_raised_when_the_run_ends():
    held, events = [], []

    async def main():
        held.append(td.go(failing, ValueError("unseen")))
        await settle()
        events.append("main went on")

    with pytest.raises(ValueError, match="unseen") as caught:
        td.run(main)
    assert events == ["main went on"]
    assert held[0].exception() is caught.value


def test_several_errors_nobody_asked_for_are_raised_as_a_group():
    held = []

    async def main():
        held.append(td.go(failing, ValueError("one")))
        held.append(td.go(failing, KeyError("two")))

    with pytest.raises(ExceptionGroup) as caught:
        td.run(main)
    assert [repr(error) for error in caught.value.exceptions] == ["ValueError('one')", "KeyError('two')"]


async def ask_by_await(task):
    await task


async def ask_by_result(task):
    await settle()
    task.result()


async def ask_by_exception(task):
    await settle()
    raise task.exception()


def ask_by_yield_from(task):
    yield from task


@pytest.mark.parametrize("ask", [ask_by_await, ask_by_result, ask_by_exception, ask_by_yield_from])
def test_an_error_somebody_asked_for_is_not_raised_again_by_run(ask):
    seen, held = [], []

    async def main():
        held.append(td.go(failing, ValueError("seen")))
        try:
            await td.go(ask, held[0])
        except ValueError as error:
            seen.append(error)
        return "went well"

    assert td.run(main) == "went well"
    assert [str(error) for error in seen] == ["seen"]


def test_an_error_of_a_task_that_nobody_holds_is_logged_at_once_and_raised_at_the_end(caplog):
    logged_before_the_end, events = [], []

    async def main():
        td.go(failing, ValueError("unheld"))
        await settle()
        gc.collect()
        logged_before_the_end.extend(caplog.records)
        events.append("went on")

    with caplog.at_level(logging.ERROR, logger="thistledown"), pytest.raises(ValueError, match="unheld"):
        td.run(main)
    assert events == ["went on"]
    [record] = logged_before_the_end
    assert (record.name, record.levelno) == ("thistledown", logging.ERROR)
    assert "unheld" in caplog.text
    assert "failing" in caplog.text


def test_run_inside_run_raises_and_says_what_to_write():
    async def main():
        inner = coroutine_body("value")
        try:
            with pytest.raises(RuntimeError, match=r"td\.go|await"):
                td.run(inner)
        finally:
            inner.close()
        return "outer goes on"

    assert td.run(main) == "outer goes on"


def test_two_threads_run_at_once_and_talk_through_channels():
    there, back = td.Channel(), td.Channel()
    results = {}

    async def ping():
        answers = []
        for number in range(20):
            await there.send(number)
            answers.append(await back.recv())
        there.close()
        return answers

    async def pong():
        async for number in there:
            await back.send(number * 2)

    other = threading.Thread(target=lambda: results.update(pong=td.run(pong)))
    other.start()
    results["ping"] = td.run(ping)
    other.join()
    assert results == {"ping": [number * 2 for number in range(20)], "pong": None}


def test_runs_follow_each_other_and_a_failed_one_leaves_nothing_behind():
    async def main(number):
        task = td.go(coroutine_body, number)
        if number % 3 == 0:
            raise ValueError(number)
        return await task

    outcomes = []
    for number in range(6):
        try:
            outcomes.append(td.run(main, number))
        except ValueError as error:
            outcomes.append(error.args)
    assert outcomes == [(0,), 1, 2, (3,), 4, 5]


def test_the_current_task_is_known_inside_a_run_and_only_there():
    seen = {}

    async def child():
        seen["child before"] = td.current_task()
        await td.sleep(0)
        seen["child after"] = td.current_task()

    async def main():
        seen["main"] = td.current_task()
        seen["task"] = td.go(child)
        await seen["task"]
        assert td.current_task() is seen["main"]

    assert td.current_task() is None
    td.run(main)
    assert td.current_task() is None
    assert seen["child before"] is seen["child after"] is seen["task"]
    assert isinstance(seen["main"], td.Task)
    assert seen["main"] is not seen["task"]


def test_no_task_is_current_in_a_helper_thread():
    async def main():
        return await td.thread(td.current_task)

    assert td.run(main) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt("stop"), SystemExit(7)], ids=["interrupt", "exit"])
@pytest.mark.parametrize("place", ["main", "task"])
def test_interrupt_and_exit_in_any_task_cancel_everything_and_leave_run(error, place):
    events = []

    async def other():
        try:
            await td.Channel().recv()
        finally:
            events.append("other cleaned up")

    async def main():
        held = [td.go(other)]
        await settle()
        if place == "main":
            raise error
        held.append(td.go(failing, error))
        try:
            await td.Channel().recv()
        finally:
            events.append("main cleaned up")

    with pytest.raises(type(error)) as caught:
        td.run(main)
    assert caught.value is error
    assert set(events) == ({"other cleaned up"} if place == "main" else {"other cleaned up", "main cleaned up"})


def test_here_is_a_place_with_the_same_verb_and_options():
    async def main():
        plain = td.here.go(coroutine_body, 1)
        named = td.here.options(name="resize").go(coroutine_body, 2)
        return named.name, await plain, await named

    assert td.run(main) == ("resize", 1, 2)


def test_options_do_not_change_the_place_they_were_taken_from():
    async def main():
        td.here.options(name="resize")
        task = td.here.go(coroutine_body, 1)
        await task
        return task.name

    assert td.run(main) != "resize"


def test_options_refuse_what_they_do_not_know():
    with pytest.raises(TypeError, match="colour"):
        td.here.options(colour="red")
