"""A ``Tree`` in words, for people: one line for each node, and the lines of code below it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from thistledown._lines import Line, own

if TYPE_CHECKING:
    from thistledown._tree import Node, Tree

__all__ = ["of_nodes", "of_tree"]

CHAIN = 20
"""Lines of one await chain or stack that are printed."""


def of_tree(tree: "Tree") -> str:
    """The whole, as ``print(td.tree())`` shows it."""
    head = f"process {tree.pid}: {tree.program}"
    return "\n".join([head, *_below(tree.children)]) if tree.children else f"{head}\nnothing runs in it"


def of_nodes(nodes: Iterable["Node"]) -> str:
    """Some nodes and what is in them."""
    return "\n".join(_below(nodes))


def _below(nodes: Iterable["Node"]) -> Iterator[str]:
    ahead: list[tuple[Node | str, int]] = [(node, 0) for node in reversed(list(nodes))]
    while ahead:
        node, depth = ahead.pop()
        # A tree may be thousands of levels deep, in which no line would be read any more.
        margin = "  " * depth if depth < 40 else f"{'  ' * 40}({depth}) "
        if isinstance(node, str):
            yield margin + node
            continue
        yield margin + _head(node)
        yield from (f"{margin}    {words}" for words in _code(node.lines))
        if node.unlisted:
            ahead.append((f"and {_count(node.unlisted, 'more task')}", depth + 1))
        ahead.extend((child, depth + 1) for child in reversed(node.children))


def _head(node: "Node") -> str:
    name = node.name if node.kind in ("run", "group", "channel", "pool", "worker") else f"{node.kind} {node.name}"
    lasted = "" if node.since is None else f" for {_seconds(node.since)}"
    if node.waits_for is None or node.state == "queued":
        behind = f", {node.waits_for}" if node.waits_for else ""
        return f"{name}: {node.state}{lasted}{behind}"
    cancelled = ", cancelled," if "cancelled" in node.state else ""
    return f"{name}{cancelled} waits{lasted} for {node.waits_for}"


def _code(lines: tuple[Line, ...]) -> Iterator[str]:
    lines = tuple(reversed(own(lines)))
    for number, line in enumerate(lines[:CHAIN]):
        yield f"{'at' if number == 0 else 'by'} {line}"
    if len(lines) > CHAIN:
        yield f"by {_count(len(lines) - CHAIN, 'more line')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
