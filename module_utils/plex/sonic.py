"""Sonic analysis: what it needs, how it is started, and whether two ways of counting agree (facts §2.7)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.plexburst.core.plugins.module_utils.plex import counters, preferences, sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import CountersError

if TYPE_CHECKING:
    from ansible_collections.plexburst.core.plugins.module_utils.plex.client import PlexClient
    from ansible_collections.plexburst.core.plugins.module_utils.plex.probe import Look
    from ansible_collections.plexburst.core.plugins.module_utils.plex.readiness import Server

TASK = "MusicAnalysis"
MIN_VERSION = (1, 24, 0)
MACHINES = ("x86_64", "AMD64")
COMPARED = 40
"""Tracks by database that are compared with the API before anything is trusted."""


def problems(client: PlexClient, server: Server, *, machine: str = "") -> list[str]:
    """Sentences about each prerequisite that is not met; empty = Sonic analysis is possible.

    `machine` is the processor of the machine the server runs on; '' = this one.
    """
    found = []
    if preferences.version_tuple(server.version) < MIN_VERSION:
        found.append(f"Plex {server.version} is older than 1.24, which brought it")
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


def start(client: PlexClient) -> str:
    """Switch the server's queue on where it is off, and start the task. 'started' or 'already_running'."""
    known = preferences.read_all(client)
    if known[preferences.SONIC_KEY].value == "never":
        preferences.apply(client, {preferences.SONIC_KEY: "scheduled"})
    how: str = sections.start_butler(client, TASK)
    return how


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
        raise CountersError("The API knows none of the tracks the database lists; this is not that server's database.")
    if len(wrong) > max(1, len(compared) // 10):
        raise CountersError(
            f"Database and API disagree about Sonic data of {len(wrong)} of {len(compared)} tracks, the "
            f"first: id {wrong[0]} "
            f"(database: {expected[wrong[0]]}). Neither count is trusted; this Plex version may keep the "
            "mark elsewhere."
        )
    return len(compared)


def cause(seen: Look, file: str) -> str:
    """Why a track has no Sonic data, as far as reading its file tells."""
    error = seen.errors.get(file, "unknown" if file else "no_file")
    if error == "":
        return "failed"
    return {"ENOENT": "file_missing", "no_file": "no_file", "unknown": "not_read_in_time"}.get(
        error, f"unreadable ({error})"
    )
