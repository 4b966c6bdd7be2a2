"""The meaning of a window of samples: a pure function of (task, samples, profile, clock).

Rules from incidents (docs/plex-facts.md#incidents): CPU alone is not progress; Sonic progress is a growing counter; a
frozen counter with
a busy CPU has a known reason; silence is not success; an error is not zero. No task ends on incremental counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ...text import span
from ..observe.sample import Sample
from .profiles import Profile
from .scan_analyse import judge_analyse, judge_scan, judge_stabilise
from .server_health import judge_health
from .signals import own_section
from .sonic import judge_sonic
from .types import (
    CANCEL_BUTLER,
    CANCEL_REFRESH,
    CANCEL_SCAN,
    COMPLETE,
    IDLE,
    RUNNING,
    STALLED,
    START_AGAIN,
    TIMED_OUT,
    UNHEALTHY,
    Task,
    Verdict,
    soon,
)

__all__ = [
    "CANCEL_BUTLER",
    "CANCEL_REFRESH",
    "CANCEL_SCAN",
    "COMPLETE",
    "IDLE",
    "RUNNING",
    "STALLED",
    "START_AGAIN",
    "TIMED_OUT",
    "UNHEALTHY",
    "Task",
    "Verdict",
    "judge",
    "soon",
]

SHOWN_PERCENT = 20.0
"""Percentage below which Plex's progress is not used for an estimate."""


def judge(task: Task, samples: Sequence[Sample], profile: Profile, now: float) -> Verdict:
    """Return the verdict at `now`. `samples` in order of time; `now` in seconds of their clock."""
    window = [sample for sample in samples if sample.at >= task.window_from]
    if not window:
        return Verdict(RUNNING, "no_sample_yet", look_again=min(profile.interval, 5.0))
    sick = judge_health(task, samples, window, profile, now)
    if sick is not None:
        return sick
    last = window[-1]
    late = now - task.started_at > profile.timeout
    if not last.answered or last.counters_busy:
        waiting = "database_busy" if last.counters_busy else "no_answer_yet"
        return _timed_out(task, profile, now) if late else Verdict(RUNNING, waiting, look_again=soon(profile))
    verdict = _JUDGES[task.kind](task, window, profile, now)
    if verdict.state in (COMPLETE, IDLE) and task.kind != "stabilise" and _mount_in_doubt(window):
        # One failed probe proves neither a dead mount nor a good end, so the next one decides.
        verdict = Verdict(RUNNING, "mount_in_doubt", verdict.evidence, look_again=soon(profile))
    counted = last.counters
    if verdict.final and task.kind != "stabilise" and counted is not None and not counted.full:
        # No task ends on an incremental count; everything is counted first.
        verdict = Verdict(RUNNING, "counting_everything", verdict.evidence, look_again=soon(profile), exact=True)
    if late and verdict.state == RUNNING:
        return _timed_out(task, profile, now)
    if verdict.state == RUNNING and not verdict.look_again:
        verdict = replace(verdict, look_again=_next_look(task, window, profile, now))
    return _with_drift(window, verdict)


def _mount_in_doubt(window: Sequence[Sample]) -> bool:
    probe = next((sample.mount for sample in reversed(window) if sample.mount is not None), None)
    return probe is not None and not probe.ok


def _with_drift(window: Sequence[Sample], verdict: Verdict) -> Verdict:
    """Return the verdict that increments missed something; full counts replace them and the task continues."""
    drift = next((s.counters.drift for s in reversed(window) if s.counters is not None and s.counters.drift), 0)
    if not drift:
        return verdict
    evidence = {**verdict.evidence, "drift": drift}
    if verdict.state != RUNNING or verdict.reason:
        return replace(verdict, evidence=evidence)
    return replace(
        verdict,
        reason="counter_mismatch",
        evidence=evidence,
        advice=f"A full count found {drift} tracks with Sonic data that incremental counts had missed, because this "
        "Plex does not change changed_at when it writes them. From now on all counts are full.",
    )


def _next_look(task: Task, window: Sequence[Sample], profile: Profile, now: float) -> float:
    """Return seconds until the next sample of a running task: fewer for short tasks and near an end.

    A twentieth of the time the task has taken already keeps the wait after its end in proportion to the task.
    """
    wish = max(soon(profile), (now - task.window_from) / 20.0)
    left = _seconds_left(task, window, now)
    if left is not None:
        wish = min(wish, max(soon(profile), left / 2.0))
    return min(profile.interval, wish)


def _seconds_left(task: Task, window: Sequence[Sample], now: float) -> float | None:
    """How long the rest may take: by the rate of the last samples, or by the percentage that Plex shows (a hint for
    when to look, nothing else); None where nothing tells."""
    shown = [a.progress for a in window[-1].activities if a.progress >= SHOWN_PERCENT and own_section(task, a)]
    if task.kind not in ("analyse", "sonic"):
        return (now - task.window_from) * (100.0 - min(shown)) / min(shown) if shown else None
    points = [
        (s.at, s.counters.sonic_pending if task.kind == "sonic" else s.counters.analysis_pending)
        for s in window[-6:]
        if s.counters is not None
    ]
    if len(points) < 2 or points[-1][0] <= points[0][0] or points[-1][1] >= points[0][1]:
        return None
    rate = (points[0][1] - points[-1][1]) / (points[-1][0] - points[0][0])
    return points[-1][1] / rate


def _timed_out(task: Task, profile: Profile, now: float) -> Verdict:
    return Verdict(
        TIMED_OUT,
        "timeout",
        {"seconds": round(now - task.started_at), "limit": profile.timeout},
        f"The {task.kind} did not end within {span(profile.timeout)}. What was done is kept. Run again to continue, or "
        "choose a profile with a longer timeout.",
    )


_JUDGES: dict[str, Callable[[Task, Sequence[Sample], Profile, float], Verdict]] = {
    "scan": judge_scan,
    "refresh": judge_scan,
    "stabilise": judge_stabilise,
    "analyse": judge_analyse,
    "sonic": judge_sonic,
}
