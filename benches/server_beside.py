"""What is left of a server's rate while fib(35) is computed for somebody else?

The server is `offloading.py`: each number is computed in one of two worker processes. One client asks for small
numbers, back to back; its rate is taken in turns alone, and while a second client has the server compute fib(35),
again and again. With two cores, one computes, and server, client and the other worker share what is left.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import perf_counter

import measure
import offloading
from server_process import FIB_REPLY, FIB_REQUEST, HERE, ServerProcess

SHARE, ALONE, BESIDE = "rate beside / alone", "requests/s alone", "requests/s beside"
TURNS = 3
HEAVY_REQUEST, HEAVY_REPLY = b"35", b"9227465\n"


class Heavy(threading.Thread):
    """A client that asks for fib(35) until it is told to stop; `seconds` is what each took."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__()
        self.client = socket.create_connection(address)
        self.is_stopped = False
        self.seconds: list[float] = []
        self.wrong = b""

    def run(self) -> None:
        while not self.is_stopped and not self.wrong:
            begin = perf_counter()
            self.client.sendall(HEAVY_REQUEST)
            reply = self.client.recv(100)
            self.seconds.append(perf_counter() - begin)
            if reply != HEAVY_REPLY:
                self.wrong = reply or b"nothing"


@contextmanager
def heavy_beside(server: ServerProcess) -> Iterator[Heavy]:
    heavy = Heavy(server.address)
    heavy.start()
    try:
        yield heavy
    finally:
        heavy.is_stopped = True
        heavy.join()
        heavy.client.close()
    if heavy.wrong:
        raise RuntimeError(f"fib(35) is not {heavy.wrong!r}")


def case(label: str) -> measure.Case:
    def run(milliseconds: int) -> measure.Sample:
        words = ["--connections", "1", "--seconds", str(milliseconds / 1000)]
        words += ["--send", FIB_REQUEST.decode(), "--reply-end", "\\n"]
        with ServerProcess(label, script=HERE / "offloading.py", is_placed=False) as server:
            server.check(FIB_REQUEST, FIB_REPLY)
            server.load([*words, "--seconds", "0.2"])
            return median_of([taken(server, words) for _ in range(TURNS)])

    return run


def taken(server: ServerProcess, words: list[str]) -> dict[str, float]:
    alone = rate(server.load(words))
    with heavy_beside(server) as heavy:
        report = server.load(words)
    beside = rate(report)
    return {
        SHARE: beside / alone,
        ALONE: alone,
        BESIDE: beside,
        "p50 us beside": report["p50_us"],
        "p99 us beside": report["p99_us"],
        "fib(35) s": median(heavy.seconds),
    }


def rate(report: dict[str, float]) -> float:
    return report["requests"] / report["seconds"]


def median_of(samples: list[dict[str, float]]) -> dict[str, float]:
    return {unit: median(sample[unit] for sample in samples) for unit in samples[0]}


QUESTIONS = [
    measure.Question(
        name="server_beside",
        title="The fib server's rate while fib(35) is computed in a worker process",
        script=__file__,
        cases={label: case(label) for label in offloading.SERVERS},
        units=(SHARE, ALONE, BESIDE, "p50 us beside", "p99 us beside", "fib(35) s"),
        size=1_500,
        quick_size=200,
        target="at least 0.6 of the rate that it has alone",
        bounds=(measure.Bound(at_least=0.6),),
        baseline="asyncio / ProcessPoolExecutor",
        more_is_better=True,
        needs_load_generator=True,
        note="Nothing is bound to a CPU. `seed` computes in its loop, as the article's server does.",
    )
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
