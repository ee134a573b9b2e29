"""Cycles of waits that no process has as a whole: calls of actors in other processes that wait for who calls."""

import asyncio
import contextlib
import threading

import pytest
import thistledown as td
import work
from boxes import alone
from pools import Workers

from support import PATIENCE

pytestmark = pytest.mark.usefixtures("no_exchange_left")


class Clerk:
    """Counts what was filed, and has others do what it is asked."""

    def __init__(self):
        self.filed = 0
        self.told = []

    def file(self):
        self.filed += 1
        return self.filed

    async def has_done(self, pool, function, *args):
        return await pool.go(function, *args)

    def has_done_by_generator(self, pool, function, *args):
        return (yield from pool.go(function, *args))

    async def has_done_in_group(self, pool, function, *args):
        async with td.TaskGroup() as group:
            group.go(td.sleep(0))
            done = group.go(self.has_done, pool, function, *args)
        return done.result()

    async def has_done_and_goes_on(self, pool, function, *args):
        try:
            return await pool.go(function, *args)
        except td.DeadlockError as error:
            self.told.append(str(error))
            return "went on"

    async def has_asked(self, way, *others):
        """Asks the first of the others to ask the rest, and so on; the last is to file."""
        first, *rest = others
        return await (first.ask("has_asked", way, *rest) if rest else first.file())

    def plainly_has_asked(self, way, *others):
        first, *rest = others
        return (first.ask(way, way, *rest) if rest else first.file()).result()

    def has_asked_in_a_run(self, way, *others):
        return td.run(self.has_asked, way, *others)

    async def has_asked_all(self, way, *others):
        """What it asks is a member of a group, at whose end it waits."""
        first, *rest = others
        async with td.TaskGroup() as group:
            group.go(td.sleep(0))
            done = group.add(first.ask(way, way, *rest) if rest else first.file())
        return done.result()

    def plainly_has_asked_all(self, way, *others):
        first, *rest = others
        with td.TaskGroup() as group:
            done = group.add(first.ask(way, way, *rest) if rest else first.file())
        return done.result()

    async def begins(self, pool, function, *args):
        """What it starts waits for its end, and it does not wait for that."""
        self.begun = pool.go(function, *args)
        return "begun"

    async def has_done_later(self, pool, gate, function, *args):
        """Waits when who was asked waits already."""
        task = pool.go(function, *args)
        await td.thread(work.pass_gate, gate)
        return await task

    async def has_done_in_time(self, pool, function, *args):
        self.begun = pool.go(function, *args)
        with td.move_on_after(0.5):
            return await self.begun
        return "had a way out"

    async def has_done_or_not(self, pool, function, *args):
        self.begun = pool.go(function, *args)
        return (await td.select(self.begun, td.after(0.5))).index

    async def waits_at(self, gate):
        await td.thread(work.pass_gate, gate)
        return self.filed


def plainly(clerk):
    return clerk.file().result()


async def awaited(clerk):
    return await clerk.file()


def by_generator(clerk):
    return (yield from clerk.file())


async def in_group(clerk):
    async with td.TaskGroup() as group:
        done = group.go(awaited, clerk)
    return done.result()


def in_a_run_of_its_own(clerk):
    return td.run(awaited, clerk)


def in_time_around_a_run(clerk):
    """The limit ends no wait of the run's tasks."""
    with td.move_on_after(PATIENCE):
        return td.run(awaited, clerk)


def in_a_group_of_a_run(clerk):
    return td.run(in_group, clerk)


def in_a_plain_group(clerk):
    """One of its tasks waits for who waits for the group, and the other for nobody."""
    with td.TaskGroup() as group:
        group.go(work.double, 1)
        done = group.go(plainly, clerk)
    return done.result()


def asked_in_a_plain_group(clerk):
    with td.TaskGroup() as group:
        group.go(work.double, 1)
        done = group.add(clerk.file())
    return done.result()


async def asked_in_a_group(clerk):
    async with td.TaskGroup() as group:
        done = group.add(clerk.file())
    return done.result()


def asked_in_a_group_of_a_run(clerk):
    return td.run(asked_in_a_group, clerk)


def in_a_plain_group_in_a_run(clerk):
    with td.TaskGroup() as group:
        done = group.go(in_a_run_of_its_own, clerk)
    return done.result()


def asked_only(clerk):
    clerk.file()
    return "asked"


def in_time(clerk):
    try:
        return clerk.file().result(0.5)
    except TimeoutError:
        return "had a way out"


def in_time_of_a_block(clerk):
    with td.move_on_after(0.5):
        return clerk.file().result()
    return "had a way out"


def in_time_of_an_asyncio_task(clerk):
    """Whose loop stands still meanwhile; its limit holds all the same."""

    async def main():
        with td.move_on_after(0.5):
            return clerk.file().result()
        return "had a way out"

    return asyncio.run(main())


def in_time_in_a_run(clerk):
    return td.run(in_time_awaited, clerk)


def in_time_around_what_is_asked_in_a_group(clerk):
    with td.move_on_after(0.5):
        return asked_in_a_plain_group(clerk)
    return "had a way out"


async def in_time_around_what_is_asked(clerk):
    with td.move_on_after(0.5):
        return await asked_in_a_group(clerk)
    return "had a way out"


def in_time_around_a_group(clerk):
    with td.move_on_after(0.5):
        return in_a_plain_group(clerk)
    return "had a way out"


async def or_not(clerk):
    return "had a way out" if (await td.select(clerk.file(), td.after(0.5))).index == 1 else "was answered"


def or_not_in_a_run(clerk):
    return td.run(or_not, clerk)


async def in_time_awaited(clerk):
    with td.move_on_after(0.5):
        return await clerk.file()
    return "had a way out"


def told(clerk):
    """The wait ends with the error, and the task goes on."""
    try:
        clerk.file().result()
    except td.DeadlockError as error:
        return str(error)


def has_done_by(function, *args):
    """One worker more in the chain."""
    return td.workers().go(function, *args).result()


def amid_news(clerk, other):
    """While this process is told of one call after another: when it has been told there is more already."""
    is_over = threading.Event()

    def again(_=None):
        if not is_over.is_set():
            call = other.file()
            call.add_done_callback(again)
            call.result(PATIENCE)

    again()
    try:
        return clerk.file().result()
    finally:
        is_over.set()


def ask(actor, method, *args):
    return actor.ask(method, *args).result()


def in_a_run(body, *args):
    async def in_time(pool):
        await pool.go(work.double, 1)
        with td.timeout(PATIENCE):
            await body(pool, *args)

    with Workers(2) as pool:
        td.run(in_time(pool))


@contextlib.contextmanager
def refused(match="which waits for it in turn"):
    with pytest.raises(td.DeadlockError, match=match) as told:
        yield told


@pytest.mark.parametrize("way", ["has_done", "has_done_by_generator", "has_done_in_group"])
@pytest.mark.parametrize(
    "function",
    [
        plainly,
        awaited,
        by_generator,
        in_group,
        in_a_run_of_its_own,
        in_time_around_a_run,
        in_a_group_of_a_run,
        in_a_plain_group,
        in_a_plain_group_in_a_run,
        asked_in_a_plain_group,
        asked_in_a_group,
        asked_in_a_group_of_a_run,
    ],
)
def test_a_task_that_calls_the_actor_that_waits_for_it_is_told(way, function):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        with pytest.raises((td.DeadlockError, ExceptionGroup)) as told:
            await clerk.ask(way, pool, function, clerk)
        error = told.value
        while isinstance(error, ExceptionGroup):
            [error] = error.exceptions
        assert isinstance(error, td.DeadlockError)
        assert await clerk.file() == 1, "what was refused was not done"

    in_a_run(main)


def test_the_error_names_the_chain():
    async def main(pool):
        clerk = td.here.options(name="anna").actor(Clerk)
        with refused() as told:
            await clerk.has_done(pool, has_done_by, plainly, clerk)
        first, *lines = str(told.value).splitlines()
        assert "would wait for anna.file, which waits for it in turn:" in first
        assert any(line.startswith("  anna.file (of Clerk), in process") for line in lines)
        assert any(line.endswith("stands behind anna.has_done (of Clerk)") for line in lines)
        assert any("anna.has_done (of Clerk), in process" in line and "waits for" in line for line in lines)
        assert any("has_done_by" in line and "in worker" in line and "plainly" in line for line in lines)
        assert lines[-1].endswith("waits for anna.file")

    in_a_run(main)


def test_the_error_tells_of_a_task_by_its_whole_name():
    async def main(pool):
        clerk = td.here.options(name="anna").actor(Clerk)
        with refused("^wash, in cold water would wait for anna.file"):
            await clerk.has_done(pool.options(name="wash, in cold water"), plainly, clerk)

    in_a_run(main)


def test_the_limit_of_a_whole_task_is_no_way_out_of_its_waits():
    async def main(pool):
        clerk = td.here.actor(Clerk)
        for function in (plainly, awaited):
            with refused():
                await clerk.has_done(pool.options(timeout=PATIENCE), function, clerk)
        with refused():
            await clerk.has_done(pool.options(timeout=PATIENCE), has_done_by, plainly, clerk)
        assert await clerk.filed == 0

    in_a_run(main)


def test_who_is_told_can_go_on_and_what_was_refused_is_not_done():
    async def main(pool):
        clerk = td.here.actor(Clerk)
        assert "waits for it in turn" in await clerk.has_done(pool, told, clerk)
        assert await clerk.filed == 0
        assert await clerk.has_done_and_goes_on(pool, plainly, clerk) == "went on"
        assert await clerk.filed == 0
        assert len(await clerk.told) == 1

    in_a_run(main)


WAYS = ["has_asked", "plainly_has_asked", "has_asked_in_a_run", "has_asked_all", "plainly_has_asked_all"]


@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_a_cycle_by_way_of_an_actor_in_a_worker(kind):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        other = pool.actor(Clerk) if kind == "shared" else alone(pool, Clerk)
        for way in WAYS:
            with refused():
                await clerk.has_asked(way, other, clerk)
            with refused():
                await clerk.has_done(pool, ask, other, way, way, clerk)
        assert await clerk.filed == 0

    in_a_run(main)


def test_a_cycle_by_way_of_two_pools():
    async def main(pool):
        with Workers(1) as second:
            clerk, there, elsewhere = td.here.actor(Clerk), pool.actor(Clerk), second.actor(Clerk)
            with refused():
                await clerk.has_asked("has_asked", there, elsewhere, clerk)
            assert await clerk.has_asked("has_asked", there, elsewhere, td.here.actor(Clerk)) == 1
            with refused():
                await there.has_asked("has_asked", elsewhere, there)
            with refused():
                await there.has_asked_all("has_asked_all", elsewhere, there)
            assert [await one.filed for one in (clerk, there, elsewhere)] == [0, 0, 0]

    in_a_run(main)


async def with_one_of_its_own(handles, ends):
    """In a worker: a weightless actor there, whose handle is sent."""
    clerk = td.here.options(name="berta").actor(Clerk)
    await handles.send(clerk)
    await ends.recv()


def test_weightless_actors_of_two_processes_that_call_each_other():
    async def main(pool):
        handles, ends = td.Channel(1), td.Channel(1)
        task = pool.go(with_one_of_its_own, handles, ends)
        here, there = td.here.options(name="anna").actor(Clerk), await handles.recv()
        with refused() as told:
            await here.has_asked("has_asked", there, here)
        assert "anna.has_asked" in str(told.value)
        assert "berta.has_asked" in str(told.value)
        with refused():
            await there.has_asked("has_asked", here, there)
        assert [await here.filed, await there.filed] == [0, 0]
        await ends.send(None)
        await task

    in_a_run(main)


def test_the_handle_of_a_supervised_actor():
    async def main(pool):
        async with td.Supervisor([td.child(Clerk).options(name="clerk", place=td.here)]) as supervisor:
            clerk = supervisor["clerk"]
            with refused():
                await clerk.has_done(pool, plainly, clerk)
            assert await clerk.filed == 0

    in_a_run(main)


def test_the_last_wait_closes_the_cycle_also_when_it_is_none_of_a_far_call(gate):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        task = clerk.has_done_later(pool, gate.path, plainly, clerk)
        await td.thread(gate.wait_for_arrivals)
        gate.open()
        with refused():
            await task
        assert await clerk.filed == 0

    in_a_run(main)


def test_a_cycle_is_told_also_where_there_is_other_news_all_the_time():
    async def main(pool):
        clerk, other = td.here.actor(Clerk), td.here.actor(Clerk)
        with refused():
            await clerk.has_done(pool, amid_news, clerk, other)
        assert await clerk.filed == 0
        assert await other.filed > 0

    in_a_run(main)


# --- what is none ---------------------------------------------------------------------------------------------------


def test_a_call_that_is_not_awaited_closes_nothing():
    async def main(pool):
        clerk = td.here.actor(Clerk)
        assert await clerk.has_done(pool, asked_only, clerk) == "asked"
        assert await clerk.begins(pool, plainly, clerk) == "begun"
        assert await (await clerk.begun) in (1, 2)

    in_a_run(main)


@pytest.mark.parametrize(
    "function",
    [
        in_time,
        in_time_of_a_block,
        in_time_awaited,
        in_time_of_an_asyncio_task,
        in_time_in_a_run,
        in_time_around_a_group,
        in_time_around_what_is_asked_in_a_group,
        in_time_around_what_is_asked,
        or_not_in_a_run,
    ],
)
def test_a_call_with_a_limit_of_time_closes_nothing(function):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        assert await clerk.has_done(pool, function, clerk) == "had a way out"

    in_a_run(main)


@pytest.mark.parametrize(("way", "gives"), [("has_done_in_time", "had a way out"), ("has_done_or_not", 1)])
def test_a_wait_of_the_actor_with_another_way_out_closes_nothing(way, gives):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        assert await clerk.ask(way, pool, plainly, clerk) == gives
        # Who was given up is answered after all.
        assert sorted([await clerk.file(), await (await clerk.begun)]) == [1, 2]

    in_a_run(main)


def test_who_waits_long_behind_others_is_no_cycle(gate):
    async def main(pool):
        clerk = td.here.actor(Clerk)
        first = clerk.waits_at(gate.path)
        await td.thread(gate.wait_for_arrivals)
        behind = [pool.go(function, clerk) for function in (plainly, awaited)]
        # Longer than the engine lets a call go unasked about.
        for task in behind:
            assert (await td.select(task, td.after(0.5))).index == 1
        gate.open()
        assert await first == 0
        assert sorted([await task for task in behind]) == [1, 2]

    in_a_run(main)


class Heard(type):
    """Of classes that tell when somebody asks what they are called: a trail of waits does, of each that it names."""

    heard = None

    def __getattribute__(cls, name):
        is_trail = name == "__qualname__" and threading.current_thread() is not threading.main_thread()
        if is_trail and Heard.heard is not None:
            Heard.heard()
        return super().__getattribute__(name)


class Doorkeeper(Clerk, metaclass=Heard):
    """Files what it is given behind a gate."""

    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    async def file(self):
        await td.thread(work.pass_gate, self.gate)
        return super().file()

    async def has_done_as(self, tasks, pool, function, *args):
        tasks.append(pool.go(function, *args))
        return await tasks[-1]


class Waiting:
    """Waits for a task that comes out of a channel."""

    def __init__(self, tasks):
        self.tasks = tasks

    async def waits_for_caller(self):
        return await (await self.tasks.recv())


def calls_plainly(waiting):
    return waiting.waits_for_caller().result()


async def calls(waiting):
    return await waiting.waits_for_caller()


def calls_in_a_plain_group(waiting):
    with td.TaskGroup() as group:
        group.add(waiting.waits_for_caller())


async def calls_in_a_group(waiting):
    async with td.TaskGroup() as group:
        group.add(waiting.waits_for_caller())


@pytest.mark.parametrize("function", [calls_plainly, calls, calls_in_a_plain_group, calls_in_a_group])
def test_a_call_that_has_begun_and_waits_for_who_called_it_is_told(function):
    async def main(pool):
        tasks = td.Channel(1)
        caller = pool.go(function, td.here.actor(Waiting, tasks))
        await tasks.send(caller)
        with refused():
            await caller

    in_a_run(main)


def test_a_cycle_that_somebody_ends_while_it_is_looked_at_is_none(monkeypatch, gate):
    async def main(pool):
        looks, tasks = [], []
        clerk = td.here.actor(Doorkeeper, gate.path)
        monkeypatch.setattr(Heard, "heard", lambda: looks.append(None))
        with refused():
            await clerk.has_done_as(tasks, pool, plainly, clerk)
        in_a_round = len(looks) // 2
        assert in_a_round > 0
        looks.clear()

        def ends_it_in_the_second_round():
            looks.append(None)
            if len(looks) == in_a_round + 1:
                asks.cancel()
                # What stood behind it has begun.
                gate.wait_for_arrivals()

        monkeypatch.setattr(Heard, "heard", ends_it_in_the_second_round)
        asks = clerk.has_done_as(tasks, pool, plainly, clerk)
        with pytest.raises(td.TaskCancelled):
            await asks
        # Longer than the trail takes to come back.
        assert (await td.select(tasks[-1], td.after(0.5))).index == 1
        gate.open()
        assert await tasks[-1] == 1

    in_a_run(main)
