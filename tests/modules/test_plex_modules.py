"""The Plex modules against a real simulated server: HTTP, SQLite, processes and media files of its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modules.plex_simulator import Simulator, make_template, simulator
from tests.modules.runner import run_module


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plex-template")
    make_template(folder)
    return folder


@pytest.fixture
def fresh(template: Path, tmp_path: Path) -> Iterator[Simulator]:
    """plex.tv runs, Plex does not yet."""
    with simulator(template, tmp_path / "plex") as made:
        yield made


@pytest.fixture(scope="module")
def claimed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A ready, claimed server that many tests look at and none damages."""
    with simulator(template, tmp_path_factory.mktemp("claimed")) as made:
        made.start()
        claim(made)
        yield made


def claim(plex: Simulator) -> dict[str, Any]:
    ready = run_module("plex_wait_ready", {**plex.connection(), "deadline": 30, "poll": 0.2})
    assert not ready["failed"], ready
    token = account(plex, state="claim_token")["claim_token"]
    return run_module("plex_claim", {**plex.connection(), "claim_token": token, "name": "plexburst test-run"})


def account(plex: Simulator, **args: Any) -> dict[str, Any]:
    return run_module("plex_account", {"token_file": str(plex.token_file), "plex_tv_url": plex.plextv_url, **args})


def quiet(plex: Simulator) -> dict[str, Any]:
    return run_module("plex_preferences", {**plex.connection(), "quiet": True, "quiet_butler": True})


# ------------------------------------------------------------------------------------------------- plex_wait_ready


def test_maintenance_is_waited_for_and_every_try_is_kept(fresh: Simulator) -> None:
    fresh.faults(maintenance=1.5)
    fresh.start()
    result = run_module(
        "plex_wait_ready",
        {**fresh.connection(), "deadline": 20, "poll": 0.2, "expect_sections": 4, "expect_claimed": False},
    )
    assert not result["failed"], result
    assert result["tries"][0]["http_status"] == 503
    assert "Maintenance" in result["tries"][0]["body"]
    assert len(result["sections"]) == 4
    assert result["plex_pass"] is False


def test_maintenance_past_the_deadline_fails_with_the_time_the_status_and_the_log(fresh: Simulator) -> None:
    fresh.faults(maintenance="forever")
    fresh.start()
    log = ["sh", "-c", "echo database disk image is malformed; echo last line"]
    result = run_module("plex_wait_ready", {**fresh.connection(), "deadline": 1, "poll": 0.2, "log_command": log})
    assert result["failed"]
    assert "not ready after 1 s" in result["msg"]
    assert "HTTP 503" in result["msg"]
    assert "maintenance" in result["msg"].lower()
    assert result["log_tail"] == ["database disk image is malformed", "last line"]


def test_nobody_there_is_said_as_no_answer(fresh: Simulator) -> None:
    result = run_module("plex_wait_ready", {**fresh.connection(), "deadline": 0.5, "poll": 0.2})
    assert result["failed"]
    assert "no answer" in result["msg"]


def test_too_few_sections_are_not_ready(claimed: Simulator) -> None:
    result = run_module("plex_wait_ready", {**claimed.connection(), "deadline": 0.5, "poll": 0.2, "expect_sections": 9})
    assert result["failed"]
    assert "4 sections, expected 9" in result["msg"]


# ------------------------------------------------------------------------------------------- plex_claim, plex_account


def test_a_server_is_claimed_named_signed_out_and_removed(fresh: Simulator) -> None:
    fresh.faults(token_late=1.0)
    fresh.start()
    done = claim(fresh)
    assert done["changed"], done
    assert "PlexOnlineToken" in fresh.preferences.read_text(encoding="utf-8")
    listed = account(fresh, state="devices")["devices"]
    assert [device["name"] for device in listed] == ["plexburst test-run"]
    assert "token" not in json.dumps(listed)
    assert done["previous_name"] == ""
    again = run_module("plex_claim", {**fresh.connection(), "claim_token": "claim-unused"})
    assert not again["failed"]
    assert again["changed"] is False
    assert again["previous_name"] == "plexburst test-run"

    given_back = {**fresh.connection(), "state": "unclaimed", "name_after": "the workstation upstairs"}
    out = run_module("plex_claim", given_back)
    assert out["changed"], out
    assert "the workstation upstairs" in fresh.preferences.read_text(encoding="utf-8")
    assert not run_module("plex_claim", given_back)["changed"]
    listed = account(fresh, state="devices")["devices"]
    assert [device["name"] for device in listed] == ["plexburst test-run"]  # by which the run finds what to remove
    who = {"state": "device_absent", "machine_identifier": done["machine_identifier"]}
    account(fresh, **who)
    gone = account(fresh, **who)
    assert gone["changed"] is False
    assert account(fresh, state="devices")["devices"] == []


def test_a_refused_claim_names_the_four_minutes_and_not_the_token(fresh: Simulator) -> None:
    fresh.faults(unclaimable=True)
    fresh.start()
    result = claim(fresh)
    assert result["failed"]
    assert "4 minutes" in result["msg"]
    assert not any(word.startswith("claim-") for word in json.dumps(result).replace('"', " ").split())


def test_a_wrong_account_token_names_its_file(fresh: Simulator) -> None:
    fresh.token_file.write_text("nonsense", encoding="utf-8")
    other = fresh.folder / "other-token"
    other.write_text("wrong-token-0000000000")
    other.chmod(0o600)
    result = run_module("plex_account", {"state": "devices", "token_file": str(other), "plex_tv_url": fresh.plextv_url})
    assert result["failed"]
    assert str(other) in result["msg"]
    assert "wrong-token" not in json.dumps(result).replace(str(other), "")


# ------------------------------------------------------------------------------------------------- plex_preferences


def test_quiet_is_read_back_idempotent_and_can_be_restored(fresh: Simulator) -> None:
    fresh.start()
    claim(fresh)
    looked = run_module(
        "plex_preferences", {**fresh.connection(), "quiet": True, "quiet_butler": True}, check=True, diff=True
    )
    assert looked["changed"]
    assert looked["diff"]["before"]["autoEmptyTrash"] is True
    first = quiet(fresh)
    assert first["changed"]
    assert first["previous"] == looked["previous"]
    assert first["after"]["autoEmptyTrash"] is False
    assert quiet(fresh)["changed"] is False
    back = run_module("plex_preferences", {**fresh.connection(), "settings": first["previous"]})
    assert back["after"] == first["previous"]


def test_an_unknown_preference_is_an_error_with_the_right_name(claimed: Simulator) -> None:
    # Facts 1.9: AutoScan and GenerateChapterBehavior never existed; Plex answers 200 all the same.
    result = run_module("plex_preferences", {**claimed.connection(), "settings": {"GenerateChapterBehavior": "never"}})
    assert result["failed"]
    assert "GenerateChapterThumbBehavior" in result["msg"]
    allowed = run_module(
        "plex_preferences", {**claimed.connection(), "settings": {"AutoScan": False}, "optional": ["AutoScan"]}
    )
    assert allowed["missing"] == ["AutoScan"]
    assert allowed["changed"] is False


# --------------------------------------------------------------------------------------------- plex_info, plex_sample


def test_info_counts_as_the_database_does(claimed: Simulator) -> None:
    result = run_module("plex_info", {**claimed.connection(), "database_dir": str(claimed.databases)})
    assert not result["failed"], result
    assert result["sonic"] == {"supported": True, "problems": []}
    music = next(section for section in result["sections"] if section["type"] == "artist")
    with sqlite3.connect(f"file:{claimed.databases}/com.plexapp.plugins.library.db?mode=ro", uri=True) as db:
        tracks = db.execute("SELECT COUNT(*) FROM media_parts WHERE file LIKE '/Media/Music/%'").fetchone()[0]
    assert result["counters"][str(music["id"])]["parts"] == tracks > 0


def test_without_plex_pass_sonic_is_refused_in_words(fresh: Simulator) -> None:
    fresh.faults(no_plex_pass=True)
    fresh.start()
    claim(fresh)
    result = run_module("plex_sonic", {**fresh.place(), "step": "start"})
    assert result["failed"]
    assert "Plex Pass" in result["msg"]


def test_a_sample_sees_the_server_its_sections_and_the_mount(claimed: Simulator) -> None:
    result = run_module("plex_sample", {**claimed.place(), "sections": [1], "probe_section": 1, "times": 2, "gap": 0.1})
    first, second = result["samples"]
    assert first["answered"]
    assert first["mount"]["ok"]
    assert first["counters"]["items"] == second["counters"]["items"] > 0
    assert [entry["kind"] for entry in first["processes"]] == ["server"]
    assert second["at"] > first["at"]


def test_a_sample_of_a_silent_server_says_so_and_is_no_failure(fresh: Simulator) -> None:
    result = run_module("plex_sample", {**fresh.place(), "sections": [1]})
    sample = result["samples"][0]
    assert not result["failed"]
    assert sample["answered"] is False
    assert sample["processes_error"]


# ------------------------------------------------------------------------------------------------------- plex_scan


def test_a_start_module_without_its_plugin_starts_nothing(claimed: Simulator) -> None:
    for name, more in (("plex_scan", {"section": "Music"}), ("plex_analyze", {"section": "Music"}), ("plex_sonic", {})):
        result = run_module(name, {**claimed.place(), **more})
        assert result["failed"]
        assert "action plugin" in result["msg"]


def test_a_scan_is_refused_while_the_trash_empties_itself(fresh: Simulator) -> None:
    fresh.start()
    claim(fresh)
    result = run_module("plex_scan", {**fresh.place(), "section": "Music", "step": "start"})
    assert result["failed"]
    assert "autoEmptyTrash" in result["msg"]
    assert "allowMediaDeletion" in result["msg"]


def test_a_scan_is_refused_on_an_empty_mountpoint(fresh: Simulator) -> None:
    fresh.start()
    claim(fresh)
    quiet(fresh)
    empty = fresh.folder / "empty"
    empty.mkdir()
    place = {**fresh.place(), "path_map": [{"path": "/Media", "host": str(empty)}]}
    result = run_module("plex_scan", {**place, "section": "Movies", "step": "start"})
    assert result["failed"]
    assert "deleted" in result["msg"]
    assert result["error"] == "PreconditionRefused"


def test_an_unknown_section_is_named_with_what_there_is(claimed: Simulator) -> None:
    result = run_module("plex_scan", {**claimed.place(), "section": "Musik", "step": "start"})
    assert result["failed"]
    assert "Music (1)" in result["msg"]


def test_check_mode_of_a_scan_looks_and_starts_nothing(fresh: Simulator) -> None:
    fresh.start()
    claim(fresh)
    quiet(fresh)
    before = run_module("plex_info", {**fresh.connection(), "database_dir": str(fresh.databases)})
    result = run_module("plex_scan", {**fresh.place(), "section": "Music", "step": "start"}, check=True)
    assert result["changed"], result
    after = run_module("plex_info", {**fresh.connection(), "database_dir": str(fresh.databases)})
    assert before["counters"] == {
        k: {**v, "seconds": before["counters"][k]["seconds"]} for k, v in after["counters"].items()
    }


def test_status_says_what_a_quiet_server_does(claimed: Simulator) -> None:
    seen = run_module("plex_status", {**claimed.place(), "profile": "sandbox", "gap": 0.3})
    assert not seen["failed"], seen
    assert seen["task"] == "nothing"
    assert (seen["verdict"]["state"], seen["verdict"]["reason"]) == ("idle", "nothing_runs")
    assert {section["title"] for section in seen["sections"]} >= {"Music", "Movies"}
    assert seen["sample"]["mount"]["ok"]


def test_status_of_a_server_that_is_not_there_says_so(fresh: Simulator) -> None:
    fresh.stop()
    seen = run_module("plex_status", {**fresh.place(), "profile": "sandbox", "samples": 1, "timeout": 2})
    assert not seen["failed"], seen
    assert not seen["sample"]["answered"]
    assert seen["sample"]["problem"]


def test_status_before_there_is_a_database_is_a_sentence(claimed: Simulator) -> None:
    seen = run_module("plex_status", {**claimed.place(), "database_dir": "/nowhere/at/all"})
    assert seen["failed"]
    assert "/nowhere/at/all" in seen["msg"]


def test_info_names_what_this_server_cannot_scan_and_a_processor_without_sonic(claimed: Simulator) -> None:
    info = run_module("plex_info", {**claimed.connection(), "processor": "aarch64"})
    assert {section["foreign"] for section in info["sections"]} == {""}
    assert info["sonic"]["problems"] == ["Plex has no Sonic analysis for the processor aarch64, only for x86-64"]


def test_quiet_keeps_sonic_from_starting_by_itself(claimed: Simulator) -> None:
    run_module("plex_preferences", {**claimed.connection(), "settings": {"MusicAnalysisBehavior": "asap"}})
    told = quiet(claimed)
    assert told["previous"]["MusicAnalysisBehavior"] == "asap"
    assert told["after"]["MusicAnalysisBehavior"] == "scheduled"
