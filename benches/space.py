"""What does a tuple cost that is written to a space and taken out again, and how does that grow with what lies there?

The rival is the same space in plain Python: dictionaries by what tuples begin with, and a condition. It compares by
type and value, too, and gives the oldest of those that match.
"""

import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any

import measure

Template = tuple[Any, ...]


class PlainSpace:
    """Dictionaries, and a condition. It has no leases and no transactions, and whoever waits looks at every write."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        #: By each of the beginnings of a tuple, and its length: tuples in order, by their number.
        self.found: dict[Any, dict[int, tuple[Any, ...]]] = {}
        self.count = 0

    @staticmethod
    def beginnings(values: tuple[Any, ...], length: int) -> list[Any]:
        typed = tuple((type(value), value) for value in values)
        return [(length, typed[:known]) for known in range(len(typed) + 1)]

    def write(self, values: tuple[Any, ...]) -> None:
        keys = self.beginnings(values, len(values))
        with self.changed:
            self.count += 1
            for key in keys:
                self.found.setdefault(key, {})[self.count] = values
            self.changed.notify_all()

    def take(self, template: Template) -> tuple[Any, ...]:
        known = 0
        while known < len(template) and template[known] is not ... and not isinstance(template[known], type):
            known += 1
        key = self.beginnings(template[:known], len(template))[-1]
        with self.changed:
            while True:
                for number, values in self.found.get(key, {}).items():
                    if all(map(self.fits, template, values)):
                        for key in self.beginnings(values, len(values)):
                            del self.found[key][number]
                            if not self.found[key]:
                                del self.found[key]
                        return values
                self.changed.wait()

    @staticmethod
    def fits(field: Any, value: Any) -> bool:
        if field is ...:
            return True
        if isinstance(field, type):
            return type(value) is field
        return type(field) is type(value) and field == value


def engine() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import thistledown as td

    space = td.Space()
    return space.write_nowait, space.take_nowait


def plain() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    space = PlainSpace()
    return space.write, space.take


def among(tuples: int, make: Callable[[], tuple[Callable[[Any], Any], Callable[[Any], Any]]]) -> measure.Case:
    """Writes and takes by two leading values, here and there among so many tuples."""

    def run(count: int) -> measure.Sample:
        write, take = make()
        for number in range(tuples):
            write(("job", number, "resize", 0.5))
        # A stride that is prime to all sizes: no two in turn are neighbours.
        numbers = [(turn * 7919) % tuples for turn in range(count)]
        begin = perf_counter()
        for number in numbers:
            taken = take(("job", number, ..., float))
            write(taken)
        return {"ns/write and take": (perf_counter() - begin) / count * 1e9}

    return run


def by_threads(make: Callable[[], tuple[Callable[[Any], Any], Callable[[Any], Any]]]) -> measure.Case:
    """A tuple goes to a thread that waits for it, and its answer to who waits for that."""

    def run(count: int) -> measure.Sample:
        write, take = make()

        def answers() -> None:
            for number in range(count):
                take(("question", number))
                write(("answer", number))

        other = threading.Thread(target=answers)
        other.start()
        begin = perf_counter()
        for number in range(count):
            write(("question", number))
            take(("answer", number))
        took = perf_counter() - begin
        other.join()
        return {"ns/round trip": took / count * 1e9}

    return run


def engine_that_waits() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    import thistledown as td

    space = td.Space()
    return space.write_nowait, lambda template: space.take(template).wait()


def by_tasks(count: int) -> measure.Sample:
    import thistledown as td

    space = td.Space()

    async def answers() -> None:
        for number in range(count):
            await space.take(("question", number))
            await space.write(("answer", number))

    async def main() -> float:
        td.go(answers)
        begin = perf_counter()
        for number in range(count):
            await space.write(("question", number))
            await space.take(("answer", number))
        return perf_counter() - begin

    return {"ns/round trip": td.run(main) / count * 1e9}


def question(tuples: int) -> measure.Question:
    return measure.Question(
        name=f"space-{tuples}",
        title=f"A write and a take by two leading values, among {tuples:,} tuples",
        script=__file__,
        cases={"thistledown": among(tuples, engine), "plain Python": among(tuples, plain)},
        units=("ns/write and take",),
        size=50_000,
        quick_size=2_000,
        baseline="plain Python",
        target="less than a space of dictionaries in plain Python",
        bounds=(measure.Bound(1.0, "plain Python"),),
        timeout=300.0,
    )


QUESTIONS = [
    question(1_000),
    question(1_000_000),
    measure.Question(
        name="space-growth",
        title="The same write and take with a thousand and with a million tuples",
        script=__file__,
        cases={
            f"{name} / {tuples:,} tuples": among(tuples, make)
            for name, make in (("thistledown", engine), ("plain Python", plain))
            for tuples in (1_000, 1_000_000)
        },
        units=("ns/write and take",),
        size=50_000,
        quick_size=2_000,
        baseline="thistledown / 1,000 tuples",
        timeout=300.0,
    ),
    measure.Question(
        name="space-waiting",
        title="A question and its answer through a space, to whoever waits for it",
        script=__file__,
        cases={
            "thistledown / tasks": by_tasks,
            "thistledown / threads": by_threads(engine_that_waits),
            "plain Python / threads": by_threads(plain),
        },
        units=("ns/round trip",),
        size=20_000,
        quick_size=1_000,
        baseline="plain Python / threads",
    ),
]

if __name__ == "__main__":
    measure.main(QUESTIONS)
