"""What does a message cost between two processes? Beside the queues and the pipe of multiprocessing, in one run.

    python benches/messages.py [--count N]

A round trip goes to a process that answers and back, one after the other. A stream goes one
way, as fast as it is taken.
Each figure is the best of the rounds, in which all take turns; what counts is the ratio.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import thistledown as td

Make = Callable[[], "tuple[Any, Any, Callable[[], None]]"]

ROUNDS = 5
LARGE = 1_000_000
STOP = None


class Ends:
    """Something to send into and to receive from, in each of two processes."""

    def __init__(self, put: Callable[[Any], object], get: Callable[[], Any]) -> None:
        self.put, self.get = put, get


def of_channels(there: td.Channel[Any], back: td.Channel[Any]) -> Ends:
    return Ends(lambda value: there.send(value).wait(), lambda: back.recv().wait())


def of_queues(there: Any, back: Any) -> Ends:
    return Ends(there.put, back.get)


def of_pipe(end: Any, _: Any) -> Ends:
    return Ends(end.send, end.recv)


def answer(ends: Callable[[Any, Any], Ends], there: Any, back: Any) -> None:
    """The other process: gives back what it is told to, counts the rest."""
    other, count = ends(back, there), 0
    while (message := other.get()) is not STOP:
        kind, value = message
        if kind == "echo":
            other.put(value)
        elif kind == "count":
            count += 1
        else:
            other.put(count)
            count = 0


def round_trips(ends: Ends, value: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        ends.put(("echo", value))
        ends.get()
    return (time.perf_counter() - started) / count


def stream(ends: Ends, value: Any, count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        ends.put(("count", value))
    ends.put(("how many", None))
    assert ends.get() == count
    return (time.perf_counter() - started) / count


def contestants(pool: td.Workers, manager: Any) -> dict[str, tuple[Ends, Callable[[], None]]]:
    fork = multiprocessing.get_context("spawn")

    def process(ends: Callable[[Any, Any], Ends], there: Any, back: Any, far: tuple[Any, Any]) -> Any:
        worker = fork.Process(target=answer, args=(ends, *far))
        worker.start()
        mine = ends(there, back)

        def stop() -> None:
            mine.put(STOP)
            worker.join()

        return mine, stop

    there, back = td.Channel[Any](64), td.Channel[Any](64)
    task = pool.go(answer, of_channels, there, back)
    ours = of_channels(there, back)

    def stop_ours() -> None:
        ours.put(STOP)
        task.result()

    found = {"td.Channel": (ours, stop_ours)}
    queues = {
        "multiprocessing.Queue": (fork.Queue(64), fork.Queue(64)),
        "multiprocessing.SimpleQueue": (fork.SimpleQueue(), fork.SimpleQueue()),
        "Manager().Queue()": (manager.Queue(64), manager.Queue(64)),
    }
    for name, (one, other) in queues.items():
        found[name] = process(of_queues, one, other, (one, other))
    near, far = fork.Pipe()
    found["multiprocessing.Pipe"] = process(of_pipe, near, None, (None, far))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="small messages a round")
    count = parser.parse_args().count
    questions = {
        "round trip, small": (round_trips, 17, count),
        "round trip, 1 MB": (round_trips, b"x" * LARGE, max(count // 20, 1)),
        "stream, small": (stream, 17, count),
        "stream, 1 MB": (stream, b"x" * LARGE, max(count // 20, 1)),
    }
    with multiprocessing.Manager() as manager, td.Workers(1) as pool:
        all_of_them = contestants(pool, manager)
        best: dict[tuple[str, str], float] = {}
        for _ in range(ROUNDS):
            for question, (measure, value, times) in questions.items():
                for name, (ends, _) in all_of_them.items():
                    took = measure(ends, value, times)
                    best[question, name] = min(took, best.get((question, name), took))
        for _, stop in all_of_them.values():
            stop()
    for question in questions:
        ours = best[question, "td.Channel"]
        print(question)
        for name in all_of_them:
            took = best[question, name]
            print(f"  {name:28} {took * 1e6:9.1f} us   {took / ours:5.2f} of ours")


if __name__ == "__main__":
    main()
