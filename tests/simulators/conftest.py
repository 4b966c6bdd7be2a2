"""The small sandbox of tests/small_sandbox.py, for the tests in this folder."""

from __future__ import annotations

from tests.small_sandbox import sandbox

__all__ = ["sandbox"]
