"""What does a message cost between two processes? Beside the queues and the pipe of multiprocessing.

A round trip goes to a process that answers and back, one after the other. A stream goes one way, as fast as it is
taken.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, NamedTuple

import measure

LARGE = b"x" * 1_000_000
ROOM = 64
STOP = None


class Ends(NamedTuple):
    """Something to send into and to receive from, in each of two processes."""

    put: Callable[[Any], object]
    get: Callable[[], Any]


Join = Callable[[Any, Any], Ends]


def of_channels(there: Any, back: Any) -> Ends:
    return Ends(lambda value: there.send(value).wait(), lambda: back.recv().wait())


def of_queues(there: Any, back: Any) -> Ends:
    return Ends(there.put, back.get)


def of_pipe(end: Any, _: Any) -> Ends:
    return Ends(end.send, end.recv)


def answer(join: Join, there: Any, back: Any) -> None:
    """The other process: gives back what it is told to, counts the rest."""
    other, count = join(back, there), 0
    while (message := other.get()) is not STOP:
        kind, value = message
        if kind == "echo":
            other.put(value)
        elif kind == "count":
            count += 1
        else:
            other.put(count)


@contextmanager
def channels() -> Iterator[Ends]:
    import thistledown as td

    there, back = td.Channel[Any](ROOM), td.Channel[Any](ROOM)
    with td.Workers(1) as pool:
        task = pool.go(answer, of_channels, there, back)
        ends = of_channels(there, back)
        yield ends
        ends.put(STOP)
        task.result()


@contextmanager
def process(ends: Ends, join: Join, *far: Any) -> Iterator[Ends]:
    other = multiprocessing.get_context("spawn").Process(target=answer, args=(join, *far))
    other.start()
    yield ends
    ends.put(STOP)
    other.join()


@contextmanager
def queues(kind: str) -> Iterator[Ends]:
    context = multiprocessing.get_context("spawn")
    room = () if kind == "SimpleQueue" else (ROOM,)
    there, back = (getattr(context, kind)(*room) for _ in range(2))
    with process(of_queues(there, back), of_queues, there, back) as ends:
        yield ends


@contextmanager
def managed() -> Iterator[Ends]:
    with multiprocessing.get_context("spawn").Manager() as manager:
        there, back = manager.Queue(ROOM), manager.Queue(ROOM)
        with process(of_queues(there, back), of_queues, there, back) as ends:
            yield ends


@contextmanager
def pipe() -> Iterator[Ends]:
    near, far = multiprocessing.get_context("spawn").Pipe()
    with process(of_pipe(near, None), of_pipe, None, far) as ends:
        yield ends


WAYS: dict[str, Callable[[], Any]] = {
    "thistledown / td.Channel": channels,
    "multiprocessing / Queue": lambda: queues("Queue"),
    "multiprocessing / SimpleQueue": lambda: queues("SimpleQueue"),
    "multiprocessing / Pipe": pipe,
    "multiprocessing / Manager().Queue": managed,
}


def round_trips(ends: Ends, value: Any, count: int) -> None:
    for _ in range(count):
        ends.put(("echo", value))
        ends.get()


def stream(ends: Ends, value: Any, count: int) -> None:
    for _ in range(count):
        ends.put(("count", value))
    ends.put(("how many", None))
    ends.get()


def case(way: Callable[[], Any], pattern: Callable[[Ends, Any, int], None], value: Any) -> measure.Case:
    def run(count: int) -> measure.Sample:
        with way() as ends:
            # The first messages pay for what is made once.
            round_trips(ends, value, max(count // 10, 1))
            begin = perf_counter()
            pattern(ends, value, count)
            return {"us/message": (perf_counter() - begin) / count * 1e6}

    return run


def question(
    name: str, title: str, pattern: Callable[[Ends, Any, int], None], value: Any, size: int
) -> measure.Question:
    return measure.Question(
        name=name,
        title=title,
        script=__file__,
        cases={label: case(way, pattern, value) for label, way in WAYS.items()},
        units=("us/message",),
        size=size,
        quick_size=50,
        baseline="multiprocessing / Queue",
    )


QUESTIONS = [
    question("messages-round-trip", "A message to another process and back", round_trips, 17, 5_000),
    question("messages-stream", "Messages to another process, as fast as they are taken", stream, 17, 20_000),
    question("messages-round-trip-large", "A message of 1 MB to another process and back", round_trips, LARGE, 200),
    question("messages-stream-large", "Messages of 1 MB to another process, one way", stream, LARGE, 500),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
