"""Modification times: home, indexer and database agree, or the run stops with words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, reader
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import mtimes

from tests.unit.plex_db import building

T = 1_700_000_000


def sampled(count: int = 10, title: str = "Music", updated_at: int | None = T) -> list[dict[str, Any]]:
    return [
        {"section": 1, "title": title, "path": f"/{title}/{n}", "size": 5, "updated_at": updated_at}
        for n in range(count)
    ]


def seen(files: list[dict[str, Any]], mtime: float) -> dict[str, dict[str, Any]]:
    return {entry["path"]: {"mtime": mtime, "size": 5} for entry in files}


def test_the_same_times_everywhere_are_no_problem() -> None:
    files = sampled()
    verdict = mtimes.judge(files, seen(files, T + 0.4), seen(files, T + 1))
    assert (verdict.problems, verdict.notes) == ([], [])


def test_other_times_on_the_indexer_stop_the_run_whatever_the_database_holds() -> None:
    for updated_at in (T, T + 9999, None):
        files = sampled(updated_at=updated_at) + sampled(title="Movies", updated_at=updated_at)
        there = seen(files, T) | {entry["path"]: {"mtime": T + 500.0, "size": 5} for entry in files[:10]}
        verdict = mtimes.judge(files, seen(files, T), there)
        assert len(verdict.problems) == 1
        assert (
            "Music: 10 of 10 sampled files have another modification time on the indexer (1700000500) than at home"
            in (verdict.problems[0])
        )


def test_a_file_or_two_replaced_since_are_no_reason_to_stop() -> None:
    files = sampled(20)
    there = seen(files, T) | {files[0]["path"]: {"mtime": 1.0, "size": 5}}
    assert mtimes.judge(files, seen(files, T), there).problems == []


def test_a_column_that_holds_something_else_is_told_and_no_problem() -> None:
    files = sampled(updated_at=T + 86_400)
    verdict = mtimes.judge(files, seen(files, T), seen(files, T))
    assert verdict.problems == []
    assert "is not the files' modification time" in verdict.notes[0]


def test_a_home_that_cannot_be_seen_is_told() -> None:
    files = sampled()
    assert [len(part) for part in _parts(mtimes.judge(files, {}, seen(files, T)))] == [0, 1]
    assert [len(part) for part in _parts(mtimes.judge(files, {}, seen(files, T + 500)))] == [0, 2]


def _parts(verdict: mtimes.Verdict) -> tuple[list[str], list[str]]:
    return verdict.problems, verdict.notes


def test_nothing_on_the_indexer_is_told() -> None:
    files = sampled()
    assert "none of 10 sampled files is on the indexer" in mtimes.judge(files, seen(files, T), {}).notes[0]


def test_a_sample_is_spread_over_each_section(tmp_path: Path) -> None:
    library = building.make_library(tmp_path / "pair", tracks=100)
    building.write(library / building.LIBRARY, ("UPDATE media_parts SET updated_at = 7, deleted_at = 1 WHERE id < 50",))
    with reader.open_closed(library / pair.LIBRARY) as connection:
        found = mtimes.sample(connection, 4)
        assert mtimes.sample(connection, 0) == []
    assert [entry["title"] for entry in found] == ["Music"] * 4 + ["Movies"]
    assert found[0]["path"].endswith("0050.flac")
    assert found[3]["path"] > "/Media/Music/A/B/0080.flac"


def test_files_are_looked_at_under_plexs_names(tmp_path: Path) -> None:
    (tmp_path / "it's é.flac").write_text("12345")
    os.utime(tmp_path / "it's é.flac", (T, T))
    real = {"/Media/a": str(tmp_path / "it's é.flac"), "/Media/b": str(tmp_path / "gone")}
    assert mtimes.look(list(real), real, 30) == {"/Media/a": {"mtime": T, "size": 5}}


def test_a_mount_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtimes, "_CHILD", "import time; time.sleep(60)")
    with pytest.raises(PlexDatabaseError, match=r"longer than 0.2 s.*'/Media/a'.*hangs"):
        mtimes.look(["/Media/a"], {"/Media/a": "/x"}, 0.2)


@pytest.mark.parametrize(
    ("commands", "flags"),
    [
        ([["rclone", "mount", "s3:m", "/m", "--use-server-modtime"]], ["--use-server-modtime"]),
        (
            [["/usr/bin/rclone", "mount", "--default-time", "2000-01-01", "s3:m", "/m"]],
            ["--default-time", "2000-01-01"],
        ),
        ([["rclone", "mount", "--default-time=2000-01-01", "s3:m", "/m"]], ["--default-time=2000-01-01"]),
        ([["rclone", "mount", "s3:m", "/m"], [sys.executable, "--no-modtime"]], []),
        ([["rclone", "sync", "--no-modtime", "a", "b"]], []),
        ([["rclone", "mount", "a", "b", "--no-modtime"], ["rclone", "mount", "c", "d"]], []),
    ],
)
def test_only_what_changes_times_is_taken_from_homes_mount(commands: list[list[str]], flags: list[str]) -> None:
    assert mtimes.mount_flags(commands) == flags
