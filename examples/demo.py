"""Beazley's server that stalls, and the same server that does not; then a job that comes to its end. `make demo`.

Part one: the fib server under a real load, while another client asks for one heavy number. First in the article's form,
which computes it in the loop; then with `await td.go(fib, n)`, which has it computed in a worker process. The server
and the load (perf2.py) are processes of their own; the heavy request is a third client.

Part two: parse_library.py, which parses Python's standard library on all cores, although one of its files crashes the
process that reads it, and one never ends.

Exit code 0 means that every reply was right, that the servers stopped when they were asked to, and that the job gave
its table.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
ARTICLE = HERE / "sources" / "beazley"
HOST = "127.0.0.1"
INTERVAL = 0.1
PATIENCE = 10.0
#: Samples that are shown before the heavy request, and after its reply.
BEFORE, AFTER = 3, 3


class DemoError(Exception):
    """Something did not go as it should; the text is for the person who watches."""


class Program:
    """A program of the article in a process of its own; its lines are read as they come."""

    def __init__(self, script: str, *words: str) -> None:
        command = [sys.executable, str(ARTICLE / script), *words]
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

    def first_rate(self) -> int:
        """The rate of the first interval with a reply: the server's workers may have to start."""
        for _ in range(round(PATIENCE / INTERVAL)):
            if rate := self.next_rate():
                return rate
        raise DemoError("the load got no replies")


@contextmanager
def server_and_load(form: str) -> Iterator[tuple[int, Program, Load]]:
    """The server's port, the server, and the load on it."""
    server = Program("fib_server.py", "--form", form, "--port", "0")
    try:
        greeting = server.next_line()
        say(f"{greeting[0].upper()}{greeting[1:]}. One client asks for fib(1), again and again.")
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


@dataclass
class Figures:
    """What was seen of one form of the server: its rate alone, and during the heavy request, and how long that took."""

    alone: float
    during: float
    seconds: float
    complaints: list[str]


def say(text: str) -> None:
    print(text, flush=True)


def watch_rate(load: Load, seconds: float) -> float:
    """Shows the rate for some seconds, and gives the median: one line, written over; or a line a second."""
    live = sys.stdout.isatty()
    a_second = round(1 / INTERVAL)
    rates = [load.first_rate()]
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
        raise DemoError("the server has stopped answering")
    return usual


def watch_heavy_request(load: Load, heavy: HeavyRequest, usual: float) -> float:
    """Makes the heavy request while the load goes on, and shows each sample around it. Gives the rate during it."""
    say(f"\nAnother client asks for fib({heavy.number}); a sample every {INTERVAL:g} s:")
    begin = time.perf_counter()
    show_samples(load, BEFORE, begin, usual)
    say(f"              now: fib({heavy.number})?")
    heavy.start()
    rates = show_samples(load, 1, begin, usual)
    while heavy.is_alive():
        rates += show_samples(load, 1, begin, usual)
    say(f"              fib({heavy.number}) = {heavy.check()}, after {heavy.seconds:.2f} s")
    show_samples(load, AFTER, begin, usual)
    return median(rates)


def show_samples(load: Load, count: int, begin: float, usual: float) -> list[int]:
    rates = []
    for _ in range(count):
        rates.append(load.next_rate())
        share = rates[-1] / usual
        bar = "#" * round(30 * min(share, 1.5)) + (" ..." if share > 1.5 else "")
        say(f"    {time.perf_counter() - begin:5.2f} s {rates[-1]:>7,} requests/second  {bar}")
    return rates


def watch_server(form: str, seconds: float, number: int) -> Figures:
    """One form of the server, alone for some seconds, and then with the heavy request."""
    with server_and_load(form) as (port, server, load):
        alone = watch_rate(load, seconds)
        heavy = HeavyRequest(port, number)
        during = watch_heavy_request(load, heavy, alone)
    return Figures(alone, during, heavy.seconds, server.complaints)


def compare(in_loop: Figures, next_door: Figures, number: int) -> None:
    say(f"\n    requests/second              alone    while fib({number}) is computed")
    for words, form in (("fib(n) in the loop", in_loop), ("await td.go(fib, n)", next_door)):
        say(f"    {words:<22} {form.alone:>11,.0f}    {form.during:>7,.0f}, for {form.seconds:.2f} s")
    if in_loop.during < in_loop.alone / 10:
        say("\nIn the loop the server stalls, as in the article: while it computes, it serves nobody else.")
    if in_loop.complaints:
        say(f"Its own watchdog saw it: {in_loop.complaints[0]}")
    share = next_door.during / next_door.alone
    verdict = "the stall is gone" if share > 0.3 else "less than it should be; are there two cores?"
    say(f"With worker processes it goes on, at {100 * share:.0f} % of its rate alone: {verdict}.")
    more = 1e6 / next_door.alone - 1e6 / in_loop.alone
    say(f"The way to a worker and back costs a light request {more:.0f} microseconds.")


def part_one(seconds: float, number: int) -> None:
    say("Part one. Beazley's fib server, as in the article: it computes in its only thread.\n")
    in_loop = watch_server("generator", seconds / 2, number)
    say("\nThe same server with `await td.go(fib, n)`: every number is computed in a worker process.\n")
    next_door = watch_server("workers", seconds / 2, number)
    compare(in_loop, next_door, number)


def part_two(options: list[str]) -> None:
    say("\nPart two. A job on all cores: parse Python's standard library, and count the nodes by type.")
    say("One file crashes the process that reads it, and one never ends.\n")
    code = subprocess.run([sys.executable, str(HERE / "parse_library.py"), *options], check=False).returncode
    if code != 0:
        raise DemoError(f"parse_library.py ended with exit code {code}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=6.0, help="of light requests alone (default: 6)")
    parser.add_argument("--number", type=int, default=35, help="the heavy request (default: 35)")
    parser.add_argument("--files", type=int, help="parse only about so many (default: all)")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds that a file may take (default: 3)")
    words = parser.parse_args()
    if not 0.1 <= words.seconds <= 3600:
        parser.error("--seconds is between 0.1 and 3600")
    if not 1 <= words.number <= 40:
        parser.error("--number is between 1 and 40")
    # As if by Ctrl-C: whoever stops the demo stops its server, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        part_one(words.seconds, words.number)
        of_files = [] if words.files is None else ["--files", str(words.files)]
        part_two([*of_files, "--timeout", str(words.timeout)])
    except KeyboardInterrupt:
        say("\nstopped")
        return 130
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    say("\nEvery reply was right, the servers have stopped, and the job came to its end.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
