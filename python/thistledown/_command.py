"""The command line: ``thistledown tree PID``.

Each command is a function that gives the exit status. This module runs outside of the program that it asks, and needs
nothing of the engine.
"""

import argparse
import os
import socket
import struct
import sys
from collections.abc import Sequence

__all__ = ["Unanswered", "ask_tree", "main"]

PATIENCE_SECONDS = 10.0
"""How long a program has to answer."""

CREDENTIALS = struct.Struct("3i")
"""What the system says of a peer: its process, user and group."""


class Unanswered(Exception):
    """A program does not say how it stands. Says why, as far as that can be known from outside."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status: 0, or 1 with words on the standard error."""
    parser = argparse.ArgumentParser(prog="thistledown", description="This is a task. Go.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    tree = commands.add_parser(
        "tree",
        help="print who waits for what in a running program",
        description="Prints who waits for what, since when and at which line, in a running program of the same user. "
        "It answers from inside, also when it is stuck. THISTLEDOWN_TREE=0 in its environment switches that off.",
    )
    tree.add_argument("pid", type=int, metavar="PID", help="the program's process")
    tree.set_defaults(run=_tree)
    arguments = parser.parse_args(argv)
    status: int = arguments.run(arguments)
    return status


def _tree(arguments: argparse.Namespace) -> int:
    try:
        print(ask_tree(arguments.pid), end="")
    except Unanswered as why:
        print(f"thistledown: {why}", file=sys.stderr)
        return 1
    return 0


def ask_tree(pid: int) -> str:
    """What a program says of itself.

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
            while part := asking.recv(65536):
                answer += part
        except TimeoutError:
            raise Unanswered(f"process {pid} does not answer: is it stopped?") from None
        except OSError:
            pass
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
