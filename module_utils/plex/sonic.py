"""Sonic analysis: prerequisites, start, and comparison of two ways of counting (docs/plex-facts.md#sonic-analysis)."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ..text import span
from .api import preferences, sections
from .errors import CountersError
from .observe import counters
from .observe.sample import WORKER_KINDS, bytes_read, cpu_percent

if TYPE_CHECKING:
    from .api.client import PlexClient
    from .api.readiness import Server
    from .observe.mount_probe import Look
    from .observe.sample import Activity, Sample

TASK = "MusicAnalysis"
BUTLER, ASAP, SECTION, ALBUMS = "butler", "asap", "section", "albums"
WAYS = (BUTLER, ASAP, SECTION, ALBUMS)
"""In the order of the tries: proven ways (docs/plex-facts.md#sonic-analysis), then documented or reported ones."""
BATCH = 50
TRACKS_LOOKED_AT = 20_000
BUSY_PERCENT = 70.0
MIN_VERSION = (1, 24, 0)
MACHINES = ("x86_64", "AMD64")
COMPARED = 40
"""Number of tracks whose counts by database and API are compared first."""


def problems(client: PlexClient, server: Server, *, machine: str = "") -> list[str]:
    """Return a sentence for each unmet prerequisite; empty = Sonic analysis is possible.

    `machine` is the processor of the machine the server runs on; '' = this one.
    """
    found = []
    if preferences.version_tuple(server.version) < MIN_VERSION:
        found.append(f"Plex {server.version} is older than 1.24")
    if preferences.SONIC_KEY not in preferences.read_all(client):
        found.append(
            f"the server has no preference {preferences.SONIC_KEY}, which it shows only with Plex Pass "
            f"(Plex Pass is {'on' if server.plex_pass else 'off'} and the server is "
            f"{'claimed' if server.claimed else 'not claimed'})"
        )
    processor = machine or platform.machine()
    if processor not in MACHINES:
        found.append(f"Plex has no Sonic analysis for the processor {processor}, only for x86-64")
    return found


def start(client: PlexClient, way: str = BUTLER, *, section_ids: Sequence[int] = (), albums: Sequence[int] = ()) -> str:
    """Start the task in one of WAYS. 'started' or 'already_running'. Raises PreferenceError, PlexError.

    A behaviour of `never` (nothing would be queued) becomes `scheduled` first; `asap` stays until `calm`.
    """
    wanted = "asap" if way == ASAP else "scheduled"
    preferences.apply(client, {preferences.SONIC_KEY: wanted})
    if way == SECTION:
        for section_id in section_ids:
            client.call("PUT", f"/library/sections/{section_id}/analyze")
    if way == ALBUMS:
        for index in range(0, len(albums), BATCH):
            sections.analyse_items(client, list(albums[index : index + BATCH]))
    how: str = sections.start_butler(client, TASK)
    return how


def stop(client: PlexClient, *, patience: float = 15.0) -> None:
    """Stop the task and wait until it has ended, at most `patience` seconds: before that a start is a no-op (202)."""
    sections.stop_butler(client, TASK)
    end = time.monotonic() + patience
    while time.monotonic() < end and any(_names_task(activity) for activity in sections.list_activities(client)):
        time.sleep(0.3)


def start_again(client: PlexClient, way: str = BUTLER) -> str:
    """Stop a running task and start it again. See `start` for `way`."""
    stop(client)
    preferences.apply(client, {preferences.SONIC_KEY: "asap" if way == ASAP else "scheduled"})
    how: str = sections.start_butler(client, TASK)
    return how


def calm(client: PlexClient) -> None:
    """Change `asap` back, so that nothing starts later by itself; other behaviours are kept."""
    known = preferences.read_all(client)
    if preferences.SONIC_KEY in known and known[preferences.SONIC_KEY].value == "asap":
        preferences.apply(client, {preferences.SONIC_KEY: "scheduled"})


def _names_task(activity: Activity) -> bool:
    return TASK.lower() in f"{activity.type} {activity.title}".lower().replace(" ", "")


def albums_left(databases: Path, section_ids: Sequence[int], *, limit: int) -> list[int]:
    """Ids of the albums that hold tracks without Sonic data, at most `limit`, in order."""
    tracks = counters.sonic_ids(databases, section_ids, done=False, limit=TRACKS_LOOKED_AT)
    found: set[int] = set()
    with counters.connect(databases) as connection:
        for index in range(0, len(tracks), 500):
            chunk = tracks[index : index + 500]
            rows = connection.execute(
                "SELECT DISTINCT parent_id FROM metadata_items WHERE parent_id IS NOT NULL "  # noqa: S608 only ? marks
                f"AND id IN ({','.join('?' for _ in chunk)})",
                chunk,
            )
            found.update(int(row[0]) for row in rows)
    return sorted(found)[:limit]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast from the first part of an analysis. `per_minute` tracks, `seconds_left`, `price_left`.

    `cpu_percent` of one core, of Plex's workers; `bytes_per_second` None when the kernel does not tell.
    """

    per_minute: float
    pending: int
    seconds_left: float
    price_left: float
    cpu_percent: float
    bytes_per_second: float | None
    bound: str

    def words(self, currency: str, cores: int) -> str:
        """Return the forecast as one line."""
        of_cores = f" of {cores * 100} %" if cores else ""
        read = "" if self.bytes_per_second is None else f", {self.bytes_per_second / 1e6:.1f} MB/s read"
        hint = {
            "cpu": "a larger instance type is faster",
            "network": "reading the media is slow, so a larger instance type does not help, but a nearer region may",
        }[self.bound]
        price = f", {self.price_left:.2f} {currency}" if self.price_left else ""
        return (
            f"forecast: {self.pending} tracks at {self.per_minute:.1f}/min take {span(self.seconds_left)} more{price}; "
            f"Plex's workers use {self.cpu_percent:.0f} %{of_cores} CPU{read}; {self.bound}-bound, {hint}"
        )


def forecast(samples: Sequence[Sample], *, hourly_price: float) -> Forecast | None:
    """From the samples of one running analysis; None while no track was done in them.

    Plex feeds one analyzer by one transcoder, in turn: together they use one core per pair when nothing else holds
    them up. So clearly less than that means that they wait for the media.
    """
    counted = [(sample.at, sample.counters) for sample in samples if sample.counters is not None]
    if len(counted) < 2 or counted[-1][0] <= counted[0][0]:
        return None
    (since, first), (until, last) = counted[0], counted[-1]
    gained = last.sonic_done - first.sonic_done
    if gained <= 0:
        return None
    per_minute = 60.0 * gained / (until - since)
    cpu = bytes_seen = elapsed = workers = 0.0
    known = False
    for before, after in pairwise(samples):
        step = after.at - before.at
        if step <= 0:
            continue
        elapsed += step
        cpu += cpu_percent(before, after, *WORKER_KINDS) * step
        workers += len(after.of_kind(*WORKER_KINDS)) * step
        read = bytes_read(before, after)
        known = known or read is not None
        bytes_seen += read or 0
    average = cpu / elapsed if elapsed else 0.0
    pairs = max(1.0, workers / elapsed / 2.0) if elapsed else 1.0
    seconds = last.sonic_pending / per_minute * 60.0
    return Forecast(
        per_minute=per_minute,
        pending=last.sonic_pending,
        seconds_left=seconds,
        price_left=hourly_price * seconds / 3600.0,
        cpu_percent=average,
        bytes_per_second=bytes_seen / elapsed if known and elapsed else None,
        bound="cpu" if average >= BUSY_PERCENT * pairs else "network",
    )


def compare(client: PlexClient, databases: Path, section_ids: Sequence[int]) -> int:
    """Ask the API about up to 40 tracks, half with and half without Sonic data by the database.

    Returns how many were compared. Raises CountersError when more than one in ten disagrees (Plex writes while this
    looks).
    """
    expected = {
        track: done
        for done in (True, False)
        for track in counters.sonic_ids(databases, section_ids, done=done, limit=COMPARED // 2)
    }
    told = sections.sonic_by_api(client, list(expected))
    wrong = [track for track, done in told.items() if track in expected and expected[track] != done]
    compared = [track for track in expected if track in told]
    if expected and not compared:
        raise CountersError("The API has none of the tracks in the database, so it is not this server's database.")
    if len(wrong) > max(1, len(compared) // 10):
        raise CountersError(
            f"Database and API disagree about Sonic data of {len(wrong)} of {len(compared)} tracks, the "
            f"first: id {wrong[0]} (database: {expected[wrong[0]]}). Neither count can be trusted; this Plex version "
            "may store its Sonic data elsewhere."
        )
    return len(compared)


def cause(seen: Look, file: str) -> str:
    """Return why a track has no Sonic data, as far as its file shows."""
    error = seen.errors.get(file, "unknown" if file else "no_file")
    if error == "":
        return "failed"
    return {"ENOENT": "file_missing", "no_file": "no_file", "unknown": "not_read_in_time"}.get(
        error, f"unreadable ({error})"
    )
