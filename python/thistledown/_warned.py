"""Warnings of tasks: said by the worker, and told in the program as if they had happened there.

The program's filters decide there what becomes of one, with the name of its module and the registry that says what was
told before. The worker lets everything through, but for what is an error by the filters that the program had when it
told the task to go: that is raised where the warning is. What a task or an initializer filters itself never leaves the
worker.

A task says a warning once for each place, unless the filters want to hear it always.
"""

import contextlib
import pickle
import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["LONGEST", "ROOM", "changed", "first_filters", "hear_filters", "heard", "tell"]

LONGEST = 60_000
"""Bytes that a worker can say at once."""

ROOM = 8_000
"""Characters of a text that is too long to be said which are."""

MOST = 10_000
"""Warnings of one task that are remembered; then they are forgotten, and said again."""

EVERYTHING = ("always", None, Warning, None, 0)

Filter = tuple[str, Any, type[Warning], Any, int]

# --- in the program ---------------------------------------------------------------------------------------------

# What all workers that were started so far began with; None before the first, False when they began differently.
_first: list[Any] | Literal[False] | None = None
# What was told of files whose modules are not in this process.
_registries: dict[str, dict[str | tuple[str, type[Warning], int], int]] = {}


def first_filters() -> bytes:
    """The filters that workers which are started now begin with; later changes go with the tasks."""
    global _first
    filters = list(warnings.filters)
    _first = filters if _first is None or _first == filters else False
    return _packed(filters)


def changed() -> bytes | None:
    """The filters, when workers began with others. The engine asks when they are not what they were last."""
    global _first
    filters = list(warnings.filters)
    if _first is None or _first == filters:
        return None
    # Whoever hears of these would have to hear of the way back.
    _first = False
    return _packed(filters)


def _packed(filters: list[Any]) -> bytes:
    from thistledown._pickler import MAINS, dumps

    packed = []
    for one in filters:
        # What cannot be sent is no filter of the workers'.
        with contextlib.suppress(Exception):
            is_from_main = one[2].__module__ in MAINS
            packed.append(dumps(one) if is_from_main else pickle.dumps(one, pickle.HIGHEST_PROTOCOL))
    return pickle.dumps(packed, pickle.HIGHEST_PROTOCOL)


def heard(what: bytes, filename: str, lineno: int, module: str | None) -> None:
    """A warning of a worker: its message and class, packed, and where it was."""
    message, category = pickle.loads(what)
    there = getattr(sys.modules.get(module or ""), "__dict__", None)
    registry = _registries.setdefault(filename, {}) if there is None else there.setdefault("__warningregistry__", {})
    try:
        warnings.warn_explicit(message, category, filename, lineno, module, registry)
    except Warning:
        # As an error it should have been raised in the task, which is beyond this place.
        warnings.showwarning(message, category, filename, lineno)


# --- in a worker ------------------------------------------------------------------------------------------------

# The program's filters, and what stands for them here.
_wanted: list[Filter] = []
_installed: list[Filter] = []
# The task that said something last, and what it has said.
_saying: int = -1
_said: set[tuple[str, type[Warning], str, int]] = set()


def tell(filters: bytes, say: Callable[[bytes], None], running: Callable[[], int]) -> Callable[[], None]:
    """What is warned of from now on is said to the parent, until the result is called."""

    def showwarning(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None:
            print(warnings.formatwarning(str(message), category, filename, lineno, line), end="", file=file)
            return
        # Nobody's task fails because a warning cannot be told.
        with contextlib.suppress(Exception):
            module = _module_at(filename, lineno)
            if _is_news(running(), str(message), category, filename, lineno, module):
                say(_packed_warning(message, category, filename, lineno, module))

    warnings.filters[:] = []  # type: ignore[index]
    hear_filters(filters)
    known, warnings.showwarning = warnings.showwarning, showwarning

    def be_silent() -> None:
        warnings.showwarning = known

    return be_silent


def hear_filters(data: bytes) -> None:
    """The program's filters, as they are now. Those that a task or the initializer has set stay in front of them."""
    filters: list[Filter] = []
    for one in pickle.loads(data):
        # Of a class that cannot be had here there is no warning.
        with contextlib.suppress(Exception):
            filters.append(pickle.loads(one))
    own = [one for one in warnings.filters if not any(one is known for known in _installed)]
    _wanted[:] = filters
    _installed[:] = [one if one[0] == "error" else ("always", *one[1:]) for one in filters]
    _installed.append((*EVERYTHING,))
    warnings.filters[:] = [*own, *_installed]  # type: ignore[index]
    getattr(warnings, "_filters_mutated", int)()
    _said.clear()


def _is_news(task: int, text: str, category: type[Warning], filename: str, lineno: int, module: str | None) -> bool:
    """Whether the parent is to hear of it: for the first time from this task, or each time."""
    global _saying
    if task != _saying:
        _saying = task
        _said.clear()
    key = text, category, filename, lineno
    if key not in _said:
        if len(_said) == MOST:
            _said.clear()
        _said.add(key)
        return True
    return _action(text, category, lineno, module or filename.removesuffix(".py")) in ("always", "all")


def _action(text: str, category: type[Warning], lineno: int, module: str) -> str | None:
    """What the program's filters say, as ``warnings.warn_explicit`` finds it."""
    for action, message, kind, place, line in _wanted:
        if _matches(message, text) and issubclass(category, kind) and _matches(place, module) and line in (0, lineno):
            return action
    return None


def _matches(pattern: Any, text: str) -> bool:
    if isinstance(pattern, str):
        return pattern == text
    return pattern is None or pattern.match(text) is not None


def _module_at(filename: str, lineno: int) -> str | None:
    """The name of the module whose code is there, among what runs."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_lineno == lineno and frame.f_code.co_filename == filename:
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) else None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _packed_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, module: str | None
) -> bytes:
    from thistledown._pickler import dumps

    try:
        what = dumps((message, category))
        pickle.loads(what)
    except Exception:
        what = pickle.dumps((f"{category.__name__}: {message}", UserWarning), pickle.HIGHEST_PROTOCOL)
    if len(what) > LONGEST // 2:
        what = dumps((f"{str(message)[:ROOM]} ... (cut)", category))
    return pickle.dumps(("warning", (what, filename, lineno, module)), pickle.HIGHEST_PROTOCOL)
