"""contextvars: every task has its own copy, made when it was told to go."""

import contextvars
import decimal

import pytest
import thistledown as td

from support import settle

user = contextvars.ContextVar("user", default="nobody")


async def set_and_report(value):
    before = user.get()
    user.set(value)
    await td.sleep(0)
    return before, user.get()


def set_and_report_generator(value):
    before = user.get()
    user.set(value)
    yield
    return before, user.get()


BODIES = [set_and_report, set_and_report_generator]


@pytest.mark.parametrize("body", BODIES)
async def test_a_task_sees_what_was_set_when_it_was_told_to_go(body):
    user.set("first")
    early = td.go(body, "task")
    user.set("second")
    assert await early == ("first", "task")


@pytest.mark.parametrize("body", BODIES)
async def test_what_a_task_sets_stays_in_it(body):
    user.set("parent")
    tasks = [td.go(body, f"task {number}") for number in range(5)]
    assert [await task for task in tasks] == [("parent", f"task {number}") for number in range(5)]
    assert user.get() == "parent"


@pytest.mark.parametrize("body", BODIES)
def test_what_a_run_sets_stays_in_it(body):
    token = user.set("outside")
    assert td.run(body, "inside") == ("outside", "inside")
    assert user.get() == "outside"
    user.reset(token)


async def test_the_body_of_a_group_task_has_a_copy_too():
    user.set("parent")
    async with td.TaskGroup() as group:
        tasks = [group.go(set_and_report, number) for number in range(3)]
    assert [task.result() for task in tasks] == [("parent", number) for number in range(3)]
    assert user.get() == "parent"


async def test_values_last_over_every_kind_of_wait(tcp_pair):
    near, far = tcp_pair
    channel = td.Channel(1)
    token = user.set("mine")

    async def other():
        user.set("other")
        await channel.send("value")
        far.sendall(b"data")

    task = td.go(other)
    await channel.recv()
    assert user.get() == "mine"
    await near.recv(100)
    assert user.get() == "mine"
    await td.thread(int)
    await task
    await td.select(td.sleep(0.001), channel.recv())
    assert user.get() == "mine"
    user.reset(token)  # the very context in which it was set
    assert user.get() == "nobody"


async def test_a_call_in_a_thread_sees_a_copy():
    def call():
        before = user.get()
        user.set("thread")
        return before, user.get()

    user.set("task")
    assert await td.thread(call) == ("task", "thread")
    assert user.get() == "task"


async def test_both_sides_of_a_switch_share_the_context_of_their_task():
    async def other():
        before = user.get()
        user.set("other")
        return before

    user.set("first")
    assert await td.switch(other()) == "first"
    assert user.get() == "other"


async def test_cleaning_up_after_cancelling_happens_in_the_context_of_the_task():
    seen = []

    async def body():
        user.set("task")
        try:
            await td.Channel().recv()
        finally:
            seen.append(user.get())

    task = td.go(body)
    await settle()
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert seen == ["task"]


def test_a_finally_block_run_by_the_end_of_the_run_is_in_the_context_of_its_task():
    seen = []

    async def body():
        user.set("task")
        try:
            await td.Channel().recv()
        finally:
            seen.append(user.get())

    async def main():
        user.set("main")
        td.go(body)
        await settle()
        raise ValueError("end")

    with pytest.raises(ValueError, match="end"):
        td.run(main)
    assert seen == ["task"]


async def test_the_decimal_precision_of_interleaved_tasks_does_not_mix():
    async def third(digits):
        with decimal.localcontext() as context:
            context.prec = digits
            await td.sleep(0)
            return str(decimal.Decimal(1) / 3)

    tasks = [td.go(third, digits) for digits in (3, 9, 5)]
    assert [await task for task in tasks] == ["0.333", "0.333333333", "0.33333"]
