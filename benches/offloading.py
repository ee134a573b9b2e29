"""The article's server once more, with its numbers computed in worker processes, so that a heavy one stops nobody.

Each is written as its users would: what comes in is a number, one task computes it next door, and the client's task
waits for that. A server prints one JSON line when it listens, and runs until it is killed. `seed` computes in the
loop, as the article's last server but one did: what happens then is the reason for all of this.
"""

import argparse
import asyncio
import socket
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import peers
import pools
import servers
import work


def thistledown_generator() -> None:
    import thistledown as td

    def handle(client: td.Socket) -> Generator[Any, Any, None]:
        servers.without_delay(client)
        while data := (yield from client.recv(servers.CHUNK_SIZE)):
            answer = yield from pool.go(work.fib, int(data))
            yield from client.sendall(b"%d\n" % answer)

    with td.Workers(pools.WORKERS) as pool:
        server = td.serve(handle, "127.0.0.1", 0)
        servers.ready(server.address[1])
        td.run(server)


def thistledown_async() -> None:
    import thistledown as td

    async def handle(client: td.Socket) -> None:
        servers.without_delay(client)
        while data := await client.recv(servers.CHUNK_SIZE):
            await client.sendall(b"%d\n" % await pool.go(work.fib, int(data)))

    with td.Workers(pools.WORKERS) as pool:
        server = td.serve(handle, "127.0.0.1", 0)
        servers.ready(server.address[1])
        td.run(server)


def on_loop(loop: str, opened: Callable[[], Executor]) -> None:
    """Streams, and an executor."""

    async def main() -> None:
        running = asyncio.get_running_loop()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(servers.CHUNK_SIZE):
                writer.write(b"%d\n" % await running.run_in_executor(executor, work.fib, int(data)))
                await writer.drain()
            writer.close()

        with opened() as executor:
            listener = socket.create_server(("127.0.0.1", 0))
            server = await asyncio.start_server(handle, sock=listener)
            servers.ready(listener.getsockname()[1])
            await asyncio.Event().wait()
            server.close()

    peers.run_on_loop(loop, main())


def thistledown_on_asyncio() -> None:
    """Our workers in a program that has asyncio already."""
    import thistledown as td

    async def main() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(servers.CHUNK_SIZE):
                writer.write(b"%d\n" % await pool.go(work.fib, int(data)))
                await writer.drain()
            writer.close()

        with td.Workers(pools.WORKERS) as pool:
            listener = socket.create_server(("127.0.0.1", 0))
            server = await asyncio.start_server(handle, sock=listener)
            servers.ready(listener.getsockname()[1])
            await asyncio.Event().wait()
            server.close()

    asyncio.run(main())


def stdlib() -> Executor:
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(pools.WORKERS)


def loky() -> Executor:
    executor: Executor = peers.load("loky").get_reusable_executor(max_workers=pools.WORKERS)
    return executor


SERVERS: dict[str, Callable[[], None]] = {
    "thistledown / generator": thistledown_generator,
    "thistledown / async": thistledown_async,
    "thistledown / on asyncio": thistledown_on_asyncio,
    "asyncio / ProcessPoolExecutor": partial(on_loop, "asyncio", stdlib),
    "uvloop / ProcessPoolExecutor": partial(on_loop, "uvloop", stdlib),
    "asyncio / loky": partial(on_loop, "asyncio", loky),
    "seed": partial(servers.plain_scheduler, servers.fib_line),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", required=True, choices=list(SERVERS))
    SERVERS[parser.parse_args().case]()
