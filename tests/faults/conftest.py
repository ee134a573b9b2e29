"""After each test of a fault nothing of it is left, in this process or in any other."""

import uuid
from collections import Counter

import pytest
import thistledown as td
import witness


@pytest.fixture(autouse=True)
def mark(monkeypatch, request):
    """What the processes of this test are marked with. At its end none is left; nor memory, nor a thread."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(witness.MARK, mark)
    threads, memory = witness.native_threads(), witness.memory_files()
    yield mark
    request.node.funcargs.clear()  # It would hold the pool until after the end of the test.
    left = witness.wait_gone(witness.marked(mark), 10)
    description = witness.described(left)
    witness.end(left)
    assert not left, f"processes left behind:\n{description}"
    witness.eventually(lambda: witness.memory_files() <= memory, 10)
    assert witness.memory_files() <= memory, "memory files left behind"
    witness.eventually(lambda: witness.native_threads() <= threads, 10)
    assert witness.native_threads() - threads == Counter(), "threads left behind"


@pytest.fixture
def meeting():
    meeting = witness.Meeting()
    yield meeting
    meeting.close()


@pytest.fixture
def pair(meeting):
    """Two workers; what still runs at the end of the test is released first."""
    with td.Workers(2, grace=0.2) as pool:
        yield pool
        meeting.release()


@pytest.fixture
def single(meeting):
    """The same with one worker, so that tasks stand behind each other."""
    with td.Workers(1, grace=0.2) as pool:
        yield pool
        meeting.release()


@pytest.fixture
def script(mark):
    """Starts scripts, which are dead at the end of the test."""
    started = []

    def start(source, *arguments, **options):
        started.append(witness.Script(source, *arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
