"""Functions that go by value: what they reach is as it is at each call, and what comes back changes nothing here."""

import dataclasses
import enum
import functools
import gc
import subprocess
import sys
import types
import weakref

import pytest
import thistledown as td
from thistledown import _functions

from support import PATIENCE


@pytest.fixture(scope="module")
def pool():
    """One worker, so that each task meets what those before it have left."""
    with td.Workers(1) as pool:
        pool.go(len, "").result(PATIENCE)
        yield pool


@pytest.fixture
def main(monkeypatch):
    """A namespace whose functions and classes belong to ``__main__``, as those of a script do."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)

    def run(source, file="script"):
        exec(compile(source, file, "exec"), vars(module))
        return module

    return run


# --- what a function reaches ------------------------------------------------------------------------------------


def test_new_code(pool):
    def first():
        return 1

    def second():
        return 2

    assert pool.go(first).result(PATIENCE) == 1
    first.__code__ = second.__code__
    assert pool.go(first).result(PATIENCE) == 2


def test_new_defaults_also_when_they_are_equal(pool):
    def look(first=1, *, second=2):
        return first, second

    assert pool.go(look).result(PATIENCE) == (1, 2)
    look.__defaults__ = (True,)
    assert pool.go(look).result(PATIENCE)[0] is True
    look.__kwdefaults__["second"] = 3
    assert pool.go(look).result(PATIENCE) == (True, 3)
    look.__kwdefaults__ = {"second": 4}
    assert pool.go(look).result(PATIENCE) == (True, 4)


def test_attributes_and_annotations_of_a_function(main, pool):
    script = main("def look(x: int = 0):\n    return getattr(look, 'mark', None), look.__annotations__['x']")
    assert pool.go(script.look).result(PATIENCE) == (None, int)
    script.look.mark = 1
    assert pool.go(script.look).result(PATIENCE) == (1, int)
    script.look.mark = 2
    script.look.__annotations__["x"] = str
    assert pool.go(script.look).result(PATIENCE) == (2, str)


def test_a_global_that_was_not_there(main, pool):
    script = main("def look():\n    return globals().get('late') or late")
    with pytest.raises(NameError):
        pool.go(script.look).result(PATIENCE)
    script.late = 5
    assert pool.go(script.look).result(PATIENCE) == 5


def test_what_has_not_changed_goes_once(main, pool):
    script = main(
        "number = 1\n"
        "def look():\n"
        "    look.calls = getattr(look, 'calls', 0) + 1\n"  # a function that comes anew has none
        "    return number, look.calls\n"
    )
    # One after the other: nothing is on its way between them.
    assert [pool.go(script.look).result(PATIENCE) for _ in range(3)] == [(1, 1), (1, 2), (1, 3)]
    script.number = 2
    assert [pool.go(script.look).result(PATIENCE) for _ in range(2)] == [(2, 1), (2, 2)]


def test_what_the_initializer_leaves_in_a_global_is_there(main):
    script = main("model = None\ndef load():\n    global model\n    model = 3\ndef look(): return model")
    with td.Workers(1, initializer=script.load) as pool:
        assert [pool.go(script.look).result(PATIENCE) for _ in range(2)] == [3, 3]


def test_what_a_task_leaves_in_a_global_is_there_for_others(main, pool):
    script = main(
        "seen, many = {}, 0\n"
        "def add(key):\n"
        "    global many\n"
        "    seen[key], many = len(seen), many + 1\n"
        "def look(): return seen, many\n"
        "def through(): return look()\n"
        "class Box:\n"
        "    def look(self): return seen, many\n"
        "async def wait(): return seen, many\n"
        "unnamed = lambda: (seen, many)\n"
    )
    for key in "ab":
        pool.go(script.add, key).result(PATIENCE)
    for function in (script.look, script.through, script.Box().look, script.wait, script.unnamed):
        assert pool.go(function).result(PATIENCE) == ({"a": 0, "b": 1}, 2)
    assert (script.seen, script.many) == ({}, 0)


def test_a_global_that_has_changed_at_home_comes_along(main, pool):
    source = "def add():\n    global count\n    count += 1\n    kept.append(count)\n    return kept"
    script = main(f"kept, count = [], 0\n{source}")
    assert [pool.go(script.add).result(PATIENCE) for _ in range(2)] == [[1], [1, 2]]
    script.kept.append("home")
    assert [pool.go(script.add).result(PATIENCE) for _ in range(2)] == [["home", 3], ["home", 3, 4]]
    script.count = 10
    assert pool.go(script.add).result(PATIENCE) == ["home", 3, 4, 11]
    # What looks as it did before, and is another.
    script.kept, before = ["home"], script.kept
    assert script.kept == before
    assert pool.go(script.add).result(PATIENCE) == ["home", 12]


def test_each_task_sees_the_globals_that_it_was_told_to_go_with(main, pool):
    script = main("place = 0\ndef look(): return place\ndef other(): return -place")
    tasks = []
    for turn in range(30):
        script.place = turn % 3
        tasks.append(pool.go(script.look if turn % 2 else script.other))
    expected = [turn % 3 if turn % 2 else -(turn % 3) for turn in range(30)]
    assert [task.result(PATIENCE) for task in tasks] == expected


def test_a_long_global_stays_too(main, pool):
    script = main("long = list(range(100_000))\ndef cut():\n    long.pop()\n    return len(long)")
    assert [pool.go(script.cut).result(PATIENCE) for _ in range(2)] == [99_999, 99_998]
    script.long[0] = None
    assert pool.go(script.cut).result(PATIENCE) == 99_999


def test_a_function_that_comes_back_leaves_the_program_as_it_is(main, pool):
    script = main("mine = 1\ndef look(): return mine\ndef give():\n    global mine\n    mine = 2\n    return look")
    assert pool.go(script.give).result(PATIENCE)() == 2
    assert (script.mine, script.look()) == (1, 1)


def test_a_function_that_was_sent_is_not_kept_alive(main, pool):
    script = main("def look(): return 1")
    held = weakref.ref(script.look)
    assert pool.go(script.look).result(PATIENCE) == 1
    del script.look
    gc.collect()
    assert held() is None


def test_what_a_function_reaches_through_others(main, pool):
    script = main("number = 1\ndef inner(): return number\ndef outer(): return inner()")
    assert pool.go(script.outer).result(PATIENCE) == 1
    script.number = 2
    assert pool.go(script.outer).result(PATIENCE) == 2
    script.inner.__code__ = (lambda: 3).__code__
    assert pool.go(script.outer).result(PATIENCE) == 3


def test_a_closure_that_holds_functions(pool):
    def decorated(function):
        @functools.wraps(function)
        def call():
            return function()

        return call

    def inner(number=1):
        return number

    outer = decorated(inner)
    assert pool.go(outer).result(PATIENCE) == 1
    inner.__defaults__ = (2,)
    assert pool.go(outer).result(PATIENCE) == 2


def test_what_changes_in_a_class(main, pool):
    script = main("class Kept:\n    x = 1\nclass Child(Kept): pass\ndef look(): return getattr(Child, 'x', None)")
    assert pool.go(script.look).result(PATIENCE) == 1
    script.Kept.x = 2
    assert pool.go(script.look).result(PATIENCE) == 2
    script.Child.x = 3
    assert pool.go(script.look).result(PATIENCE) == 3
    del script.Child.x
    assert pool.go(script.look).result(PATIENCE) == 2
    del script.Kept.x
    assert pool.go(script.look).result(PATIENCE) is None


def test_what_special_methods_reach(main, pool):
    script = main(
        "number = 1\nclass Kept:\n    def __init__(self): self.x = number\ndef look(): return Kept().x", "<string>"
    )
    assert pool.go(script.look).result(PATIENCE) == 1
    script.number = 2
    assert pool.go(script.look).result(PATIENCE) == 2


def test_a_class_that_is_named_in_an_annotation_alone(main, pool):
    script = main("class Kept:\n    x = 1\ndef look(given: Kept | None): return given.x")
    assert pool.go(script.look, script.Kept()).result(PATIENCE) == 1
    script.Kept.x = 2
    assert pool.go(script.look, script.Kept()).result(PATIENCE) == 2


def test_each_task_sees_the_class_as_it_was_when_it_was_told_to_go(main, pool):
    script = main("class Kept:\n    x = 1\ndef look(): return Kept.x\ndef other(): return Kept.x")
    expected, tasks = [], []
    for number, function in enumerate([script.look, script.other, script.look, script.look, script.other]):
        script.Kept.x = number % 2
        expected.append(number % 2)
        tasks.append(pool.go(function))
    assert [task.result(PATIENCE) for task in tasks] == expected


def test_a_method_of_an_object_that_can_change_is_not_kept(pool):
    numbers = [1]
    assert pool.go(numbers.count, 1).result(PATIENCE) == 1
    numbers.append(1)
    assert pool.go(numbers.count, 1).result(PATIENCE) == 2


# --- classes that come back -------------------------------------------------------------------------------------


def test_an_object_that_comes_back_leaves_its_class_as_it_is(main, pool):
    script = main(
        "count = 0\n"
        "class Counter:\n"
        "    step = 1\n"
        "    def bump(self):\n"
        "        global count\n"
        "        count += self.step\n"
        "def make():\n"
        "    Counter.step = 5\n"
        "    return Counter()\n"
    )
    bump = script.Counter.bump
    counter = pool.go(script.make).result(PATIENCE)
    assert type(counter) is script.Counter
    assert script.Counter.bump is bump
    counter.bump()
    assert script.count == 1


def test_objects_are_of_the_class_in_the_worker_too(main, pool):
    script = main("class Kept: pass\ndef look(given): return type(given) is Kept, given")
    for _ in range(2):
        is_same, given = pool.go(script.look, script.Kept()).result(PATIENCE)
        assert is_same
        assert type(given) is script.Kept
        script.Kept.later = 1


def test_objects_with_slots(main, pool):
    script = main(
        "import dataclasses\n"
        "class Slotted:\n"
        "    __slots__ = ('x', '__hidden', '__dict__')\n"
        "    def __init__(self, x): self.x = self.__hidden = self.more = x\n"
        "    def look(self): return self.x, self.__hidden, self.more\n"
        "class One:\n"
        "    __slots__ = 'x'\n"
        "class Child(One):\n"
        "    __slots__ = ()\n"
        "@dataclasses.dataclass(slots=True)\n"
        "class Point:\n"
        "    x: int\n"
        "def moved(point):\n"
        "    point.x += 1\n"
        "    assert hasattr(point, '__dict__') is (type(point).__name__ == 'Slotted')\n"
        "    return point\n"
    )
    child = script.Child()
    child.x = 1
    for _ in range(2):
        assert pool.go(script.moved, script.Slotted(1)).result(PATIENCE).look() == (2, 1, 1)
        assert pool.go(script.moved, child).result(PATIENCE).x == 2
        assert pool.go(script.moved, script.Point(1)).result(PATIENCE) == script.Point(2)


def test_named_tuples_and_enumerations(main, pool):
    script = main(
        "import collections, typing\n"
        "Pair = collections.namedtuple('Pair', 'x y')\n"
        "class Point(typing.NamedTuple):\n"
        "    x: int\n"
        "    y: int = 5\n"
        "    def sum(self): return self.x + self.y\n"
        "class Child(Point):\n"
        "    __slots__ = ()\n"
        "import enum\n"
        "class Slotted:\n"
        "    __slots__ = ()\n"
        "class Color(Slotted, enum.Enum):\n"
        "    __slots__ = ()\n"
        "    RED = 1\n"
        "def look(color): return color, color is Color.RED, list(Color)\n"
        "def turned(pair): return type(pair)(pair.y, pair.x)\n"
    )
    for kind in (script.Pair, script.Point, script.Child):
        for _ in range(2):
            turned = pool.go(script.turned, kind(1, 2)).result(PATIENCE)
            assert (type(turned), turned) == (kind, (2, 1))
    assert pool.go(script.look, script.Color.RED).result(PATIENCE) == (script.Color.RED, True, [script.Color.RED])
    assert pool.go(script.Point.sum, script.Point(1)).result(PATIENCE) == 6


# --- what the standard library puts around functions ------------------------------------------------------------


def test_cached_functions(main, pool):
    script = main(
        "import functools\n"
        "@functools.cache\n"
        "def fib(n):\n"
        "    'The number.'\n"
        "    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "def use(n): return fib(n), fib.__name__, fib.__doc__, fib.cache_parameters()['maxsize']\n"
        "class Kept:\n"
        "    @functools.lru_cache(maxsize=3)\n"
        "    def look(self): return 4\n"
    )
    assert pool.go(script.fib, 50).result(PATIENCE) == 12_586_269_025
    assert pool.go(script.use, 50).result(PATIENCE) == (12_586_269_025, "fib", "The number.", None)
    assert pool.go(script.Kept.look, script.Kept()).result(PATIENCE) == 4
    assert pool.go(functools.lru_cache(lambda n: n + 1), 1).result(PATIENCE) == 2


def test_generic_functions(main, pool):
    script = main(
        "import functools\n"
        "@functools.singledispatch\n"
        "def kind(x): return 'any'\n"
        "@kind.register\n"
        "def _(x: int): return 'int'\n"
        "class Kept:\n"
        "    @functools.singledispatchmethod\n"
        "    def kind(self, x): return 'any'\n"
        "    @functools.cached_property\n"
        "    def number(self): return 4\n"
        "def look(kept): return kept.kind(1), kept.number\n"
    )
    assert [pool.go(script.kind, value).result(PATIENCE) for value in (1, "")] == ["int", "any"]
    script.kind(1)  # it remembers what it has found
    assert [pool.go(script.kind, value).result(PATIENCE) for value in (1, "")] == ["int", "any"]
    assert pool.go(script.look, script.Kept()).result(PATIENCE) == ("any", 4)


# --- what is kept -----------------------------------------------------------------------------------------------


class Color(enum.Enum):
    RED = 1

    def look(self):
        return self.value


@dataclasses.dataclass
class Point:
    x: int
    others: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Frozen:
    x: int
    other: "Point | None" = None


class Properties:
    @functools.cached_property
    def cached(self):
        return 1

    @staticmethod
    def static():
        return 2

    @property
    def plain(self):
        return super().__hash__()


def of_main(value, monkeypatch):
    """As if it were of a script."""
    monkeypatch.setattr(value, "__module__", "__main__")
    for one in list(vars(value).values()) if isinstance(value, type) else ():
        if isinstance(one, types.FunctionType):
            monkeypatch.setattr(one, "__module__", "__main__")


def recursive():
    def factorial(number):
        return 1 if number < 2 else number * factorial(number - 1)

    return factorial


KEPT = {
    "atoms": lambda number, more=1: (number, more, PATIENCE),
    "a class": lambda: Properties().plain,
    "an enumeration": lambda: Color.RED.look(),
    "dataclasses": lambda: (Point(1), Frozen(2)),
    "a closure that calls itself": recursive(),
    "a cached function": functools.lru_cache(lambda number: number),
}


@pytest.mark.parametrize("function", KEPT.values(), ids=KEPT)
def test_packed_once_while_nothing_changes(function, monkeypatch):
    for class_ in (Color, Point, Frozen, Properties):
        of_main(class_, monkeypatch)
    assert _functions.pack(function)[0] is _functions.pack(function)[0]


def test_what_can_change_inside_is_packed_each_time():
    numbers = [1]
    assert _functions.pack(lambda: numbers)[0] is not _functions.pack(lambda: numbers)[0]


def test_a_function_that_was_sent_is_forgotten_when_nobody_has_it(main, pool):
    def freed(value):
        return weakref.ref(value)

    script = main("class Kept:\n    def look(self=None): return Kept\nKept.function = Kept.look")
    refs = [freed(script.Kept), freed(script.Kept.look)]
    pool.go(script.Kept.look).result(PATIENCE)
    recurring = recursive()
    pool.go(recurring, 3).result(PATIENCE)
    refs.append(freed(recurring))
    del recurring, script.Kept
    gc.collect()
    assert [ref() for ref in refs] == [None, None, None]


def test_in_a_script(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import functools, thistledown as td\n"
        "@td.task\n"
        "@functools.cache\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "print(fib.go(30).result(), td.go(fib, 31).result())\n"
    )
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ended.stdout == "832040 1346269\n", ended.stderr
