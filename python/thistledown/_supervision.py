"""What a supervisor decides: which child is started, which is stopped, in which order, and when it gives up.

A pure state machine, without clock, process or task. Whoever carries it out is told one thing at a time: each decision
is a generator that yields ``Start(child)`` or ``Stop(child)`` and is sent what came of it, None when it went well. So a
decision is over before the next begins, and what happens meanwhile waits, as messages to a process do.

Invariants: children are started in their order and stopped in the reverse order. At most ``max_restarts`` restarts,
also those that fail, happen within ``within`` seconds; one more, and the supervisor is to end. A temporary child that
does not run is not known any more.

What it is not: it knows no handles, and not how a child is started, stopped or killed, nor how long that takes.
Source: Erlang/OTP, ``supervisor``, whose rules these are, and the order of its steps.
"""

from collections.abc import Generator, Iterable
from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Child", "Restart", "Start", "Steps", "Stop", "Strategy", "Supervision"]

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
State = Literal["running", "restarting", "down"]


class Child:
    """A child as its supervisor knows it."""

    __slots__ = ("name", "restart", "restarts", "state")

    def __init__(self, name: str, restart: Restart = "permanent") -> None:
        self.name = name
        self.restart = restart
        self.state: State = "down"
        # How many times it was started again.
        self.restarts = 0

    def __repr__(self) -> str:
        return f"<{self.restart} child {self.name}, {self.state}>"


class Start(NamedTuple):
    """Start this child. The answer is None, or why it could not be started."""

    child: Child


class Stop(NamedTuple):
    """Stop this child, and kill it when its time is over. The answer is None, when it has ended."""

    child: Child


Failure: TypeAlias = BaseException | None
Steps: TypeAlias = Generator[Start | Stop, Failure, "Failure"]
"""A decision that is carried out step by step. It gives None, or what it failed by."""
Verdict: TypeAlias = tuple[Literal["well", "again", "over"], Child | None]
"""What comes of an end: all is well; this child has to be started ``again``; the supervisor is to be ``over``."""


class Supervision:
    """The children of one supervisor, in the order of their start."""

    def __init__(self, strategy: Strategy = "one_for_one", max_restarts: int = 1, within: float = 5.0) -> None:
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.within = within
        self.children: list[Child] = []
        self._restarted_at: list[float] = []

    def find(self, name: str) -> Child | None:
        """The child of this name. Of a copy, since other threads ask while children come and go."""
        return next((child for child in list(self.children) if child.name == name), None)

    # --- as a whole -------------------------------------------------------------------------------------------------

    def start(self, children: Iterable[Child]) -> Steps:
        """Starts them all. When one fails, those that were started are stopped, and its failure is what comes of it."""
        self.children = list(children)
        self._restarted_at.clear()
        failed = yield from self._start_all(self.children)
        if failed is None:
            return None
        failure = failed[1]
        yield from self.stop()
        return failure

    def stop(self) -> Steps:
        """Stops them all, the last one first."""
        yield from self._stop_all(self.children)
        return None

    # --- an end -----------------------------------------------------------------------------------------------------

    def ended(self, child: Child, is_normal: bool, now: float) -> Generator[Start | Stop, Failure, Verdict]:
        """A running child has ended, which nobody here has asked for.

        Args:
            child: which.
            is_normal: it came to its end, or was shut down; else it failed, died or was killed.
            now: the moment, in seconds.
        """
        if child.restart == "permanent" or (child.restart == "transient" and not is_normal):
            return (yield from self._restart(child, now))
        self._is_down(child)
        return "well", None

    def again(self, child: Child, now: float) -> Generator[Start | Stop, Failure, Verdict]:
        """The start of this child has failed, and is to be tried again, unless somebody has ended that meanwhile."""
        if child.state != "restarting" or child not in self.children:
            return "well", None
        return (yield from self._restart(child, now))

    def _restart(self, child: Child, now: float) -> Generator[Start | Stop, Failure, Verdict]:
        self._restarted_at = [moment for moment in self._restarted_at if moment >= now - self.within]
        self._restarted_at.append(now)
        if len(self._restarted_at) > self.max_restarts:
            self._is_down(child)
            return "over", child
        child.state = "restarting"
        if self.strategy == "one_for_one":
            concerned = [child]
        else:
            first = 0 if self.strategy == "one_for_all" else self.children.index(child)
            concerned = self.children[first:]
            yield from self._stop_all(other for other in concerned if other is not child)
            # Only one whose start fails is to be tried again: this one is started with the others, or stays down.
            child.state = "down"
            concerned = [other for other in concerned if other in self.children]
        failed = yield from self._start_all(concerned, is_restart=True)
        if failed is None:
            return "well", None
        child, _ = failed
        child.state = "restarting"
        return "again", child

    # --- on demand --------------------------------------------------------------------------------------------------

    def start_child(self, child: Child) -> Steps:
        """Adds a child behind all others. One that cannot be started is not added."""
        failure = yield Start(child)
        if failure is None:
            child.state = "running"
            self.children.append(child)
        return failure

    def terminate_child(self, child: Child) -> Steps:
        """Stops a child, which stays known unless it is temporary."""
        if child.state == "running":
            yield Stop(child)
        self._is_down(child)
        return None

    def restart_child(self, child: Child) -> Steps:
        """Starts a child that does not run."""
        failure = yield Start(child)
        if failure is None:
            child.state = "running"
            child.restarts += 1
        return failure

    def delete_child(self, child: Child) -> None:
        """Forgets a child that does not run."""
        self.children.remove(child)

    # --- steps ------------------------------------------------------------------------------------------------------

    def _start_all(
        self, children: Iterable[Child], *, is_restart: bool = False
    ) -> Generator[Start | Stop, Failure, tuple[Child, BaseException] | None]:
        for child in children:
            failure = yield Start(child)
            if failure is not None:
                child.state = "down"
                return child, failure
            child.state = "running"
            child.restarts += is_restart
        return None

    def _stop_all(self, children: Iterable[Child]) -> Generator[Start | Stop, Failure, None]:
        for child in reversed(list(children)):
            if child.state == "running":
                yield Stop(child)
            self._is_down(child)

    def _is_down(self, child: Child) -> None:
        child.state = "down"
        if child.restart == "temporary":
            self.children.remove(child)
