"""Ctrl-C that strikes inside of what a guest asks its loop for: nothing that was to be told is lost by it."""

import asyncio
import contextlib
import signal

import pytest
import thistledown as td

from support import PATIENCE, settle


class Struck(asyncio.SelectorEventLoop):
    """Ctrl-C strikes once, in the call of `function` whose callback has `words` in it."""

    function, words, is_late = "", "", False

    def strike(self, function, words, *, is_late=False):
        self.function, self.words, self.is_late = function, words, is_late

    def _ask(self, function, *arguments, **options):
        ask = getattr(asyncio.SelectorEventLoop, function).__get__(self)
        if function != self.function or not any(self.words in repr(argument) for argument in arguments):
            return ask(*arguments, **options)
        self.function = ""
        if not self.is_late:
            signal.raise_signal(signal.SIGINT)
        asked = ask(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return asked

    def call_soon(self, *arguments, **options):
        return self._ask("call_soon", *arguments, **options)

    def call_later(self, *arguments, **options):
        return self._ask("call_later", *arguments, **options)


@pytest.fixture
def loop():
    loop = Struck()
    yield loop
    loop.run_until_complete(settle())
    loop.close()


def run_again(loop, task):
    """Runs the loop until the task has ended, though it was stopped by Ctrl-C."""
    return loop.run_until_complete(asyncio.wait_for(task, PATIENCE))


async def receive(channel):
    return await channel.recv()


async def send_to(channels):
    for channel in channels:
        channel.send_nowait("value")


def test_all_are_told_though_ctrl_c_strikes_when_the_first_is(loop):
    async def main():
        channels = [td.Channel(1) for _ in range(3)]
        receivers = [loop.create_task(receive(channel)) for channel in channels]
        await settle()
        loop.strike("call_soon", "wakeup", is_late=True)
        td.go(send_to, channels)
        return await asyncio.gather(*receivers)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert run_again(loop, task) == ["value"] * 3


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "behind"])
def test_a_visit_comes_though_ctrl_c_strikes_when_it_is_asked_for(loop, is_late):
    async def main():
        channels = [td.Channel(1) for _ in range(3)]
        receivers = [loop.create_task(receive(channel)) for channel in channels]
        await settle()
        loop.strike("call_soon", "visit", is_late=is_late)
        with pytest.raises(KeyboardInterrupt):
            td.go(send_to, channels)
            for _ in range(100_000):  # it comes once more at the next place that can raise it
                pass
        return await asyncio.gather(*receivers)

    assert run_again(loop, loop.create_task(main())) == ["value"] * 3


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "behind"])
def test_a_deadline_comes_though_ctrl_c_strikes_when_its_timer_is_set(loop, is_late):
    async def main():
        loop.strike("call_later", "elapsed", is_late=is_late)
        with contextlib.suppress(KeyboardInterrupt):
            await td.sleep(0.001)
        await td.sleep(0.001)
        return "done"

    task = loop.create_task(main())
    with contextlib.suppress(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert run_again(loop, task) == "done"
