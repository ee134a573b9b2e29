"""Functions in processes of their own, started by name: ``start('package.module', 'function', arg)``.

The module that Shane Hathaway sketched on python-dev in September 2005 ("Pythonic concurrency"), in its own words:

    >>> from thistledown import pyprocess
    >>> proc = pyprocess.start("math", "factorial", 5)
    >>> proc.result()
    120
    >>> proc.close()

Processes go on when their function has returned, for another one; ``with`` closes them. The calling program imports
nothing of the module: the process does.
"""

import types
from typing import Any, Self

from thistledown._pool import Workers
from thistledown._task import Task

__all__ = ["Process", "ProcessQueue", "start"]


class Process:
    """A process that calls functions, one at a time; made by ``start``.

    Leaving its ``with`` block ends it, whatever it is doing. When nobody holds it, it ends after its last function.
    """

    def __init__(self, module: str, function: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._workers = Workers(1)
        try:
            self._task = self._workers.go(_name(module, function), *args, **kwargs)
        except BaseException:
            self._workers.shutdown()
            raise

    def __repr__(self) -> str:
        state = "closed" if self._is_closed() else "running" if self.running() else "idle"
        return f"<thistledown.pyprocess.Process {state}: {self._task.name}>"

    def _is_closed(self) -> bool:
        return not self._workers._pool.takes_tasks()

    def running(self) -> bool:
        """Whether the function that was called last has not ended."""
        return not self._task.done()

    def result(self, timeout: float | None = None) -> Any:
        """What the function that was called last has returned; waits for it.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            TimeoutError: it has not ended in time; it goes on.
            TaskCancelled: the process was closed before it ended.
            WorkerDied: the process died.
            Exception: what the function raised.
        """
        return self._task.result(timeout)

    def call(self, module: str, function: str, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Calls another function in the same process, when those before it have ended.

        Returns:
            Its task. ``running`` and ``result`` speak of it from now on.

        Raises:
            NotPicklable: an argument cannot be sent.
            RuntimeError: the process was closed.
            TypeError, ValueError: these are no names.
        """
        if self._is_closed():
            raise RuntimeError("this process was closed: start another one with `pyprocess.start(...)`")
        self._task = self._workers.go(_name(module, function), *args, **kwargs)
        return self._task

    def close(self) -> None:
        """Ends the process now, and waits until it is gone."""
        self._workers._kill()
        self._workers.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()


class ProcessQueue:
    """Calls that wait for one of a few processes: as many tasks as you like, so many at a time.

    Leaving its ``with`` block waits for all of them.
    """

    def __init__(self, max_processes: int | None = None) -> None:
        """Makes a queue.

        Args:
            max_processes: how many run at a time; None for as many as there are cores.

        Raises:
            TypeError, ValueError: this is no number of processes.
        """
        if max_processes is not None and (isinstance(max_processes, bool) or not isinstance(max_processes, int)):
            raise TypeError(f"max_processes is a whole number or None, got {max_processes!r}")
        if max_processes is not None and max_processes < 1:
            raise ValueError(f"max_processes must be greater than 0, got {max_processes}")
        self._workers = Workers(max_processes)

    def __repr__(self) -> str:
        closed = " closed" if self._is_closed() else ""
        return f"<thistledown.pyprocess.ProcessQueue of {self._workers._max_workers}{closed}>"

    def _is_closed(self) -> bool:
        return not self._workers._pool.takes_tasks()

    def put(self, module: str, function: str, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Calls a function in one of the processes, in its turn.

        Returns:
            Its task, with ``running()`` and ``result()``.

        Raises:
            NotPicklable: an argument cannot be sent.
            RuntimeError: the queue was closed.
            TypeError, ValueError: these are no names.
        """
        if self._is_closed():
            raise RuntimeError("this queue was closed: make another one with `pyprocess.ProcessQueue(...)`")
        return self._workers.go(_name(module, function), *args, **kwargs)

    def close(self) -> None:
        """Takes no more, and waits until all have ended."""
        self._workers.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._workers.__exit__(kind, error, trace)


def start(module: str, function: str, /, *args: Any, **kwargs: Any) -> Process:
    """Starts a process that imports a module and calls a function of it.

    Args:
        module: its name, as in ``import``.
        function: its name in the module.
        args, kwargs: for the function.

    Raises:
        NotPicklable: an argument cannot be sent.
        TypeError, ValueError: these are no names.
    """
    return Process(module, function, args, kwargs)


def _name(module: str, function: str) -> str:
    for what, name in (("module", module), ("function", function)):
        if not isinstance(name, str):
            raise TypeError(
                f"the {what} is given by its name, as in `start('package.module', 'function')`; got {name!r}"
            )
        if not all(part.isidentifier() for part in name.split(".")):
            raise ValueError(
                f"this is no name of a {what}: {name!r}; names are given as in `start('package.module', 'function')`"
            )
    return f"{module}:{function}"
