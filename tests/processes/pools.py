"""Pools for tests: a failed assertion ends one at once, instead of waiting for tasks that wait for the test."""

import pytest
import thistledown as td

FAILURES = (AssertionError, TimeoutError, pytest.fail.Exception)


class Workers(td.Workers):
    def __exit__(self, kind, error, trace):
        if isinstance(error, FAILURES):
            self._kill()
        super().__exit__(kind, error, trace)
