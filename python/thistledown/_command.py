"""The command line: ``thistledown tree PID|NAME``, ``thistledown top [PID|NAME]``.

Each command is a function that gives the exit status. This module runs outside of the program that it asks, and needs
nothing of the engine.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from thistledown._programs import Stuck, Unanswered, ask_json, ask_tree, find

__all__ = ["Unanswered", "ask_tree", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; its exit status: 0, or 1 with words on the standard error."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except (Unanswered, Stuck) as why:
        print(f"thistledown: {why}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    from thistledown import __version__

    parser = argparse.ArgumentParser(prog="thistledown", description="This is a task. Go.")
    parser.add_argument("--version", action="version", version=f"thistledown {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_tree(commands)
    _add_top(commands)
    return parser


def _add_tree(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    tree = commands.add_parser(
        "tree",
        help="print who waits for what in a running program",
        description="Prints who waits for what, since when and at which line, in a running program of the same user. "
        "It answers from inside, also when it is stuck. THISTLEDOWN_TREE=0 in its environment switches that off.",
    )
    tree.add_argument("program", metavar="PID|NAME", help="its process, or a part of its command line")
    tree.set_defaults(run=_tree)


def _add_top(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    top = commands.add_parser(
        "top",
        help="watch a running program: in the terminal, or with --web as a page",
        description="Shows a running program of the same user from inside, refreshed: tasks, workers, rates, failures. "
        "In the terminal it needs textual: pip install 'thistledown[top]'. The page needs nothing but a browser.",
    )
    top.add_argument("program", nargs="?", metavar="PID|NAME", help="its process, or a part of its command line")
    top.add_argument("--every", type=_seconds, default=1.0, metavar="SECONDS", help="between two looks (default: 1)")
    top.add_argument(
        "--web", action="store_true", help="serve a page on this machine's loopback, and print its address"
    )
    top.add_argument("--port", type=_port, default=0, help="of the page (default: a free one)")
    top.set_defaults(run=_top)


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0.1 <= float(text) <= 3600:
            return float(text)
    raise argparse.ArgumentTypeError(f"between two looks are 0.1 to 3600 seconds, not {text}")


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and int(text) < 65536:
        return int(text)
    raise argparse.ArgumentTypeError(f"a port is a number from 1 to 65535, or 0 for a free one, not {text}")


def _tree(arguments: argparse.Namespace) -> int:
    print(ask_tree(find(arguments.program)), end="")
    return 0


def _top(arguments: argparse.Namespace) -> int:
    pid = find(arguments.program)
    # One that does not answer later is shown as such; one that never does is no program to be shown.
    with contextlib.suppress(Stuck):
        ask_json(pid, "view", {"after": 0.0})
    if arguments.web:
        from thistledown import _web

        return _web.serve(pid, arguments.port, arguments.every)
    try:
        from thistledown import _top
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("textual", "rich"):
            raise
        print(
            "thistledown: the view in the terminal needs textual, which is not installed here: "
            "pip install 'thistledown[top]'; or write `thistledown top --web` for a page, which needs nothing",
            file=sys.stderr,
        )
        return 1
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        print(
            f"thistledown: the view needs a terminal, and here is none: write `thistledown tree {pid}` for a text, or "
            "`thistledown top --web` for a page",
            file=sys.stderr,
        )
        return 1
    return _top.show(pid, arguments.every)
