"""What to say when something cannot be sent: which part of it is to blame, and what to send instead."""

from collections.abc import Iterator
from typing import Any

from thistledown import _core
from thistledown._errors import NotPicklable
from thistledown._pickler import dumps_by_value

__all__ = ["not_picklable"]

DEPTH = 6
"""How deep an error message looks for the very thing that cannot be sent."""

BREADTH = 200
"""How many things it tries in each."""


def not_picklable(candidates: list[tuple[str, Any]], back: str, error: Exception) -> NotPicklable:
    """The error for the first of some values that cannot be sent, and in it the innermost that is to blame."""
    for name, value in candidates:
        refusal = _refusal(value)
        if refusal is not None:
            if isinstance(refusal.__cause__ or refusal, RecursionError):
                return NotPicklable(
                    f"{name} cannot be sent{back}: it is nested too deeply for pickle ({refusal}); send it in a "
                    "flatter form, such as a list of its parts"
                )
            place, culprit, refusal = _innermost(name, value, refusal, DEPTH)
            inner = "" if place == name else f", because of {place}"
            return NotPicklable(
                f"{name} cannot be sent{back}{inner}: {_kind(culprit)} does not travel to another process "
                f"({refusal}); {_advice(culprit)}"
            )
    return NotPicklable(f"{' or '.join(name for name, _ in candidates[:3])} cannot be sent{back}: {error}")


def _refusal(value: Any) -> Exception | None:
    try:
        dumps_by_value(value)
    except Exception as error:
        return error
    return None


def _innermost(name: str, value: Any, refusal: Exception, depth: int) -> tuple[str, Any, Exception]:
    if depth:
        for number, (suffix, child) in enumerate(_children(value)):
            if number == BREADTH:
                break
            inner = _refusal(child)
            if inner is not None:
                return _innermost(name + suffix, child, inner, depth - 1)
    return name, value, refusal


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value, each with how to write it."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, list | tuple | set | frozenset):
        for number, item in enumerate(value):
            yield f"[{number}]", item
    elif hasattr(value, "__code__"):
        names = value.__code__.co_names
        known = getattr(value, "__globals__", {})
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f" (its variable {name!r})", cell.cell_contents
            except ValueError:
                continue
        for name in names:
            if name in known and known[name] is not value:
                yield f" (its global {name!r})", known[name]
    elif not isinstance(value, type):
        for name, item in getattr(value, "__dict__", {}).items():
            yield f".{name}", item


def _kind(value: Any) -> str:
    kind = type(value)
    return f"a {kind.__qualname__}" if kind.__module__ == "builtins" else f"a {kind.__module__}.{kind.__qualname__}"


def _advice(value: Any) -> str:
    """What to do instead, by what it is."""
    name = type(value).__name__.lower()
    if isinstance(value, _core.Operation):
        return (
            "it is something to wait for, and not a value: let the task wait, by `await` in an `async def`, or by "
            "`.wait()` in a plain function"
        )
    if isinstance(value, _core.Method):
        return (
            "it sends a message to its actor when it is called, and gives a task: call it here, or send the handle, "
            "and call the method there"
        )
    if isinstance(value, _core.Claim):
        return "only the process that has taken it can confirm it: send its tuple, or the space, and take it there"
    if isinstance(value, _core.Transaction | _core.Watch):
        return f"send the space, and make the {name} there"
    if hasattr(value, "add_done_callback"):
        return "send its result: `task.result()`, or `await task`"
    if "lock" in name or name in ("condition", "event", "semaphore", "barrier"):
        return "no two processes share it; tasks that must not overlap get one `key` by `pool.options(key=...)`"
    if "generator" in name or "coroutine" in name or name.endswith("iterator"):
        return "send what it is made from, or a list of what it gives"
    if hasattr(value, "fileno"):
        return "send its path or address, and open it in the task"
    return "send what it is made from, and make it in the task, or once a worker with `initializer=`"
