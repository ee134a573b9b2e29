"""``options(memory=)``: who takes more is ended, and nobody else."""

import pytest
import thistledown as td
import victims
from witness import PATIENCE

MIB = 1 << 20


def test_a_task_that_takes_more_than_it_may_is_ended_alone(pair):
    limited = pair.options(memory="64MiB")
    victim = limited.submit(victims.grow_for_ever)
    others = [pair.submit(victims.square, n) for n in range(20)]
    with pytest.raises(td.MemoryLimitExceeded, match="64 MiB") as caught:
        victim.result(PATIENCE)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, td.WorkerDied)
    assert [task.result(PATIENCE) for task in others] == [n * n for n in range(20)]
    assert limited.submit(victims.grow, MIB).result(PATIENCE) == MIB


def test_the_limit_is_for_the_growth_of_the_task_alone(single):
    """What its worker had before is not counted."""
    kept = single.submit(victims.hold, 100 * MIB).result(PATIENCE)
    limited = single.options(memory=64 * MIB)
    assert limited.submit(victims.process).result(PATIENCE) == kept
    assert limited.submit(victims.grow, 16 * MIB).result(PATIENCE) == 16 * MIB
    assert isinstance(limited.submit(victims.grow_for_ever).exception(PATIENCE), td.MemoryLimitExceeded)


def test_many_that_take_too_much_and_many_that_do_not(pair):
    limited = pair.options(memory="48MiB")
    tasks = [limited.submit(*call) for call in [(victims.grow_for_ever,), (victims.grow, MIB)] * 5]
    assert all(isinstance(task.exception(PATIENCE), td.MemoryLimitExceeded) for task in tasks[::2])
    assert all(task.result(PATIENCE) == MIB for task in tasks[1::2])


def test_no_more_memory_from_the_system_is_the_task_s_own_error(single):
    """A limit that the system sets: Python says so in the task, and the worker goes on."""

    def take():
        import resource

        limits = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, limits[1]))
        try:
            return victims.large(1 << 32)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)

    with pytest.raises(MemoryError):
        single.submit(take).result(PATIENCE)
    assert single.submit(victims.square, 3).result(PATIENCE) == 9
