"""What the tasks of these tests do. Workers import this module, so it imports little itself."""

import os


def pass_gate(path, name=""):
    """Stands at a gate (see `conftest.Gate`) until it is let through; gives its path."""
    arrive(path, name)
    wait_at(path)
    return path


def arrive(path, name=""):
    arrivals = os.open(f"{path}.arrivals", os.O_WRONLY)
    try:
        os.write(arrivals, f"{name}\n".encode())
    finally:
        os.close(arrivals)


def wait_at(path):
    passes = os.open(f"{path}.passes", os.O_RDONLY)
    try:
        os.read(passes, 1)
    finally:
        os.close(passes)


def write(path, line):
    """Adds a line to a journal, at once and whole."""
    journal = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        os.write(journal, f"{line}\n".encode())
    finally:
        os.close(journal)


def echo(*args, **kwargs):
    return args, kwargs


def fail(error):
    raise error


def double(number):
    return 2 * number


def process():
    return os.getpid()


def dig(depth):
    """Each level waits for the next."""
    import thistledown as td

    return 0 if depth == 0 else 1 + td.go(dig, depth - 1).result()


def fork_out(depth):
    """A tree: each node waits for two."""
    import thistledown as td

    if depth == 0:
        return 1
    return sum(task.result() for task in [td.go(fork_out, depth - 1) for _ in range(2)])
