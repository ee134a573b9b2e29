"""The article's own protocol on this kernel: tasks that say `yield 'recv', sock`, through an adapter of twenty lines.

The point: the scheduler is a small operating system, and a `yield` its system call. Which words the calls have does
not matter: this server speaks the article's three, `recv`, `send` and `future`, and `adapted` turns each into an
operation. No line of the server knows of Thistledown. The figures are the traps that it made.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import concurrent.futures
import socket
from collections import Counter
from collections.abc import Callable, Generator
from typing import Any

import thistledown as td

Trap = tuple[str, Any]
Body = Generator[Trap, None, None]

traps: Counter[str] = Counter()


def adapted(body: Body) -> Generator[Any, Any, Any]:
    """A weightless task for a generator that yields traps; what goes wrong in a wait is thrown into the generator."""
    error: BaseException | None = None
    try:
        while True:
            reason, resource = next(body) if error is None else body.throw(error)
            traps[reason], error = traps[reason] + 1, None
            try:
                if reason == "recv":
                    yield from td.readable(resource)
                elif reason == "send":
                    yield from td.writable(resource)
                elif reason == "future":
                    ended = td.Channel[Any](capacity=1)
                    resource.add_done_callback(ended.send_nowait)
                    yield from ended.recv()
                else:
                    raise RuntimeError(f"no such trap: {reason!r}")
            except BaseException as caught:
                error = caught
    except StopIteration as end:
        return end.value


# --- the server, in the article's words -------------------------------------------------------------------------


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


def serve(listener: socket.socket, pool: concurrent.futures.Executor, start: Callable[[Body], object]) -> Body:
    while True:
        yield "recv", listener
        client, _ = listener.accept()
        start(answer(client, pool))


def answer(client: socket.socket, pool: concurrent.futures.Executor) -> Body:
    with client:
        while True:
            yield "recv", client
            request = client.recv(1000)
            if not request:
                break
            future = pool.submit(fib, int(request))
            yield "future", future
            reply = b"%d\n" % future.result()
            yield "send", client
            client.send(reply)


# --- three clients, in ours -------------------------------------------------------------------------------------


async def ask(address: tuple[str, int], numbers: range) -> None:
    async with await td.connect(*address) as server:
        for number in numbers:
            await server.sendall(b"%d" % number)
            print(f"fib({number}) = {int(await server.readline())}")


async def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, td.Workers(2) as pool:
        async with td.TaskGroup() as servers:
            servers.go(adapted(serve(listener, pool, lambda body: servers.go(adapted(body)))))
            async with td.TaskGroup() as clients:
                for first in (1, 4, 7):
                    clients.go(ask, listener.getsockname(), range(first, first + 3))
            servers.cancel()
    print("traps:", ", ".join(f"{count} {reason}" for reason, count in sorted(traps.items())))


if __name__ == "__main__":
    td.run(main)
