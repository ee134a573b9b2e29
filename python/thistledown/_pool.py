"""``Workers``: a pool of worker processes, as a ``concurrent.futures.Executor``.

The engine's pool does the work; this is its face.
"""

import concurrent.futures
import functools
import os
import types
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

from thistledown import _core, _ends
from thistledown._launch import cores, launch, packed_initializer
from thistledown._lifetime import worker_pool
from thistledown._verbs import Verbs

if TYPE_CHECKING:
    from thistledown._crew import End, WorkerProcess

__all__ = ["Workers", "by_token"]

by_token: "weakref.WeakValueDictionary[int, Workers]" = weakref.WeakValueDictionary()
"""The pools of this process, by what their workers know them by: what these make is in one of them."""

GRACE = 1.0
"""Seconds that a task has to end after it was told to stop."""

CONCURRENCY = 100
"""Weightless tasks that one worker runs at a time."""


class Workers(Verbs, concurrent.futures.Executor):
    """Worker processes on this machine: a ``concurrent.futures.Executor`` whose tasks can be stopped and awaited.

    ``with td.Workers(4) as pool: pool.go(f, x)``, in a coroutine ``async with``. Processes are started when they are
    needed. A task that crashes takes only itself with it; scripts need no main guard; lambdas and what is defined in
    ``__main__`` can be sent. Leaving the block waits for the tasks; Ctrl-C in it ends them.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | str | None = None,
        initargs: tuple[Any, ...] = (),
        preload: Sequence[str] = (),
        max_tasks_per_child: int | None = None,
        grace: float = GRACE,
        concurrency: int = CONCURRENCY,
    ) -> None:
        """Makes a pool.

        Args:
            max_workers: processes that work at a time; None for as many as this process has cores.
            initializer: called in each worker before its first task. When it fails the pool is broken.
            initargs: its arguments.
            preload: names of modules that are imported once and shared by all workers.
            max_tasks_per_child: tasks after which a worker is replaced by a fresh one; None never does.
            grace: seconds that a task has to end after it was told to stop; then its process is killed.
            concurrency: weightless tasks that one worker runs at a time.

        Raises:
            TypeError, ValueError: an argument has an impossible value.
            NotPicklable: the initializer or one of its arguments cannot be sent.
        """
        size = cores() if max_workers is None else _count("max_workers", max_workers)
        if max_tasks_per_child is not None:
            _count("max_tasks_per_child", max_tasks_per_child)
        _count("concurrency", concurrency)
        if isinstance(grace, bool) or not isinstance(grace, int | float):
            raise TypeError(f"grace is a number of seconds, got {grace!r}")
        if not grace >= 0:
            raise ValueError(f"grace must be >= 0 seconds, got {grace!r}")
        if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):
            raise TypeError(f"preload is a list of names of modules, got {preload!r}")
        token = int.from_bytes(os.urandom(8), "little")
        start = functools.partial(launch, size, list(preload), packed_initializer(initializer, initargs), token)
        pool = _core.Pool(
            size, grace=grace, concurrency=concurrency, max_tasks_per_child=max_tasks_per_child, launch=start
        )
        self._set(pool, size, token)
        self._finalizer = weakref.finalize(self, _ends.abandon, pool, os.getpid())
        self._finalizer.atexit = False
        _ends.see_to(self, pool)

    def _set(self, pool: _core.Pool, size: int, token: int) -> None:
        self._pool = pool
        # What its workers know it by.
        self._token = token
        by_token[token] = self
        self._max_workers = size
        self._pumps = weakref.WeakSet()
        # Of workers that somebody watches, by their numbers.
        self._ends: dict[int, End] = {}
        self._is_upstream = False

    @classmethod
    def _upstream(cls) -> "Workers":
        """In a worker: the pool of the process that this one works for."""
        self = cls.__new__(cls)
        pool = _core.Pool.upstream()
        assert pool is not None
        self._set(pool, int(pool.statistics().get("size", cores())), worker_pool())
        self._is_upstream = True
        _ends.see_to(self, None)
        return self

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Closes the pool: it takes no more tasks, and its processes end when those it has are done.

        Args:
            wait: returns when that is so; else at once.
            cancel_futures: cancels the tasks that have not begun.

        Raises:
            RuntimeError: in a task: this is the pool that runs it, and its program's to close.
        """
        if self._is_upstream:
            raise RuntimeError(
                "this is the pool that runs this very task, and only the program that has made it can close it: wait "
                "for tasks with `td.wait(tasks)`, or make a pool of your own here, `with td.Workers() as pool`"
            )
        for pump in list(self._pumps):
            if cancel_futures:
                pump.end_starting()
            else:
                pump.flush()
        self._pool.shutdown(cancel_futures)
        if wait and self._pool.closed(None):
            _ends.forget(self._pool)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Waits until the pool has nothing to do.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Returns:
            False when the time was over first.
        """
        for pump in list(self._pumps):
            pump.flush()
        return self._pool.wait_idle(timeout)

    def statistics(self) -> dict[str, Any]:
        """What the pool is at, by name: its processes, the tasks that wait and run, and how many have ended how."""
        return self._pool.statistics()

    def processes(self) -> "list[WorkerProcess]":
        """The worker processes of the pool that live now: those for tasks, and those in which actors live.

        ``for worker in pool.processes(): td.monitor(worker)``. A pool starts workers when it needs them, so there are
        none before the first task, and further ones later.

        Raises:
            RuntimeError: in a task: this is the pool that runs it, and its program's to watch.
        """
        from thistledown._crew import crew

        return crew(self)

    def _kill(self) -> None:
        """Ends everything now; what has not ended is cancelled."""
        for pump in list(self._pumps):
            pump.end_starting()
        self._pool.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._kill()
        if self._is_upstream:
            return  # It goes on: it is not this process's to close.
        if _core.current_task() is not None:
            # No process is waited for here: that would stop all other tasks of this thread.
            self.shutdown(wait=False)
            if kind is None and self._has_tasks():
                raise RuntimeError(
                    "tasks of the pool have not ended, and waiting here would stop the thread that runs the "
                    "weightless tasks: write `async with td.Workers(...) as pool`"
                )
            return
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._kill()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        """Waits as leaving a ``with`` block does, and lets the others run. Who is cancelled ends the tasks."""
        if kind is not None and not issubclass(kind, Exception):
            self._kill()
        if self._is_upstream:
            return
        self.shutdown(wait=False)
        if kind is GeneratorExit:
            return
        try:
            await self._closed()
        except BaseException:
            self._kill()
            with _core.shield():
                await self._closed()
            raise
        finally:
            _ends.forget(self._pool)

    async def _closed(self) -> None:
        await _core.thread(self._pool.closed)

    def _has_tasks(self) -> bool:
        known = self._pool.statistics()
        return any(known[name] for name in ("queued", "offered", "busy"))

    def __reduce__(self) -> Any:
        """Sent to a worker, it stands for the pool of that worker."""
        from thistledown import _workers

        return _workers.at_worker, ()

    def _repr_html_(self) -> str:
        """For notebooks."""
        from thistledown import _html

        return _html.of_pool(self)

    def __repr__(self) -> str:
        return f"<thistledown.Workers of {self._max_workers}{'' if self._pool.takes_tasks() else ' closed'}>"


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be greater than 0, got {value}")
    return value
