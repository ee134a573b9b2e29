"""How many light requests a second? Asks the fib server for fib(1) as fast as it answers.

While it runs, ask for a large number on another connection: the rate falls to nothing until that is computed.

Source: D. Beazley, A Tale of Two Concurrencies, Part 2 (;login:, August 2015); told in our own words.
"""

import argparse
import signal
import socket
import sys
import threading
import time

REQUEST, REPLY = b"1", b"1\n"


class Load:
    """One connection that asks, waits for the reply, and asks again. Replies are counted."""

    def __init__(self, host: str, port: int) -> None:
        self.server = socket.create_connection((host, port))
        self.replies = 0
        self.over = threading.Event()

    def ask_until_over(self) -> None:
        """Asks until `over` is set; raises ValueError on a wrong reply."""
        while not self.over.is_set():
            self.server.sendall(REQUEST)
            reply = self.server.recv(100)
            if reply != REPLY:
                raise ValueError(f"the server answered {reply!r}, not {REPLY!r}")
            self.replies += 1

    def print_rate(self, interval: float, seconds: float | None) -> None:
        """Prints the rate after each interval, also while no reply comes."""
        begin = last = time.perf_counter()
        seen = 0
        while not self.over.wait(interval):
            now, replies = time.perf_counter(), self.replies
            print(f"{(replies - seen) / (now - last):.0f} requests/second", flush=True)
            last, seen = now, replies
            if seconds is not None and now - begin >= seconds:
                self.over.set()


def main() -> None:
    parser = argparse.ArgumentParser(description="Loads the fib server with light requests.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=25000)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two lines")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds (default: never)")
    words = parser.parse_args()

    try:
        load = Load(words.host, words.port)
    except OSError as error:
        sys.exit(f"nobody answers at {words.host}:{words.port} ({error}); start fib_server.py first")
    # It ends after the reply to come, and so does not cut the server short.
    signal.signal(signal.SIGTERM, lambda *_: load.over.set())
    printer = threading.Thread(target=load.print_rate, args=(words.interval, words.seconds), daemon=True)
    printer.start()
    try:
        load.ask_until_over()
    except (OSError, ValueError) as error:
        sys.exit(f"the load ended: {error}")
    finally:
        load.over.set()
        load.server.close()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
