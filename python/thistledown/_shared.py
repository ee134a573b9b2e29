"""``td.share``: one copy of something big for all workers.

The object is pickled once, into a file that lives in memory; workers map it when they need it first, and what they
see is the object itself. Its large buffers stay in the mapping, so that there is one copy of them on the machine,
read-only. What travels with a task is where to find the file: the memory of a file without a name is freed by the
system when nobody holds it, so nothing is left behind when a process is killed.
"""

import contextlib
import mmap
import os
import pickle
import threading
import types
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from thistledown import _pickling
from thistledown._lifetime import is_worker

if TYPE_CHECKING:
    from thistledown._task import Task

__all__ = ["Shared", "share"]

T = TypeVar("T")

ALIGNMENT = 64
"""Where buffers begin: what NumPy and vector instructions like."""

Place = tuple[str, int, int]


class Shared(Generic[T]):
    """Something that all workers see, made by ``td.share``. Sent with a task, it stands for the object itself.

    ``with td.share(table) as shared: pool.map(look_up, keys, itertools.repeat(shared))``. Closing it frees the memory
    when the workers have no more use for it; tasks that come later cannot have it.
    """

    def __init__(self, value: T) -> None:
        self._value: list[T] = [value]
        data, buffers = _pickling.pack(value)
        self._file, path = _new_file()
        self._layout = _write(self._file, data, buffers)
        self._place: Place = path, os.fstat(self._file).st_ino, sum(self._layout[-1])
        self._finalizer = weakref.finalize(self, _close, self._file, path, os.getpid())

    @property
    def value(self) -> T:
        """The object, as it was given.

        Raises:
            ValueError: it was closed.
        """
        if not self._value:
            raise ValueError("this td.share was closed")
        return self._value[0]

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return not self._value

    def close(self) -> None:
        """Frees the memory. Workers that have it mapped keep it until they take another one."""
        self._value.clear()
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if not self._value:
            raise pickle.PicklingError("this td.share was closed, so no task can have it any more")
        handles = getattr(_noting, "handles", None)
        if handles is None and is_worker():
            # Only a task that it starts would hold it.
            raise pickle.PicklingError(
                "what td.share made in a task ends with the task: return the object itself, or share it in the program"
            )
        if handles is not None:
            handles.append(self)
        return _attached, (self._place, self._layout)

    def __repr__(self) -> str:
        return "<td.share closed>" if self.closed else f"<td.share of {type(self._value[0]).__qualname__}>"


def share(value: T) -> Shared[T]:
    """Puts something big where all workers see it, so that it travels once instead of with each task.

    Pass what this returns as an argument, or anywhere in one; the function gets the object itself, a copy whose large
    buffers (NumPy, for one) are shared and read-only.

    Args:
        value: whatever can be sent to a worker.

    Returns:
        A handle: ``.value`` is the object here; ``close()``, or the end of a ``with`` block, frees it.

    Raises:
        NotPicklable: it cannot be sent; says why.
        OSError: there is not so much memory.
    """
    return Shared(value)


# --- who holds it ------------------------------------------------------------------------------------------------

_noting = threading.local()


def holding(start: "Callable[[], Task[Any]]") -> "Task[Any]":
    """Starts a task. What this thread sends meanwhile is held by that until it ends: nobody else may hold it."""
    known = getattr(_noting, "handles", None)
    handles: list[Shared[Any]] = []
    _noting.handles = handles
    try:
        task = start()
    finally:
        _noting.handles = known
    if handles:
        task.add_done_callback(lambda _: handles.clear())
    return task


# --- the file ---------------------------------------------------------------------------------------------------


def _new_file() -> tuple[int, str]:
    """A file in memory, and the path by which this user's other processes can open it."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("thistledown", os.MFD_CLOEXEC)
        return file, f"/proc/{os.getpid()}/fd/{file}"
    import tempfile

    return tempfile.mkstemp(prefix="thistledown-")


Layout = list[tuple[int, int]]


def _write(file: int, data: bytes, buffers: list[memoryview]) -> Layout:
    """Writes the pickle and its buffers; gives where each begins, and its length."""
    layout: Layout = []
    place = 0
    for part in (memoryview(data), *buffers):
        layout.append((place, part.nbytes))
        place += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
    # A mapping of nothing is refused.
    os.ftruncate(file, max(place, 1))
    for part, (start, _) in zip((memoryview(data), *buffers), layout, strict=True):
        left = part.cast("B")
        while left.nbytes:
            written = os.pwrite(file, left, start)
            left, start = left[written:], start + written
    return layout


def _close(file: int, path: str, process: int) -> None:
    if process != os.getpid():
        return  # A forked child has its own descriptor of it, and the file is its parent's.
    os.close(file)
    if not path.startswith("/proc/"):
        with contextlib.suppress(OSError):
            os.unlink(path)


# --- in a worker ------------------------------------------------------------------------------------------------

_here: dict[Place, Any] = {}
_attaching = threading.RLock()


def _attached(place: Place, layout: Layout) -> Any:
    """The object of a place; mapped and rebuilt once in each process."""
    with _attaching:
        if place not in _here:
            for other in [other for other in _here if not _is_there(other)]:
                del _here[other]
            _here[place] = _mapped(place, layout)
        return _here[place]


def _mapped(place: Place, layout: Layout) -> Any:
    path, inode, _ = place
    words = "what td.share made for this task was closed before the task began"
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ValueError(words) from None
    try:
        if os.fstat(file).st_ino != inode:
            raise ValueError(words)
        memory = memoryview(mmap.mmap(file, 0, prot=mmap.PROT_READ))
    finally:
        os.close(file)
    data, *buffers = (memory[start : start + length] for start, length in layout)
    return _pickling.unpack(data, buffers)


def _is_there(place: Place) -> bool:
    path, inode, _ = place
    try:
        return os.stat(path).st_ino == inode
    except OSError:
        return False
