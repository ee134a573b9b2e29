"""Weightless actors, and the face of all actors: calls, order, ends, moves."""

import contextlib
import copy
import functools
import gc
import pickle
import queue
import re
import threading
import warnings
import weakref

import pytest
import thistledown as td

from support import PATIENCE, run_program, settle

# Account has them on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Account has `ask`, `stop`, as a handle has itself:RuntimeWarning")


class Other:
    def __init__(self):
        pass

    def deposit(self, amount):
        pass


class Account:
    """What it has, and every way to be asked for it."""

    limit = 1_000

    def __init__(self, balance=0):
        self.balance = balance
        self.seen = []
        self._secret = "attribute"

    def deposit(self, amount, *, note=None):
        self.balance += amount
        self.seen.append(note)
        return self.balance

    def overdraw(self):
        raise LookupError(self.balance)

    async def slowly(self, amount):
        before = self.balance
        await td.sleep(0)
        await td.sleep(0)
        self.balance = before + amount
        return self.balance

    def in_steps(self, amount):
        before = self.balance
        yield
        self.balance = before + amount
        return self.balance

    async def listed(self):
        yield self.balance

    def numbers(self):
        return (number for number in range(3))

    async def wait_for(self, gate):
        return await gate.recv()

    async def ask(self, *path):
        return await path[0].ask("ask", *path[1:]) if path else self.balance

    def stop(self, word):
        return f"stopped {word}"

    def _hidden(self):
        return "hidden"

    @property
    def doubled(self):
        return 2 * self.balance

    @staticmethod
    def sum(one, other):
        return one + other

    @classmethod
    def named(cls):
        return cls.__name__


class Bound:
    """Methods that Python makes when they are looked up."""

    def add(self, one, other):
        return one + other

    async def add_later(self, one, other):
        return one + other

    @functools.singledispatchmethod
    def kind(self, value):
        return "something"

    @kind.register
    def _(self, value: int):
        return "a number"

    increase = functools.partialmethod(add, 1)
    increase_later = functools.partialmethod(add_later, other=1)

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: args


# --- calls ---------------------------------------------------------------------------------------------------


async def test_what_functools_makes_of_a_method_is_a_method():
    bound = td.here.actor(Bound)
    assert await bound.increase(2) == 3
    assert await bound.ask("increase", 2) == 3
    assert await bound.increase_later(2) == 3
    assert [await bound.kind(value) for value in (1, "x")] == ["a number", "something"]


async def test_what_instances_alone_have_is_called_by_a_method_and_the_error_says_so(home):
    with pytest.raises(TypeError, match=r"`def call\(self, \*args\): return self\.dynamic\(\*args\)`"):
        td.here.actor(Bound).ask("dynamic", 3)


async def test_methods_are_messages_and_replies_are_tasks(home):
    account = td.here.actor(Account, 100)
    task = account.deposit(5, note="first")
    assert isinstance(task, td.Task)
    assert await task == 105
    assert await account.slowly(1) == 106
    assert await account.in_steps(1) == 107
    assert [*(await account.numbers())] == [0, 1, 2]
    assert await account.sum(1, 2) == 3
    assert await account.named() == "Account"


async def test_attributes_are_read_by_messages(home):
    account = td.here.actor(Account, 100)
    account.deposit(1)
    assert await account.balance == 101
    assert await account.doubled == 202
    assert await account.limit == 1_000
    with pytest.raises(AttributeError, match=r"'balance', and call that"):
        account.balance = 3


async def test_an_exception_is_its_calls_and_the_actor_goes_on(home):
    account = td.here.actor(Account, 7)
    with pytest.raises(LookupError, match="7"):
        await account.overdraw()
    assert await account.deposit(1) == 8


def test_an_exception_that_nobody_asks_for_is_not_lost():
    async def main():
        td.here.actor(Account).overdraw()

    with pytest.raises(LookupError):
        td.run(main)


@pytest.mark.parametrize(
    ("slip", "error", "words"),
    [
        (lambda account: account.deposti(1), AttributeError, "did you mean 'deposit'"),
        (lambda account: account.deposit(), TypeError, "missing a required argument: 'amount'"),
        (lambda account: account.deposit(1, 2), TypeError, "too many positional arguments"),
        (lambda account: account.deposit(1, nte=2), TypeError, "unexpected keyword argument 'nte'"),
        (lambda account: account.sum(1), TypeError, "missing a required argument: 'other'"),
        (lambda account: account.named(1), TypeError, "too many positional arguments"),
        (lambda account: account._hidden, AttributeError, "own affair"),
        (lambda account: account.ask("deposti"), AttributeError, "did you mean 'deposit'"),
        (lambda account: account.ask("balance", 1), TypeError, "takes no arguments"),
        (lambda account: account.ask(3), TypeError, "a method of the actor's class or its name"),
        (lambda account: account.ask(Other.deposit, 1), TypeError, r"Other.deposit is no method of .*Account, .*write"),
        (lambda account: account.ask(Other.__init__), TypeError, r"Other.__init__ is no method of .*Account"),
        (lambda account: account.ask(len), TypeError, r"len is no method of .*Account"),
        (lambda account: account.ask("__init__", 1), TypeError, "has made the actor, and is called once"),
        (lambda account: account.ask(Account.__init__, 1), TypeError, "has made the actor, and is called once"),
        (lambda account: account.ask("_nothing"), AttributeError, "no method or attribute"),
        (
            lambda account: account.listed(),
            TypeError,
            r"async generator.*`await channel\.send\(value\)`",
        ),
        (lambda account: account.ask("listed"), TypeError, "async generator"),
        (lambda account: account.ask("_secret", 1), TypeError, "is an attribute, which takes no arguments"),
        (lambda account: account.move(3), TypeError, "no place for actors"),
        (lambda account: account.move(td.Workers), TypeError, r"is a class, and no place for actors: write a pool"),
        (lambda account: account.deposit(amont=1), TypeError, "unexpected keyword argument 'amont'"),
    ],
)
async def test_a_slip_is_an_error_where_it_is_made(slip, error, words):
    account = td.here.actor(Account)
    with pytest.raises(error, match=words):
        slip(account)
    assert await account.seen == []


async def test_a_method_that_is_inherited_or_overridden_is_asked_for_by_its_class(home):
    class Base:
        def greet(self):
            return "base"

        def kind(self):
            return "base"

        @classmethod
        def made(cls):
            return cls.__name__

    class Sub(Base):
        def kind(self):
            return "sub"

    sub = td.here.actor(Sub)
    asked = [sub.ask(Base.greet), sub.ask(Sub.greet), sub.ask(Base.kind), sub.ask(Sub.kind), sub.ask(Sub.made)]
    assert [await task for task in asked] == ["base", "base", "sub", "sub", "Sub"]


async def test_a_slip_is_an_error_also_when_the_method_was_called_before(home):
    account = td.here.actor(Account)
    deposit = account.deposit
    assert await deposit(1) == 1
    for slip in (lambda: deposit(), lambda: deposit(1, 2), lambda: account.deposit(1, not_this=2)):
        with pytest.raises(TypeError, match=r"Account\.deposit"):
            slip()
    assert await deposit(1) == 2


async def test_what_ends_an_iterator_is_an_error_when_a_method_raises_it(home):
    class Empty:
        def first(self):
            return next(iter(()))

    task = td.here.actor(Empty).first()
    with contextlib.suppress(RuntimeError):
        await task
    assert isinstance(task.exception(), StopIteration)


async def test_a_method_that_was_taken_before_the_end_is_refused_after_it(home):
    stopped, killed = td.here.actor(Account), td.here.actor(Account)
    before = [stopped.deposit, killed.deposit]
    await before[0](1)
    stopped.stop()
    killed.kill()
    for deposit, error in zip(before, (td.ActorStopped, td.ActorDied), strict=True):
        with pytest.raises(error):
            deposit(1)


async def test_a_class_is_forgotten_though_its_methods_were_called(home):
    def forgotten():
        class Base:
            def add(self, number):
                return number + 1

        class Derived(Base):
            def add(self, number):
                return super().add(number)

        return td.here.actor(Derived), weakref.ref(Derived)

    actor, owner = forgotten()
    assert await actor.add(1) == 2
    assert await actor.add(2) == 3
    del actor
    gc.collect()
    assert owner() is None


async def test_names_that_the_handle_has_itself_are_asked_for(home):
    account = td.here.actor(Account, 3)
    assert await account.ask("stop", "me") == "stopped me"
    assert await account.ask(Account.stop, "me") == "stopped me"
    assert await account.ask(Account.deposit, 5, note="n") == 8
    assert await account.ask("balance") == 8
    assert await account.ask("_hidden") == "hidden"
    assert await account.ask("_secret") == "attribute"
    assert await account.ask("ask") == 8
    assert await account.ask("__module__") == __name__


async def test_what_an_instance_may_have_is_known_by_the_code_of_its_class():
    class Dynamic:
        def __init__(self):
            setattr(self, "any" + "thing", 1)

    class Open:
        def __getattr__(self, name):
            return name

    assert await td.here.actor(Dynamic).anything == 1
    assert await td.here.actor(Open).whatever == "whatever"
    with pytest.raises(AttributeError):
        await td.here.actor(Dynamic).nothing


async def test_what_the_constructor_raises_is_raised_where_the_actor_is_made():
    with pytest.raises(TypeError):
        td.here.actor(Account, 1, 2)
    with pytest.raises(TypeError, match="of a class and the arguments of its constructor, not of an instance"):
        td.here.actor(Account())
    with pytest.raises(TypeError, match="is no class"):
        td.here.actor(len)
    with pytest.raises(TypeError, match="made by"):
        td.Actor()


def test_where_no_run_is_it_says_where_actors_can_be_made():
    with pytest.raises(RuntimeError, match=r"td\.run\(main\).*td\.actor"):
        td.here.actor(Account)


# --- order, and one at a time --------------------------------------------------------------------------------


async def test_messages_of_one_sender_are_answered_in_order_and_one_at_a_time(home):
    account = td.here.actor(Account)
    tasks = [getattr(account, name)(1) for _ in range(100) for name in ("slowly", "deposit", "in_steps")]
    assert [await task for task in tasks] == list(range(1, 301))


async def test_a_hundred_actors_and_a_thousand_unguarded_increments_each_lose_nothing(home):
    actors = [td.here.actor(Account) for _ in range(100)]
    last = [actor.slowly(1) for _ in range(1_000) for actor in actors][-100:]
    assert [await task for task in last] == [1_000] * 100


async def test_one_that_waits_holds_up_no_other(home):
    gate = td.Channel(0)
    waits, works = td.here.actor(Account), td.here.actor(Account, 1)
    waiting = waits.wait_for(gate)
    queued = waits.deposit(1)
    await settle()
    assert await works.deposit(1) == 2
    assert not queued.done()
    await gate.send("go")
    assert (await waiting, await queued) == ("go", 1)


async def test_a_call_that_is_cancelled_in_the_mailbox_never_begins(home):
    gate = td.Channel(0)
    account = td.here.actor(Account)
    waiting = account.wait_for(gate)
    account.deposit(1).cancel()
    later = account.deposit(10)
    await gate.send(None)
    await waiting
    assert await later == 10


async def test_a_timeout_of_the_caller_leaves_the_actor_at_its_work(home):
    gate = td.Channel(0)
    account = td.here.actor(Account)
    waiting = account.wait_for(gate)
    with pytest.raises(TimeoutError):
        with td.timeout(0.001):
            await waiting
    await gate.send("there")
    assert await waiting == "there"


async def test_a_full_mailbox_refuses(home):
    gate = td.Channel(0)
    account = td.here.options(mailbox=2, name="small").actor(Account)
    tasks = [account.wait_for(gate), account.deposit(1)]
    for refused in (lambda: account.deposit(1), lambda: account.balance):
        with pytest.raises(td.MailboxFull, match=r"2 messages to actor small are unanswered.*mailbox"):
            refused()
    assert issubclass(td.MailboxFull, queue.Full)
    await gate.send(None)
    assert [await task for task in tasks] == [None, 1]
    assert await account.deposit(1) == 2


@pytest.mark.parametrize("mailbox", [0, -1, 1.5, True, "3", None])
def test_a_mailbox_is_a_number_of_messages(mailbox):
    with pytest.raises((TypeError, ValueError), match="mailbox"):
        td.here.options(mailbox=mailbox)


# --- cycles --------------------------------------------------------------------------------------------------


async def test_a_call_into_an_actor_that_waits_for_the_caller_is_a_deadlock():
    first, second = td.here.options(name="a").actor(Account), td.here.options(name="b").actor(Account)
    with pytest.raises(td.DeadlockError, match="which waits for it in turn"):
        await first.ask("ask", second, first)
    assert await first.ask("ask", second, td.here.actor(Account, 9)) == 9


async def test_an_actor_that_asks_itself_and_waits_is_a_deadlock():
    account = td.here.actor(Account)
    with pytest.raises(td.DeadlockError, match="its turn at its actor, which is held by the task that would wait"):
        await account.ask("ask", account)


class Leaver:
    async def leaves(self, me, how):
        await (me.stop() if how == "stop" else me.move(td.here))


@pytest.mark.parametrize("how", ["stop", "move"])
async def test_an_actor_that_waits_for_its_own_stop_or_move_is_told_so_in_plain_words(how):
    anna = td.here.options(name="anna").actor(Leaver)
    with pytest.raises(td.DeadlockError) as told:
        await anna.leaves(anna, how)
    first, behind = str(told.value).splitlines()
    assert first.startswith(
        f"anna.leaves (of Leaver) would wait for the {how} of anna, which waits for it in turn, at "
    )
    assert behind == f"  the {how} of anna waits for its turn at its actor, which is held by the task that would wait"


async def test_the_call_that_closes_a_cycle_is_taken_back():
    class Saver:
        balance = 0

        def add(self, amount):
            self.balance += amount

        async def save(self, me):
            with pytest.raises(td.DeadlockError):
                await me.add(5)
            return self.balance

    saver = td.here.actor(Saver)
    assert await saver.save(saver) == 0
    await saver.add(1)
    assert await saver.balance == 1


async def test_a_ring_of_calls_that_call_each_other_ends():
    """What is refused does not begin, or each refusal would be followed by the next ring."""

    class Talker:
        calls = 0

        async def talk(self, other, me):
            Talker.calls += 1
            return await other.talk(me, other)

    one, other = td.here.actor(Talker), td.here.actor(Talker)
    with pytest.raises(td.DeadlockError):
        await one.talk(other, one)
    await one.stop()
    await other.stop()
    assert Talker.calls == 2


async def test_a_longer_cycle_is_a_deadlock_and_a_chain_is_none():
    actors = [td.here.actor(Account, number) for number in range(50)]
    assert await actors[0].ask("ask", *actors[1:], td.here.actor(Account, 99)) == 99
    with pytest.raises(td.DeadlockError):
        await actors[0].ask("ask", *actors[1:], actors[0])


# --- ends ----------------------------------------------------------------------------------------------------


async def test_stop_answers_what_was_asked_before_and_refuses_what_comes_after(home):
    account = td.here.actor(Account)
    tasks = [account.slowly(1) for _ in range(3)]
    stopping = account.stop()
    again = account.stop()
    with pytest.raises(td.ActorStopped, match="takes no more messages"):
        account.deposit(1)
    await stopping
    await again
    assert [task.result() for task in tasks] == [1, 2, 3]
    with pytest.raises(td.ActorStopped):
        account.ask("balance")
    await account.stop()
    account.kill()


async def test_who_cancels_a_stop_waits_no_more_and_the_actor_ends_all_the_same(home):
    gate, account = td.Channel(0), td.here.actor(Account, 7)
    waiting, monitor = account.wait_for(gate), td.monitor(account)
    stops = [account.stop() for _ in range(3)]
    await settle()
    assert stops[0].cancel()
    with pytest.raises(td.TaskCancelled):
        await stops[0]
    with pytest.raises(td.ActorStopped):
        account.deposit(1)
    assert stops[2].cancel()
    await gate.send("through")
    assert await waiting == "through"
    await stops[1]
    assert (await monitor).reason == "normal"


async def test_who_waits_for_a_stop_no_longer_than_he_has_time_does_not_undo_it(home):
    gate, account = td.Channel(0), td.here.actor(Account)
    waiting, monitor = account.wait_for(gate), td.monitor(account)
    stopping = account.stop()
    await settle()
    stopping.cancel()
    await gate.send("through")
    assert await waiting == "through"
    assert (await monitor).reason == "normal"


async def test_kill_fails_what_is_begun_and_what_is_queued(home):
    gate = td.Channel(0)
    account = td.here.actor(Account)
    tasks = [account.wait_for(gate), *(account.deposit(1) for _ in range(100))]
    await settle()
    account.kill()
    account.kill()
    for task in tasks:
        with pytest.raises(td.ActorDied, match="it was killed"):
            await task
    with pytest.raises(td.ActorDied):
        account.deposit(1)
    await account.stop()


def test_killed_calls_that_nobody_asks_for_are_no_errors_of_the_run():
    async def main():
        account = td.here.actor(Account)
        account.wait_for(td.Channel(0))
        account.deposit(1)
        await settle()
        account.kill()

    td.run(main)


async def test_one_that_is_killed_while_it_is_being_stopped_has_ended(home):
    account = td.here.actor(Account)
    waiting = account.wait_for(td.Channel(0))
    stopping = account.stop()
    await settle()
    account.kill()
    await stopping
    with pytest.raises(td.ActorDied):
        await waiting


async def test_a_block_stops_the_actor_and_kills_it_when_it_fails(home):
    async with td.here.actor(Account) as account:
        answered = account.slowly(1)
    assert answered.result() == 1
    with pytest.raises(td.ActorStopped):
        account.deposit(1)
    with pytest.raises(LookupError):
        async with td.here.actor(Account) as account:
            waiting = account.wait_for(td.Channel(0))
            raise LookupError
    with pytest.raises(td.ActorDied):
        await waiting
    with td.here.actor(Account) as account:
        pass
    await account.stop()


async def test_an_actor_that_is_given_up_is_freed_when_it_has_answered(home):
    account = td.here.actor(Account)
    instance = weakref.ref(account._box._instance)
    task = account.slowly(1)
    del account
    assert instance() is not None
    assert await task == 1
    del task
    gc.collect()
    assert instance() is None


async def test_one_that_has_ended_lets_go_of_its_state(home):
    account = td.here.actor(Account)
    instance = weakref.ref(account._box._instance)
    await account.stop()
    gc.collect()
    assert instance() is None
    assert account.name.startswith("Account-")


def test_actors_that_are_alive_do_not_hold_up_the_end_of_the_run():
    kept = []

    async def main():
        account = td.here.actor(Account)
        kept.append(account)
        await account.deposit(1)

    td.run(main)
    with pytest.raises(td.ActorDied, match="the run that it lived in is over"):
        kept[0].deposit(1)
    kept[0].stop().result(0)
    assert td.monitor(kept[0]).wait(0).who is kept[0]


# --- handles -------------------------------------------------------------------------------------------------


async def test_handles_say_what_they_are_of(home):
    account, other = td.here.options(name="savings").actor(Account), td.here.actor(Account)
    assert (account.name, account.place) == ("savings", td.here)
    assert repr(account) == "<thistledown.Actor savings>"
    assert repr(account.deposit) == "<method Account.deposit of savings>"
    assert {"deposit", "balance", "ask", "stop"} - set(dir(account)) == {"balance"}
    assert account in {account}
    assert account not in (other, 3)


async def test_a_handle_that_is_pickled_and_unpickled_in_its_process_is_of_the_same_actor():
    account = td.here.actor(Account)
    again = pickle.loads(pickle.dumps(account))
    assert again == account
    assert await again.deposit(5) == 5
    assert await account.balance == 5
    await account.stop()


async def test_a_class_with_a_name_that_the_handle_has_is_warned_of_once():
    class Robot:
        def __init__(self):
            self.place = "shed"

        def stop(self):
            return "stands"

        @property
        def name(self):
            return "Marvin"

    with pytest.warns(RuntimeWarning, match=r"Robot has `name`, `stop`, as a handle has itself: ") as caught:
        robot = td.here.actor(Robot)
    assert caught[0].filename == __file__
    assert "`handle.name` is the handle's, and `handle.ask('name', ...)` that of the actor" in str(caught[0].message)
    assert (await robot.ask("name"), await robot.ask(Robot.stop)) == ("Marvin", "stands")
    await robot.stop()
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        await td.here.actor(Robot).stop()
    assert again == []


def test_a_supervised_class_with_a_name_that_the_handle_has_is_warned_of():
    class Robot:
        def move(self):
            pass

    with pytest.warns(RuntimeWarning, match=r"Robot has `move`, as a handle has itself: ") as caught:
        td.Supervisor([Robot])
    assert caught[0].filename == __file__


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
async def test_a_copy_of_a_handle_is_the_handle_and_keeps_no_actor_alive(copied):
    account = td.here.actor(Account)
    assert copied(account) is account
    assert copied({"account": account})["account"] is account
    instance = weakref.ref(account._box._instance)
    del account
    await settle()
    gc.collect()
    assert instance() is None


def test_calls_from_other_threads_go_to_the_run_of_the_actor():
    ready, done = threading.Event(), threading.Event()
    shared = []

    async def main():
        shared.append(td.here.actor(Account))
        shared.append(threading.get_ident())
        ready.set()
        await td.thread(done.wait, PATIENCE)
        return await shared[0].balance

    def other():
        assert ready.wait(PATIENCE)
        with contextlib.ExitStack() as stack:
            stack.callback(done.set)
            account = shared[0]
            assert [account.deposit(1).result(PATIENCE) for _ in range(100)] == list(range(1, 101))
            tasks = [account.slowly(1) for _ in range(100)]
            results.extend(task.result(PATIENCE) for task in tasks)
            account.stop()

    results = []
    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(td.ActorStopped):
        td.run(main)
    thread.join(PATIENCE)
    assert results == list(range(101, 201))


# --- moving --------------------------------------------------------------------------------------------------


async def test_an_actor_moves_and_its_queue_and_handles_follow(home):
    account = td.here.options(name="mover", mailbox=500).actor(Account, 100)
    number = hash(account)
    before = [account.slowly(1) for _ in range(3)]
    moving = account.move(td.here)
    after = [account.slowly(1) for _ in range(3)]
    stopping = account.stop()
    assert [await task for task in before + after] == [101, 102, 103, 104, 105, 106]
    await moving
    await stopping
    assert (account.name, account.place, hash(account)) == ("mover", td.here, number)
    with pytest.raises(td.ActorStopped):
        account.deposit(1)


async def test_an_actor_that_cannot_move_stays_and_goes_on(home):
    account = td.here.actor(Account)
    await account.deposit(1, note=threading.Lock())
    moving = account.move(td.here)
    later = account.deposit(1)
    with pytest.raises(td.NotPicklable):
        await moving
    assert await later == 2


async def test_an_actor_moves_on_and_on_and_can_be_killed_there(home):
    account = td.here.actor(Account)
    for _ in range(5):
        await account.move(td.here)
    gate = td.Channel(0)
    waiting = account.wait_for(gate)
    await settle()
    account.kill()
    with pytest.raises(td.ActorDied):
        await waiting


# --- a great many --------------------------------------------------------------------------------------------


def test_idle_actors_are_small():
    done = run_program(
        """
        import gc
        import thistledown as td

        class Tiny:
            __slots__ = ("count",)
            def __init__(self):
                self.count = 0
            def increment(self):
                self.count += 1
                return self.count

        def resident():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096

        async def main():
            count = 200_000
            one = td.here.actor(Tiny)
            kept = [None] * count
            gc.collect()
            before = resident()
            for number in range(count):
                kept[number] = td.here.actor(Tiny)
                if number % 1000 == 0:
                    await td.sleep(0)
            each = (resident() - before) / count
            assert each < 300, each
            assert [await kept[number].increment() for number in (0, -1)] == [1, 1]
            print("small")

        td.run(main)
        """
    )
    assert done.stdout == "small\n", done.stderr


# --- what is said of a circle --------------------------------------------------------------------------------


async def test_a_circle_of_calls_is_told_without_keys_and_places_that_nobody_has_written():
    class Talker:
        async def talk(self, *path):
            return await path[0].talk(*path[1:])

    one, other = td.here.actor(Talker), td.here.actor(Talker)
    with pytest.raises(td.DeadlockError) as caught:
        await one.talk(other, one)
    first, *lines = str(caught.value).splitlines()
    assert re.search(r"Talker-\d+\.talk, which waits for it in turn, at .*test_actors\.py:\d+:$", first)
    assert any(re.search(r"waits for its turn at its actor, which .*Talker-\d+\.talk holds$", line) for line in lines)
    assert not any("no line" in line or "its key" in line for line in lines)


class Clerk:
    async def file(self, *path):
        return await path[0].file(*path[1:])


async def test_a_circle_of_calls_names_each_actor_and_what_it_was_asked():
    anna, bert = td.here.options(name="anna").actor(Clerk), td.here.options(name="bert").actor(Clerk)
    with pytest.raises(td.DeadlockError) as caught:
        await anna.file(bert, anna)
    first, *lines = str(caught.value).splitlines()
    asked = "bert.file (of Clerk) would wait for the end of task anna.file (of Clerk), which waits for it in turn"
    assert first.startswith(asked)
    assert any(
        line.startswith("  anna.file (of Clerk) waits for the end of task bert.file (of Clerk)") for line in lines
    )
    assert "  anna.file (of Clerk) waits for its turn at its actor, which anna.file (of Clerk) holds" in lines
    assert "Clerk.file-" not in str(caught.value)


def test_a_run_in_which_nothing_can_happen_names_each_actor_and_what_it_was_asked():
    done = run_program(
        """
        import thistledown as td

        class Clerk:
            async def file(self):
                await td.Channel().recv()

        async def main():
            await td.here.options(name="anna").actor(Clerk).file()

        try:
            td.run(main)
        except td.DeadlockError as error:
            print(error)
        """
    )
    lines = done.stdout.splitlines()
    assert any("waits for the end of task anna.file (of Clerk)" in line for line in lines), done.stderr
    assert any(line.startswith("  anna.file (of Clerk) waits for recv from channel") for line in lines)


def test_a_method_of_an_actor_that_is_told_to_go_is_an_error_that_says_what_to_write():
    async def main():
        account = td.here.actor(Account, 1)
        for start in (td.go, td.here.go):
            with pytest.raises(TypeError, match=r"write `handle\.deposit\(\.\.\.\)`"):
                start(account.deposit, 3)
        async with td.TaskGroup() as group:
            with pytest.raises(TypeError, match=r"write `handle\.deposit\(\.\.\.\)`"):
                group.go(account.deposit, 3)
        await account.deposit(3)
        return await account.balance

    assert td.run(main) == 4
    with pytest.raises(TypeError, match="a task as soon as it is called"):
        td.run(td.run(handle).deposit)


async def handle():
    return td.here.actor(Account)
