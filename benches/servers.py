"""The servers that are measured: two kinds of work, written for each peer as its users would.

`fib` is the article's: a number comes in, its Fibonacci number goes out on a line. `echo` sends back what
came. A server prints one JSON line when it listens (its port, and the CPU seconds that its start has cost),
and runs until it is killed.
"""

import argparse
import asyncio
import json
import resource
import socket
from collections.abc import Callable, Generator
from typing import Any

import peers
import seed

Answer = Callable[[bytes], bytes]
CHUNK_SIZE = 65536
BACKLOG = 4096
CONNECTIONS = 20_000


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


def fib_line(data: bytes) -> bytes:
    return b"%d\n" % fib(int(data))


def echo(data: bytes) -> bytes:
    return data


WORK: dict[str, Answer] = {"fib": fib_line, "echo": echo}


def ready(port: int) -> None:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"port": port, "cpu": usage.ru_utime + usage.ru_stime}), flush=True)


def listen() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    ready(listener.getsockname()[1])
    return listener


def without_delay(client: Any) -> None:
    """Sets what asyncio's transports set by themselves, so that no peer waits for an acknowledgement."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def thistledown_generator(answer: Answer) -> None:
    import thistledown as td

    def handle(client: td.Socket) -> Generator[Any, Any, None]:
        without_delay(client)
        while data := (yield from client.recv(CHUNK_SIZE)):
            yield from client.sendall(answer(data))

    server = td.serve(handle, "127.0.0.1", 0, limit=CONNECTIONS, backlog=BACKLOG)
    ready(server.address[1])
    td.run(server)


def thistledown_async(answer: Answer) -> None:
    import thistledown as td

    async def handle(client: td.Socket) -> None:
        without_delay(client)
        while data := await client.recv(CHUNK_SIZE):
            await client.sendall(answer(data))

    server = td.serve(handle, "127.0.0.1", 0, limit=CONNECTIONS, backlog=BACKLOG)
    ready(server.address[1])
    td.run(server)


def plain_scheduler(answer: Answer) -> None:
    def handle(client: socket.socket) -> seed.Body:
        without_delay(client)
        client.setblocking(False)
        while True:
            yield seed.RECEIVE, client
            if not (data := client.recv(CHUNK_SIZE)):
                return
            left = memoryview(answer(data))
            while left:
                yield seed.SEND, client
                left = left[client.send(left) :]

    scheduler = seed.Scheduler()
    scheduler.go(scheduler.serve(listen(), handle))
    scheduler.run()


def streams(loop: str) -> Callable[[Answer], None]:
    def run(answer: Answer) -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(CHUNK_SIZE):
                writer.write(answer(data))
                await writer.drain()
            writer.close()

        async def main() -> None:
            # Both are held: a loop may take the file descriptor, and not the object. And `serve_forever` is
            # not called: rloop would begin to listen twice, and refuse everybody.
            listener = listen()
            server = await asyncio.start_server(handle, sock=listener, backlog=BACKLOG)
            await asyncio.Event().wait()
            server.close()

        peers.run_on_loop(loop, main())

    return run


def protocol(loop: str) -> Callable[[Answer], None]:
    def run(answer: Answer) -> None:
        class Handler(asyncio.Protocol):
            transport: asyncio.Transport

            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(answer(data))

        async def main() -> None:
            server = await asyncio.get_running_loop().create_server(Handler, sock=listen(), backlog=BACKLOG)
            await server.serve_forever()

        peers.run_on_loop(loop, main())

    return run


def gevent(answer: Answer) -> None:
    def handle(client: Any, address: Any) -> None:
        without_delay(client)
        while data := client.recv(CHUNK_SIZE):
            client.sendall(answer(data))

    gevent_socket = peers.load("gevent.socket")
    listener = gevent_socket.socket(fileno=listen().detach())
    peers.load("gevent.server").StreamServer(listener, handle).serve_forever()


def trio(answer: Answer) -> None:
    trio = peers.load("trio")

    async def handle(client: Any) -> None:
        while data := await client.receive_some(CHUNK_SIZE):
            await client.send_all(answer(data))

    async def main() -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listen()))
        await trio.serve_listeners(handle, [listener])

    trio.run(main)


def curio(answer: Answer) -> None:
    curio, io = peers.load("curio"), peers.load("curio.io")

    async def handle(client: Any, address: Any) -> None:
        without_delay(client)
        while data := await client.recv(CHUNK_SIZE):
            await client.sendall(answer(data))

    async def main() -> None:
        await curio.network.run_server(io.Socket(listen()), handle)

    curio.run(main)


SERVERS: dict[str, Callable[[Answer], None]] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    "seed": plain_scheduler,
    **{f"{loop} / streams": streams(loop) for loop in peers.LOOPS},
    "uvloop / Protocol": protocol("uvloop"),
    "gevent": gevent,
    "trio": trio,
    "curio": curio,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True, choices=list(SERVERS))
    parser.add_argument("--work", required=True, choices=list(WORK))
    words = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    SERVERS[words.case](WORK[words.work])
