"""Actors: objects in boxes of their own, whose methods are messages.

``Actor`` is a handle. It knows a box (``_boxes``), which lives in a place, and what its class understands
(``_messages``); it has no state. So it is cheap, it can be sent anywhere, and it stays good when the actor moves.
Sources: Hewitt's actors; Kay's and Armstrong's black boxes; Eckel's wish for objects that are naturally actors; the
face of Ray's actors and of Pykka's proxies.
"""

import functools
import warnings
import weakref
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, Self, TypedDict, TypeVar, Unpack, overload

from thistledown import _core
from thistledown._boxes import Box, Maker
from thistledown._messages import messages_of
from thistledown._task import Task

__all__ = ["Actor", "ActorOptions", "actor", "look_at_names", "made_in"]

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")

NO_CLASS: Any = object()
"""Stands for a class that was left out."""

OWN = ("ask", "kill", "move", "name", "place", "stop")
"""What a handle has itself. A class that has such a name as well is reached by ``ask``."""


class Actor(_core.Handle, Generic[C]):
    """The handle of an actor: an object in a box of its own, which answers one message at a time.

    ``handle.method(*args)`` sends a message and gives its ``Task``; ``await handle.deposit(5)``, in a plain thread
    ``handle.deposit(5).result()``. An attribute that is no method is read by a message too: ``await handle.balance``.
    Messages of one sender are answered in order. An exception of a method is its task's, and the actor goes on.

    ``ask``, ``stop``, ``kill``, ``move``, ``name`` and ``place`` are the handle's own, and so is what begins with an
    underscore: a class that has such names is reached by ``handle.ask("stop", ...)``, and a warning says so.

    Made by ``td.actor(Class, *args)``, ``pool.actor(...)`` and ``td.here.actor(...)``. Handles are equal when their
    actor is the same. They can be sent to any process of this user. An actor whose last handle is gone and that has
    nothing to answer is stopped.
    """

    __slots__ = ("__weakref__",)

    def __new__(cls, *_: object) -> Self:
        raise TypeError("actors are made by `td.actor(Class, *args)`, `pool.actor(...)` or `td.here.actor(...)`")

    def __getattr__(self, name: str) -> Any:
        """A method, to be called, or a task that gives an attribute. A method is found on the class the next time.

        Raises:
            AttributeError: the class has neither.
        """
        if name.startswith("_"):
            raise AttributeError(
                f"{name!r} is the actor's own affair: a message of such a name is sent by `handle.ask({name!r}, ...)`",
                name=name,
                obj=self,
            )
        owner = self._box.owner
        messages = messages_of(owner)
        if not messages.is_method(name):
            return self._box.read(name)
        handles = handles_of(owner)
        if name not in handles.__dict__:
            setattr(handles, name, messages.route(name))
        return handles.__dict__[name].__get__(self, handles)

    @overload
    def ask(
        self, method: Callable[Concatenate[C, P], Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def ask(
        self, method: Callable[Concatenate[C, P], Generator[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Task[R]: ...

    @overload
    def ask(self, method: Callable[Concatenate[C, P], R], /, *args: P.args, **kwargs: P.kwargs) -> Task[R]: ...

    @overload
    def ask(self, method: str, /, *args: Any, **kwargs: Any) -> Task[Any]: ...

    def ask(self, method: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task[Any]:
        """Sends a message, whatever its name.

        Args:
            method: a method of the class, as in ``handle.ask(Account.deposit, 5)``, which type checkers understand; or
                its name, or that of an attribute, which is read.
            args, kwargs: for it. To a worker process they are copied.

        Returns:
            The task that gives what the method returns. Not a cancel point: nothing is waited for.

        Raises:
            AttributeError: the class has no such method or attribute.
            TypeError: the method does not take these arguments, or is not one of the class; or it is the constructor.
            ActorStopped, ActorDied: the actor has ended, or is to.
            MailboxFull: so many messages are unanswered.
            NotPicklable: an argument cannot be sent.
        """
        box = self._box
        messages = messages_of(box.owner)
        name = messages.name_of(method)
        if messages.is_method(name):
            messages.check(name, args, kwargs)
            return box.call(name, args, kwargs)
        if args or kwargs:
            raise TypeError(
                f"{box.owner.__qualname__}.{name} is an attribute, which takes no arguments: a function that its "
                f"instances alone have is called by a method of the class, `def call(self, *args): return "
                f"self.{name}(*args)`"
            )
        return box.read(name)

    def stop(self) -> Task[None]:
        """Ends the actor when what it was asked before is answered. From now on, further messages are refused.

        Returns:
            A task that is done when the actor has ended. Each caller has one of his own: who cancels it, or whose
            timeout is over, does not wait any more, and the actor ends all the same.
        """
        return self._box.stop()

    def kill(self) -> None:
        """Ends the actor now. What it has begun is stopped; messages that are unanswered fail with ``ActorDied``."""
        self._box.kill()

    def move(self, place: Any) -> Task[None]:
        """Moves the actor to another place: its state is pickled, and its messages and all of its handles follow.

        Messages that came before are answered where it was. When it cannot move, it stays, and goes on.

        Args:
            place: ``td.here``, a pool, ``td.actor`` for a worker of its own; with or without ``options``.

        Returns:
            A task that is done when the actor lives there.

        Raises:
            TypeError: no place for actors; or the actor lives in another process, and is moved from there.
            ActorStopped, ActorDied: it has ended, or is to.
        """
        from thistledown._moves import move

        return move(self._box, place)

    @property
    def name(self) -> str:
        """What people call it: what ``options`` said, or its class and a number."""
        return self._box.name

    @property
    def place(self) -> Any:
        """Where it lives: ``td.here``, or a pool."""
        return self._box.place

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(
            f"an actor's attributes are set by itself: give {self._box.owner.__qualname__} a method that sets "
            f"{name!r}, and call that",
            name=name,
            obj=self,
        )

    def __enter__(self) -> Self:
        """The actor is stopped at the end of the block, and killed when the block fails."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
            return
        stopping = self.stop()
        if _core.current_task() is None and not _core.would_stop_loop([stopping]):
            stopping.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As ``with``, and lets others run while it waits. A cancel point; who is cancelled here kills the actor."""
        if kind is not None:
            self.kill()
            return
        try:
            await self.stop()
        except BaseException:
            self.kill()
            raise

    def __eq__(self, other: object) -> bool:
        return self._box.number == other._box.number if isinstance(other, Actor) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._box.number)

    def __reduce__(self) -> Any:
        return handle, (self._box,)

    def __copy__(self) -> Self:
        """Itself: a handle has no state, and nothing is sent anywhere."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __dir__(self) -> list[str]:
        return sorted({*OWN, *(name for name in dir(self._box.owner) if not name.startswith("_"))})

    def __repr__(self) -> str:
        return f"<thistledown.Actor {self._box.name}>"


def handle(box: Box) -> Actor[Any]:
    """A handle of this box."""
    return _core.Handle.__new__(handles_of(box.owner), box)


_handles: "weakref.WeakKeyDictionary[type[Any], type[Actor[Any]]]" = weakref.WeakKeyDictionary()


def handles_of(owner: type[Any]) -> type[Actor[Any]]:
    """The handles of a class of actors, on which the methods stand that somebody has asked for."""
    known = _handles.get(owner)
    if known is None:
        space = {"__slots__": (), "__module__": Actor.__module__, "__doc__": Actor.__doc__}
        known = _handles[owner] = type("Actor", (Actor,), space)
    return known


def made_in(
    place: Any, owner: type[C], args: tuple[Any, ...], kwargs: dict[str, Any], *, is_made_later: bool = True
) -> Actor[C]:
    """A new actor in a place. What its constructor does not take is refused, also where that is called later.

    Raises:
        TypeError: no class, or not these arguments.
    """
    if owner is NO_CLASS:
        raise TypeError("an actor is made of a class and the arguments of its constructor: `td.actor(Account, 100)`")
    if not isinstance(owner, type):
        hint = ": an actor is made of a class and the arguments of its constructor, not of an instance"
        raise TypeError(f"{owner!r} is no class{'' if callable(owner) else hint}")
    if is_made_later:
        messages_of(owner).check_making(args, kwargs)
    if id(owner) not in _looked_at:
        look_at_names(owner, 4)
    return handle(place._box_maker()(owner, (args, kwargs)))


# Classes whose names were looked at, by their `id`: an actor of one that is known pays nothing for it.
_looked_at: "dict[int, weakref.ref[type[Any]]]" = {}


def look_at_names(owner: type[Any], level: int) -> None:
    """Warns, once for a class, of names that the class has and the handle as well: the handle's is the one that counts.

    Args:
        owner: the class.
        level: how far above this the line stands that the warning is about.
    """
    hidden = [name for name in OWN if any(name in kind.__dict__ for kind in owner.__mro__)]
    if hidden:
        names = ", ".join(f"`{name}`" for name in hidden)
        warnings.warn(
            f"{owner.__qualname__} has {names}, as a handle has itself: `handle.{hidden[0]}` is the handle's, and "
            f"`handle.ask({hidden[0]!r}, ...)` that of the actor",
            RuntimeWarning,
            level,
        )
    _looked_at[id(owner)] = weakref.ref(owner, functools.partial(_forget, id(owner)))


def _forget(number: int, _: object) -> None:
    _looked_at.pop(number, None)


class ActorOptions(TypedDict, total=False):
    """For type checkers: the options of actors and their values; see ``td.actor.options``."""

    name: str | None
    mailbox: int
    timeout: float | None
    memory: int | str | None


class Alone:
    """``td.actor``: a place where each actor has a worker process of its own."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        self._given = options or {}

    def __call__(self, owner: Callable[P, C] = NO_CLASS, /, *args: P.args, **kwargs: P.kwargs) -> Actor[C]:
        """Makes an actor in a worker process of its own: an object whose methods are messages.

        ``account = td.actor(Account, 100)``, then ``await account.deposit(5)``. With ``async with td.actor(...) as a:``
        it is stopped at the end of the block.

        Args:
            owner: a class.
            args, kwargs: for its constructor. They are copied.

        Returns:
            A handle, at once. When the constructor fails the actor has ended, and each message to it says so.

        Raises:
            TypeError: no class, or its constructor does not take these arguments.
            NotPicklable: the class or an argument cannot be sent.
            RuntimeError: the default pool was shut down.
        """
        return made_in(self, owner, args, kwargs)  # type: ignore[arg-type]

    def options(self, **options: Unpack[ActorOptions]) -> "Alone":
        """The same with options.

        Args:
            name: of the actor, for people.
            mailbox: how many messages may be unanswered, 100,000 if nothing is said; one more raises ``MailboxFull``.
            timeout: seconds that a call may run; then it fails with ``TimeoutError``.
            memory: how much its process may take: bytes, or a text such as ``"512MiB"``; then it ends with
                ``MemoryLimitExceeded``.

        Raises:
            TypeError, ValueError: there is no such option, or it cannot have this value.
        """
        from thistledown._options import checked_for_actor

        return Alone(checked_for_actor({**options}, self._given))

    def _box_maker(self) -> Maker:
        from thistledown._boxes_workers import make
        from thistledown._workers import workers

        return functools.partial(make, workers(), True, self._given)

    def __repr__(self) -> str:
        if not self._given:
            return "td.actor"
        return f"td.actor.options({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


actor = Alone()
