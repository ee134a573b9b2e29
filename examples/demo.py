"""The fib server under a real load, and what one heavy request does to it. `make demo` runs this.

The server and the load (perf2.py) are processes of their own; the heavy request is a third client. Exit code
0 means that every reply was right, and that the server stopped when it was asked to.
"""

import argparse
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
INTERVAL = 0.05
PATIENCE = 10.0
#: Samples that are shown before the heavy request, and after its reply.
BEFORE, AFTER = 4, 5


class DemoError(Exception):
    """Something did not go as it should; the text is for the person who watches."""


class Program:
    """A program of this folder in a process of its own; its lines are read as they come."""

    def __init__(self, script: str, *words: str) -> None:
        command = [sys.executable, str(HERE / script), *words]
        self.script = script
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        #: What it prints; None stands for the end.
        self.lines: queue.Queue[str | None] = queue.Queue()
        self.complaints: list[str] = []
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self.read, self.read_errors)]
        for reader in self.readers:
            reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())
        self.lines.put(None)

    def read_errors(self) -> None:
        assert self.process.stderr is not None
        self.complaints.extend(line.rstrip() for line in self.process.stderr)

    def next_line(self) -> str:
        try:
            line = self.lines.get(timeout=PATIENCE)
        except queue.Empty:
            raise DemoError(f"{self.script} said nothing for {PATIENCE:g} s") from None
        if line is None:
            code = self.stop()
            raise DemoError("\n".join([f"{self.script} ended with exit code {code}", *self.complaints]))
        return line

    def stop(self) -> int:
        """Asks it to end, then insists. Gives the exit code."""
        for word in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(word)
            try:
                self.process.wait(PATIENCE / 2)
                break
            except subprocess.TimeoutExpired:
                continue
        for reader in self.readers:
            reader.join()
        return self.process.returncode


class Load(Program):
    """Light requests, as many as are answered; gives the rate after each interval."""

    def __init__(self, port: int) -> None:
        super().__init__("perf2.py", "--port", str(port), "--interval", str(INTERVAL))

    def next_rate(self) -> int:
        return int(self.next_line().split()[0])


@contextmanager
def server_and_load(form: str) -> Iterator[tuple[int, Program, Load]]:
    """The server's port, the server, and the load on it."""
    server = Program("fib_server.py", "--form", form, "--port", "0")
    try:
        greeting = server.next_line()
        say(f"{greeting[0].upper()}{greeting[1:]}.")
        port = int(greeting.rpartition(":")[2])
        load = Load(port)
        try:
            yield port, server, load
        finally:
            load.stop()
    finally:
        code = server.stop()
    if code != 0:
        raise DemoError("\n".join([f"the server ended with exit code {code}", *server.complaints]))


class HeavyRequest(threading.Thread):
    """Asks for one large number, on a connection of its own."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self.port, self.number = port, number
        self.reply = b""
        self.error: OSError | None = None
        self.seconds = 0.0

    def run(self) -> None:
        begin = time.perf_counter()
        try:
            with socket.create_connection((HOST, self.port), timeout=6 * PATIENCE) as server:
                server.sendall(b"%d" % self.number)
                self.reply = server.recv(100)
        except OSError as error:
            self.error = error
        self.seconds = time.perf_counter() - begin

    def check(self) -> int:
        """Gives the number that came; raises DemoError if it is not the right one."""
        before, now = 0, 1
        for _ in range(self.number - 1):
            before, now = now, before + now
        if self.reply != b"%d\n" % now:
            got = self.error or repr(self.reply)
            raise DemoError(f"fib({self.number}) is {now}, and what came from the server is {got}")
        return now


def say(text: str) -> None:
    print(text, flush=True)


def watch_rate(load: Load, seconds: float) -> float:
    """Shows the rate for some seconds, and gives the median: one line, written over; or a line a second."""
    live = sys.stdout.isatty()
    a_second = round(1 / INTERVAL)
    rates: list[int] = []
    while len(rates) * INTERVAL < seconds:
        rates.append(load.next_rate())
        if live:
            print(f"\r\x1b[2K    {median(rates[-a_second // 4 :]):>7,.0f} requests/second", end="", flush=True)
        elif len(rates) % a_second == 0:
            say(f"    {median(rates[-a_second:]):>7,.0f} requests/second")
    usual = median(rates)
    over = len(rates) * INTERVAL
    say(("\r\x1b[2K" if live else "") + f"    {usual:>7,.0f} requests/second, over {over:.1f} s")
    if not usual:
        raise DemoError("the load got no replies")
    return usual


def watch_heavy_request(load: Load, heavy: HeavyRequest, usual: float) -> tuple[float, int]:
    """Makes the heavy request while the load goes on, and shows each sample around it.

    Gives the usual rate before it, and the lowest rate since.
    """
    say(f"\nAnother client asks for fib({heavy.number}); a sample every {INTERVAL:g} s:")
    begin = time.perf_counter()
    rates = show_samples(load, BEFORE, begin, usual)
    say(f"              now: fib({heavy.number})?")
    heavy.start()
    while heavy.is_alive():
        rates += show_samples(load, 1, begin, usual)
    say(f"              fib({heavy.number}) = {heavy.check()}, after {heavy.seconds:.2f} s")
    rates += show_samples(load, AFTER, begin, usual)
    return median(rates[:BEFORE]), min(rates[BEFORE:])


def show_samples(load: Load, count: int, begin: float, usual: float) -> list[int]:
    rates = []
    for _ in range(count):
        rates.append(load.next_rate())
        bar = "#" * round(30 * min(rates[-1] / usual, 1.2))
        say(f"    {time.perf_counter() - begin:5.2f} s {rates[-1]:>7,} requests/second  {bar}")
    return rates


def explain(usual: float, lowest: int, heavy: HeavyRequest, complaints: list[str]) -> None:
    if lowest > usual / 10:
        say(f"\nThe rate held: at worst {lowest:,} requests/second.")
        return
    say(
        f"""
The rate fell from {usual:,.0f} to {lowest:,} requests/second: the server stalls, as in the article.
It computes fib({heavy.number}) in its only thread, and for {heavy.seconds:.2f} s it served nobody else.
Worker processes, which take such work off this thread, come in a later release."""
    )
    if complaints:
        say(f"The server's own watchdog saw it, too: {complaints[0]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=8.0, help="about how long (default: 8)")
    parser.add_argument("--number", type=int, default=32, help="the heavy request (default: 32)")
    words = parser.parse_args()
    if not 1 <= words.seconds <= 3600:
        parser.error("--seconds is between 1 and 3600")
    if not 1 <= words.number <= 40:
        parser.error("--number is between 1 and 40")
    # As if by Ctrl-C: whoever stops the demo stops its server, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        say("Beazley's fib server on weightless tasks. One client asks for fib(1), again and again.\n")
        with server_and_load("generator") as (port, server, load):
            usual = watch_rate(load, words.seconds * 0.45)
            heavy = HeavyRequest(port, words.number)
            usual, lowest = watch_heavy_request(load, heavy, usual)
            explain(usual, lowest, heavy, server.complaints)
        say("\nThe same server with coroutines for generators:\n")
        with server_and_load("async") as (_, _, load):
            watch_rate(load, words.seconds * 0.25)
    except KeyboardInterrupt:
        say("\nstopped")
        return 130
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    say("\nEvery reply was right, and the server has stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
