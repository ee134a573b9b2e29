"""Wish 6: it is natural to make an object an actor. The way of working goes together with objects, and changes none.

The point: a class stays what it is. Told to live in a box of its own, it answers one message at a time, so that even
its waits are safe: nobody comes in between. The figures: a hundred deposits at once, into an object that tasks share,
and into the same object as an actor; and what an error in one message leaves of the rest.

Source: B. Eckel's list, in S. Hathaway's mail to python-dev (September 2005); told in our own words.
"""

from collections.abc import Awaitable
from typing import Protocol

import thistledown as td


class Account:
    def __init__(self) -> None:
        self.balance = 0

    async def deposit(self, amount: int) -> int:
        if amount < 0:
            raise ValueError("deposits are positive")
        balance = self.balance
        await td.sleep(0)  # asks somebody else; meanwhile another deposit may come
        self.balance = balance + amount
        return self.balance


class TakesDeposits(Protocol):
    def deposit(self, amount: int) -> Awaitable[int]: ...


async def deposit(account: TakesDeposits) -> None:
    await account.deposit(1)


async def deposit_a_hundred_times(account: TakesDeposits) -> None:
    async with td.TaskGroup() as group:
        for _ in range(100):
            group.go(deposit, account)


async def main() -> None:
    shared = Account()
    await deposit_a_hundred_times(shared)
    print("a shared object: balance", shared.balance)

    account = td.here.actor(Account)
    await deposit_a_hundred_times(account)
    print("an actor: balance", await account.balance)

    results = [account.deposit(amount) for amount in (5, -5, 5)]  # messages: each has its task, and keeps its turn
    for result in results:
        try:
            print(await result, end=" ")
        except ValueError as error:
            print(f"({error})", end=" ")
    print("- and it goes on")


td.run(main)
