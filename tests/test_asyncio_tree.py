"""`td.tree()` of a program that runs on asyncio: the loop's tasks that wait for something of ours, and ours in it."""

import asyncio
import threading
import time

import pytest
import thistledown as td

from support import LOOPS, PATIENCE, place_of, settle


def ends_at(node, function, mark):
    """Whether the node stands at the marked line."""
    return str(node.where).split(" in ")[0].endswith(place_of(function, mark))


async def receives(channel):
    return await channel.recv()  # mark: receives


async def calls(channel):
    return await receives(channel)  # mark: calls


async def sleeps_in_asyncio():
    await asyncio.sleep(PATIENCE)  # mark: sleeps


async def let_run():
    for _ in range(5):
        await asyncio.sleep(0)


async def end(*tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def awaited(task):
    return await task


def test_an_asyncio_task_says_for_what_it_waits_and_where(run):
    async def main():
        channel = td.Channel(3)
        task = asyncio.create_task(calls(channel), name="client")
        await let_run()
        tree = td.tree()
        await end(task)
        return tree

    tree = run(main)
    node = tree.find("client")
    assert (node.kind, node.state) == ("task", "waiting")
    assert node.since >= 0
    assert node.waits_for == f"recv from {node.waits_on[0]} (capacity 3)"
    assert ends_at(node, receives, "receives")
    assert [line.function for line in node.lines] == ["calls", "receives"]
    [channel] = tree.of_kind("channel")
    assert channel.name == node.waits_on[0]


@pytest.mark.parametrize("kind", LOOPS)
def test_the_loop_is_named_with_its_thread(kind):
    async def main():
        task = asyncio.create_task(receives(td.Channel()))
        await let_run()
        [run] = td.tree().of_kind("run")
        await end(task)
        return run

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        run = runner.run(main())
    assert run.name == f"{kind} loop in thread {threading.main_thread().name}"
    assert run.unlisted == 0
    assert run.state == "waiting", "who asks has no wait of ours and no block, and is not in it"


def test_weightless_tasks_stand_in_their_loop_with_what_of_asyncios_they_wait_for(run):
    async def main():
        channel, future = td.Channel(), asyncio.get_running_loop().create_future()
        client = asyncio.create_task(asyncio.sleep(PATIENCE), name="client")

        async def waits(what):
            await what  # mark: waits

        tasks = [td.go(receives, channel), td.go(waits, future), td.go(waits, client), td.go(sleeps_in_asyncio)]
        await let_run()
        tree = td.tree()
        await end(*(asyncio.wrap_future(task) for task in tasks), client)
        return [tree.find(task.name) for task in tasks]

    ours, bare, named, asleep = run(main)
    assert ours.waits_for.startswith("recv from channel")
    assert (bare.state, bare.waits_for, bare.waits_on) == ("waiting", "a future of asyncio", ())
    assert (named.state, named.waits_for, named.waits_on) == ("waiting", "the end of asyncio task client", ("client",))
    assert [line.function for line in asleep.lines] == ["sleeps_in_asyncio", "sleep"]
    assert str(asleep.lines[0]).split(" in ")[0].endswith(place_of(sleeps_in_asyncio, "sleeps"))
    assert all(node.since is not None for node in (ours, bare, named, asleep))


def test_a_group_of_an_asyncio_task_stands_in_it_whatever_it_waits_for(run):
    async def main():
        async def holds():
            async with td.TaskGroup() as group:
                tasks.append(group.go(receives, channel))
                await future

        async def joins():
            async with td.TaskGroup() as group:
                tasks.append(group.go(receives, channel))

        tasks, channel, future = [], td.Channel(), asyncio.get_running_loop().create_future()
        owners = [asyncio.create_task(holds(), name="holds"), asyncio.create_task(joins(), name="joins")]
        await let_run()
        tree = td.tree()
        await end(*owners)
        return [tree.find("holds"), tree.find("joins")], [task.name for task in tasks]

    owners, members = run(main)
    assert [node.waits_for for node in owners] == ["a future of asyncio", "the end of a group's tasks"]
    for node, member in zip(owners, members, strict=True):
        [group] = node.children
        assert group.kind == "group"
        assert [child.name for child in group.children] == [member]


def test_who_has_its_turn_stands_at_its_own_line(run):
    async def ours():
        return td.tree().find(td.current_task().name)  # mark: ours

    async def main():
        asyncio.current_task().set_name("main")
        with td.timeout(PATIENCE):
            return td.tree().find("main"), await td.go(ours)  # mark: main

    theirs, own = run(main)
    assert (theirs.state, own.state) == ("running", "running")
    assert ends_at(theirs, main, "main")
    assert ends_at(own, ours, "ours")
    assert theirs.waits_for is None


def test_who_only_keeps_the_others_is_not_named(run):
    async def main():
        task = td.go(receives, td.Channel())
        await let_run()
        nodes = td.tree().of_kind("task")
        await end(asyncio.wrap_future(task))
        return [node.name for node in nodes] == [task.name]

    assert run(main)


def test_a_run_with_a_loop_shows_its_tasks(loop_factory):
    async def main():
        task = td.go(receives, td.Channel())
        await settle()
        tree = td.tree()
        task.cancel()
        [run] = tree.of_kind("run")
        return [node.name for node in run.children], [td.current_task().name, task.name], tree.find(task.name)

    shown, names, node = td.run(main, loop=loop_factory)
    assert sorted(shown) == sorted(names)
    assert ends_at(node, receives, "receives")


def test_a_wait_counts_from_when_it_began(run):
    async def main():
        before = time.monotonic()
        first = asyncio.create_task(receives(td.Channel()), name="first")
        await asyncio.sleep(0.01)
        between = time.monotonic()
        second = asyncio.create_task(receives(td.Channel()), name="second")
        await let_run()
        tree = td.tree()
        end_of_it = time.monotonic()
        await end(first, second)
        return tree.find("first").since, tree.find("second").since, before, between, end_of_it

    first, second, before, between, end_of_it = run(main)
    assert first > second
    assert first <= end_of_it - before
    assert second <= end_of_it - between


def test_the_tree_is_taken_from_another_thread_too(run):
    def looks():
        while True:  # the call may begin before its task waits for it
            waiting = [node for node in td.tree().nodes() if (node.name, node.state) == ("main", "waiting")]
            if waiting:
                return waiting[0]

    async def main():
        asyncio.current_task().set_name("main")
        return await td.thread(looks)  # mark: main

    node = run(main)
    assert node.waits_for.startswith("the thread call")
    assert ends_at(node, main, "main")


def test_a_loop_that_has_ended_is_not_in_the_tree(run):
    run(lambda: receives_at_once())
    assert td.tree().of_kind("run") == ()


async def receives_at_once():
    channel = td.Channel(1)
    channel.send_nowait(1)
    await channel.recv()
    await td.sleep(0.001)


def test_tasks_that_wait_for_each_other_are_told_in_a_loop_as_well(run):
    async def main():
        async def waits_for(number):
            await tasks[number]

        tasks = []
        tasks += [td.go(waits_for, 1), td.go(waits_for, 0)]
        with pytest.raises(td.DeadlockError, match="waits_for"):
            await asyncio.gather(*map(asyncio.wrap_future, tasks))
        await asyncio.gather(*map(asyncio.wrap_future, tasks), return_exceptions=True)

    run(main)


def test_what_only_the_loop_can_end_is_no_deadlock(run):
    async def main():
        channel, future = td.Channel(), asyncio.get_running_loop().create_future()

        async def waits():
            async with td.TaskGroup() as group:
                group.go(receives, channel)
                group.go(awaited, future)
            return "done"

        task = td.go(waits)
        await let_run()

        # Nobody of ours can do anything now, and no time is waited for: the loop's own callback can.
        def act():
            future.set_result(None)
            channel.send_nowait(1)

        asyncio.get_running_loop().call_later(0.005, act)
        return await task

    assert run(main) == "done"
