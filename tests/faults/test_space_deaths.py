"""Processes that are killed while they use a space: nothing is taken twice, and a claim of the dead is back."""

import os
import random
import signal

import pytest
import thistledown as td

PATIENCE = 60.0
# How many tuples, and how many deaths: more on demand, as `THISTLEDOWN_SPACE_TUPLES=10000`.
COUNT = int(os.environ.get("THISTLEDOWN_SPACE_TUPLES", "1000"))


def claim_and_stand(space):
    claim = space.take(("job", int), lease=1000.0).wait(PATIENCE)
    space.write(("begun", os.getpid(), claim.tuple)).wait(PATIENCE)
    space.take(("never",)).wait(PATIENCE)


def test_a_claim_of_a_process_that_is_killed_is_back_at_once(pair):
    space = td.Space()
    space.write_nowait(("job", 1))
    task = pair.go(claim_and_stand, space)
    _, process, job = space.take(("begun", int, ...)).wait(PATIENCE)
    assert len(space) == 0
    os.kill(process, signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    # Its lease is much longer than this test.
    assert space.take(("job", int)).wait(PATIENCE) == job


def test_a_transaction_of_a_process_that_is_killed_has_not_happened(pair):
    space = td.Space()
    space.write_nowait(("account", 10))

    def begin(space):
        act = space.transaction()
        act.take(("account", int)).wait(PATIENCE)
        act.write(("account", 0)).wait(PATIENCE)
        space.write_nowait(("begun", os.getpid()))
        space.take(("never",)).wait(PATIENCE)

    task = pair.go(begin, space)
    os.kill(space.take(("begun", int)).wait(PATIENCE)[1], signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    assert space.take(("account", int)).wait(PATIENCE) == ("account", 10)


def test_who_is_killed_while_he_waits_takes_nothing(pair):
    space = td.Space()

    async def wait(space):
        async with td.TaskGroup() as group:
            group.go(space.take(("job", int)))
            # It has its turn; and what is asked later is answered later, so the take waits.
            await td.sleep(0)
            await space.write(("begun", os.getpid()))

    task = pair.go(wait, space)
    os.kill(space.take(("begun", int)).wait(PATIENCE)[1], signal.SIGKILL)
    with pytest.raises(td.WorkerDied):
        task.result(PATIENCE)
    space.write_nowait(("job", 1))
    assert space.take(("job", int)).wait(PATIENCE) == ("job", 1)


def test_each_tuple_is_confirmed_once_under_random_kills(tmp_path):
    """Two processes claim, say that they have it, and confirm; one is killed again and again, wherever it is."""
    chance, kills = random.Random(11), max(8, COUNT // 200)
    journal = tmp_path / "confirmed"
    journal.touch()
    path = str(journal)

    def work(space):
        told = os.open(path, os.O_APPEND | os.O_WRONLY)
        space.write_nowait(("begun", os.getpid()))
        while True:
            claim = space.take(("job", int), lease=1000.0).wait(PATIENCE)
            claim.confirm()
            os.write(told, b"%d\n" % claim.tuple[1])

    space = td.Space()
    with td.Workers(2) as pool:
        tasks = [pool.go(work, space) for _ in range(2)]
        processes = [space.take(("begun", int)).wait(PATIENCE)[1] for _ in tasks]
        moments = set(chance.sample(range(COUNT), kills))
        for number in range(COUNT):
            space.write(("job", number)).wait(PATIENCE)
            if number in moments:
                os.kill(processes.pop(0), signal.SIGKILL)
                tasks.append(pool.go(work, space))
                processes.append(space.take(("begun", int)).wait(PATIENCE)[1])
        # Whoever lives takes what is left; this one last.
        space.write(("job", COUNT)).wait(PATIENCE)
        while space.count(("job", int)):
            td.sleep(0.001).wait()
        for process in processes:
            os.kill(process, signal.SIGKILL)
        died = sum(isinstance(task.exception(PATIENCE), td.WorkerDied) for task in tasks)
    assert died == kills + 2
    # Claims of those who were killed at last are back; nobody else has them.
    left = [number for _, number in space.read_all(("job", int))]
    confirmed = [int(line) for line in journal.read_text().splitlines()]
    assert len(confirmed) == len(set(confirmed)), "a tuple was confirmed twice"
    assert not set(confirmed) & set(left), "a tuple that was confirmed is back"
    # Who is killed between confirming and saying so is silent about one.
    assert len(confirmed) + len(left) >= COUNT + 1 - died, "a tuple was lost"


def test_a_forked_child_is_told_that_it_cannot(pair):
    space = pair.go(td.Space).result(PATIENCE)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        words = b"nothing"
        try:
            space.take(("a",)).wait(PATIENCE)
        except td.SpaceBroken as error:
            words = str(error).encode()
        finally:
            os.write(writer, words)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as told:
        assert b"this one was forked from" in told.read()
    assert os.waitpid(child, 0)[1] == 0
    space.write_nowait(("a",))
    assert space.take_nowait(("a",)) == ("a",)


def _memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_watch_of_a_process_that_stands_still_keeps_no_more_than_its_capacity(pair):
    """The rest is dropped where it was written, which does not keep it for who may never hear of it."""
    count, size = 20_000, 4096

    def look(space):
        seen, missed = [], 0
        with space.watch(("seen", int, bytes), capacity=100) as watch:
            space.write_nowait(("begun", os.getpid()))
            space.take(("ended",)).wait(PATIENCE)
            while not seen or seen[-1] != count - 1:
                try:
                    seen.append(watch.recv().wait(PATIENCE)[1])
                except td.WatchLagged as lagged:
                    missed += lagged.missed
        return seen, missed

    space = td.Space()
    task = pair.go(look, space)
    process = space.take(("begun", int)).wait(PATIENCE)[1]
    before = _memory()
    os.kill(process, signal.SIGSTOP)
    for number in range(count):
        space.write_nowait(("seen", number, bytes(size)))
        space.take_nowait(("seen", number, ...))
    grown = _memory() - before
    space.write_nowait(("ended",))
    os.kill(process, signal.SIGCONT)
    seen, missed = task.result(PATIENCE)
    assert grown < count * size // 4
    assert seen == sorted(seen)
    assert len(seen) + missed == count
