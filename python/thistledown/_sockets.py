"""Sockets: the engine's, with the comforts of Python's, and ways to make them."""

import contextlib
import os
import socket
import ssl as tls
import stat
import types
from collections.abc import Callable, Generator
from typing import Any, Generic, NoReturn, Self, TypeVar, cast

from thistledown import _core

__all__ = ["Procedure", "Socket", "connect", "listen"]

T = TypeVar("T")
Address = Any

BACKLOG = 1024
"""Connections that the system holds for a listening socket until they are accepted."""


BACKLOG_PAUSE = 0.01
"""Seconds between two attempts to connect to a Unix socket whose backlog is full."""


class Procedure(Generic[T]):
    """Several operations in a row, waited for as one: ``await``, ``yield from``, or ``.wait()`` in a plain thread.

    It cannot be undone as one, so it stands in no select: start it with ``td.go`` and select on the task.
    """

    def __init__(self, steps: Callable[..., Generator[Any, Any, T]], *args: Any) -> None:
        self._steps = steps
        self._args = args

    def __await__(self) -> Generator[Any, Any, T]:
        return self._steps(*self._args)

    __iter__ = __await__

    def wait(self, timeout: float | None = None) -> T:
        """Waits in a plain thread.

        Args:
            timeout: seconds for all of it; None waits for as long as it takes.

        Raises:
            TimeoutError: the time is over.
        """
        deadline = None if timeout is None else _core.after(timeout)
        steps = self._steps(*self._args, _Waiter(deadline))
        try:
            next(steps)
        except StopIteration as done:
            result: T = done.value
            return result
        raise RuntimeError("a procedure waited past its waiter")


class _Waiter:
    """Waits for each operation of a procedure: in a plain thread, up to a deadline."""

    def __init__(self, deadline: "_core.Operation[None] | None") -> None:
        self._deadline = deadline

    def __call__(self, operation: "_core.Operation[T]") -> Generator[Any, Any, T]:
        if self._deadline is None:
            return operation.wait()
        chosen = _core.select(operation, self._deadline).wait()
        if chosen.index == 1:
            raise TimeoutError("not done in time")
        result: T = chosen.value
        return result
        yield


def _in_a_task(operation: "_core.Operation[T]") -> Generator[Any, Any, T]:
    return (yield from operation)


class Socket(_core.Socket):
    """A socket whose blocking calls are operations; wraps any ``socket.socket``, which becomes non-blocking.

    What does not block (``getsockname``, ``setsockopt``, ``shutdown``...) passes through to the Python socket.
    ``with`` and ``async with`` close it. Source: the ``GenSocket`` of Beazley's article.

    Args:
        sock: a ``socket.socket``, or an ``ssl.SSLSocket``.
        limit: bytes that a buffered read looks through for its separator.
    """

    def _accepted(self, sock: socket.socket, address: Address) -> tuple["Socket", Address]:
        """What ``accept`` gives; the engine calls this."""
        return Socket(_without_delay(sock), limit=self.limit), address

    def setblocking(self, flag: bool) -> None:
        """Refused, unless it asks for what is: the socket never blocks. Waiting is what operations do."""
        if flag:
            raise ValueError("this socket never blocks its thread: wait for its operations with `await` or `.wait()`")

    def settimeout(self, value: float | None) -> None:
        """Refused, unless it is 0: an operation is given its time where it is waited for."""
        if value != 0:
            raise ValueError("write `with td.timeout(seconds): ...` around the wait, or `op.wait(timeout)` in a thread")

    def makefile(self, *args: object, **kwargs: object) -> NoReturn:
        """Refused: a file would block."""
        raise ValueError("a file over this socket would block its thread: use readline, readexactly and sendall")

    def start_tls(
        self, context: tls.SSLContext, server_side: bool = False, server_hostname: str | None = None
    ) -> Procedure[None]:
        """Begins TLS on the connection and shakes hands.

        Args:
            context: an ``ssl.SSLContext``.
            server_side: this end is the server.
            server_hostname: the name to verify, at the client.

        Raises:
            ssl.SSLError: the peer does not agree.
        """
        check_context(context, needed=True)
        return Procedure(self._tls_steps, context, server_side, server_hostname)

    def _tls_steps(
        self,
        context: tls.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        wait: Callable[..., Generator[Any, Any, Any]] = _in_a_task,
    ) -> Generator[Any, Any, None]:
        self._replace(
            context.wrap_socket(
                self.socket,
                server_side=server_side,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
            )
        )
        yield from wait(self._handshake())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.socket, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<thistledown.Socket over {self.socket!r}>"


def check_context(context: object, needed: bool = False) -> None:
    """Refuses what is no TLS context, before anything is connected."""
    if (context is not None or needed) and not isinstance(context, tls.SSLContext):
        raise TypeError(f"TLS needs an ssl.SSLContext, such as ssl.create_default_context() gives; got {context!r}")


def _remove_stale(path: str | bytes) -> None:
    """Takes away the Unix socket that a server left behind, as asyncio does."""
    if path[:1] not in ("\0", b"\0"):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.remove(path)


def _without_delay(sock: socket.socket) -> socket.socket:
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _is_path(host: Any, port: int | None) -> bool:
    """Whether this names a Unix socket; an address that can be neither is refused."""
    if isinstance(host, tuple):
        raise TypeError(f"host and port are two arguments: write *{host!r}")
    if port is not None:
        if isinstance(port, bool) or not isinstance(port, int | str):
            raise TypeError(f"a port is a number, got {port!r}")
        if isinstance(port, int) and not 0 <= port <= 65535:
            raise ValueError(f"a port is a number from 0 to 65535, got {port}")
        return False
    if host is None:
        raise ValueError("a port is missing: write (None, port) for all of this machine")
    path = os.fspath(host)
    slash, nul = ("/", "\0") if isinstance(path, str) else (b"/", b"\0")
    if slash in path or path.startswith(nul):
        return True
    raise ValueError(f"a port is missing: write ({host!r}, port); a Unix socket's path has a slash in it")


def connect(
    host: str | os.PathLike[str] | bytes,
    port: int | None = None,
    *,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    limit: int = 65536,
) -> Procedure[Socket]:
    """Connects to a TCP address, or with a path alone to a Unix socket.

    The name is looked up in a helper thread; its addresses are tried one after the other.

    Args:
        host: a name or address, or a Unix socket's path.
        port: of TCP; None with a path.
        ssl: begins TLS with this context.
        server_hostname: the name to verify; the host, if None.
        limit: of the socket's buffered reads, in bytes.

    Returns:
        Gives a connected ``Socket``. TCP connections have TCP_NODELAY.

    Raises:
        OSError: no address answers; several failures come as an ``ExceptionGroup`` in its cause.
        socket.gaierror: the name is unknown.
        ssl.SSLError: TLS failed.
    """
    path = _is_path(host, port)
    check_context(ssl)
    if ssl is None and server_hostname is not None:
        raise ValueError("server_hostname is for TLS: give a context as `ssl=ssl.create_default_context()`")
    return Procedure(_connect_steps, host, port, path, ssl, server_hostname, limit)


def _connect_steps(
    host: Any,
    port: int | None,
    path: bool,
    context: tls.SSLContext | None,
    server_hostname: str | None,
    limit: int,
    wait: Callable[..., Generator[Any, Any, Any]] = _in_a_task,
) -> Generator[Any, Any, Socket]:
    if path:
        addresses = [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", os.fspath(host))]
    else:
        addresses = yield from _look_up(host, port, wait)
    errors: list[OSError] = []
    for family, kind, protocol, _, address in addresses:
        connected = Socket(_without_delay(socket.socket(family, kind, protocol)), limit=limit)
        try:
            while True:
                try:
                    yield from wait(connected.connect(address))
                    break
                except BlockingIOError:
                    # A Unix socket whose backlog is full; the system does not tell when it has room.
                    yield from wait(_core.sleep(BACKLOG_PAUSE))
            if context is not None:
                yield from connected._tls_steps(context, False, server_hostname or str(host), wait)
            return connected
        except tls.SSLError:
            connected.close()
            raise
        except OSError as error:
            connected.close()
            errors.append(error)
        except BaseException:
            connected.close()
            raise
    if len(errors) == 1:
        raise errors[0]
    failed = OSError(errors[-1].errno if errors else None, f"no address of {host!r} answers")
    raise failed from ExceptionGroup("each address failed", errors)


def _look_up(
    host: str, port: int | None, wait: Callable[..., Generator[Any, Any, Any]]
) -> Generator[Any, Any, list[Any]]:
    """The addresses of a host; without a helper thread when it is an address already."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: list[Any] = yield from wait(_core.thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    return found


def listen(
    host: str | os.PathLike[str] | bytes | None,
    port: int | None = None,
    *,
    backlog: int = BACKLOG,
    limit: int = 65536,
) -> Socket:
    """Makes a listening socket: binds and listens at once, without waiting for anything.

    Args:
        host: an address or name; None or ``""`` for all of this machine; or a Unix socket's path.
        port: of TCP, 0 for a free one; None with a path.
        backlog: connections the system holds until they are accepted.
        limit: of the accepted sockets' buffered reads, in bytes.

    Returns:
        A ``Socket``. TCP has SO_REUSEADDR.

    Raises:
        OSError: the address cannot be had.
    """
    if _is_path(host, port):
        family, address = socket.AF_UNIX, cast(Address, os.fspath(cast(str, host)))
    else:
        name = cast(str, host) or None
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            _remove_stale(os.fspath(cast(str, host)))
        sock.bind(address)
        sock.listen(backlog)
        return Socket(sock, limit=limit)
    except BaseException:
        sock.close()
        raise
