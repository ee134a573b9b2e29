"""Modules that start tasks while they are imported: refused where that would go on without end."""

import textwrap

import pytest
import thistledown as td
from pools import Workers

from support import PATIENCE, run_program

WORDS = "starts tasks while it is imported"

STARTS = {
    "td.go": "td.go(f)",
    "submit": "td.workers().submit(f)",
    "td.map": "td.map(f, [1, 2])",
    "options": "td.workers().options(retries=1).go(f)",
    "a pool of its own": "td.Workers(1).go(f)",
    "by name": 'td.go("starter:f")',
    "of another module": "td.go(len, 'ab')",
    "a lambda": "td.go(lambda: 5)",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Makes modules that this process and its workers find; here they are gone afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, source):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text("import thistledown as td\n" + textwrap.dedent(source))

    make.folder = tmp_path
    return make


def in_program(modules, source):
    return run_program(f"import sys; sys.path.insert(0, {str(modules.folder)!r})\n{textwrap.dedent(source)}")


# --- where a worker imports it for a task ---------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_module_that_a_worker_imports_for_a_task_starts_none(modules, start):
    modules("starter", f"def f(*_):\n    return 5\n{start}\n")
    with Workers(1) as pool:
        with pytest.raises(RuntimeError, match=f"module starter {WORDS}.*__main__"):
            pool.go("starter:f").result(PATIENCE)
        assert pool.go(len, "abc").result(PATIENCE) == 3


def test_a_module_that_comes_with_an_argument_starts_none(modules):
    modules(
        "of_argument",
        """
        import sys
        class Argument: pass
        if "thistledown._worker" in sys.modules:
            td.go(len, "")
        """,
    )
    import of_argument

    with Workers(1) as pool:
        with pytest.raises(RuntimeError, match=f"module of_argument {WORDS}"):
            pool.go(id, of_argument.Argument()).result(PATIENCE)


def test_a_weightless_task_is_refused_the_same(modules):
    modules("weightless_starter", "async def f(): pass\ntd.go(len, '')\n")
    source = """
        import thistledown as td
        class F:
            __module__, __qualname__ = "weightless_starter", "f"
        with td.Workers(1) as pool:
            print(pool.go("weightless_starter:f").exception(30))
        """
    assert f"module weightless_starter {WORDS}" in in_program(modules, source).stdout


def test_what_runs_while_an_object_is_unpacked_may_start_tasks(modules):
    modules(
        "unpacker",
        """
        class Argument:
            def __setstate__(self, state):
                self.task = td.go(len, state)
            def __getstate__(self):
                return "abc"
        def ask(argument):
            return argument.task.result(30)
        """,
    )
    import unpacker

    with Workers(2) as pool:
        assert pool.go(unpacker.ask, unpacker.Argument()).result(PATIENCE) == 3


def test_a_module_that_is_preloaded_starts_none(modules):
    modules("preloaded_starter", "td.go(len, '').result()\n")
    with Workers(1, preload=["preloaded_starter"]) as pool:
        with pytest.raises(td.WorkersBroken, match=f"module preloaded_starter {WORDS}"):
            pool.go(len, "").result(PATIENCE)


def test_the_module_of_an_initializer_starts_none(modules):
    modules("initializer_starter", "def f(): pass\ntd.go(len, '').result()\n")
    with Workers(1, initializer="initializer_starter:f") as pool:
        with pytest.raises(td.WorkersBroken) as caught:
            pool.go(len, "").result(PATIENCE)
    assert f"module initializer_starter {WORDS}" in str(caught.value.__cause__)


# --- everywhere -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["td.go(f)", "td.go(functools.partial(f))", "td.go('waiter:f')", "td.go(C().f)"])
def test_a_module_that_waits_for_a_task_of_its_own_is_no_hang(modules, how):
    modules("waiter", f"import functools\ndef f(): return 5\nclass C:\n    def f(self): pass\nR = {how}.result()\n")
    ended = in_program(modules, "import waiter")
    assert ended.returncode == 1
    assert f"RuntimeError: module waiter {WORDS}" in ended.stderr


def test_a_map_of_its_own_is_no_hang_either(modules):
    modules("mapper", "def f(number): return 5\nR = list(td.map(f, range(3)))\n")
    assert f"RuntimeError: module mapper {WORDS}" in in_program(modules, "import mapper").stderr


def test_a_package_that_is_half_imported_counts_for_what_is_in_it(modules):
    modules("package.inside", "def f(): return 5\n")
    modules("package.__init__", "from package.inside import f\nR = td.go(f).result()\n")
    assert f"RuntimeError: module package {WORDS}" in in_program(modules, "import package").stderr


def test_a_task_that_imports_such_a_module_fails(modules):
    modules("waiter", "def f(): return 5\nR = td.go(f).result()\n")

    def imports():
        import waiter

        return waiter.R

    with Workers(1) as pool:
        with pytest.raises(RuntimeError, match=f"module waiter {WORDS}"):
            pool.go(imports).result(PATIENCE)


def test_a_module_may_start_what_is_not_its_own(modules):
    modules("user", "R = [td.go(len, 'abc').result(30), td.go(lambda: 5).result(30), *td.map(abs, [-1])]\n")

    def imports():
        import user

        return user.R

    assert in_program(modules, "import user; print(user.R)").stdout == "[3, 5, 1]\n"
    with Workers(1) as pool:
        assert pool.go(imports).result(PATIENCE) == [3, 5, 1]
