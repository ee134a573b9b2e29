"""Keys of weightless tasks: those of one key never overlap, nor interleave at their waits."""

import gc
import threading

import pytest
import thistledown as td

from support import PATIENCE, run_program, settle


async def test_a_hundred_keys_and_a_thousand_unguarded_increments_each_lose_nothing(home):
    state = dict.fromkeys(range(100), 0)
    begun = set()

    async def increment(key):
        begun.add(key)
        before = state[key]
        await td.sleep(0)
        state[key] = before + 1

    places = {key: td.here.options(key=("account", key)) for key in state}
    tasks = [places[key].go(increment, key) for _ in range(1_000) for key in state]
    await settle()
    assert begun == set(state)  # all of the keys are at work, none waits for another
    for task in tasks:
        await task
    assert set(state.values()) == {1_000}


async def test_without_a_key_the_same_increments_get_lost():
    state = [0]

    async def increment():
        before = state[0]
        await td.sleep(0)
        state[0] = before + 1

    tasks = [td.go(increment) for _ in range(10)]
    for task in tasks:
        await task
    assert state[0] < 10


async def test_tasks_of_a_key_begin_in_the_order_in_which_they_were_started(home):
    begun = []

    async def note(number):
        begun.append(number)
        await td.sleep(0)
        begun.append(-number)

    tasks = [td.here.options(key="k").go(note, number) for number in range(1, 4)]
    for task in tasks:
        await task
    assert begun == [1, -1, 2, -2, 3, -3]


async def test_who_is_cancelled_before_its_turn_never_begins(home):
    begun = []
    gate = td.Channel(0)

    async def note(number):
        begun.append(number)
        await gate.recv()

    first, second, third = (td.here.options(key="k").go(note, number) for number in range(3))
    await settle()
    second.cancel()
    with pytest.raises(td.TaskCancelled):
        await second
    assert begun == [0]
    gate.close()
    for task in (first, third):
        with pytest.raises(td.ChannelClosed):
            await task
    assert begun == [0, 2]


async def test_a_failure_passes_the_key_on(home):
    async def fail():
        raise LookupError

    async def give():
        return 1

    place = td.here.options(key="k")
    failing, giving = place.go(fail), place.go(give)
    with pytest.raises(LookupError):
        await failing
    assert await giving == 1


async def test_to_wait_for_a_later_one_of_ones_own_key_is_a_deadlock():
    place = td.here.options(key="k", name="keyed")

    async def inner():
        pass

    async def outer():
        await place.go(inner)

    with pytest.raises(td.DeadlockError, match=r"keyed waits for its key, which is held by the task that would wait"):
        await place.go(outer)


async def test_a_wait_with_a_way_out_is_no_deadlock(home):
    place = td.here.options(key="k")

    async def inner():
        return 1

    async def outer():
        later = place.go(inner)
        with td.move_on_after(0.001):
            await later
        return later

    later = await place.go(outer)
    assert await later == 1


async def test_the_tree_shows_for_whom_a_task_waits():
    gate = td.Channel(0)
    holder = td.here.options(key="k", name="holder").go(gate.recv())
    queued = td.here.options(key="k", name="queued").go(gate.recv())
    await settle()
    nodes = {node.name: node for node in td.tree().nodes()}
    assert nodes["queued"].state == "waiting"
    assert nodes["queued"].waits_for == "its key, which holder holds"
    for task in (holder, queued):
        await gate.send(None)
        await task


def test_nothing_can_happen_says_who_holds_the_key():
    done = run_program(
        """
        import thistledown as td

        async def main():
            gate = td.Channel(0)
            td.here.options(key="k", name="holder").go(gate.recv())
            await td.here.options(key="k", name="queued").go(gate.recv())

        td.run(main)
        """
    )
    assert "queued waits for its key, which holder holds" in done.stderr
    assert "DeadlockError" in done.stderr


def test_a_key_is_one_for_the_runs_of_all_threads():
    held, free = threading.Event(), threading.Event()
    order = []

    async def holder():
        order.append("first begins")
        held.set()
        await td.thread(free.wait, PATIENCE)
        order.append("first ends")

    async def other():
        order.append("second")

    async def second():
        task = td.here.options(key="shared").go(other)
        await settle()
        free.set()
        await task

    async def first():
        await td.here.options(key="shared").go(holder)

    thread = threading.Thread(target=td.run, args=(first,))
    thread.start()
    assert held.wait(PATIENCE)
    td.run(second)
    thread.join(PATIENCE)
    assert order == ["first begins", "first ends", "second"]


class Slow:
    """A key that compares by code of Python's, and all of whose hashes are the same."""

    compared = 0

    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return 7

    def __eq__(self, other):
        Slow.compared += 1
        return isinstance(other, Slow) and self.number == other.number


async def test_keys_are_compared_as_in_a_dictionary(home):
    order = []

    async def note(name):
        order.append(name)
        await td.sleep(0)
        order.append(name)

    for key, same in ((1, 1.0), ("a", "a"), ((1, "b"), (1.0, "b")), (Slow(1), Slow(1))):
        order.clear()
        tasks = [td.here.options(key=key).go(note, 1), td.here.options(key=same).go(note, 2)]
        for task in tasks:
            await task
        assert order == [1, 1, 2, 2]
    order.clear()
    tasks = [td.here.options(key=Slow(number)).go(note, number) for number in (1, 2)]
    for task in tasks:
        await task
    assert order == [1, 2, 1, 2]
    assert Slow.compared > 0


async def test_keys_of_which_no_task_lives_are_let_go():
    class Key:
        pass

    async def nothing():
        pass

    for _ in range(5_000):
        await td.here.options(key=Key()).go(nothing)
    alive = sum(isinstance(known, Key) for known in gc.get_objects())
    assert alive <= 2_500


async def test_a_key_that_fails_to_be_compared_says_so(home):
    class Bad:
        def __hash__(self):
            raise LookupError("no hash")

    async def nothing():
        raise AssertionError("it was started")

    with pytest.raises(LookupError):
        td.here.options(key=Bad())
    with pytest.raises(TypeError, match="key must be hashable"):
        td.here.options(key=[])
    await settle()


async def test_options_of_processes_are_refused_here():
    with pytest.raises(TypeError, match=r"timeout: no such option for what runs here.*with td.timeout"):
        td.here.options(timeout=3)
    with pytest.raises(TypeError, match="mailbox is an option of actors"):
        td.here.options(mailbox=3).go(td.sleep(0))


async def test_a_decorated_body_has_its_key(home):
    order = []

    @td.task(key="decorated")
    async def note(number):
        order.append(number)
        await td.sleep(0)
        order.append(number)

    tasks = [note.go(1), note.go(2)]
    for task in tasks:
        await task
    assert order == [1, 1, 2, 2]


def test_a_forked_child_has_keys_of_its_own():
    done = run_program(
        """
        import os
        import thistledown as td

        async def body():
            return 1

        async def child_main():
            return await td.here.options(key="k").go(body)


        async def main():
            gate = td.Channel(0)
            holder = td.here.options(key="k").go(gate.recv())
            await td.sleep(0)
            pid = os.fork()
            if pid == 0:
                import threading
                given = []
                thread = threading.Thread(target=lambda: given.append(td.run(child_main)))
                thread.start()
                thread.join(20)
                os._exit(0 if given == [1] else 1)
            status = os.waitpid(pid, 0)[1]
            await gate.send(None)
            await holder
            print(os.waitstatus_to_exitcode(status))

        td.run(main)
        """
    )
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr
