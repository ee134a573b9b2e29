"""One suite for every operation, way to wait and kind of loop: value, error, undo, timeout, reuse and choice.

A scene is an operation that has not completed, with the call that lets it complete once. What holds for one
operation holds for all, so each test runs over all scenes, over the ways to wait that make sense for it, and in
each kind of loop: `home` is one, and `home.start` is how a waiter is started there.
"""

import contextlib
import inspect
import queue
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import thistledown as td

from support import (
    PATIENCE,
    WAYS,
    WAYS_IN_TASK,
    by_await,
    by_select,
    by_wait_in_thread,
    by_yield_from,
    settle,
)

CHUNK = b"x" * 65536


@dataclass
class Scene:
    operation: Any
    complete: Callable[[], object]  # lets the operation complete, once
    check: Callable[[Any], object]  # asserts what it gives and did
    fail: Callable[[], object] | None = None  # makes it fail with `error`
    error: type[BaseException] = Exception


def same(expected):
    def check(value):
        assert value == expected

    return check


def connected(stack):
    """A connected TCP pair: a `td.Socket`, and a plain blocking socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        plain = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    return stack.enter_context(td.Socket(plain)), stack.enter_context(far)


def paired(stack):
    """The same over a Unix pair, whose buffers are full when they are: TCP's make room later, when it has time."""
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    return stack.enter_context(td.Socket(near)), stack.enter_context(far)


def reset(far):
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def fill(near):
    """Fill the pipe to the peer of a non-blocking socket until nothing more goes in."""
    with contextlib.suppress(BlockingIOError):
        while True:
            near.socket.send(CHUNK)


def drain(far):
    """Empty what has been sent to a plain socket, so that its peer becomes writable."""
    far.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while far.recv(1 << 20):
            pass


def channel_recv(stack):
    channel = td.Channel(4)
    return Scene(channel.recv(), lambda: channel.send_nowait("value"), same("value"), channel.close, td.ChannelClosed)


def channel_send(stack):
    channel = td.Channel(1)
    channel.send_nowait("old")

    def check(value):
        assert value is None
        assert channel.recv_nowait() == "new"
        channel.send_nowait("old")

    return Scene(channel.send("new"), channel.recv_nowait, check, channel.close, td.ChannelClosed)


def task_end(stack):
    gate = td.Channel(1)

    async def body():
        return await gate.recv()

    return Scene(td.go(body), lambda: gate.send_nowait("value"), same("value"), gate.close, td.ChannelClosed)


def choice(stack):
    first, second = td.Channel(4), td.Channel(4)

    def check(chosen):
        assert chosen == (1, "value")
        assert (chosen.index, chosen.value) == (1, "value")

    operation = td.select(first.recv(), second.recv())
    return Scene(operation, lambda: second.send_nowait("value"), check, second.close, td.ChannelClosed)


def socket_recv(stack):
    near, far = connected(stack)
    return Scene(near.recv(100), lambda: far.send(b"value"), same(b"value"), lambda: reset(far), ConnectionResetError)


def socket_recv_into(stack):
    near, far = connected(stack)
    buffer = bytearray(100)

    def check(count):
        assert bytes(buffer[:count]) == b"value"

    operation = near.recv_into(buffer)
    return Scene(operation, lambda: far.send(b"value"), check, lambda: reset(far), ConnectionResetError)


def socket_recvfrom(stack):
    near = stack.enter_context(td.Socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    near.socket.bind(("127.0.0.1", 0))
    far = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    far.bind(("127.0.0.1", 0))
    expected = (b"value", far.getsockname())
    return Scene(
        near.recvfrom(100),
        lambda: far.sendto(b"value", near.getsockname()),
        same(expected),
        near.close,
        OSError,
    )


def socket_accept(stack):
    near = stack.enter_context(td.listen("127.0.0.1", 0))
    clients = []

    def complete():
        clients.append(stack.enter_context(socket.create_connection(near.getsockname())))

    def check(accepted):
        server_side, address = accepted
        with server_side:
            assert isinstance(server_side, td.Socket)
            assert address in [client.getsockname() for client in clients]

    return Scene(near.accept(), complete, check, near.close, OSError)


def socket_send(stack):
    near, far = paired(stack)
    fill(near)

    def check(count):
        assert 0 < count <= len(CHUNK)
        fill(near)

    return Scene(near.send(CHUNK), lambda: drain(far), check, far.close, OSError)


def socket_readexactly(stack):
    near, far = connected(stack)
    return Scene(near.readexactly(5), lambda: far.send(b"value"), same(b"value"), far.close, td.IncompleteReadError)


def socket_readuntil(stack):
    near, far = connected(stack)
    return Scene(
        near.readuntil(b"--"),
        lambda: far.send(b"value--"),
        same(b"value--"),
        far.close,
        td.IncompleteReadError,
    )


def socket_readline(stack):
    near, far = connected(stack)
    return Scene(
        near.readline(),
        lambda: far.send(b"value\n"),
        same(b"value\n"),
        lambda: reset(far),
        ConnectionResetError,
    )


def becoming_readable(make):
    def scene(stack):
        near, far = connected(stack)

        def check(value):
            assert near.socket.recv(100) == b"value"

        return Scene(make(near), lambda: far.send(b"value"), check)

    return scene


def becoming_writable(make):
    def scene(stack):
        near, far = paired(stack)
        fill(near)

        def check(value):
            assert near.socket.send(CHUNK) > 0
            fill(near)

        return Scene(make(near), lambda: drain(far), check)

    return scene


def thread_call(stack):
    values = queue.SimpleQueue()

    def call():
        value = values.get(timeout=PATIENCE)
        if isinstance(value, Exception):
            raise value
        return value

    stack.callback(lambda: [values.put("released") for _ in range(10)])
    return Scene(
        td.thread(call),
        lambda: values.put("value"),
        same("value"),
        lambda: values.put(LookupError("no")),
        LookupError,
    )


def space_take(stage):
    space = td.Space()

    def check(value):
        assert value == ("key", 1)
        assert len(space) == 0

    return Scene(space.take(("key", int)), lambda: space.write_nowait(("key", 1)), check)


def space_read(stage):
    space = td.Space()

    def check(value):
        assert value == ("key", 1)
        assert space.take_nowait(("key", 1)) == value

    return Scene(space.read(("key", int)), lambda: space.write_nowait(("key", 1)), check)


def transaction_take(stage):
    space = td.Space()
    transaction = space.transaction()

    def check(value):
        assert value == ("key", 1)
        assert len(space) == 0

    stage.callback(transaction.roll_back)
    operation, end = transaction.take(("key", int)), transaction.commit
    return Scene(operation, lambda: space.write_nowait(("key", 1)), check, end, RuntimeError)


def watch_recv(stage):
    space = td.Space()
    watch = stage.enter_context(space.watch(("key", int)))
    operation, end = watch.recv(), watch.close
    return Scene(operation, lambda: space.write_nowait(("key", 1)), same(("key", 1)), end, td.ChannelClosed)


SCENES = {
    "channel recv": channel_recv,
    "channel send": channel_send,
    "select": choice,
    "take from a space": space_take,
    "read from a space": space_read,
    "take in a transaction": transaction_take,
    "recv from a watch": watch_recv,
    "recv": socket_recv,
    "recv_into": socket_recv_into,
    "recvfrom": socket_recvfrom,
    "accept": socket_accept,
    "send": socket_send,
    "readexactly": socket_readexactly,
    "readuntil": socket_readuntil,
    "readline": socket_readline,
    "socket readable": becoming_readable(lambda near: near.readable()),
    "socket writable": becoming_writable(lambda near: near.writable()),
    "readable by number": becoming_readable(lambda near: td.readable(near.fileno())),
    "writable by number": becoming_writable(lambda near: td.writable(near.fileno())),
    "readable by socket": becoming_readable(lambda near: td.readable(near.socket)),
    "writable by socket": becoming_writable(lambda near: td.writable(near.socket)),
}
# A task ends once, and a call in a thread is made anew for each wait: nothing is left in them to take again.
PASSING_SCENES = {"task": task_end, "thread": thread_call}
ALL_SCENES = SCENES | PASSING_SCENES


def scenes(chosen):
    return pytest.mark.parametrize("scene", [pytest.param(scene, id=name) for name, scene in chosen.items()])


each_scene = scenes(ALL_SCENES)
each_lasting_scene = scenes(SCENES)
each_failing_scene = scenes(
    {name: scene for name, scene in ALL_SCENES.items() if "able" not in name and "from a space" not in name}
)
each_way = pytest.mark.parametrize("way", WAYS)
each_way_in_task = pytest.mark.parametrize("way", WAYS_IN_TASK)


@pytest.fixture
def stage():
    with contextlib.ExitStack() as stack:
        yield stack


@each_way
@each_scene
async def test_an_operation_that_can_complete_gives_its_value(scene, way, stage, home):
    scene = scene(stage)
    scene.complete()
    scene.check(await home.start(way, scene.operation))


@each_way
@each_scene
async def test_an_operation_that_is_waited_for_gives_its_value_when_it_completes(scene, way, stage, home):
    scene = scene(stage)
    waiter = home.start(way, scene.operation)
    await settle()
    scene.complete()
    scene.check(await waiter)


@each_way
@each_failing_scene
async def test_an_operation_that_fails_raises_at_the_wait(scene, way, stage, home):
    scene = scene(stage)
    waiter = home.start(way, scene.operation)
    await settle()
    scene.fail()
    with pytest.raises(scene.error):
        await waiter


@each_way_in_task
@each_lasting_scene
async def test_a_cancelled_wait_takes_nothing_and_the_operation_can_be_waited_for_again(scene, way, stage, home):
    scene = scene(stage)
    waiter = home.start(way, scene.operation)
    await settle()
    assert waiter.cancel()
    with pytest.raises(home.cancelled):
        await waiter
    scene.complete()
    scene.check(await home.start(way, scene.operation))


@each_scene
async def test_a_cancelled_wait_raises_cancelled_inside_the_task(scene, stage, home):
    events = []

    async def wait(operation):
        try:
            await operation
        except home.inside:
            events.append("cancelled")
            raise

    def plain(operation):
        try:
            operation.wait(PATIENCE)
        except home.inside:
            events.append("cancelled")
            raise

    wait.plain = plain
    scene = scene(stage)
    waiter = home.start(wait, scene.operation)
    await settle()
    waiter.cancel()
    with pytest.raises(home.cancelled):
        await waiter
    assert events == ["cancelled"]
    scene.complete()
    await settle()


@each_way_in_task
@each_lasting_scene
async def test_a_wait_that_times_out_takes_nothing(scene, way, stage, home):
    scene = scene(stage)
    with pytest.raises(TimeoutError):
        await home.start(limited(way, 0.01), scene.operation)
    scene.complete()
    scene.check(await home.start(limited(way, PATIENCE), scene.operation))


def limited(way, seconds):
    """The way with a timeout around it."""

    async def limited_coroutine(body):
        with td.timeout(seconds):
            return await body

    def limited_generator(body):
        with td.timeout(seconds):
            return (yield from body)

    def limited_way(operation):
        body = way(operation)
        return limited_coroutine(body) if inspect.iscoroutine(body) else limited_generator(body)

    def plain(operation):
        with td.timeout(seconds):
            return way.plain(operation)

    limited_way.plain = plain
    return limited_way


@each_lasting_scene
async def test_a_wait_in_a_thread_that_times_out_takes_nothing(scene, stage, home):
    scene = scene(stage)
    with pytest.raises(TimeoutError):
        await td.thread(scene.operation.wait, 0.01)
    with pytest.raises(TimeoutError):
        await td.thread(scene.operation.wait, 0)
    scene.complete()
    scene.check(await td.thread(scene.operation.wait, PATIENCE))


@each_lasting_scene
async def test_a_wait_with_timeout_zero_in_a_thread_gives_what_is_there(scene, stage):
    scene = scene(stage)
    scene.complete()
    scene.check(await td.thread(scene.operation.wait, 0))


@each_way
@scenes(SCENES | {"thread": thread_call})
async def test_an_operation_is_a_value_that_can_be_waited_for_many_times(scene, way, stage, home):
    scene = scene(stage)
    for _ in range(3):
        waiter = home.start(way, scene.operation)
        await settle()
        scene.complete()
        scene.check(await waiter)


@each_way_in_task
@each_lasting_scene
async def test_the_losing_branch_of_a_choice_takes_nothing(scene, way, stage, home):
    scene = scene(stage)
    other = td.Channel(4)
    waiter = home.start(way, td.select(scene.operation, other.recv()))
    await settle()
    other.send_nowait("other")
    assert await waiter == (1, "other")
    scene.complete()
    scene.check(await by_await(scene.operation))


@each_lasting_scene
async def test_of_two_ready_branches_the_first_is_committed_and_the_second_left_alone(scene, stage, home):
    scene = scene(stage)
    other = td.Channel(4)
    other.send_nowait("other")
    scene.complete()
    assert await td.select(other.recv(), scene.operation) == (0, "other")
    chosen = await td.select(scene.operation, other.recv())
    assert chosen.index == 0
    scene.check(chosen.value)


@each_lasting_scene
async def test_a_wait_in_a_cancelled_scope_takes_nothing_even_if_it_could_complete_at_once(scene, stage, home):
    scene = scene(stage)
    scene.complete()
    reached = False
    with td.move_on_after(PATIENCE) as scope:
        scope.cancel()
        await scene.operation
        reached = True
    assert not reached
    scene.check(await scene.operation)


@scenes(SCENES | {"thread": thread_call})
async def test_wait_in_the_thread_of_the_loop_raises_and_says_await(scene, stage):
    scene = scene(stage)
    scene.complete()
    with pytest.raises(RuntimeError, match="await"):
        scene.operation.wait()
    scene.check(await scene.operation)


@each_lasting_scene
def test_a_plain_thread_waits_without_any_run(scene, stage):
    scene = scene(stage)
    with pytest.raises(TimeoutError):
        scene.operation.wait(timeout=0.01)
    scene.complete()
    scene.check(scene.operation.wait(timeout=PATIENCE))


# --- operations that complete by themselves -----------------------------------------------------------------


def short_sleep(stack):
    return td.sleep(0.001)


def no_sleep(stack):
    return td.sleep(0)


def short_after(stack):
    return td.after(0.001)


def quick_call(stack):
    return td.thread(int)


def datagram(stack):
    near = stack.enter_context(td.Socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)))
    near.socket.bind(("127.0.0.1", 0))
    return near.sendto(b"value", near.getsockname())


BY_THEMSELVES = [short_sleep, no_sleep, short_after, quick_call, datagram]


@each_way
@pytest.mark.parametrize("make", BY_THEMSELVES)
async def test_what_completes_by_itself_does_so_every_time(make, way, stage, home):
    operation = make(stage)
    for _ in range(3):
        assert await home.start(way, operation) in (None, 0, len(b"value"))


@pytest.mark.parametrize("make", [td.sleep, td.after])
@pytest.mark.parametrize("way", [by_await, by_yield_from, by_select])
@pytest.mark.virtual_clock
async def test_a_long_pause_is_cancelled_at_once(make, way):
    waiter = td.go(way(make(3600)))
    await settle()
    waiter.cancel()
    with pytest.raises(td.TaskCancelled):
        await waiter


@pytest.mark.parametrize("make", [td.sleep, td.after])
def test_a_long_pause_times_out_in_a_plain_thread(make):
    with pytest.raises(TimeoutError):
        make(3600).wait(timeout=0.01)


@pytest.mark.parametrize("make", [td.sleep, td.after, td.timeout, td.move_on_after])
@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan"), float("-inf")])
def test_a_pause_is_neither_negative_nor_no_number(make, seconds):
    with pytest.raises(ValueError, match=r"seconds|negative|nan|NaN"):
        make(seconds)


@pytest.mark.parametrize("make", [td.sleep, td.after])
@pytest.mark.parametrize("seconds", ["1", None, [], 1j])
def test_a_pause_is_a_number(make, seconds):
    with pytest.raises(TypeError):
        make(seconds)


@scenes(SCENES | {"thread": thread_call})
async def test_operations_are_of_one_class_and_show_what_they_are(scene, stage, request):
    scene = scene(stage)
    words = request.node.callspec.id.split()
    verb = next(word for word in words if word not in ("channel", "socket", "by", "number"))
    assert isinstance(scene.operation, td.Operation)
    assert verb in repr(scene.operation)
    scene.complete()
    scene.check(await scene.operation)


# --- procedures: several operations in a row, with the same three ways to wait, but no branch of a choice ---


@pytest.mark.parametrize("way", [by_await, by_yield_from, by_wait_in_thread])
async def test_connecting_is_waited_for_in_all_three_ways(way, home):
    with td.listen("127.0.0.1", 0) as listener:
        connecting = td.connect(*listener.getsockname())
        for _ in range(3):
            with await home.start(way, connecting) as client:
                assert client.getpeername() == listener.getsockname()


async def test_connecting_is_no_branch_of_a_choice_and_the_error_says_go():
    with td.listen("127.0.0.1", 0) as listener:
        with pytest.raises(TypeError, match=r"td\.go"):
            await td.select(td.connect(*listener.getsockname()), td.after(PATIENCE))
