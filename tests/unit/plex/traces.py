"""Building windows of samples for the verdict tests; times in seconds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import (
    Activity,
    Counters,
    MountProbe,
    Process,
    Sample,
    SectionState,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.verdict import Task

GOOD = MountProbe(ok=True, tried=12, read=12, missing=0, seconds=0.2)
DEAD = MountProbe(ok=False, tried=12, read=0, missing=0, seconds=0.1, problem="12 of 12 files cannot be read (EIO)")


def counters(**values: Any) -> Counters:
    """Counts of a music section; only what a test is about is named."""
    plain: dict[str, Any] = {
        "section_ids": (1,),
        "items": 456534,
        "items_trashed": 0,
        "parts": 456534,
        "parts_trashed": 0,
        "media": 456534,
        "media_analysed": 456534,
        "sonic_total": 456534,
        "sonic_done": 81035,
        "sonic_other": 0,
        "server_sonic_done": 81035,
        "server_sonic_blobs": 81035,
    }
    plain.update(values)
    if "sonic_done" in values:
        plain.setdefault("server_sonic_done", values["sonic_done"])
        plain["server_sonic_done"] = values.get("server_sonic_done", values["sonic_done"])
        plain["server_sonic_blobs"] = values.get("server_sonic_blobs", values["sonic_done"])
    return Counters(**plain)


def process(kind: str, cpu: float, pid: int = 100, read: int | None = 0, args: str = "") -> Process:
    """One process with `cpu` seconds used so far."""
    return Process(pid=pid, kind=kind, cpu_seconds=cpu, started=float(pid), args=args, read_bytes=read)


def server(cpu: float = 0.0) -> Process:
    """The media server itself."""
    return process("server", cpu, pid=1)


def section(*, refreshing: bool = False, scanned_at: int = 0, section_id: int = 1) -> SectionState:
    """State of the section under watch."""
    return SectionState(section_id, "Music", "artist", refreshing, scanned_at)


def activity(kind: str, title: str = "", section_id: int | None = 1, progress: float = -1.0) -> Activity:
    """One activity."""
    return Activity(uuid="u", type=kind, title=title, section_id=section_id, progress=progress)


def sample(at: float, **values: Any) -> Sample:
    """One quiet sample of a healthy server, with replacements."""
    base = Sample(
        at=at,
        answered=True,
        http_status=200,
        sections=(section(),),
        processes=(server(at * 0.01),),
        server_pid=1,
        server_started=1.0,
        counters=counters(),
        mount=GOOD,
        disk_free_bytes=100 * 1024**3,
    )
    return replace(base, **values)


def task(kind: str, **values: Any) -> Task:
    """A task that began at 0."""
    plain: dict[str, Any] = {"kind": kind, "section_ids": (1,), "started_at": 0.0, "before": counters()}
    plain.update(values)
    return Task(**plain)
