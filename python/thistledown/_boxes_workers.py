"""Boxes in worker processes."""

from typing import Any

from thistledown._boxes import Box, Made

__all__ = ["make"]


def make(
    pool: Any, is_alone: bool, options: dict[str, Any], owner: type[Any], made: Made, like: Box | None = None
) -> Box:
    """A box in a pool's engine.

    Args:
        pool: the ``Workers`` in whose engine it lives.
        is_alone: in a worker of its own, beside those of the pool; else in one that holds several.
        options: those that hold for it, checked: ``name``, ``mailbox``, ``timeout``, ``memory``.
        owner, made, like: as any maker takes them.

    Raises:
        NotPicklable: the class or an argument cannot be sent.
        RuntimeError: the pool was shut down.
    """
    raise NotImplementedError("actors in worker processes are not in this version yet: write `td.here.actor(...)`")
