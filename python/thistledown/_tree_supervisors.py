"""Supervisors in a ``Tree``: their children, whether they run, and how many times they were started again."""

from typing import TYPE_CHECKING

from thistledown._supervisors import Supervisor, roots
from thistledown._tree import Node

if TYPE_CHECKING:
    from thistledown._supervisors import ChildState

__all__ = ["supervisors"]


def supervisors() -> tuple[Node, ...]:
    """Those of this process that run; those that have a supervisor stand in that."""
    return tuple(_supervisor(one, "running") for one in sorted(roots(), key=lambda one: one.name))


def _supervisor(supervisor: Supervisor, state: str) -> Node:
    children = supervisor.which_children()
    nodes = tuple(_child(supervisor, child) for child in children)
    return Node("supervisor", supervisor.name, f"{supervisor.strategy}, {state}", children=nodes)


def _child(supervisor: Supervisor, child: "ChildState") -> Node:
    times = f", restarted {child.restarts} time{'' if child.restarts == 1 else 's'}" if child.restarts else ""
    state = f"{child.state}{times}"
    if child.kind == "supervisor":
        return _supervisor(supervisor[child.name], state)
    return Node("child", child.name, f"{child.kind}, {state}")
