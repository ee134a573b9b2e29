"""What does a tuple cost that is written to a space and taken out again, and how does that grow with what lies there?
What does it cost on a file, for many who write at once?

The rival is the same space in plain Python: dictionaries by what tuples begin with, and a condition. It compares by
type and value, too, and gives the oldest of those that match. On a file the rival is the same database by itself, with
one commit a tuple, and with one commit for as many tuples as there are callers.
"""

import os
import sqlite3
import tempfile
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


def on_file(callers: int) -> measure.Case:
    """So many threads, each of which writes tuples and waits until each is on the disk."""

    def run(count: int) -> measure.Sample:
        import thistledown as td

        each = max(1, count // callers)
        with (
            tempfile.TemporaryDirectory(dir=measure_folder()) as folder,
            td.Space(os.path.join(folder, "a.db")) as space,
        ):

            def write(part: int) -> None:
                for number in range(each):
                    space.write_nowait(("job", part, number, 0.5))

            took = timed_threads(callers, write)
        return {"us/tuple": took / (each * callers) * 1e6}

    return run


def timed_threads(callers: int, write: Callable[[int], None]) -> float:
    threads = [threading.Thread(target=write, args=(part,)) for part in range(callers)]
    begin = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - begin


def raw(together: int) -> measure.Case:
    """The database alone, in one thread: so many rows a commit."""

    def run(count: int) -> measure.Sample:
        turns = max(1, count // together)
        with tempfile.TemporaryDirectory(dir=measure_folder()) as folder:
            database = sqlite3.connect(os.path.join(folder, "a.db"), isolation_level=None)
            database.execute("PRAGMA locking_mode = exclusive")
            database.execute("PRAGMA journal_mode = wal")
            database.execute("PRAGMA synchronous = full")
            database.execute("CREATE TABLE tuples (number INTEGER PRIMARY KEY, data BLOB NOT NULL)")
            begin = perf_counter()
            for turn in range(turns):
                database.execute("BEGIN IMMEDIATE")
                for number in range(turn * together, (turn + 1) * together):
                    database.execute("INSERT INTO tuples VALUES (?, ?)", (number, b"x" * 30))
                database.execute("COMMIT")
            took = perf_counter() - begin
            database.close()
        return {"us/tuple": took / (turns * together) * 1e6}

    return run


def measure_folder() -> str | None:
    """A folder on a disk; the system's own may be in memory, where nothing waits."""
    return os.environ.get("THISTLEDOWN_BENCH_FOLDER")


def file_among(tuples: int) -> measure.Case:
    """Writes and takes on a file that holds so many tuples, without waiting for the disk itself."""

    def run(count: int) -> measure.Sample:
        import thistledown as td

        with (
            tempfile.TemporaryDirectory(dir=measure_folder()) as folder,
            td.Space(os.path.join(folder, "a.db"), fsync=False) as space,
        ):
            for first in range(0, tuples, 10_000):
                with space.transaction() as act:
                    for number in range(first, min(first + 10_000, tuples)):
                        act.write_nowait(("job", number, "resize", 0.5))
            begin = perf_counter()
            for turn in range(count):
                taken = space.take_nowait(("job", (turn * 7919) % tuples, ..., float))
                assert taken is not None
                space.write_nowait(taken)
            took = perf_counter() - begin
        return {"us/write and take": took / count * 1e6}

    return run


def file_question(callers: int) -> measure.Question:
    return measure.Question(
        name=f"space-file-{callers}",
        title=f"A tuple on the disk, with {callers} who write at once",
        script=__file__,
        cases={
            "thistledown": on_file(callers),
            "SQLite / a commit each": raw(1),
            f"SQLite / {callers} a commit": raw(callers),
        },
        units=("us/tuple",),
        size=2_000,
        quick_size=512,
        baseline="SQLite / a commit each",
        timeout=300.0,
    )


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
    *(file_question(callers) for callers in (1, 8, 64, 512)),
    measure.Question(
        name="space-file-growth",
        title="A write and a take on a file that holds a thousand and a million tuples",
        script=__file__,
        cases={f"thistledown / {tuples:,} tuples": file_among(tuples) for tuples in (1_000, 1_000_000)},
        units=("us/write and take",),
        size=5_000,
        quick_size=500,
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
