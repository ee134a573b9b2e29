"""Arguments and results that are pickled: what a process does not have, what goes by value, what cannot be sent."""

import sys
import types

import cloudpickle
import pytest
import thistledown as td
import work

from support import PATIENCE

LARGE = 100_000


@pytest.fixture
def only_here(monkeypatch):
    """A module that no worker can import, with a class."""
    module = types.ModuleType("only_here")
    exec("class Kept:\n    def __init__(self): self.x = 1\ndef look(kept): return kept.x", vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_a_module_that_the_worker_does_not_have(pool, only_here):
    with pytest.raises(ModuleNotFoundError, match=r"process \d+ cannot import what the task needs") as caught:
        pool.go(work.echo, [only_here.Kept()]).result(PATIENCE)
    assert caught.value.name == "only_here"


def test_a_name_that_the_worker_does_not_have(pool, only_here, monkeypatch):
    import json

    only_here.Kept.__module__ = "json"
    monkeypatch.setattr(json, "Kept", only_here.Kept, raising=False)
    with pytest.raises(AttributeError, match=r"process \d+ does not find what the task needs.*Kept"):
        pool.go(work.echo, [only_here.Kept()]).result(PATIENCE)


def test_a_module_that_the_program_does_not_have(pool):
    def make():
        import sys
        import types

        module = sys.modules["only_there"] = types.ModuleType("only_there")
        exec("class Kept: pass", vars(module))
        return [module.Kept()]

    task = pool.go(make)
    with pytest.raises(ModuleNotFoundError, match="cannot import what the task needs") as caught:
        task.result(PATIENCE)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert task.exception() is caught.value


def test_a_module_that_is_registered_to_go_by_value(pool, only_here):
    cloudpickle.register_pickle_by_value(only_here)
    try:
        assert pool.go(getattr, only_here.Kept(), "x").result(PATIENCE) == 1
    finally:
        cloudpickle.unregister_pickle_by_value(only_here)
    with pytest.raises(ModuleNotFoundError):
        pool.go(getattr, only_here.Kept(), "x").result(PATIENCE)


@pytest.mark.parametrize("size", [1, LARGE])
def test_the_argument_that_cannot_be_sent_is_named(pool, size):
    with pytest.raises(td.NotPicklable, match=r"argument 2 cannot be sent.*generator"):
        pool.go(work.echo, bytes(size), (x for x in ()))
    with pytest.raises(td.NotPicklable, match=r"argument 'key' cannot be sent"):
        pool.go(work.echo, bytes(size), key=[lambda: (yield), (x for x in ())])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda space: td.sleep(1), r"by `await` in an `async def`, or by `\.wait\(\)`"),
        (lambda space: space.take((int,), lease=60.0).wait(PATIENCE), "only the process that has taken it"),
        (lambda space: space.watch(), "send the space, and make the watch there"),
        (lambda space: space.transaction(), "send the space, and make the transaction there"),
    ],
)
def test_what_is_of_this_process_says_what_to_do_there(pool, make, words):
    space = td.Space()
    space.write((1,)).wait(PATIENCE)
    with pytest.raises(td.NotPicklable, match=words):
        pool.go(work.echo, make(space))
    with pytest.raises(td.NotPicklable, match=r"the result cannot be sent.*`\.wait\(\)`"):
        pool.go(td.sleep, 1).result(PATIENCE)


def test_what_is_raised_while_an_argument_is_pickled(pool):
    class Interrupting:
        def __reduce__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.go(work.echo, [Interrupting()])
    assert pool.go(work.echo, [1]).result(PATIENCE) == (([1],), {})


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_by_name(pool, kind):
    assert pool.go(work.echo, value=kind(LARGE)).result(PATIENCE) == ((), {"value": kind(LARGE)})
