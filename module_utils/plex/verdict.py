"""What a window of samples means. A pure function of (task, samples, profile, clock): it reads nothing and keeps
nothing.

Rules that come from incidents (facts §1.3): CPU alone never means progress; Sonic progresses only if its counter
moves; a
counter frozen while the CPU is busy has a name; silence is never called success; an error is never a zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex.profiles import Profile, span
from ansible_collections.plexburst.core.plugins.module_utils.plex.sample import (
    WORKER_KINDS,
    Activity,
    Counters,
    Sample,
    bytes_read,
    cpu_percent,
)

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
EFFORT_CPU_PERCENT = 0.5
EFFORT_BYTES = 64 * 1024
REFRESH_CPU_PERCENT = 50.0
"""The 81,035 incident ran at 407 %; half a core without any analyzer process is work that is not Sonic."""
MISMATCH_TRACKS = 50
_REFRESH_TYPES = ("library.refresh", "library.update.item", "library.update.section")
_BACKGROUND_TYPES = ("provider.",)


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
    step."""

    state: str
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    next_step: str = ""
    look_again: float = 0.0

    @property
    def final(self) -> bool:
        """Everything but running ends the watching (or makes a next step necessary)."""
        return self.state != RUNNING


def judge(task: Task, samples: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """The verdict at `now`. `samples` in order of time; `now` is on their clock (seconds)."""
    window = [sample for sample in samples if sample.at >= task.window_from]
    if not window:
        return Verdict(RUNNING, "no_sample_yet", look_again=min(profile.interval, 5.0))
    sick = _health(task, samples, window, profile, now)
    if sick is not None:
        return sick
    last = window[-1]
    late = now - task.started_at > profile.timeout
    if not last.answered or last.counters_busy:
        waiting = "database_busy" if last.counters_busy else "no_answer_yet"
        return _timed_out(task, profile, now) if late else Verdict(RUNNING, waiting, look_again=soon(profile))
    verdict = _JUDGES[task.kind](task, window, profile, now)
    if late and verdict.state == RUNNING:
        return _timed_out(task, profile, now)
    return verdict


def soon(profile: Profile) -> float:
    """Seconds until the next look when a beginning or an end is near."""
    wish: float = min(profile.interval, max(0.5, profile.quiet_for / 4), 5.0)
    return wish


def _timed_out(task: Task, profile: Profile, now: float) -> Verdict:
    return Verdict(
        TIMED_OUT,
        "timeout",
        {"seconds": round(now - task.started_at), "limit": profile.timeout},
        f"The {task.kind} did not end within {span(profile.timeout)}. What was done is kept; run again to "
        "go on, or choose a "
        "longer profile.",
    )


def _trailing(window: Sequence[Sample], holds: Callable[[Sample], bool], now: float) -> tuple[int, float]:
    """How many of the last samples satisfy `holds` without a gap, and for how many seconds (until now)."""
    count, since = 0, now
    for sample in reversed(window):
        if not holds(sample):
            break
        count, since = count + 1, sample.at
    return count, now - since


# ---------------------------------------------------------------------------------------------------------- health


def _health(
    task: Task, samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, now: float
) -> Verdict | None:
    last = window[-1]
    if last.counters_error and not last.counters_busy:
        return Verdict(
            UNHEALTHY,
            "counters_failed",
            {"error": last.counters_error},
            "The database cannot be counted, so nothing can be said about progress. Repair that first: "
            + last.counters_error,
        )
    for check in (_restarting, _silent, _resources, _mount):
        verdict = check(task, samples, window, profile, now)
        if verdict is not None:
            return verdict
    return None


def _restarting(
    _task: Task, samples: Sequence[Sample], _window: Sequence[Sample], _profile: Profile, _now: float
) -> Verdict | None:
    lives: list[tuple[int, float | None]] = []
    for sample in samples:
        if sample.server_pid is not None:
            life = (sample.server_pid, sample.server_started)
            if not lives or lives[-1] != life:
                lives.append(life)
    counted = [sample.restarts for sample in samples if sample.restarts is not None]
    restarts = max(len(lives) - 1, (counted[-1] - counted[0]) if counted else 0)
    oom = any(sample.oom_killed for sample in samples)
    if restarts < 2 and not oom:
        return None
    return Verdict(
        UNHEALTHY,
        "plex_restarting",
        {"restarts": restarts, "oom_killed": oom},
        "The kernel killed Plex for want of memory: take a larger instance type or a smaller rclone profile."
        if oom
        else "Plex starts again and again. Its own log says why ('database disk image is malformed' shows only there).",
    )


def _silent(
    _task: Task, _samples: Sequence[Sample], window: Sequence[Sample], profile: Profile, now: float
) -> Verdict | None:
    last = window[-1]
    refused, _ = _trailing(window, lambda sample: sample.http_status == 401, now)
    if refused >= 2:
        return Verdict(
            UNHEALTHY,
            "unauthorized",
            {"answers": refused},
            "Plex does not accept the token any more: it was unclaimed, or claimed by another account.",
        )
    _, silent = _trailing(window, lambda sample: not sample.answered, now)
    if silent > profile.silent_after:
        return Verdict(
            UNHEALTHY,
            "plex_maintenance" if last.maintenance else "plex_silent",
            {"seconds": round(silent), "last": last.maintenance or last.problem},
            f"Plex has not answered for {span(silent)}: {last.maintenance or last.problem} Look at its log.",
        )
    _, busy = _trailing(window, lambda sample: sample.counters_busy, now)
    if busy > profile.busy_after:
        return Verdict(
            UNHEALTHY,
            "plex_busy_db",
            {"seconds": round(busy), "error": last.counters_error},
            f"The database has been locked for {span(busy)}. Something else writes in it; look for a "
            "second Plex or a backup.",
        )
    blind, _ = _trailing(window, lambda sample: bool(sample.processes_error) and sample.answered, now)
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
        f"Only {free / 1024**2:.0f} MiB are left where the database lies; Plex corrupts it when the disk "
        "is full. Take a "
        "larger volume.",
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
    # A scan on a dead mount deletes; the second failed probe is enough there. Others can wait out a hiccup.
    if bad < 2 or (task.kind not in ("scan", "refresh") and seconds < profile.mount_dead_after):
        return None
    mount = probes[-1][1]
    return Verdict(
        UNHEALTHY,
        "mount_dead",
        {"probes": bad, "seconds": round(seconds), "problem": mount.problem, "failed": list(mount.failed[:3])},
        f"The media cannot be read: {mount.problem}. The {task.kind} is stopped before Plex takes files for deleted. "
        "Stop Plex, mount again, probe, start, and run again; what this section shows as trashed is not "
        "to be brought home.",
        CANCEL_SCAN,
    )


# ---------------------------------------------------------------------------------------------------------- signs


def _own_section(task: Task, activity: Activity) -> bool:
    return activity.section_id is None or activity.section_id in task.section_ids


def _refreshing(task: Task, sample: Sample) -> bool:
    return any(
        section.refreshing for section in sample.sections if not task.section_ids or section.id in task.section_ids
    )


def _scan_sign(task: Task, sample: Sample) -> bool:
    """Something shows that a scan or refresh of the section is going on."""
    return (
        _refreshing(task, sample)
        or bool(sample.of_kind("scanner"))
        or any(a.type.startswith(_REFRESH_TYPES) and _own_section(task, a) for a in sample.activities)
    )


def _is_sonic(activity: Activity) -> bool:
    words = f"{activity.type} {activity.title} {activity.subtitle}".lower().replace(" ", "")
    return "musicanalysis" in words or "sonic" in words


def _other_butler(sample: Sample) -> list[Activity]:
    return [a for a in sample.activities if a.type.startswith("butler") and not _is_sonic(a)]


def _live_activities(sample: Sample) -> list[Activity]:
    return [a for a in sample.activities if not a.type.startswith(_BACKGROUND_TYPES)]


def _key(sample: Sample) -> tuple[Any, ...]:
    """What moves when a scan, refresh or analysis gets on."""
    c = sample.counters
    counted = () if c is None else (c.items, c.items_trashed, c.parts, c.parts_trashed, c.media_analysed, c.changed_at)
    return (*counted, tuple((a.uuid, a.progress, a.title, a.subtitle) for a in sample.activities))


def _effort(before: Sample, after: Sample) -> bool:
    """Workers (scanner, transcoder, analyzer) used CPU or read data between two samples."""
    if not after.of_kind(*WORKER_KINDS):
        return False
    return (
        cpu_percent(before, after, *WORKER_KINDS) >= EFFORT_CPU_PERCENT
        or (bytes_read(before, after) or 0) >= EFFORT_BYTES
    )


def _last_progress(window: Sequence[Sample], key: Callable[[Sample], Any], *, effort: bool) -> float:
    """When something moved last (the window's beginning counts as a movement)."""
    at = window[0].at
    for before, after in pairwise(window):
        if key(before) != key(after) or (effort and _effort(before, after)):
            at = after.at
    return at


def _cpu_now(window: Sequence[Sample]) -> float | None:
    percent: float | None = cpu_percent(window[-2], window[-1]) if len(window) > 1 else None
    return percent


# ---------------------------------------------------------------------------------------------------------- tasks


def _judge_scan(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    last = window[-1]
    quiet, quiet_seconds = _trailing(window, lambda sample: sample.answered and not _scan_sign(task, sample), now)
    seen = any(_scan_sign(task, sample) for sample in window)
    scanned = max((s.scanned_at for s in last.sections if s.id in task.section_ids), default=0)
    moved = task.kind == "scan" and scanned > task.scanned_before
    evidence = {"quiet_seconds": round(quiet_seconds, 1), "seen": seen, "scanned_at_moved": moved}
    if quiet:
        needed = min(CONFIRM_SECONDS, profile.quiet_for) if moved else profile.quiet_for
        if (moved or seen) and quiet >= 2 and quiet_seconds >= needed:
            return Verdict(COMPLETE, "", evidence)
        if not moved and not seen and now - task.window_from > profile.start_within:
            return _not_started(
                task, profile, now, "No activity, no scanner process, and the section's scan time is as before."
            )
        return Verdict(RUNNING, "ending" if moved or seen else "starting", evidence, look_again=soon(profile))
    return _stalled_or_running(task, window, profile, now, CANCEL_SCAN)


def _not_started(task: Task, profile: Profile, now: float, what: str) -> Verdict:
    return Verdict(
        STALLED,
        "not_started",
        {"seconds": round(now - task.window_from), "limit": profile.start_within},
        f"{span(now - task.window_from)} after the start of the {task.kind} there is no sign of life. {what} "
        "It is started again; if that changes nothing, look at Plex's log.",
        START_AGAIN,
    )


def _stalled_or_running(task: Task, window: Sequence[Sample], profile: Profile, now: float, step: str = "") -> Verdict:
    last = window[-1]
    silent = now - _last_progress(window, _key, effort=True)
    if silent < profile.named_after:
        return Verdict(RUNNING)
    slow = _slow_mount(window, profile)
    if slow is not None:
        return slow
    interfering = _other_butler(last)
    if interfering and task.kind != "scan":
        return _butler(interfering)
    if silent < profile.stall_after:
        return Verdict(RUNNING, "no_progress_yet", {"seconds": round(silent)})
    return Verdict(
        STALLED,
        "no_progress",
        {"seconds": round(silent), "cpu_percent": _cpu_now(window), "activities": [a.title for a in last.activities]},
        f"The {task.kind} shows as running, but nothing has moved for {span(silent)}: no count, no "
        "activity, no worker that "
        "computes or reads. It is cancelled; look at Plex's log and at rclone's.",
        step,
    )


def _slow_mount(window: Sequence[Sample], profile: Profile) -> Verdict | None:
    probes = [sample.mount for sample in window if sample.mount is not None][-3:]
    if len(probes) < 3 or any(probe.seconds < profile.slow_read for probe in probes):
        return None
    return Verdict(
        STALLED,
        "mount_slow",
        {"probe_seconds": [probe.seconds for probe in probes]},
        f"Reading a few first bytes takes {probes[-1].seconds:.0f} s. The remote throttles or the line is "
        "full: fewer rclone "
        "transfers, another region, or copy instead of mount.",
    )


def _butler(interfering: Sequence[Activity]) -> Verdict:
    names = ", ".join(sorted({activity.title or activity.type for activity in interfering}))
    return Verdict(
        STALLED,
        "butler_interference",
        {"tasks": names},
        f"A scheduled task of Plex runs instead: {names}. It is stopped; check that the quiet preferences "
        "are still set.",
        CANCEL_BUTLER,
    )


def _judge_stabilise(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    def calm(sample: Sample) -> bool:
        return (
            sample.answered
            and not _live_activities(sample)
            and not sample.of_kind(*WORKER_KINDS)
            and not any(section.refreshing for section in sample.sections)
        )

    quiet, seconds = _trailing(window, calm, now)
    idle_pairs = 0
    for before, after in zip(reversed(window[:-1]), reversed(window), strict=False):
        if cpu_percent(before, after) >= profile.cpu_idle_percent:
            break
        idle_pairs += 1
    if quiet >= 2 and idle_pairs >= 1 and seconds >= min(profile.quiet_for, CONFIRM_SECONDS):
        return Verdict(COMPLETE, "", {"quiet_seconds": round(seconds, 1), "cpu_percent": _cpu_now(window)})
    if quiet:
        return Verdict(RUNNING, "settling", {"cpu_percent": _cpu_now(window)}, look_again=soon(profile))
    return _stalled_or_running(task, window, profile, now)


def _judge_analyse(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    last = window[-1]

    def busy(sample: Sample) -> bool:
        return bool(sample.of_kind(*WORKER_KINDS)) or any(
            _own_section(task, a) for a in _live_activities(sample) if not a.type.startswith("butler")
        )

    counters = last.counters
    pending = None if counters is None else counters.analysis_pending
    started_with = task.before.analysis_pending if task.before is not None else None
    quiet, seconds = _trailing(window, lambda sample: sample.answered and not busy(sample), now)
    evidence = {"pending": pending, "quiet_seconds": round(seconds, 1)}
    if not quiet:
        return _stalled_or_running(task, window, profile, now)
    if pending == 0:
        if quiet >= 2:
            return Verdict(COMPLETE, "", evidence)
        return Verdict(RUNNING, "ending", evidence, look_again=soon(profile))
    silent = now - _last_progress(window, _key, effort=True)
    seen = any(busy(sample) for sample in window) or (pending is not None and pending != started_with)
    if seen and quiet >= 2 and min(silent, seconds) >= profile.quiet_for:
        return Verdict(
            IDLE,
            "items_left",
            evidence,
            f"Plex has ended the analysis; {pending} items still have none. Their files may be unreadable "
            "or of a kind that "
            "Plex does not analyse.",
        )
    if not seen and now - task.window_from > profile.start_within:
        return _not_started(task, profile, now, "No worker process, no activity, and no item was analysed.")
    return Verdict(RUNNING, "ending" if seen else "starting", evidence, look_again=soon(profile))


def _sonic_key(sample: Sample) -> tuple[Any, ...] | None:
    c = sample.counters
    return None if c is None else (c.sonic_done, c.sonic_other, c.server_sonic_blobs)


def _judge_sonic(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    counted = [(sample, sample.counters) for sample in window if sample.counters is not None and sample.answered]
    if not counted:
        return Verdict(RUNNING, "no_count_yet", look_again=soon(profile))
    first, (newest, last) = counted[0][1], counted[-1]
    pending = last.sonic_pending
    begun = task.before or first
    evidence: dict[str, Any] = {
        "total": last.sonic_total,
        "done": last.sonic_done,
        "pending": pending,
        "gained": last.sonic_done - begun.sonic_done,
        "restarts": task.restarts,
        "cpu_percent": _cpu_now(window),
    }
    mismatch = _mismatch(begun, last, newest, evidence)
    if mismatch is not None:
        return mismatch

    def working(sample: Sample) -> bool:
        return bool(sample.of_kind("music_analyzer")) or any(_is_sonic(activity) for activity in sample.activities)

    resting, rest_seconds = _trailing(window, lambda sample: sample.answered and not working(sample), now)
    if pending == 0 and resting:
        return Verdict(COMPLETE, "", evidence)
    if pending == 0:
        evidence["note"] = (
            "these sections are done; Plex's one queue still holds albums, artists or other music sections"
        )
        return Verdict(RUNNING, "queue_draining", evidence, look_again=soon(profile))
    cpu = evidence["cpu_percent"]
    idle = cpu is not None and cpu < profile.cpu_idle_percent and not newest.of_kind("transcoder")
    if resting >= 2 and idle:
        moved = last.sonic_done > first.sonic_done
        signs = moved or any(working(sample) for sample in window)
        ended = _judge_sonic_end(task, profile, now, evidence, rest_seconds, signs=signs, moved=moved)
        if ended is not None:
            return ended
    return _judge_frozen_sonic(window, profile, now, evidence, working)


def _mismatch(begun: Counters, last: Counters, sample: Sample, evidence: dict[str, Any]) -> Verdict | None:
    """Two counts of the same thing that go apart: neither is to be trusted."""
    done, blobs = last.server_sonic_done - begun.server_sonic_done, last.server_sonic_blobs - begun.server_sonic_blobs
    trouble = ""
    if max(done, blobs) >= MISMATCH_TRACKS and min(done, blobs) <= 0.1 * max(done, blobs):
        trouble = f"metadata_items gained {done} tracks with Sonic data while blobs.db gained {blobs} vectors"
    elif last.sonic_done > last.sonic_total:
        trouble = f"{last.sonic_done} tracks done of {last.sonic_total}"
    elif (
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
        f"Two counts disagree: {trouble}. Nothing is called complete on that; this Plex version may keep "
        "the mark elsewhere.",
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
    """The task is at rest with tracks pending: not started, ended early, or nothing left that Plex wants to do."""
    pending = evidence["pending"]
    if not signs and task.restarts == 0:
        if now - task.window_from <= profile.start_within:
            return Verdict(RUNNING, "starting", evidence, look_again=soon(profile))
        return _not_started(task, profile, now, "No Plex Music Analyzer, no activity, and the counter stands.")
    patience = profile.quiet_for if signs else max(profile.quiet_for, profile.start_within)
    if rest_seconds < patience:
        return Verdict(RUNNING, "ending", evidence, look_again=soon(profile))
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
            f"{pending} tracks ({percent:.1f} %) get no Sonic data however often the task is started: they "
            "failed once and are "
            "not queued again until their album's metadata is refreshed. They are listed.",
        )
    return Verdict(
        STALLED,
        "queue_empty_incomplete",
        evidence,
        f"Plex's queue is empty and {pending} tracks have no Sonic data. Check MusicAnalysisBehavior (must "
        "not be never) and "
        "the library's own switch 'Analyze audio tracks for sonic features'.",
    )


def _judge_frozen_sonic(
    window: Sequence[Sample],
    profile: Profile,
    now: float,
    evidence: dict[str, Any],
    working: Callable[[Sample], bool],
) -> Verdict:
    last = window[-1]
    frozen = now - _last_progress(window, _sonic_key, effort=False)
    evidence["frozen_seconds"] = round(frozen)
    if frozen < profile.named_after:
        return Verdict(RUNNING, "" if working(last) else "starting", evidence)
    recent = [sample for sample in window if sample.at >= now - frozen]
    cpu = cpu_percent(recent[0], recent[-1]) if len(recent) > 1 else 0.0
    evidence["cpu_percent"] = round(cpu, 1)
    refreshing = [a.title or a.type for a in last.activities if a.type.startswith(_REFRESH_TYPES)]
    analyzers = {process.pid for sample in recent for process in sample.of_kind("music_analyzer")}
    if refreshing or (not analyzers and cpu >= REFRESH_CPU_PERCENT):
        return Verdict(
            STALLED,
            "refresh_instead_of_sonic",
            {**evidence, "activities": refreshing},
            f"The counter has stood at {evidence['done']} for {span(frozen)} while Plex uses {cpu:.0f} % "
            "CPU and no analyzer "
            "runs: it refreshes metadata. That is what --force does to a Sonic analysis. The refresh is cancelled and "
            "Sonic started again.",
            CANCEL_REFRESH,
        )
    interfering = _other_butler(last)
    named = _butler(interfering) if interfering else _slow_mount(window, profile)
    if named is not None:
        return named
    if len(analyzers) >= 3:
        return Verdict(
            STALLED,
            "tracks_failing",
            {**evidence, "analyzers": len(analyzers)},
            f"{len(analyzers)} analyzer processes came and went in {span(frozen)} and no track got Sonic "
            "data: each one fails. "
            "Look at the analyzer's lines in Plex's log.",
        )
    if frozen < profile.stall_after:
        return Verdict(RUNNING, "no_track_yet", evidence)
    return Verdict(
        STALLED,
        "no_progress",
        evidence,
        f"No track got Sonic data for {span(frozen)} (CPU {cpu:.0f} %). The task is started again.",
        START_AGAIN,
    )


_JUDGES: dict[str, Callable[[Task, Sequence[Sample], Profile, float], Verdict]] = {
    "scan": _judge_scan,
    "refresh": _judge_scan,
    "stabilise": _judge_stabilise,
    "analyse": _judge_analyse,
    "sonic": _judge_sonic,
}
