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


def be_deaf(path):
    """Stands at a gate, and cannot be told to stop."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pass_gate(path)


def group_in_worker(count):
    """As many tasks in a group as it says, each of which waits for the pool's one place."""
    import thistledown as td

    with td.TaskGroup() as group:
        tasks = [group.go(double, number) for number in range(count)]
    return len([task for task in tasks if task.done()])


def hold_in_group(path):
    """Holds a task in a group; both end when this one is stopped."""
    import thistledown as td

    with td.TaskGroup() as group:
        group.go(pass_gate, path)


class Failure(Exception):
    """What is known by its text alone."""


def fail_by_name():
    raise Failure("failed")


def hang():
    import time

    while True:
        time.sleep(60)
