"""`thistledown.testing.run`: the same run on a clock that jumps when nothing but timers is left."""

import socket
import threading

import pytest
import thistledown as td
from thistledown import testing

from support import PATIENCE, settle

YEAR = 365 * 24 * 3600.0


def test_it_runs_and_returns_as_run_does():
    async def main(value):
        return value

    assert testing.run(main, "value") == "value"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_it_raises_as_run_does(error):
    async def main():
        await td.sleep(YEAR)
        raise error

    with pytest.raises(type(error)):
        testing.run(main)


def test_a_year_passes_at_once():
    async def main():
        await td.sleep(YEAR)
        assert await td.select(td.sleep(3 * YEAR), td.after(YEAR)) == (1, None)
        with pytest.raises(TimeoutError):
            with td.timeout(YEAR):
                await td.Channel().recv()
        return "four years later"

    assert testing.run(main) == "four years later"


def test_things_happen_in_the_order_of_their_times():
    order = []

    async def at(moment, what):
        await td.sleep(moment)
        order.append(what)

    async def main():
        async with td.TaskGroup() as group:
            for moment, what in [(3 * YEAR, "c"), (1, "a"), (YEAR, "b"), (3 * YEAR + 1, "d")]:
                group.go(at, moment, what)

    testing.run(main)
    assert order == ["a", "b", "c", "d"]


def test_the_clock_does_not_jump_while_something_can_run():
    rounds = 0

    async def main():
        nonlocal rounds
        sleeping = td.go(td.sleep(0.001))
        for _ in range(10_000):
            await td.sleep(0)
            rounds += 1
        assert not sleeping.done()
        await sleeping

    testing.run(main)
    assert rounds == 10_000


def test_the_clock_does_not_jump_while_a_call_in_a_thread_is_under_way():
    release = threading.Event()

    async def main():
        call = td.thread(release.wait, PATIENCE)
        waiting = td.go(td.select(call, td.after(YEAR)))
        await settle()
        release.set()
        return await waiting

    assert testing.run(main) == (0, True)


def test_the_clock_does_not_jump_while_a_socket_is_waited_for():
    near, far = socket.socketpair()

    async def main():
        with td.Socket(near) as stream:
            waiting = td.go(td.select(stream.recv(10), td.after(YEAR)))
            await settle()
            await td.thread(far.send, b"data")
            return await waiting

    with far:
        assert testing.run(main) == (0, b"data")


@pytest.mark.timeout(0)  # the alarm of a time limit could still happen, and would hide the deadlock
def test_a_deadlock_is_noticed_when_no_timer_is_left():
    async def main():
        td.go(td.sleep(YEAR))
        await td.Channel().recv()

    with pytest.raises(td.DeadlockError, match="recv"):
        testing.run(main)


def test_each_run_has_a_clock_of_its_own():
    async def main():
        await td.sleep(YEAR)
        return "later"

    results = []
    threads = [threading.Thread(target=lambda: results.append(testing.run(main))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["later"] * 3
