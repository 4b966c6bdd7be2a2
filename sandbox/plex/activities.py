"""What the server is doing, as /activities shows it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

SECTION_NAMED_AFTER = 1.0
"""Seconds until a scan's activity names its section (docs/plex-facts.md#activities)."""


@dataclass(slots=True)
class Activity:
    """Something the server does. ``progress`` -1 = unknown."""

    type: str
    title: str
    subtitle: str = ""
    progress: int = -1
    cancellable: bool = False
    section_id: int | None = None
    cancel: Callable[[], None] | None = None
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    started: float = field(default_factory=time.monotonic)

    @property
    def named_section(self) -> int | None:
        """The section, once the server says it."""
        return self.section_id if time.monotonic() - self.started >= SECTION_NAMED_AFTER else None


@dataclass(frozen=True, slots=True)
class ScanJob:
    """One scan that was asked for."""

    section_id: int
    force: bool = False
    path: str | None = None
    cost: float = 1.0
    """How many times as long as usual each item takes."""
