"""A space handed to a worker works there as here; `tests/spaces.py` runs the suite of all spaces over such ones too."""

import asyncio
import copy
import gc
import os
import pickle
import threading

import pytest
import thistledown as td
from pools import Workers

from leaks import eventually
from support import PATIENCE, run_program

pytestmark = pytest.mark.usefixtures("no_exchange_left")


def answer(space):
    _, number = space.take(("question", int)).wait(PATIENCE)
    space.write(("answer", number, number**2)).wait(PATIENCE)


def test_a_worker_takes_and_writes(pool):
    space = td.Space()
    task = pool.go(answer, space)
    space.write_nowait(("question", 7))
    assert space.take(("answer", 7, int)).wait(PATIENCE) == ("answer", 7, 49)
    task.result(PATIENCE)


def test_what_a_worker_has_written_is_there_when_its_task_has_ended(pool):
    space = td.Space()
    for number in range(50):
        pool.go(lambda space, number: space.write(("job", number)).wait(PATIENCE), space, number).result(PATIENCE)
        assert space.count(("job", number)) == 1


def test_in_a_closure_a_value_and_a_channel(pool):
    space, channel = td.Space(), td.Channel(1)
    with Workers(1) as own:
        own.go(lambda: space.write_nowait(("closure",))).result(PATIENCE)
    pool.go(lambda value: value["space"].write_nowait(("value",)), {"space": space}).result(PATIENCE)
    channel.send_nowait(space)
    pool.go(lambda channel: channel.recv().wait(PATIENCE).write_nowait(("channel",)), channel).result(PATIENCE)
    assert space.read_all() == [("closure",), ("value",), ("channel",)]


def test_patterns_go_to_a_worker_with_all_that_was_said(pool):
    space = td.Space()
    for value in (1, 5, 9, "x", ("a", 2.5)):
        space.write_nowait(("job", value))
    patterns = [
        td.between(2, ...),
        td.one_of(1, str, td.between(9, 9)),
        td.one_of(("a", td.between(..., 3.0)), ...),
    ]
    for pattern in patterns:
        found = pool.go(lambda space, pattern: space.read_all(("job", pattern)), space, pattern).result(PATIENCE)
        assert found == space.read_all(("job", pattern))
        assert repr(copy.deepcopy(pattern)) == repr(pattern)


def test_a_handle_in_its_own_process_is_the_same_space():
    space = td.Space()
    other = pickle.loads(pickle.dumps(space))
    other.write_nowait(("same",))
    assert space.take_nowait(("same",)) == ("same",)


def test_who_waits_is_served_in_order_wherever_he_waits(pool):
    space, told = td.Space(), td.Channel(10)

    async def wait(space, told, name):
        async with td.TaskGroup() as group:
            take = group.go(space.take(("job", int)))
            # It has its turn; and what is asked later is answered later, so the wait stands.
            await td.sleep(0)
            await space.write(("stands", name))
            await told.send((name, await take))

    tasks = []
    for name in range(4):
        tasks.append(pool.go(wait, space, told, name))
        space.take(("stands", name)).wait(PATIENCE)
    for number in range(4):
        space.write_nowait(("job", number))
        assert told.recv().wait(PATIENCE) == (number, ("job", number))
    for task in tasks:
        task.result(PATIENCE)


def test_a_timeout_and_a_cancellation_undo_a_take_of_a_worker(pool):
    space = td.Space()

    def time_out(space):
        with pytest.raises(TimeoutError):
            space.take(("job",)).wait(0.01)

    async def wait(space):
        await space.write(("ready",))
        await space.take(("job",))

    pool.go(time_out, space).result(PATIENCE)
    task = pool.go(wait, space)
    space.take(("ready",)).wait(PATIENCE)
    task.cancel()
    with pytest.raises(td.TaskCancelled):
        task.result(PATIENCE)
    space.write_nowait(("job",))
    # What it was offered in its last moment is on its way back.
    assert space.take(("job",)).wait(PATIENCE) == ("job",)


def test_a_take_that_has_no_time_finds_what_is_there(pool, tmp_path):
    for make in (td.Space, lambda: td.Space(tmp_path / "jobs.db")):
        space = pool.go(td.Space).result(PATIENCE) if make is td.Space else make()
        space.write_nowait(("job", 1))
        assert space.take(("job", int)).wait(0) == ("job", 1)
        with pytest.raises(TimeoutError):
            space.take(("job", int)).wait(0)
        space.write(("job", 2)).wait(0)
        assert td.select(space.take(("none",)), space.take(("job", int))).wait(0) == (1, ("job", 2))
        space.close()


def test_who_waits_since_before_a_space_was_shared_may_hear_of_others():
    program = """
        import threading
        import thistledown as td

        def keep(space):
            def write_later():
                # Long enough that the program has nothing to do but to wait.
                for _ in range(3000):
                    space.count()
                space.write_nowait(("job", 1))
            threading.Thread(target=write_later).start()

        async def main(pool):
            space = td.Space()
            async with td.TaskGroup() as group:
                take = group.go(space.take(("job", int)))
                await td.sleep(0)
                await pool.go(keep, space)
            return await take

        with td.Workers(1) as pool:
            print(td.run(main, pool))
    """
    assert run_program(program).stdout == "('job', 1)\n"


def test_tasks_of_asyncio_wait_for_a_space_of_a_worker(pool):
    async def main():
        space = await pool.go(td.Space)
        taking = asyncio.create_task(_take(space))
        await space.write(("job", 1))
        assert await taking == ("job", 1)

    async def _take(space):
        return await space.take(("job", int))

    asyncio.run(main())


class Fragile:
    def __reduce__(self):
        return _only_here, (os.getpid(),)


def _only_here(process):
    if os.getpid() != process:
        raise ValueError("not here")
    return "rebuilt"


def test_a_tuple_that_cannot_be_rebuilt_in_one_process_is_in_nobodys_way(pool):
    space = td.Space()
    space.write_nowait(("job", Fragile()))
    space.write_nowait(("job", 2))

    def take(space):
        with pytest.raises(ValueError, match="not here"):
            space.take(("job", ...)).wait(PATIENCE)
        return space.take(("job", ...)).wait(PATIENCE)

    assert pool.go(take, space).result(PATIENCE) == ("job", 2)
    assert space.take_nowait(("job", ...)) == ("job", "rebuilt")


def test_a_file_that_its_owner_closes_is_told_to_all(pool, tmp_path):
    with td.Space(tmp_path / "jobs.db") as space:
        task = pool.go(lambda space: (space.write_nowait(("a",)), space.take(("never",)).wait(PATIENCE)), space)
        space.take(("a",)).wait(PATIENCE)
    with pytest.raises(td.SpaceBroken, match="is closed"):
        task.result(PATIENCE)
    with td.Space(tmp_path / "jobs.db") as space:
        assert len(space) == 0


def test_the_end_of_the_owner_is_told_to_who_waits():
    with Workers(1) as own:
        space = own.go(td.Space).result(PATIENCE)
        process = own.go(os.getpid).result(PATIENCE)
        space.write_nowait(("a",))
        watch = space.watch()
        claim = space.take_nowait(("a",), lease=1000)
    for act in (
        lambda: space.take(("never",)).wait(PATIENCE),
        lambda: space.write(("b",)).wait(PATIENCE),
        lambda: space.take_nowait(...),
        lambda: watch.recv().wait(PATIENCE),
        lambda: space.transaction(),
        claim.confirm,
    ):
        with pytest.raises(td.SpaceBroken, match=f"process {process}"):
            act()


def test_nothing_is_left_of_spaces_of_requests(pool):
    """A long-lived program gives each task a space of its own."""
    from thistledown import _core

    kept = td.Channel(1)
    pickle.dumps(kept)  # the exchange stays
    for number in range(50):
        space = td.Space()
        space.write_nowait(("question", number))
        pool.go(answer, space).result(PATIENCE)
    del space
    gc.collect()
    eventually(lambda: _core._shared_objects() == 1, "spaces of tasks that have ended are kept")


def write_from_a_thread(space, gate):
    """What it writes comes when the task has long ended."""

    def write():
        gate.recv().wait(PATIENCE)
        space.write_nowait(("x", 1))

    threading.Thread(target=write, daemon=True).start()


@pytest.mark.parametrize("is_early", [False, True])
@pytest.mark.parametrize("waits", ["take", "watch"])
def test_who_waits_for_what_another_process_may_write_is_in_no_deadlock(pool, waits, is_early):
    """Nothing else of this program goes on: only a thread of a worker knows that something will come."""
    gate = td.Channel(1)

    def open_gate():
        words = "for recv from watch" if waits == "watch" else "for take ("
        eventually(lambda: words in str(td.tree()), "nobody waits")
        gate.send_nowait(None)

    async def main():
        space = td.Space()
        watch = space.watch()
        operation = watch.recv() if waits == "watch" else space.take(("x", int))

        async def wait():
            return await operation

        waiting = td.go(wait) if is_early else None
        await td.sleep(0)
        await pool.go(write_from_a_thread, space, gate)
        opener = threading.Thread(target=open_gate)
        opener.start()
        try:
            return await (waiting or operation)
        finally:
            opener.join()

    assert td.run(main) == ("x", 1)


def back(value):
    return value


@pytest.mark.parametrize("is_on_file", [False, True])
def test_a_handle_that_comes_home_is_equal_to_the_one_that_went(pool, tmp_path, is_on_file):
    with td.Space(tmp_path / "jobs.db" if is_on_file else None) as space:
        home = pool.go(back, space).result(PATIENCE)
        assert home == space
        assert {space: "known"}[home] == "known"
        assert home != td.Space()


def test_plain_code_iterates_over_a_watch():
    space = td.Space()
    with space.watch(("a", int)) as watch:
        seen = iter(watch)
        for number in range(3):
            space.write_nowait(("a", number))
        assert [next(seen) for _ in range(3)] == [("a", 0), ("a", 1), ("a", 2)]
    assert list(watch) == []
