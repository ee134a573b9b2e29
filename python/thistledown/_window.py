"""What the engine's window shows to whoever asks from outside: ``thistledown tree PID``, and ``kill -QUIT PID``.

The engine calls these in a thread of its own, which has no name in Python.
"""

import faulthandler
import os
import signal

from thistledown import _core

__all__ = ["end", "prepare", "text"]

_is_prepared = False


def prepare(descriptor: int) -> bool:
    """Has the stacks of all threads written there at the signal for it; False when somebody else has the signal."""
    global _is_prepared
    if signal.getsignal(_core.LINES_SIGNAL) is signal.SIG_DFL:
        faulthandler.register(_core.LINES_SIGNAL, descriptor, all_threads=True, chain=False)
        _is_prepared = True
    return _is_prepared


def end() -> None:
    """The descriptor is about to be closed."""
    global _is_prepared
    if _is_prepared:
        _is_prepared = False
        faulthandler.unregister(_core.LINES_SIGNAL)


def text() -> str:
    """The tree, in words. What makes it is imported when somebody asks first."""
    from thistledown._tree import tree

    return f"{tree()}\n"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=end)
