"""Verdicts on scan, refresh, analysis and the wait for calm: running, ended, or stuck with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...text import span
from ..observe.sample import WORKER_KINDS, Activity, Counters, Sample, cpu_percent
from .profiles import Profile
from .signals import (
    counts_of,
    cpu_now,
    last_progress,
    live_activities,
    movement,
    other_butler,
    own_section,
    scan_sign,
    server_starts,
)
from .types import (
    CANCEL_BUTLER,
    CANCEL_SCAN,
    COMPLETE,
    CONFIRM_SECONDS,
    IDLE,
    RUNNING,
    STALLED,
    START_AGAIN,
    Task,
    Verdict,
    soon,
    trailing,
)

EFFORT_PATIENCE = 8.0
"""Number of stall times for which working processes count as progress; after that a count must have changed."""
VANISHED_SHARE = 0.9


def judge_scan(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """Return the verdict on a scan or a refresh: ended when its activity is over or the section's scan time changed.

    A refresh begins with a scan, so its scan time only shows the beginning: without an activity, a refresh has ended
    when nothing ran for the profile's `quiet_for`.
    """
    last = window[-1]
    quiet, quiet_seconds = trailing(window, lambda sample: sample.answered and not scan_sign(task, sample), now)
    seen = any(scan_sign(task, sample) for sample in window)
    scanned = max((s.scanned_at for s in last.sections if s.id in task.section_ids), default=0)
    began = scanned > task.scanned_before
    moved = task.kind == "scan" and began
    evidence = {"quiet_seconds": round(quiet_seconds, 1), "seen": seen, "scanned_at_moved": moved}
    if quiet:
        lost = None if moved else work_lost(task, window)
        if lost is not None:
            return lost
        needed = min(CONFIRM_SECONDS, profile.quiet_for) if moved else profile.quiet_for
        if (began or seen) and quiet >= 2 and quiet_seconds >= needed:
            return Verdict(COMPLETE, "", evidence)
        if not began and not seen and now - task.window_from > profile.start_within:
            return not_started(
                task, profile, now, "No activity, no scanner process, and the section's scan time is unchanged."
            )
        return ending(window, "ending" if began or seen else "starting", evidence, profile)
    return _stalled_or_running(task, window, profile, now, CANCEL_SCAN)


def ending(window: Sequence[Sample], reason: str, evidence: dict[str, Any], profile: Profile) -> Verdict:
    """Return a verdict that asks for a sample soon, with a full count unless there was just one."""
    counted = window[-1].counters
    exact = reason != "starting" and counted is not None and not counted.full
    return Verdict(RUNNING, reason, evidence, look_again=soon(profile), exact=exact)


def not_started(task: Task, profile: Profile, now: float, what: str) -> Verdict:
    """Return the verdict on a task without any activity within the profile's time; `what` names what was checked."""
    return Verdict(
        STALLED,
        "not_started",
        {"seconds": round(now - task.window_from), "limit": profile.start_within},
        f"{span(now - task.window_from)} after its start the {task.kind} shows no activity. {what} "
        "It is started again; if this does not help, check Plex's log.",
        START_AGAIN,
    )


def work_lost(task: Task, window: Sequence[Sample]) -> Verdict | None:
    """Return the verdict after a restart of the server, which ends its task even if nothing shows it."""
    starts = server_starts(window)
    if not starts:
        return None
    return Verdict(
        STALLED,
        "plex_restarting",
        {"restarts": len(starts), "restarted_at": starts[-1]},
        f"Plex was restarted during the {task.kind}, which was lost. It is started again; check Plex's log for the "
        "cause of the restart.",
        START_AGAIN,
    )


def _stalled_or_running(task: Task, window: Sequence[Sample], profile: Profile, now: float, step: str = "") -> Verdict:
    last = window[-1]
    if task.kind != "scan":
        instead = _butler_instead(window, profile, now)
        if instead is not None:
            return instead
    moved = last_progress(window, movement, effort=False)
    worked = last_progress(window, movement, effort=True)
    silent = now - max(moved, min(worked, moved + EFFORT_PATIENCE * profile.stall_after))
    if silent < profile.named_after:
        return Verdict(RUNNING)
    slow = slow_mount(window, profile)
    if slow is not None:
        return slow
    if silent < profile.stall_after:
        return Verdict(RUNNING, "no_progress_yet", {"seconds": round(silent)})
    return Verdict(
        STALLED,
        "no_progress",
        {"seconds": round(silent), "cpu_percent": cpu_now(window), "activities": [a.title for a in last.activities]},
        f"The {task.kind} is listed as running, but there was no progress for {span(silent)}: no count, no activity "
        "and no working process. It is cancelled; check the logs of Plex and rclone.",
        step,
    )


def slow_mount(window: Sequence[Sample], profile: Profile) -> Verdict | None:
    """Return a verdict if the last three probes were each slower than the profile allows."""
    probes = [sample.mount for sample in window if sample.mount is not None][-3:]
    if len(probes) < 3 or any(probe.seconds < profile.slow_read for probe in probes):
        return None
    return Verdict(
        STALLED,
        "mount_slow",
        {"probe_seconds": [probe.seconds for probe in probes]},
        f"Reading a few bytes takes {probes[-1].seconds:.0f} s. The remote throttles or the connection is saturated. "
        "Use fewer rclone transfers, another region, or copy instead of mount.",
    )


def _butler_instead(window: Sequence[Sample], profile: Profile, now: float) -> Verdict | None:
    """Return whether a scheduled task ran all the time without a change of counts; its workers are not the task's.

    (docs/plex-facts.md#incidents: an earlier DeepMediaAnalysis spawned --analyze-deeply processes that looked like the
    scanner, and cost
    144 minutes.)
    """
    count, seconds = trailing(window, lambda sample: bool(other_butler(sample)), now)
    counts = {counts_of(sample) for sample in window[len(window) - count :]}
    if count < 2 or seconds < profile.named_after or len(counts) > 1:
        return None
    return interference(other_butler(window[-1]), seconds)


def interference(interfering: Sequence[Activity], seconds: float) -> Verdict:
    """Return a verdict if a scheduled task of Plex blocks the watched task."""
    names = ", ".join(sorted({activity.title or activity.type for activity in interfering}))
    return Verdict(
        STALLED,
        "butler_interference",
        {"tasks": names, "seconds": round(seconds)},
        f"A scheduled task of Plex has run instead for {span(seconds)}: {names}. It is stopped; check that its quiet "
        "preferences are still set.",
        CANCEL_BUTLER,
    )


def judge_stabilise(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """Return the verdict on the wait for calm: no activity, no worker, no section refreshing, and little CPU."""

    def calm(sample: Sample) -> bool:
        return (
            sample.answered
            and not live_activities(sample)
            and not sample.of_kind(*WORKER_KINDS)
            and not any(section.refreshing for section in sample.sections)
        )

    quiet, seconds = trailing(window, calm, now)
    idle_pairs = 0
    for before, after in zip(reversed(window[:-1]), reversed(window), strict=False):
        if cpu_percent(before, after) >= profile.cpu_idle_percent:
            break
        idle_pairs += 1
    if quiet >= 2 and idle_pairs >= 1 and seconds >= min(profile.quiet_for, CONFIRM_SECONDS):
        return Verdict(COMPLETE, "", {"quiet_seconds": round(seconds, 1), "cpu_percent": cpu_now(window)})
    if quiet:
        return Verdict(RUNNING, "settling", {"cpu_percent": cpu_now(window)}, look_again=soon(profile))
    return _stalled_or_running(task, window, profile, now)


def _own_work(task: Task, sample: Sample) -> bool:
    """Return whether an activity other than scheduled tasks works on these sections."""
    return any(own_section(task, a) for a in live_activities(sample) if not a.type.startswith("butler"))


def vanished(what: str, before: int, after: int) -> Verdict | None:
    """Return a verdict if all items have vanished, because a task without items is not complete."""
    if after >= VANISHED_SHARE * before:
        return None
    return Verdict(
        STALLED,
        "counter_mismatch",
        {"before": before, "after": after, "counts": f"{what}: {before} before, {after} now"},
        f"There were {before} {what} when the task began and there are {after} now. Plex treats files as deleted, or "
        "this is another database. Check the mount and the trash before anything is installed at home.",
        CANCEL_SCAN,
    )


def judge_analyse(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """Return the verdict on media analysis: ended when no item is left, or when Plex stops and leaves some."""
    last = window[-1]
    counters = last.counters
    if counters is None:
        return Verdict(RUNNING, "no_count_yet", look_again=soon(profile))
    if task.before is not None:
        gone = vanished("media items", task.before.media, counters.media)
        if gone is not None:
            return gone
    quiet, seconds = trailing(window, lambda sample: sample.answered and not _analysing(task, sample), now)
    if quiet:
        return _analysis_at_rest(task, window, profile, now, rest=(quiet, seconds), counters=counters)
    evidence = {"pending": counters.analysis_pending}
    _, butler_only = trailing(window, lambda sample: bool(other_butler(sample)) and not _own_work(task, sample), now)
    if counters.analysis_pending == 0 and butler_only >= profile.quiet_for:
        # Everything is analysed; the workers belong to a scheduled task, which the wait for calm will name.
        return Verdict(COMPLETE, "", {**evidence, "butler": [a.title for a in other_butler(last)]})
    return _stalled_or_running(task, window, profile, now)


def _analysing(task: Task, sample: Sample) -> bool:
    return bool(sample.of_kind(*WORKER_KINDS)) or _own_work(task, sample)


def _analysis_at_rest(
    task: Task,
    window: Sequence[Sample],
    profile: Profile,
    now: float,
    *,
    rest: tuple[int, float],
    counters: Counters,
) -> Verdict:
    """No worker runs: everything is done, or Plex leaves items, or it never began. `rest`: samples and seconds."""
    quiet, seconds = rest
    pending = counters.analysis_pending
    evidence: dict[str, Any] = {"pending": pending, "quiet_seconds": round(seconds, 1)}
    if pending == 0:
        return Verdict(COMPLETE, "", evidence) if quiet >= 2 else ending(window, "ending", evidence, profile)
    lost = work_lost(task, window)
    if lost is not None:
        return lost
    started_with = task.before.analysis_pending if task.before is not None else None
    seen = any(_analysing(task, sample) for sample in window) or pending != started_with
    silent = now - last_progress(window, movement, effort=True)
    if seen and quiet >= 2 and min(silent, seconds) >= profile.quiet_for:
        return _items_left(evidence, f"Plex has ended the analysis; {pending} items are not analysed.")
    if seen or now - task.window_from <= profile.start_within:
        return ending(window, "ending" if seen else "starting", evidence, profile)
    few = max(5.0, profile.max_failed_percent / 100.0 * counters.media)
    if task.restarts and pending <= few:
        asked = f"Plex was asked {task.restarts + 1} times but does not analyse the remaining {pending} items."
        return _items_left(evidence, asked)
    return not_started(task, profile, now, "There is no worker process and no activity, and no item was analysed.")


def _items_left(evidence: dict[str, Any], what: str) -> Verdict:
    words = f"{what} Their files may be unreadable or of a kind that Plex does not analyse."
    return Verdict(IDLE, "items_left", evidence, words)
