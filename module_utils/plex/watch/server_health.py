"""Whether the server, its disk and its mount can work at all; judged before the task itself."""

from __future__ import annotations

from collections.abc import Sequence

from ...text import span
from ..observe.sample import Sample
from .profiles import Profile
from .signals import server_starts
from .types import CANCEL_SCAN, UNHEALTHY, Task, Verdict, trailing

RESTARTS_WITHIN = 3600.0
"""Two restarts within an hour are a loop; two in three days are two restarts."""


def judge_health(
    task: Task, samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, now: float
) -> Verdict | None:
    """Return a verdict that overrides all others, None when healthy. `samples`: all, `window`: since the last start."""
    last = window[-1]
    if last.counters_error and not last.counters_busy:
        return Verdict(
            UNHEALTHY,
            "counters_failed",
            {"error": last.counters_error},
            "The database cannot be counted, so progress is unknown. Fix this first: " + last.counters_error,
        )
    for check in (_restarting, _silent, _resources, _mount):
        verdict = check(task, samples, window, profile, now)
        if verdict is not None:
            return verdict
    return None


def _restarting(
    _task: Task, samples: Sequence[Sample], _window: Sequence[Sample], _profile: Profile, now: float
) -> Verdict | None:
    starts = server_starts(samples)
    counted = [(sample.at, sample.restarts) for sample in samples if sample.restarts is not None]
    recent = [restarts for at, restarts in counted if at > now - RESTARTS_WITHIN]
    by_docker = recent[-1] - recent[0] if recent else 0
    restarts = max(sum(1 for at in starts if at > now - RESTARTS_WITHIN), by_docker)
    oom = any(sample.oom_killed for sample in samples)
    if restarts < 2 and not oom:
        return None
    return Verdict(
        UNHEALTHY,
        "plex_restarting",
        {"restarts": restarts, "within_seconds": RESTARTS_WITHIN, "oom_killed": oom},
        "The kernel killed Plex because memory ran out. Use a larger instance type or a smaller rclone profile."
        if oom
        else "Plex restarts repeatedly. Check its log ('database disk image is malformed' appears only there).",
    )


def _silent(
    _task: Task, _samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, now: float
) -> Verdict | None:
    last = window[-1]
    refused, _ = trailing(window, lambda sample: sample.http_status == 401, now)
    if refused >= 2:
        return Verdict(
            UNHEALTHY,
            "unauthorized",
            {"answers": refused},
            "Plex does not accept the token any more. It was unclaimed, or claimed by another account.",
        )
    _, silent = trailing(window, lambda sample: not sample.answered, now)
    _, busy = trailing(window, lambda sample: sample.counters_busy, now)
    # A locked database also blocks Plex's API (except /identity, which does not use it), so it is the cause.
    if busy > profile.busy_after or (silent > profile.silent_after and busy >= silent):
        return Verdict(
            UNHEALTHY,
            "plex_busy_db",
            {"seconds": round(busy), "error": last.counters_error},
            f"The database has been locked for {span(busy)}. Another process writes to it. Check for a second Plex or "
            "a backup.",
        )
    if silent > profile.silent_after:
        return Verdict(
            UNHEALTHY,
            "plex_maintenance" if last.maintenance else "plex_silent",
            {"seconds": round(silent), "last": last.maintenance or last.problem},
            f"Plex has not answered for {span(silent)}: {last.maintenance or last.problem} Check its log.",
        )
    blind, _ = trailing(window, lambda sample: bool(sample.processes_error) and sample.answered, now)
    if blind >= 3:
        return Verdict(
            UNHEALTHY,
            "processes_unknown",
            {"error": last.processes_error},
            "Plex answers, but its processes cannot be found, so its end cannot be seen. Check the scope: "
            + last.processes_error,
        )
    return None


def _resources(
    _task: Task, _samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, _now: float
) -> Verdict | None:
    free = window[-1].disk_free_bytes
    if free is None or free >= profile.min_free_bytes:
        return None
    return Verdict(
        UNHEALTHY,
        "disk_full",
        {"free_bytes": free, "limit": profile.min_free_bytes, "wal_bytes": window[-1].wal_bytes},
        f"The disk of the database has only {free / 1024**2:.0f} MiB free; Plex corrupts the database when it is full. "
        "Use a larger volume.",
        CANCEL_SCAN,
    )


def _mount(
    task: Task, _samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, now: float
) -> Verdict | None:
    probes = [(sample.at, sample.mount) for sample in window if sample.mount is not None]
    bad = 0
    since = now
    for at, probe in reversed(probes):
        if probe.ok:
            break
        bad, since = bad + 1, at
    seconds = now - since
    # A scan on a dead mount deletes, so two failed probes end it. Other tasks can wait for a short interruption.
    if bad < 2 or (task.kind not in ("scan", "refresh") and seconds < profile.mount_dead_after):
        return None
    mount = probes[-1][1]
    return Verdict(
        UNHEALTHY,
        "mount_dead",
        {"probes": bad, "seconds": round(seconds), "problem": mount.problem, "failed": list(mount.failed[:3])},
        f"The media cannot be read: {mount.problem}. The {task.kind} is stopped before Plex treats files as deleted. "
        "Stop Plex, mount again, probe, start, and run again. Do not install this section's trash at home.",
        CANCEL_SCAN,
    )
