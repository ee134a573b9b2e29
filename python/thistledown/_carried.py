"""What goes along with tasks without being an argument: context variables, log records, thread limits.

Warnings go along too: see ``_warned``.

A context variable is known to another process by where it stands: the module and the name that it has there. One
that stands nowhere a worker can import gets a token when it is sent first, which it keeps wherever it goes.
"""

import contextvars
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

from thistledown import _warned

__all__ = ["LONGEST", "enter", "heard", "outgoing", "reduce_variable", "tell", "telling", "thread_limits"]

Variable = contextvars.ContextVar[Any]
Location = tuple[str, str]

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

_locations: dict[Variable, Location] = {}
_nowhere: dict[Variable, int] = {}
_by_token: dict[str, Variable] = {}
_stay_here: set[tuple[Variable, type]] = set()


# --- context variables ------------------------------------------------------------------------------------------


def outgoing() -> dict[str, Any] | None:
    """What is to be carried with a call that is made here and now; None when it is nothing, as mostly."""
    context = contextvars.copy_context()
    if not len(context):
        return None
    carried = []
    for variable, value in context.items():
        location = _location(variable)
        data = None if location is None else _value(variable, value)
        if data is not None:
            carried.append((location, data))
    return {"context": carried} if carried else None


def enter(extras: dict[str, Any] | None) -> None:
    """Sets in the current context what was carried with a call. What cannot be had in this process stays unset."""
    for location, data in (extras or {}).get("context", ()):
        try:
            variable = _found(location)
            if variable is not None:
                variable.set(pickle.loads(data))
        except Exception:
            continue


def reduce_variable(variable: Variable) -> tuple[Any, ...]:
    """For a pickler: a context variable stands for the one of the same place in the other process."""
    location = _location(variable)
    if location is None or location[0] == "":
        return _anywhere, (_token(variable), variable.name, *_default(variable))
    return _standing, location


def _value(variable: Variable, value: Any) -> bytes | None:
    if isinstance(value, PLAIN):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    kind = type(value)
    if (variable, kind) in _stay_here:
        return None
    from thistledown import _pickling

    try:
        return _pickling.dumps(value)
    except Exception:
        _stay_here.add((variable, kind))
        return None


def _location(variable: Variable) -> Location | None:
    """Where a variable stands: module and name, or nothing and a token; None when no other process can know it."""
    known = _locations.get(variable)
    if known is not None:
        module, name = known
        if not module or getattr(sys.modules.get(module), name, None) is variable:
            return known
        del _locations[variable]
    # Looking everywhere takes milliseconds: again only when there are more modules to look into.
    if _nowhere.get(variable) == len(sys.modules):
        return None
    main = sys.modules["__main__"]
    for module, there in list(sys.modules.items()):
        if there is main or getattr(there, "__spec__", None) is None:
            continue  # No worker can import it.
        for name, value in list(getattr(there, "__dict__", {}).items()):
            if value is variable:
                _locations[variable] = module, name
                return module, name
    if any(value is variable for value in list(vars(main).values())):
        _token(variable)
        return _locations[variable]
    _nowhere[variable] = len(sys.modules)
    return None


def _token(variable: Variable) -> str:
    known = _locations.get(variable)
    if known is not None and known[0] == "":
        return known[1]
    token = f"{os.getpid()}-{len(_by_token)}-{variable.name}"
    _by_token[token] = variable
    _locations[variable] = "", token
    return token


def _default(variable: Variable) -> tuple[Any, ...]:
    try:
        return (contextvars.Context().run(variable.get),)
    except LookupError:
        return ()


def _anywhere(token: str, name: str, *default: Any) -> Variable:
    """The variable of a token: made once in each process that it comes to."""
    if token not in _by_token:
        made: Variable = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
        _by_token[token] = made
        _locations[made] = "", token
    return _by_token[token]


def _standing(module: str, name: str) -> Variable:
    import importlib

    found: Variable = getattr(importlib.import_module(module), name)
    return found


def _found(location: Location) -> Variable | None:
    module, name = location
    return _standing(module, name) if module else _by_token.get(name)


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
        return b"__main__" not in pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        return False


# --- thread limits ----------------------------------------------------------------------------------------------


def thread_limits(threads: int, environment: dict[str, str]) -> dict[str, str]:
    """For the environment of worker processes: so many threads for numerical libraries, unless it says otherwise."""
    return {name: str(threads) for name in THREAD_LIMITS if name not in environment}
