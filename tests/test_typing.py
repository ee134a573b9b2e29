"""What type checkers make of documented uses."""

import os
import pathlib
import subprocess
import sys

import pytest
import thistledown as td

PROGRAM = """
import concurrent.futures
import thistledown as td

def text(number: int) -> str: ...
def use(numbers: list[int]) -> int: ...
def use_second(number: int, numbers: list[int]) -> int: ...
async def use_later(numbers: list[int]) -> int: ...

tasks = [td.go(text, 1)]
first: str = next(concurrent.futures.as_completed(tasks)).result()
done, not_done = concurrent.futures.wait([td.go(text, 1)])
again: list[td.Task[str]] = list(td.as_completed([td.go(text, 1)]))
shared = td.share([1])
pool = td.Workers(1)

async def in_asyncio() -> list[str]:
    runner: td.Runner = td.current_runner()
    started: td.Task[str] = runner.go(text, 1)
    async with td.TaskGroup() as group:
        later: td.Task[int] = group.go(use_later, [1])
    with td.timeout(1):
        number: int = await later
    channel = td.Channel[str](1)
    received: str = await channel.recv()
    return [task.result() async for task in td.as_completed([started])]

class Account:
    def __init__(self, balance: int) -> None: ...
    def deposit(self, amount: int) -> int: ...
    async def pay(self, amount: int, *, note: str = "") -> str: ...
async def actors() -> None:
    account: td.Actor[Account] = td.here.options(name="a", mailbox=3).actor(Account, 100)
    added: int = await account.ask(Account.deposit, 5)
    paid: td.Task[str] = account.ask(Account.pay, 5, note="n")
    anything: object = await account.balance
    async with pool.actor(Account, 100) as shared_one, td.actor.options(memory="1GiB")(Account, 1) as alone:
        await shared_one.move(td.here)
        selected = await td.select(td.monitor(alone), td.monitor(paid))
    down: td.Down = await td.monitor(account)
    dead: td.Down = await td.monitor(pool.processes()[0])
    td.link(account, paid).unlink()
ended: list[str] = td.run(in_asyncio, loop=True)
count: int = td.go(use, shared).result() + td.go(use_second, 1, shared).result()
count = pool.go(use, shared).result() + pool.go(use_later, shared).result()
space = td.Space()
async def spaces() -> None:
    taken: tuple[object, ...] = await space.take(("job", int, ...))
    claimed: td.Claim = await space.take(("job", td.between(1, 2), td.one_of(int, "x")), lease=3)
    maybe: tuple[object, ...] | None = space.take_nowait(...)
    async for seen in space.watch(("job", ...)):
        with space.transaction() as act:
            await act.write(seen)
count = pool.options(timeout=1, memory="1GiB", retries=2, retry_on=ValueError, key=3).go(use, [1]).result()
"""

MISTAKES = [
    "td.go(use, 3)",
    "space.take([1])",
    "pool.go(use, 'a')",
    "pool.options(timeot=3)",
    "pool.options(retries='3')",
    "td.run(in_asyncio, loop=3)",
    "td.here.actor(Account, 'a')",
    "td.here.actor(Account, 1).ask(Account.deposit, 'a')",
    "td.here.options(timeout=3)",
    "td.monitor(3)",
]


@pytest.mark.timeout(300)
def test_documented_uses_pass_and_mistakes_do_not(tmp_path):
    lines = PROGRAM.splitlines()
    path = tmp_path / "program.py"
    path.write_text("\n".join([*lines, *MISTAKES]) + "\n")
    home = pathlib.Path(td.__file__).parents[1]
    # Installed packages are found by themselves.
    environment = os.environ if home.name == "site-packages" else {**os.environ, "MYPYPATH": str(home)}
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-empty-bodies", "--no-error-summary"]
    command.append(str(path))
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    wrong = [path.read_text().splitlines()[int(line.split(":")[1]) - 1] for line in errors]
    assert wrong == MISTAKES, done.stdout + done.stderr
