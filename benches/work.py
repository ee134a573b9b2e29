"""What worker processes are given to do. A module of its own, so that each peer can import it where it works.

It imports little: workers that start clean have to import it again.
"""

import os
import time
from functools import cache
from typing import Any

PAGE = 4096


def nothing() -> None:
    pass


def same(value: object) -> object:
    return value


def first(value: object, _: object) -> object:
    return value


def pause(seconds: float) -> None:
    time.sleep(seconds)


def pid_after(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def pause_with_numpy(seconds: float) -> None:
    touch(ones(1))
    pause(seconds)


def wait_for(path: str) -> None:
    """Keeps a worker busy until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.002)


def tell_and_stay(path: str) -> None:
    """Writes which process this is into a file, and stays until it is killed."""
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(3600)


def tell(connection: Any) -> None:
    connection.send(os.getpid())


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)


def touch(array: Any) -> float:
    """Reads something of each page, so that all of it has to be there."""
    return float(array[::PAGE].sum())


def made(size_bytes: int) -> Any:
    return ones(size_bytes)


@cache
def ones(size_bytes: int) -> Any:
    """An array that is made once, so that making it is not in the time."""
    import numpy

    return numpy.ones(size_bytes, dtype="uint8")


def touch_block(name: str) -> float:
    import numpy

    return touch(numpy.frombuffer(block(name).buf, dtype="uint8"))


@cache
def block(name: str) -> Any:
    from multiprocessing.shared_memory import SharedMemory

    return SharedMemory(name)
