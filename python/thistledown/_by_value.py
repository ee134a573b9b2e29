"""Pickling by value: cloudpickle, and what it does not know. Imported when it is needed first; it takes a while."""

import contextvars
import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from thistledown import _carried

__all__ = ["dumps"]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, contextvars.ContextVar):
            return _carried.reduce_variable(value)
        return super().reducer_override(value)


def dumps(value: Any, protocol: int, keep: Callable[[pickle.PickleBuffer], bool] | None) -> bytes:
    """A pickle of the value; ``keep`` is the pickler's ``buffer_callback``."""
    file = io.BytesIO()
    _Pickler(file, protocol=protocol, buffer_callback=keep).dump(value)
    return file.getvalue()
