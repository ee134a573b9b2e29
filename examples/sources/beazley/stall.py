"""One heavy request, and everybody waits: the stall on which the article ends, and its end.

A light client asks for fib(1) again and again while a heavy one asks for fib(27). The figure is how many light replies
come while the heavy number is computed. In the loop it is none, whatever the machine: the thread that serves is the
thread that computes. In a worker process it is hundreds.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

from collections.abc import Awaitable, Callable

import thistledown as td

LIGHT, HEAVY = 1, 27

heavy_is_computed = False
replies_meanwhile = 0


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


async def in_the_loop(n: int) -> int:
    return fib(n)


async def in_a_worker(n: int) -> int:
    return fib(n) if n == LIGHT else await td.go(fib, n)


def handler(compute: Callable[[int], Awaitable[int]]) -> Callable[[td.Socket], Awaitable[None]]:
    async def handle(client: td.Socket) -> None:
        global heavy_is_computed
        while request := await client.recv(1000):
            n = int(request)
            if n == HEAVY:
                heavy_is_computed = True
            reply = b"%d\n" % await compute(n)
            if n == HEAVY:
                heavy_is_computed = False
            await client.sendall(reply)

    return handle


async def ask_once(address: tuple[str, int], n: int) -> int:
    async with await td.connect(*address) as server:
        await server.sendall(b"%d" % n)
        return int(await server.readline())


async def ask_again_and_again(address: tuple[str, int]) -> None:
    global replies_meanwhile
    async with await td.connect(*address) as server:
        while True:
            await server.sendall(b"%d" % LIGHT)
            await server.readline()
            replies_meanwhile += heavy_is_computed


async def main(compute: Callable[[int], Awaitable[int]]) -> None:
    global replies_meanwhile
    replies_meanwhile = 0
    server = td.serve(handler(compute), "127.0.0.1", 0)
    async with td.TaskGroup() as group:
        group.go(server)
        group.go(ask_again_and_again, server.address)
        result = await ask_once(server.address, HEAVY)
        group.cancel()
    where = compute.__name__.replace("_", " ")
    print(f"fib({HEAVY}) = {result} {where}: {replies_meanwhile} light replies meanwhile")


if __name__ == "__main__":
    td.go(fib, LIGHT).result()  # so that a worker has been started
    for compute in (in_the_loop, in_a_worker):
        td.run(main, compute)
