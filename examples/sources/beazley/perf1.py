"""How long does one heavy request take? Asks the fib server for fib(30), again and again.

Start it two or three times at once: the times add up, because the server computes in its only thread.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import argparse
import itertools
import socket
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description="Times heavy requests to the fib server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=25000)
    parser.add_argument("--number", type=int, default=30, help="which Fibonacci number to ask for")
    parser.add_argument("--count", type=int, help="stop after so many requests (default: never)")
    words = parser.parse_args()

    try:
        server = socket.create_connection((words.host, words.port))
    except OSError as error:
        sys.exit(f"nobody answers at {words.host}:{words.port} ({error}); start fib_server.py first")
    with server:
        for _ in itertools.repeat(None) if words.count is None else range(words.count):
            start = time.perf_counter()
            server.sendall(b"%d" % words.number)
            reply = server.recv(100)
            if not reply:
                sys.exit("the server has closed the connection")
            print(f"fib({words.number}) = {int(reply)} in {time.perf_counter() - start:.3f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
