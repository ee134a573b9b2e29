"""No silent hang: a run that cannot go on says who waits for what, where; and so do tasks in a cycle."""

import socket
import threading

import pytest
import thistledown as td

from support import PATIENCE, place_of, settle

# The alarm of a time limit is something that could still happen: only the limit without a handler is left.
pytestmark = pytest.mark.timeout(0)


def named(name):
    return td.here.options(name=name)


def test_a_run_that_waits_for_nothing_possible_names_task_operation_and_line():
    async def main():
        channel = td.Channel()
        await channel.recv()  # mark: main waits

    with pytest.raises(td.DeadlockError) as caught:
        td.run(main)
    here = test_a_run_that_waits_for_nothing_possible_names_task_operation_and_line
    message = str(caught.value)
    assert "main" in message
    assert "recv" in message
    assert place_of(here, "main waits") in message


def test_every_waiting_task_is_named_with_its_operation_and_line():
    async def receiver(channel):
        await channel.recv()  # mark: receiver waits

    def sender(channel):
        yield from channel.send("value")  # mark: sender waits

    async def chooser(one, two):
        await td.select(one.recv(), two.recv())  # mark: chooser waits

    async def nested(task):
        async def deeper():
            await task  # mark: waiter waits

        await deeper()

    async def main():
        receiving = named("the-receiver").go(receiver, td.Channel())
        named("the-sender").go(sender, td.Channel())
        named("the-chooser").go(chooser, td.Channel(), td.Channel())
        named("the-waiter").go(nested, receiving)

    with pytest.raises(td.DeadlockError) as caught:
        td.run(main)
    here = test_every_waiting_task_is_named_with_its_operation_and_line
    lines = str(caught.value).splitlines()
    for name, operation in [
        ("receiver", "recv"),
        ("sender", "send"),
        ("chooser", "select"),
        ("waiter", "task"),
    ]:
        [line] = [line for line in lines if f"the-{name}" in line and place_of(here, f"{name} waits") in line]
        assert operation in line.replace("the-", "").replace(name, "", 1)


def test_a_group_that_waits_for_its_tasks_is_named_with_them():
    async def main():
        async with td.TaskGroup() as group:  # mark: group waits
            group.go(td.Channel().recv()).name = "the-child"

    with pytest.raises(td.DeadlockError) as caught:
        td.run(main)
    message = str(caught.value)
    assert "the-child" in message
    assert place_of(test_a_group_that_waits_for_its_tasks_is_named_with_them, "group waits") in message


def test_finally_blocks_run_after_a_deadlock():
    events = []

    async def waiting(name):
        try:
            await td.Channel().recv()
        finally:
            events.append(name)

    async def main():
        td.go(waiting, "task")
        await waiting("main")

    with pytest.raises(td.DeadlockError):
        td.run(main)
    assert sorted(events) == ["main", "task"]


def test_a_callback_of_a_run_that_was_given_up_does_not_end_the_next_run():
    called = []

    def callback(task):
        called.append(task.cancelled())
        raise SystemExit("late")

    async def stubborn():
        with td.shield():
            await td.Channel().recv()

    async def main():
        td.go(stubborn).add_done_callback(callback)
        await settle()
        raise ValueError("main failed")

    async def next_main():
        return await td.go(td.sleep(0))

    with pytest.raises(ValueError, match="main failed"):
        td.run(main)
    assert called == [True]
    assert td.run(next_main) is None


def test_a_deadlock_error_is_a_runtime_error():
    assert issubclass(td.DeadlockError, td.ThistledownError)
    assert issubclass(td.DeadlockError, RuntimeError)


def test_a_shielded_wait_can_deadlock_too():
    async def main():
        with td.shield():
            await td.Channel().recv()

    with pytest.raises(td.DeadlockError):
        td.run(main)


def test_idle_helper_threads_do_not_hide_a_deadlock():
    async def main():
        await td.thread(int)
        await td.Channel().recv()

    with pytest.raises(td.DeadlockError):
        td.run(main)


def test_timers_that_were_left_behind_do_not_hide_a_deadlock():
    async def main():
        with td.timeout(3600), td.move_on_after(3600):
            await td.sleep(0)
        assert await td.select(td.sleep(0), td.sleep(3600), td.after(3600)) == (0, None)
        sleeping = td.go(td.sleep(3600))
        await settle()
        sleeping.cancel()
        await settle()
        await td.Channel().recv()

    with pytest.raises(td.DeadlockError):
        td.run(main)


def test_sockets_that_nobody_waits_for_any_more_do_not_hide_a_deadlock(tcp_pair):
    near, far = tcp_pair

    async def main():
        reading = td.go(near.recv(10))
        await settle()
        reading.cancel()
        await settle()
        far.send(b"x")
        assert await near.recv(10) == b"x"
        await td.Channel().recv()

    with pytest.raises(td.DeadlockError):
        td.run(main)


# --- what is no deadlock ------------------------------------------------------------------------------------


def test_another_thread_may_still_come():
    channel, waits = td.Channel(), threading.Event()

    def send_later():
        assert waits.wait(PATIENCE)
        channel.send("value").wait(PATIENCE)

    async def main():
        waits.set()
        return await channel.recv()

    thread = threading.Thread(target=send_later)
    thread.start()
    assert td.run(main) == "value"
    thread.join()


def test_a_run_that_waits_for_another_thread_notices_when_that_thread_has_gone():
    waits = threading.Event()

    async def main():
        waits.set()
        await td.Channel().recv()

    thread = threading.Thread(target=waits.wait, args=(PATIENCE,))
    thread.start()
    with pytest.raises(td.DeadlockError):
        td.run(main)
    thread.join()


def test_a_call_in_a_helper_thread_may_still_come():
    channel = td.Channel()

    async def main():
        td.go(td.thread(lambda: channel.send("value").wait(PATIENCE)))
        return await channel.recv()

    assert td.run(main) == "value"


def test_a_socket_that_is_waited_for_may_still_come():
    async def main():
        with td.listen("127.0.0.1", 0) as listener:
            accepting = td.go(listener.accept())
            await settle()
            with socket.create_connection(listener.getsockname()):
                client, _ = await accepting
                client.close()
                return "accepted"

    assert td.run(main) == "accepted"


@pytest.mark.virtual_clock
async def test_a_timer_may_still_come():
    channel = td.Channel()

    async def send_later():
        await td.sleep(1e6)
        await channel.send("value")

    td.go(send_later)
    assert await channel.recv() == "value"


# --- cycles -------------------------------------------------------------------------------------------------


async def busy():
    """Something that could always still happen, so that only the cycle itself can be what is noticed."""
    await td.sleep(3600)


async def test_a_task_that_waits_for_itself_is_told_at_once():
    other = td.go(busy)
    with pytest.raises(td.DeadlockError, match="itself"):
        await td.current_task()
    other.cancel()


def test_a_generator_that_waits_for_itself_is_told_at_once():
    def body():
        with pytest.raises(td.DeadlockError):
            yield from td.current_task()
        return "went on"

    assert td.run(body) == "went on"


@pytest.mark.parametrize("length", [2, 3, 10])
async def test_tasks_that_wait_in_a_ring_are_told_at_once_while_others_go_on(length):
    tasks = []

    async def member(number):
        await td.sleep(0)
        await tasks[(number + 1) % length]

    other = td.go(busy)
    tasks.extend(named(f"member-{number}").go(member, number) for number in range(length))
    with pytest.raises(td.DeadlockError) as caught:
        await tasks[0]
    message = str(caught.value)
    assert all(f"member-{number}" in message for number in range(length))
    other.cancel()


async def test_the_error_of_a_cycle_shows_the_lines_of_both_waits():
    tasks = []

    async def first():
        await td.sleep(0)
        await tasks[1]  # mark: first waits

    def second():
        yield
        yield from tasks[0]  # mark: second waits

    other = td.go(busy)
    tasks.extend([td.go(first), td.go(second)])
    with pytest.raises(td.DeadlockError) as caught:
        await tasks[0]
    here = test_the_error_of_a_cycle_shows_the_lines_of_both_waits
    assert place_of(here, "first waits") in str(caught.value)
    raised_at = {f"{entry.path.name}:{entry.lineno + 1}" for entry in caught.traceback}
    assert place_of(here, "second waits") in raised_at
    other.cancel()


async def test_a_task_of_a_group_that_waits_for_the_holder_of_the_group_is_told_at_once():
    async def holder():
        async with td.TaskGroup() as group:
            group.go(child, td.current_task())

    async def child(parent):
        await td.sleep(0)
        await parent

    other = td.go(busy)
    with pytest.raises(td.DeadlockError):
        await td.go(holder)
    other.cancel()


async def test_a_cycle_that_is_caught_is_over():
    tasks = []

    async def first():
        return await tasks[1]

    async def second():
        try:
            await tasks[0]
        except td.DeadlockError:
            return "broke the cycle"

    tasks.extend([td.go(first), td.go(second)])
    assert [await task for task in tasks] == ["broke the cycle"] * 2


@pytest.mark.virtual_clock
async def test_a_choice_with_another_way_out_is_no_cycle():
    tasks = []

    async def first():
        return await td.select(tasks[1], td.after(5))

    async def second():
        return await tasks[0]

    tasks.extend([td.go(first), td.go(second)])
    assert [await task for task in tasks] == [(1, None)] * 2


@pytest.mark.virtual_clock
@pytest.mark.parametrize("later", [0, 1])
async def test_a_wait_with_a_timeout_is_no_cycle(later):
    tasks = []

    async def first():
        with td.move_on_after(5):
            await tasks[1]
        return "moved on"

    async def second():
        return await tasks[0]

    bodies = [first, second]
    order = [later, 1 - later]
    started = {number: td.go(bodies[number]) for number in order}
    tasks.extend([started[0], started[1]])
    assert [await task for task in tasks] == ["moved on"] * 2


def test_a_cycle_through_channels_is_noticed_when_nothing_else_can_happen():
    async def pass_on(name, source, target):
        await source.recv()
        await target.send(name)

    async def main():
        left, right = td.Channel(), td.Channel()
        async with td.TaskGroup() as group:
            group.go(pass_on, "first", left, right)
            group.go(pass_on, "second", right, left)

    with pytest.raises(td.DeadlockError):
        td.run(main)
