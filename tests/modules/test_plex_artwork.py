"""The module that packs and lays Plex's picture files, as a playbook meets it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.modules.runner import run_module
from tests.unit.plex_db import building
from tests.unit.plex_db.artwork import COVER, FRAME, UPLOAD, lay, tree
from tests.unit.plex_db.test_artwork import album

LATER = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 10_000))


@pytest.fixture
def indexer(tmp_path: Path) -> dict[str, Any]:
    """An indexer that had one picture before and has found an album since; the arguments of `packed`."""
    support = lay(tmp_path / "indexer", {FRAME: b"before"})
    base = building.make_library(tmp_path / "base")
    result = building.make_library(tmp_path / "result")
    run_module(
        "plex_artwork", {"state": "listed", "support_dir": str(support), "before": str(tmp_path / "before.json")}
    )
    lay(support, {COVER: b"cover"})
    building.write(
        result / building.LIBRARY,
        album(7001, "metadata://posters/agent_1"),
        album(7002, "metadata://posters/nowhere", "def"),
    )
    return {
        "state": "archived",
        "support_dir": str(support),
        "archive": str(tmp_path / "archive"),
        "before": str(tmp_path / "before.json"),
        "result": str(result),
        "base": str(base),
    }


def merging(tmp_path: Path, **more: Any) -> dict[str, Any]:
    arguments = {"state": "installed", "archive": str(tmp_path / "archive"), "support_dir": str(tmp_path / "home")}
    return {**arguments, "unchanged_since": LATER, **more}


def test_a_new_cover_comes_home_and_check_mode_says_so_before(indexer: dict[str, Any], tmp_path: Path) -> None:
    home = lay(tmp_path / "home", {UPLOAD: b"mine"})
    said = run_module("plex_artwork", indexer, check=True)
    assert not (tmp_path / "archive").exists()
    packed = run_module("plex_artwork", indexer)
    keys = ("changed", "files", "bytes", "references", "unresolved", "skipped")
    assert [said[key] for key in keys] == [packed[key] for key in keys] == [True, 1, 5, 1, 1, 0]
    assert "metadata://posters/nowhere" in packed["warnings_of_artwork"][0]
    assert run_module("plex_artwork", indexer)["changed"] is False
    known = run_module("plex_artwork", {"state": "inspected", "archive": str(tmp_path / "archive")})
    assert (known["present"], known["no_space"]) == (packed["parts"], "")
    assert known["description_sha256"] == packed["description_sha256"]
    checked = run_module("plex_artwork", merging(tmp_path, consume=True), check=True)
    assert tree(home) == {UPLOAD: b"mine"}
    done = run_module("plex_artwork", merging(tmp_path))
    assert done["merged"] == checked["merged"]
    assert (done["changed"], done["merged"]["added"], done["bytes"]) == (True, 1, 5)
    assert tree(home) == {UPLOAD: b"mine", COVER: b"cover"}
    again = run_module("plex_artwork", merging(tmp_path, consume=True))
    assert (again["changed"], again["merged"]["same"]) == (False, 1)
    assert list((tmp_path / "archive").iterdir()) == []


def test_a_list_is_written_once(indexer: dict[str, Any]) -> None:
    arguments = {"state": "listed", "support_dir": indexer["support_dir"], "before": indexer["before"]}
    assert run_module("plex_artwork", arguments, check=True)["changed"] is True
    assert run_module("plex_artwork", arguments)["files"] == 2
    assert run_module("plex_artwork", arguments)["changed"] is False


def test_without_the_pair_that_went_out_every_reference_counts(indexer: dict[str, Any], tmp_path: Path) -> None:
    (Path(indexer["base"]) / building.LIBRARY).unlink()
    assert run_module("plex_artwork", indexer)["references"] == 1


def test_what_would_be_missing_at_home_is_told_with_the_next_step(indexer: dict[str, Any], tmp_path: Path) -> None:
    support = Path(indexer["support_dir"])
    lay(support, {UPLOAD: b"of the indexer"})
    building.write(Path(indexer["result"]) / building.LIBRARY, album(7003, "upload://posters/mine"))
    run_module("plex_artwork", indexer)
    (tmp_path / "home").mkdir()
    done = run_module("plex_artwork", merging(tmp_path))
    assert done["failed"]
    assert "upload://posters/mine (metadata_items 7003, user_thumb_url" in done["msg"]
    assert "recover.yml" in done["msg"]
    assert tree(tmp_path / "home") == {}


def test_the_bundles_of_a_section_are_measured(indexer: dict[str, Any]) -> None:
    databases = Path(indexer["result"])
    building.write(databases / building.LIBRARY, ("UPDATE metadata_items SET library_section_id = 1 WHERE id = 7001",))
    arguments = {"state": "measured", "support_dir": indexer["support_dir"], "databases_dir": str(databases)}
    measured = run_module("plex_artwork", {**arguments, "sections": ["Music"]})
    assert (measured["changed"], measured["files"], measured["bytes"]) == (False, 1, 5)
    assert run_module("plex_artwork", arguments)["files"] == 2
    assert "found Movies, Music" in run_module("plex_artwork", {**arguments, "sections": ["Musik"]})["msg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unchanged_since": "yesterday"}, "found 'yesterday'"),
        ({}, "Expected the description of packed artwork at"),
    ],
)
def test_what_cannot_be_laid_is_told_in_a_sentence(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    done = run_module("plex_artwork", merging(tmp_path, **arguments))
    assert done["failed"]
    assert done["msg"].startswith("The artwork could not be installed. ")
    assert words in done["msg"]


def test_an_archive_is_removed_and_nothing_else_in_its_folder(indexer: dict[str, Any], tmp_path: Path) -> None:
    run_module("plex_artwork", indexer)
    (tmp_path / "archive" / "note.txt").write_text("mine")
    arguments = {"state": "absent", "archive": str(tmp_path / "archive")}
    assert run_module("plex_artwork", arguments, check=True)["changed"] is True
    assert run_module("plex_artwork", arguments)["changed"] is True
    assert [path.name for path in (tmp_path / "archive").iterdir()] == ["note.txt"]
    assert run_module("plex_artwork", arguments)["changed"] is False
