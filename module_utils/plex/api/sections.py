"""Sections and activities from the API, and the calls that start and cancel work on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ...text import canonical
from ..errors import PlexAnswerError, PlexNotFound, SectionNotFound
from ..observe import counters
from ..observe.sample import Activity, SectionState

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from .client import PlexClient

BUILT_IN_AGENTS = frozenset(
    f"{family}.{name}"
    for family, names in {
        "tv.plex.agents": ("movie", "series", "music", "none"),
        "com.plexapp.agents": (
            *("none", "imdb", "themoviedb", "thetvdb", "localmedia", "lastfm", "plexmusic", "plexthememusic"),
            *("movieposterdb", "opensubtitles", "htbackdrops", "lyricfind"),
        ),
    }.items()
    for name in names
)
BUILT_IN_SCANNERS = frozenset(
    {
        *("Plex Movie", "Plex TV Series", "Plex Music", "Plex Photo Scanner"),
        *("Plex Movie Scanner", "Plex Series Scanner", "Plex Music Scanner", "Plex Premium Music Scanner"),
        *("Plex Video Files Scanner", "Plex Video Files"),
    }
)
"""Agents and scanners that are part of Plex. Others are bundles, scripts or metadata providers of home, which are not
in the database (the agent of a section with a custom provider is the provider's identifier)."""


@dataclass(frozen=True, slots=True)
class Section:
    """One library. `type` is Plex's word: artist, movie, show, photo. Times are unix seconds, 0 = never."""

    id: int
    title: str
    type: str
    uuid: str
    agent: str
    scanner: str
    locations: tuple[str, ...]
    refreshing: bool
    scanned_at: int
    updated_at: int
    content_changed_at: int

    def state(self) -> SectionState:
        """Its part that changes while Plex works."""
        return SectionState(
            id=self.id,
            title=self.title,
            type=self.type,
            refreshing=self.refreshing,
            scanned_at=self.scanned_at,
            updated_at=self.updated_at,
            content_changed_at=self.content_changed_at,
        )


def _number(element: Element, name: str) -> int:
    text = element.get(name, "")
    return int(text) if text.isdigit() else 0


def list_sections(client: PlexClient, *, retries: int | None = None) -> list[Section]:
    """GET /library/sections, in the server's order."""
    root = client.call("GET", "/library/sections", retries=retries).xml()
    if root.tag != "MediaContainer":
        raise PlexAnswerError(f"GET /library/sections answered with <{root.tag}>, expected <MediaContainer>.")
    return [
        Section(
            id=int(element.get("key", "0")),
            title=element.get("title", ""),
            type=element.get("type", ""),
            uuid=element.get("uuid", ""),
            agent=element.get("agent", ""),
            scanner=element.get("scanner", ""),
            locations=tuple(child.get("path", "") for child in element.iter("Location")),
            refreshing=element.get("refreshing", "0") == "1",
            scanned_at=_number(element, "scannedAt"),
            updated_at=_number(element, "updatedAt"),
            content_changed_at=_number(element, "contentChangedAt"),
        )
        for element in root.iter("Directory")
    ]


def foreign(section: Section, known: Iterable[str] = ()) -> str:
    """Return the reason why this server cannot scan the section; '' when it can.

    A scan with a missing agent or scanner would match nothing or drop home's matches. `known`: additional agents and
    scanners of the indexer.
    """
    extra = set(known)
    missing = []
    if section.agent and section.agent not in BUILT_IN_AGENTS | extra:
        missing.append(f"the agent {section.agent}")
    if section.scanner and section.scanner not in BUILT_IN_SCANNERS | extra:
        missing.append(f"the scanner {section.scanner}")
    if not missing:
        return ""
    return f"{section.title} needs {' and '.join(missing)}, which is not part of Plex and missing on the indexer"


def find_section(client: PlexClient, wanted: str) -> Section:
    """Return the section with this title or else this id. Raises SectionNotFound with the existing sections."""
    sections = list_sections(client)
    named = [section for section in sections if section.title == wanted]
    if len(named) > 1:
        ids = ", ".join(str(section.id) for section in named)
        raise SectionNotFound(f"{len(named)} sections are called {wanted!r} (ids {ids}). Select one of them by its id.")
    found = named or [section for section in sections if str(section.id) == wanted]
    if not found:
        there = ", ".join(f"{section.title} ({section.id})" for section in sections) or "none"
        raise SectionNotFound(f"This server has no section {wanted!r}. Its sections are: {there}.")
    return found[0]


def list_activities(client: PlexClient, *, retries: int | None = None) -> list[Activity]:
    """GET /activities. The section's id sits on the Context child, not on the Activity
    (docs/plex-facts.md#activities)."""
    root = client.call("GET", "/activities", retries=retries).xml()
    activities = []
    for element in root.iter("Activity"):
        section = next((context.get("librarySectionID") for context in element.iter("Context")), None)
        progress = element.get("progress", "-1")
        try:
            percent = float(progress)
        except ValueError:
            percent = -1.0
        activities.append(
            Activity(
                uuid=element.get("uuid", ""),
                type=element.get("type", ""),
                title=element.get("title", ""),
                subtitle=element.get("subtitle", ""),
                progress=percent,
                section_id=int(section) if section and section.isdigit() else None,
                cancellable=element.get("cancellable", "0") == "1",
            )
        )
    return activities


def refresh_section(client: PlexClient, section_id: int, *, force: bool = False, path: str = "") -> str:
    """Start a scan. POST is what the API describes; servers that know only GET (what clients use) get that.

    Returns the method that was accepted.
    """
    params: dict[str, str] = {}
    if force:
        params["force"] = "1"
    if path:
        params["path"] = path
    route = f"/library/sections/{section_id}/refresh"
    answer = client.call("POST", route, params=params, accept=(200, 201, 202, 204, 404, 405))
    if answer.status in (404, 405):
        client.call("GET", route, params=params)
        return "GET"
    return "POST"


def cancel_refresh(client: PlexClient, section_id: int) -> None:
    """Cancel a scan or refresh of one section."""
    client.call("DELETE", f"/library/sections/{section_id}/refresh")


def start_butler(client: PlexClient, task: str) -> str:
    """POST /butler/{task}: 'started' (200) or 'already_running' (202). Raises PlexNotFound for an unknown task."""
    answer = client.call("POST", f"/butler/{task}", accept=(200, 202))
    return "already_running" if answer.status == 202 else "started"


def stop_butler(client: PlexClient, task: str = "") -> None:
    """DELETE /butler/{task}, or all of it; a task that is not running (404) is what was wanted."""
    try:
        client.call("DELETE", f"/butler/{task}" if task else "/butler")
    except PlexNotFound:
        if not task:
            raise


def cancel_activity(client: PlexClient, uuid: str) -> bool:
    """DELETE /activities/{uuid}; False when it had ended (404) or cannot be cancelled (400)."""
    answer = client.call("DELETE", f"/activities/{uuid}", accept=(200, 204, 400, 404))
    return answer.status in (200, 204)


def analyse_items(client: PlexClient, ids: list[int]) -> None:
    """PUT /library/metadata/{ids}/analyze for one batch. Never with force: that is a metadata refresh
    (docs/plex-facts.md#incidents)."""
    client.call("PUT", f"/library/metadata/{','.join(str(item) for item in ids)}/analyze")


def refresh_items(client: PlexClient, ids: list[int]) -> None:
    """PUT /library/metadata/{ids}/refresh for one batch."""
    client.call("PUT", f"/library/metadata/{','.join(str(item) for item in ids)}/refresh")


def sonic_by_api(client: PlexClient, ids: list[int]) -> dict[int, bool]:
    """Whether the API says these tracks have Sonic data (musicAnalysisVersion, docs/plex-facts.md#sonic-analysis);
    missing ids are absent."""
    if not ids:
        return {}
    root = client.call("GET", f"/library/metadata/{','.join(str(item) for item in ids)}").xml()
    return {
        int(element.get("ratingKey", "0")): element.get("musicAnalysisVersion", "0") not in ("", "0")
        for element in root
        if element.get("ratingKey")
    }


def track_total(client: PlexClient, section_id: int) -> int:
    """Number of tracks of a section by the API."""
    total: int = client.total(f"/library/sections/{section_id}/all", {"type": "10"})
    return total


def absent_files(databases: Path, section_id: int, files: Sequence[str]) -> list[str]:
    """Which of `files` no part of the section outside its trash has. Unicode forms are not told apart (see canonical).

    Raises CountersError and CountersBusy.
    """
    with counters.connect(databases) as connection:
        have = {
            canonical(row[0])
            for row in connection.execute(
                "SELECT p.file FROM media_parts p JOIN media_items i ON i.id = p.media_item_id "
                "WHERE i.library_section_id = ? AND p.deleted_at IS NULL",
                (section_id,),
            )
        }
    return [name for name in files if canonical(name) not in have]


def folders_of(files: Sequence[str], locations: Sequence[str], *, limit: int) -> list[str]:
    """The folders that hold `files`, put together upwards until there are at most `limit`, never above a location."""
    roots = {location.rstrip("/") for location in locations}
    found = {str(PurePosixPath(name).parent) for name in files}
    while len(found) > limit:
        higher = {folder if folder in roots else str(PurePosixPath(folder).parent) for folder in found}
        if higher == found:
            break
        found = higher
    covered = {folder for folder in found if any(str(up) in found for up in PurePosixPath(folder).parents)}
    return sorted(found - covered)
