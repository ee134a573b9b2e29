"""Spaces of every backend: the one suite of tests of spaces runs over all of them."""

import contextlib
import itertools
import os
import threading

import pytest
import thistledown as td

import support

_numbers = itertools.count()
_make = td.Space
_made = []


def _made_by(pool, make, *arguments):
    """What a worker makes. Also where weightless tasks run, which must not wait for it in their thread."""
    made = []
    thread = threading.Thread(target=lambda: made.append(pool.go(make, *arguments).result(support.PATIENCE)))
    thread.start()
    thread.join()
    return made[0]


_kept = []


def _on_file(path):
    """In the process that owns the file: it is open until the next test's."""
    while _kept:
        _kept.pop().close()
    _kept.append(td.Space(path, fsync=False))
    return _kept[0]


def _opened_by_two(pool, path):
    """What another process owns, opened here too: by nothing but its path."""
    assert _made_by(pool, _is_open, path)
    return td.Space(path, fsync=False)


def _is_open(path):
    _on_file(path)
    return True


def new_space():
    """A space of the backend that the present test is for."""
    space = _make()
    _made.append(space)
    return space


async def settle():
    """Give way until every task that can run has run to its wait, and what is on its way to a file is there."""
    for _ in range(3):
        await support.settle()
        for space in _made:
            # What is written in order is written when something later is.
            with contextlib.suppress(td.SpaceBroken), space.transaction():
                pass
    await support.settle()


@pytest.fixture(scope="module", autouse=True)
def owner():
    """A process that has spaces, which this one uses from outside. Others of its kind may come and go."""
    with td.Workers(1) as pool:
        assert pool.go(os.getpid).result(support.PATIENCE) != os.getpid()
        yield pool


@pytest.fixture(params=["memory", "file", "worker", "file of a worker", "file of another program"])
def backend(request, tmp_path_factory):
    """Each test of a module that uses this runs once with each."""
    global _make
    match request.param:
        case "worker":
            pool = request.getfixturevalue("owner")
            _make = lambda: _made_by(pool, td.Space)  # noqa: E731
        case "file of a worker":
            pool = request.getfixturevalue("owner")
            folder = tmp_path_factory.mktemp("spaces")
            _make = lambda: _made_by(pool, _on_file, os.fspath(folder / f"{next(_numbers)}.db"))  # noqa: E731
        case "file of another program":
            pool = request.getfixturevalue("owner")
            folder = tmp_path_factory.mktemp("spaces")
            _make = lambda: _opened_by_two(pool, os.fspath(folder / f"{next(_numbers)}.db"))  # noqa: E731
        case "memory":
            _make = td.Space
        case "file":
            folder = tmp_path_factory.mktemp("spaces")
            # What a loss of power does is another test's.
            _make = lambda: td.Space(folder / f"{next(_numbers)}.db", fsync=False)  # noqa: E731
    yield request.param
    while _made:
        _made.pop().close()
    _make = td.Space
