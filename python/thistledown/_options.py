"""Options of tasks in worker processes: what they are, and what is wrong with a wrong one."""

import math
import re
from collections.abc import Callable, Hashable, Mapping
from types import MappingProxyType
from typing import Any, TypedDict

__all__ = ["Options", "checked", "checked_for_actor", "checked_for_tasks"]


class Options(TypedDict, total=False):
    """For type checkers: the options and their values; see ``Workers.options``."""

    timeout: float | None
    memory: int | str | None
    retries: int
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    priority: int
    name: str | None
    key: Hashable
    mailbox: int


ACTORS = ("name", "mailbox", "timeout", "memory")
"""Options that actors have."""

UNITS = {"": 1, "B": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("KMGT", 1)
    for suffix, base in (("", 1024), ("B", 1000), ("iB", 1024))
}
"""Units of memory: KB is a thousand, KiB and K are 1,024."""

PRIORITIES = range(-(1 << 31), 1 << 31)
RETRIES = range(1 << 32)
MAILBOXES = range(1, 1 << 31)
MEMORY = range(1, 1 << 63)


def checked(options: dict[str, Any], given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The options as the engine takes them.

    Args:
        options: their names and values.
        given: those that hold already.

    Raises:
        TypeError, ValueError: there is no such option, or it cannot have this value.
    """
    unknown = options.keys() - CHECKS.keys()
    if unknown:
        raise TypeError(f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    known = {name: CHECKS[name](value) for name, value in options.items()}
    if known.get("retry_on") and not {**given, **known}.get("retries"):
        raise ValueError("retry_on says after what a task is tried again, and retries how often: give both")
    return known


def checked_for_actor(options: Mapping[str, Any], given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Those that hold for an actor: these beside the given ones.

    Raises:
        TypeError, ValueError: actors have no such option, or it cannot have this value.
    """
    foreign = options.keys() - set(ACTORS)
    if foreign:
        raise TypeError(f"actors have no option {', '.join(sorted(foreign))}; there are {', '.join(ACTORS)}")
    return {**given, **checked({**options})}


def checked_for_tasks(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those that hold for tasks.

    Raises:
        TypeError: one is for actors alone.
    """
    if "mailbox" in given:
        raise TypeError("mailbox is an option of actors: tasks of a pool wait in its queue, which has no limit")
    return given


def _timeout(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout is a number of seconds or None, got {value!r}")
    if math.isnan(value) or value <= 0:
        raise ValueError(f"timeout must be > 0 seconds, got {value!r}")
    return None if math.isinf(value) else float(value)


def _memory(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _memory_text(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'memory is a number of bytes, or a text such as "512MiB" or "1GiB", got {value!r}')
    return _whole("memory", MEMORY)(value)


def _memory_text(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    units = {unit.lower(): size_bytes for unit, size_bytes in UNITS.items()}
    if match is None or match[2].lower() not in units:
        raise ValueError(f'memory is written like "512MiB", "1GiB" or "500MB", got {text!r}')
    size_bytes = int(float(match[1]) * units[match[2].lower()])
    if size_bytes not in MEMORY:
        raise ValueError(f"memory must be in {MEMORY.start}..{MEMORY.stop - 1} bytes, got {text!r}")
    return size_bytes


def _whole(name: str, allowed: range) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is a whole number, got {value!r}")
        if value not in allowed:
            raise ValueError(f"{name} must be in {allowed.start}..{allowed.stop - 1}, got {value}")
        return value

    return check


def _retry_on(value: Any) -> tuple[type[BaseException], ...]:
    classes = value if isinstance(value, tuple) else (value,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"retry_on is a class of exceptions or a tuple of them, got {value!r}")
    return classes


def _name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"name is a text or None, got {value!r}")
    return value


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        raise TypeError(f"key must be hashable, such as a text, a number or a tuple of them; got {value!r}") from None
    return value


CHECKS: dict[str, Callable[[Any], Any]] = {
    "timeout": _timeout,
    "memory": _memory,
    "retries": _whole("retries", RETRIES),
    "retry_on": _retry_on,
    "priority": _whole("priority", PRIORITIES),
    "name": _name,
    "key": _key,
    "mailbox": _whole("mailbox", MAILBOXES),
}
