"""Boxes of weightless actors."""

from typing import Any

from thistledown._boxes import Maker

__all__ = ["maker"]


def maker(options: dict[str, Any]) -> Maker:
    """Makes boxes in the run of this thread, or in its asyncio loop.

    Raises:
        RuntimeError: there is neither.
    """
    raise NotImplementedError("weightless actors are not in this version yet")
