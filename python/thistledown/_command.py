"""The command line: ``thistledown tree PID``, ``thistledown top [PID|NAME]``.

Each command is a function that gives the exit status. This module runs outside of the program that it asks, and needs
nothing of the engine.
"""

import argparse
import sys
from collections.abc import Sequence

from thistledown._programs import Stuck, Unanswered, ask_tree, find

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
    tree.add_argument("pid", type=int, metavar="PID", help="the program's process")
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
    top.add_argument("--port", type=int, default=0, help="of the page (default: a free one)")
    top.set_defaults(run=_top)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"between two looks are 0.1 to 3600 seconds, not {text}")
    return seconds


def _tree(arguments: argparse.Namespace) -> int:
    print(ask_tree(arguments.pid), end="")
    return 0


def _top(arguments: argparse.Namespace) -> int:
    pid = find(arguments.program)
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
    return _top.show(pid, arguments.every)
