"""Watch profiles: time limits for Plex, in seconds.

The first five names and values are from the prior scripts (docs/plex-facts.md#earlier-scripts). Their `stall_threshold`
counted checks, which
hid the real time (anti-pattern 12), so here it is in seconds. `sandbox` is for the simulator, whose tasks take seconds.
The end of a task is normally detected from positive evidence; these limits are the fallback.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...text import span

TASKS = ("scan", "refresh", "stabilise", "analyse", "sonic")


@dataclass(frozen=True, slots=True)
class Profile:
    """All times in seconds.

    interval: maximum between samples; shorter for short tasks and near an end. stall_after: without progress until
    stalled. cpu_idle_percent: CPU (percent of one core) below which the process tree is idle. timeout: of the whole
    task. start_within: until the first activity after a start. quiet_for: without any work until the task has ended.
    named_after: until a known reason of a frozen counter is reported. mount_dead_after: of failed reading until the
    mount is dead. busy_after: of a locked database until unhealthy. silent_after: without an answer of the API until
    unhealthy. missed_after: without a sample (connection) until unreachable. slow_read: duration of a probe above which
    the mount is slow. min_free_bytes: minimum free disk. max_failed_percent: tracks that may remain without Sonic data
    before the task fails. restarts: maximum repetitions of an automatic step.
    """

    name: str
    interval: float
    stall_after: float
    cpu_idle_percent: float
    timeout: float
    start_within: float = 300.0
    quiet_for: float = 60.0
    named_after: float = 480.0
    mount_dead_after: float = 60.0
    busy_after: float = 900.0
    silent_after: float = 900.0
    missed_after: float = 900.0
    slow_read: float = 30.0
    min_free_bytes: int = 2 * 1024**3
    max_failed_percent: float = 5.0
    restarts: int = 3

    def words(self, task: str) -> str:
        """Return the limits of this profile as one line."""
        return (
            f"{task} with profile {self.name}: sampled at least every {span(self.interval)}, more often near an end, "
            f"stalled after {span(self.stall_after)} without progress, cancelled after {span(self.timeout)}"
        )


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("local_quick", interval=30, stall_after=150, cpu_idle_percent=5.0, timeout=3600, quiet_for=60),
        Profile("local_delta", interval=60, stall_after=600, cpu_idle_percent=10.0, timeout=7200),
        Profile("cloud_standard", interval=60, stall_after=900, cpu_idle_percent=10.0, timeout=28800),
        Profile("cloud_intensive", interval=120, stall_after=3600, cpu_idle_percent=5.0, timeout=259200, quiet_for=120),
        Profile(
            "metadata_refresh", interval=120, stall_after=7200, cpu_idle_percent=20.0, timeout=14400, quiet_for=180
        ),
        Profile(
            "sandbox",
            interval=0.5,
            stall_after=25,
            cpu_idle_percent=20.0,
            timeout=150,
            start_within=10,
            quiet_for=0.4,
            named_after=10,
            mount_dead_after=1.5,
            busy_after=20,
            silent_after=20,
            missed_after=20,
            slow_read=5,
            min_free_bytes=32 * 1024**2,
        ),
    )
}

# Sonic and refreshes of a cloud run last hours or days, so they use their own profile.
_SPECIAL = {("cloud_standard", "sonic"): "cloud_intensive", ("cloud_standard", "refresh"): "metadata_refresh"}
# Prior safety limits per section type (docs/plex-facts.md#earlier-scripts): photos 8 h, films and music 4 h; a profile
# may give more, not less.
_SECTION_TIMEOUT = {"movie": 14400.0, "show": 7200.0, "artist": 14400.0, "photo": 28800.0}


def resolve(
    name: str, task: str, section_type: str = "", overrides: Mapping[str, float | str] | None = None
) -> Profile:
    """Return the profile for one task on one kind of section.

    `overrides` replaces single values by field name. Raises ValueError on an unknown name, task or value.
    """
    if name not in PROFILES:
        raise ValueError(f"There is no profile {name!r}. The profiles are: {', '.join(PROFILES)}.")
    if task not in TASKS:
        raise ValueError(f"There is no task {task!r} to watch. The tasks are: {', '.join(TASKS)}.")
    profile = PROFILES[_SPECIAL.get((name, task), name)]
    if name != "sandbox" and task in ("scan", "analyse"):
        profile = replace(profile, timeout=max(profile.timeout, _SECTION_TIMEOUT.get(section_type, 0.0)))
    known = {entry.name for entry in fields(Profile)} - {"name"}
    for key, value in (overrides or {}).items():
        if key not in known:
            raise ValueError(f"A profile has no value {key!r}. Its values are: {', '.join(sorted(known))}.")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"Profile value {key} must be a number, got {value!r}.") from None
        if not 0 <= number < math.inf:
            raise ValueError(f"Profile value {key} must be finite and not negative, got {value!r}.")
        change: dict[str, Any] = {key: int(number) if key in ("restarts", "min_free_bytes") else number}
        profile = replace(profile, **change)
    return profile
