"""The zygote: a process started clean, with one thread, from which the workers of a pool are forked.

Started by exec, so that nothing of the parent's threads and locks is inherited; it imports what it is told to once,
and a worker then costs a fork. It talks over one socket:

- it gets ``prepare LENGTH``, once, with a memfd, a pickle of settings, and a lifeline;
- it gets ``fork NUMBER`` with the seven descriptors of a worker;
- it says ``born NUMBER PID`` with the worker's pidfd, or ``failed NUMBER TEXT``;
- it says ``died NUMBER PID STATUS`` when it has reaped one, or ``broken TEXT`` when it cannot be prepared, and leaves.

When the socket closes, or the parent is gone, it kills its workers, reaps them and exits. It runs no code of tasks,
and imports as little as it can: each millisecond here is one until the first result.
"""

import _pickle
import _socket
import contextlib
import errno
import fcntl
import gc
import io
import os
import select
import signal
import sys
import types
import warnings
from typing import Any, NoReturn

__all__ = ["main"]

MESSAGE_BYTES = 4096
"""The longest message either side sends."""

DESCRIPTORS = 7
"""What comes with ``fork``: region, control socket, work bell, answers bell, parent bell, lifeline, stderr."""

NUMBER_BYTES = 4
"""A descriptor in a message is a C int."""

WORKER_MODULE = "thistledown._worker"


class _Zygote:
    def __init__(self, descriptor: int) -> None:
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)
        self.poll = select.poll()
        self.poll.register(descriptor, select.POLLIN)
        self.parent = _open_pidfd(os.getppid())
        if self.parent is not None:
            # The socket is not enough: a process that the parent has forked may hold its other end open.
            self.poll.register(self.parent, select.POLLIN)
        # Live workers: by pidfd, their number and process id.
        self.workers: dict[int, tuple[str, int]] = {}
        self.lifeline: int | None = None
        self.settings: dict[str, Any] = {}
        self.main: Any = None
        self.later = ["thistledown._by_value", "thistledown._failures"]

    def serve(self) -> None:
        """Does what is asked until the parent is gone or says no more."""
        while True:
            # Before the first fork nothing may come between; after it, what most workers will need is imported here.
            events = self.poll.poll(0 if self.later and self.workers else None)
            if not events:
                _import(self.later.pop())
                gc.freeze()
            for descriptor, _ in events:
                if descriptor == self.parent:
                    return
                if descriptor in self.workers:
                    self.reap(descriptor)
                elif not self.hear():
                    return

    def hear(self) -> bool:
        """Takes one message; False at the end of all."""
        try:
            message, ancillary, _, _ = self.socket.recvmsg(
                MESSAGE_BYTES, _socket.CMSG_SPACE(DESCRIPTORS * NUMBER_BYTES), _socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            return error.errno in (errno.EINTR, errno.EAGAIN)
        if not message:
            return False
        descriptors = [number for _, _, data in ancillary for number in memoryview(data).cast("i")]
        verb, _, argument = message.decode().partition(" ")
        if verb == "prepare":
            return self.prepare(int(argument), *descriptors)
        if verb == "fork":
            self.fork(argument, descriptors)
        return True

    def prepare(self, length: int, memory: int, lifeline: int) -> bool:
        """Becomes what workers are to start as."""
        self.lifeline = lifeline
        try:
            if not _hold(lifeline):
                return False
            self.settings = _pickle.loads(_read(memory, length))
            os.close(memory)
            self.become(self.settings)
            self.main = _attribute(self.settings.get("worker_main", f"{WORKER_MODULE}:main"))
            self.preload(self.settings["preload"])
        except BaseException as error:
            import traceback

            text = "".join(traceback.format_exception(error))
            # The end of it says what is wrong.
            self.say(f"broken {text[-3000:]}")
            return False
        # Libraries may have threads of their own, and see to them at a fork.
        warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
        # What is here now is shared by all workers: the collector need not touch, and so copy, it.
        gc.freeze()
        return True

    def preload(self, names: list[str]) -> None:
        engine = sys.modules.get("thistledown._core")
        if engine is not None:
            # A task that one of them starts would come from here, and this process waits for nobody.
            engine.set_importing(True)
        for name in names:
            __import__(name)
        if engine is not None:
            engine.set_importing(False)

    def become(self, settings: dict[str, Any]) -> None:
        sys.path[:] = settings["path"]
        sys.argv[:] = settings["argv"]
        # A folder that is gone: the parent stands in it without a name, and so do we.
        with contextlib.suppress(OSError):
            os.chdir(settings["cwd"])
        if settings.get("authkey") is not None:
            from multiprocessing import process

            process.current_process().authkey = settings["authkey"]
        # The parent's main module is never imported: what belongs to it comes by value.
        sys.modules["__main__"] = types.ModuleType("__main__")

    def fork(self, number: str, descriptors: list[int]) -> None:
        try:
            process = os.fork()
        except OSError as error:
            self.say(f"failed {number} {error.strerror}")
            _close(descriptors)
            return
        if process == 0:
            self.be_worker(int(number), descriptors)
        _close(descriptors)
        try:
            pidfd = os.pidfd_open(process)
        except OSError as error:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            self.say(f"failed {number} {error.strerror}")
            return
        self.workers[pidfd] = number, process
        self.poll.register(pidfd, select.POLLIN)
        self.say(f"born {number} {process}", pidfd)

    def be_worker(self, number: int, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            self.socket.close()
            _close([*self.workers, *(number for number in (self.parent, self.lifeline) if number is not None)])
            self.main(number, *descriptors, self.settings["worker"])
            code = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)

    def reap(self, pidfd: int) -> None:
        number, process = self.workers.pop(pidfd)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(process, 0)
        self.say(f"died {number} {process} {status}")

    def say(self, message: str, *descriptors: int) -> None:
        data = message.encode("ascii", "backslashreplace")[:MESSAGE_BYTES]
        rights = b"".join(number.to_bytes(NUMBER_BYTES, sys.byteorder) for number in descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else []
        # When the parent is gone, the next poll says so.
        with contextlib.suppress(OSError):
            self.socket.sendmsg([data], ancillary)

    def end(self) -> None:
        """Leaves nothing behind."""
        for _, process in self.workers.values():
            os.kill(process, signal.SIGKILL)
        for _, process in self.workers.values():
            os.waitpid(process, 0)


def main(descriptor: int) -> NoReturn:
    """Runs the zygote on its socket; does not return."""
    # Ctrl-C in a terminal is for the parent, which knows what to do with its workers. Refused to who leads a session.
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The program prints its tree, and its workers go on.
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    # The socket comes as the standard input, which is put back to nothing.
    descriptor = os.dup(descriptor)
    _settle_streams()
    zygote = _Zygote(descriptor)
    try:
        zygote.serve()
    finally:
        zygote.end()
        os._exit(0)


def _settle_streams() -> None:
    """No worker reads the terminal, and what is printed is not lost when one is killed."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    if null > 2:
        os.close(null)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


def _open_pidfd(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except OSError:
        return None


def _hold(lifeline: int) -> bool:
    """From now on the system kills this process when the parent is gone, whatever it does: what it imports may hang.

    False: the parent is gone. See ``lifeline.rs``.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    return not poll.poll(0)


def _read(memory: int, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = os.pread(memory, length - len(data), len(data))
        if not part:
            raise EOFError(f"the preparation ends after {len(data)} of {length} bytes")
        data += part
    return data


def _attribute(name: str) -> Any:
    module, _, attribute = name.partition(":")
    __import__(module)
    return getattr(sys.modules[module], attribute)


def _import(name: str) -> None:
    """What cannot be imported is said to the task that needs it."""
    with contextlib.suppress(Exception):
        __import__(name)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
