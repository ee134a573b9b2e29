"""What a space holds that is no plain value: its pickle."""

import _pickle
from typing import Any

from thistledown._errors import NotPicklable

__all__ = ["pack"]

PROTOCOL = 5


def pack(value: Any) -> bytes:
    """The pickle of what is written into a space.

    Raises:
        NotPicklable: it has none.
    """
    try:
        return _pickle.dumps(value, PROTOCOL)
    except Exception as error:
        kind = type(value).__qualname__
        raise NotPicklable(
            f"a {kind} cannot be written into a space, which keeps a copy of it, its pickle ({error}): write plain "
            "values from which it can be made"
        ) from error
