"""Workflow decisions that need no server: what an indexer cannot scan, which folders are scanned, the forecast."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex import sonic
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import sections
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters, Process, Sample

MUSIC = sections.Section(
    id=1,
    title="Music",
    type="artist",
    uuid="u",
    agent="tv.plex.agents.music",
    scanner="Plex Music",
    locations=("/Media/Music",),
    refreshing=False,
    scanned_at=0,
    updated_at=0,
    content_changed_at=0,
)


@pytest.mark.parametrize(
    ("agent", "scanner"),
    [
        ("tv.plex.agents.movie", "Plex Movie"),
        ("com.plexapp.agents.none", "Plex Video Files Scanner"),
        ("com.plexapp.agents.thetvdb", "Plex Series Scanner"),
        ("com.plexapp.agents.none", "Plex Photo Scanner"),
    ],
)
def test_what_plex_brings_along_can_be_scanned(agent: str, scanner: str) -> None:
    assert sections.foreign(replace(MUSIC, agent=agent, scanner=scanner)) == ""


def test_a_bundle_a_script_or_a_provider_of_homes_own_is_named() -> None:
    hama = replace(MUSIC, title="Anime", agent="com.plexapp.agents.hama", scanner="Absolute Series Scanner")
    words = sections.foreign(hama)
    assert "Anime" in words
    assert "com.plexapp.agents.hama" in words
    assert "Absolute Series Scanner" in words
    assert sections.foreign(hama, ["com.plexapp.agents.hama", "Absolute Series Scanner"]) == ""
    assert sections.foreign(replace(MUSIC, agent="tv.plex.agents.custom.mine"))


def test_missing_files_are_put_together_by_folder_and_never_above_a_location() -> None:
    files = [f"/Media/Music/{artist}/{album}/1.flac" for artist in "abc" for album in "xy"]
    roots = ["/Media/Music/"]
    assert len(sections.folders_of(files, roots, limit=6)) == 6
    assert sections.folders_of(files, roots, limit=5) == ["/Media/Music/a", "/Media/Music/b", "/Media/Music/c"]
    assert sections.folders_of(files, roots, limit=2) == ["/Media/Music"]
    assert sections.folders_of([*files, "/Media/Music/0.flac"], roots, limit=50) == ["/Media/Music"]
    assert sections.folders_of([], roots, limit=5) == []


def counted(done: int, total: int) -> Counters:
    return Counters((1,), total, 0, total, 0, total, total, total, done, 0, done, done)


def minute(number: int, done: int, cpu: float, read: int) -> Sample:
    """A sample after so many minutes; `cpu` seconds and `read` bytes of the analyzer since it began."""
    workers = (
        Process(pid=7, kind="music_analyzer", cpu_seconds=cpu, started=1.0, read_bytes=read),
        Process(pid=8, kind="transcoder", cpu_seconds=0.0, started=1.0, read_bytes=0),
    )
    return Sample(at=60.0 * number, answered=True, processes=workers, counters=counted(done, 1000))


def test_an_analysis_that_computes_all_the_time_is_bound_by_the_processor() -> None:
    told = sonic.forecast([minute(n, 10 * n, 58.0 * n, 50_000_000 * n) for n in range(31)], hourly_price=0.4)
    assert told is not None
    assert told.bound == "cpu"
    assert told.per_minute == pytest.approx(10.0)
    assert told.seconds_left == pytest.approx(70 * 60)
    assert told.price_left == pytest.approx(0.4 * 70 / 60)
    words = told.words("EUR", 4)
    assert "700 tracks at 10.0/min take 1.2 h more, 0.47 EUR" in words
    assert "cpu-bound" in words


def test_an_analysis_that_waits_for_its_media_is_bound_by_the_network() -> None:
    told = sonic.forecast([minute(n, n, 6.0 * n, 1_000_000 * n) for n in range(31)], hourly_price=0.0)
    assert told is not None
    assert told.bound == "network"
    assert "EUR" not in told.words("EUR", 0)


def test_without_a_track_there_is_no_forecast() -> None:
    assert sonic.forecast([minute(n, 5, 58.0 * n, 0) for n in range(31)], hourly_price=1.0) is None
    assert sonic.forecast([], hourly_price=1.0) is None
