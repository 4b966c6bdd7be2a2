"""The watched tasks through ansible-playbook: action plugins, module transfer, progress lines, verdicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modules.plex_simulator import Simulator, make_template, simulator
from tests.modules.runner import run_module

pytestmark = pytest.mark.playbook
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def plex(tmp_path: Path) -> Iterator[Simulator]:
    """A ready, claimed, quiet server."""
    make_template(tmp_path / "template")
    with simulator(tmp_path / "template", tmp_path / "plex") as made:
        made.start()
        ready = run_module("plex_wait_ready", {**made.connection(), "deadline": 30, "poll": 0.2})
        assert not ready["failed"], ready
        token = run_module(
            "plex_account",
            {"state": "claim_token", "token_file": str(made.token_file), "plex_tv_url": made.plextv_url},
        )["claim_token"]
        run_module("plex_claim", {**made.connection(), "claim_token": token, "name": "plexburst test"})
        run_module("plex_preferences", {**made.connection(), "quiet": True, "quiet_butler": True})
        yield made


def play(plex: Simulator, tasks: list[dict[str, Any]], *, check: bool = False) -> tuple[int, str, dict[str, Any]]:
    """Run tasks on the simulator's machine; exit code, output, and the last task's result."""
    folder = plex.folder
    result = folder / "result.json"
    last = {"ansible.builtin.copy": {"content": "{{ out | to_json }}", "dest": str(result), "mode": "0600"}}
    tasks = [*tasks, {"name": "Keep the result", **last, "when": "out is defined", "check_mode": False}]
    playbook = folder / "play.yml"
    playbook.write_text(json.dumps([{"hosts": "indexer", "gather_facts": False, "tasks": tasks}]))
    inventory = folder / "hosts.json"
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory.write_text(json.dumps({"all": {"hosts": {"indexer": host}}}))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", str(inventory), str(playbook)),
            *(["--check"] if check else []),
        ],
        cwd="/",
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"),
            "ANSIBLE_HOME": str(folder / ".ansible"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, json.loads(result.read_text()) if result.exists() else {}


def watched(plex: Simulator, name: str, **args: Any) -> dict[str, Any]:
    """One watched task with the sandbox profile."""
    return {
        "name": f"Run {name}",
        f"plexburst.core.{name}": {**plex.place(), "profile": "sandbox", "run_dir": str(plex.folder), **args},
        "register": "out",
        "ignore_errors": True,
    }


def test_a_scan_is_watched_to_its_end_with_a_line_and_a_sample(plex: Simulator) -> None:
    code, output, result = play(plex, [watched(plex, "plex_scan", section="Music")])
    assert code == 0, output
    assert result["changed"]
    assert result["watched"]["state"] == "complete"
    assert result["settled"]["state"] == "complete"
    assert result["after"]["items"] > result["before"]["items"]
    assert "[indexer] scan Music" in output
    assert "watch" not in result
    samples = (plex.folder / "samples.jsonl").read_text().splitlines()
    assert all(json.loads(line)["task"] in ("scan", "stabilise") for line in samples)

    _, _, again = play(plex, [watched(plex, "plex_scan", section="Music")])
    assert again["watched"]["state"] == "complete"
    assert again["changed"] is False


def test_check_mode_starts_and_watches_nothing(plex: Simulator) -> None:
    code, output, result = play(plex, [watched(plex, "plex_scan", section="Music")], check=True)
    assert code == 0, output
    assert result["changed"]
    assert "watched" not in result
    assert not (plex.folder / "samples.jsonl").exists()


def test_a_mount_that_dies_is_named_and_nothing_is_lost(plex: Simulator) -> None:
    place = plex.place()
    plex.bucket.rename(plex.folder / "away")  # the mount is gone: paths list nothing, files do not open
    plex.bucket.mkdir()
    _, output, result = play(plex, [watched(plex, "plex_scan", section="Movies")])
    assert result["failed"], output
    assert "refused" in result["msg"]
    info = run_module("plex_info", {**plex.connection(), "database_dir": place["database_dir"]})
    movies = next(section["id"] for section in info["sections"] if section["title"] == "Movies")
    assert info["counters"][str(movies)]["items_trashed"] == 0


def test_a_mount_that_is_dead_only_for_plex_is_proved_by_what_it_trashed(plex: Simulator) -> None:
    # The probe reads the files, Plex does not: it trashes them all, and that they can be read is the proof.
    plex.faults(mount_dead=True)
    _, output, result = play(plex, [watched(plex, "plex_scan", section="Movies")])
    plex.faults()
    assert result["failed"], output
    assert "although they can be read" in result["msg"]
    assert result["trashed_but_readable"]


def test_sonic_runs_to_the_last_track_and_then_in_no_time(plex: Simulator) -> None:
    code, output, result = play(
        plex,
        [
            watched(plex, "plex_scan", section="Music"),
            watched(plex, "plex_analyze", section="Music"),
            watched(plex, "plex_sonic"),
        ],
    )
    assert code == 0, output
    assert result["sonic"]["verdict"] == "complete", output
    assert result["sonic"]["after"] == result["sonic"]["total"] > result["sonic"]["before"]
    assert result["left"] == []
    assert "tracks" in output
    _, output, again = play(plex, [watched(plex, "plex_sonic")])
    assert again["sonic"]["verdict"] == "already_complete"
    assert again["changed"] is False
    assert "[indexer] sonic" not in output


def test_a_track_that_cannot_be_decoded_is_listed_with_its_cause(plex: Simulator) -> None:
    broken = next(path for path in sorted(plex.bucket.rglob("*")) if path.suffix in (".flac", ".mp3", ".m4a", ".ogg"))
    before = broken.stat()
    broken.write_bytes(b"\0" * before.st_size)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    quick = {"profile_overrides": {"max_failed_percent": 10, "start_within": 4}}
    _, output, result = play(plex, [watched(plex, "plex_sonic", **quick)])
    missing = [entry for entry in result["left"] if entry["cause"] == "file_missing"]
    failed = [entry for entry in result["left"] if entry["cause"] == "failed"]
    assert missing or failed, output
    assert result["sonic"]["verdict"] in ("tracks_failing", "queue_empty_incomplete"), output
    assert result["sonic"]["after"] + len(result["left"]) == result["sonic"]["total"]
    assert result["watched"]["restarts"] >= 1


def test_a_frozen_counter_is_not_waited_for_for_ever(plex: Simulator) -> None:
    plex.faults(sonic_stuck=True)
    hasty = {"profile_overrides": {"named_after": 3, "stall_after": 4, "restarts": 1, "start_within": 4}}
    _, output, result = play(plex, [watched(plex, "plex_sonic", **hasty)])
    plex.faults()
    assert result["failed"], output
    assert result["watched"]["state"] == "stalled"
    assert result["watched"]["steps"] == ["start_again"]
    assert "No track got Sonic data" in result["msg"]
