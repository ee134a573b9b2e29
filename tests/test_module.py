"""The package's module: what is asked of it is what stands in it, however that came there."""

import copy
import pickle
import sys
import types

import cloudpickle
import pytest
import thistledown as td


def ask(times=200):
    """Asks at one place of the code, often enough that an interpreter would remember."""
    return {id(td.sleep) for _ in range(times)}


def test_it_is_a_module_like_others():
    assert isinstance(td, types.ModuleType)
    assert repr(td).startswith("<module 'thistledown' from ")
    assert sys.modules["thistledown"] is td
    assert vars(td)["sleep"] is td.sleep


def test_an_attribute_that_is_replaced_is_the_new_one_at_once(monkeypatch):
    real = td.sleep
    assert ask() == {id(real)}
    replacement = object()
    monkeypatch.setattr(td, "sleep", replacement)
    assert ask() == {id(replacement)}
    monkeypatch.undo()
    assert ask() == {id(real)}


def test_an_attribute_that_is_replaced_in_the_dictionary_is_the_new_one_at_once(monkeypatch):
    real = td.sleep
    assert ask() == {id(real)}
    replacement = object()
    monkeypatch.setitem(vars(td), "sleep", replacement)
    assert ask() == {id(replacement)}
    monkeypatch.undo()
    assert ask() == {id(real)}


def test_an_attribute_that_is_deleted_is_not_found_any_more(monkeypatch):
    assert ask()
    monkeypatch.delattr(td, "sleep")
    with pytest.raises(AttributeError, match="no attribute 'sleep'"):
        ask()


def test_a_replaced_attribute_is_let_go():
    class Thing:
        pass

    td.thing = thing = Thing()
    assert {id(td.thing) for _ in range(200)} == {id(thing)}
    references = sys.getrefcount(thing)
    del td.thing
    assert sys.getrefcount(thing) == references - 1


def test_a_name_is_compared_by_what_it_says():
    """Names that are made, and gone, may lie where another one has lain."""
    for _ in range(100):
        for name in ("sleep", "after", "select", "go"):
            made = "".join(list(name))
            assert getattr(td, made) is vars(td)[name]


def test_a_name_that_is_not_there_is_asked_for_each_time():
    for _ in range(3):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = td.nothing
    assert not hasattr(td, "nothing")
    td.nothing = 1
    try:
        assert td.nothing == 1
    finally:
        del td.nothing
    assert not hasattr(td, "nothing")


def test_what_belongs_to_every_module_is_there():
    assert td.__dict__ is vars(td)
    assert td.__class__ is type(td)
    assert td.__name__ == "thistledown"
    assert "go" in dir(td)


@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=["pickle", "cloudpickle"])
def test_it_is_pickled_by_its_name(pickler):
    assert pickle.loads(pickler.dumps(td)) is td
    assert copy.deepcopy(td) is td


def test_only_a_class_of_modules_can_be_its_class():
    from thistledown import _core

    with pytest.raises(TypeError, match="made of the standard one"):
        _core.set_module_class(int)
