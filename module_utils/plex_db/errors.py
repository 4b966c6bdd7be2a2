"""The error class of this package."""

from __future__ import annotations


class PlexDatabaseError(Exception):
    """An error whose message says what was expected, what was found and what to do next."""
