"""For pytest: ``-p thistledown.pytest_plugin``, or ``pytest_plugins = ["thistledown.pytest_plugin"]`` in a conftest.

It is off until it is asked for, and owns no event loop: a test runs what it wants to, with ``td.run`` or any other way.

- A test that leaves something behind fails: a weightless task that still lives in a run of another thread, a worker
  process, a thread, a descriptor. The option ``thistledown_leaks`` and the marker's argument ``leaks`` say what is
  looked for: any of ``tasks``, ``workers``, ``threads``, ``fds``, or ``none``; the default is all of them. What is
  about to end has five seconds for it, in which the test waits: a thread that is over in one is nothing left behind.
  The option ``thistledown_patience`` sets another time.
- A test that takes too long fails, and prints the tree of who waits for what: ``@pytest.mark.thistledown(timeout=5)``,
  or the option ``thistledown_timeout`` for all. The tasks of worker processes that it leaves running are cancelled,
  and its report names them and what else runs on. One that is stuck in C, which no signal ends, ends the session.
- The fixture ``virtual_run`` is ``thistledown.testing.run``: a run on a clock that jumps.

Sources: the leak checks of dask's test suite, pytest-timeout, trio's autojump clock.
"""

import contextlib
import faulthandler
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NoReturn

import pytest

from thistledown import _tree_pools, testing
from thistledown._tree import Tree, tree

__all__ = ["virtual_run"]

KINDS = ("tasks", "workers", "threads", "fds")
"""What a test can leave behind."""

SETTLING_SECONDS = 5.0
"""How long what a test has ended may take to be gone, unless the ini file says otherwise."""

HARD_SECONDS = 10.0
"""How long after its limit a test may take to end; then the session does."""

AGAIN_SECONDS = 1.0
"""How long after its limit it is told again that its time is over."""

_STDERR = pytest.StashKey[int]()
_FAILED = pytest.StashKey[bool]()
_LEFT_RUNNING = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the ini file."""
    parser.addini("thistledown_timeout", "seconds that each test may take; 0 for no limit", default="0")
    parser.addini("thistledown_leaks", f"what a test must not leave behind: {', '.join(KINDS)}, or none", default="all")
    parser.addini(
        "thistledown_patience",
        "seconds that what is about to end has, before it is left behind",
        default=f"{SETTLING_SECONDS:g}",
    )


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and a way to standard error that no test's capturing closes."""
    config.addinivalue_line(
        "markers",
        "thistledown(timeout=None, leaks=None): seconds that the test may take, and what it must not leave behind "
        f"(any of {', '.join(KINDS)}, or none)",
    )
    with contextlib.suppress(OSError):
        config.stash[_STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Lets go of it."""
    if _STDERR in config.stash:
        os.close(config.stash[_STDERR])
        del config.stash[_STDERR]


@pytest.fixture
def virtual_run() -> Callable[..., Any]:
    """``td.run`` on a virtual clock: an hour of sleeps takes no time. See ``thistledown.testing.run``."""
    return testing.run


# --- what a test asks for ---------------------------------------------------------------------------------------


def _wanted(item: pytest.Item, name: str) -> Any:
    """What the marker says, or else the ini file."""
    marker = item.get_closest_marker("thistledown")
    if marker is not None:
        unknown = set(marker.kwargs) - {"timeout", "leaks"}
        if unknown or marker.args:
            raise pytest.UsageError("write @pytest.mark.thistledown(timeout=seconds, leaks='tasks threads')")
        if marker.kwargs.get(name) is not None:
            return marker.kwargs[name]
    return item.config.getini(f"thistledown_{name}")


def _limit(item: pytest.Item) -> float | None:
    """Seconds that the test may take; None for as long as it takes."""
    try:
        seconds = float(_wanted(item, "timeout"))
    except (TypeError, ValueError):
        raise pytest.UsageError(
            f"thistledown: timeout is a number of seconds, got {_wanted(item, 'timeout')!r}"
        ) from None
    return seconds if seconds > 0 else None


def _patience(config: pytest.Config) -> float:
    """Seconds that what a test has ended may take to be gone."""
    wanted = config.getini("thistledown_patience")
    try:
        seconds = float(wanted)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise pytest.UsageError(f"thistledown: patience is a number of seconds, got {wanted!r}")
    return seconds


def _kinds(item: pytest.Item) -> frozenset[str]:
    """What the test must not leave behind."""
    wanted = _wanted(item, "leaks")
    names = wanted.replace(",", " ").split() if isinstance(wanted, str) else list(wanted)
    if names == ["all"]:
        return frozenset(KINDS)
    if names == ["none"]:
        return frozenset()
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise pytest.UsageError(f"thistledown: leaks are any of {', '.join(KINDS)}, or none; got {unknown[0]!r}")
    return frozenset(names)


# --- what is left behind ----------------------------------------------------------------------------------------


def _tasks(seen: Tree) -> Iterator[str]:
    """Weightless tasks that live. Those of a worker's pool are the pool's."""
    for run in seen.of_kind("run"):
        yield from (f"task {node.name}" for node in run.nodes() if node.kind == "task")


def _workers(seen: Tree) -> Iterator[str]:
    """Worker processes that nobody has told to leave."""
    yield from (node.name for node in seen.of_kind("worker"))


def _threads(_: Tree) -> Iterator[str]:
    """Threads, but for those of the engine, which end by themselves."""
    for thread in threading.enumerate():
        if not thread.name.startswith("thistledown-"):
            yield f"thread {thread.name} ({thread.ident})"


def _fds(_: Tree) -> Iterator[str]:
    """Open descriptors, but for the pipe in which each thread sleeps that has ever waited for an operation."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if "eventpoll" not in target and f"/proc/{os.getpid()}/fd" not in target:
                yield f"descriptor {name}, {target}"


_LOOKS = {"tasks": _tasks, "workers": _workers, "threads": _threads, "fds": _fds}


def _present(kinds: frozenset[str]) -> dict[str, set[str]]:
    seen = tree()
    return {kind: set(_LOOKS[kind](seen)) for kind in kinds}


def _left(kinds: frozenset[str], before: dict[str, set[str]], patience: float) -> list[str]:
    """What there is that was not there before, when what is about to end has had its time."""
    deadline = time.monotonic() + patience
    while True:
        now = _present(kinds)
        left = [what for kind in KINDS if kind in kinds for what in sorted(now[kind] - before[kind])]
        left = _without_beds(left)
        if not left or time.monotonic() > deadline:
            return left
        # A cycle of objects may still hold a socket.
        gc.collect()
        time.sleep(0.005)


def _without_beds(left: list[str]) -> list[str]:
    """The two ends of the pipe in which the main thread has slept are no leak: it keeps them for the next time."""
    pipes = [what for what in left if ", pipe:" in what]
    by_target: dict[str, list[str]] = {}
    for what in pipes:
        by_target.setdefault(what.rpartition(", ")[2], []).append(what)
    allowed = 1 + sum(thread.name.startswith("thistledown-") for thread in threading.enumerate())
    beds = [both for both in by_target.values() if len(both) == 2][:allowed]
    return [what for what in left if not any(what in both for both in beds)]


# --- the test ---------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compares what there is before the test's own fixtures with what there is after them.

    What fixtures of a wider scope have made by then is not the test's. A test that has failed has said enough, and its
    traceback holds what it had.
    """
    kinds = _kinds(request.node)
    before = _present(kinds) if kinds else {}
    yield
    if not kinds or request.node.stash.get(_FAILED, False):
        return
    left = _left(kinds, before, _patience(request.config))
    if left:
        words = "\n".join(f"  {what}" for what in left)
        pytest.fail(f"the test left behind:\n{words}\n\n{tree()}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers whether the test failed, and says what one that took too long has left running."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = report.failed
        if (words := item.stash.get(_LEFT_RUNNING, "")) and report.failed:
            report.sections.append(("left running by the test", words))
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Gives the test its time."""
    limit = _limit(item)
    if limit is None:
        return (yield)
    with _limited(item, limit):
        return (yield)


@contextlib.contextmanager
def _limited(item: pytest.Item, limit: float) -> Iterator[None]:
    """Raises in the test when its time is over; a second, harder limit stands behind that."""

    before, is_over = _running(tree()), False

    def late(*_: object) -> NoReturn:
        nonlocal is_over
        is_over = True
        pytest.fail(f"the test has not ended within {limit:g} seconds\n\n{tree()}", pytrace=False)

    # A run that waits for nothing but this signal waits for nothing.
    late.ends_a_test = True  # type: ignore[attr-defined]
    is_main = threading.current_thread() is threading.main_thread()
    known = signal.signal(signal.SIGALRM, late) if is_main else None
    faulthandler.dump_traceback_later(limit + HARD_SECONDS, exit=True, file=item.config.stash.get(_STDERR, 2))
    if is_main:
        # Again and again: the first may strike a task that is not the one for which the test waits.
        signal.setitimer(signal.ITIMER_REAL, limit, AGAIN_SECONDS)
    try:
        yield
    finally:
        if is_main:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, known)
        faulthandler.cancel_dump_traceback_later()
        if is_over:
            item.stash[_LEFT_RUNNING] = _end_what_runs(before, _patience(item.config))


# --- what a test that took too long leaves running --------------------------------------------------------------


def _jobs(seen: Tree) -> set[str]:
    """The tasks of worker processes, by their names."""
    return {node.name for pool in seen.of_kind("pool") for node in pool.nodes() if node.kind == "task"}


def _running(seen: Tree) -> dict[str, set[str]]:
    """What may run on behind a test that was ended in the middle."""
    return {"jobs": _jobs(seen), "tasks": set(_tasks(seen)), "threads": set(_threads(seen))}


def _end_what_runs(before: dict[str, set[str]], patience: float) -> str:
    """Cancels the tasks of worker processes that were not there before, and waits until they have ended: whoever waits
    for nothing later waits for nothing. Gives the words for them and for what else runs on."""
    now = _running(tree())
    jobs = now["jobs"] - before["jobs"]
    # One that its test is about to end, in a `finally`, has ended meanwhile.
    if jobs:
        _tree_pools.cancel(jobs)
    deadline = time.monotonic() + patience
    while jobs & _jobs(tree()) and time.monotonic() < deadline:
        time.sleep(0.005)
    remaining = _running(tree())
    words = [f"task {name} of a worker process: cancelled" for name in sorted(jobs - remaining["jobs"])]
    words += [f"task {name} of a worker process: cancelled, has not ended" for name in sorted(jobs & remaining["jobs"])]
    # A task of a group that runs elsewhere stands in its run as well.
    others = (what for kind in ("tasks", "threads") for what in sorted(remaining[kind] - before[kind]))
    return "\n".join([*words, *(f"{what}: runs on" for what in others)])
