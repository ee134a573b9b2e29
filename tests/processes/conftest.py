"""Rules for tests of worker processes: a pool for a file, gates to hold tasks with, and nothing left behind.

A test that only wants tasks run takes `pool`, whose two workers serve a whole file; a test that kills, waits inside of
tasks, or counts processes makes its own. No test sleeps to wait for something: a task that must not go on stands
before a `gate`, and says so when it has come there.
"""

import contextlib
import gc

import pytest
import thistledown as td
import work
from gates import Gate, Journal
from pools import Workers

from leaks import (
    count_pipes,
    descendants,
    engine_threads,
    eventually,
    foreign_threads,
    helper_count,
    open_files,
    window_is_open,
)
from support import PATIENCE

SIZE = 2
POOLS = ("pool", "default_pool")


@pytest.fixture
def no_exchange_left(request):
    """When nothing is shared with another process any more, the thread of the exchange ends, with its descriptors."""
    yield
    request.node.funcargs.clear()
    gc.collect()
    eventually(lambda: not engine_threads("exchange"), "the exchange is still there")


@pytest.fixture(autouse=True)
def no_leaks(first_pipes, request):
    """No process, thread or descriptor more than before; pools of the file have the workers that they had."""
    shared = [request.getfixturevalue(name) for name in POOLS if name in request.fixturenames]
    if shared:
        # The window opens when a pool has lasted, and stays as long as it.
        eventually(window_is_open, "the window of this program does not open")
    threads, files = foreign_threads(), open_files()
    below, of_pools = descendants(), engine_threads("pool")
    workers = [pool.statistics()["processes"] for pool in shared]
    yield
    for pool, processes in zip(shared, workers, strict=True):
        assert pool.wait_idle(PATIENCE), "the file's pool has tasks left"
        assert pool.statistics()["processes"] == processes, "the file's pool has other workers"
    if open_files().keys() - files.keys():
        gc.collect()  # a cycle may still hold a pool; what survives this is a leak
    left = {target for fd, target in open_files().items() if fd not in files}
    assert foreign_threads() - threads == set(), "threads left behind"
    assert {target for target in left if not target.startswith("pipe:")} == set(), "files left behind"
    assert count_pipes(open_files()) <= first_pipes + 2 * helper_count() + count_pipes(files), "pipes left behind"
    assert descendants() - below == set(), "processes left behind"
    eventually(lambda: engine_threads("pool") <= of_pools, "threads of pools left behind")


def warmed_up(pool, gate_folder):
    """The pool with all of its workers there, so that later tests find them."""
    gate = Gate(gate_folder)
    with contextlib.closing(gate):
        tasks = [pool.go(work.pass_gate, gate.path) for _ in range(pool._max_workers)]
        gate.wait_for_arrivals(len(tasks))
        gate.open(len(tasks))
        assert {task.result(PATIENCE) for task in tasks} == {gate.path}
    return pool


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Two workers, for tests that leave them as they were."""
    with Workers(SIZE) as pool:
        yield warmed_up(pool, tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="session")
def default_pool(tmp_path_factory):
    """The pool behind `td.go`, with all of its workers there."""
    pool = warmed_up(td.workers(), tmp_path_factory.mktemp("default"))
    yield pool
    pool.shutdown()


@pytest.fixture
def gate(tmp_path):
    """A gate, for tasks of `work.pass_gate`."""
    with contextlib.closing(Gate(tmp_path)) as gate:
        yield gate


@pytest.fixture
def gates(tmp_path):
    """Makes gates."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Gate(tmp_path)))


@pytest.fixture
def journal(tmp_path):
    """A journal, for tasks that use `work.write`."""
    return Journal(tmp_path / "journal")
