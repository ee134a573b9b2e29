"""The public face: every name has one home, is documented, and says where it lives."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from importlib.metadata import version

import pytest
import thistledown as td
from thistledown import pyprocess, pytest_plugin, telemetry, testing

# fmt: off
FACE = [
    "Counts", "PoolCounts", "Statistics", "statistics",
    "Down", "link", "Link", "monitor",
    "actor", "Actor", "ActorDied", "ActorStopped", "MailboxFull",
    "after", "as_completed", "AsCompleted", "AsyncResults", "between", "Cancelled", "Channel",
    "ChannelBroken", "ChannelClosed",
    "ChannelEmpty", "ChannelFull", "child", "Child", "ChildFailed", "ChildState",
    "Claim", "connect", "current_runner", "current_task", "DeadlockError", "go",
    "Here", "here",
    "IncompleteReadError", "LeaseExpired", "LimitOverrunError", "Line", "listen", "map", "MemoryLimitExceeded",
    "MessageCounts", "move_on_after", "Node", "NotPicklable", "one_of",
    "Operation", "Place", "primed", "Procedure", "readable", "RemoteError", "Results", "run", "Runner", "Scope",
    "select", "Selected", "serve", "Server", "share", "Shared", "shield", "sleep", "Socket", "Space", "SpaceBroken",
    "SpaceDamaged", "Supervisor", "switch",
    "Task", "task", "TaskCancelled", "TaskFunction", "TaskGroup", "ThistledownError", "thread", "timeout",
    "Transaction", "Tree", "tree", "wait", "Watch", "WatchLagged", "WorkerDied", "WorkerProcess", "Workers", "workers",
    "WorkersBroken", "writable",
]
# fmt: on
HOMES = {
    "thistledown": td,
    "thistledown.pyprocess": pyprocess,
    "thistledown.pytest_plugin": pytest_plugin,
    "thistledown.telemetry": telemetry,
    "thistledown.testing": testing,
}


def public_modules():
    """Every module of the package that no underscore hides, by name."""
    found = {"thistledown": td}
    for module in pkgutil.walk_packages(td.__path__, "thistledown."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            found[module.name] = importlib.import_module(module.name)
    return found


def public_names(module):
    return {name for name in vars(module) if not name.startswith("_")}


def test_the_face_has_just_the_names_that_are_promised():
    assert sorted(name for name in td.__all__ if not name.startswith("__")) == sorted(FACE)


@pytest.mark.parametrize("home", HOMES.values(), ids=HOMES)
def test_all_lists_names_that_exist_once_each(home):
    assert len(home.__all__) == len(set(home.__all__))
    for name in home.__all__:
        assert hasattr(home, name), name


def test_nothing_public_is_missing_from_all():
    strays = {
        name
        for name in public_names(td) - set(td.__all__)
        if not inspect.ismodule(getattr(td, name)) and name not in ("annotations", "Any", "TYPE_CHECKING")
    }
    assert strays == set()


def test_only_the_promised_modules_are_public():
    assert sorted(public_modules()) == sorted(HOMES)


def test_no_object_has_two_homes():
    homes = {}
    for home_name, home in HOMES.items():
        for name in home.__all__:
            if not inspect.ismodule(getattr(home, name)):
                homes.setdefault(id(getattr(home, name)), []).append(f"{home_name}.{name}")
    assert [names for names in homes.values() if len(names) > 1] == []


def documented_names():
    for home_name, home in HOMES.items():
        for name in home.__all__:
            if not name.startswith("__"):
                yield pytest.param(home, name, id=f"{home_name}.{name}")


@pytest.mark.parametrize(("home", "name"), list(documented_names()))
def test_every_public_name_has_a_docstring_that_is_a_sentence(home, name):
    documented = inspect.getdoc(getattr(home, name))
    assert documented
    first_line = documented.splitlines()[0]
    assert first_line.endswith((".", ":"))
    assert first_line[0].isupper() or first_line.startswith("`")


@pytest.mark.parametrize(("home", "name"), list(documented_names()))
def test_every_public_class_and_function_says_where_it_lives(home, name):
    thing = getattr(home, name)
    if inspect.isclass(thing) or inspect.isroutine(thing):
        assert thing.__module__ == home.__name__
        assert thing.__name__ == name


OWNERS = [thing for home in HOMES.values() for thing in map(vars(home).get, home.__all__) if inspect.isclass(thing)]
MEMBERS = [
    pytest.param(owner, name, id=f"{owner.__name__}.{name}")
    for owner in OWNERS
    for name, _ in inspect.getmembers(owner)
    if not name.startswith("_") and not hasattr(Exception, name)
]


@pytest.mark.parametrize(("owner", "name"), MEMBERS)
def test_every_public_member_has_a_docstring(owner, name):
    assert inspect.getdoc(getattr(owner, name))


@pytest.mark.parametrize("name", [name for name in FACE if inspect.isclass(getattr(td, name))])
def test_errors_have_one_base(name):
    kind = getattr(td, name)
    if issubclass(kind, Exception):
        assert issubclass(kind, td.ThistledownError)


def test_the_errors_that_are_no_exceptions_are_the_cancelling_alone():
    kinds = [getattr(td, name) for name in FACE if inspect.isclass(getattr(td, name))]
    odd = [kind for kind in kinds if issubclass(kind, BaseException) and not issubclass(kind, Exception)]
    assert odd == [td.Cancelled]


def test_the_version_is_that_of_the_installed_package():
    assert td.__version__ == version("thistledown")


def test_what_takes_long_to_import_waits_until_it_is_needed():
    program = "import sys, thistledown\nprint(*sys.modules)\nassert set(thistledown.__all__) <= set(dir(thistledown))"
    command = [sys.executable, "-c", program]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "thistledown._core" in modules
    assert {"asyncio", "cloudpickle", "concurrent.futures", "logging", "pickle", "socket"}.isdisjoint(modules)


@pytest.mark.parametrize("name", ["Task", "TaskCancelled", "TaskGroup", "run"])
def test_names_that_are_imported_late_are_at_home(name):
    program = f"import thistledown\nprint(thistledown.{name}.__module__)"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "thistledown\n"


def test_an_error_of_the_engine_is_at_home_before_anybody_has_named_it():
    program = """\
import thistledown as td
async def main():
    task = td.go(td.sleep(9))
    task.cancel()
    try:
        await task
    except Exception as error:
        print(type(error))
td.run(main)"""
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output == "<class 'thistledown.TaskCancelled'>\n"
