"""What several tests need: the ways to wait, programs in a process of their own, and marked lines."""

import asyncio
import contextlib
import inspect
import math
import subprocess
import sys
import textwrap
import threading
import types
from pathlib import Path

import thistledown as td
import uvloop

PATIENCE = 30.0  # seconds; a hang limit, never a measure


# --- every way to wait for an operation, as a body, and what is the same in a plain thread --------------------


def plain_wait(operation):
    return operation.wait(PATIENCE)


def plain_select(operation):
    chosen = td.select(td.after(PATIENCE), operation).wait(PATIENCE)
    assert chosen.index == 1
    return chosen.value


def plain_nested_select(operation):
    outer = td.select(td.select(td.after(PATIENCE), operation), td.after(PATIENCE)).wait(PATIENCE)
    assert (outer.index, outer.value.index) == (0, 1)
    return outer.value.value


async def by_await(operation):
    return await operation


class Delegating:
    """Awaitable because what it holds is."""

    def __init__(self, operation):
        self.operation = operation

    def __await__(self):
        return self.operation.__await__()


async def by_delegation(operation):
    return await Delegating(operation)


def by_yield_from(operation):
    return (yield from operation)


async def by_select(operation):
    chosen = await td.select(operation, td.after(PATIENCE))
    assert chosen.index == 0
    return chosen.value


def by_select_in_generator(operation):
    chosen = yield from td.select(td.after(PATIENCE), operation)
    assert chosen.index == 1
    return chosen.value


async def by_nested_select(operation):
    outer = await td.select(td.select(td.after(PATIENCE), operation), td.after(PATIENCE))
    assert (outer.index, outer.value.index) == (0, 1)
    return outer.value.value


async def by_wait_in_thread(operation):
    return await td.thread(operation.wait, PATIENCE)


async def by_select_in_thread(operation):
    chosen = await td.thread(td.select(operation, td.after(PATIENCE)).wait, PATIENCE)
    assert chosen.index == 0
    return chosen.value


WAYS_IN_TASK = [by_await, by_delegation, by_yield_from, by_select, by_select_in_generator, by_nested_select]
WAYS_IN_THREAD = [by_wait_in_thread, by_select_in_thread]
WAYS = WAYS_IN_TASK + WAYS_IN_THREAD

for way in (by_await, by_delegation, by_yield_from, by_wait_in_thread):
    way.plain = plain_wait
for way in (by_select, by_select_in_generator, by_select_in_thread):
    way.plain = plain_select
by_nested_select.plain = plain_nested_select


async def settle(rounds=10):
    """Give way until every task that can run has run to its wait."""
    for _ in range(rounds):
        await td.sleep(0)


# --- every kind of loop that a wait can be in -----------------------------------------------------------------


class Own:
    """Weightless tasks in `td.run`."""

    cancelled, inside = td.TaskCancelled, td.Cancelled

    def run(self, main):
        return td.run(main)

    def start(self, way, operation):
        return td.go(way(operation))


class InLoop(Own):
    """Weightless tasks in an asyncio loop, which they are guests of."""

    def __init__(self, factory):
        self.factory = factory

    def run(self, main):
        with asyncio.Runner(loop_factory=self.factory) as runner:
            return runner.run(asyncio.wait_for(main, PATIENCE))


class TasksOfLoop(InLoop):
    """The tasks of the loop themselves."""

    cancelled = inside = asyncio.CancelledError

    def start(self, way, operation):
        body = way(operation)

        async def await_it():
            return await as_coroutine()

        @types.coroutine
        def as_coroutine():
            return (yield from body)

        return asyncio.ensure_future(body if inspect.iscoroutine(body) else await_it())


class Stopped(Exception):
    """A wait in a plain thread was cancelled."""


class InThread(Own):
    """Plain threads, each with a scope around its wait; a run lets them begin."""

    cancelled, inside = Stopped, td.Cancelled

    def start(self, way, operation):
        return PlainWait(way.plain, operation)


class PlainWait:
    def __init__(self, call, operation):
        self.scope = td.move_on_after(math.inf)
        self.entered = threading.Event()
        self.task = td.go(td.thread(self.call, call, operation))

    def call(self, call, operation):
        with self.scope:
            self.entered.set()
            return True, call(operation)
        return False, None

    def cancel(self):
        assert self.entered.wait(PATIENCE)
        self.scope.cancel()
        return True

    def __await__(self):
        is_done, value = yield from self.task
        if not is_done:
            raise Stopped
        return value


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
HOMES = {
    "own": Own(),
    "thread": InThread(),
    **{f"in {name}": InLoop(factory) for name, factory in LOOPS.items()},
    **{f"{name} task": TasksOfLoop(factory) for name, factory in LOOPS.items()},
}


# --- programs in a process of their own ---------------------------------------------------------------------


def program_command(source, *arguments):
    return [sys.executable, "-u", "-X", "faulthandler", "-c", textwrap.dedent(source), *map(str, arguments)]


def run_program(source, *arguments, timeout=PATIENCE):
    """Run Python `source` to its end in a new interpreter; give its CompletedProcess, in text."""
    return subprocess.run(
        program_command(source, *arguments), capture_output=True, text=True, timeout=timeout, check=False
    )


@contextlib.contextmanager
def started_program(source, *arguments):
    """A new interpreter that runs `source`, with pipes for its streams; dead at the end of the block."""
    process = subprocess.Popen(
        program_command(source, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


# --- lines that an error must name --------------------------------------------------------------------------


def place_of(function, mark):
    """`file:line` of the line in `function` that carries the comment `# mark: <mark>`."""
    lines, first = inspect.getsourcelines(function)
    [offset] = [index for index, line in enumerate(lines) if line.rstrip().endswith(f"# mark: {mark}")]
    return f"{Path(inspect.getsourcefile(function)).name}:{first + offset}"
