"""Fuzzes what a running program answers to whoever asks it from outside: `make fuzz`.

The lines that come through the control socket are the input. Around them a program runs: weightless tasks and
a pool with a task in its worker. Whatever is asked, there is an answer: words, or JSON that is whole; and the
program goes on.

Atheris guides it by what it reaches in the modules that answer, and takes libFuzzer's arguments.
"""

import contextlib
import json
import sys
import threading
import time

import atheris

with atheris.instrument_imports(include=["thistledown._window", "thistledown._view", "thistledown._tree"]):
    import thistledown as td
    from thistledown import _tree, _view, _window

del _tree, _view

VERBS = ("view", "open", "cancel", "kill")
KINDS = ("here", "job", "worker", "asyncio", "channel", "")


def question(data: "atheris.FuzzedDataProvider") -> str:
    """A line: one that looks like a question, or anything."""
    shape = data.ConsumeIntInRange(0, 3)
    if shape == 0:
        return str(data.ConsumeUnicode(200))
    if shape == 1:
        return "{" + str(data.ConsumeUnicode(200))
    verb = data.PickValueInList(list(VERBS))
    if shape == 2:
        about = {"limit": number(data), "after": number(data)}
    else:
        about = f"{data.PickValueInList(list(KINDS))} {number(data)} {data.ConsumeUnicode(20)}"
    return json.dumps({verb: about})


def number(data: "atheris.FuzzedDataProvider") -> float | int:
    """Numbers of all kinds, those that are none among them."""
    return data.ConsumeFloat() if data.ConsumeBool() else data.ConsumeInt(9)


def look(data: bytes) -> None:
    """Asks once."""
    asked = question(atheris.FuzzedDataProvider(data))
    told = _window.answer(asked)
    assert isinstance(told, str), asked
    assert told.endswith("\n"), asked
    if asked.strip().startswith("{"):
        assert isinstance(json.loads(told), dict), asked
    assert LIVES.is_alive(), asked


def live(is_up: threading.Event) -> None:
    """A program that has something of everything."""

    async def idle() -> None:
        await td.sleep(1e6)

    async def main() -> None:
        async with td.TaskGroup() as group:
            with td.Workers(1) as pool:
                jobs = [pool.go(time.sleep, 1e6) for _ in range(3)]
                for _ in range(3):
                    group.go(idle)
                is_up.set()
                while True:
                    await td.sleep(1.0)
                    jobs = [job if not job.done() else pool.go(time.sleep, 1e6) for job in jobs]

    while True:
        # What is asked may cancel any of them, and kill the worker.
        with contextlib.suppress(td.TaskCancelled):
            td.run(main)


IS_UP = threading.Event()
LIVES = threading.Thread(target=live, args=(IS_UP,), daemon=True)

if __name__ == "__main__":
    atheris.Setup(sys.argv, look)
    LIVES.start()
    IS_UP.wait()
    atheris.Fuzz()
