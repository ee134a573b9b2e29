"""What worker processes are given to do. A module of its own, so that each peer can import it where it works."""

import time


def nothing() -> None:
    pass


def same(value: object) -> object:
    return value


def pause(seconds: float) -> None:
    time.sleep(seconds)


def fib(n: int) -> int:
    return 1 if n <= 2 else fib(n - 1) + fib(n - 2)
