"""TLS: the same sockets through an `ssl.SSLContext`, with a self-signed certificate for `localhost`."""

import contextlib
import logging
import socket
import ssl
from pathlib import Path

import pytest
import thistledown as td

from support import PATIENCE, settle

MEGABYTES = bytes(range(256)) * (4 * 4096)


CERTIFICATE = Path(__file__).with_name("localhost.pem")


@pytest.fixture(scope="session")
def server_context():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.fixture(scope="session")
def client_context():
    return ssl.create_default_context(cafile=CERTIFICATE)


async def echo(client):
    while data := await client.recv(65536):
        await client.sendall(data)


def echo_in_generator(client):
    while data := (yield from client.recv(65536)):
        yield from client.sendall(data)


@contextlib.asynccontextmanager
async def serving(handler, context):
    server = td.serve(handler, "127.0.0.1", 0, ssl=context)
    async with td.TaskGroup() as group:
        group.go(server)
        try:
            yield server
        finally:
            server.stop(grace=0)


def drain(plain):
    """Read until the server has hung up, politely or not."""
    plain.settimeout(PATIENCE)
    with contextlib.suppress(ConnectionResetError):
        while plain.recv(1000):
            pass


def connect(server, context):
    return td.connect(*server.address, ssl=context, server_hostname="localhost")


@pytest.mark.parametrize("handler", [echo, echo_in_generator])
async def test_a_conversation(handler, server_context, client_context):
    async with serving(handler, server_context) as server:
        async with await connect(server, client_context) as client:
            assert client.version().startswith("TLS")
            for word in (b"one", b"two", b"three"):
                await client.sendall(word)
                assert await client.readexactly(len(word)) == word


def test_a_conversation_in_a_generator_and_in_a_plain_thread(server_context, client_context):
    def in_generator(server):
        client = yield from connect(server, client_context)
        with client:
            yield from client.sendall(b"generator\n")
            return (yield from client.readline())

    def in_thread(server):
        with connect(server, client_context).wait(PATIENCE) as client:
            client.sendall(b"thread\n").wait(PATIENCE)
            return client.readline().wait(PATIENCE)

    async def main():
        async with serving(echo, server_context) as server:
            return await td.go(in_generator, server), await td.thread(in_thread, server)

    assert td.run(main) == (b"generator\n", b"thread\n")


async def test_megabytes_go_both_ways_at_once_in_whole(server_context, client_context):
    async with serving(echo, server_context) as server:
        async with await connect(server, client_context) as client:
            async with td.TaskGroup() as group:
                group.go(client.sendall(MEGABYTES))
                received = group.go(client.readexactly(len(MEGABYTES)))
            assert received.result() == MEGABYTES


async def test_the_end_of_one_side_is_an_end_of_stream_for_the_other(server_context, client_context):
    async def greet(client):
        await client.sendall(b"bye")

    async with serving(greet, server_context) as server:
        async with await connect(server, client_context) as client:
            assert await client.readexactly(3) == b"bye"
            assert await client.recv(10) == b""


async def test_bytes_that_are_already_decrypted_are_seen_without_the_network(server_context, client_context):
    async def send_lines(client):
        await client.sendall(b"".join(b"%d\n" % number for number in range(100)))
        await client.recv(1)

    async with serving(send_lines, server_context) as server:
        async with await connect(server, client_context) as client:
            assert await client.recv(1) == b"0"
            await client.readable()
            assert await td.select(client.recv(1), td.after(PATIENCE)) == (0, b"\n")
            assert [await client.readline() for _ in range(99)] == [b"%d\n" % number for number in range(1, 100)]


async def test_a_cancelled_reader_loses_nothing(server_context, client_context):
    async with serving(echo, server_context) as server:
        async with await connect(server, client_context) as client:
            for number in range(20):
                reading = td.go(client.recv(100))
                await settle()
                reading.cancel()
                with pytest.raises(td.TaskCancelled):
                    await reading
                await client.sendall(b"%d\n" % number)
                assert await client.readline() == b"%d\n" % number


async def test_a_wrong_name_is_refused_and_the_server_goes_on(server_context, client_context):
    async with serving(echo, server_context) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await td.connect(*server.address, ssl=client_context, server_hostname="example.invalid")
        async with await connect(server, client_context) as client:
            await client.sendall(b"still there")
            assert await client.readexactly(11) == b"still there"


async def test_a_certificate_nobody_knows_is_refused(server_context):
    async with serving(echo, server_context) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(server, ssl.create_default_context())


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01", b""])
async def test_a_client_that_speaks_no_tls_does_not_disturb_the_others(server_context, client_context, garbage, caplog):
    handled = []

    async def handler(client):
        handled.append(client)
        await echo(client)

    async with serving(handler, server_context) as server:
        with socket.create_connection(server.address) as plain:
            plain.sendall(garbage)
            plain.shutdown(socket.SHUT_WR)
            await td.thread(drain, plain)
        async with await connect(server, client_context) as client:
            await client.sendall(b"hello")
            assert await client.readexactly(5) == b"hello"
    assert len(handled) == 1


async def test_a_client_that_never_starts_its_handshake_does_not_hold_up_the_others(server_context, client_context):
    async with serving(echo, server_context) as server:
        with socket.create_connection(server.address):
            async with await connect(server, client_context) as client:
                await client.sendall(b"hello")
                assert await client.readexactly(5) == b"hello"


async def test_a_conversation_is_lifted_to_tls(tcp_pair, server_context, client_context):
    near, far = tcp_pair
    server_side = td.Socket(far)
    lifting = td.go(server_side.start_tls(server_context, server_side=True))
    client = await near.start_tls(client_context, server_hostname="localhost") or near
    server = await lifting or server_side
    with client, server:
        await client.sendall(b"secret")
        assert await server.readexactly(6) == b"secret"
        await server.sendall(b"answer\n")
        assert await client.readline() == b"answer\n"


async def test_a_socket_wrapped_by_ssl_is_taken_as_it_is(server_context, client_context):
    async with serving(echo, server_context) as server:

        def handshake():
            plain = socket.create_connection(server.address)
            return client_context.wrap_socket(plain, server_hostname="localhost")

        with td.Socket(await td.thread(handshake)) as client:
            await client.sendall(b"hello")
            buffer = bytearray(10)
            assert await client.recv_into(buffer) == 5
            assert bytes(buffer[:5]) == b"hello"


async def test_a_handshake_that_fails_is_logged_by_the_server(server_context, client_context, caplog):
    with caplog.at_level(logging.DEBUG, logger="thistledown"):
        async with serving(echo, server_context) as server:
            with socket.create_connection(server.address) as plain:
                plain.sendall(b"no handshake at all, only words\n")
                await td.thread(drain, plain)
    assert [record.name.partition(".")[0] for record in caplog.records] == ["thistledown"]


async def test_a_timeout_ends_a_handshake(client_context):
    with td.listen("127.0.0.1", 0) as silent:
        with pytest.raises(TimeoutError):
            with td.timeout(0.02):
                await td.connect(*silent.getsockname(), ssl=client_context, server_hostname="localhost")
        accepted, _ = await silent.accept()
        accepted.close()


async def test_an_operation_of_tls_takes_its_turn_in_a_choice(server_context, client_context):
    async with serving(echo, server_context) as server:
        async with await connect(server, client_context) as client:
            other = td.Channel(1)
            choosing = td.go(td.select(client.recv(10), other.recv()))
            await settle()
            other.send_nowait("other")
            assert await choosing == (1, "other")
            await client.sendall(b"data")
            assert await td.select(other.recv(), client.recv(10)) == (1, b"data")
