"""Errors of Plex servers: one exception per cause. Each message names the cause and the next step."""

from __future__ import annotations

from typing import Any


class PlexError(Exception):
    """Base class. `details` is plain data for the module's result and never contains a secret."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class LibraryMissing(PlexError):
    """A Python package that the module needs is not installed for the interpreter that runs it."""


class PlexUnreachable(PlexError):
    """No HTTP answer: connection refused, reset, or the time limit passed."""


class PlexMaintenance(PlexError):
    """HTTP 503 with title `Maintenance` (docs/plex-facts.md#readiness): the server migrates its database; not a failure
    yet."""


class PlexUnauthorized(PlexError):
    """HTTP 401."""


class PlexNotFound(PlexError):
    """HTTP 404."""


class PlexAnswerError(PlexError):
    """Any other unexpected HTTP answer, or a body that does not match the API."""


class NotReady(PlexError):
    """The server did not become ready before the deadline."""


class TokenMissing(PlexError):
    """Preferences.xml contains no PlexOnlineToken, or cannot be read."""


class ClaimFailed(PlexError):
    """The server could not be claimed or unclaimed, or did not confirm it."""


class AccountError(PlexError):
    """plex.tv refused or could not be reached."""


class PreferenceError(PlexError):
    """A preference is unknown to the server, or did not accept its value."""


class SectionNotFound(PlexError):
    """No section has that id or title."""


class PreconditionRefused(PlexError):
    """A check of invariant 3 (a dead mount cannot empty a library) failed."""


class CountersError(PlexError):
    """The database could not be counted. The count is unknown, not zero."""


class CountersBusy(CountersError):
    """The database was locked for longer than the busy time limit; counting again later may work."""


class ProcessScopeError(PlexError):
    """The process tree of the server cannot be found from the given scope."""


class Refused(PlexError):
    """A prerequisite is not met; nothing was started."""
