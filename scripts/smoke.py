"""Does an installed package work at all? Run by the interpreter that it is installed for, outside of the repository.

    cd /somewhere/else && /an/environment/bin/python smoke.py

One small program for each large part: weightless tasks, worker processes, channels, actors, a space on a file, the
command line. It is no test of what these promise; those are in `tests/`. It needs nothing but the package, and is a
script as a user writes one: without a main guard, with functions that are its own.
"""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import thistledown as td

SECONDS = 60
CHECKS: list[Callable[[], None]] = []


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS.append(function)
    return function


def fib(number: int) -> int:
    return 1 if number <= 2 else fib(number - 1) + fib(number - 2)


class Account:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def deposit(self, amount: int) -> int:
        self.amount += amount
        return self.amount

    def where(self) -> int:
        return os.getpid()


@check
def the_package_is_the_installed_one() -> None:
    where = Path(td.__file__).resolve()
    assert Path(sysconfig.get_path("platlib")).resolve() in where.parents, f"it is that of {where.parent}"
    assert importlib.metadata.version("thistledown") == td.__version__
    assert (where.parent / "py.typed").exists(), "its types are not in it"


@check
def weightless_tasks_run() -> None:
    async def doubled(number: int) -> int:
        await td.sleep(0.001)
        return 2 * number

    def tripled(number: int) -> Iterator[Any]:
        yield
        return 3 * number

    async def main() -> list[int]:
        async with td.TaskGroup() as group:
            tasks = [group.go(body, number) for number in range(100) for body in (doubled, tripled)]
        with td.move_on_after(0.01) as scope:
            await td.sleep(SECONDS)
        assert scope.expired
        return [task.result() for task in tasks]

    assert sum(td.run(main)) == 5 * sum(range(100))


@check
def worker_processes_run() -> None:
    here = os.getpid()
    assert td.go(os.getpid).result(SECONDS) != here
    assert td.go(fib, 20).result(SECONDS) == 6765
    assert list(td.map(lambda number: number * number, range(100))) == [number * number for number in range(100)]
    with td.Workers(2) as pool:
        crash = pool.go(os._exit, 3)
        large = pool.go(bytes.upper, b"x" * 1_000_000)
        assert isinstance(crash.exception(SECONDS), td.WorkerDied)
        assert large.result(SECONDS) == b"X" * 1_000_000


@check
def channels_carry() -> None:
    async def main() -> list[int]:
        channel = td.Channel[int](4)

        async def feed() -> None:
            for number in range(100):
                await channel.send(number)
            channel.close()

        td.go(feed)
        first = await td.select(channel.recv(), td.after(SECONDS))
        return [first.value, *[number async for number in channel]]

    assert td.run(main) == list(range(100))


@check
def actors_answer() -> None:
    async def main() -> int:
        account = td.here.actor(Account, 100)
        replies = [account.deposit(number) for number in range(10)]
        return [await reply for reply in replies][-1]

    assert td.run(main) == 145
    with td.actor(Account, 100) as elsewhere:
        assert elsewhere.where().result(SECONDS) != os.getpid()
        assert elsewhere.deposit(5).result(SECONDS) == 105


@check
def a_space_gives_what_was_written() -> None:
    space = td.Space()
    space.write(("job", 7, "resize")).wait(SECONDS)
    assert space.take(("job", int, ...)).wait(SECONDS) == ("job", 7, "resize")


@check
def a_space_on_a_file_keeps_it() -> None:
    with td.Space("jobs.db") as space:
        space.write(("job", 8, Account(100))).wait(SECONDS)
    with td.Space("jobs.db") as space:
        assert space.take(("job", 8, ...)).wait(SECONDS)[2].amount == 100


@check
def the_command_line_answers() -> None:
    command = Path(sysconfig.get_path("scripts"), "thistledown")
    said = subprocess.run([command, "--help"], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "tree" in said.stdout, said.stdout

    async def main() -> str:
        # The window opens when a run has lasted for a moment; who is too early is told so, and asks again.
        while True:
            asked = await td.thread(subprocess.run, [command, "tree", str(os.getpid())], capture_output=True, text=True)
            if asked.returncode == 0:
                return asked.stdout

    with td.timeout(SECONDS):
        assert str(os.getpid()) in td.run(main)


def main() -> None:
    print(f"{sys.implementation.name} {sys.version.split()[0]}, thistledown {td.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for function in CHECKS:
            function()
            print(f"  {function.__name__.replace('_', ' ')}", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
