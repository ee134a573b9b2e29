"""Properties: random programs on the virtual clock do what a naive reference says they must.

- Networks of tasks with one sender and one receiver a channel have one outcome, whatever the schedule (Kahn,
  "The semantics of a simple language for parallel programming", 1974): a reference that tries tasks in a loop
  finds it, deadlocks included.
- Crowds with timeouts, choices and cancelling: what was sent was received once, in order, or is still there.
- Trees of scopes and groups end when, and with the errors that, plain arithmetic says. All durations are
  different powers of two, so no two moments are the same.
- Buffered reading cuts a stream as slicing the whole would.
"""

import contextlib
import math
import socket
import threading
from collections import deque

import pytest
import thistledown as td
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from thistledown import testing

from support import settle

reproducible = settings(deadline=None, derandomize=True, database=None, max_examples=200)


# --- networks -----------------------------------------------------------------------------------------------


@st.composite
def networks(draw):
    """Capacities of channels, and for each task its operations: (verb, channel, turns given, pause)."""
    task_count = draw(st.integers(2, 5))
    tasks = [[] for _ in range(task_count)]
    capacities = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    for channel in range(len(capacities)):
        sender = draw(st.integers(0, task_count - 1))
        receiver = draw(st.integers(0, task_count - 1).filter(lambda number, sender=sender: number != sender))
        count = draw(st.integers(0, 6))
        tasks[sender] += [("send", channel)] * count
        tasks[receiver] += [("recv", channel)] * draw(st.sampled_from([count, count, count, max(count - 1, 0)]))
    gaps = st.tuples(st.integers(0, 2), st.sampled_from([0, 0, 1, 7]))
    return capacities, [[(*verb, *draw(gaps)) for verb in draw(st.permutations(task))] for task in tasks]


def reference_network(capacities, tasks):
    """What each task receives, and how many operations it completes."""
    buffers = [deque() for _ in capacities]
    done, received = [0] * len(tasks), [[] for _ in tasks]

    def stands_at(verb, channel):
        for number, task in enumerate(tasks):
            if done[number] < len(task) and task[done[number]][:2] == (verb, channel):
                return number
        return None

    progress = True
    while progress:
        progress = False
        for channel, capacity in enumerate(capacities):
            sender, receiver = stands_at("send", channel), stands_at("recv", channel)
            can_meet = capacity == 0 and receiver is not None
            if sender is not None and (can_meet or len(buffers[channel]) < capacity):
                buffers[channel].append((sender, done[sender]))
                done[sender] += 1
                progress = True
            if receiver is not None and buffers[channel]:
                received[receiver].append((channel, buffers[channel].popleft()))
                done[receiver] += 1
                progress = True
    return received, done


def run_network(capacities, tasks, kind):
    channels = [td.Channel(capacity) for capacity in capacities]
    received, done = [[] for _ in tasks], [0] * len(tasks)

    def generator_member(number):
        for verb, channel, rounds, pause in tasks[number]:
            for _ in range(rounds):
                yield
            if pause:
                yield from td.sleep(pause)
            if verb == "send":
                yield from channels[channel].send((number, done[number]))
            else:
                received[number].append((channel, (yield from channels[channel].recv())))
            assert len(channels[channel]) <= capacities[channel]
            done[number] += 1

    async def async_member(number):
        for verb, channel, rounds, pause in tasks[number]:
            await settle(rounds)
            if pause:
                await td.sleep(pause)
            if verb == "send":
                await channels[channel].send((number, done[number]))
            else:
                received[number].append((channel, await channels[channel].recv()))
            assert len(channels[channel]) <= capacities[channel]
            done[number] += 1

    async def main():
        async with td.TaskGroup() as group:
            for number in range(len(tasks)):
                task = group.go(async_member if kind == "async" else generator_member, number)
                task.name = f"member-{number};"

    error = None
    try:
        testing.run(main)
    except td.DeadlockError as caught:
        error = caught
    return received, done, error


@pytest.mark.timeout(0)  # the alarm of a time limit could still happen, and would hide a deadlock
@pytest.mark.parametrize("kind", ["async", "generator"])
@reproducible
@given(network=networks())
def test_a_network_has_the_one_outcome_that_the_reference_finds(kind, network):
    capacities, tasks = network
    received, done, error = run_network(capacities, tasks, kind)
    assert (received, done) == reference_network(capacities, tasks)
    stuck = [number for number, task in enumerate(tasks) if done[number] < len(task)]
    named = [number for number in range(len(tasks)) if f"member-{number};" in str(error)]
    assert named == stuck


# --- crowds -------------------------------------------------------------------------------------------------

channel_numbers = st.integers(0, 2)
limits = st.sampled_from([0, 1, 2, 5])
actions = st.one_of(
    st.tuples(st.just("send"), channel_numbers, limits),
    st.tuples(st.just("recv"), channel_numbers, limits),
    st.tuples(st.just("send_nowait"), channel_numbers),
    st.tuples(st.just("recv_nowait"), channel_numbers),
    st.tuples(st.just("select"), channel_numbers, channel_numbers, limits),
    st.tuples(st.just("sleep"), st.sampled_from([0, 1, 2])),
)
crowds = st.tuples(
    st.lists(st.integers(0, 2), min_size=3, max_size=3),
    st.lists(st.lists(actions, min_size=1, max_size=8), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 5)), max_size=4),
)


def within(limit):
    return contextlib.nullcontext() if limit is None else td.move_on_after(limit)


class Crowd:
    """Members that act on shared channels and write down what they sent and got."""

    def __init__(self, capacities):
        self.channels = [td.Channel(capacity) for capacity in capacities]
        self.sent, self.received, self.unfinished = [], [], set()

    def note_sent(self, channel, value):
        self.sent.append((channel, value))

    def note_received(self, channel, name, value):
        self.received.append((channel, name, value))

    def arrived(self):
        return [(channel, value) for channel, _, value in self.received]

    def left(self):
        """Empties the channels."""
        values = []
        for number, channel in enumerate(self.channels):
            with contextlib.suppress(td.ChannelEmpty):
                while True:
                    values.append((number, channel.recv_nowait()))
        return values

    async def act(self, name, value, verb, *arguments):
        first = self.channels[arguments[0]] if verb != "sleep" else None
        if verb == "send":
            with within(arguments[1]):
                await first.send(value)
                self.note_sent(arguments[0], value)
        elif verb == "recv":
            with within(arguments[1]):
                self.note_received(arguments[0], name, await first.recv())
        elif verb == "send_nowait":
            with contextlib.suppress(td.ChannelFull):
                first.send_nowait(value)
                self.note_sent(arguments[0], value)
        elif verb == "recv_nowait":
            with contextlib.suppress(td.ChannelEmpty):
                self.note_received(arguments[0], name, first.recv_nowait())
        elif verb == "select":
            second = self.channels[arguments[1]]
            limit = [] if arguments[2] is None else [td.after(arguments[2])]
            chosen = await td.select(first.send(value), second.recv(), *limit)
            if chosen.index == 0:
                self.note_sent(arguments[0], value)
            elif chosen.index == 1:
                self.note_received(arguments[1], name, chosen.value)
        else:
            await td.sleep(arguments[0])

    async def member(self, name, steps):
        self.unfinished.add(name)
        for number, step in enumerate(steps):
            await self.act(name, (name, number), *step)
            assert all(len(channel) <= channel.capacity for channel in self.channels)
        self.unfinished.discard(name)

    async def main(self, members, cancels):
        async with td.TaskGroup() as group:
            tasks = [group.go(self.member, name, steps) for name, steps in enumerate(members)]
            for name, task in enumerate(tasks):
                task.name = f"member-{name};"
            for moment, rounds, target in cancels:
                group.go(self.cancel_later, moment, rounds, tasks[target % len(tasks)])

    async def cancel_later(self, moment, rounds, task):
        await td.sleep(moment)
        await settle(rounds)
        task.cancel()


@reproducible
@given(program=crowds)
def test_what_a_crowd_sends_is_received_once_and_in_order_or_still_there(program):
    capacities, members, cancels = program
    crowd = Crowd(capacities)
    testing.run(crowd.main(members, cancels))
    assert sorted(crowd.arrived() + crowd.left()) == sorted(crowd.sent)
    for channel in range(len(capacities)):
        for sender in range(len(members)):
            for receiver in range(len(members)):
                numbers = [
                    value[1]
                    for where, name, value in crowd.received
                    if (where, name, value[0]) == (channel, receiver, sender)
                ]
                assert numbers == sorted(numbers)


def without_limit(steps):
    return [(*step[:-1], None) if step[0] in ("send", "recv", "select") else step for step in steps]


@pytest.mark.timeout(0)
@reproducible
@given(program=crowds)
def test_a_crowd_without_limits_ends_or_is_told_who_is_stuck(program):
    capacities, members, _ = program
    crowd, error = Crowd(capacities), None
    try:
        testing.run(crowd.main, [without_limit(steps) for steps in members], [])
    except td.DeadlockError as caught:
        error = caught
    assert (error is not None) == bool(crowd.unfinished)
    named = {name for name in range(len(members)) if f"member-{name};" in str(error)}
    assert named == crowd.unfinished
    assert sorted(crowd.arrived() + crowd.left()) == sorted(crowd.sent)


def act_in_thread(crowd, name, steps, limit):
    """The steps of a member, done by a plain thread with waits that end after `limit` seconds."""
    for number, (verb, *arguments) in enumerate(steps):
        value, first = (name, number), crowd.channels[arguments[0]]
        with contextlib.suppress(TimeoutError, td.ChannelFull, td.ChannelEmpty):
            if verb == "send":
                first.send(value).wait(limit)
                crowd.note_sent(arguments[0], value)
            elif verb == "recv":
                crowd.note_received(arguments[0], name, first.recv().wait(limit))
            elif verb == "send_nowait":
                first.send_nowait(value)
                crowd.note_sent(arguments[0], value)
            elif verb == "recv_nowait":
                crowd.note_received(arguments[0], name, first.recv_nowait())
            elif verb == "select":
                chosen = td.select(first.send(value), crowd.channels[arguments[1]].recv()).wait(limit)
                if chosen.index == 0:
                    crowd.note_sent(arguments[0], value)
                else:
                    crowd.note_received(arguments[1], name, chosen.value)


def in_milliseconds(steps):
    """The same steps with limits and pauses that are short on a real clock."""
    return [
        (verb, *numbers[:-1], numbers[-1] / 1000) if verb not in ("send_nowait", "recv_nowait") else (verb, *numbers)
        for verb, *numbers in steps
    ]


@settings(reproducible, max_examples=50)
@given(programs=st.tuples(crowds, crowds))
def test_nothing_is_lost_between_two_runs_and_plain_threads(programs):
    crowd, threads = Crowd(programs[0][0]), []
    for number, (_, members, cancels) in enumerate(programs):
        offset = 10 * number
        named = [in_milliseconds(steps) for steps in members]

        async def main(named=named, cancels=cancels, offset=offset):
            async with td.TaskGroup() as group:
                tasks = [group.go(crowd.member, name + offset, steps) for name, steps in enumerate(named)]
                for moment, rounds, target in cancels:
                    group.go(crowd.cancel_later, moment / 1000, rounds, tasks[target % len(tasks)])

        threads.append(threading.Thread(target=td.run, args=(main,)))
        steps = [step for step in members[0] if step[0] != "sleep"]
        threads.append(threading.Thread(target=act_in_thread, args=(crowd, 100 + number, steps, 0.001)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(crowd.arrived() + crowd.left()) == sorted(crowd.sent)


# --- tasks that wait for each other ---------------------------------------------------------------------------


def count_cycles(targets):
    """How many cycles there are where each points at one other, at itself or at nobody."""
    cycles = set()
    for start in range(len(targets)):
        path, number = [], start
        while number is not None and number not in path:
            path.append(number)
            number = targets[number]
        if number is not None:
            cycles.add(frozenset(path[path.index(number) :]))
    return len(cycles)


@reproducible
@given(
    targets=st.integers(1, 12).flatmap(
        lambda count: st.lists(st.none() | st.integers(0, count - 1), min_size=count, max_size=count)
    ),
    order=st.randoms(use_true_random=False),
)
def test_each_cycle_of_waiting_tasks_is_told_once_and_all_others_are_waited_for(targets, order):
    async def member(number, rounds):
        await settle(rounds)
        try:
            await (gate.recv() if targets[number] is None else tasks[targets[number]])
        except td.ChannelClosed:
            events.append("waited to the end")
        except td.DeadlockError:
            events.append("told")

    async def main():
        numbers = list(range(len(targets)))
        order.shuffle(numbers)
        started = {number: td.go(member, number, order.randrange(4)) for number in numbers}
        tasks.extend(started[number] for number in range(len(targets)))
        waiting = td.go(td.sleep(1))  # something can always happen, so only the cycles themselves are told
        await settle()
        gate.close()
        await waiting

    gate, tasks, events = td.Channel(), [], []
    testing.run(main)
    assert events.count("told") == count_cycles(targets)
    assert events.count("waited to the end") == targets.count(None)


# --- trees of scopes ----------------------------------------------------------------------------------------

DURATIONS = 20


def grow(inner):
    return st.one_of(
        st.tuples(st.just("sequence"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("group"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("timeout"), inner),
        st.tuples(st.just("move on"), inner),
        st.tuples(st.just("shield"), inner),
    )


leaves = st.sampled_from([("sleep",), ("sleep",), ("sleep",), ("fail",)])
shapes = st.recursive(leaves, grow, max_leaves=9)


def measured(shape, durations):
    """The shape with the next duration in each node that needs one."""
    kind, *inner = shape
    if kind in ("sleep", "fail"):
        return kind, next(durations)
    if kind in ("timeout", "move on"):
        return kind, next(durations), measured(inner[0], durations)
    if kind == "shield":
        return kind, measured(inner[0], durations)
    return kind, [measured(child, durations) for child in inner[0]]


@st.composite
def trees(draw):
    exponents = draw(st.permutations(range(DURATIONS)))
    try:
        return measured(draw(shapes), iter([float(2**exponent) for exponent in exponents]))
    except RuntimeError:  # more nodes than durations
        assume(False)


class Unclear(Exception):
    """Two scopes were cancelled before the first was left, or a wait met its end and its cancelling."""


class Failure(Exception):
    pass


OK, CANCELLED = "ok", "cancelled"


def reference(node, start, cancel_at, log):
    """When the node ends, and how: ok, cancelled, or the shape of its error; `log` gets its sleeps."""
    kind, *inner = node
    if kind in ("sleep", "fail"):
        end = start + inner[0]
        if cancel_at <= start:
            return start, CANCELLED
        if cancel_at < end:
            return cancel_at, CANCELLED
        log.append((end, inner[0]))
        return end, (OK if kind == "sleep" else f"fail {inner[0]}")
    if kind == "shield":
        return reference(inner[0], start, math.inf, log)
    if kind == "sequence":
        for child in inner[0]:
            start, outcome = reference(child, start, cancel_at, log)
            if outcome != OK:
                break
        return start, outcome
    if kind == "group":
        return reference_group(inner[0], start, cancel_at, log)
    deadline = start + inner[0]
    end, outcome = reference(inner[1], start, min(cancel_at, deadline), log)
    if outcome == CANCELLED and deadline <= end:
        if cancel_at <= end:
            raise Unclear
        outcome = "timeout" if kind == "timeout" else OK
    return end, outcome


def reference_group(children, start, cancel_at, log):
    if cancel_at <= start:
        raise Unclear
    alone = [reference(child, start, cancel_at, []) for child in children]
    failed_at = min((end for end, outcome in alone if outcome not in (OK, CANCELLED)), default=math.inf)
    ends, outcomes = [], []
    for child, (end, _) in zip(children, alone, strict=True):
        cancel_child_at = cancel_at if end == failed_at else min(cancel_at, failed_at)
        end, outcome = reference(child, start, cancel_child_at, log)
        ends.append(end)
        outcomes.append(outcome)
    errors = [outcome for outcome in outcomes if outcome not in (OK, CANCELLED)]
    if errors:
        return max(ends), errors[0] if len(errors) == 1 else sorted(errors, key=repr)
    if cancel_at <= max(ends) and CANCELLED not in outcomes:
        raise Unclear
    return max(ends), CANCELLED if CANCELLED in outcomes else OK


def shown(error):
    if isinstance(error, BaseExceptionGroup):
        return sorted(map(shown, error.exceptions), key=repr)
    return "timeout" if isinstance(error, TimeoutError) else str(error)


SCOPES = {"timeout": td.timeout, "move on": td.move_on_after}


async def perform(node, log):
    kind, *inner = node
    if kind in ("sleep", "fail"):
        await td.sleep(inner[0])
        log.append(inner[0])
        if kind == "fail":
            raise Failure(f"fail {inner[0]}")
    elif kind == "sequence":
        for child in inner[0]:
            await perform(child, log)
    elif kind == "group":
        async with td.TaskGroup() as group:
            for child in inner[0]:
                group.go(perform, child, log)
    else:
        with td.shield() if kind == "shield" else SCOPES[kind](inner[0]):
            await perform(inner[-1], log)


def perform_in_generator(node, log):
    kind, *inner = node
    if kind in ("sleep", "fail"):
        yield from td.sleep(inner[0])
        log.append(inner[0])
        if kind == "fail":
            raise Failure(f"fail {inner[0]}")
    elif kind == "sequence":
        for child in inner[0]:
            yield from perform_in_generator(child, log)
    elif kind == "group":
        with td.TaskGroup() as group:
            for child in inner[0]:
                group.go(perform_in_generator, child, log)
            yield from group.join()
    else:
        with td.shield() if kind == "shield" else SCOPES[kind](inner[0]):
            yield from perform_in_generator(inner[-1], log)


@pytest.mark.parametrize("body", [perform, perform_in_generator])
@reproducible
@given(tree=trees())
def test_trees_of_scopes_end_as_arithmetic_says(body, tree):
    moments, log = [], []
    try:
        _, expected = reference(tree, 0.0, math.inf, moments)
    except Unclear:
        assume(False)
    try:
        testing.run(body, tree, log)
        outcome = OK
    except (Failure, TimeoutError, ExceptionGroup) as error:
        outcome = shown(error)
    assert outcome == expected
    assert log == [duration for _, duration in sorted(moments)]


# --- buffered reading ---------------------------------------------------------------------------------------

reads = st.one_of(
    st.tuples(st.just("readline")),
    st.tuples(st.just("readexactly"), st.integers(0, 12)),
    st.tuples(st.just("readuntil"), st.sampled_from([b"a", b"ab", b"aa", b"b\n"])),
    st.tuples(st.just("recv"), st.integers(1, 12)),
)


def reference_read(data, verb, argument=None):
    """What the read takes off `data`, the whole rest of the stream; None where the stream ends too early."""
    if verb == "readexactly":
        return data[:argument] if len(data) >= argument else None
    separator = b"\n" if verb == "readline" else argument
    end = data.find(separator)
    if end >= 0:
        return data[: end + len(separator)]
    return data if verb == "readline" else None


async def check_reads(stream, data, steps):
    for verb, *arguments in steps:
        if verb == "recv":
            got = await stream.recv(*arguments)
            assert len(got) <= arguments[0]
            assert bool(got) == bool(data)
            assert data.startswith(got)
        else:
            expected = reference_read(data, verb, *arguments)
            if expected is None:
                with pytest.raises(td.IncompleteReadError) as caught:
                    await getattr(stream, verb)(*arguments)
                got = caught.value.partial
                assert got == data
            else:
                got = await getattr(stream, verb)(*arguments)
                assert got == expected
        data = data[len(got) :]


@reproducible
@given(
    chunks=st.lists(st.lists(st.sampled_from([b"a", b"b", b"\n"]), min_size=1).map(b"".join), max_size=8),
    steps=st.lists(reads, max_size=12),
    disturb=st.booleans(),
)
def test_buffered_reading_cuts_a_stream_as_slicing_would(chunks, steps, disturb):
    async def disturbed_read(stream):
        with td.move_on_after(0):
            await stream.readexactly(1000)

    async def main():
        near, far = socket.socketpair()
        with td.Socket(near) as stream, far:
            reading = td.go(check_reads, stream, b"".join(chunks), steps)
            for chunk in chunks:
                await settle(2)
                far.sendall(chunk)
                if disturb:
                    await td.go(disturbed_read, stream)
            far.shutdown(socket.SHUT_WR)
            await reading

    td.run(main)
