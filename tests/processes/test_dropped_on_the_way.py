"""Things that are dropped because of an exception leave it as it is."""

import gc
import time

import pytest
import thistledown as td
from pools import Workers

from support import PATIENCE


def fail():
    raise LookupError("nobody asks for this one")


def failed(pool):
    """A task that has failed, which nobody has asked yet."""
    task = pool.go(fail)
    while not task.done():
        time.sleep(0.001)
    return task


def dropped_with(make):
    """A thing whose only holder is the stack that is unwound."""
    return make(), 1 / 0


@pytest.mark.filterwarnings("ignore")
def test_a_failed_task_is_told_of_and_the_exception_stays(caplog):
    with Workers(1) as pool:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                dropped_with(lambda: failed(pool))
    assert caplog.text.count("nobody asks for this one") >= 3


def test_what_a_space_gives_is_dropped_and_the_exception_stays(tmp_path):
    for path in (None, tmp_path / "space.db"):
        for thing in ("transaction", "watch"):
            space = td.Space(path)
            things = [getattr(space, thing)()]
            space.close()
            with pytest.raises(ZeroDivisionError):
                dropped_with(things.pop)
        with pytest.raises(ZeroDivisionError):
            dropped_with(lambda path=path: td.Space(path))
    gc.collect()


def test_who_is_cancelled_while_what_he_waits_for_fails_is_cancelled():
    async def main():
        async def waits():
            return await pool.go(fail_late)

        for _ in range(5):
            task = td.go(waits)
            await td.sleep(0.01)
            task.cancel()  # first it is cancelled,
            time.sleep(0.1)  # and what it waits for fails before it has its turn
            with pytest.raises(td.TaskCancelled):
                await task

    def fail_late():
        time.sleep(0.03)
        raise LookupError("too late")

    with Workers(1) as pool:
        pool.go(len, "").result(PATIENCE)
        td.run(main, stall_after=None)
