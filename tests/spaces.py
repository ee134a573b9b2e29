"""Spaces of every backend: the one suite of tests of spaces runs over all of them."""

import contextlib
import itertools

import pytest
import thistledown as td

import support

_numbers = itertools.count()
_make = td.Space
_made = []


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


@pytest.fixture(params=["memory", "file"])
def backend(request, tmp_path_factory):
    """Each test of a module that uses this runs once with each."""
    global _make
    match request.param:
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
