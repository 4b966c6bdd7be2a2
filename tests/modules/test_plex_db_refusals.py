"""What must never come home, as a playbook meets it: each refused with the right words, home's files untouched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair, snapshot

from tests.modules.runner import run_module
from tests.unit.plex_db import building


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = building.make_library(tmp_path / "home")
    snapshot.take(home, tmp_path / "base", "home", "1.43.4.100-abc")
    return home


def bring(base: Path, *statements: tuple[Any, ...]) -> Path:
    """What came back after these statements, with its manifest."""
    back = base.parent / "back"
    shutil.copytree(base, back)
    if statements:
        building.write(back / pair.LIBRARY, *statements)
        (back / pair.MANIFEST).write_text(json.dumps(manifest.build(back, "indexer", "1.43.4.100-abc")))
    return back


def a_mount_dead_during_the_scan(base: Path) -> Path:
    return bring(
        base,
        ("UPDATE media_parts SET deleted_at = 5 WHERE id <= 10",),
        ("UPDATE metadata_items SET deleted_at = 5 WHERE id <= 10",),
    )


def a_section_emptied(base: Path) -> Path:
    return bring(base, ("DELETE FROM metadata_items WHERE id = 5000",), ("DELETE FROM media_parts WHERE id = 5000",))


def a_truncated_file(base: Path) -> Path:
    back = bring(base)
    with (back / pair.LIBRARY).open("r+b") as stream:
        stream.truncate(100_000)
    return back


def an_older_database(base: Path) -> Path:
    back = bring(base)
    building.write(base / pair.LIBRARY, ("UPDATE metadata_items SET changed_at = 900 WHERE id = 4",))
    (base / pair.MANIFEST).write_text(json.dumps(manifest.build(base, "home", "1.43.4.100-abc")))
    return back


def a_newer_schema(base: Path) -> Path:
    return bring(base, ("INSERT INTO schema_migrations(version, min_version) VALUES('999', '1.99.0.1-x')",))


def no_blobs(base: Path) -> Path:
    back = bring(base)
    (back / pair.BLOBS).unlink()
    return back


def a_pair_of_two_moments(base: Path) -> Path:
    back = bring(base)
    building.write(back / pair.BLOBS, building.vector(9))
    return back


@pytest.mark.parametrize(
    ("accident", "code", "words"),
    [
        (a_mount_dead_during_the_scan, "trashed_present", "although the remote still has them"),
        (a_section_emptied, "items_gone", "1 of 1 movies of section 'Movies' are gone: Title 5000 (id 5000)"),
        (a_truncated_file, "truncated", "is truncated: expected"),
        (an_older_database, "older", "The database is older than what went out"),
        (a_newer_schema, "schema_newer", "It needs Plex 1.99.0.1-x or newer, home runs 1.43.4.100-abc"),
        (no_blobs, "missing", "found no com.plexapp.plugins.library.blobs.db"),
        (a_pair_of_two_moments, "mixed", "the two come from different moments"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_it_is_refused_with_the_right_words_and_home_is_untouched(
    home: Path, tmp_path: Path, accident: Callable[[Path], Path], code: str, words: str
) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir()}
    back = accident(tmp_path / "base")
    listing = tmp_path / "listing"
    files = [[f"/Media/Music/A/B/{number:04d}.flac", 1] for number in range(1, 11)]
    lines: list[Any] = [{"listing": 1, "roots": ["/Media"], "made_at": ""}, *files, {"files": len(files)}]
    listing.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run_module(
        "plex_db_check",
        {
            "dir": str(back),
            "base_dir": str(tmp_path / "base"),
            "base_manifest": str(tmp_path / "base" / pair.MANIFEST),
            "listing": str(listing),
            "findings": str(tmp_path / "findings.json"),
        },
    )
    assert result["failed"]
    assert code in [problem["code"] for problem in result["problems"]]
    assert words in result["msg"]
    assert json.loads((tmp_path / "findings.json").read_text())["problems"] == result["problems"]
    assert {path.name: path.read_bytes() for path in home.iterdir()} == before
    assert back.is_dir()


def test_a_damaged_pair_is_refused_and_repaired_only_when_asked(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "Plex SQLite"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{building.REPO}" exec "{sys.executable}" -m sandbox.plex.sqlite "$@"\n')
    script.chmod(0o700)
    library = home / pair.LIBRARY
    data = library.read_bytes()
    place = data.index(b"/Media/Music/A/B/0004.flac") // 1024 * 1024
    library.write_bytes(data[:place] + b"\xee" * 1024 + data[place + 1024 :])
    before = library.read_bytes()
    arguments = {"dir": str(home), "with_manifest": False, "depth": "full", "plex_sqlite": [str(script)]}
    refused = run_module("plex_db_check", arguments)
    assert refused["failed"]
    assert {problem["code"] for problem in refused["problems"]} <= {"integrity", "unreadable"}
    arguments |= {"repair": True, "repair_dir": str(tmp_path / "repaired"), "base_dir": str(tmp_path / "base")}
    assert run_module("plex_db_check", arguments, check=True)["changed"]
    assert not (tmp_path / "repaired").exists()
    repaired = run_module("plex_db_check", arguments)
    assert (repaired["changed"], repaired["repaired"]) == (True, str(tmp_path / "repaired")), repaired
    assert "lost" in repaired["warnings_found"][0]
    assert library.read_bytes() == before
