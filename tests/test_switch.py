"""`td.switch`: straight from one coroutine into another, with data; and `td.primed` generators for it."""

import pytest
import thistledown as td

from support import settle


def test_two_routines_hand_control_and_data_to_each_other():
    printed = []

    def routine1(data):
        printed.extend(["A", data])
        data = yield from td.switch(second, "a")
        printed.extend(["B", data])
        data = yield from td.switch(second, "b")

    @td.primed
    def routine2():
        data = yield
        printed.extend(["C", data])
        data = yield from td.switch(first, "c")
        printed.extend(["D", data])

    first, second = routine1("x"), routine2()
    td.run(first)
    assert " ".join(printed) == "A x C a B c D b"


def test_coroutines_switch_as_generators_do():
    printed = []

    async def routine1(data):
        printed.extend(["A", data])
        data = await td.switch(second)
        printed.extend(["B", data])
        data = await td.switch(second, "b")

    async def routine2():
        printed.extend(["C", "started"])
        data = await td.switch(first, "c")
        printed.extend(["D", data])

    first, second = routine1("x"), routine2()
    td.run(first)
    assert " ".join(printed) == "A x C started B c D b"


@td.primed
def doubling():
    value = yield
    while True:
        value = yield from td.switch(partner[0], value * 2)


partner = [None]


def test_a_partner_answers_a_hundred_thousand_times():
    def main():
        total, helper = 0, doubling()
        for number in range(100_000):
            total += yield from td.switch(helper, number)
        return total

    partner[0] = main()
    assert td.run(partner[0]) == sum(range(100_000)) * 2
    partner[0] = None


def test_three_routines_switch_in_a_ring():
    log, ring = [], {}

    def member(name, following, rounds):
        for _ in range(rounds):
            log.append(name)
            yield from td.switch(ring[following])
        return name

    ring.update(a=member("a", "b", 3), b=member("b", "c", 3), c=member("c", "a", 3))
    assert td.run(ring["a"]) == "a"
    assert log == ["a", "b", "c"] * 3


async def returning(value):
    await td.sleep(0)
    return value


def returning_generator(value):
    yield
    return value


@pytest.mark.parametrize("make", [returning, returning_generator])
async def test_the_return_value_goes_to_whoever_switched_in_first(make):
    assert await td.switch(make("returned")) == "returned"


def test_the_return_value_goes_to_the_first_even_if_another_switched_in_last():
    log = []

    def main():
        log.append((yield from td.switch(worker)))  # back from the worker, with data
        log.append((yield from td.switch(other)))
        return "main ended"

    def worker():
        yield from td.switch(first, "from the worker")
        return "worker ended"

    def other():
        yield from td.switch(worker)
        log.append("never")

    first, worker, other = main(), worker(), other()
    assert td.run(first) == "main ended"
    assert log == ["from the worker", "worker ended"]


@pytest.mark.parametrize("error", [ValueError("inside"), KeyError("inside")])
async def test_an_error_goes_to_whoever_switched_in_first(error):
    async def body():
        await td.sleep(0)
        raise error

    with pytest.raises(type(error)) as caught:
        await td.switch(body())
    assert caught.value is error


async def test_a_wait_inside_the_other_makes_the_whole_task_wait():
    channel, log = td.Channel(), []

    async def other():
        log.append(await channel.recv())

    async def switching():
        await td.switch(other())
        log.append("back")

    task = td.go(switching)
    await settle()
    assert (task.done(), log) == (False, [])
    await channel.send("value")
    await task
    assert log == ["value", "back"]


async def test_both_sides_are_one_task():
    async def other():
        return td.current_task()

    assert await td.switch(other()) is td.current_task()


async def test_cancelling_the_task_ends_both_sides():
    events = []

    async def other():
        try:
            await td.Channel().recv()
        finally:
            events.append("other ended")

    async def switching():
        try:
            await td.switch(other())
        finally:
            events.append("first ended")

    task = td.go(switching)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert events == ["other ended", "first ended"]


async def test_a_new_generator_takes_no_data_and_the_error_says_primed():
    def fresh():
        yield

    generator = fresh()
    with pytest.raises(TypeError, match=r"td\.primed"):
        await td.switch(generator, "data")
    assert await td.switch(generator) is None


@pytest.mark.parametrize("make", [returning, returning_generator])
async def test_a_finished_one_cannot_be_switched_into(make):
    other = make("value")
    await td.switch(other)
    with pytest.raises(RuntimeError, match=r"finished|ended|over|exhausted"):
        await td.switch(other)


async def test_one_that_runs_as_another_task_cannot_be_switched_into():
    body = td.Channel().recv()

    async def parked():
        await body

    coroutine = parked()
    task = td.go(coroutine)
    await settle()
    with pytest.raises(RuntimeError, match="task"):
        await td.switch(coroutine)
    task.cancel()


@pytest.mark.parametrize("other", [None, 5, "name", returning, lambda: None, object()])
async def test_only_generators_and_coroutines_can_be_switched_into(other):
    with pytest.raises(TypeError, match=r"generator|coroutine"):
        await td.switch(other)


async def test_after_an_error_the_task_goes_on_as_before():
    async def broken():
        raise ValueError("broken")

    for _ in range(3):
        with pytest.raises(ValueError, match="broken"):
            await td.switch(broken())
        assert await td.switch(returning("well")) == "well"
    assert await td.go(returning, "well") == "well"


# --- primed -------------------------------------------------------------------------------------------------


def test_a_primed_generator_is_ready_to_be_sent_to():
    @td.primed
    def average(start):
        total, count = start, 0
        while True:
            total, count = total + (yield total / max(count, 1)), count + 1

    running = average(0)
    assert [running.send(number) for number in (10, 20, 30)] == [10, 15, 20]
    running.close()


def test_priming_keeps_name_and_docstring():
    @td.primed
    def documented():
        """What it does."""
        yield

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")


def test_priming_runs_to_the_first_yield_and_no_further():
    log = []

    @td.primed
    def body():
        log.append("before")
        yield
        log.append("after")

    generator = body()
    assert log == ["before"]
    generator.close()
    assert log == ["before"]


def test_an_error_before_the_first_yield_is_raised_where_it_is_made():
    @td.primed
    def broken():
        raise ValueError("not today")
        yield

    with pytest.raises(ValueError, match="not today"):
        broken()


@pytest.mark.parametrize("function", [returning, len, 5, None])
def test_only_generator_functions_are_primed(function):
    with pytest.raises(TypeError, match="generator"):
        td.primed(function)
