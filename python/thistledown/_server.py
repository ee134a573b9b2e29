"""Servers: accept connections and give each to a handler."""

import contextlib
import errno
import inspect
import logging
import math
import os
import ssl as tls
import types
from collections.abc import Callable, Generator
from typing import Any

from thistledown import _core
from thistledown._errors import ChannelClosed, ChannelFull
from thistledown._group import TaskGroup
from thistledown._sockets import BACKLOG, Socket, check_context, listen

__all__ = ["Server", "serve"]

logger = logging.getLogger("thistledown")

CONNECTIONS = 10_000
"""Connections that a server has open at a time, if it is not told otherwise."""

SHORT_OF = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
"""Errors of ``accept`` that say this machine is short of something: the server waits and goes on."""

HANDSHAKE_SECONDS = 60.0
"""Seconds that a client has for its TLS handshake."""

PENDING = {
    getattr(errno, name)
    for name in (
        "ENETDOWN",
        "EPROTO",
        "ENOPROTOOPT",
        "EHOSTDOWN",
        "ENONET",
        "EHOSTUNREACH",
        "EOPNOTSUPP",
        "ENETUNREACH",
        "EPERM",
    )
    if hasattr(errno, name)
}
"""Errors of ``accept`` that belong to the connection, not to the server: the next one may be well."""

PAUSE = 0.1
"""Seconds that a server waits when the machine is short of something."""


class Server:
    """A listening socket and a handler for its connections; made by ``td.serve``.

    Waiting for it (``await server``, ``yield from server``, ``td.run(server)``) serves until it is stopped or
    cancelled. Each connection is a task of its own, and closed when its handler ends.
    """

    def __init__(
        self, handler: Callable[[Socket], Any], listener: Socket, limit: int, context: tls.SSLContext | None
    ) -> None:
        self._handler = handler
        self._listener = listener
        self._context = context
        # A connection puts a token in and takes it out: a full channel is a full house.
        self._places = _core.Channel[None](limit)
        self._stopping = _core.Channel[None](0)
        self._stop_again = _core.Channel[None](1)
        self._stop_grace: float | None = None
        self._is_short = False
        self._connections = 0
        self._served = False
        self._address = listener.getsockname()

    def __repr__(self) -> str:
        return f"<thistledown.Server at {self._address!r}>"

    @property
    def sockets(self) -> tuple[Socket, ...]:
        """The listening sockets."""
        return (self._listener,)

    @property
    def address(self) -> Any:
        """The address it listens at: ``(host, port, ...)``, or a Unix socket's path."""
        return self._address

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._connections

    def stop(self, grace: float | None = None) -> None:
        """Stops accepting. Open connections may end by themselves, then they are cancelled.

        From any thread. Called again, the new grace counts from then.

        Args:
            grace: seconds they have; None gives them as long as they take.

        Raises:
            TypeError, ValueError: grace is not a number >= 0.
        """
        if grace is not None:
            _core.after(grace)
        self._stop_grace = grace
        if self._stopping.closed:
            with contextlib.suppress(ChannelFull):
                self._stop_again.send_nowait(None)
        self._stopping.close()
        if not self._served:
            self._listener.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._serve().__await__()

    __iter__ = __await__

    async def _serve(self) -> None:
        if self._served:
            raise RuntimeError("this server has been waited for already: make a new one with `td.serve`")
        self._served = True
        with self._listener:
            async with TaskGroup() as group:
                while not self._stopping.closed and await self._accept(group):
                    pass
                self._listener.close()
                await self._drained(group)

    async def _drained(self, group: TaskGroup) -> None:
        """Gives the open connections their grace; another `stop` gives them another one."""
        while not group._scope.empty:
            grace = math.inf if self._stop_grace is None else self._stop_grace
            chosen = await _core.select(group._scope.drain(), self._stop_again.recv(), _core.after(grace))
            if chosen.index == 2:
                group.cancel()
                return

    async def _accept(self, group: TaskGroup) -> bool:
        """Takes one connection; False when the server is to stop."""
        if not await self._unless_stopped(self._places.send(None)):
            return False
        try:
            accepted = await self._unless_stopped(self._listener.accept())
            if accepted:
                self._is_short = False
                self._start(group, accepted[0][0])
                return True
        except OSError as error:
            if error.errno not in SHORT_OF | PENDING:
                raise
            if not self._is_short:
                logger.warning("cannot accept a connection now, trying again: %s", error)
            if error.errno in SHORT_OF:
                self._is_short = True
                await _core.sleep(PAUSE)
        self._places.recv_nowait()
        return not self._stopping.closed

    async def _unless_stopped(self, operation: _core.Operation[Any]) -> tuple[Any] | None:
        """What the operation gives; None when the server is stopped first."""
        try:
            return (await _core.select(operation, self._stopping.recv()))[1:]
        except ChannelClosed:
            return None

    def _start(self, group: TaskGroup, client: Socket) -> None:
        """Gives a connection to the handler, as a task that answers to the server."""
        body, args = (self._handler, (client,)) if self._context is None else (self._handle_tls, (client,))
        try:
            task = _core.go_in(body, args, {}, group._scope, self, None)
        except Exception as error:
            client.close()
            self._places.recv_nowait()
            self._failed(error)
            return
        self._connections += 1
        task.add_done_callback(lambda _: self._ended(client))

    def _ended(self, client: Socket) -> None:
        client.close()
        self._connections -= 1
        self._places.recv_nowait()

    def _failed(self, error: BaseException) -> bool:
        """A handler failed; the engine calls this."""
        logger.error("the handler of a connection failed; the server goes on", exc_info=error)
        return True

    async def _handle_tls(self, client: Socket) -> None:
        assert self._context is not None
        try:
            with _core.timeout(HANDSHAKE_SECONDS):
                await client.start_tls(self._context, server_side=True)
        except OSError as error:
            # Not the handler's: a client that speaks no TLS, or hangs up.
            logger.warning("a TLS handshake failed: %s", error)
            return
        await _handled(self._handler, client)


@types.coroutine
def _handled(handler: Callable[[Socket], Any], client: Socket) -> Generator[Any, Any, Any]:
    """A handler's body inside another one, whichever kind it is."""
    body = handler(client)
    return (yield from (body if isinstance(body, types.GeneratorType) else body.__await__()))


def serve(
    handler: Callable[[Socket], Any],
    host: str | os.PathLike[str] | None,
    port: int | None = None,
    *,
    limit: int = CONNECTIONS,
    ssl: tls.SSLContext | None = None,
    backlog: int = BACKLOG,
) -> Server:
    """Makes a server: listens at once, and serves when it is waited for: ``td.run(td.serve(handler, host, port))``.

    A handler that fails is logged, and the server goes on. When the machine is short of descriptors the server waits
    and accepts again.

    Args:
        handler: an ``async def`` or generator function of one argument, the connection's ``Socket``, which is closed
            when it ends.
        host: an address or name; None or ``""`` for all of this machine; or a Unix socket's path.
        port: of TCP, 0 for a free one (see ``Server.address``); None with a path.
        limit: connections open at a time; the next ones wait in the system's backlog.
        ssl: speaks TLS with this context.
        backlog: connections that the system holds until they are accepted.

    Raises:
        OSError: the address cannot be had.
        TypeError, ValueError: the handler is no body of a task; the limit is not a number > 0.
    """
    if not _core.makes_body(handler):
        raise TypeError(f"a handler is an `async def` or generator function of one argument; got {handler!r}")
    try:
        inspect.signature(handler).bind(None)
    except TypeError as error:
        raise TypeError(f"a handler takes one argument, the connection's Socket: {handler!r}: {error}") from None
    except ValueError:
        pass  # It has no signature to look at.
    check_context(ssl)
    if not isinstance(limit, int) or limit <= 0:
        raise ValueError(f"limit must be a number of connections > 0, got {limit!r}")
    return Server(handler, listen(host, port, backlog=backlog), limit, ssl)
