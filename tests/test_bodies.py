"""What can be a task: coroutines, generators and awaitables, as functions and as objects; taking turns."""

import functools
import types

import pytest
import thistledown as td


async def async_function(log, name, rounds=2):
    for number in range(rounds):
        log.append(f"{name}{number}")
        await td.sleep(0)
    return name


def generator_function(log, name, rounds=2):
    for number in range(rounds):
        log.append(f"{name}{number}")
        yield
    return name


@types.coroutine
def generator_coroutine(log, name, rounds=2):
    return (yield from generator_function(log, name, rounds))


class AwaitsItself:
    def __init__(self, log, name, rounds=2):
        self.arguments = log, name, rounds

    def __await__(self):
        return async_function(*self.arguments).__await__()


class Methods:
    async def method(self, log, name, rounds=2):
        return await async_function(log, name, rounds)

    @classmethod
    async def class_method(cls, log, name, rounds=2):
        return await async_function(log, name, rounds)

    @staticmethod
    def static_method(log, name, rounds=2):
        return (yield from generator_function(log, name, rounds))


FUNCTIONS = {
    "async function": async_function,
    "generator function": generator_function,
    "generator-based coroutine": generator_coroutine,
    "method": Methods().method,
    "class method": Methods.class_method,
    "static method": Methods.static_method,
    "partial": functools.partial(async_function, rounds=2),
    "partial of generator": functools.partial(generator_function, rounds=2),
}
OBJECTS = {
    "coroutine": async_function,
    "generator": generator_function,
    "generator-based coroutine": generator_coroutine,
    "awaitable": AwaitsItself,
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_is_called_with_the_arguments_of_go(function):
    async def main():
        log = []
        task = td.go(function, log, name="x")
        assert log == []  # go only starts; the task runs when its turn comes
        return await task, log

    assert td.run(main) == ("x", ["x0", "x1"])


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_an_object_goes_as_it_is(make):
    async def main():
        log = []
        return await td.go(make(log, "x")), log

    assert td.run(main) == ("x", ["x0", "x1"])


@pytest.mark.parametrize("second", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("first", [async_function, generator_function], ids=["async", "generator"])
def test_ready_tasks_take_turns_whatever_their_kind(first, second):
    async def main():
        log = []
        async with td.TaskGroup() as group:
            group.go(first, log, "a")
            group.go(second, log, "b")
        return log

    assert td.run(main) == ["a0", "b0", "a1", "b1"]


@pytest.mark.parametrize("make", OBJECTS.values(), ids=OBJECTS)
def test_an_object_takes_no_further_arguments(make):
    async def main():
        body = make([], "x")
        with pytest.raises(TypeError, match="argument"):
            td.go(body, "more")
        if hasattr(body, "close"):
            body.close()

    td.run(main)


def test_wrong_arguments_raise_where_go_was_called():
    async def main():
        with pytest.raises(TypeError, match="unexpected"):
            td.go(async_function, [], "x", unexpected=1)
        return "goes on"

    assert td.run(main) == "goes on"


def test_a_generator_delegates_values_errors_and_closing():
    events = []

    def inner():
        try:
            events.append((yield from td.thread(str, 5)))
            yield from td.thread(int, "not a number")
        except ValueError:
            events.append("inner caught")
        try:
            yield from reached.send(None)
            yield from td.Channel().recv()
        finally:
            events.append("inner closed")

    def outer():
        try:
            yield from inner()
        finally:
            events.append("outer closed")

    async def main():
        task = td.go(outer)
        await reached.recv()
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task

    reached = td.Channel()
    td.run(main)
    assert events == ["5", "inner caught", "inner closed", "outer closed"]


def test_the_return_value_of_a_generator_is_the_result_of_its_task():
    def worker():
        first = yield from td.sleep(0)
        second = yield
        return "result", first, second

    assert td.run(worker) == ("result", None, None)


def test_a_generator_that_never_yields_is_a_task_too():
    def worker(value):
        if value is None:
            yield
        return value

    assert td.run(worker, 5) == 5


def test_tasks_consume_async_generators_that_wait():
    async def numbers(channel):
        try:
            async for number in channel:
                yield number * 10
        finally:
            await td.sleep(0)
            channel.close()

    async def main():
        channel = td.Channel(3)
        for number in range(3):
            channel.send_nowait(number)
        stream = numbers(channel)
        first = [await anext(stream), await anext(stream)]
        await stream.aclose()
        return first, channel.closed

    assert td.run(main) == ([0, 10], True)


def test_async_comprehensions_and_context_managers_wait():
    class Entered:
        async def __aenter__(self):
            return await td.thread(str, 1)

        async def __aexit__(self, *error):
            await td.sleep(0)

    async def main():
        async with Entered() as value:
            return [await td.go(async_function, [], name) for name in ("a", value)]

    assert td.run(main) == ["a", "1"]


def test_a_deep_chain_of_delegation_keeps_its_values():
    def level(depth):
        if depth == 0:
            yield
            return 0
        return 1 + (yield from level(depth - 1))

    async def async_level(depth):
        return 1 + await async_level(depth - 1) if depth else await td.go(level, 200)

    assert td.run(async_level, 200) == 400


@pytest.mark.parametrize("function", [async_function, generator_function], ids=["async", "generator"])
def test_a_task_is_named_after_its_body_and_can_be_renamed(function):
    async def main():
        from_function = td.go(function, [], "x")
        from_object = td.go(function([], "x"))
        names = [from_function.name, from_object.name]
        from_function.name = "resize"
        await from_function
        await from_object
        return [*names, from_function.name]

    by_function, by_object, renamed = td.run(main)
    assert function.__name__ in by_function
    assert function.__name__ in by_object
    assert renamed == "resize"
