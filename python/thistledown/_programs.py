"""Programs that run, seen from outside: which there are, and asking one of them.

This module runs outside of the program that it asks, and needs nothing of the engine. The answers are made by
``_window`` in there, in the program's own thread for it.
"""

import json
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Program", "Stuck", "Unanswered", "ask", "ask_json", "ask_tree", "find", "programs"]

PATIENCE_SECONDS = 10.0
"""How long a program has to answer."""

CREDENTIALS = struct.Struct("3i")
"""What the system says of a peer: its process, user and group."""

_NAME = re.compile(r"@thistledown-([0-9]+)$", re.MULTILINE)
"""The window's socket, as the system lists it."""


class Unanswered(Exception):
    """A program does not say how it stands. Says why, as far as that can be known from outside."""


class Stuck(Exception):
    """A call in C holds the interpreter's lock of the program. Says so, with the stacks of all threads."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be asked: its process, and how it was started."""

    pid: int
    command: str


def programs() -> list[Program]:
    """Every program of this user that can be asked, the youngest first."""
    listed = _read("/proc/net/unix").decode(errors="replace")
    pids = sorted({int(pid) for pid in _NAME.findall(listed)}, reverse=True)
    found = []
    for pid in pids:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                continue
        except OSError:
            continue
        words = [word.decode(errors="replace") for word in _read(f"/proc/{pid}/cmdline").split(b"\0") if word]
        found.append(Program(pid, " ".join(words)))
    return found


def find(wanted: str | None) -> int:
    """The process of a program that is meant by its number, by a part of its command line, or by being the only one.

    Raises:
        Unanswered: there is none, or there are several; says which.
    """
    if wanted is not None and wanted.isdecimal():
        return int(wanted)
    there = [program for program in programs() if program.pid != os.getpid()]
    meant = [program for program in there if wanted is None or wanted in program.command]
    if len(meant) == 1:
        return meant[0].pid
    of = "" if wanted is None else f" with {wanted!r} in its command line"
    shown = "\n".join(f"  {program.pid}  {program.command}" for program in meant or there)
    if meant:
        raise Unanswered(f"several programs run{of}; say which one:\n{shown}")
    others = f"; these do:\n{shown}" if there else ""
    raise Unanswered(f"no Thistledown program{of} runs{others}")


def ask_tree(pid: int) -> str:
    """How a program stands, in words.

    Raises:
        Unanswered: it says nothing.
    """
    return ask(pid, "tree")


def ask_json(pid: int, what: str, about: Any) -> dict[str, Any]:
    """What a program answers to a question of the live view's.

    Raises:
        Unanswered: it says nothing.
        Stuck: it cannot, at this moment.
    """
    told = ask(pid, json.dumps({what: about}))
    if not told.startswith("{"):
        raise Stuck(told)
    try:
        known: dict[str, Any] = json.loads(told)
    except ValueError:
        raise Unanswered(f"process {pid} has ended in the middle of its answer, or is about to") from None
    return known


def ask(pid: int, request: str) -> str:
    """What a program answers.

    Args:
        pid: its process.
        request: one line; see ``thistledown._window``.

    Raises:
        Unanswered: it says nothing.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(PATIENCE_SECONDS)
        try:
            asking.connect(f"\0thistledown-{pid}")
        except OSError:
            raise Unanswered(_why_not(pid)) from None
        peer, user, _ = CREDENTIALS.unpack(asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
        if user != os.geteuid():
            raise Unanswered(f"process {pid} belongs to another user: only its own user is answered")
        if peer != pid:
            raise Unanswered(f"process {peer} answers in the place of process {pid}")
        answer = b""
        try:
            asking.sendall(f"{request}\n".encode())
            while part := asking.recv(65536):
                answer += part
        except TimeoutError:
            raise Unanswered(f"process {pid} does not answer: is it stopped?") from None
        except OSError:
            # What has come of it is no answer.
            answer = b""
    if not answer:
        raise Unanswered(f"process {pid} is about to end")
    return answer.decode(errors="replace")


def _why_not(pid: int) -> str:
    """Why nobody listens, by what the system knows of the process."""
    folder = f"/proc/{pid}"
    try:
        owner = os.stat(folder).st_uid
    except OSError:
        return f"there is no process {pid}"
    if _read(f"{folder}/stat").rpartition(b")")[2].split()[:1] == [b"Z"]:
        return f"process {pid} has ended"
    if owner != os.geteuid():
        return f"process {pid} belongs to another user: only its own user is answered"
    if b"thistledown._zygote" in _read(f"{folder}/cmdline"):
        return f"process {pid} is a worker of process {_program_of(pid)}, in whose tree it stands"
    if b"/thistledown/_core." not in _read(f"{folder}/maps"):
        return f"process {pid} is no Thistledown program"
    if b"THISTLEDOWN_TREE=0" in _read(f"{folder}/environ").split(b"\0"):
        return f"process {pid} does not answer: THISTLEDOWN_TREE=0 is set in its environment"
    return f"process {pid} has no run and no pool now that has lasted for a moment, or has switched the tree off"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _program_of(pid: int) -> int:
    """The program that a worker or its zygote works for."""
    while b"thistledown._zygote" in _read(f"/proc/{pid}/cmdline"):
        # Behind the name, which may have blanks in it, stand the state and the parent.
        pid = int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])
    return pid
