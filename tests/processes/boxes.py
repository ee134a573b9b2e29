"""Actors for tests of boxes in worker processes, and how one is made in a pool of the test's own."""

import os
import signal
import threading

import thistledown as td
import work
from thistledown._actors import handle
from thistledown._boxes_workers import make

from support import PATIENCE


def alone(pool, owner, *args, **options):
    """An actor in a worker of its own, as `td.actor` makes it, in this pool."""
    return handle(make(pool, True, options, owner, (args, {})))


class Account:
    """One that does everything that can be asked of an actor."""

    def __init__(self, balance=0, fail=None):
        if fail is not None:
            raise fail
        self.balance = balance
        self.partner = None
        self.interleaved = False
        self.inside = 0

    def deposit(self, amount=1):
        before = self.balance
        self.balance = before + amount
        return self.balance

    def fail(self, error):
        raise error

    def pid(self):
        return os.getpid()

    async def ring(self):
        return await self.partner.ring()

    def echo(self, value):
        return value

    def pass_gate(self, path):
        work.pass_gate(path)
        return self.balance

    async def await_gate(self, path):
        self._enter()
        await td.thread(work.pass_gate, path)
        self.inside -= 1
        return self.balance

    def gate_generator(self, path):
        self._enter()
        yield from td.thread(work.pass_gate, path)
        self.inside -= 1
        return self.balance

    def _enter(self):
        self.interleaved |= self.inside > 0
        self.inside += 1

    def swallow(self, path):
        """Does not stop when it is told to."""
        while True:
            try:
                work.pass_gate(path)
            except BaseException:
                continue

    def end(self, way):
        os._exit(way) if way >= 0 else os.kill(os.getpid(), -way)

    def give_what_cannot_be_sent(self):
        return (one for one in ())

    def hold_what_cannot_be_sent(self):
        self.partner = (one for one in ())

    def meet(self, partner):
        self.partner = partner

    def ask_partner(self, amount=1):
        return self.partner.deposit(amount).result(PATIENCE)

    async def await_partner(self, method, *args):
        return await self.partner.ask(method, *args)

    def plainly(self, method, *args):
        return self.partner.ask(method, *args).result()

    def in_a_run(self, method, *args):
        return td.run(self.await_partner, method, *args)

    def in_time_in_a_run(self, method, *args):
        return td.run(self.await_in_time, method, *args)

    def after_a_run(self, method, *args):
        """The run asks for something and does not wait for it."""
        asked = []

        async def asks():
            asked.append(self.partner.ask(method, *args))

        td.run(asks)
        with td.move_on_after(0.1):
            asked[0].result()
        return "waited"

    async def await_in_time(self, method, *args):
        with td.move_on_after(0.1):
            return await self.partner.ask(method, *args)
        return "had a way out"


class Diary:
    """Remembers words, and stands at a gate before it is pickled."""

    def __init__(self, path):
        self.path = path
        self.words = []

    def note(self, word, _=None):
        self.words.append(word)

    def __getstate__(self):
        work.pass_gate(self.path)
        return vars(self)


class Stuck:
    """A number that does not come out of its pickle before it may, where that is unpickled."""

    begins, may = threading.Event(), threading.Event()

    def __reduce__(self):
        return Stuck.pass_on, ()

    @staticmethod
    def pass_on():
        Stuck.begins.set()
        assert Stuck.may.wait(PATIENCE)
        return 5


class Doomed:
    """Its process ends while it is made."""

    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def deposit(self):
        pass


class Hoarder:
    """Takes all memory that it is given."""

    def hoard(self):
        heap = []
        while True:
            heap.append(bytearray(1_000_000))


class Unwilling:
    """Does not come out of its pickle."""

    def __reduce__(self):
        return int, ("no number",)


def use(actor, amount):
    """In a worker: asks an actor, and waits."""
    return actor.deposit(amount).result(PATIENCE)


def flood(actor, path, count):
    """In a worker: fills a mailbox."""
    tasks = [actor.pass_gate(path), *(actor.deposit() for _ in range(count))]
    return [type(task.exception(PATIENCE)).__name__ for task in tasks[2:]]


def make_and_use():
    """In a worker: has an actor of the same pool made."""
    with td.workers().actor(Account, 5) as account:
        return account.deposit(2).result(PATIENCE), account.pid().result(PATIENCE), os.getpid()
