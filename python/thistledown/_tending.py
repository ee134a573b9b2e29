"""The children of a supervisor as they are: what starts and ends them when that was decided, and the handles to them.

A child has a ``Life`` from its start until it has ended or was undone. An actor has a box, too, which outlives these:
from when the supervisor knows of it until nobody will start it again. One step is done at a time, by the supervisor's
own task.

What it is not: it decides nothing (``_supervision``), and does not wait for what comes meanwhile (``_supervising``).
"""

import contextlib
import logging
from typing import Any

from thistledown import _core
from thistledown._boxes import Ending
from thistledown._children import Child, no_such_child
from thistledown._errors import ChannelClosed
from thistledown._kept import Kept
from thistledown._lives import Life, life_of
from thistledown._supervision import Child as Known
from thistledown._supervision import Start, Supervision
from thistledown._task import Task

__all__ = ["INBOX", "Tending", "logger"]

INBOX = 1 << 30
"""Messages that a supervisor may have before it has read them; none is ever refused."""

logger = logging.getLogger("thistledown.supervisor")


class Tending:
    """What a supervisor has to do with its children."""

    def __init__(self, name: str, specs: dict[str, Child], machine: Supervision) -> None:
        self._name = name
        self._specs = specs
        self._machine = machine
        # Its task. Made by each start.
        self._over: Task[None] | None = None
        # Of all children, also those that were added later.
        self._known = dict(specs)
        # The boxes of those that are actors.
        self._kept: dict[str, Kept] = {}
        self._lives: dict[str, Life] = {}
        # What comes meanwhile. Made by each start.
        self._inbox: _core.Channel[Any] = _core.Channel(INBOX)
        self._inbox.close()
        # The scope of all that runs of it, and that of its patience with a child that is to end.
        self._home: _core.Scope | None = None
        self._patience: _core.Scope | None = None
        self._is_killed = False
        # The last child that could not be started, and the last error of any.
        self._failed_name = ""
        self._last_error: BaseException | None = None

    def _find(self, name: str) -> Known:
        child = self._machine.find(name)
        if child is None:
            raise KeyError(no_such_child(name, [child.name for child in self._machine.children]))
        return child

    def _down(self, name: str) -> Known:
        child = self._find(name)
        if child.state != "down":
            words = "runs" if child.state == "running" else "is being restarted"
            raise RuntimeError(f"child {name!r} {words}: `terminate_child({name!r})` ends that")
        return child

    async def _carry_out(self, steps: Any) -> Any:
        """Does what was decided, one step after the other."""
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as stop:
                return stop.value
            if isinstance(step, Start):
                answer = await self._start(step.child)
            else:
                answer = None
                await self._stop(step.child)

    async def _start(self, child: Known) -> BaseException | None:
        name = child.name
        spec = self._known[name]
        inbox = self._inbox

        def heard(_: Ending) -> None:
            # When it is closed, nobody is there who could do anything about it.
            with contextlib.suppress(ChannelClosed):
                inbox.send_nowait(("ended", life))

        life = life_of(spec, heard, self._kept.get(name))
        life.home = self._home
        self._lives[name] = life
        try:
            await life.begin()
        except Exception as error:
            await self._undo(life)
            self._failed_name, self._last_error = name, error
            logger.warning("child %s of %s could not be started: %s", name, self._name, error, exc_info=error)
            return error
        except BaseException:
            with _core.shield():
                await self._undo(life)
            raise
        return None

    async def _undo(self, life: Life) -> None:
        """It has not begun as it should have. Nothing of it is left after this."""
        life.kill()
        if life.has_something:
            await life.over
        else:
            life.over._settle(None, None)
        self._lives.pop(life.spec.name, None)

    async def _stop(self, child: Known) -> None:
        life = self._lives[child.name]
        if life.ending is None and life.shutdown > 0 and not self._is_killed:
            life.end()
            with _core.move_on_after(life.shutdown) as self._patience:
                if self._is_killed:
                    self._patience.cancel()
                await life.over
            self._patience = None
        if life.ending is None:
            life.kill()
            await life.over
        del self._lives[child.name]

    # --- handles ----------------------------------------------------------------------------------------------------

    def _keep(self, spec: Child) -> None:
        """An actor has a box that outlives its instances."""
        if isinstance(spec._start, type):
            from thistledown._actors import actor, look_at_names

            look_at_names(spec._start, 5)
            place = spec._given.get("place", actor)
            kept = self._kept[spec.name] = Kept(spec._start, spec.name, place, (spec._args, spec._kwargs))
            kept._is_known = self._over is not None

    def _expect(self) -> None:
        """Who asks an actor that has not begun yet waits for it."""
        for kept in self._kept.values():
            kept.expect()
        for spec in self._specs.values():
            if isinstance(spec._start, Tending):
                spec._start._expect()

    def _only_first(self) -> None:
        """Knows those children alone that it was made with."""
        for name in self._known.keys() - self._specs.keys():
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._known.pop(name, None)
        kept = self._kept.pop(name, None)
        if kept is not None:
            kept.give_up()

    def _give_up(self, *, only_down: bool = False) -> None:
        """Who waits for an actor that is not started again is told."""
        for name in list(self._known):
            child = self._machine.find(name)
            if child is None and name not in self._specs:
                self._forget(name)
            elif not only_down or child is None or child.state == "down":
                start = self._known[name]._start
                if isinstance(start, Tending):
                    start._give_up()
                elif name in self._kept:
                    self._kept[name].give_up()
