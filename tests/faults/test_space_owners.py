"""Several programs open one file: one of them owns it, and when that is gone, however it goes, another one does.

The owners here are programs of their own, which are killed; who asks them again and again is this one.
"""

import contextlib
import functools
import os
import queue
import random
import signal
import socket
import sqlite3
import threading
import time

import pytest
import thistledown as td

from leaks import eventually
from support import started_program

PATIENCE = 60.0
# How many tuples, and how many deaths: more on demand, as `THISTLEDOWN_SPACE_TUPLES=10000`.
COUNT = int(os.environ.get("THISTLEDOWN_SPACE_TUPLES", "1000"))

OWNER = """
    import sys
    import thistledown as td

    space = td.Space(sys.argv[1], fsync=False)
    print(space.path, flush=True)
    for line in sys.stdin:
        print(eval(line), flush=True)
    space.close()
"""


class Owner:
    """A program that has opened the file, and does what it is told."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        assert process.stdout.readline()

    def does(self, expression):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def goes_on(self):
        return self.does("")

    def is_killed(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    def ends(self):
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


@pytest.fixture
def owner(path):
    with started_program(OWNER, path) as process:
        yield Owner(process)


WAYS = [Owner.is_killed, Owner.ends]


def test_two_programs_use_one_file_and_see_each_other(owner, path):
    with td.Space(path) as space, td.Space(path) as same:
        assert str(owner.pid) in repr(space)
        assert owner.does("space.write_nowait(('a', 1))") == "None"
        assert space.take_nowait(("a", int)) == ("a", 1)
        same.write_nowait(("b", 2))
        assert owner.does("space.take_nowait(('b', int))") == "('b', 2)"
        assert space.path == path


def test_a_transaction_of_an_owner_that_has_written_nothing_is_none_of_the_next_owners(owner, path):
    with td.Space(path) as space:
        old = space.transaction()
        old.write_nowait(("old",))
        owner.is_killed()
        new = space.transaction()
        new.write_nowait(("new",))
        with pytest.raises(RuntimeError, match="has ended"):
            old.write_nowait(("old",))
        new.commit()
        assert space.read_all() == [("new",)]


@pytest.mark.parametrize("is_late", [True, False])
def test_a_claim_that_is_given_back_as_the_owner_dies_comes_back(owner, path, is_late):
    with td.Space(path) as space:
        space.write_nowait(("job", 1))
        claim = space.take_nowait(("job", int), lease=600)
        for act in [owner.is_killed, claim.give_back] if is_late else [claim.give_back, owner.is_killed]:
            act()
        assert space.take(("job", int)).wait(PATIENCE) == ("job", 1)


BUSY_OWNER = """
    import sys, threading
    import thistledown as td

    space = td.Space(sys.argv[1])
    space.write_nowait(("wanted", 1))

    def write():
        for number in range(10**9):
            space.write_nowait(("other", number))

    threading.Thread(target=write, daemon=True).start()
    print("writes", flush=True)
    sys.stdin.read()
"""


def test_a_take_that_was_given_up_is_undone_though_the_owner_dies_over_it(tmp_path):
    """The owner has said that it is undone, or the next one undoes it: whenever the death comes."""
    chance = random.Random(3)
    for turn in range(12):
        path = tmp_path / f"{turn}.db"
        with started_program(BUSY_OWNER, path) as process:
            owner = Owner(process)
            with td.Space(path) as space:
                taken = 0
                with contextlib.suppress(TimeoutError):
                    taken = len(space.take(("wanted", int)).wait(0.0005 + 0.002 * chance.random())) // 2
                until = time.monotonic() + 0.003 * chance.random()
                while time.monotonic() < until:
                    pass
                owner.is_killed()
                left = functools.partial(space.count, ("wanted", int))
                eventually(lambda left=left, wanted=1 - taken: left() == wanted, "it is lost, or there twice")


@pytest.mark.parametrize("end", WAYS)
def test_who_waits_goes_on_waiting_at_the_next_owner(owner, path, end):
    with td.Space(path) as space:
        space.write_nowait(("kept",))

        async def main():
            async with td.TaskGroup() as group:
                takes = [group.go(space.take(("job", int))) for _ in range(3)]
                # What is asked later is answered later, so they stand.
                await td.sleep(0)
                await space.write(("stands",))
                await td.thread(end, owner)
                for number in range(3):
                    await space.write(("job", number))
            return [await take for take in takes]

        assert td.run(main) == [("job", 0), ("job", 1), ("job", 2)]
        assert space.read_all() == [("kept",), ("stands",)]
        assert "of process" not in repr(space)


@pytest.mark.parametrize("end", WAYS)
def test_a_claim_is_its_holders_at_the_next_owner_too(owner, path, end):
    with td.Space(path) as space:
        for number in range(3):
            space.write_nowait(("job", number))
        claims = [space.take(("job", int), lease=1000).wait(PATIENCE) for _ in range(3)]
        end(owner)
        assert len(space) == 0
        claims[0].confirm()
        claims[1].give_back()
        claims[2].renew(2000)
        assert space.read_all() == [("job", 1)]
        with pytest.raises(td.LeaseExpired):
            claims[0].confirm()
    with td.Space(path) as space:
        assert space.read_all() == [("job", 1)]


@pytest.mark.parametrize("end", WAYS)
def test_a_transaction_of_an_owner_that_is_gone_has_not_happened(owner, path, end):
    with td.Space(path) as space:
        space.write_nowait(("account", 10))
        act = space.transaction()
        act.take(("account", int)).wait(PATIENCE)
        act.write(("account", 0)).wait(PATIENCE)
        end(owner)
        with pytest.raises(RuntimeError, match="begin another one"):
            act.commit()
        assert space.read_all() == [("account", 10)]


@pytest.mark.parametrize("end", WAYS)
def test_a_watch_goes_on_and_says_that_something_may_be_missing(owner, path, end):
    with td.Space(path) as space, space.watch(("a", int)) as watch:
        space.write_nowait(("a", 1))
        end(owner)
        assert watch.recv().wait(PATIENCE) == ("a", 1)
        with pytest.raises(td.WatchLagged, match="may be missing"):
            watch.recv().wait(PATIENCE)
        space.write_nowait(("a", 2))
        assert watch.recv().wait(PATIENCE) == ("a", 2)


@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_a_watch_that_is_full_says_both_that_it_lags_and_that_something_may_be_missing(owner, path, capacity):
    lags, last = [], ("a", 19)
    with td.Space(path) as space, space.watch(("a", int), capacity=capacity) as watch:
        with space.watch(("a", int), capacity=100) as other:
            owner.is_killed()
            space.write_nowait(("a", 0))
            with contextlib.suppress(td.WatchLagged):
                other.recv().wait(PATIENCE)
            for number in range(1, 20):
                space.write_nowait(("a", number))
            while other.recv().wait(PATIENCE) != last:
                pass
        for _ in range(20 + 2):
            try:
                if watch.recv().wait(PATIENCE) == last:
                    break
            except td.WatchLagged as lagged:
                lags.append(lagged)
    assert [str(lag) for lag in lags if "may be missing" in str(lag)] == [str(lags[-1])]
    assert sum(lag.missed for lag in lags) > 0


def test_who_gave_up_while_there_was_no_owner_has_taken_nothing(owner, path):
    with td.Space(path) as space:
        os.kill(owner.pid, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            space.take(("a",)).wait(0.01)
        with pytest.raises(TimeoutError):
            space.write(("b",)).wait(0.01)
        owner.is_killed()
        space.write_nowait(("a",))
        assert space.read_all() == [("a",)]


def test_a_write_that_was_given_up_in_any_moment_has_not_happened(owner, path):
    """Some are given up when they are in the file, just before whoever asked hears so."""
    chance, written, given_up = random.Random(1), set(), set()
    with td.Space(path) as space:
        begun = time.perf_counter()
        for _ in range(100):
            space.write(("first",)).wait(PATIENCE)
        usual = (time.perf_counter() - begun) / 100
        for number in range(5 * COUNT):
            try:
                space.write(("job", number)).wait(usual * (0.1 + 1.2 * chance.random()))
                written.add(number)
            except TimeoutError:
                given_up.add(number)
        assert given_up
        assert written
        eventually(lambda: {number for _, number in space.read_all(("job", int))} == written, "some are not undone")


def test_one_of_many_takes_over_and_the_others_go_to_it(owner, path):
    with started_program(OWNER, path) as second, started_program(OWNER, path) as third:
        others = [Owner(second), Owner(third)]
        with td.Space(path) as space:
            owner.is_killed()
            for number, other in enumerate(others):
                assert other.does(f"space.write_nowait(('a', {number}))") == "None"
            assert space.read_all() == [("a", 0), ("a", 1)]
            others[0].is_killed()
            assert others[1].does("space.take_nowait(('a', 0))") == "('a', 0)"
            others[1].is_killed()
            assert space.read_all() == [("a", 1)]
            assert "of process" not in repr(space)


def test_a_worker_of_a_program_that_does_not_own_the_file_goes_on_too(owner, path, pair):
    def answer(space):
        space.write_nowait(("begun",))
        number = space.take(("question", int)).wait(PATIENCE)[1]
        space.write_nowait(("answer", number**2))

    with td.Space(path) as space:
        task = pair.go(answer, space)
        space.take(("begun",)).wait(PATIENCE)
        owner.is_killed()
        space.write_nowait(("question", 7))
        assert space.take(("answer", int)).wait(PATIENCE) == ("answer", 49)
        task.result(PATIENCE)


def test_what_is_written_and_taken_while_owners_are_killed_is_there_once(tmp_path):
    """This process writes and takes all the while; whoever owns the file is killed at some moment of that."""
    chance, rounds = random.Random(17), 8
    for turn in range(rounds):
        path, count = tmp_path / f"{turn}.db", COUNT // rounds
        with started_program(OWNER, path) as process:
            owner = Owner(process)
            with td.Space(path, fsync=False) as space:
                moment, taken, is_time = chance.randrange(count), [], threading.Event()

                def take(taken=taken, space=space, count=count, moment=moment, is_time=is_time):
                    for number in range(count):
                        taken.append(space.take(("job", int)).wait(PATIENCE)[1])
                        if number == moment:
                            is_time.set()

                taker = threading.Thread(target=take)
                killer = threading.Thread(target=lambda: is_time.wait(PATIENCE) and owner.is_killed())  # noqa: B023
                taker.start()
                killer.start()
                for number in range(count):
                    space.write(("job", number)).wait(PATIENCE)
                taker.join(PATIENCE)
                killer.join(PATIENCE)
                assert sorted(taken) == list(range(count)), "a tuple was lost, or taken twice"
                assert space.read_all() == []


WORKER = """
    import os, sys
    import thistledown as td

    space = td.Space(sys.argv[1], fsync=False)
    told = os.open(sys.argv[2], os.O_APPEND | os.O_WRONLY)
    print("begun", flush=True)
    while True:
        claim = space.take(("job", int), lease=2.0).wait(120)
        try:
            claim.confirm()
        except td.LeaseExpired:
            continue
        os.write(told, b"%d\\n" % claim.tuple[1])
"""


def test_each_tuple_is_confirmed_once_while_programs_are_killed_that_own_the_file_or_not(path, tmp_path):
    """Two programs claim and confirm; one after the other is killed, whichever has the file, and another one begun."""
    chance, kills = random.Random(23), max(6, COUNT // 250)
    journal = tmp_path / "confirmed"
    journal.touch()
    with td.Space(path, fsync=False) as space:
        for number in range(COUNT):
            space.write_nowait(("job", number))
    running = []

    def confirmed():
        return [int(line) for line in journal.read_text().splitlines()]

    with contextlib.ExitStack() as stack:
        for _ in range(2):
            running.append(_begun(stack, path, journal))
        for kill in range(kills):
            _until(lambda kill=kill: len(confirmed()) >= COUNT * kill // kills)
            victim = running.pop(chance.randrange(2))
            victim.kill()
            victim.wait(PATIENCE)
            running.append(_begun(stack, path, journal))
        # A claim of an owner that was killed is back when its lease is over; then whoever lives confirms it.
        _until(lambda: len(confirmed()) >= COUNT - kills)
        with td.Space(path, fsync=False) as space:
            deadline = time.monotonic() + PATIENCE
            while len(confirmed()) < COUNT - kills or len(space):
                assert time.monotonic() < deadline
                td.sleep(0.01).wait()
            for process in running:
                process.kill()
                process.wait(PATIENCE)
            left = _all_that_comes_back(space)
    done = confirmed()
    assert len(done) == len(set(done)), "a tuple was confirmed twice"
    assert not set(done) & set(left), "a tuple that was confirmed is back"
    # Who is killed between confirming and saying so is silent about one.
    assert len(done) + len(left) >= COUNT - kills - 2, "a tuple was lost"


def _begun(stack, path, journal):
    process = stack.enter_context(started_program(WORKER, path, journal))
    assert process.stdout.readline() == "begun\n"
    return process


def _until(condition):
    deadline = time.monotonic() + 2 * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        td.sleep(0.002).wait()


def _all_that_comes_back(space):
    """Takes until nothing has come for longer than a lease."""
    left = []
    while True:
        try:
            left.append(space.take(("job", int)).wait(3.0)[1])
        except TimeoutError:
            return left


TAKER = """
    import sys, threading
    import thistledown as td

    space, taken = td.Space(sys.argv[1], fsync=False), []

    def take():
        while True:
            _, number = space.take(("job", int)).wait()
            if number < 0:
                return
            taken.append(number)

    thread = threading.Thread(target=take)
    thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    space.write_nowait(("job", -1))
    thread.join()
    print(sorted(taken), flush=True)
"""


def cut_connections():
    """All that this process has to owners of spaces; both ends live on."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                count += _cut(os.dup(int(name)))
    return count


def _cut(descriptor):
    try:
        copy = socket.socket(fileno=descriptor)
    except OSError:
        # By now it is something else.
        os.close(descriptor)
        raise
    with copy:
        is_ours = copy.family == socket.AF_UNIX and copy.type == socket.SOCK_SEQPACKET
        if not is_ours or not copy.getpeername().startswith(b"\0"):
            return 0
        copy.shutdown(socket.SHUT_RDWR)
        return 1


def test_a_write_whose_answer_is_lost_with_its_connection_is_done_once(path):
    """The owner takes each tuple at once, so that what was written cannot be taken back when the answer is lost."""
    written, count = queue.SimpleQueue(), 4 * 250

    def write(space, first):
        for number in range(first, count, 4):
            space.write(("job", number)).wait(PATIENCE)
            written.put(number)

    with started_program(TAKER, path) as process:
        assert process.stdout.readline() == "ready\n"
        with td.Space(path) as space:
            threads = [threading.Thread(target=write, args=(space, first)) for first in range(4)]
            for thread in threads:
                thread.start()
            cuts = 0
            for number in range(count):
                written.get(timeout=PATIENCE)
                if number % 10 == 5:
                    cuts += cut_connections()
            for thread in threads:
                thread.join(PATIENCE)
            assert cuts > 10
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{list(range(count))}\n"


BUSY = """
    import sys, threading
    import thistledown as td

    space, acts = td.Space(sys.argv[1]), [0] * 4

    def works(number):
        while True:
            space.write_nowait(("job", number))
            space.take_nowait(("job", number), lease=60).confirm()
            acts[number] += 1

    for number in range(4):
        threading.Thread(target=works, args=(number,), daemon=True).start()
    while True:
        wanted = [count + 2 for count in acts]
        while any(count < least for count, least in zip(acts, wanted)):
            td.sleep(0.001).wait()
        print("works", flush=True)
        sys.stdin.readline()
"""


def outcomes(path):
    """How many rows the file has of what somebody may ask for again; for who has closed it."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        return file.execute("SELECT count(*) FROM outcomes").fetchone()[0]


def writes_once(path):
    """Another program, whose write is answered when what was heard and written before it has been seen to."""
    with started_program(OWNER, path) as process:
        other = Owner(process)
        assert other.does("space.write_nowait(('last',))") == "None"
        other.ends()


def test_programs_that_are_killed_leave_no_outcomes_in_the_file(path):
    with td.Space(path) as space:
        for _ in range(15):
            with started_program(BUSY, path) as process:
                Owner(process).is_killed()
        writes_once(path)
        assert space.take_nowait(("last",)) == ("last",)
    assert outcomes(path) == 0


def test_a_program_that_is_killed_after_the_owner_was_leaves_no_outcomes(path):
    """The next owner has only read in the file what that program had asked of the one before."""
    for _ in range(5):
        with started_program(OWNER, path) as first:
            owner = Owner(first)
            with started_program(BUSY, path) as second, td.Space(path) as space:
                busy = Owner(second)
                os.kill(busy.pid, signal.SIGSTOP)
                owner.is_killed()
                # So that it is this process which takes over.
                space.write_nowait(("next",))
                os.kill(busy.pid, signal.SIGCONT)
                assert busy.goes_on() == "works"
                busy.is_killed()
                writes_once(path)
    with td.Space(path) as space:
        assert len(space.read_all(("next",))) == 5
    assert outcomes(path) == 0


def test_what_became_of_an_act_is_kept_for_a_program_that_lives(path):
    """Its connections are lost again and again; it asks over the next one, and all happens once."""
    with started_program(TAKER, path) as process:
        assert process.stdout.readline() == "ready\n"
        with td.Space(path) as space:
            for number in range(100):
                writer = threading.Thread(target=space.write_nowait, args=(("job", number),))
                writer.start()
                cut_connections()
                writer.join(PATIENCE)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{list(range(100))}\n"


def test_who_cannot_take_over_because_of_an_error_that_passes_does_so_afterwards(tmp_path):
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    with started_program(OWNER, folder / "jobs.db") as process, contextlib.ExitStack() as stack:
        owner = Owner(process)
        space = stack.enter_context(td.Space(folder / "jobs.db"))
        folder.rename(other)
        owner.is_killed()
        with pytest.raises(TimeoutError):
            space.take(("never",)).wait(0.3)
        other.rename(folder)
        space.write_nowait(("written",))
        assert space.read_all() == [("written",)]
        assert "of process" not in repr(space)


class Heard(Exception):
    """A signal was heard."""


@pytest.fixture
def alarm():
    """Rings in the main thread, which is to hear it wherever it waits."""

    def hear(number, frame):
        raise Heard

    before = signal.signal(signal.SIGALRM, hear)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.2)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def not_answering(owner, alarm):
    """The owner stands still, until the signal has ended the block."""
    os.kill(owner.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(owner.pid, os.WUNTRACED)[1])
    alarm()
    with pytest.raises(Heard):
        yield
    os.kill(owner.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "act",
    [
        lambda space: space.take_nowait(("a", int)),
        lambda space: space.write_nowait(("b", 1)),
        lambda space: space.take(("a", int)).wait(0),
        lambda space: space.read_all(),
        len,
    ],
    ids=["take_nowait", "write_nowait", "wait", "read_all", "len"],
)
def test_a_signal_is_heard_while_the_owner_does_not_answer(owner, path, alarm, act):
    with td.Space(path) as space:
        space.write_nowait(("a", 1))
        with not_answering(owner, alarm):
            act(space)
        # What was given up has not happened.
        eventually(lambda: space.read_all() == [("a", 1)], "it is not undone")


def test_a_commit_that_a_signal_gave_up_has_happened_as_a_whole_or_not_at_all(owner, path, alarm):
    both = [("a", 1), ("a", 2)]
    with td.Space(path) as space:
        act = space.transaction()
        for each in both:
            act.write_nowait(each)
        with not_answering(owner, alarm):
            act.commit()
        assert space.read_all() in ([], both)
        with pytest.raises(RuntimeError, match="has ended"):
            act.commit()
    assert owner.does("space.read_all()") in ("[]", str(both))


def test_a_confirm_that_a_signal_gave_up_never_gives_the_tuple_to_two(owner, path, alarm):
    with td.Space(path) as space:
        space.write_nowait(("a", 1))
        claim = space.take_nowait(("a", int), lease=600)
        with not_answering(owner, alarm):
            claim.confirm()
        # It is gone, or claimed still: nobody else gets it while the lease lasts.
        assert space.take_nowait(("a", int)) is None
        assert owner.does("space.take_nowait(('a', int))") == "None"


def test_a_claim_that_a_thread_is_confirming_cannot_be_given_back_by_another(owner, path):
    with td.Space(path) as space:
        space.write_nowait(("a", 1))
        claim = space.take_nowait(("a", int), lease=600)
        os.kill(owner.pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(owner.pid, os.WUNTRACED)[1])
        confirming = threading.Thread(target=claim.confirm, name="confirming")
        confirming.start()
        try:
            eventually(lambda: "over" in repr(claim), "it is not being confirmed")
            for act in (claim.give_back, claim.confirm):
                with pytest.raises(td.LeaseExpired, match="being confirmed by another thread"):
                    act()
        finally:
            os.kill(owner.pid, signal.SIGCONT)
            confirming.join(PATIENCE)
        with pytest.raises(td.LeaseExpired, match="was confirmed before"):
            claim.give_back()
        assert space.read_all() == []


def test_a_block_of_a_transaction_that_a_signal_ended_has_not_happened(owner, path, alarm):
    with td.Space(path) as space:
        act = space.transaction()
        act.write_nowait(("a", 0))
        with not_answering(owner, alarm), act:
            act.write_nowait(("a", 1))
        space.write_nowait(("a", 2))
        assert space.read_all() == [("a", 2)]


LOCKED = """
    import fcntl, sys

    with open(sys.argv[1] + "-owner", "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        sys.stdin.read()
"""


def test_a_signal_is_heard_while_an_owner_that_cannot_be_reached_is_waited_for(path, alarm):
    with started_program(LOCKED, path) as process:
        assert process.stdout.readline() == "locked\n"
        alarm()
        with pytest.raises(Heard):
            td.Space(path)
