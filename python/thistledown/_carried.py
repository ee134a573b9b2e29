"""What goes along with tasks without being an argument: context variables, log records, thread limits.

Warnings go along too: see ``_warned``; how a context variable is known elsewhere: see ``_variables``.
"""

import contextvars
import pickle
from collections.abc import Callable
from typing import Any

from thistledown import _warned
from thistledown._pickler import dumps
from thistledown._variables import Variable, found, location

__all__ = ["LONGEST", "enter", "heard", "outgoing", "tell", "telling", "thread_limits"]

THREAD_LIMITS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""What libraries ask for the number of threads they may start."""

LONGEST = _warned.LONGEST
"""Bytes that a worker can say at once."""

PLAIN = (type(None), bool, int, float, str, bytes)

_stay_here: set[tuple[Variable, type]] = set()


# --- context variables ------------------------------------------------------------------------------------------


def outgoing() -> dict[str, Any] | None:
    """What is to be carried with a call that is made here and now; None when it is nothing, as mostly."""
    context = contextvars.copy_context()
    if not len(context):
        return None
    carried = []
    for variable, value in context.items():
        place = location(variable)
        data = None if place is None else _value(variable, value)
        if data is not None:
            carried.append((place, data))
    return {"context": carried} if carried else None


def enter(extras: dict[str, Any] | None) -> None:
    """Sets in the current context what was carried with a call. What cannot be had in this process stays unset."""
    for place, data in (extras or {}).get("context", ()):
        try:
            variable = found(place)
            if variable is not None:
                variable.set(pickle.loads(data))
        except Exception:
            continue


def _value(variable: Variable, value: Any) -> bytes | None:
    if isinstance(value, PLAIN):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    kind = type(value)
    if (variable, kind) in _stay_here:
        return None
    try:
        return dumps(value)
    except Exception:
        _stay_here.add((variable, kind))
        return None


# --- log records and warnings -----------------------------------------------------------------------------------


def telling() -> dict[str, Any]:
    """For the workers of this process: which log records they need not send, and the filters of warnings."""
    import logging

    loggers: dict[str, Any] = logging.root.manager.loggerDict
    levels = {name: one.level for name, one in list(loggers.items()) if getattr(one, "level", 0)}
    return {
        "levels": {"": logging.root.level, **levels},
        "disabled": logging.root.manager.disable,
        "filters": _warned.first_filters(),
    }


def tell(settings: dict[str, Any], say: Callable[[bytes], None], running: Callable[[], int]) -> Callable[[], None]:
    """In a worker: what is logged and warned of from now on is said to the parent, until the result is called.

    Args:
        settings: what `telling` gave there.
        say: says it.
        running: the number of the task that runs.
    """
    import logging

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                say(_packed_record(record))
            except Exception:
                self.handleError(record)

    handler = Handler()
    logging.root.handlers[:] = [handler]
    for name, level in settings["levels"].items():
        logging.getLogger(name or None).setLevel(level)
    logging.disable(settings["disabled"])
    be_silent_of_warnings = _warned.tell(settings["filters"], say, running)

    def be_silent() -> None:
        logging.root.removeHandler(handler)
        be_silent_of_warnings()

    return be_silent


def heard(data: Any) -> None:
    """What a worker said: a log record or a warning, told here as if it had happened here. Never raises."""
    import logging

    try:
        kind, what = pickle.loads(data)
        if kind == "log":
            record = logging.makeLogRecord(what)
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        elif kind == "warning":
            _warned.heard(*what)
    except Exception:
        logging.getLogger("thistledown").exception("a message of a worker process cannot be told")


def _packed_record(record: Any) -> bytes:
    """A log record whose message is made, as ``QueueHandler.prepare`` does; its traceback stays as text."""
    import logging

    what = dict(vars(record))
    what["msg"], what["args"] = record.getMessage(), None
    if record.exc_info and not record.exc_text:
        what["exc_text"] = logging.Formatter().formatException(record.exc_info)
    what["exc_info"] = None
    try:
        data = pickle.dumps(("log", what), pickle.HIGHEST_PROTOCOL)
    except Exception:
        what = {name: value if _can_travel(value) else repr(value) for name, value in what.items()}
        data = pickle.dumps(("log", what), pickle.HIGHEST_PROTOCOL)
    if len(data) > LONGEST:
        known = vars(logging.makeLogRecord({}))
        rooms = {"msg": _warned.ROOM, "exc_text": _warned.ROOM // 4, "stack_info": _warned.ROOM // 4}
        what = {name: _cut(what.get(name), rooms.get(name, _warned.ROOM // 40)) for name in known}
        data = pickle.dumps(("log", what), pickle.HIGHEST_PROTOCOL)
    return data


def _cut(value: Any, room: int) -> Any:
    return value if not isinstance(value, str) or len(value) <= room else f"{value[:room]} ... (cut)"


def _can_travel(value: Any) -> bool:
    try:
        return b"_main__" not in pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False


# --- thread limits ----------------------------------------------------------------------------------------------


def thread_limits(threads: int, environment: dict[str, str]) -> dict[str, str]:
    """For the environment of worker processes: so many threads for numerical libraries, unless it says otherwise."""
    return {name: str(threads) for name in THREAD_LIMITS if name not in environment}
