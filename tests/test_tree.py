"""`td.tree()`: who waits for what, since when, at which line."""

import dataclasses
import threading

import pytest
import thistledown as td

from support import PATIENCE, place_of, settle


def ends_at(node, function, mark):
    """Whether the node stands at the marked line."""
    return str(node.where).split(" in ")[0].endswith(place_of(function, mark))


def names(nodes):
    return [node.name for node in nodes]


async def receives(channel):
    await channel.recv()  # mark: receives


async def calls(channel):
    await receives(channel)  # mark: calls


def generator(channel):
    yield from channel.recv()  # mark: generator


async def stream(channel):
    yield await channel.recv()  # mark: stream


async def iterates(channel):
    async for _ in stream(channel):  # mark: iterates
        pass


@pytest.mark.virtual_clock
async def test_a_task_says_for_what_it_waits_since_when_and_where():
    channel = td.Channel(3)
    async with td.TaskGroup() as group:
        task = group.go(receives, channel)
        await td.sleep(90)
        node = td.tree().find(task.name)
        group.cancel()
    assert (node.kind, node.state, node.since) == ("task", "waiting", 90.0)
    assert node.waits_for == f"recv from {node.waits_on[0]} (capacity 3)"
    assert ends_at(node, receives, "receives")
    assert node.where.function == "receives"


@pytest.mark.parametrize(
    ("body", "marks"),
    [
        (calls, [(calls, "calls"), (receives, "receives")]),
        (generator, [(generator, "generator")]),
        (iterates, [(iterates, "iterates"), (stream, "stream")]),
    ],
)
async def test_a_suspended_body_shows_its_await_chain(body, marks):
    channel = td.Channel()
    task = td.go(body, channel)
    await settle()
    node = td.tree().find(task.name)
    task.cancel()
    assert [str(line).split(" in ")[0].rsplit("/", 1)[1] for line in node.lines] == [place_of(*mark) for mark in marks]


async def test_tasks_stand_in_their_groups_and_groups_in_their_tasks():
    channel = td.Channel()

    async def family(depth):
        async with td.TaskGroup() as group:
            children = [group.go(receives, channel)]
            if depth:
                children.append(group.go(family, depth - 1))

    task = td.go(family, 1)
    await settle()
    node = td.tree().find(task.name)
    task.cancel()
    [group] = node.children
    assert (group.kind, group.state, node.waits_for) == ("group", "open", "the end of a group's tasks")
    leaf, inner = group.children
    assert (leaf.waits_on, leaf.children) == (inner.children[0].children[0].waits_on, ())
    assert inner.name.split("-")[0].endswith("family")


async def test_a_wait_for_a_task_names_it_and_a_choice_names_all():
    channel = td.Channel()
    target = td.go(receives, channel)

    async def waits():
        await target

    async def chooses():
        await td.select(channel.recv(), target, td.after(PATIENCE))

    tasks = [td.go(waits), td.go(chooses)]
    await settle()
    tree = td.tree()
    on = [tree.find(task.name).waits_on for task in tasks]
    [known] = tree.of_kind("channel")
    for task in [target, *tasks]:
        task.cancel()
    assert on == [(target.name,), (known.name, target.name)]
    assert known.state == "open, 0 of 0 taken"


async def test_the_task_that_has_its_turn_stands_at_its_own_line():
    tree = td.tree()  # mark: asks
    [node] = [node for node in tree.of_kind("task") if node.state == "running"]
    assert node.name == td.current_task().name
    assert ends_at(node, test_the_task_that_has_its_turn_stands_at_its_own_line, "asks")
    [run] = tree.of_kind("run")
    assert run.state == "running"


async def test_a_task_that_was_told_to_end_is_shown_so():
    holds = td.Channel()

    async def stubborn():
        try:
            await td.sleep(PATIENCE)
        finally:
            with td.shield():
                await holds.recv()

    task = td.go(stubborn)
    await settle()
    task.cancel()
    await settle()
    async with td.TaskGroup() as group:
        inner = group.go(receives, holds)
        await settle()
        before = td.tree().find(inner.name).state
        group.cancel()
        states = {node.name: node.state for node in td.tree().nodes()}
    holds.send_nowait(None)
    assert (before, states["group"]) == ("waiting", "cancelled")
    assert states[inner.name] == "ready, cancelled"


def test_a_thread_that_waits_is_in_the_tree():
    channel = td.Channel()

    def waits():
        channel.recv().wait(PATIENCE)  # mark: thread waits

    thread = threading.Thread(target=waits, name="a plain thread")
    thread.start()
    while (node := td.tree().find("a plain thread")).state != "waiting":
        pass
    channel.send(None).wait(PATIENCE)
    thread.join()
    assert (node.kind, node.waits_for) == ("thread", f"recv from {node.waits_on[0]} (capacity 0)")
    assert 0 <= node.since < PATIENCE
    assert ends_at(node, waits, "thread waits")
    assert "a plain thread" not in names(td.tree().nodes())


def test_a_thread_that_waits_for_a_task_names_it():
    channel, started = td.Channel(), threading.Event()
    tasks = []

    async def main():
        tasks.append(td.go(receives, channel))
        started.set()
        await tasks[0]

    thread = threading.Thread(target=td.run, args=(main,), name="runs")
    thread.start()
    started.wait(PATIENCE)
    waiter = threading.Thread(target=tasks[0].result, args=(PATIENCE,), name="waits for a task")
    waiter.start()
    while (node := td.tree().find("waits for a task")).state != "waiting":
        pass
    in_run = td.tree().find("runs").state
    channel.send(None).wait(PATIENCE)
    waiter.join()
    thread.join()
    assert (node.waits_on, in_run) == ((tasks[0].name,), "in a run")


async def test_what_is_more_than_the_limit_is_counted():
    channel = td.Channel()
    tasks = [td.go(receives, channel) for _ in range(30)]
    await settle()
    [run] = td.tree(limit=10).of_kind("run")
    for task in tasks:
        task.cancel()
    assert len(run.children) == 10
    assert run.unlisted == 21
    assert "and 21 more tasks" in str(run)


async def test_a_deep_family_can_be_shown():
    depth = 2_000
    channel = td.Channel()

    async def family(left):
        async with td.TaskGroup() as group:
            group.go(family, left - 1) if left else group.go(receives, channel)

    task = td.go(family, depth)
    await settle(2 * depth)
    text = str(td.tree())
    task.cancel()
    assert text.count("waits") == depth + 2


def test_without_anything_there_is_nothing_but_the_threads():
    tree = td.tree()
    assert {node.kind for node in tree.nodes()} <= {"thread", "pool", "worker"}
    assert "MainThread" in names(tree.nodes())


async def test_the_words_say_who_waits_for_whom_and_where():
    channel = td.Channel()
    task = td.go(calls, channel)
    await settle()
    text = str(td.tree())
    task.cancel()
    assert f"task {task.name} waits for " in text
    assert "for recv from channel" in text
    for function, mark in ((receives, "receives"), (calls, "calls")):
        assert place_of(function, mark) in text
    assert text.index(place_of(receives, "receives")) < text.index(place_of(calls, "calls"))


async def test_a_tree_is_data_that_nobody_can_change():
    tree = td.tree()
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.pid = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        tree.children[0].name = ""
    assert tree.find("MainThread").lines[-1] == td.Line(
        __file__, tree.find("MainThread").where.line, "test_a_tree_is_data_that_nobody_can_change"
    )
    with pytest.raises(LookupError, match="nobody"):
        tree.find("nobody")
