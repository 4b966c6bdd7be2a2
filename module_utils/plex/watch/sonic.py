"""Verdicts on Sonic analysis: progress means a growing counter; a frozen one has a reason
(docs/plex-facts.md#incidents, #sonic-analysis)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ...text import span
from ..observe.sample import Counters, Sample, bytes_read, cpu_percent
from .profiles import Profile
from .scan_analyse import ending, interference, not_started, slow_mount, vanished, work_lost
from .signals import REFRESH_TYPES, cpu_now, is_sonic, last_progress, other_butler
from .types import CANCEL_REFRESH, COMPLETE, RUNNING, STALLED, START_AGAIN, Task, Verdict, soon, trailing

REFRESH_CPU_PERCENT = 50.0
"""The 81,035 incident ran at 407 %; half a core without any analyzer process is work that is not Sonic."""
MISMATCH_WORKING, MISMATCH_SETTLED = 50, 5
"""Number of tracks whose marks and vectors disagree: while Plex works, which writes them into two databases one after
the other; and once nothing works on tracks any more. A track or two without a vector may just be odd tracks."""
FAILING_ANALYZERS = 3


def _sonic_key(sample: Sample) -> tuple[Any, ...] | None:
    c = sample.counters
    return None if c is None else (c.sonic_done, c.sonic_other, c.server_sonic_blobs)


def judge_sonic(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """Return the verdict on Sonic analysis: complete when no track is pending and no worker runs."""
    counted = [(sample, sample.counters) for sample in window if sample.counters is not None and sample.answered]
    if not counted:
        return Verdict(RUNNING, "no_count_yet", look_again=soon(profile))
    first, (newest, last) = counted[0][1], counted[-1]
    begun = task.before or first
    evidence: dict[str, Any] = {
        "total": last.sonic_total,
        "done": last.sonic_done,
        "pending": last.sonic_pending,
        "gained": last.sonic_done - begun.sonic_done,
        "restarts": task.restarts,
        "cpu_percent": cpu_now(window),
    }
    resting, rest_seconds = trailing(window, lambda sample: sample.answered and not _sonic_works(sample), now)
    settled = resting >= 2 and rest_seconds >= profile.quiet_for
    mismatch = vanished("tracks", begun.sonic_total, last.sonic_total) or _mismatch(
        begun, last, newest, evidence, MISMATCH_SETTLED if settled else MISMATCH_WORKING
    )
    if mismatch is not None:
        return mismatch
    if last.sonic_pending == 0:
        if resting and _apart(begun, last, MISMATCH_SETTLED):
            return ending(window, "vectors_awaited", evidence, profile)
        if resting:
            return Verdict(COMPLETE, "", evidence)
        note = "these sections are done; Plex's queue still has albums, artists or other music sections"
        return ending(window, "queue_draining", {**evidence, "note": note}, profile)
    ended = work_lost(task, window) if resting else None
    cpu = evidence["cpu_percent"]
    idle = cpu is not None and cpu < profile.cpu_idle_percent and not newest.of_kind("transcoder")
    if ended is None and resting >= 2 and idle:
        moved = last.sonic_done > first.sonic_done
        signs = moved or any(_sonic_works(sample) for sample in window)
        ended = _judge_sonic_end(task, profile, now, evidence, rest_seconds, signs=signs, moved=moved)
    return ended or _judge_frozen_sonic(window, profile, now, evidence)


def _sonic_works(sample: Sample) -> bool:
    return bool(sample.of_kind("music_analyzer")) or any(is_sonic(activity) for activity in sample.activities)


def _apart(begun: Counters, last: Counters, tracks: int) -> str:
    """In words, how marks and vectors went apart since the beginning; '' when they did not, or by fewer tracks.

    Where the totals agree nothing is wrong: a vector that was there before its track's mark is written anew.
    """
    done, blobs = last.server_sonic_done - begun.server_sonic_done, last.server_sonic_blobs - begun.server_sonic_blobs
    agree = abs(last.server_sonic_done - last.server_sonic_blobs) < tracks
    if agree or max(done, blobs) < tracks or min(done, blobs) > 0.1 * max(done, blobs):
        return ""
    return f"metadata_items gained {done} tracks with Sonic data while blobs.db gained {blobs} vectors"


def _mismatch(begun: Counters, last: Counters, sample: Sample, evidence: dict[str, Any], tracks: int) -> Verdict | None:
    """Return a verdict if two counts of the same tracks disagree, because then neither can be trusted."""
    trouble = _apart(begun, last, tracks)
    hint = " Set plexburst_skip_sonic=true to run without Sonic." if trouble else ""
    if not trouble and last.sonic_done > last.sonic_total:
        trouble = f"{last.sonic_done} tracks done of {last.sonic_total}"
    elif not trouble and (
        sample.api_total is not None
        and last.sonic_pending == 0
        # The API also lists what is in the trash.
        and not last.sonic_total <= sample.api_total <= last.sonic_total + last.items_trashed
    ):
        trouble = f"the API counts {sample.api_total} tracks, the database {last.sonic_total}"
    if not trouble:
        return None
    return Verdict(
        STALLED,
        "counter_mismatch",
        {**evidence, "counts": trouble},
        f"Two counts disagree: {trouble}. The analysis is not treated as complete; this Plex version may store "
        f"its Sonic data elsewhere.{hint}",
    )


def _judge_sonic_end(
    task: Task,
    profile: Profile,
    now: float,
    evidence: dict[str, Any],
    rest_seconds: float,
    *,
    signs: bool,
    moved: bool,
) -> Verdict | None:
    """Return the verdict when nothing runs but tracks are pending: not started, ended early, or not queued by Plex."""
    pending = evidence["pending"]
    if not signs and task.restarts == 0:
        if now - task.window_from <= profile.start_within:
            return Verdict(RUNNING, "starting", evidence, look_again=soon(profile))
        return not_started(task, profile, now, "No Plex Music Analyzer runs, and the counter does not change.")
    patience = profile.quiet_for if signs else max(profile.quiet_for, profile.start_within)
    if rest_seconds < patience:
        return Verdict(RUNNING, "ending", evidence, look_again=soon(profile), exact=True)
    percent = 100.0 * pending / max(1, evidence["total"])
    evidence["pending_percent"] = round(percent, 2)
    if moved or (task.restarts == 0 and signs):
        return Verdict(
            STALLED,
            "queue_empty_incomplete",
            evidence,
            f"Plex's queue is empty, but {pending} tracks have no Sonic data. The task is started again.",
            START_AGAIN,
        )
    if percent <= profile.max_failed_percent or evidence["gained"] > 0:
        return Verdict(
            STALLED,
            "tracks_failing",
            evidence,
            f"{pending} tracks ({percent:.1f} %) got no Sonic data after repeated starts. They failed once and are "
            "not queued again until their album's metadata is refreshed. The result lists them.",
        )
    return Verdict(
        STALLED,
        "queue_empty_incomplete",
        evidence,
        f"Plex's queue is empty and {pending} tracks have no Sonic data. Check MusicAnalysisBehavior (not never) "
        "and the library's own switch 'Analyze audio tracks for sonic features'.",
    )


def _judge_frozen_sonic(window: Sequence[Sample], profile: Profile, now: float, evidence: dict[str, Any]) -> Verdict:
    """Return the verdict while something runs (or stopped only recently): progress means a growing counter."""
    last = window[-1]
    frozen = now - last_progress(window, _sonic_key, effort=False)
    evidence["frozen_seconds"] = round(frozen)
    if frozen < profile.named_after:
        return Verdict(RUNNING, "" if _sonic_works(last) else "starting", evidence)
    recent = [sample for sample in window if sample.at >= now - frozen]
    cpu = cpu_percent(recent[0], recent[-1]) if len(recent) > 1 else 0.0
    evidence["cpu_percent"] = round(cpu, 1)
    evidence["bytes_read"] = sum(bytes_read(*pair) or 0 for pair in pairwise(recent))
    named = _why_frozen(recent, profile, frozen, cpu, evidence)
    if named is not None:
        return named
    if frozen < profile.stall_after:
        return Verdict(RUNNING, "no_track_yet", evidence)
    return Verdict(
        STALLED,
        "no_progress",
        evidence,
        f"No track got Sonic data for {span(frozen)} (CPU {cpu:.0f} %). The task is started again.",
        START_AGAIN,
    )


def _why_frozen(
    recent: Sequence[Sample], profile: Profile, frozen: float, cpu: float, evidence: dict[str, Any]
) -> Verdict | None:
    """Return the reason for a frozen counter. An analyzer may work on a long track, so it gets twice the time."""
    last = recent[-1]
    refreshing = [a.title or a.type for a in last.activities if a.type.startswith(REFRESH_TYPES)]
    analyzers = {process.pid for sample in recent for process in sample.of_kind("music_analyzer")}
    feeding = any(sample.of_kind("transcoder") for sample in recent)
    interfering = other_butler(last)
    if not analyzers and (refreshing or (cpu >= REFRESH_CPU_PERCENT and not feeding and not interfering)):
        return Verdict(
            STALLED,
            "refresh_instead_of_sonic",
            {**evidence, "activities": refreshing},
            f"The counter has been {evidence['done']} for {span(frozen)} while Plex uses {cpu:.0f} % CPU and no "
            "analyzer runs, so Plex refreshes metadata, as after a Sonic analysis with --force. The refresh is "
            "cancelled and Sonic started again.",
            CANCEL_REFRESH,
        )
    if not analyzers and interfering:
        return interference(interfering, frozen)
    if frozen < 2 * profile.named_after:
        return None
    slow = slow_mount(recent, profile)
    if slow is not None:
        return slow
    if len(analyzers) < FAILING_ANALYZERS:
        return None
    return Verdict(
        STALLED,
        "tracks_failing",
        {**evidence, "analyzers": len(analyzers)},
        f"{len(analyzers)} analyzer processes ended in {span(frozen)} and no track got Sonic data, so each one fails. "
        "Check the analyzer's lines in Plex's log.",
    )
