"""What the engine's window shows to whoever asks from outside: ``thistledown tree``, ``thistledown top``, ``kill
-QUIT``.

The engine calls these in a thread of its own, which has no name in Python.
"""

import faulthandler
import os
import signal

from thistledown import _core

__all__ = ["answer", "end", "prepare"]

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


def answer(request: str) -> str:
    """What somebody is told: the tree in words, numbers for Prometheus, or what a live view asks, which is JSON.

    What makes it is imported when somebody asks first.
    """
    request = request.strip()
    if request == "metrics":
        from thistledown._statistics import statistics

        return statistics().prometheus()
    if request.startswith("{"):
        from thistledown import _view

        return _view.answer(request)
    from thistledown._tree import tree

    return f"{tree()}\n"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=end)
