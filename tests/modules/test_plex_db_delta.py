"""plex_db_delta as a playbook meets it: made here, applied there, and in words when the bases differ."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.modules.runner import run_module
from tests.unit.plex_db import building


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and `result`, two snapshots of one library."""
    root = tmp_path_factory.mktemp("both")
    live = building.make_library(root / "live", tracks=200)
    arguments = {"databases_dir": str(live), "source": "home"}
    run_module("plex_db_snapshot", {**arguments, "dest": str(root / "base")})
    building.write(live / building.LIBRARY, ("UPDATE metadata_items SET extra_data = ? WHERE id < 90", building.SONIC))
    run_module("plex_db_snapshot", {**arguments, "dest": str(root / "result")})
    return root


def files_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())["files"]


def made(both: Path, delta: Path, check: bool = False, **more: Any) -> dict[str, Any]:
    arguments = {"delta": str(delta), "result": str(both / "result"), "base": str(both / "base"), **more}
    return run_module("plex_db_delta", arguments, check=check)


def test_a_delta_is_made_known_applied_and_removed(both: Path, tmp_path: Path) -> None:
    delta, out = tmp_path / "delta", tmp_path / "out"
    first = made(both, delta, other_base=files_of(both / "base"))
    assert (first["changed"], first["whole"]) == (True, False)
    assert first["bytes"] < first["changed_bytes"]
    assert first["description_sha256"] == hashlib.sha256((delta / "delta.json").read_bytes()).hexdigest()
    assert not made(both, delta, other_base=files_of(both / "base"))["changed"]
    known = run_module("plex_db_delta", {"state": "inspected", "delta": str(delta), "base": str(both / "base")})
    assert (known["present"], known["base"]) == (first["parts"], files_of(both / "base"))
    arguments = {"state": "applied", "delta": str(delta), "base": str(both / "base"), "result": str(out)}
    assert run_module("plex_db_delta", arguments, check=True)["changed"]
    assert not out.exists()
    assert run_module("plex_db_delta", arguments)["changed"]
    assert not run_module("plex_db_delta", arguments)["changed"]
    assert (out / building.LIBRARY).read_bytes() == (both / "result" / building.LIBRARY).read_bytes()
    assert not run_module("plex_db_check", {"dir": str(out)})["failed"]
    absent = {"state": "absent", "delta": str(delta)}
    assert run_module("plex_db_delta", absent, check=True)["changed"]
    assert run_module("plex_db_delta", absent)["changed"]
    assert not run_module("plex_db_delta", absent)["changed"]


def test_check_mode_makes_nothing(both: Path, tmp_path: Path) -> None:
    assert made(both, tmp_path / "delta", check=True)["changed"]
    assert not (tmp_path / "delta").exists()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"base": ""}, "no base was given"),
        ({"base": "/nowhere"}, "there is no complete base in /nowhere"),
        ({"other_base": {}}, "the other end has no base"),
        ({"other_base": {building.LIBRARY: {"size": 1, "sha256": "0"}}}, "differs from the other end's base"),
    ],
)
def test_the_whole_pair_travels_when_the_bases_differ_and_says_why(
    both: Path, tmp_path: Path, more: dict[str, Any], why: str
) -> None:
    result = made(both, tmp_path / "delta", **more)
    assert result["whole"]
    assert why in result["words"]
    arguments = {"state": "applied", "delta": str(tmp_path / "delta"), "result": str(tmp_path / "out")}
    assert run_module("plex_db_delta", arguments)["changed"]
    assert (tmp_path / "out" / building.BLOBS).read_bytes() == (both / "result" / building.BLOBS).read_bytes()


def test_a_base_damaged_since_its_manifest_makes_the_whole_pair_travel(both: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "base"
    shutil.copytree(both / "base", damaged)
    with (damaged / building.LIBRARY).open("r+b") as stream:
        stream.seek(50_000)
        stream.write(b"damage")
    result = made(both, tmp_path / "delta", base=str(damaged), other_base=files_of(both / "base"))
    assert result["whole"]
    assert "is damaged" in result["words"]


def test_a_wrong_base_is_told_from_other_failures(both: Path, tmp_path: Path) -> None:
    made(both, tmp_path / "delta")
    arguments = {"state": "applied", "delta": str(tmp_path / "delta"), "result": str(tmp_path / "out")}
    wrong = run_module("plex_db_delta", {**arguments, "base": str(both / "result")})
    assert (wrong["failed"], wrong["wrong_base"]) == (True, True)
    assert "Transfer the whole pair" in wrong["msg"]
    next((tmp_path / "delta").glob("0000-*")).write_bytes(b"short")
    cut = run_module("plex_db_delta", {**arguments, "base": str(both / "base")})
    assert (cut["failed"], cut["wrong_base"]) == (True, False)
    assert "Transfer it again" in cut["msg"]


def test_the_transfer_without_its_action_says_so(tmp_path: Path) -> None:
    result = run_module("plex_db_transfer", {"direction": "upload", "delta": str(tmp_path), "remote": "/x"})
    assert result["failed"]
    assert "plexburst.core.plex_db_transfer" in result["msg"]
