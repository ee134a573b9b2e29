"""`td.serve`: a server that limits its connections, survives its handlers, and stops cleanly."""

import contextlib
import logging
import socket

import pytest
import thistledown as td

from support import PATIENCE, settle, started_program


async def echo(client):
    while data := await client.recv(1000):
        await client.sendall(data)


def echo_in_generator(client):
    while data := (yield from client.recv(1000)):
        yield from client.sendall(data)


@contextlib.asynccontextmanager
async def serving(handler, **options):
    """A server that runs beside the block and is stopped, with all its connections, behind it."""
    server = td.serve(handler, "127.0.0.1", 0, **options)
    async with td.TaskGroup() as group:
        group.go(server)
        try:
            yield server
        finally:
            server.stop(grace=0)


async def ask(server, question=b"question"):
    async with await td.connect(*server.address) as client:
        await client.sendall(question)
        return await client.readexactly(len(question))


@pytest.mark.parametrize("handler", [echo, echo_in_generator])
async def test_a_server_serves(handler):
    async with serving(handler) as server:
        assert await ask(server) == b"question"


@pytest.mark.parametrize("handler", [echo, echo_in_generator])
async def test_many_clients_are_served_at_once(handler):
    async with serving(handler) as server:
        clients = [await td.connect(*server.address) for _ in range(100)]
        for number, client in enumerate(clients):
            await client.sendall(b"%d" % number)
        for number, client in enumerate(clients):
            assert await client.readexactly(len(b"%d" % number)) == b"%d" % number
            client.close()


async def test_a_server_serves_at_a_unix_path(tmp_path):
    path = str(tmp_path / "socket")
    server = td.serve(echo, path)
    task = td.go(server)
    assert server.address == path
    async with await td.connect(path) as client:
        await client.sendall(b"question")
        assert await client.readexactly(8) == b"question"
    server.stop()
    await task


async def test_a_server_counts_its_open_connections():
    async with serving(echo) as server:
        assert server.connections == 0
        clients = [await td.connect(*server.address) for _ in range(5)]
        for client in clients:
            await client.sendall(b"x")
            await client.readexactly(1)
        assert server.connections == 5
        for client in clients:
            client.close()
        with td.timeout(PATIENCE):
            while server.connections:
                await td.sleep(0)


async def test_a_server_is_bound_before_it_runs_and_says_where():
    server = td.serve(echo, "127.0.0.1", 0)
    host, port = server.address
    assert host == "127.0.0.1"
    assert port > 0
    assert [listener.getsockname() for listener in server.sockets] == [server.address]
    with socket.create_connection(server.address) as early:
        early.sendall(b"early")
        task = td.go(server)
        early.settimeout(PATIENCE)
        assert await td.thread(early.recv, 100) == b"early"
        server.stop(grace=0)
        await task


def test_a_server_is_a_main_task():
    async def stop(client):
        await client.sendall(b"bye")
        server.stop()

    server = td.serve(stop, "127.0.0.1", 0)
    with socket.create_connection(server.address) as client:
        td.run(server)
        client.settimeout(PATIENCE)
        assert client.recv(100) == b"bye"
        assert client.recv(100) == b""


def test_an_address_in_use_raises_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError, match="in use"):
            td.serve(echo, *taken.getsockname())


@pytest.mark.parametrize("handler", [None, 5, len, lambda client: None])
def test_a_handler_is_an_async_or_a_generator_function(handler):
    with pytest.raises(TypeError, match="handler"):
        td.serve(handler, "127.0.0.1", 0)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_is_above_zero(limit):
    with pytest.raises(ValueError, match="limit"):
        td.serve(echo, "127.0.0.1", 0, limit=limit)


async def test_the_client_is_closed_when_its_handler_ends():
    kept = []

    async def greet(client):
        kept.append(client)
        await client.sendall(b"bye")

    async with serving(greet) as server:
        async with await td.connect(*server.address) as client:
            assert await client.readexactly(3) == b"bye"
            assert await client.recv(1) == b""
    assert kept[0].fileno() == -1


async def test_a_failing_handler_is_logged_and_the_server_goes_on(caplog):
    async def handler(client):
        if await client.readline() == b"fail\n":
            raise LookupError("this request is broken")
        await client.sendall(b"well")

    with caplog.at_level(logging.ERROR, logger="thistledown"):
        async with serving(handler) as server:
            for request in (b"fail\n", b"go on\n", b"fail\n", b"go on\n"):
                async with await td.connect(*server.address) as client:
                    await client.sendall(request)
                    assert await client.recv(100) == (b"well" if request == b"go on\n" else b"")
    assert len(caplog.records) == 2
    assert caplog.text.count("LookupError: this request is broken") == 2


async def test_a_client_that_vanishes_does_not_disturb_the_others():
    async with serving(echo) as server:
        for _ in range(10):
            with socket.create_connection(server.address) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                client.sendall(b"x" * 1000)
        assert await ask(server) == b"question"


async def test_no_more_connections_are_open_than_the_limit():
    inside, most, entered, leave = 0, 0, td.Channel(10), td.Channel()

    async def handler(client):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        entered.send_nowait(None)
        await leave.recv()
        inside -= 1

    async with serving(handler, limit=3) as server:
        clients = [await td.connect(*server.address) for _ in range(10)]
        for _ in range(3):
            await entered.recv()
        await settle(50)
        assert inside == 3
        for _ in range(10):
            await leave.send(None)
        for client in clients:
            assert await client.recv(1) == b""
            client.close()
    assert most == 3


# --- stopping -----------------------------------------------------------------------------------------------


async def test_stopping_closes_the_door_and_lets_open_connections_end():
    server = td.serve(echo, "127.0.0.1", 0)
    task = td.go(server)
    async with await td.connect(*server.address) as client:
        await client.sendall(b"before")
        assert await client.readexactly(6) == b"before"
        server.stop(grace=PATIENCE)
        await settle()
        with pytest.raises(ConnectionRefusedError):
            await td.connect(*server.address)
        await client.sendall(b"after")
        assert await client.readexactly(5) == b"after"
        assert not task.done()
    await task


async def test_stopping_without_grace_cancels_open_connections():
    events = []

    async def handler(client):
        try:
            await echo(client)
        except td.Cancelled:
            events.append("cancelled")
            raise

    server = td.serve(handler, "127.0.0.1", 0)
    task = td.go(server)
    async with await td.connect(*server.address) as client:
        await client.sendall(b"hello")
        await client.readexactly(5)
        server.stop(grace=0)
        assert await client.recv(1) == b""
    await task
    assert events == ["cancelled"]


async def test_connections_that_outlast_the_grace_are_cancelled():
    server = td.serve(echo, "127.0.0.1", 0)
    task = td.go(server)
    async with await td.connect(*server.address) as client:
        await client.sendall(b"hello")
        await client.readexactly(5)
        server.stop(grace=0.01)
        assert await client.recv(1) == b""
        await task


async def test_stopping_twice_is_stopping_once():
    server = td.serve(echo, "127.0.0.1", 0)
    task = td.go(server)
    await settle()
    server.stop()
    server.stop()
    await task
    server.stop()


async def test_a_server_is_stopped_from_another_thread():
    server = td.serve(echo, "127.0.0.1", 0)
    task = td.go(server)
    assert await ask(server) == b"question"
    await td.thread(server.stop)
    await task


async def test_cancelling_a_server_closes_everything():
    events = []

    async def handler(client):
        try:
            await echo(client)
        finally:
            events.append("handler ended")

    server = td.serve(handler, "127.0.0.1", 0)
    task = td.go(server)
    async with await td.connect(*server.address) as client:
        await client.sendall(b"hello")
        await client.readexactly(5)
        task.cancel()
        with pytest.raises(td.TaskCancelled):
            await task
        assert events == ["handler ended"]
        assert await client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        await td.connect(*server.address)


async def test_a_server_that_never_ran_is_closed_by_stop():
    server = td.serve(echo, "127.0.0.1", 0)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        await td.connect(*server.address)


# --- the limit of descriptors -------------------------------------------------------------------------------


FULL_TABLE = """
    import os, resource, sys
    import thistledown as td

    async def echo(client):
        while data := await client.recv(100):
            await client.sendall(data)

    async def control():
        filling = []
        while True:
            match (await td.thread(sys.stdin.readline)).strip():
                case "fill":
                    try:
                        while True:
                            filling.append(os.dup(0))
                    except OSError:
                        print("full")
                case "free":
                    while filling:
                        os.close(filling.pop())
                    print("free")
                case "ping":
                    print("pong")
                case _:
                    return

    async def main():
        server = td.serve(echo, "127.0.0.1", 0)
        serving = td.go(server)
        print(server.address[1])
        await td.go(control)
        server.stop(grace=0)
        await serving

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    td.run(main)
    print("ended")
    """


def test_at_the_limit_of_descriptors_a_server_keeps_serving_and_takes_new_connections_afterwards():
    def order(word, answer):
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{answer}\n"

    def connect():
        client = socket.create_connection(("127.0.0.1", port))
        client.settimeout(PATIENCE)
        return client

    def question(client):
        client.sendall(b"hello")
        return client.recv(100)

    with started_program(FULL_TABLE) as process:
        port = int(process.stdout.readline())
        with connect() as early:
            assert question(early) == b"hello"
            order("fill", "full")
            with connect() as late, connect() as later:
                late.sendall(b"let me in")
                for _ in range(10):  # the loop has met the full table by now, and goes round
                    order("ping", "pong")
                    assert question(early) == b"hello"
                order("free", "free")
                assert late.recv(100) == b"let me in"
                assert question(later) == b"hello"
        with connect() as last:
            assert question(last) == b"hello"
        output, errors = process.communicate("end\n", timeout=PATIENCE)
    assert (process.returncode, output) == (0, "ended\n"), errors
