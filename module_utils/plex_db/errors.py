"""The one error of this package: a sentence for the person who must act."""

from __future__ import annotations


class PlexDatabaseError(Exception):
    """What was expected, what was found and what to do next, as one or more sentences."""
