"""Monitors and links of tasks and weightless actors, by the rules of Erlang's reference manual, chapter Processes."""

import gc
import itertools
import threading
import weakref

import pytest
import thistledown as td
from thistledown._deathwatch import Watch

from support import PATIENCE, settle


class Worker:
    async def wait_for(self, gate):
        return await gate.recv()

    def answer(self):
        return 42


async def give():
    return 1


async def fail():
    raise LookupError("lost")


# --- monitors ("Monitors") -----------------------------------------------------------------------------------


async def test_a_monitor_tells_how_a_task_has_ended(home):
    task = td.go(give())
    assert await td.monitor(task) == td.Down(task, "normal")
    task = td.go(fail())
    who, reason = await td.monitor(task)
    assert (who, type(reason), str(reason)) == (task, LookupError, "lost")
    task = td.go(td.Channel(0).recv())
    monitor = td.monitor(task)
    task.cancel()
    assert await monitor == td.Down(task, "cancelled")


async def test_a_monitor_tells_of_an_actor_that_is_stopped_and_of_one_that_is_killed(home):
    actor = td.here.actor(Worker)
    monitor = td.monitor(actor)
    await actor.stop()
    assert await monitor == td.Down(actor, "normal")
    actor = td.here.actor(Worker)
    monitor = td.monitor(actor)
    actor.kill()
    assert await monitor == td.Down(actor, "killed")


async def test_one_that_is_dead_already_is_told_of_all_the_same(home):
    actor = td.here.actor(Worker)
    await actor.stop()
    task = td.go(give())
    await task
    assert (await td.monitor(actor)).reason == "normal"
    assert (await td.monitor(task)).reason == "normal"


async def test_each_of_several_monitors_tells_once_and_gives_the_same_again(home):
    actor = td.here.actor(Worker)
    monitors = [td.monitor(actor) for _ in range(3)]
    actor.kill()
    first = [await monitor for monitor in monitors]
    assert first == [td.Down(actor, "killed")] * 3
    assert await monitors[0] is first[0]


async def test_a_monitor_is_an_operation(home):
    actor = td.here.actor(Worker)
    monitor = td.monitor(actor)
    assert (await td.select(td.after(0), monitor)).index == 0
    with pytest.raises(TimeoutError):
        with td.timeout(0.001):
            await monitor
    actor.kill()
    assert (await td.select(monitor, td.after(PATIENCE))) == (0, td.Down(actor, "killed"))
    assert repr(monitor) == f"<operation: the end of actor {actor.name}>"


def test_a_plain_thread_waits_for_an_end_in_a_run():
    ready, watched = threading.Event(), threading.Event()
    shared = []

    async def main():
        shared.append(td.here.actor(Worker))
        ready.set()
        await td.thread(watched.wait, PATIENCE)

    thread = threading.Thread(target=td.run, args=(main,))
    thread.start()
    assert ready.wait(PATIENCE)
    monitor = td.monitor(shared[0])
    watched.set()
    # The run ends, and its actors with it.
    down = monitor.wait(PATIENCE)
    assert "the run that it lived in is over" in str(down.reason)
    thread.join(PATIENCE)


def test_an_error_that_a_monitor_has_told_of_has_reached_somebody():
    async def main():
        await td.monitor(td.go(fail()))

    td.run(main)


def test_an_error_that_a_monitor_could_have_told_of_has_not():
    async def main():
        kept.append(td.monitor(td.go(fail())))

    kept = []
    with pytest.raises(LookupError):
        td.run(main)


async def test_a_monitor_that_is_let_go_watches_no_more(home):
    actor = td.here.actor(Worker)
    monitors = [td.monitor(actor) for _ in range(100)]
    assert len(actor._box._extra.watchers) == 100
    del monitors
    gc.collect()
    assert actor._box._extra.watchers == []


async def test_a_task_does_not_keep_those_who_watch_it_no_more(home):
    task, told = td.go(Worker().wait_for(td.Channel(0))), []
    watches = [Watch(task, told.append) for _ in range(2)]
    gone = weakref.ref(watches[0])
    watches.pop(0).stop()
    gc.collect()
    assert gone() is None
    task.cancel()
    assert (await td.monitor(task)).reason == "cancelled"
    assert told == ["cancelled"]


async def test_what_is_monitored_has_not_been_given_up(home):
    monitor = td.monitor(td.here.actor(Worker))
    gc.collect()
    assert (await td.select(monitor, td.after(0))).index == 1


async def test_a_monitor_follows_an_actor_that_moves(home):
    actor = td.here.actor(Worker)
    monitor = td.monitor(actor)
    await actor.move(td.here)
    assert (await td.select(monitor, td.after(0))).index == 1
    actor.kill()
    assert await monitor == td.Down(actor, "killed")


@pytest.mark.parametrize("who", [3, None, "x", Worker])
def test_only_tasks_and_actors_have_ends_to_tell_of(who):
    with pytest.raises(TypeError, match="takes tasks, actors, supervisors and worker processes"):
        td.monitor(who)
    with pytest.raises(TypeError, match="takes tasks, actors and supervisors"):
        td.link(who, who)


# --- links ("Links", "Error Handling") -----------------------------------------------------------------------


async def test_an_actor_is_killed_with_the_one_it_is_linked_to(home):
    """Links: "when a process terminates, an exit signal is sent to all its linked processes"."""
    gate = td.Channel(0)
    for victim in (0, 1):  # "Links are bidirectional"
        both = [td.here.actor(Worker), td.here.actor(Worker)]
        td.link(*both)
        waiting = both[1 - victim].wait_for(gate)
        await settle()
        both[victim].kill()
        with pytest.raises(td.ActorDied):
            await waiting
        assert (await td.monitor(both[1 - victim])).reason == "killed"


async def test_the_reason_is_passed_on(home):
    """Receiving Exit Signals: the receiver "will be terminated with the same reason"."""
    task = td.go(fail())
    chain = [td.here.actor(Worker) for _ in range(3)]
    for one, other in zip([task, *chain[:-1]], chain, strict=True):
        td.link(one, other)
    downs = [await td.monitor(actor) for actor in chain]
    assert {str(down.reason) for down in downs} == {"lost"}
    with pytest.raises(LookupError):
        await task
    with pytest.raises(td.ActorDied) as caught:
        chain[2].answer()
    assert isinstance(caught.value.__cause__, LookupError)


async def test_a_normal_end_does_nothing(home):
    """Receiving Exit Signals: one with reason normal is ignored."""
    ends, lives = td.here.actor(Worker), td.here.actor(Worker)
    td.link(ends, lives)
    task = td.go(give())
    td.link(task, lives)
    await task
    await ends.stop()
    assert await lives.answer() == 42


async def test_a_task_is_cancelled_with_the_one_it_is_linked_to(home):
    task = td.go(td.Channel(0).recv())
    actor = td.here.actor(Worker)
    td.link(actor, task)
    actor.kill()
    with pytest.raises(td.TaskCancelled):
        await task


async def test_a_cancelled_task_kills(home):
    task, actor = td.go(td.Channel(0).recv()), td.here.actor(Worker)
    td.link(task, actor)
    task.cancel()
    assert (await td.monitor(actor)).reason == "killed"


async def test_a_link_with_one_that_has_failed_ends_the_other_at_once(home):
    """Links: to one that does not exist, "an exit signal with reason noproc" comes at once; ours knows the reason."""
    task = td.go(fail())
    with pytest.raises(LookupError):
        await task
    actor = td.here.actor(Worker)
    td.link(actor, task)
    assert str((await td.monitor(actor)).reason) == "lost"


async def test_a_link_that_was_taken_away_does_nothing(home):
    """Links: unlink/1."""
    one, other = td.here.actor(Worker), td.here.actor(Worker)
    link = td.link(one, other)
    assert repr(link) == f"<thistledown.Link of actor {one.name} and actor {other.name}>"
    link.unlink()
    link.unlink()
    one.kill()
    assert await other.answer() == 42
    assert repr(link) == "<thistledown.Link of nobody any more>"


async def test_a_second_link_between_the_same_two_changes_nothing(home):
    """Links: "there can only be one link between two processes"; two of ours end them once as well."""
    one, other = td.here.actor(Worker), td.here.actor(Worker)
    td.link(one, other)
    td.link(other, one)
    monitor = td.monitor(other)
    one.kill()
    assert (await monitor).reason == "killed"


async def test_a_task_links_itself(home):
    async def body():
        td.link(td.current_task(), actor)
        await td.Channel(0).recv()

    actor = td.here.actor(Worker)
    task = td.go(body())
    await settle()
    actor.kill()
    with pytest.raises(td.TaskCancelled):
        await task


async def test_nobody_is_linked_with_himself():
    actor = td.here.actor(Worker)
    with pytest.raises(ValueError, match="cannot be linked with itself"):
        td.link(actor, actor)


async def test_a_chain_of_links_may_be_long(home):
    chain = [td.here.actor(Worker) for _ in range(5000)]
    links = [td.link(one, other) for one, other in itertools.pairwise(chain)]
    chain[2500].kill()
    assert {(await td.monitor(actor)).reason for actor in chain} == {"killed"}
    assert len(links) == 4999
