"""Tasks of one set never overlap, tasks of disjoint sets run on several processors, and no lock is needed.

Each account is a file that many tasks read, change and write again. A task says which account it is about, by `key`:
then no other task of that account runs at the same time, and they run in the order in which they were started. Without
the key some deposits would be lost.

Source: M. Blais, cooperative MT (python-dev, October 2005); told in our own words.
"""

import itertools
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import thistledown as td

ACCOUNTS = ("red", "green", "blue")
DEPOSITS = 20


class Turn(NamedTuple):
    """When a task ran; all processes of a machine have the same clock."""

    account: str
    number: int
    begin: float
    end: float

    def overlaps(self, other: "Turn") -> bool:
        return self.begin < other.end and other.begin < self.end


def deposit(folder: Path, account: str, number: int) -> Turn:
    begin = time.monotonic()
    file = folder / account
    balance = int(file.read_text()) if file.exists() else 0
    time.sleep(0.002)  # somebody else would have the time to read the same balance
    file.write_text(str(balance + 1))
    return Turn(account, number, begin, time.monotonic())


with td.Workers(max(2, len(ACCOUNTS))) as pool, tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    tasks = [
        pool.options(key=account).go(deposit, folder, account, number)
        for number in range(DEPOSITS)
        for account in ACCOUNTS
    ]
    turns = sorted((task.result() for task in tasks), key=lambda turn: turn.begin)
    for account in ACCOUNTS:
        numbers = [turn.number for turn in turns if turn.account == account]
        in_order = "in order" if numbers == sorted(numbers) else "out of order"
        print(f"{account}: {(folder / account).read_text()} of {DEPOSITS} deposits, {in_order}")

pairs = [(one, other) for one, other in itertools.combinations(turns, 2) if one.overlaps(other)]
same = sum(one.account == other.account for one, other in pairs)
print(f"at the same time: {same} pairs of one account, {len(pairs) - same} of different ones")
