"""Sockets: TCP, UDP, Unix and IPv6, and peers that reset, half-close, dribble or never read."""

import array
import errno
import os
import socket
import struct
import threading

import pytest
import thistledown as td

from support import PATIENCE, settle

MEGABYTES = bytes(range(256)) * (4 * 4096)  # 4 MiB with a pattern


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def reset(far):
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()


def listen_on(kind, folder):
    """A listener of that kind, and the arguments with which `td.connect` reaches it."""
    if kind == "unix":
        path = str(folder / "socket")
        return td.listen(path), (path,)
    host = "::1" if kind == "ipv6" else "127.0.0.1"
    listener = td.listen(host, 0)
    return listener, (host, listener.getsockname()[1])


each_kind = pytest.mark.parametrize("kind", ["tcp", pytest.param("ipv6", marks=needs_ipv6), "unix"])


async def echo(listener):
    client, _ = await listener.accept()
    with client:
        while data := await client.recv(65536):
            await client.sendall(data)


def echo_in_generator(listener):
    client, _ = yield from listener.accept()
    with client:
        while data := (yield from client.recv(65536)):
            yield from client.sendall(data)


@each_kind
@pytest.mark.parametrize("server", [echo, echo_in_generator])
async def test_a_conversation(kind, server, tmp_path):
    listener, address = listen_on(kind, tmp_path)
    with listener:
        serving = td.go(server, listener)
        async with await td.connect(*address) as client:
            for word in (b"one", b"two", b"three"):
                await client.sendall(word)
                assert await client.readexactly(len(word)) == word
            client.shutdown(socket.SHUT_WR)
            assert await client.recv(100) == b""
        await serving


@each_kind
async def test_megabytes_go_both_ways_at_once_in_whole(kind, tmp_path):
    listener, address = listen_on(kind, tmp_path)

    async def send_and_receive(stream):
        async with td.TaskGroup() as group:
            group.go(stream.sendall(MEGABYTES))
            received = group.go(stream.readexactly(len(MEGABYTES)))
        return received.result()

    async def serve():
        stream, _ = await listener.accept()
        with stream:
            return await send_and_receive(stream)

    with listener:
        serving = td.go(serve)
        with await td.connect(*address) as client:
            assert await send_and_receive(client) == MEGABYTES
            assert await serving == MEGABYTES


def test_connect_from_a_plain_thread():
    with td.listen("127.0.0.1", 0) as listener:
        with td.connect(*listener.getsockname()).wait(PATIENCE) as client:
            server_side, address = listener.accept().wait(PATIENCE)
            with server_side:
                assert address == client.getsockname()
                client.sendall(b"hello").wait(PATIENCE)
                assert server_side.recv(100).wait(PATIENCE) == b"hello"


def test_connect_from_a_generator():
    def main():
        with td.listen("127.0.0.1", 0) as listener:
            client = yield from td.connect(*listener.getsockname())
            with client:
                server_side, _ = yield from listener.accept()
                server_side.close()
                return (yield from client.recv(100))

    assert td.run(main) == b""


async def test_a_name_is_looked_up():
    with td.listen("localhost", 0) as listener:
        with await td.connect("localhost", listener.getsockname()[1]) as client:
            server_side, _ = await listener.accept()
            with server_side:
                assert client.getpeername() == server_side.getsockname()


async def test_connecting_to_nobody_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()
    with pytest.raises(ConnectionRefusedError):
        await td.connect(*address)
    with td.Socket(socket.socket()) as client:
        with pytest.raises(ConnectionRefusedError):
            await client.connect(address)


async def test_connecting_to_a_unix_path_without_a_listener(tmp_path):
    with pytest.raises(FileNotFoundError):
        await td.connect(str(tmp_path / "nobody"))


async def test_a_name_that_does_not_exist(monkeypatch):
    def look_up(*arguments, **options):
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(socket.gaierror, match="no such name"):
        await td.connect("no-such-host.invalid", 80)


async def test_each_address_of_a_name_is_tried(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refusing = taken.getsockname()
    with td.listen("127.0.0.1", 0) as listener:

        def look_up(*arguments, **options):
            stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
            return [(*stream, refusing), (*stream, listener.getsockname())]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with await td.connect("two-addresses.invalid", 80) as client:
            assert client.getpeername() == listener.getsockname()


async def test_the_connect_operation_of_a_socket():
    with td.listen("127.0.0.1", 0) as listener, td.Socket(socket.socket()) as client:
        await client.connect(listener.getsockname())
        server_side, address = await listener.accept()
        with server_side:
            assert address == client.getsockname()


# --- peers that misbehave -----------------------------------------------------------------------------------


async def test_a_peer_that_resets_raises_connection_reset(tcp_pair):
    near, far = tcp_pair
    reading = td.go(near.recv(100))
    await settle()
    reset(far)
    with pytest.raises(ConnectionResetError):
        await reading
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await near.sendall(MEGABYTES)


async def test_a_peer_that_resets_while_much_is_being_sent(tcp_pair):
    near, far = tcp_pair
    sending = td.go(near.sendall(MEGABYTES * 4))
    await td.thread(far.recv, 100)
    reset(far)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        await sending


async def test_a_peer_that_half_closes_still_gets_its_answer(tcp_pair):
    near, far = tcp_pair
    far.sendall(b"question")
    far.shutdown(socket.SHUT_WR)
    question = b""
    while data := await near.recv(3):
        question += data
    assert question == b"question"
    assert await near.recv(100) == b""
    await near.sendall(b"answer")
    assert far.recv(100) == b"answer"


async def test_a_peer_that_sends_one_byte_at_a_time(tcp_pair):
    near, far = tcp_pair
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = b""
    for number in range(200):
        reading = td.go(near.recv(100))
        await settle(2)
        far.send(bytes([number]))
        received += await reading
    assert received == bytes(range(200))


async def test_a_peer_that_never_reads_holds_up_its_sender_alone(tcp_pair):
    near, far = tcp_pair
    sending = td.go(near.sendall(MEGABYTES * 4))
    await settle()
    assert not sending.done()
    sending.cancel()
    with pytest.raises(td.TaskCancelled):
        await sending
    near.shutdown(socket.SHUT_WR)

    def drain():
        total = b""
        while data := far.recv(1 << 20):
            total += data
        return total

    sent = await td.thread(drain)
    assert 0 < len(sent) < len(MEGABYTES) * 4
    assert (MEGABYTES * 4).startswith(sent)


async def test_a_peer_that_never_reads_meets_a_timeout(tcp_pair):
    near, _ = tcp_pair
    with pytest.raises(TimeoutError):
        with td.timeout(0.02):
            await near.sendall(MEGABYTES * 4)


# --- single operations --------------------------------------------------------------------------------------


async def test_recv_gives_at_most_what_was_asked_for(unix_pair):
    near, far = unix_pair
    far.sendall(b"0123456789")
    assert [await near.recv(4), await near.recv(4), await near.recv(4)] == [b"0123", b"4567", b"89"]


@pytest.mark.parametrize("kind", [bytearray, lambda size: memoryview(bytearray(size))], ids=["bytearray", "view"])
async def test_recv_into_fills_a_buffer(unix_pair, kind):
    near, far = unix_pair
    buffer = kind(8)
    far.sendall(b"0123456789")
    assert await near.recv_into(buffer) == 8
    assert bytes(buffer) == b"01234567"
    assert await near.recv_into(buffer, 1) == 1
    assert bytes(buffer) == b"81234567"
    far.close()
    assert await near.recv_into(buffer) == 1
    assert await near.recv_into(buffer) == 0


async def test_recv_into_a_slice_of_a_view(unix_pair):
    near, far = unix_pair
    buffer = bytearray(10)
    far.sendall(b"abc")
    assert await near.recv_into(memoryview(buffer)[4:]) == 3
    assert bytes(buffer) == b"\0\0\0\0abc\0\0\0"
    buffer.append(0)  # nothing holds on to the buffer any more


async def test_recv_into_refuses_what_cannot_be_written(unix_pair):
    near, _ = unix_pair
    with pytest.raises((TypeError, BufferError)):
        await near.recv_into(b"read only")
    with pytest.raises(ValueError, match=r"nbytes|buffer"):
        await near.recv_into(bytearray(4), 5)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: array.array("B", data)])
async def test_everything_with_a_buffer_can_be_sent(unix_pair, make):
    near, far = unix_pair
    assert await near.send(make(b"send;")) == 5
    await near.sendall(make(b"sendall"))
    assert far.recv(100) == b"send;sendall"


@pytest.mark.parametrize("data", ["text", None, 5, [1, 2]])
async def test_what_is_no_buffer_cannot_be_sent(unix_pair, data):
    near, far = unix_pair
    for send in (near.send, near.sendall):
        with pytest.raises(TypeError):
            await send(data)
    near.close()
    assert far.recv(100) == b""


async def test_a_buffer_being_sent_cannot_be_resized_and_is_free_afterwards(tcp_pair):
    near, _ = tcp_pair
    data = bytearray(MEGABYTES * 4)
    sending = td.go(near.sendall(data))
    await settle()
    with pytest.raises(BufferError):
        data.clear()
    sending.cancel()
    with pytest.raises(td.TaskCancelled):
        await sending
    del sending
    data.clear()


async def test_sending_nothing_completes(unix_pair):
    near, _ = unix_pair
    await near.sendall(b"")
    assert await near.send(b"") == 0


@pytest.mark.parametrize("size", [-1, -100])
async def test_a_negative_size_is_refused(unix_pair, size):
    near, _ = unix_pair
    for receive in (near.recv, near.recvfrom, near.readexactly):
        with pytest.raises(ValueError, match=r"negative|size|less|below|>= 0"):
            await receive(size)


async def test_one_task_reads_while_another_writes_the_same_socket(tcp_pair):
    near, far = tcp_pair
    reading = td.go(near.recv(100))
    await settle()
    await near.sendall(b"written meanwhile")
    assert far.recv(100) == b"written meanwhile"
    far.sendall(b"read")
    assert await reading == b"read"


async def test_two_readers_of_one_socket_are_served_in_order(tcp_pair):
    near, far = tcp_pair
    first, second = td.go(near.recv(1)), td.go(near.recv(1))
    await settle()
    far.sendall(b"12")
    assert (await first, await second) == (b"1", b"2")


# --- datagrams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "host"),
    [(socket.AF_INET, "127.0.0.1"), pytest.param(socket.AF_INET6, "::1", marks=needs_ipv6)],
    ids=["ipv4", "ipv6"],
)
async def test_datagrams_keep_their_bounds_and_their_sender(family, host):
    with (
        td.Socket(socket.socket(family, socket.SOCK_DGRAM)) as one,
        td.Socket(socket.socket(family, socket.SOCK_DGRAM)) as two,
    ):
        for end in (one, two):
            end.bind((host, 0))
        for data in (b"first", b"", b"x" * 1000):
            assert await one.sendto(data, two.getsockname()) == len(data)
        assert [await two.recvfrom(2000) for _ in range(3)] == [
            (data, one.getsockname()) for data in (b"first", b"", b"x" * 1000)
        ]


async def test_a_datagram_longer_than_asked_for_is_cut():
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with td.Socket(one) as near, two:
        two.send(b"0123456789")
        two.send(b"next")
        assert [await near.recv(4), await near.recv(4)] == [b"0123", b"next"]


async def test_a_datagram_to_a_closed_port_raises_at_the_next_use():
    with (
        td.Socket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as near,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind(("127.0.0.1", 0))
        await near.connect(far.getsockname())
        far.close()
        await near.send(b"anyone?")
        with pytest.raises(ConnectionRefusedError):
            await near.recv(100)


# --- the object ---------------------------------------------------------------------------------------------


def test_wrapping_makes_a_socket_non_blocking_and_passes_the_rest_through():
    with td.listen("127.0.0.1", 0) as listener:
        assert listener.socket.getblocking() is False
        assert listener.fileno() == listener.socket.fileno()
        assert listener.getsockname() == listener.socket.getsockname()
        assert listener.family == socket.AF_INET
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) != 0
        with pytest.raises(AttributeError, match="no_such_thing"):
            listener.no_such_thing  # noqa: B018


@pytest.mark.parametrize("what", [None, 5, "127.0.0.1", object()])
def test_only_sockets_are_wrapped(what):
    with pytest.raises(TypeError, match="socket"):
        td.Socket(what)


@pytest.mark.parametrize("use", ["recv", "send", "sendall", "accept", "readline", "readable", "writable"])
async def test_a_closed_socket_says_so_at_every_use(unix_pair, use):
    near, _ = unix_pair
    arguments = {"recv": (1,), "send": (b"x",), "sendall": (b"x",)}.get(use, ())
    near.close()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await getattr(near, use)(*arguments)
    assert caught.value.errno == errno.EBADF
    assert near.fileno() == -1
    near.close()


@pytest.mark.parametrize("where", ["task", "thread"])
async def test_closing_wakes_who_waits_for_the_socket(tcp_pair, where):
    near, _ = tcp_pair
    if where == "task":
        waiters = [td.go(near.recv(1)), td.go(near.readline()), td.go(near.readable())]
        await settle()
    else:
        waits = td.Channel(1)
        operation = near.recv(1)

        def wait():
            waits.send_nowait(None)
            return operation.wait()

        waiters = [td.go(td.thread(wait))]
        await waits.recv()
    near.close()
    for waiter in waiters:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            await waiter
        assert caught.value.errno == errno.EBADF


async def test_a_descriptor_number_used_again_is_another_socket():
    for _ in range(20):
        one, other = socket.socketpair()
        with td.Socket(one) as near, other:
            reading = td.go(near.recv(10))
            await settle()
            other.send(b"fresh")
            assert await reading == b"fresh"


async def test_two_wrappers_of_one_socket_work_side_by_side(tcp_pair):
    near, far = tcp_pair
    again = td.Socket(near.socket)
    readers = [td.go(near.recv(1)), td.go(again.recv(1))]
    await settle()
    far.sendall(b"12")
    assert sorted([await reader for reader in readers]) == [b"1", b"2"]


async def test_a_socket_is_moved_from_one_run_to_the_next(tcp_pair):
    near, far = tcp_pair

    def read_in_a_run_of_its_own():
        async def read():
            return await near.recv(10)

        return td.run(read)

    for word in (b"one", b"two"):
        reading = td.go(td.thread(read_in_a_run_of_its_own))
        await settle()
        far.sendall(word)
        assert await reading == word
    far.sendall(b"three")
    assert await near.recv(10) == b"three"


def test_the_same_socket_serves_runs_in_two_threads_at_once(tcp_pair):
    near, far = tcp_pair
    received = []

    async def read():
        while data := await near.recv(1):
            received.append(data)

    threads = [threading.Thread(target=td.run, args=(read,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    far.sendall(bytes(range(100)))
    far.shutdown(socket.SHUT_WR)
    for thread in threads:
        thread.join()
    assert sorted(b"".join(received)) == list(range(100))


async def test_pipes_and_other_descriptors_can_be_waited_for():
    reader, writer = os.pipe()
    try:
        waiting = td.go(td.readable(reader))
        await settle()
        assert not waiting.done()
        await td.writable(writer)
        os.write(writer, b"x")
        await waiting
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("wait", [td.readable, td.writable])
@pytest.mark.parametrize(("what", "error"), [("x", TypeError), (None, TypeError), (-1, ValueError)])
def test_only_descriptors_can_be_waited_for(wait, what, error):
    with pytest.raises(error):
        wait(what)


@pytest.mark.parametrize("wait", [td.readable, td.writable])
async def test_a_descriptor_that_is_not_open_raises(wait):
    one, other = socket.socketpair()
    number = one.fileno()
    one.close()
    other.close()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        await wait(number)
    assert caught.value.errno == errno.EBADF


async def test_a_thousand_connections_at_once():
    async def talk(number):
        async with await td.connect(*address) as client:
            await client.sendall(b"%d\n" % number)
            return await client.readline()

    async def answer(client):
        with client:
            await client.sendall(await client.readline())

    async def accept():
        async with td.TaskGroup() as group:
            for _ in range(1000):
                client, _ = await listener.accept()
                group.go(answer, client)

    with td.listen("127.0.0.1", 0, backlog=1024) as listener:
        address = listener.getsockname()
        async with td.TaskGroup() as group:
            group.go(accept)
            talks = [group.go(talk, number) for number in range(1000)]
    assert [talk.result() for talk in talks] == [b"%d\n" % number for number in range(1000)]


def test_listening_where_somebody_listens_raises_at_once():
    with td.listen("127.0.0.1", 0) as listener:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            td.listen(*listener.getsockname())
    assert caught.value.errno == errno.EADDRINUSE
