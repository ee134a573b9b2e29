"""Rules for every test: coroutine tests run as weightless tasks, each has a time limit, none leaves a trace.

An `async def` test is the main task of a `td.run`; marked `virtual_clock`, it runs on the clock that jumps.
After each test the process has no thread, file descriptor or child more than before; only idle helper threads
of the engine itself (named `thistledown...`) may stay.
"""

import asyncio
import faulthandler
import functools
import gc
import inspect
import os
import signal
import socket
import time

import pytest
import thistledown as td
from thistledown import testing

from leaks import child_processes, count_pipes, foreign_threads, helper_count, open_files
from support import HOMES, LOOPS, PATIENCE

DEFAULT_LIMIT_SECONDS = 60
STDERR_KEY = pytest.StashKey[int]()


def pytest_configure(config):
    config.addinivalue_line("markers", "virtual_clock: run the coroutine test on a clock that jumps")
    config.addinivalue_line("markers", "slow: takes seconds, and still runs by default")
    config.stash[STDERR_KEY] = os.dup(2)
    # A shell that starts a command in the background has it ignore Ctrl-C, and what that starts as well.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config):
    os.close(config.stash[STDERR_KEY])


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a coroutine test to its end as the main task of a run."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    home = pyfuncitem.funcargs.get("home")
    names = inspect.signature(pyfuncitem.obj).parameters
    body = functools.partial(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    run = testing.run if pyfuncitem.get_closest_marker("virtual_clock") else td.run
    if home is not None:
        run = home.run
    run(body())
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Behind the limit of pytest-timeout, which needs the interpreter, stands one that does not."""
    marker = item.get_closest_marker("timeout")
    limit = (marker.args[0] if marker else 0) or DEFAULT_LIMIT_SECONDS
    faulthandler.dump_traceback_later(limit + 20, exit=True, file=item.config.stash[STDERR_KEY])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def first_pipes():
    """How many pipes are open when the engine has made what it keeps in the main thread.

    A thread that ever waited for an operation keeps the pipe in which it sleeps until it ends.
    """

    async def main():
        await td.thread(int)
        await td.sleep(0.001)

    td.run(main)
    for home in HOMES.values():  # libuv keeps pipes of its own as well
        home.run(main())
    td.sleep(0.001).wait()
    return count_pipes(open_files())


def left_behind(files):
    """What is open that was not among these files, but for pipes, which are counted."""
    now = open_files()
    return {fd: target for fd, target in now.items() if fd not in files and not target.startswith("pipe:")}


@pytest.fixture(autouse=True)
def no_leaks(first_pipes):
    threads, files, children = foreign_threads(), open_files(), child_processes()
    yield
    if open_files().keys() - files.keys():
        gc.collect()  # a cycle may still hold a socket; what survives this is a leak
    assert foreign_threads() - threads == set(), "threads left behind"
    # The watchdog's thread may be in the middle of a report, and holds what it needs for it until that is done.
    deadline = time.monotonic() + 10
    while left := left_behind(files):
        assert time.monotonic() < deadline, f"files left behind: {left}"
        time.sleep(0.001)
    before = max(first_pipes, count_pipes(files))
    assert count_pipes(open_files()) <= before + 2 * helper_count(), "pipes left behind"
    assert child_processes() - children == set(), "child processes left behind"


@pytest.fixture(params=HOMES)
def home(request):
    """Each kind of loop; a coroutine test runs in it."""
    return HOMES[request.param]


@pytest.fixture(params=LOOPS)
def loop_factory(request):
    """What makes each kind of asyncio loop."""
    return LOOPS[request.param]


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine function in a new asyncio loop of each kind, with a limit of time."""

    def run(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(main(), PATIENCE))

    return run


@pytest.fixture
def tcp_pair():
    """A `td.Socket` and the plain blocking socket it is connected to, over TCP on the loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with td.Socket(near) as wrapped, far:
        far.settimeout(30)
        yield wrapped, far


@pytest.fixture
def unix_pair():
    """A `td.Socket` and the plain blocking socket it is connected to, as a Unix stream pair."""
    near, far = socket.socketpair()
    with td.Socket(near) as wrapped, far:
        far.settimeout(30)
        yield wrapped, far
