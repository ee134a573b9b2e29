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
