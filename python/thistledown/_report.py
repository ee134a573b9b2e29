"""Words for people: where a task stands, why nothing can happen, what failed unseen.

The engine calls these when something is wrong; nothing here is on a hot path.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
import types
from typing import Any, NoReturn

from thistledown import _core, _seen, _threads
from thistledown._task import Task

logger = logging.getLogger("thistledown")
stall_logger = logging.getLogger("thistledown.stall")

PACKAGE = os.path.dirname(__file__) + os.sep
"""Where the files of this package are; users look for their own lines."""

worker_handlers: list[Any] = []
"""How a worker process is told to stop what it runs, and to say where it stands: nothing that a task could wait for."""

LISTED = 50
"""Tasks that a report names one by one."""

NAMED = 5
"""Tasks that a line names."""

Waiting = tuple[str, Any, str]
"""The name of a task, its body, and what it waits for in words."""


NOWHERE = "no line of Python"
"""Where a task stands that has not begun, or whose body has no frames."""


def where(body: Any) -> str:
    """File and line where a generator or coroutine stands: the innermost frame of its own, none of this package."""
    place = NOWHERE
    seen = 0
    while body is not None and seen < 1_000:
        frame = getattr(body, "gi_frame", None) or getattr(body, "cr_frame", None) or getattr(body, "ag_frame", None)
        if frame is not None and (place == NOWHERE or not frame.f_code.co_filename.startswith(PACKAGE)):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        following = getattr(body, "gi_yieldfrom", None)
        body = following if following is not None else getattr(body, "cr_await", None)
        seen += 1
    return place


def _at(body: Any) -> str:
    place = where(body)
    return "" if place == NOWHERE else f" at {place}"


def _line(waiting: Waiting) -> str:
    name, body, operation = waiting
    if type(body).__name__ == "Message":
        # One that has not begun, of an actor, whose key nobody has written.
        operation = operation.replace("its key, which", "its turn at its actor, which")
    return f"  {name} waits for {operation}{_at(body)}"


def _lines(waiting: list[Waiting]) -> str:
    lines = [_line(one) for one in waiting[:LISTED]]
    if len(waiting) > LISTED:
        lines.append(f"  and {len(waiting) - LISTED} more")
    return "\n".join(lines)


def cycle(closing: Waiting, others: list[Waiting]) -> str:
    """A wait that would close a cycle."""
    name, body, operation = closing
    if not others:
        return f"{name} would wait for {operation}, which is itself,{_at(body)}".removesuffix(",")
    words = f"{name} would wait for {operation}, which waits for it in turn,{_at(body)}"
    return f"{words.removesuffix(',')}:\n{_lines(others)}"


def nothing_can_happen(waiting: list[Waiting]) -> str:
    """A run in which everyone waits for someone who waits."""
    count = f"{len(waiting)} tasks wait" if len(waiting) != 1 else "1 task waits"
    return f"nothing can happen any more; {count}:\n{_lines(waiting)}"


def somebody_else_may_act() -> bool:
    """Whether something outside of a run could still wake it: another thread at work, or a signal's handler."""
    others = sum(thread is not threading.current_thread() for thread in threading.enumerate())
    resting = _threads.resting() + _core.herald_rests()
    return others > resting or _core.pools_have_tasks() or any(_is_handled(number) for number in signal.valid_signals())


def start_herald() -> None:
    """Starts the thread that calls back for worker processes. The engine calls this."""
    threading.Thread(target=_core.tell_news, name="thistledown-herald", daemon=True).start()


def _is_handled(number: int) -> bool:
    handler = signal.getsignal(number)
    if getattr(handler, "ends_a_test", False):
        return False  # The time limit of a test, which changes nothing that a run could wait for.
    return callable(handler) and handler not in (signal.default_int_handler, interrupted, *worker_handlers)


def interrupted(number: int, frame: types.FrameType | None) -> NoReturn:
    """Ctrl-C while the main thread has a run: counted, then raised as ever."""
    _core.count_interrupts(1)
    signal.default_int_handler(number, frame)


def stalled(task: Task[Any] | None, thread: int, lasted: float, lasts: bool) -> None:
    """A task holds its thread: told once. The watchdog's thread calls this, which is none of Python's own."""
    name = "a task" if task is None else f"task {task.name}"
    if lasts:
        frame = sys._current_frames().get(thread)
        if _is_import_of_ours(frame):
            # The first use of a part of this package, on a slow disk or a busy machine: nothing that a user could move.
            return
        place = "an unknown place" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
        words = f"{name} has held its thread for {lasted:.2f} s, at {place}; every other task waits"
    else:
        place = ""
        words = f"a task held its thread for more than {lasted:.2f} s, and has given it back meanwhile"
    _seen.stalled(name, lasted, place)
    del task
    # Logging asks for the current thread's name, which would leave a dummy behind for a thread that is not Python's.
    threading.Thread(
        target=stall_logger.warning,
        args=("%s (move heavy work out: `await td.go(function, ...)`)", words),
        name="thistledown-report",
        daemon=True,
    ).start()


def _is_import_of_ours(frame: types.FrameType | None) -> bool:
    """Whether the thread is in an import that this package has written, of a part of itself or of what that needs.

    An import that only goes through it, as of a module whose objects are unpickled, is not one of these.
    """
    from opcode import opmap

    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            at = code.co_code[max(frame.f_lasti, 0)]
            # The package itself looks a name up in a part of it that nobody has needed before.
            if at == opmap["IMPORT_NAME"] or frame.f_globals.get("__name__") == __package__:
                return True
        frame = frame.f_back
    return False


def unsaid(count: int) -> None:
    """Worker processes logged faster than this program listens. The engine calls this."""
    logger.warning(
        "%d log records and warnings of worker processes were dropped: they came faster than they were told", count
    )


def failed_elsewhere(name: str, error: BaseException) -> None:
    """A task of a worker process failed, and is let go without that anybody asked how it ended. It is logged."""
    logger.error("task %s failed in a worker process, and nobody asked for its outcome", name, exc_info=error)


def unfinished(count: int) -> None:
    """Ctrl-C has ended the wait of the program's end for its tasks. Standard error says so, as for any Ctrl-C."""
    words = "1 task was not finished" if count == 1 else f"{count} tasks were not finished"
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"KeyboardInterrupt at the end of the program: {words}", file=sys.stderr, flush=True)


def waits_at_the_end(count: int, names: list[str]) -> None:
    """The program's end waits for these tasks. Standard error says so, as nothing else is seen of it."""
    if not count or not names:
        return
    tasks = "1 task" if count == 1 else f"{count} tasks"
    named = ", ".join([*names[:NAMED], *(["..."] if count > NAMED else [])])
    with contextlib.suppress(OSError, ValueError, AttributeError):
        words = f"thistledown: waiting for {tasks} in workers to end: {named}; Ctrl-C ends them"
        print(words, file=sys.stderr, flush=True)


def failed_unasked() -> None:
    """The program ends, and somebody holds tasks of workers that failed, and has not asked. They are logged."""
    unasked, more = _core.take_unasked(LISTED)
    for name, error in unasked:
        failed_elsewhere(name, error)
    if more:
        logger.error("%d more tasks failed in worker processes, and nobody asked for their outcome", more)


def failed_unseen(task: Task[Any], error: BaseException) -> None:
    """A task failed, and nobody holds it who could ask."""
    logger.error("task %s failed, and nobody waits for it", task.name, exc_info=error)


def failed_in_ending_run(errors: list[BaseException]) -> None:
    """Errors that a run could not raise, because something stronger ended it."""
    for error in errors:
        logger.error("a task failed, and nobody waits for it", exc_info=error)


def callback_failed(task: Task[Any], error: BaseException) -> None:
    """A done-callback raised."""
    logger.error("a done-callback of task %s failed", task.name, exc_info=error)


def group_of_failed(errors: list[BaseException], unlisted: int) -> BaseException:
    """Several errors that nobody waited for, as one."""
    words = "tasks failed, and nobody waited for them"
    if unlisted:
        words = f"{words}; {unlisted} more were logged"
    return BaseExceptionGroup(words, errors)


def body_state(body: Any) -> str:
    """Where a generator or coroutine stands, where its structure cannot be read."""
    import inspect

    is_coroutine = isinstance(body, types.CoroutineType)
    state: str = inspect.getcoroutinestate(body) if is_coroutine else inspect.getgeneratorstate(body)
    return {"CREATED": "fresh", "SUSPENDED": "suspended", "RUNNING": "running"}.get(state.split("_")[1], "ended")
