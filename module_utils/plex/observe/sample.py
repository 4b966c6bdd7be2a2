"""One observation of a working server, as plain data.

A Sample is sent as JSON from the indexer (module plex_sample) to the controller (verdict, samples.jsonl). A value that
a source could not provide is None, or a message in `…_error`, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Activity:
    """One row of GET /activities. `section_id` comes from the Context child (docs/plex-facts.md#activities); progress
    -1 = unknown."""

    uuid: str
    type: str
    title: str = ""
    subtitle: str = ""
    progress: float = -1.0
    section_id: int | None = None
    cancellable: bool = False


@dataclass(frozen=True, slots=True)
class SectionState:
    """State of a section by GET /library/sections. Times are unix seconds, 0 = never."""

    id: int
    title: str
    type: str
    refreshing: bool
    scanned_at: int = 0
    updated_at: int = 0
    content_changed_at: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the server. `kind`: server, scanner, transcoder, music_analyzer or other. CPU in seconds so
    far."""

    pid: int
    kind: str
    cpu_seconds: float
    started: float
    args: str = ""
    read_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """Numbers from the database for the sections asked for, and for the whole server where it says so.

    items/items_trashed: leaf items (movie, episode, track, photo). parts: media_parts. media: media_items, of which
    media_analysed went through Plex's analysis. sonic_*: tracks with Sonic data; sonic_other: albums and artists with
    it.
    server_sonic_done / server_sonic_blobs: whole server, the two independent counts that must agree
    (docs/plex-facts.md#sonic-analysis).
    full: everything was counted; else only what changed, which is not enough to call anything complete. drift: tracks
    with Sonic data that a full count found and the increments before it had missed.
    """

    section_ids: tuple[int, ...]
    items: int
    items_trashed: int
    parts: int
    parts_trashed: int
    media: int
    media_analysed: int
    sonic_total: int
    sonic_done: int
    sonic_other: int
    server_sonic_done: int
    server_sonic_blobs: int
    changed_at: int = 0
    full: bool = True
    drift: int = 0
    signature: str = ""
    seconds: float = 0.0

    @property
    def sonic_pending(self) -> int:
        """Tracks without Sonic data."""
        return self.sonic_total - self.sonic_done

    @property
    def analysis_pending(self) -> int:
        """Media items that never went through analysis."""
        return self.media - self.media_analysed


@dataclass(frozen=True, slots=True)
class MountProbe:
    """Reading the first bytes of real files of the section. `failed`: path and error of each that did not open."""

    ok: bool
    tried: int
    read: int
    missing: int
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """One observation. `at` is unix seconds on the machine that was observed."""

    at: float
    answered: bool
    http_status: int = 0
    problem: str = ""
    maintenance: str = ""
    activities: tuple[Activity, ...] = ()
    sections: tuple[SectionState, ...] = ()
    processes: tuple[Process, ...] = ()
    processes_error: str = ""
    server_pid: int | None = None
    server_started: float | None = None
    counters: Counters | None = None
    counters_error: str = ""
    counters_busy: bool = False
    mount: MountProbe | None = None
    api_total: int | None = None
    disk_free_bytes: int | None = None
    wal_bytes: int | None = None
    restarts: int | None = None
    oom_killed: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sample:
        """The inverse of to_dict (also of its JSON form, where tuples are lists)."""
        values = dict(data)
        values["activities"] = tuple(Activity(**entry) for entry in values.get("activities", ()))
        values["sections"] = tuple(SectionState(**entry) for entry in values.get("sections", ()))
        values["processes"] = tuple(Process(**entry) for entry in values.get("processes", ()))
        counters = values.get("counters")
        if counters is not None:
            values["counters"] = Counters(**{**counters, "section_ids": tuple(counters["section_ids"])})
        mount = values.get("mount")
        if mount is not None:
            values["mount"] = MountProbe(**{**mount, "failed": tuple(mount.get("failed", ()))})
        return cls(**values)

    def of_kind(self, *kinds: str) -> tuple[Process, ...]:
        """The processes of these kinds."""
        return tuple(process for process in self.processes if process.kind in kinds)

    def section(self, section_id: int) -> SectionState | None:
        """The state of one section, None when the server does not list it."""
        return next((section for section in self.sections if section.id == section_id), None)


WORKER_KINDS = ("scanner", "transcoder", "music_analyzer")


def cpu_percent(before: Sample, after: Sample, *kinds: str) -> float:
    """CPU of the process tree between two samples, percent of one core (400 = four cores busy).

    With `kinds`, only of those. A process seen first in `after` counts with what it used since it started; one that
    ended
    in between counts with nothing (its last seconds are unknown), so this is a lower bound.
    """
    elapsed = after.at - before.at
    if elapsed <= 0:
        return 0.0
    earlier = {(process.pid, process.started): process.cpu_seconds for process in before.processes}
    used = 0.0
    for process in after.processes:
        if kinds and process.kind not in kinds:
            continue
        used += max(0.0, process.cpu_seconds - earlier.get((process.pid, process.started), 0.0))
    return 100.0 * used / elapsed


def bytes_read(before: Sample, after: Sample) -> int | None:
    """Return bytes read by the tree between two samples (kernel counters), None when not available."""
    known = [process for process in after.processes if process.read_bytes is not None]
    if not known:
        return None
    earlier = {(process.pid, process.started): process.read_bytes or 0 for process in before.processes}
    return sum(max(0, (process.read_bytes or 0) - earlier.get((process.pid, process.started), 0)) for process in known)
