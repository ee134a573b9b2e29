"""The article's server: send it a number, and it answers with that Fibonacci number.

    python fib_server.py                 # each client is a generator task
    python fib_server.py --form async    # each client is a coroutine
    python fib_server.py --form workers  # and the numbers are computed in worker processes
    nc 127.0.0.1 25000                   # then type numbers

Thousands of clients may be connected; all of them are served by one thread. In the first two forms, which are the
article's, the number is computed in the client's own task, so while it is, nobody else is served: ask for 35 and
watch. That is the stall on which the article ends. In the third form there is none: `await td.go(fib, n)` has the
number computed on another core, and the thread serves the others meanwhile.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import argparse
import signal
import sys
from collections.abc import Generator
from typing import Any

import thistledown as td

REQUEST_SIZE = 1000
COMPLAINT = b"send a whole number\n"


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


def number_in(request: bytes) -> int | None:
    try:
        return int(request)
    except ValueError:
        return None


def reply_to(request: bytes) -> bytes:
    n = number_in(request)
    return COMPLAINT if n is None else b"%d\n" % fib(n)


def serve_as_generator(client: td.Socket) -> Generator[Any, Any, None]:
    while request := (yield from client.recv(REQUEST_SIZE)):
        yield from client.sendall(reply_to(request))


async def serve_as_coroutine(client: td.Socket) -> None:
    while request := await client.recv(REQUEST_SIZE):
        await client.sendall(reply_to(request))


async def serve_with_workers(client: td.Socket) -> None:
    while request := await client.recv(REQUEST_SIZE):
        n = number_in(request)
        await client.sendall(COMPLAINT if n is None else b"%d\n" % await td.go(fib, n))


FORMS = {"generator": serve_as_generator, "async": serve_as_coroutine, "workers": serve_with_workers}


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers numbers with their Fibonacci numbers.")
    parser.add_argument(
        "--form", choices=list(FORMS), default="generator", help="what a client's task is, and where it computes"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=25000, help="0 takes a free one")
    words = parser.parse_args()

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops it as Ctrl-C does
    try:
        server = td.serve(FORMS[words.form], words.host, words.port)
    except OSError as error:
        sys.exit(f"cannot listen on {words.host}:{words.port}: {error}")
    host, port = server.address[:2]
    print(f"fib server ({words.form}) listens on {host}:{port}", flush=True)
    try:
        td.run(server)
    except KeyboardInterrupt:
        print("fib server stopped")


if __name__ == "__main__":
    main()
