"""A service that goes on although parts of it die: a ledger in a process of its own, and a watchman, supervised.

    python examples/supervised_service.py [--clients N] [--crashes N]

Clients send payments to a ledger, an actor in a worker process. Now and then a vandal sends an order that kills that
process, as a fault in C code would. The supervisor starts the next ledger, which reads what the dead one had written
down; the clients keep the handle that they had, and ask once more when they are told that their call has died with the
ledger. A watchman in the same tree sees each death. At the end the books are right, to the last payment.
"""

import argparse
import logging
import os
import tempfile
from pathlib import Path

import thistledown as td


class Ledger:
    """Payments, each with the number of who paid: written down before they are acknowledged, and known by that."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.known = set(path.read_text().splitlines())
        self.file = path.open("a")

    def pay(self, number: str) -> int:
        # Who asks again after a death does not pay twice.
        if number not in self.known:
            self.known.add(number)
            print(number, file=self.file, flush=True)
        return len(self.known)

    def break_down(self) -> None:
        os._exit(70)


async def watch(supervisor: td.Supervisor, deaths: td.Channel[str]) -> None:
    """Tells of each death of the ledger."""
    end = td.monitor(supervisor["ledger"])
    while True:
        down = await end
        await supervisor["ledger"].pay("the watchman's own")
        end = td.monitor(supervisor["ledger"])
        await deaths.send(str(down.reason))


async def client(ledger: "td.Actor[Ledger]", name: int, payments: int) -> None:
    for number in range(payments):
        while True:
            try:
                await ledger.pay(f"{name}/{number}")
                break
            except td.ActorDied:
                continue  # Nobody knows whether it was written down: asked again, it is once.


async def vandal(ledger: "td.Actor[Ledger]", deaths: td.Channel[str], crashes: int) -> None:
    for number in range(crashes):
        try:
            await ledger.break_down()
        except td.ActorDied:
            print(f"death {number + 1}: {await deaths.recv()}")


async def main(path: Path, clients: int, payments: int, crashes: int) -> None:
    deaths: td.Channel[str] = td.Channel(1)
    supervisor = td.Supervisor([td.child(Ledger, path).options(name="ledger")], max_restarts=crashes, name="bank")
    async with supervisor:
        ledger = supervisor["ledger"]
        await supervisor.start_child(td.child(watch, supervisor, deaths))
        async with td.TaskGroup() as group:
            group.go(vandal, ledger, deaths, crashes)
            for name in range(clients):
                group.go(client, ledger, name, payments)
        print(td.tree().find("bank"))
        print(f"{await ledger.pay('the last')} payments in the books, of {clients * payments + 2}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A supervised service.")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--payments", type=int, default=20)
    parser.add_argument("--crashes", type=int, default=3)
    given = parser.parse_args()
    logging.getLogger("thistledown.supervisor").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        td.run(main, Path(folder) / "ledger", given.clients, given.payments, given.crashes)
