"""A worker process: what it is from its fork to its end, and its weightless tasks.

Plain tasks are run by the engine (``_core.Child.serve``), which calls ``weightless`` here when the first weightless
one comes: then this process runs a loop of them until none is left.
"""

import atexit
import contextlib
import contextvars
import faulthandler
import io
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Generator
from typing import Any, cast

# Each worker needs the last of these; here it is imported before the fork.
from thistledown import _carried, _core, _functions, _pickling, _report
from thistledown._errors import Cancelled, TaskCancelled
from thistledown._group import TaskGroup
from thistledown._observer import unobserved
from thistledown._run import run
from thistledown._task import Task

__all__ = ["Weightless", "WeightlessOver", "child", "main", "pool", "program", "weightless"]

child: _core.Child | None = None
"""This process as the engine knows it; None in a process that is no worker."""

pool = 0
"""The number of the pool that this worker is of."""

program = ""
"""The program that it works for; see ``_spaces.program``."""

IMPORTER = "<frozen importlib._bootstrap>"
"""The file of the code that imports modules, as its frames have it."""

LISTED = 5
"""Tasks that a warning names one by one."""

_inherited: list[_core.Child] = []
_to_undo: list[Callable[[], None]] = []


def main(
    number: int,
    region: int,
    control: int,
    work_bell: int,
    answers_bell: int,
    parent_bell: int,
    lifeline: int,
    stderr: int,
    settings: bytes,
) -> None:
    """Lives as a worker: from the fork until it is told to leave. The zygote calls this, and exits afterwards."""
    global child
    _take_streams(stderr)
    child = _core.Child(region, control, work_bell, answers_bell, parent_bell, lifeline)
    _take_signals(child)
    _reseed()
    # What the zygote registered is the zygote's; the end of this process is its own.
    atexit._clear()
    try:
        if _initialized(child, settings):
            child.ready()
            child.serve()
    finally:
        _end()


def _take_streams(stderr: int) -> None:
    os.dup2(stderr, 2)
    os.close(stderr)
    if sys.stderr is None:
        raw = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115
        sys.stderr = io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True)
    # A crash in C code leaves its traceback among the last words.
    faulthandler.enable(2)


def _take_signals(child: _core.Child) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupt(number: int, frame: types.FrameType | None) -> None:
        # It may come late, when the task it was meant for has ended; and it comes again, as long as that goes on.
        if not _imports(frame) and child.interrupted():
            raise Cancelled("the task was told to stop")

    signal.signal(_core.INTERRUPT_SIGNAL, interrupt)
    _show_lines(child)
    _report.worker_handlers.append(interrupt)
    report = sys.unraisablehook

    def lost(unraisable: "sys.UnraisableHookArgs") -> None:
        # A finalizer was at work, or another callback that nobody waits for: the stop was meant for the task.
        if isinstance(unraisable.exc_value, Cancelled):
            child.not_stopped()
        else:
            report(unraisable)

    sys.unraisablehook = lost


def _imports(frame: types.FrameType | None) -> bool:
    """Whether a module is being imported. A package that is left half imported cannot be imported again by anybody."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename == IMPORTER:
            return True
        frame = frame.f_back
    return False


def _show_lines(child: _core.Child) -> None:
    """Lets the parent ask at which line the task stands, and whoever sends SIGQUIT, who reads it on stderr.

    The parent asks twice. First for an answer between two bytecodes. One that stands still instead, in a system call or
    inside of a call in C that holds the interpreter's lock, is told by a handler in C, which writes wherever the thread
    is: that would read frames in the middle of a step of one that runs, and crash it.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def show(number: int, frame: types.FrameType | None) -> None:
        # When it was asked long ago, nobody reads this any more, or there is no room.
        with contextlib.suppress(OSError):
            os.write(writer, b"at %d\n" % time.monotonic_ns())
        faulthandler.dump_traceback(writer, all_threads=False)

    signal.signal(_core.ASK_LINES_SIGNAL, show)
    _report.worker_handlers.append(show)
    # What C libraries do in system calls is not disturbed.
    signal.siginterrupt(_core.ASK_LINES_SIGNAL, False)
    faulthandler.register(_core.LINES_SIGNAL, writer, all_threads=False, chain=False)
    faulthandler.register(signal.SIGQUIT, 2, all_threads=False, chain=False)
    child.shows_lines(reader)


def _reseed() -> None:
    """Two workers draw different numbers. The standard library's ``random`` sees to itself."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()


def _initialized(child: _core.Child, settings: bytes) -> bool:
    """Sets up what was asked for; False when that failed, which the parent then knows."""
    global pool, program
    sys.breakpointhook = _no_terminal
    try:
        wanted = _pickling.unpack(settings)
        pool, program = wanted["pool"], wanted["program"]
        _to_undo.append(_carried.tell(wanted["telling"], child.say, child.task))
        function, args = wanted["initializer"]
        if function is not None:
            _core.set_importing(True)
            call, (args, kwargs, _) = _functions.unpack(function), _pickling.unpack(*args)
            _core.set_importing(False)
            call(*args, **kwargs)
    except BaseException as error:
        child.failed(_pickling.pack_error(error, _carried.LONGEST))
        return False
    return True


def _no_terminal(*args: Any, **kwargs: Any) -> Any:
    """What ``breakpoint()`` calls in a worker. A debugger that was asked for by name may need no terminal."""
    if os.environ.get("PYTHONBREAKPOINT", "pdb.set_trace") not in ("", "pdb.set_trace"):
        return sys.__breakpointhook__(*args, **kwargs)
    raise RuntimeError(
        "breakpoint() in a worker process, which has no terminal to ask you at: to debug a function call it yourself, "
        "`f(x)` instead of `td.go(f, x)`; or name a debugger that needs no terminal in PYTHONBREAKPOINT"
    )


def _end() -> None:
    """What an interpreter does when it ends: threads, exit functions, streams. No exit code comes of it."""
    for step in (_end_threads, _exit_functions, _flush):
        try:
            step()
        except BaseException:
            sys.excepthook(*sys.exc_info())


def _end_threads() -> None:
    threading._shutdown()  # type: ignore[attr-defined]


def _exit_functions() -> None:
    multiprocessing = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None:
        multiprocessing._exit_function()
    atexit._run_exitfuncs()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _after_fork_in_child() -> None:
    """A process that a task has forked is no worker: it must not speak for the one that it was forked from."""
    global child
    if child is not None:
        _inherited.append(child)
        child = None
        while _to_undo:
            _to_undo.pop()()


os.register_at_fork(after_in_child=_after_fork_in_child)


# --- weightless tasks -------------------------------------------------------------------------------------------


def weightless(child: _core.Child, job: _core.Job) -> None:
    """Runs weightless tasks, this one first, until none runs and none has come. The engine calls this."""
    tasks = Weightless(child)
    try:
        # Here nobody waits yet while modules are imported.
        opened = tasks.open(job)
        if opened is not None:
            run(tasks.take_in, opened)
    except WeightlessOver:
        pass
    except BaseException as error:
        # Every job gets its answer.
        tasks.give_up(error)


class WeightlessOver(Exception):
    """No task is left: what they started and did not wait for is cancelled, or the worker would not be free. It may be
    given a plain task, or told to leave, and that is not seen while such a run goes on.
    """


class _Left(Exception):
    """What would end the run of all tasks, as ``SystemExit`` does; it is the outcome of its own task alone."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@types.coroutine
def _guarded(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Generator[Any, Any, Any]:
    try:
        body = function(*args, **kwargs)
        return (yield from body if hasattr(body, "send") else body.__await__())
    except (SystemExit, KeyboardInterrupt) as error:
        raise _Left(error) from error


Opened = tuple[_core.Job, contextvars.Context, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Weightless:
    """The weightless tasks of a worker: one run, and a task in it that takes in the others."""

    def __init__(self, child: _core.Child) -> None:
        self.child = child
        self.running: dict[int, tuple[_core.Job, Task[Any]]] = {}
        self.stir = _core.Channel[None](1)
        # How many have begun and ended, and how many had when nothing could happen for them.
        self.changes = 0
        self.changes_then = -1
        # Those that can never go on, and why.
        self.dead: dict[int, BaseException] = {}

    @unobserved
    async def take_in(self, opened: Opened) -> None:
        bell = self.child.bell()
        _core.attend(self.stuck)
        async with TaskGroup() as group:
            self.start(opened, group)
            while True:
                while (job := self.child.next_job()) is not None:
                    if (now := self.open(job)) is not None:
                        self.start(now, group)
                while (number := self.child.next_cancelled()) is not None:
                    if number in self.running:
                        self.running[number][1].cancel()
                if not self.running:
                    self.tell_of_rest()
                    raise WeightlessOver
                await _core.select(_core.readable(bell), self.stir.recv())

    def open(self, job: _core.Job) -> Opened | None:
        """The job with what it calls; None when that cannot be had, which is its end."""
        try:
            function, args, kwargs, extras = self.child.begin(job)
            context = contextvars.copy_context()
            context.run(_carried.enter, extras)
        except BaseException as error:
            self.child.failed_job(job, error)
            return None
        return job, context, function, args, kwargs

    def start(self, opened: Opened, group: TaskGroup) -> None:
        job, context, function, args, kwargs = opened
        name = getattr(function, "__qualname__", None)
        try:
            task = context.run(_core.go_in, _guarded, (function, args, kwargs), {}, group._scope, self, name)
        except BaseException as error:
            self.child.failed_job(job, error)
            return
        self.running[job.id] = job, task
        self.changes += 1
        self.child.began(job, task)
        task.add_done_callback(lambda task: self.ended(job, cast(Task[Any], task)))

    def ended(self, job: _core.Job, task: Task[Any]) -> None:
        self.child.ended(task)
        dead = self.dead.pop(job.id, None)
        if self.running.pop(job.id, None) is None:
            return  # It was given up.
        self.changes += 1
        try:
            error = task.exception()
        except TaskCancelled:
            error = dead or Cancelled("the task was cancelled")
        if isinstance(error, _Left):
            error = error.error
        if error is None:
            self.child.done(job, task.result())
        else:
            self.child.failed_job(job, error)
        if not self.running:
            self.wake()

    def tell_of_rest(self) -> None:
        """What was begun here and goes on is about to be stopped, which is said: nobody may wait for it."""
        started, ended, _, _ = _core.tallies()[0]
        if started - ended == 1:
            return  # The task that takes in the others.
        own, thread = _core.current_task(), threading.get_ident()
        rows = [row for run in _core.survey(sys.maxsize, [])[0] if run[0] == thread for row in run[4]]
        names = [row[1].name for row in rows if row[1] not in (None, own) and row[3] != "running" and not row[7]]
        if names:
            import logging

            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            logging.getLogger("thistledown").warning(
                "stopped in its worker process, since no task of the program runs beside it there any more: %s. Who "
                "has begun it there has not waited for it: write `await`, or `async with td.TaskGroup()`",
                ", ".join(names[:LISTED]) + more,
            )

    def wake(self) -> None:
        if not len(self.stir):
            self.stir.send_nowait(None)

    def stuck(self, error: BaseException) -> bool:
        """Nothing can happen any more for the tasks that are here: they are ended. The engine calls this.

        Returns:
            False when it is to be asked again: a task that is on its way may bring what they wait for.
        """
        if self.changes != self.changes_then:
            self.changes_then = self.changes
            return False
        if self.running.keys() <= self.dead.keys():
            # They do not even end.
            raise error
        for number, (_, task) in list(self.running.items()):
            self.dead[number] = error
            task.cancel()
        return True

    def give_up(self, error: BaseException) -> None:
        if not self.running:
            import logging

            words = "something that a weightless task had started failed, and nobody waited for it"
            logging.getLogger("thistledown").error(words, exc_info=error)
        for job, _ in self.running.values():
            self.child.failed_job(job, error)
        self.running.clear()

    def _failed(self, error: BaseException) -> bool:
        """A task failed; the engine asks who answers for it. Whoever waits for it in the parent."""
        return True
