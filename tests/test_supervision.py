"""What a supervisor decides, without clock, process or task. Each test names the section of Erlang/OTP's documents.

``sup_princ`` is "Supervisor Behaviour" in the design principles, ``supervisor`` the reference of that module.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thistledown._supervision import Child, Start, Stop, Supervision

reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=300)
BROKEN = ValueError("cannot start")


class World:
    """Does what is decided, and writes it down. Children in `failing` do not start, so many times."""

    def __init__(self, supervision, failing=None):
        self.supervision = supervision
        self.failing = dict(failing or {})
        self.log = []
        self.living = set()

    def carry_out(self, steps):
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = self.step(step)

    def step(self, step):
        name = step.child.name
        if isinstance(step, Stop):
            self.log.append(f"-{name}")
            self.living.remove(name)
            return None
        assert isinstance(step, Start)
        assert name not in self.living
        if self.failing.get(name, 0):
            self.failing[name] -= 1
            self.log.append(f"!{name}")
            return BROKEN
        self.log.append(f"+{name}")
        self.living.add(name)
        return None

    def start(self, *children):
        failure = self.carry_out(self.supervision.start(children))
        return failure, self.take()

    def dies(self, name, *, is_normal=False, now=0.0):
        """What comes of this end, and of the tries that follow from it."""
        self.living.remove(name)
        verdict, child = self.carry_out(self.supervision.ended(self.find(name), is_normal, now))
        while verdict == "again":
            verdict, child = self.carry_out(self.supervision.again(child, now))
        return verdict, self.take()

    def find(self, name):
        return self.supervision.find(name)

    def take(self):
        log, self.log = self.log, []
        return " ".join(log)

    def states(self):
        return {child.name: child.state for child in self.supervision.children}


def permanent(names):
    return [Child(name) for name in names]


def test_children_are_started_in_order_and_stopped_in_reverse():
    """sup_princ, Supervision Principles."""
    world = World(Supervision())
    assert world.start(*permanent("abc")) == (None, "+a +b +c")
    world.carry_out(world.supervision.stop())
    assert world.take() == "-c -b -a"
    assert world.states() == dict.fromkeys("abc", "down")


def test_a_start_that_fails_stops_those_that_were_started_and_fails():
    """supervisor, start_link: it "first terminates all already started child processes"."""
    world = World(Supervision(), {"c": 1})
    assert world.start(*permanent("abcd")) == (BROKEN, "+a +b !c -b -a")
    assert world.living == set()


RESTARTED = {
    "one_for_one": "+b",
    "one_for_all": "-d -c -a +a +b +c +d",
    "rest_for_one": "-d -c +b +c +d",
}


@pytest.mark.parametrize("strategy", RESTARTED)
def test_what_is_started_again_when_one_dies(strategy):
    """sup_princ, Restart Strategy."""
    world = World(Supervision(strategy))
    world.start(*permanent("abcd"))
    assert world.dies("b") == ("well", RESTARTED[strategy])
    assert world.living == set("abcd")


@pytest.mark.parametrize(
    ("restart", "is_normal", "log"),
    [
        ("permanent", True, "+a"),
        ("permanent", False, "+a"),
        ("transient", True, ""),
        ("transient", False, "+a"),
        ("temporary", True, ""),
        ("temporary", False, ""),
    ],
)
def test_whether_a_child_is_started_again(restart, is_normal, log):
    """sup_princ, Child Specification, restart."""
    world = World(Supervision())
    world.start(Child("a", restart))
    assert world.dies("a", is_normal=is_normal) == ("well", log)


def test_a_transient_child_that_came_to_its_end_is_known_and_a_temporary_one_is_not():
    """supervisor, which_children and terminate_child: a temporary child's specification goes with it."""
    world = World(Supervision())
    world.start(Child("a", "transient"), Child("b", "temporary"), Child("c"))
    world.dies("a", is_normal=True)
    world.dies("b", is_normal=True)
    assert world.states() == {"a": "down", "c": "running"}


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_a_temporary_child_is_not_started_again_when_a_siblings_death_stops_it(strategy):
    """sup_princ, Child Specification, restart: "not even when the restart strategy is rest_for_one or one_for_all"."""
    world = World(Supervision(strategy))
    world.start(Child("a"), Child("b", "temporary"), Child("c"))
    assert world.dies("a") == ("well", "-c -b +a +c")
    assert world.states() == {"a": "running", "c": "running"}


def test_a_child_that_was_down_is_started_with_all_others():
    """supervisor, Restart Strategies: with one_for_all "all child processes are restarted"."""
    world = World(Supervision("one_for_all"))
    world.start(Child("a", "transient"), Child("b"))
    world.dies("a", is_normal=True)
    assert world.dies("b") == ("well", "+a +b")


def test_one_restart_more_than_allowed_within_the_time_ends_the_supervisor():
    """sup_princ, Maximum Restart Intensity."""
    world = World(Supervision(max_restarts=2, within=5.0))
    world.start(*permanent("ab"))
    assert world.dies("a", now=0.0) == ("well", "+a")
    assert world.dies("b", now=1.0) == ("well", "+b")
    assert world.dies("a", now=2.0) == ("over", "")
    world.carry_out(world.supervision.stop())
    assert world.take() == "-b"


def test_restarts_that_are_older_do_not_count():
    """sup_princ, Maximum Restart Intensity: "in the last MaxT seconds"."""
    world = World(Supervision(max_restarts=1, within=5.0))
    world.start(Child("a"))
    for now in (0.0, 5.1, 10.2):
        assert world.dies("a", now=now) == ("well", "+a")
    assert world.dies("a", now=15.2) == ("over", "")


def test_without_restarts_the_first_death_ends_the_supervisor():
    """sup_princ, Maximum Restart Intensity."""
    world = World(Supervision(max_restarts=0))
    world.start(Child("a"), Child("b", "temporary"))
    assert world.dies("b") == ("well", "")
    assert world.dies("a") == ("over", "")


def test_a_restart_that_fails_is_tried_again_and_counts():
    """supervisor, Restart intensity and period: it prevents an infinite loop of terminations and restarts."""
    world = World(Supervision(max_restarts=3, within=5.0), {"a": 0})
    world.start(Child("a"))
    world.failing["a"] = 2
    assert world.dies("a") == ("well", "!a !a +a")
    world.failing["a"] = 9
    assert world.dies("a") == ("over", "")
    assert world.states() == {"a": "down"}


def test_with_rest_for_one_it_is_tried_again_from_the_child_that_failed():
    """sup_princ, Restart Strategy, rest_for_one."""
    world = World(Supervision("rest_for_one", max_restarts=9))
    world.start(*permanent("abc"))
    world.failing["b"] = 1
    assert world.dies("a") == ("well", "-c -b +a !b +b +c")


def test_with_one_for_all_it_is_tried_again_with_all():
    """sup_princ, Restart Strategy, one_for_all."""
    world = World(Supervision("one_for_all", max_restarts=9))
    world.start(*permanent("abc"))
    world.failing["b"] = 1
    assert world.dies("c") == ("well", "-b -a +a !b -a +a +b +c")


def test_somebody_ends_a_child_that_is_to_be_tried_again():
    """supervisor, terminate_child: it also ends the restarting of a child."""
    world = World(Supervision(max_restarts=9), {})
    world.start(Child("a"))
    world.failing["a"] = 9
    world.living.remove("a")
    verdict, child = world.carry_out(world.supervision.ended(world.find("a"), False, 0.0))
    assert (verdict, child.state) == ("again", "restarting")
    world.carry_out(world.supervision.terminate_child(child))
    assert world.carry_out(world.supervision.again(child, 0.0)) == ("well", None)
    assert world.take() == "!a"


def test_who_died_is_down_when_one_before_it_fails_to_start_and_is_given_up():
    """supervisor, Restart Strategies: all are terminated, and only the child that failed is tried again."""
    world = World(Supervision("one_for_all", max_restarts=9))
    world.start(*permanent("abc"))
    world.failing["a"] = 1
    world.living.remove("b")
    verdict, child = world.carry_out(world.supervision.ended(world.find("b"), False, 0.0))
    assert (verdict, child.name) == ("again", "a")
    assert world.states() == {"a": "restarting", "b": "down", "c": "down"}
    world.carry_out(world.supervision.terminate_child(child))
    assert world.carry_out(world.supervision.again(child, 0.0)) == ("well", None)
    assert world.carry_out(world.supervision.restart_child(world.find("b"))) is None
    assert world.states() == {"a": "down", "b": "running", "c": "down"}


def test_children_come_and_go_on_demand():
    """supervisor, start_child, terminate_child, restart_child and delete_child."""
    world = World(Supervision("rest_for_one"))
    world.start(*permanent("ab"))
    assert world.carry_out(world.supervision.start_child(Child("c"))) is None
    world.carry_out(world.supervision.terminate_child(world.find("b")))
    assert world.take() == "+c -b"
    assert world.carry_out(world.supervision.restart_child(world.find("b"))) is None
    assert world.take() == "+b"
    assert world.dies("b") == ("well", "-c +b +c")
    world.carry_out(world.supervision.terminate_child(world.find("b")))
    world.supervision.delete_child(world.find("b"))
    assert world.states() == {"a": "running", "c": "running"}


def test_a_new_child_that_cannot_be_started_is_not_known():
    """supervisor, start_child: then "the child specification is discarded"."""
    world = World(Supervision(), {"b": 1})
    world.start(Child("a"))
    assert world.carry_out(world.supervision.start_child(Child("b"))) is BROKEN
    assert world.states() == {"a": "running"}


# --- against a naive reference --------------------------------------------------------------------------------


class Reference:
    """The same rules as lists that are cut and joined, with the try that follows a failure as recursion."""

    def __init__(self, strategy, max_restarts, within, failing):
        self.strategy, self.max_restarts, self.within = strategy, max_restarts, within
        self.failing = dict(failing)
        self.rows = []  # [name, restart, state]
        self.moments = []
        self.log = []
        self.is_over = False

    def up(self, row):
        if self.failing.get(row[0], 0):
            self.failing[row[0]] -= 1
            self.log.append(f"!{row[0]}")
            row[2] = "down"
            return False
        self.log.append(f"+{row[0]}")
        row[2] = "running"
        return True

    def down(self, rows):
        for row in rows[::-1]:
            if row[2] == "running":
                self.log.append(f"-{row[0]}")
            row[2] = "down"
        self.rows = [row for row in self.rows if row not in rows or row[1] != "temporary"]

    def start(self, rows):
        self.rows = [list(row) for row in rows]
        for row in list(self.rows):
            if not self.up(row):
                self.over()
                return

    def over(self):
        self.is_over = True
        self.down(self.rows)

    def dies(self, name, is_normal, now):
        (row,) = [row for row in self.rows if row[0] == name]
        row[2] = "down"
        if row[1] == "temporary":
            self.rows.remove(row)
        elif row[1] == "permanent" or not is_normal:
            self.restart(row, now)

    def restart(self, row, now):
        self.moments.append(now)
        if sum(now - moment <= self.within for moment in self.moments) > self.max_restarts:
            self.over()
            return
        at = {"one_for_one": 0, "one_for_all": 0, "rest_for_one": self.rows.index(row)}[self.strategy]
        if self.strategy == "one_for_one":
            concerned = [row]
        else:
            self.down([other for other in self.rows[at:] if other is not row])
            concerned = self.rows[at:]
        for other in concerned:
            if not self.up(other):
                self.restart(other, now)
                return


FAILURES = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 3), max_size=3)
DEEDS = st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from([0.0, 0.5, 3.0]), FAILURES), max_size=12)


@reproducible
@given(
    st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=1, max_size=5),
    st.integers(0, 4),
    FAILURES,
    DEEDS,
)
def test_random_lives_go_as_a_naive_reference_says(strategy, restarts, max_restarts, failing, deeds):
    rows = [(name, restart, "down") for name, restart in zip("abcde", restarts, strict=False)]
    world = World(Supervision(strategy, max_restarts, 2.0), failing)
    reference = Reference(strategy, max_restarts, 2.0, failing)
    failure, log = world.start(*(Child(name, restart) for name, restart, _ in rows))
    reference.start(rows)
    assert ((failure is not None), log) == (reference.is_over, " ".join(reference.log))
    now = 0.0
    for number, is_normal, pause, failures in deeds:
        running = [row[0] for row in reference.rows if row[2] == "running"]
        assert sorted(world.living) == sorted(running)
        if reference.is_over or not running:
            return
        name, now = running[number % len(running)], now + pause
        world.failing, reference.failing, reference.log = dict(failures), dict(failures), []
        verdict, log = world.dies(name, is_normal=is_normal, now=now)
        if verdict == "over":
            world.carry_out(world.supervision.stop())
            log = f"{log} {world.take()}".strip()
        reference.dies(name, is_normal, now)
        assert (verdict == "over", log) == (reference.is_over, " ".join(reference.log))
        expected = {row[0]: row[2] for row in reference.rows}
        assert world.states() == expected
