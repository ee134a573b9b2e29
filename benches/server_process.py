"""A server in a process of its own: started, checked, loaded, and its CPU counted by the system.

CPU is what the kernel charges the process until it is reaped, less what its start had cost: exact to the
microsecond, threads included, and nothing runs in the server to measure it.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import peers
import processes

HERE = Path(__file__).resolve().parent
LOAD = HERE / "load" / "target" / "release" / "thistledown-load"

FIB_REQUEST, FIB_REPLY = b"1", b"1\n"


def processors() -> list[set[int]]:
    """Where the server and the load run: a CPU each, if there are two; else wherever the system likes."""
    if sys.platform != "linux":
        return []
    allowed = sorted(os.sched_getaffinity(0))
    return [{allowed[0]}, {allowed[1]}] if len(allowed) > 1 else []


@contextmanager
def placed(which: int) -> Iterator[None]:
    """What is started inside runs on one of `processors`."""
    places = processors()
    if not places:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, places[which])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class ServerProcess:
    """One of the servers of a script, by default of `servers.py`, from ready to reaped."""

    def __init__(
        self, case: str, work: str | None = None, script: Path = HERE / "servers.py", is_placed: bool = True
    ) -> None:
        flags = peers.INTERPRETER_FLAGS.get(peers.peer_of(case), ())
        command = [sys.executable, *flags, str(script), "--case", case]
        if work is not None:
            command += ["--work", work]
        self.is_placed = is_placed
        with self.placed(0):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise RuntimeError(f"the server {case} ended with exit code {self.process.returncode}")
        report = json.loads(line)
        self.pid = self.process.pid
        self.address = ("127.0.0.1", int(report["port"]))
        self.cpu_at_ready = float(report["cpu"])

    def check(self, request: bytes, reply: bytes) -> None:
        """Asks once over a plain socket; a fast wrong answer is no answer."""
        with socket.create_connection(self.address, timeout=10) as client:
            client.sendall(request)
            got = b""
            while len(got) < len(reply) and (data := client.recv(65536)):
                got += data
        if got != reply:
            raise RuntimeError(f"the server answered {got[:40]!r}, not {reply[:40]!r}")

    def load(self, words: Sequence[str], within: Sequence[str] = ()) -> dict[str, Any]:
        """Runs the load generator against it, started by the command `within`; gives what it printed."""
        host, port = self.address
        command = [*within, str(LOAD), "--address", f"{host}:{port}", *words]
        with self.placed(1):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        report: dict[str, Any] = json.loads(done.stdout)
        if report["errors"] or not report["requests"]:
            reason = report.get("first_error", "not one reply")
            raise RuntimeError(f"{report['errors']} errors under load, the first: {reason}")
        return report

    def placed(self, which: int) -> AbstractContextManager[None]:
        return placed(which) if self.is_placed else nullcontext()

    def cpu_seconds(self) -> float:
        """Ends the server; gives the CPU seconds that it used since it was ready."""
        usage = self.reap()
        return usage.ru_utime + usage.ru_stime - self.cpu_at_ready

    def reap(self) -> resource.struct_rusage:
        # With its workers, if it has some: not everybody's end when the one that they work for is killed.
        for pid in processes.tree(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return usage

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.reap()
        if self.process.stdout is not None:
            self.process.stdout.close()
