"""Tasks of each kind, and what becomes of them. Workers import this module, so it imports little itself."""

import os

import thistledown as td


async def give(value):
    await td.sleep(0)
    return value


async def fail_later(value):
    await td.sleep(0)
    raise LookupError(value)


def generate(value):
    yield
    return value


async def pause_for_ever(value):
    while True:
        await td.sleep(0.001)


def spin_for_ever(value):
    while True:
        pass


def double(value):
    return 2 * value


def nest(value):
    return td.go(double, value).result()


def fail(value):
    raise LookupError(value)


def die(value):
    os._exit(3)


def nest_death(value):
    return type(td.go(die, value).exception()).__name__


def large(value):
    return bytes([value % 256]) * 70_000


KINDS = {
    "value": (double, lambda value: 2 * value),
    "error": (fail, lambda value: LookupError(value)),
    "large": (large, large),
    "weightless": (give, lambda value: value),
    "generator": (generate, lambda value: value),
    "weightless error": (fail_later, lambda value: LookupError(value)),
    "nested": (nest, lambda value: 2 * value),
    "closure": (None, lambda value: value + 1),
    "death": (die, lambda value: td.WorkerDied(0, 3)),
    "nested death": (nest_death, lambda value: "WorkerDied"),
    "late": (spin_for_ever, lambda value: TimeoutError()),
    "weightless late": (pause_for_ever, lambda value: TimeoutError()),
}
COSTLY = ("death", "nested death", "late", "weightless late")
ENDLESS = {"spins": spin_for_ever, "pauses": pause_for_ever}
