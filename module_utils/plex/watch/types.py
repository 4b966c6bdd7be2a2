"""Types of all judges: task, verdict, states and automatic steps; functions on past samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..observe.sample import Counters, Sample
from .profiles import Profile

RUNNING, IDLE, COMPLETE = "running", "idle", "complete"
STALLED, UNHEALTHY, TIMED_OUT = "stalled", "unhealthy", "timed_out"
# Automatic next steps that are safe; the watcher carries them out, each a bounded number of times.
START_AGAIN, CANCEL_SCAN, CANCEL_BUTLER, CANCEL_REFRESH = (
    "start_again",
    "cancel_scan",
    "cancel_butler",
    "cancel_refresh",
)
CONFIRM_SECONDS = 10.0
"""With a positive sign of the end, quiet for so long is enough; `Profile.quiet_for` is for ends that only silence
shows."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is being watched. `started_at` and `window_from` are on the samples' clock; the window restarts with the
    task."""

    kind: str
    section_ids: tuple[int, ...]
    started_at: float
    before: Counters | None = None
    scanned_before: int = 0
    window_from: float = 0.0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`look_again`: wish in seconds, 0 = the profile's interval. `final`: the watcher stops unless it can take the
    step. `exact`: the next sample should count everything, because an end may be near."""

    state: str
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    next_step: str = ""
    look_again: float = 0.0
    exact: bool = False

    @property
    def final(self) -> bool:
        """Whether the state ends the watching (or requires a next step): all but running."""
        return self.state != RUNNING


def soon(profile: Profile) -> float:
    """Seconds until the next look when a beginning or an end is near."""
    wish: float = min(profile.interval, max(0.5, profile.quiet_for / 4), 5.0)
    return wish


def trailing(window: Sequence[Sample], holds: Callable[[Sample], bool], now: float) -> tuple[int, float]:
    """Return how many of the last samples satisfy `holds` without a gap, and for how many seconds until now."""
    count, since = 0, now
    for sample in reversed(window):
        if not holds(sample):
            break
        count, since = count + 1, sample.at
    return count, now - since
