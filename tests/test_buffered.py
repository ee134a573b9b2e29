"""Buffered reading: `readexactly`, `readuntil`, `readline`, their limit, and that no byte is ever lost."""

import socket

import pytest
import thistledown as td

from support import settle


@pytest.fixture
def limited_pair():
    near, far = socket.socketpair()
    with td.Socket(near, limit=16) as wrapped, far:
        yield wrapped, far


async def test_lines_come_one_by_one_however_they_were_sent(unix_pair):
    near, far = unix_pair
    far.sendall(b"one\ntwo\n\nfour\nwithout an end")
    far.shutdown(socket.SHUT_WR)
    lines = []
    while line := await near.readline():
        lines.append(line)
    assert lines == [b"one\n", b"two\n", b"\n", b"four\n", b"without an end"]
    assert await near.readline() == b""


async def test_a_line_may_come_in_single_bytes(tcp_pair):
    near, far = tcp_pair
    reading = td.go(near.readline())
    for byte in b"slow\n":
        await settle()
        assert not reading.done()
        far.send(bytes([byte]))
    assert await reading == b"slow\n"


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize("separator", [b"\r\n", b"--end--", b"e"])
async def test_a_separator_may_be_split_anywhere(unix_pair, separator, cut):
    near, far = unix_pair
    data = b"abc\r" + separator + b"rest"
    reading = td.go(near.readuntil(separator))
    await settle()
    far.send(data[:cut])
    await settle()
    far.send(data[cut:])
    assert await reading == b"abc\r" + separator
    assert await near.readexactly(4) == b"rest"


async def test_readexactly_collects_until_it_has_enough(unix_pair):
    near, far = unix_pair
    reading = td.go(near.readexactly(10))
    for part in (b"012", b"3456", b"789rest"):
        await settle()
        far.send(part)
    assert await reading == b"0123456789"
    assert await near.recv(100) == b"rest"


async def test_readexactly_is_not_bound_by_the_limit(limited_pair):
    near, far = limited_pair
    far.sendall(b"x" * 100_000)
    assert await near.readexactly(100_000) == b"x" * 100_000


async def test_reading_nothing_needs_nothing(unix_pair):
    near, _ = unix_pair
    assert await near.readexactly(0) == b""


@pytest.mark.parametrize(
    ("read", "expected"),
    [(lambda near: near.readexactly(10), 10), (lambda near: near.readuntil(b"\n"), None)],
    ids=["readexactly", "readuntil"],
)
@pytest.mark.parametrize("data", [b"", b"short"])
async def test_an_early_end_gives_what_there_was(unix_pair, read, expected, data):
    near, far = unix_pair
    far.sendall(data)
    far.close()
    with pytest.raises(td.IncompleteReadError) as caught:
        await read(near)
    assert (caught.value.partial, caught.value.expected) == (data, expected)
    assert isinstance(caught.value, EOFError)
    assert isinstance(caught.value, td.ThistledownError)
    assert await near.recv(10) == b""


async def test_kinds_of_reading_mix_without_losing_a_byte(unix_pair):
    near, far = unix_pair
    buffer = bytearray(3)
    far.sendall(b"line\nexactly;until|some into rest of it")
    assert await near.readline() == b"line\n"
    assert await near.readexactly(7) == b"exactly"
    assert await near.readuntil(b"|") == b";until|"
    assert await near.recv(5) == b"some "
    assert await near.recv_into(buffer) == 3
    assert bytes(buffer) == b"int"
    far.shutdown(socket.SHUT_WR)
    rest = b""
    while data := await near.recv(4):
        rest += data
    assert rest == b"o rest of it"


async def test_a_socket_with_something_in_its_buffer_is_readable(unix_pair):
    near, far = unix_pair
    far.sendall(b"line\nrest")
    assert await near.readline() == b"line\n"
    await near.readable()
    assert await td.select(near.recv(100), td.after(30)) == (0, b"rest")


@pytest.mark.parametrize("read", ["readuntil", "readline"])
@pytest.mark.parametrize("where", ["in the constructor", "in the call"])
async def test_a_line_beyond_the_limit_raises_and_nothing_is_lost(read, where, unix_pair, limited_pair):
    near, far = limited_pair if where == "in the constructor" else unix_pair
    arguments = {} if where == "in the constructor" else {"limit": 16}
    data = b"x" * 40 + b"\nrest"
    far.sendall(data)
    with pytest.raises(td.LimitOverrunError) as caught:
        await getattr(near, read)(**arguments)
    assert 0 < caught.value.consumed <= len(data)
    assert isinstance(caught.value, td.ThistledownError)
    assert await near.readexactly(len(data)) == data


async def test_a_line_of_just_the_limit_is_read(limited_pair):
    near, far = limited_pair
    far.sendall(b"x" * 15 + b"\n" + b"y" * 20 + b"\n")
    assert await near.readline() == b"x" * 15 + b"\n"
    with pytest.raises(td.LimitOverrunError):
        await near.readline()
    assert await near.readexactly(21) == b"y" * 20 + b"\n"


async def test_a_peer_that_sends_without_end_and_without_a_line_is_stopped_by_the_limit(tcp_pair):
    near, far = tcp_pair
    far.setblocking(False)
    sent = 0
    reading = td.go(near.readline())
    while not reading.done():
        try:
            sent += far.send(b"x" * 65536)
        except BlockingIOError:
            await td.sleep(0)
        await td.sleep(0)
    with pytest.raises(td.LimitOverrunError):
        await reading
    assert sent >= 65536


async def test_a_call_may_raise_the_limit(limited_pair):
    near, far = limited_pair
    far.sendall(b"x" * 100 + b"\n")
    assert await near.readline(limit=1000) == b"x" * 100 + b"\n"


@pytest.mark.parametrize("read", ["readexactly", "readuntil", "readline"])
async def test_a_cancelled_reader_leaves_what_it_had_collected(unix_pair, read):
    near, far = unix_pair
    arguments = (100,) if read == "readexactly" else ()
    reading = td.go(getattr(near, read)(*arguments))
    await settle()
    far.send(b"col")
    await settle()
    far.send(b"lected")
    await settle()
    reading.cancel()
    with pytest.raises(td.TaskCancelled):
        await reading
    far.send(b"\n")
    assert await near.readline() == b"collected\n"


@pytest.mark.parametrize("separator", [b"", "\n", None])
async def test_a_separator_is_bytes_and_not_empty(unix_pair, separator):
    near, _ = unix_pair
    with pytest.raises((ValueError, TypeError), match="separator"):
        await near.readuntil(separator)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_above_zero(limit):
    near, far = socket.socketpair()
    with near, far, pytest.raises(ValueError, match="limit"):
        td.Socket(near, limit=limit)


def test_a_generator_reads_lines():
    near, far = socket.socketpair()

    def main():
        lines = []
        with td.Socket(near) as stream:
            while line := (yield from stream.readline()):
                lines.append(line)
        return lines

    with far:
        far.sendall(b"one\ntwo\n")
        far.shutdown(socket.SHUT_WR)
        assert td.run(main) == [b"one\n", b"two\n"]


def test_a_plain_thread_reads_lines(unix_pair):
    near, far = unix_pair
    far.sendall(b"one\ntw")
    assert near.readline().wait(30) == b"one\n"
    with pytest.raises(TimeoutError):
        near.readline().wait(0.01)
    far.sendall(b"o\n")
    assert near.readline().wait(30) == b"two\n"


async def test_ten_thousand_lines(tcp_pair):
    near, far = tcp_pair
    lines = [b"%d\n" % number for number in range(10_000)]
    sending = td.go(td.thread(far.sendall, b"".join(lines)))
    assert [await near.readline() for _ in lines] == lines
    await sending
