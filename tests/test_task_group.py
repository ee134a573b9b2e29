"""Task groups: nothing of a group runs after its block, one failure cancels the rest, no error is lost."""

import gc
import weakref

import pytest
import thistledown as td

from support import settle


async def value_of(value):
    await td.sleep(0)
    return value


async def failing(error):
    await td.sleep(0)
    raise error


async def parked(events, name, error=None):
    """Wait for ever; when cancelled, say so, and fail in turn if given an error."""
    try:
        await td.Channel().recv()
    except td.Cancelled:
        events.append(name)
        if error is not None:
            raise error from None
        raise


def shown(error):
    """A group of errors as a tree of their texts."""
    if isinstance(error, BaseExceptionGroup):
        return [shown(inner) for inner in error.exceptions]
    return str(error)


async def test_the_block_is_left_when_every_task_has_ended():
    events = []

    async def late(name, rounds):
        await settle(rounds)
        events.append(name)

    async with td.TaskGroup() as group:
        group.go(late, "slow", 9)
        group.go(late, "fast", 3)
        events.append("body done")
    assert events == ["body done", "fast", "slow"]


async def test_tasks_of_a_group_give_their_results():
    async with td.TaskGroup() as group:
        tasks = [group.go(value_of, number) for number in range(10)]
    assert [task.result() for task in tasks] == list(range(10))


async def test_a_group_takes_every_kind_of_body():
    def generator():
        yield
        return "generator"

    async with td.TaskGroup() as group:
        tasks = [
            group.go(value_of, "async"),
            group.go(generator),
            group.go(generator()),
            group.go(td.sleep(0)),
        ]
    assert [task.result() for task in tasks] == ["async", "generator", "generator", None]


def test_a_generator_joins_its_group():
    def main():
        with td.TaskGroup() as group:
            tasks = [group.go(value_of, number) for number in range(3)]
            yield from group.join()
        return [task.result() for task in tasks]

    assert td.run(main) == [0, 1, 2]


def test_a_generator_gets_the_error_of_its_group_from_join():
    events = []

    def main():
        with pytest.raises(ValueError, match="one failed"):
            with td.TaskGroup() as group:
                group.go(parked, events, "cancelled")
                group.go(failing, ValueError("one failed"))
                yield from group.join()
        return "went on"

    assert td.run(main) == "went on"
    assert events == ["cancelled"]


async def test_tasks_of_a_group_start_further_tasks_in_it():
    events = []

    async def link(remaining):
        events.append(remaining)
        if remaining:
            group.go(link, remaining - 1)

    async with td.TaskGroup() as group:
        group.go(link, 5)
    assert events == [5, 4, 3, 2, 1, 0]


async def test_an_empty_group_ends_at_once():
    async with td.TaskGroup():
        pass


async def test_ten_thousand_tasks_in_one_group():
    async with td.TaskGroup() as group:
        tasks = [group.go(value_of, number) for number in range(10_000)]
    assert sum(task.result() for task in tasks) == sum(range(10_000))


# --- errors -------------------------------------------------------------------------------------------------


async def test_when_one_fails_the_others_are_cancelled_and_its_error_is_raised_as_itself():
    events, error = [], ValueError("one failed")
    with pytest.raises(ValueError, match="one failed") as caught:
        async with td.TaskGroup() as group:
            tasks = [group.go(parked, events, name) for name in "ab"]
            await settle()
            failed = group.go(failing, error)
    assert caught.value is error
    assert sorted(events) == ["a", "b"]
    assert all(task.cancelled() for task in tasks)
    assert failed.exception() is error


async def test_a_failing_task_cancels_the_body_of_the_block():
    events = []
    with pytest.raises(ValueError, match="one failed"):
        async with td.TaskGroup() as group:
            group.go(failing, ValueError("one failed"))
            await parked(events, "body")
    assert events == ["body"]
    await td.sleep(0)  # the task itself is not cancelled, only the block was


async def test_an_error_of_the_body_cancels_the_tasks_and_is_raised_as_itself():
    events = []
    with pytest.raises(LookupError, match="body failed"):
        async with td.TaskGroup() as group:
            group.go(parked, events, "task")
            await settle()
            raise LookupError("body failed")
    assert events == ["task"]


async def test_several_errors_are_raised_as_a_group():
    events = []
    with pytest.raises(ExceptionGroup) as caught:
        async with td.TaskGroup() as group:
            group.go(parked, events, "second", KeyError("second"))
            await settle()
            group.go(failing, ValueError("first"))
    assert sorted(shown(caught.value)) == ["'second'", "first"]


async def test_errors_of_body_and_tasks_come_together():
    events = []
    with pytest.raises(ExceptionGroup) as caught:
        async with td.TaskGroup() as group:
            group.go(parked, events, "task", ValueError("from the task"))
            await settle()
            raise LookupError("from the body")
    assert sorted(shown(caught.value)) == ["from the body", "from the task"]


async def test_an_error_that_is_no_exception_makes_a_base_exception_group():
    class Alarm(BaseException):
        pass

    events = []
    with pytest.raises(BaseExceptionGroup) as caught:
        async with td.TaskGroup() as group:
            group.go(parked, events, "second", Alarm("alarm"))
            await settle()
            group.go(failing, ValueError("first"))
    assert not isinstance(caught.value, ExceptionGroup)
    assert sorted(shown(caught.value)) == ["alarm", "first"]


async def test_groups_of_errors_nest_as_the_groups_of_tasks_do():
    events = []

    async def inner():
        async with td.TaskGroup() as group:
            group.go(parked, events, "inner", ValueError("inner second"))
            await settle()
            group.go(failing, ValueError("inner first"))

    with pytest.raises(ExceptionGroup) as caught:
        async with td.TaskGroup() as group:
            group.go(parked, events, "outer", ValueError("outer"))
            group.go(inner)
    assert sorted(map(str, map(shown, caught.value.exceptions))) == [
        "['inner first', 'inner second']",
        "outer",
    ]


async def test_an_error_that_the_body_also_waited_for_is_raised_once():
    error = ValueError("once")
    with pytest.raises(ValueError, match="once") as caught:
        async with td.TaskGroup() as group:
            await group.go(failing, error)
    assert caught.value is error


def test_an_error_that_left_its_group_is_not_raised_again_by_run():
    kept = []

    async def main():
        try:
            async with td.TaskGroup() as group:
                kept.append(group.go(failing, ValueError("once")))
        except ValueError:
            return "handled"

    assert td.run(main) == "handled"


async def test_an_error_passes_through_each_group_around_it():
    events = []

    async def inner():
        async with td.TaskGroup() as group:
            group.go(parked, events, "inner")
            group.go(failing, ValueError("deep"))

    with pytest.raises(ValueError, match="deep"):
        async with td.TaskGroup() as group:
            group.go(parked, events, "outer")
            group.go(inner)
    assert events == ["inner", "outer"]


# --- cancelling ---------------------------------------------------------------------------------------------


async def test_a_cancelled_group_ends_quietly():
    events = []
    async with td.TaskGroup() as group:
        tasks = [group.go(parked, events, name) for name in "ab"]
        await settle()
        group.cancel()
        with pytest.raises(td.Cancelled):
            await td.sleep(0)
    assert sorted(events) == ["a", "b"]
    assert all(task.cancelled() for task in tasks)
    await td.sleep(0)


async def test_a_group_is_cancelled_from_one_of_its_tasks():
    events = []

    async def stopper():
        await settle()
        group.cancel()

    async with td.TaskGroup() as group:
        group.go(parked, events, "task")
        group.go(stopper)
        await parked(events, "body")
    assert sorted(events) == ["body", "task"]


async def test_an_error_while_a_cancelled_group_ends_is_not_lost():
    events = []
    with pytest.raises(ValueError, match="while ending"):
        async with td.TaskGroup() as group:
            group.go(parked, events, "task", ValueError("while ending"))
            await settle()
            group.cancel()


async def test_one_cancelled_task_does_not_disturb_its_group():
    events = []
    async with td.TaskGroup() as group:
        stopped = group.go(parked, events, "stopped")
        other = group.go(value_of, "other")
        await settle()
        stopped.cancel()
        await settle()
        third = group.go(value_of, "third")
    assert events == ["stopped"]
    assert stopped.cancelled()
    assert (other.result(), third.result()) == ("other", "third")


@pytest.mark.virtual_clock
async def test_a_timeout_around_a_group_cancels_all_of_it():
    events = []
    with pytest.raises(TimeoutError):
        with td.timeout(5):
            async with td.TaskGroup() as group:
                group.go(parked, events, "a")
                group.go(parked, events, "b")
    assert sorted(events) == ["a", "b"]


async def test_cancelling_the_task_that_holds_a_group_cancels_the_group():
    events = []

    async def holder():
        async with td.TaskGroup() as group:
            group.go(parked, events, "child")
            await settle()
            await parked(events, "holder")

    task = td.go(holder)
    await settle(30)
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        await task
    assert sorted(events) == ["child", "holder"]


@pytest.mark.virtual_clock
async def test_the_block_is_not_left_before_a_cancelled_task_has_cleaned_up():
    events = []

    async def careful():
        try:
            await td.sleep(1000)
        finally:
            with td.shield():
                await td.sleep(50)
            events.append("cleaned up")

    with td.move_on_after(5):
        async with td.TaskGroup() as group:
            group.go(careful)
    events.append("left")
    assert events == ["cleaned up", "left"]


@pytest.mark.virtual_clock
async def test_the_scopes_around_a_group_hold_for_tasks_that_others_start_in_it():
    events = []

    async def outsider(group):
        await td.sleep(1)
        group.go(parked, events, "started by an outsider")

    with td.move_on_after(5):
        async with td.TaskGroup() as group:
            td.go(outsider, group)
            await td.sleep(100)
    assert events == ["started by an outsider"]


async def test_a_task_started_in_a_cancelled_group_is_cancelled_too():
    events = []

    async def body():
        events.append("ran")
        await td.sleep(0)
        events.append("never")

    async with td.TaskGroup() as group:
        group.cancel()
        task = group.go(body)
    assert task.cancelled()
    assert "never" not in events


# --- misuse -------------------------------------------------------------------------------------------------


async def test_nothing_goes_in_a_group_that_has_ended():
    async with td.TaskGroup() as group:
        pass
    body = value_of(1)
    with pytest.raises(RuntimeError, match=r"ended|left|over"):
        group.go(body)
    body.close()


async def test_nothing_goes_in_a_group_that_was_not_entered():
    body = value_of(1)
    with pytest.raises(RuntimeError, match=r"with"):
        td.TaskGroup().go(body)
    body.close()


async def test_a_group_is_entered_once():
    async with td.TaskGroup() as group:
        pass
    with pytest.raises(RuntimeError):
        await group.__aenter__()


def test_leaving_a_generator_group_without_join_while_tasks_run_raises_and_says_join():
    events = []

    def main():
        with pytest.raises(RuntimeError, match="join"):
            with td.TaskGroup() as group:
                group.go(parked, events, "task")
                yield
        yield
        return "went on"

    assert td.run(main) == "went on"
    assert events == ["task"]


def test_a_task_that_fails_after_its_group_is_over_answers_to_the_run():
    events = []

    async def late():
        try:
            await td.Channel().recv()
        finally:
            raise LookupError("too late for the group")

    def main():
        with pytest.raises(RuntimeError, match="join"):
            with td.TaskGroup() as group:
                group.go(late)
                yield
        events.append("the group is over")
        yield
        events.append("main went on")

    with pytest.raises(LookupError, match="too late for the group"):
        td.run(main)
    assert events == ["the group is over", "main went on"]


async def test_a_group_refuses_what_is_no_body():
    with pytest.raises(TypeError):
        async with td.TaskGroup() as group:
            group.go(42)


class Named(td.TaskGroup):
    def __init__(self, name, *, size=0):
        super().__init__()
        self.name, self.size = name, size


async def test_a_class_made_of_a_group_may_have_arguments_of_its_own():
    async def work(*args, **kwargs):
        return args, kwargs

    async with Named("first", size=2) as group:
        task = group.go(work, 1, two=2)
    assert (group.name, group.size) == ("first", 2)
    assert task.result() == ((1,), {"two": 2})


async def test_a_group_is_told_what_to_start():
    with pytest.raises(TypeError, match="takes 1 positional argument"):
        td.TaskGroup(1)
    async with td.TaskGroup() as group:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'body'"):
            group.go()
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'body'"):
            group.go(body=print)


async def test_a_group_that_nobody_holds_is_gone_at_once():
    group = td.TaskGroup()
    async with group:
        await group.go(td.sleep(0))
    gone = weakref.ref(group)
    gc.disable()
    try:
        del group
        assert gone() is None
    finally:
        gc.enable()
