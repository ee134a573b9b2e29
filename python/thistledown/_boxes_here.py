"""Boxes of weightless actors."""

from thistledown._boxes import Maker

__all__ = ["maker"]


def maker(name: str | None) -> Maker:
    """Makes boxes in the run of this thread, or in its asyncio loop.

    Raises:
        RuntimeError: there is neither.
    """
    raise NotImplementedError("weightless actors are not in this version yet")
