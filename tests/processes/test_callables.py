"""What can be told to go in a worker: names, functions of any kind, classes, methods; by reference or by value."""

import functools
import math
import operator
import sys
import types

import pytest
import thistledown as td
import work

from support import PATIENCE

HERE = 5


class Counter:
    start = 10

    def __init__(self, step):
        self.step = step

    def __call__(self, number):
        return number + self.step

    def add(self, number):
        return self.start + self.step + number

    @classmethod
    def of_class(cls, number):
        return cls.start + number

    @staticmethod
    def of_nobody(number):
        return number + 1

    class Inner:
        @staticmethod
        def deep(number):
            return number * 100


def with_defaults(first, second=2, *rest, third=3, **others):
    return first, second, rest, third, others


def closure(step):
    def add(number):
        return number + step

    return add


def recursive_closure():
    def factorial(number):
        return 1 if number < 2 else number * factorial(number - 1)

    return factorial


CALLABLES = {
    "a function of a module": (math.factorial, 5, 120),
    "a builtin": (len, "four", 4),
    "a type": (int, "12", 12),
    "a function of this module": (with_defaults, 1, (1, 2, (), 3, {})),
    "a lambda": (lambda number: number + HERE, 1, 6),
    "a closure": (closure(7), 1, 8),
    "a closure that calls itself": (recursive_closure(), 5, 120),
    "a partial": (functools.partial(pow, 2), 5, 32),
    "a partial of a lambda": (functools.partial(lambda a, b: (a, b), 1), 2, (1, 2)),
    "a partial of a partial": (functools.partial(functools.partial(with_defaults, 1), third=0), 5, (1, 5, (), 0, {})),
    "a bound method": (Counter(3).add, 1, 14),
    "a class method": (Counter.of_class, 1, 11),
    "a static method": (Counter.of_nobody, 1, 2),
    "a function of an inner class": (Counter.Inner.deep, 3, 300),
    "a callable object": (Counter(3), 1, 4),
    "a method of a builtin": ("a-b".split, "-", ["a", "b"]),
    "an unbound method": (str.upper, "a", "A"),
    "an operator": (operator.itemgetter(1), "xyz", "y"),
    "a cached function": (functools.lru_cache(maxsize=None)(lambda number: number * 2), 4, 8),
    "a name": ("math:factorial", 5, 120),
    "a name of a package's module": ("os.path:basename", "/a/b", "b"),
    "a qualified name": ("builtins:str.upper", "a", "A"),
    "a name of a class": ("fractions:Fraction", "1/2", 0.5),
}


@pytest.mark.parametrize(("function", "argument", "result"), CALLABLES.values(), ids=CALLABLES)
def test_what_can_be_called_can_be_told_to_go(pool, function, argument, result):
    assert pool.go(function, argument).result(PATIENCE) == result
    # A second time, when the workers know it.
    assert pool.go(function, argument).result(PATIENCE) == result
    assert list(pool.map(function, [argument] * 5)) == [result] * 5


def test_arguments_by_name_and_any_number(pool):
    assert pool.go(with_defaults, 1, 2, 4, 5, third=6, x=7).result(PATIENCE) == (1, 2, (4, 5), 6, {"x": 7})
    assert pool.go(work.echo, *range(300)).result(PATIENCE) == (tuple(range(300)), {})
    many = {f"name_{number}": number for number in range(300)}
    assert pool.go(work.echo, **many).result(PATIENCE) == ((), many)


def test_the_task_is_called_after_its_function(pool):
    for function, name in ((work.double, "double"), ("math:sqrt", "sqrt"), (Counter(1).add, "Counter.add")):
        task = pool.go(function, 4)
        assert name in task.name
        task.result(PATIENCE)


NO_FUNCTIONS = {
    "a number": (5, TypeError),
    "None": (None, TypeError),
    "a list": ([], TypeError),
    "a text that is no name": ("no name", ValueError),
    "a module alone": ("math", ValueError),
    "a name without a module": (":sqrt", ValueError),
    "a name without a function": ("math:", ValueError),
    "a call": ("math:sqrt(4)", ValueError),
}


@pytest.mark.parametrize(("function", "kind"), NO_FUNCTIONS.values(), ids=NO_FUNCTIONS)
def test_what_is_no_function_is_refused_at_once(pool, function, kind):
    with pytest.raises(kind, match=r"callable|function"):
        pool.go(function, 1)
    with pytest.raises(kind, match=r"callable|function"):
        list(pool.map(function, [1]))


def test_a_name_that_does_not_exist_fails_in_the_worker_and_says_which(pool):
    with pytest.raises(ImportError, match="no_such_module_at_all") as caught:
        pool.go("no_such_module_at_all:function").result(PATIENCE)
    assert caught.value.name == "no_such_module_at_all"
    with pytest.raises(AttributeError, match="no_such_function"):
        pool.go("math:no_such_function", 1).result(PATIENCE)
    assert pool.go("math:sqrt", 4).result(PATIENCE) == 2


def test_a_name_is_looked_up_by_the_worker_alone(pool, tmp_path, monkeypatch):
    tmp_path.joinpath("late_bound_module.py").write_text("def answer(number):\n    return 42 + number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert pool.go("late_bound_module:answer", 1).result(PATIENCE) == 43
    assert "late_bound_module" not in sys.modules


def test_what_the_function_reaches_is_as_it_is_when_the_task_is_told_to_go(pool):
    namespace = {"factor": 1, "scale": lambda number: number}
    code = compile("def apply(number):\n    return scale(number) * factor", "made-up", "exec")
    exec(code, namespace)
    apply = types.FunctionType(namespace["apply"].__code__, namespace)
    apply.__module__ = "__main__"
    results = []
    for factor in range(1, 6):
        namespace["factor"] = factor
        results.append(pool.go(apply, 10).result(PATIENCE))
    namespace["scale"] = lambda number: number + 1
    results.append(pool.go(apply, 10).result(PATIENCE))
    assert results == [10, 20, 30, 40, 50, 55]


def test_what_a_closure_holds_is_as_it_is_when_the_task_is_told_to_go(pool):
    kept, number = [1], 1

    def look():
        return kept, number

    tasks = []
    for _ in range(4):
        tasks.append(pool.go(look))
        kept.append(1)
        number += 1
    assert [task.result(PATIENCE) for task in tasks] == [([1] * count, count) for count in range(1, 5)]


def test_a_default_that_changes_inside_is_sent_as_it_is(pool):
    def look(seen=[]):  # noqa: B006
        return seen

    assert pool.go(look).result(PATIENCE) == []
    look.__defaults__[0].append(1)
    assert pool.go(look).result(PATIENCE) == [1]
    look.__defaults__ = ([5],)
    assert pool.go(look).result(PATIENCE) == [5]


def test_new_code_of_a_function_is_sent(pool):
    def first():
        return "first"

    def second():
        return "second"

    assert pool.go(first).result(PATIENCE) == "first"
    first.__code__ = second.__code__
    assert pool.go(first).result(PATIENCE) == "second"


def test_new_defaults_of_a_function_are_sent(pool):
    def look(first=1, *, second=2):
        return first, second

    assert pool.go(look).result(PATIENCE) == (1, 2)
    look.__defaults__ = (5,)
    assert pool.go(look).result(PATIENCE) == (5, 2)
    look.__kwdefaults__ = {"second": 7}
    assert pool.go(look).result(PATIENCE) == (5, 7)


def test_what_changes_in_a_class_is_sent(pool):
    class Kept:
        number = 1

        def look(self):
            return self.number

    def look():
        return Kept().look(), getattr(Kept, "later", None)

    assert pool.go(look).result(PATIENCE) == (1, None)
    Kept.number = 2
    assert pool.go(look).result(PATIENCE) == (2, None)
    Kept.look = lambda self: 3
    assert pool.go(look).result(PATIENCE) == (3, None)
    Kept.later = 4
    assert pool.go(look).result(PATIENCE) == (3, 4)


def test_many_different_functions(pool):
    """More than anybody remembers; each is another one, at an address that may have been another's."""
    for round_ in range(3):
        tasks = [pool.go(closure(step + round_), 0) for step in range(700)]
        assert [task.result(PATIENCE) for task in tasks] == [step + round_ for step in range(700)]


def test_a_large_function_is_sent(pool):
    table = list(range(200_000))

    def look(place):
        return table[place]

    assert [pool.go(look, place).result(PATIENCE) for place in (0, 199_999)] == [0, 199_999]


def test_what_a_task_changes_is_a_copy(pool):
    kept = {"number": 1}

    def change(given):
        given["number"] += 1
        kept["number"] += 1
        return given, kept

    assert pool.go(change, kept).result(PATIENCE) == ({"number": 2}, {"number": 2})
    assert kept == {"number": 1}


def test_an_object_that_comes_twice_is_one_object(pool):
    shared = [1]
    assert pool.go(lambda a, b: a is b, shared, shared).result(PATIENCE)
    first, second = pool.go(work.echo, shared, shared).result(PATIENCE)[0]
    assert first is second


def test_classes_and_objects_of_this_function_travel(pool):
    class Point:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return type(self) is type(other) and self.x == other.x

        def moved(self, by):
            return type(self)(self.x + by)

    task = pool.go(Point.moved, Point(1), 2)
    moved = task.result(PATIENCE)
    assert moved.x == 3
    assert pool.go(Point, 5).result(PATIENCE).x == 5


def test_iterators_and_modules_travel_when_they_can(pool):
    assert pool.go(lambda module: module.sqrt(4), math).result(PATIENCE) == 2
    assert pool.go(next, iter([3, 2])).result(PATIENCE) == 3
    assert pool.go(list, range(2)).result(PATIENCE) == [0, 1]


# --- td.go and the default pool ---------------------------------------------------------------------------------


def test_exceptions_and_singletons_come_back_as_what_they_are(pool):
    for value in (None, True, Ellipsis, NotImplemented, ValueError, 1 << 100, -1, 0.1, "ä\udc80", b"\0", {1, 2}, ()):
        assert pool.go(work.echo, value).result(PATIENCE)[0][0] == value
    assert pool.go(math.sqrt, float("inf")).result(PATIENCE) == math.inf
    assert math.isnan(pool.go(float, "nan").result(PATIENCE))


@pytest.mark.parametrize("kind", [int, float, str, bytes, tuple, dict, list], ids=lambda kind: kind.__name__)
def test_subclasses_of_plain_types_stay_what_they_are(pool, kind):
    class Own(kind):
        pass

    result = pool.go(lambda value: (type(value).__name__, value), Own()).result(PATIENCE)
    assert result[0] == "Own"
    assert type(result[1]).__name__ == "Own"
    assert result[1] == kind()


def test_texts_and_bytes_of_every_length(pool):
    for length in (0, 1, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1_000_000):
        for value in ("ä" * length, b"\xff" * length, bytearray(b"x" * length)):
            assert pool.go(work.echo, value, by_name=value).result(PATIENCE) == ((value,), {"by_name": value})


def test_a_task_function_goes_to_a_pool_like_the_function_inside(pool):
    @td.task
    def triple(number):
        return 3 * number

    assert pool.go(triple, 2).result(PATIENCE) == 6
    assert list(pool.map(triple, [1, 2])) == [3, 6]
