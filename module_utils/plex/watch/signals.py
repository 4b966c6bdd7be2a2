"""What samples show: the running work, its section, and changes between two samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ..observe.sample import WORKER_KINDS, Activity, Process, Sample, bytes_read, cpu_percent
from .types import Task

EFFORT_CPU_PERCENT = 0.5
EFFORT_BYTES = 64 * 1024
REFRESH_TYPES = ("library.refresh", "library.update.item", "library.update.section")
_BACKGROUND_TYPES = ("provider.",)
_SCANNER_ELSE = (
    *("--analyze", "-a", "--analyze-deeply", "--generate", "-g", "--index", "-b"),
    *("--creditsTempDataPath", "--chapter-thumbs-only"),
)


def own_section(task: Task, activity: Activity) -> bool:
    """An activity of these sections, or one that names none (it does so about a second after its start)."""
    return activity.section_id is None or activity.section_id in task.section_ids


def _refreshing(task: Task, sample: Sample) -> bool:
    return any(
        section.refreshing for section in sample.sections if not task.section_ids or section.id in task.section_ids
    )


def _scanning(task: Task, process: Process) -> bool:
    """A scanner that scans these sections; deep analysis, thumbnails and credits run in a scanner too
    (docs/plex-facts.md#scanner)."""
    if process.kind != "scanner":
        return False
    words = process.args.partition(" --directory ")[0].split()  # a folder's name may look like anything
    if any(word in _SCANNER_ELSE for word in words):
        return False
    named = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--section", "-c")]
    return not task.section_ids or all(not name.isdigit() or int(name) in task.section_ids for name in named)


def scan_sign(task: Task, sample: Sample) -> bool:
    """Return whether a scan or refresh of the section is running."""
    return (
        _refreshing(task, sample)
        or any(_scanning(task, process) for process in sample.processes)
        or any(a.type.startswith(REFRESH_TYPES) and own_section(task, a) for a in sample.activities)
    )


def is_sonic(activity: Activity) -> bool:
    """Return the activity of Sonic analysis, whose name depends on Plex's version."""
    words = f"{activity.type} {activity.title} {activity.subtitle}".lower().replace(" ", "")
    return "musicanalysis" in words or "sonic" in words


def other_butler(sample: Sample) -> list[Activity]:
    """Scheduled tasks that are not Sonic analysis."""
    return [a for a in sample.activities if a.type.startswith("butler") and not is_sonic(a)]


def live_activities(sample: Sample) -> list[Activity]:
    """Activities that keep Plex busy; guides and subscriptions do not."""
    return [a for a in sample.activities if not a.type.startswith(_BACKGROUND_TYPES)]


def counts_of(sample: Sample) -> tuple[int, ...]:
    """Return the counts that change with the progress of a scan, refresh or analysis."""
    c = sample.counters
    return () if c is None else (c.items, c.items_trashed, c.parts, c.parts_trashed, c.media_analysed, c.changed_at)


def movement(sample: Sample) -> tuple[Any, ...]:
    """Return the values that change with the progress of a scan, refresh or analysis."""
    return (*counts_of(sample), tuple((a.uuid, a.progress, a.title, a.subtitle) for a in sample.activities))


def _effort(before: Sample, after: Sample) -> bool:
    """Return whether workers (scanner, transcoder, analyzer) used CPU or read data between two samples."""
    if not after.of_kind(*WORKER_KINDS):
        return False
    return (
        cpu_percent(before, after, *WORKER_KINDS) >= EFFORT_CPU_PERCENT
        or (bytes_read(before, after) or 0) >= EFFORT_BYTES
    )


def last_progress(window: Sequence[Sample], key: Callable[[Sample], Any], *, effort: bool) -> float:
    """Return the time of the last change (at least the window's beginning)."""
    at = window[0].at
    for before, after in pairwise(window):
        if key(before) != key(after) or (effort and _effort(before, after)):
            at = after.at
    return at


def cpu_now(window: Sequence[Sample]) -> float | None:
    """CPU of the whole tree between the last two samples, percent of one core; None with one sample."""
    percent: float | None = cpu_percent(window[-2], window[-1]) if len(window) > 1 else None
    return percent


def server_starts(samples: Sequence[Sample]) -> list[float]:
    """Return the time of the first sample with another server process than before."""
    life: tuple[int, float | None] | None = None
    found = []
    for sample in samples:
        if sample.server_pid is None:
            continue
        seen = (sample.server_pid, sample.server_started)
        if life is not None and life != seen:
            found.append(sample.at)
        life = seen
    return found
