"""Spaces on files: what survives, what is found damaged, and what is undone."""

import math
import os
import pathlib
import signal
import sqlite3
import stat
import subprocess
import sys
import threading

import pytest
import thistledown as td
from thistledown import testing

from support import PATIENCE, run_program


@pytest.fixture
def path(tmp_path):
    return tmp_path / "jobs.db"


def test_what_was_written_is_there_when_it_is_opened_again(path):
    with td.Space(path) as space:
        for number in range(10):
            space.write_nowait(("job", number, 2**70, b"x", ("y", None)))
        assert space.take_nowait(("job", 3, ...) + (...,) * 2) is not None
    with td.Space(path) as space:
        assert [one[1] for one in space.read_all()] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
        assert space.take_nowait(("job", int, int, bytes, tuple)) == ("job", 0, 2**70, b"x", ("y", None))
        assert space.path == pathlib.Path(path)


def test_a_file_is_one_space_however_often_it_is_opened(path):
    with td.Space(path) as one, td.Space(os.fspath(path)) as two:
        one.write_nowait(("a",))
        assert two.take_nowait(("a",)) == ("a",)
        one.close()
        with pytest.raises(td.SpaceBroken, match="is closed"):
            one.read_all()
        two.write_nowait(("b",))
    with td.Space(path) as space:
        assert space.read_all() == [("b",)]


def test_nobody_else_can_read_the_file(path):
    before = os.umask(0o022)
    try:
        with td.Space(path) as space:
            space.write_nowait(("secret",))
            modes = {one.name: one.stat().st_mode & 0o777 for one in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert len(modes) > 1
    assert set(modes.values()) == {0o600}, modes


def test_every_verb_of_a_closed_space_says_so(path):
    space = td.Space(path)
    space.write_nowait(("a",))
    claim = space.take_nowait(("a",), lease=10)
    space.close()
    space.close()
    for act in (
        lambda: space.write_nowait((1,)),
        lambda: space.write((1,)).wait(),
        lambda: space.take((1,)).wait(),
        lambda: space.take_nowait((1,)),
        lambda: space.count(),
        lambda: space.watch(),
        lambda: space.transaction(),
        claim.confirm,
        lambda: claim.renew(5),
    ):
        with pytest.raises(td.SpaceBroken, match="open it again"):
            act()
    assert "closed" in repr(space)


def test_who_waits_at_a_space_that_is_closed_is_told_so(path):
    async def main():
        space = td.Space(path)
        watch = space.watch()
        waits = [space.take(("never",)), space.read(("never",)), space.take(("never",), lease=5), watch.recv()]
        tasks = [td.go(wait) for wait in waits]
        in_thread = td.thread(lambda: space.take(("never",)).wait(PATIENCE))
        await td.sleep(0.01)
        space.close()
        for task in [*tasks, in_thread]:
            with pytest.raises(td.SpaceBroken, match="open it again"):
                await task

    td.run(main)


def test_who_has_the_file_open_once_more_waits_on(path):
    async def main():
        one, other = td.Space(path), td.Space(path)
        told, goes_on = td.go(one.take(("job", int))), td.go(other.take(("job", int)))
        await td.sleep(0.01)
        one.close()
        with pytest.raises(td.SpaceBroken):
            await told
        await other.write(("job", 1))
        assert await goes_on == ("job", 1)
        other.close()

    td.run(main)


def test_a_claim_and_a_lease_go_on_in_the_next_process(path):
    program = """
        import os, sys
        import thistledown as td
        space = td.Space(sys.argv[1])
        for number in range(4):
            space.write_nowait(("job", number), lease=1000 if number < 3 else 0.001)
        space.take_nowait(("job", 0), lease=1000)
        space.take_nowait(("job", 1), lease=0.001)
        os._exit(0)
    """
    run_program(program, os.fspath(path))

    async def main():
        with td.Space(path) as space:
            assert space.read_all() == [("job", 1), ("job", 2)]
            claim = space.take_nowait(("job", 1), lease=10)
            await td.sleep(990)
            assert space.read_all() == [("job", 1), ("job", 2)]
            with pytest.raises(td.LeaseExpired):
                claim.confirm()
            await td.sleep(20)
            assert space.read_all() == []

    # The first space's leases were of about a thousand seconds, and this clock jumps.
    testing.run(main)


def test_a_transaction_is_there_whole_or_not_at_all(path):
    with td.Space(path) as space:
        space.write_nowait(("account", "anna", 10))
        with space.transaction() as act:
            _, _, amount = act.take_nowait(("account", "anna", int))
            act.write_nowait(("account", "anna", amount - 3))
            act.write_nowait(("account", "bert", 3))
        act = space.transaction()
        act.take_nowait(("account", "anna", int))
        act.write_nowait(("account", "anna", 0))
        # It does not end: its process dies, as far as the file knows.
        space.close()
    with td.Space(path) as space:
        assert space.read_all() == [("account", "anna", 7), ("account", "bert", 3)]


async def test_what_is_not_written_yet_is_seen_by_nobody_and_can_be_undone(path):
    with td.Space(path) as space:
        for turn in range(20):
            space.write_nowait(("a", turn))
            chosen = await td.select(space.take(("a", turn)), space.write(("b", turn)), td.after(0))
            left = space.read_all()
            expected = {0: [], 1: [("a", turn), ("b", turn)], 2: [("a", turn)]}[chosen.index]
            assert left == expected
            while space.take_nowait(...) is not None:
                pass
    with td.Space(path) as space:
        assert space.read_all() == []


def test_a_forked_child_opens_the_file_itself(path):
    with td.Space(path) as space:
        space.write_nowait(("a",))
        child = os.fork()
        if child == 0:
            try:
                space.read_all()
            except td.SpaceBroken as error:
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        space.write_nowait(("b",))
    with td.Space(path) as space:
        assert space.read_all() == [("a",), ("b",)]


def test_what_cannot_be_opened_is_an_error_that_says_why(tmp_path):
    with pytest.raises(FileNotFoundError):
        td.Space(tmp_path / "nowhere" / "jobs.db")
    with pytest.raises(IsADirectoryError):
        td.Space(tmp_path)
    with pytest.raises(ValueError, match=r"td\.Space\(\)"):
        td.Space(":memory:")
    with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not int"):
        td.Space(3)


def _text(file):
    file.write_text("just text, and no space at all\n" * 500)


def _database(file, journal="delete"):
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA journal_mode = {journal}")
    connection.execute("CREATE TABLE theirs (number)")
    connection.execute("INSERT INTO theirs VALUES (1)")
    connection.commit()
    return connection


def _closed_database(file):
    _database(file).close()


def _database_with_a_log(file):
    """As its program leaves it when it is killed: all that it wrote is in the log."""
    connection = _database(file.with_name("original"), "wal")
    for ending in ("", "-wal"):
        (file.parent / f"{file.name}{ending}").write_bytes((file.parent / f"original{ending}").read_bytes())
    connection.close()
    file.with_name("original").unlink()


def _numbered_database(file):
    """Without tables yet, but with a version of its own."""
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 7")
    connection.close()


def _pipe(file):
    os.mkfifo(file)


def _as_it_is(folder):
    return {
        one.name: (about.st_mode, about.st_mtime_ns, stat.S_ISREG(about.st_mode) and one.read_bytes())
        for one in folder.iterdir()
        for about in [one.stat()]
    }


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("make", [_text, _closed_database, _database_with_a_log, _numbered_database, _pipe])
def test_a_file_of_something_else_is_refused_and_left_as_it_was(tmp_path, make, repair):
    file = tmp_path / "theirs"
    make(file)
    before = _as_it_is(tmp_path)
    with pytest.raises(ValueError, match=r"not a space's.*choose another path") as caught:
        td.Space(file, repair=repair)
    assert "repair" not in str(caught.value)
    assert _as_it_is(tmp_path) == before


def test_a_database_that_lies_where_a_space_was_is_left_as_it_was(path):
    td.Space(path).close()
    path.unlink()
    _closed_database(path)
    before = _as_it_is(path.parent)
    with pytest.raises(ValueError, match="choose another path"):
        td.Space(path)
    assert _as_it_is(path.parent) == before


def test_where_a_space_was_and_nothing_is_whole_the_error_does_not_say_to_repair(path):
    td.Space(path).close()
    _text(path)
    with pytest.raises(td.SpaceDamaged, match=r"not a database.*repair=True"):
        td.Space(path)
    with pytest.raises(td.SpaceDamaged, match="nothing in it is whole") as caught:
        td.Space(path, repair=True)
    assert "repair=True" not in str(caught.value), "it was tried"
    assert path.read_text().startswith("just text")


def test_a_file_that_is_open_here_is_refused_at_once_under_another_name(path):
    other = path.with_name("other.db")
    with td.Space(path) as space:
        os.link(path, other)
        with pytest.raises(ValueError, match=r"is open in this process as .*jobs\.db: open it by that name"):
            td.Space(other)
        space.write_nowait(("a",))
        assert not other.with_name("other.db-owner").exists()
        # Nobody has lost the lock of the file over it.
        program = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM tuples')"
        asked = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
        assert "is locked" in asked.stderr
    with td.Space(other) as space:
        assert space.read_all() == [("a",)]


def test_a_file_can_be_named_in_bytes(path):
    with td.Space(os.fsencode(path)) as space:
        assert space.path == path


def test_an_error_of_the_disk_says_that_it_is_opened_again_when_that_has_passed(path):
    program = f"""
import resource, signal
import thistledown as td

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
space = td.Space({os.fspath(path)!r})
space.write_nowait(("a", 1))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    space.write_nowait(("big", b"x" * 1_000_000))
except td.SpaceBroken as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
try:
    space.write_nowait(("b", 1))
except td.SpaceBroken as error:
    print(error)
space.close()
space = td.Space({os.fspath(path)!r})
space.write_nowait(("b", 1))
print(space.read_all())
"""
    first, second, at_last = run_program(program).stdout.splitlines()
    assert "I/O error" in first
    assert "closes the space" in first
    assert "opened again" in first
    assert second == first
    assert at_last == "[('a', 1), ('b', 1)]"


def test_a_damaged_file_says_what_is_damaged_and_what_is_whole_is_kept(path):
    with td.Space(path) as space:
        for number in range(500):
            space.write_nowait(("job", number, "x" * 40))
    whole = path.read_bytes()
    place = whole.index(b"x" * 40) + 20
    path.write_bytes(whole[:place] + b"y" + whole[place + 1 :])
    with pytest.raises(td.SpaceDamaged, match=r"row \d+ of tuples is not what was written.*repair=True"):
        td.Space(path)
    with pytest.warns(RuntimeWarning, match="499 tuples are whole"):
        space = td.Space(path, repair=True)
    with space:
        assert len(space) == 499
        space.write_nowait(("job", 500, ""))
    assert (path.parent / "jobs.db-damaged-1").exists()
    with td.Space(path) as space:
        assert len(space) == 500
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(td.SpaceDamaged):
        td.Space(path)
    with pytest.warns(RuntimeWarning, match="are whole and kept"):
        space = td.Space(path, repair=True)
    with space:
        assert 100 < len(space) < 500


class Broken:
    def __reduce__(self):
        return (math.sqrt, (-1,))


@pytest.mark.parametrize("on_file", [False, True])
def test_a_tuple_that_cannot_be_unpickled_is_behind_all_others(path, on_file):
    with td.Space(path if on_file else None) as space:
        space.write_nowait(("job", Broken()))
        for act in (
            lambda: space.take_nowait(("job", ...)),
            lambda: space.take(("job", ...)).wait(PATIENCE),
            lambda: space.take_nowait(("job", ...), lease=1000),
        ):
            space.write_nowait(("job", 2))
            with pytest.raises(ValueError, match="math domain"):
                act()
            assert space.count(("job", ...)) == 2
            assert space.take_nowait(("job", ...)) == ("job", 2)
    if on_file:
        with td.Space(path) as space:
            assert space.count() == 1


PRODUCER = """
import os, sys, threading
import thistledown as td

space = td.Space(sys.argv[1], fsync=sys.argv[2] == "True")
first = int(sys.argv[3])

def says(act, number):
    os.write(1, f"{act} {number}\\n".encode())

def write(part):
    for number in range(first + part, first + 100_000, 4):
        space.write_nowait(("job", number))
        says("w", number)
        if number % 3 == 0:
            taken = space.take_nowait(("job", number))
            says("t", taken[1])

for part in range(4):
    threading.Thread(target=write, args=(part,)).start()
"""


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9_and_is_there_once(path):
    written, taken, begun = set(), set(), set()
    for turn in range(5):
        arguments = [sys.executable, "-c", PRODUCER, os.fspath(path), str(turn % 2 == 0), str(turn * 100_000)]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        wanted = 20 + 37 * turn
        with child.stdout:
            for count, line in enumerate(child.stdout):
                if count == wanted:
                    child.send_signal(signal.SIGKILL)
                # A line that the death cut short says nothing.
                if line.endswith("\n"):
                    act, number = line.split()
                    (written if act == "w" else taken).add(int(number))
        child.wait()
        # What it was about to take, when it died, may be taken or not.
        begun |= {number for number in written - taken if number % 3 == 0}
        with td.Space(path) as space:
            found = [one[1] for one in space.read_all()]
            assert len(found) == len(set(found))
            assert written - taken - begun <= set(found)
            assert not taken & set(found)


CLAIMER = """
import os, sys, threading
import thistledown as td

space = td.Space(sys.argv[1], fsync=False)

def work():
    while True:
        claim = space.take(("job", int), lease=0.3).wait()
        if claim.tuple[1] < 0:
            claim.give_back()
            return
        claim.confirm()
        os.write(1, f"{claim.tuple[1]}\\n".encode())

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.slow
def test_a_job_is_confirmed_once_though_those_who_claim_it_are_killed(path):
    count, confirmed, killed = 600, [], 0
    with td.Space(path, fsync=False) as space, space.transaction() as act:
        for number in range(count):
            act.write_nowait(("job", number))
    for wanted in (30, 71, 5, 112, math.inf):
        if wanted == math.inf:
            with td.Space(path, fsync=False) as space:
                assert space.read_nowait(("job", -1)) is None
                space.write_nowait(("job", -1))
        arguments = [sys.executable, "-c", CLAIMER, os.fspath(path)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
            for lines, line in enumerate(child.stdout):
                if lines == wanted:
                    child.kill()
                    killed += 1
                if line.endswith("\n"):
                    confirmed.append(int(line))
    assert len(confirmed) == len(set(confirmed))
    # Those that were confirmed in the moment of a death, one a thread, told nobody.
    missing = set(range(count)) - set(confirmed)
    with td.Space(path) as space:
        left = {one[1] for one in space.read_all()} - {-1}
    assert not left & set(confirmed)
    assert len(missing - left) <= 3 * killed
    assert killed == 4


def test_threads_that_write_at_the_same_time_lose_nothing_and_each_keeps_its_order(path):
    """That those who wait share a write is shown where that is done: ``crates/ledger/tests/ledger.rs``."""

    def write(part):
        for number in range(20):
            space.write_nowait((part, number))

    with td.Space(path) as space:
        threads = [threading.Thread(target=write, args=(part,)) for part in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    with td.Space(path) as space:
        found = space.read_all()
    assert len(found) == 320
    for part in range(16):
        assert [number for one, number in found if one == part] == list(range(20))
