"""For the tests of programs that use thistledown."""

from collections.abc import Callable
from typing import Any

from thistledown import _core
from thistledown._run import generators_closed

__all__ = ["run"]


def run(main: Callable[..., Any] | Any, *args: Any) -> Any:
    """``td.run`` on a virtual clock, which stands still while tasks run and jumps when nothing but timers is left.

    An hour of sleeps takes no time, and comes out the same each time. The clock waits for thread calls. Source: trio's
    autojump clock.
    """
    with generators_closed():
        return _core.run(main, args, None, True, None)
