"""The watched tasks through ansible-playbook: action plugins, module transfer, progress lines, verdicts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint_format
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import chain
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder

from tests import ansible_cache
from tests.modules.plex_simulator import ROOT, Simulator, make_template, simulator
from tests.modules.runner import run_module

pytestmark = pytest.mark.playbook
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A claimed, quiet server that is stopped; copied by each test that changes it."""
    folder = tmp_path_factory.mktemp("plex")
    make_template(folder / "seeded")
    with simulator(folder / "seeded", folder / "claimed") as made:
        made.start()
        made.ready()
        token = run_module(
            "plex_account",
            {"state": "claim_token", "token_file": str(made.token_file), "plex_tv_url": made.plextv_url},
        )["claim_token"]
        run_module("plex_claim", {**made.connection(), "claim_token": token, "name": "plexburst test"})
        run_module("plex_preferences", {**made.connection(), "quiet": True, "quiet_butler": True})
    return folder / "claimed"


@contextlib.contextmanager
def server(template: Path, folder: Path) -> Iterator[Simulator]:
    with simulator(template, folder) as made:
        made.start()
        made.ready()
        yield made


@pytest.fixture
def plex(template: Path, tmp_path: Path) -> Iterator[Simulator]:
    """A ready, claimed, quiet server."""
    with server(template, tmp_path / "plex") as made:
        yield made


@pytest.fixture(scope="module")
def still(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """One for tests that start nothing."""
    with server(template, tmp_path_factory.mktemp("still") / "plex") as made:
        yield made


def play(plex: Simulator, tasks: list[dict[str, Any]], *, check: bool = False) -> tuple[int, str, list[dict[str, Any]]]:
    """Run tasks on the simulator's machine; exit code, output, and the result of each task that registers one."""
    folder = plex.folder
    kept = folder / "results.json"
    kept.unlink(missing_ok=True)
    names = []
    for task in tasks:
        if "register" in task:
            task["register"] = f"out_{len(names)}"
            names.append(task["register"])
    keep = {"ansible.builtin.copy": {"content": f"{{{{ [{', '.join(names)}] | to_json }}}}", "dest": str(kept)}}
    if names:
        tasks = [*tasks, {"name": "Keep the results", **keep, "check_mode": False}]
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
            **ansible_cache.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"),
            "ANSIBLE_HOME": str(folder / ".ansible"),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, json.loads(kept.read_text()) if kept.exists() else []


def watched(plex: Simulator, name: str, **args: Any) -> dict[str, Any]:
    """One watched task with the sandbox profile."""
    return {
        "name": f"Run {name}",
        f"plexburst.core.{name}": {**plex.place(), "profile": "sandbox", "run_dir": str(plex.folder), **args},
        "register": "out",
        "ignore_errors": True,
    }


def test_a_scan_is_watched_to_its_end_with_a_line_and_a_sample(plex: Simulator) -> None:
    code, output, (result, again) = play(plex, [watched(plex, "plex_scan", section="Music") for _ in range(2)])
    assert code == 0, output
    assert result["changed"]
    assert result["watched"]["state"] == "complete"
    assert result["settled"]["state"] == "complete"
    assert result["after"]["items"] > result["before"]["items"]
    assert "[indexer] scan Music" in output
    assert "watch" not in result
    samples = (plex.folder / "samples.jsonl").read_text().splitlines()
    assert all(json.loads(line)["task"] in ("scan", "stabilise") for line in samples)
    assert again["watched"]["state"] == "complete"
    assert again["changed"] is False


def test_check_mode_starts_and_watches_nothing(still: Simulator) -> None:
    code, output, (result,) = play(still, [watched(still, "plex_scan", section="Music")], check=True)
    assert code == 0, output
    assert result["changed"]
    assert "watched" not in result
    assert not (still.folder / "samples.jsonl").exists()


def test_a_mount_that_is_gone_is_named_and_nothing_is_lost(still: Simulator) -> None:
    away = still.folder / "away"
    still.bucket.rename(away)  # paths list nothing, files do not open
    still.bucket.mkdir()
    _, output, (result,) = play(still, [watched(still, "plex_scan", section="Movies")])
    still.bucket.rmdir()
    away.rename(still.bucket)
    assert result["failed"], output
    assert "refused" in result["msg"]
    assert counters.read(still.databases, [section_id(still, "Movies")]).items_trashed == 0


def test_a_mount_that_is_dead_only_for_plex_is_proved_by_what_it_trashed(plex: Simulator) -> None:
    # The probe reads the files, Plex does not: it trashes them all, and that they can be read is the proof.
    plex.faults(mount_dead=True)
    _, output, (result,) = play(plex, [watched(plex, "plex_scan", section="Movies")])
    assert result["failed"], output
    assert "but are readable" in result["msg"]
    assert result["trashed_but_readable"]


def test_a_scheduled_task_that_comes_while_scanning_is_stopped_and_the_scan_is_not_repeated(plex: Simulator) -> None:
    plex.faults(butler_due={"DeepMediaAnalysis": 600})
    hasty = {"profile_overrides": {"named_after": 2}}
    code, output, (result,) = play(plex, [watched(plex, "plex_scan", section="Music", **hasty)])
    assert code == 0, output
    assert result["watched"]["state"] == "complete"
    assert (result["settled"]["state"], result["settled"]["steps"]) == ("complete", ["cancel_butler"]), output
    assert "DeepMediaAnalysis" in output
    log = (plex.support / "Logs" / "Plex Media Server.log").read_text()
    assert log.count("will be updated") == 1
    assert log.count("Butler: DeepMediaAnalysis ended") == 1


def test_sonic_runs_to_the_last_track_and_then_in_no_time(plex: Simulator) -> None:
    code, output, (_, _, result, again) = play(
        plex,
        [
            watched(plex, "plex_scan", section="Music"),
            watched(plex, "plex_analyze", section="Music"),
            watched(plex, "plex_sonic"),
            watched(plex, "plex_sonic"),
        ],
    )
    assert code == 0, output
    assert result["sonic"]["verdict"] == "complete", output
    assert result["sonic"]["after"] == result["sonic"]["total"] > result["sonic"]["before"]
    assert result["left"] == []
    assert "tracks" in output
    assert again["sonic"]["verdict"] == "already_complete"
    assert again["changed"] is False
    assert "[indexer] sonic" not in output.rpartition("TASK [")[0].rpartition("TASK [")[2]


def test_a_frozen_counter_is_not_waited_for_and_every_way_of_starting_is_tried_once(plex: Simulator) -> None:
    plex.faults(sonic_stuck=True)
    hasty = {"profile_overrides": {"named_after": 1, "stall_after": 2, "restarts": 0, "start_within": 3}}
    _, output, (result,) = play(plex, [watched(plex, "plex_sonic", **hasty)])
    assert result["failed"], output
    assert (result["watched"]["state"], result["watched"]["reason"]) == ("stalled", "no_progress")
    assert "No track got Sonic data" in result["msg"]
    assert [entry["way"] for entry in result["ways"]] == ["butler", "asap", "section", "albums"]
    assert "Ways tried: butler, asap, section, albums" in result["msg"]
    assert everything(plex)["MusicAnalysisBehavior"] == "scheduled"  # asap was taken back


def hide(folder: Path, file: Path, like: Path) -> None:
    """Put a file into a folder without moving the folder's date: a scan skips it, as folders of S3 never move."""
    before = folder.stat()
    shutil.copy(like, file)
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_that_a_scan_skips_are_found_by_path_and_the_rest_is_listed(plex: Simulator) -> None:
    run_folder = plex.folder / "run"
    run_folder.mkdir()
    film = next(path for path in sorted((plex.bucket / "Movies").rglob("*.mkv")))
    hidden = film.with_name("Hidden Film (1999).mkv")
    hide(film.parent, hidden, film)
    never = f"{ROOT}/Movies/Never/There (2000).mkv"
    new = [f"{ROOT}/{hidden.relative_to(plex.bucket)}", never]
    audit = plex.folder / "audit.json"
    movies = section_id(plex, "Movies")
    audit.write_text(json.dumps({"schema": 1, "sections": [{"id": movies, "title": "Movies", "new": new}]}))
    more = {"expected_file": str(audit), "run_dir": str(run_folder)}
    _, output, (result,) = play(plex, [watched(plex, "plex_scan", section="Movies", **more)])
    assert not result["failed"], output
    assert result["missing"]["after_scan"] == 2, output
    assert result["missing"]["after_paths"] == 1, output
    assert result["missing"]["files"] == [never]
    kept = run_folder / "missing.json"
    assert json.loads(kept.read_text())["Movies"]["files"] == [never]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert never in output


def test_an_expected_file_that_is_none_is_refused_before_anything_starts(still: Simulator) -> None:
    wrong = still.folder / "wrong.json"
    wrong.write_text("[1, 2]")
    _, _, (result,) = play(still, [watched(still, "plex_scan", section="Movies", expected_file=str(wrong))])
    assert result["failed"]
    assert "plex_db_path_audit" in result["msg"]


def test_what_is_analysed_is_read_before_and_counted(plex: Simulator) -> None:
    _, output, (_, result) = play(
        plex,
        [watched(plex, "plex_scan", section="Movies"), watched(plex, "plex_analyze", section="Movies", warm_files=1)],
    )
    told = result["warmed"]
    assert told["read"] == 1, output
    assert told["files"] == told["not_reached"] + 1
    assert "to warm the cache" in output


def test_a_track_that_cannot_be_decoded_is_listed_tried_once_more_when_asked_and_kept_in_the_run(
    plex: Simulator,
) -> None:
    pending = counters.sonic_left(plex.databases, [section_id(plex, "Music")])
    files = [plex.bucket / Path(track.file).relative_to(ROOT) for track in pending]
    broken = next(file for file in files if file.exists())
    good, before = broken.read_bytes(), broken.stat()
    broken.write_bytes(b"\0" * before.st_size)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    quick = {
        "profile_overrides": {"max_failed_percent": 10, "start_within": 2, "restarts": 1},
        "retry_failed": True,
    }
    scan, sonic = watched(plex, "plex_scan", section="Music"), watched(plex, "plex_sonic", **quick)
    _, output, (_, result) = play(plex, [scan, sonic])
    assert result["sonic"]["verdict"] in ("tracks_failing", "queue_empty_incomplete"), output
    assert result["sonic"]["after"] + len(result["left"]) == result["sonic"]["total"]
    assert result["watched"]["steps"] == ["start_again"]
    assert result["retried"] == {"albums": 1, "gained": 0}, output
    kept = json.loads((plex.folder / "sonic_left.json").read_text())["tracks"]
    assert len(kept) == result["left_count"] == 1
    assert kept[0]["cause"] == "failed"
    broken.write_bytes(good)
    os.utime(broken, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, output, (result,) = play(plex, [watched(plex, "plex_sonic", **quick)])
    assert result["sonic"]["after"] == result["sonic"]["total"], output
    assert result["retried"]["gained"] == 1, output


def section_id(plex: Simulator, title: str) -> int:
    """The library's id, from Plex itself."""
    root = ElementTree.fromstring(ask(plex, "/library/sections"))  # noqa: S314  (our own simulator)
    return next(int(entry.attrib["key"]) for entry in root if entry.attrib["title"] == title)


def role(plex: Simulator, **more: Any) -> dict[str, Any]:
    """The role plex_indexing on that server."""
    place = plex.place()
    return {
        "plex_indexing_base_url": place["base_url"],
        "plex_indexing_preferences": place["preferences_file"],
        "plex_indexing_database_dir": place["database_dir"],
        "plex_indexing_scope": place["scope"],
        "plex_indexing_path_map": place["path_map"],
        "plex_indexing_python": sys.executable,
        "plex_indexing_profile": "sandbox",
        "plex_indexing_previous_file": str(plex.folder / "previous.json"),
        **more,
    }


def included(tasks_from: str, variables: dict[str, Any]) -> dict[str, Any]:
    """An include_role task."""
    return {
        "name": f"Role {tasks_from}",
        "ansible.builtin.include_role": {"name": "plexburst.core.plex_indexing", "tasks_from": tasks_from},
        "vars": variables,
    }


def ask(plex: Simulator, path: str) -> str:
    """What Plex answers its owner."""
    token = ElementTree.parse(plex.preferences).getroot().attrib["PlexOnlineToken"]  # noqa: S314  (our own file)
    return requests.get(f"{plex.url}{path}", headers={"X-Plex-Token": token}, timeout=10).text


def everything(plex: Simulator) -> dict[str, str]:
    """Every preference, from Plex itself."""
    root = ElementTree.fromstring(ask(plex, "/:/prefs"))  # noqa: S314  (our own simulator)
    return {entry.attrib["id"]: entry.attrib["value"] for entry in root}


def test_every_preference_is_as_before_after_success_and_after_a_failure(plex: Simulator) -> None:
    # A server of the user's own (provider existing), with values of his own.
    own = {"MusicAnalysisBehavior": "never", "autoEmptyTrash": True, "ButlerStartHour": 3, "GdmEnabled": True}
    run_module("plex_preferences", {**plex.connection(), "settings": own})
    before = everything(plex)
    films = {"plex_indexing_sections": ["Movies"], "plex_indexing_skip_analysis": True}
    code, output, _ = play(
        plex,
        [
            included("main", role(plex, plex_indexing_expected_files={"Movies": []}, **films)),
            included("restore", role(plex)),
        ],
    )
    assert code == 0, output
    assert everything(plex) == before
    assert not (plex.folder / "previous.json").exists()

    plex.faults(sonic_stuck=True)
    hasty = {"named_after": 1, "stall_after": 2, "restarts": 0, "start_within": 2}
    broken = role(
        plex, plex_indexing_sections=["Music"], plex_indexing_profile_overrides=hasty, plex_indexing_skip_analysis=True
    )
    code, output, _ = play(plex, [included("main", broken)])
    plex.faults()
    assert code != 0
    assert "Ways tried" in output
    assert everything(plex) != before
    code, output, _ = play(plex, [included("restore", role(plex))])  # another run, which remembers nothing
    assert code == 0, output
    assert everything(plex) == before


def test_a_mount_that_died_is_mounted_again_and_the_scan_repeated(plex: Simulator) -> None:
    # The bucket goes away with the first sample; the tasks bring it back, as stop, mount and start would.
    away, back = plex.folder / "away", plex.folder / "back.yml"
    code = f"import os; os.rmdir({str(plex.bucket)!r}); os.rename({str(away)!r}, {str(plex.bucket)!r})"
    task = {"name": "Bring it back", "ansible.builtin.command": {"argv": [sys.executable, "-c", code]}}
    back.write_text(json.dumps([task]))

    def die() -> None:
        samples = plex.folder / "samples.jsonl"
        while not samples.exists():
            time.sleep(0.05)
        plex.bucket.rename(away)
        plex.bucket.mkdir()

    killer = threading.Thread(target=die, daemon=True)
    killer.start()
    variables = role(
        plex,
        plex_indexing_sections=["Music"],
        plex_indexing_skip_sonic=True,
        plex_indexing_skip_analysis=True,
        plex_indexing_run_dir=str(plex.folder),
        plex_indexing_remount_tasks=str(back),
        plex_indexing_profile_overrides={"quiet_for": 3, "mount_dead_after": 0.5},
    )
    facts = {"ansible.builtin.debug": {"var": "plex_indexing_sections_result"}, "register": "out"}
    done, output, (result,) = play(plex, [included("main", variables), {"name": "Show", **facts}])
    killer.join(timeout=10)
    assert done == 0, output
    assert "Repeat the step for Music" in output, output
    assert "no worker of Plex runs any more" in output
    (music,) = result["plex_indexing_sections_result"]
    assert music["items_after"] >= music["items_before"]


def checkpointed(plex: Simulator, run: Path, **more: Any) -> dict[str, Any]:
    """The options of a task that makes checkpoints, one as soon as anything is gained."""
    option = {
        "minutes": 0,
        "tracks": 1,
        "dir": str(run / "snapshots" / "checkpoint"),
        "base_manifest": str(plex.folder / "base" / "manifest.json"),
        "work_dir": str(plex.folder / "transfer" / "checkpoint"),
        "base_dir": str(plex.folder / "base"),
        "plex_version": "1",
        "about": {"machine_identifier": "home"},
    }
    return {"run_dir": str(run), "checkpoint": {**option, **more}}


def test_what_was_reached_is_brought_to_safety_between_two_steps(plex: Simulator) -> None:
    run = RunFolder.create(plex.folder / "runs", "20261122-071500-ab12")
    place = run.path / "snapshots" / "checkpoint"
    copied = {"databases_dir": plex.place()["database_dir"], "dest": str(plex.folder / "base"), "source": "home"}
    base = run_module("plex_db_snapshot", copied)["manifest"]
    options = checkpointed(plex, run.path)
    code, output, results = play(
        plex,
        [
            watched(plex, "plex_scan", section="Music", **options),
            watched(plex, "plex_analyze", section="Music", **options),
        ],
    )
    assert code == 0, output
    assert not any(result["failed"] for result in results), output
    assert "[indexer] checkpoint 1: " in output
    made = [checkpoint_format.load(folder) for folder in checkpoint_format.folders(place)]
    assert made, output
    assert made[0].about == {"machine_identifier": "home"}
    chain.apply(checkpoint_format.chain(made, made[-1], base["files"]), plex.folder / "out", plex.folder / "base")
    held = json.loads((plex.folder / "transfer" / "checkpoint" / "held" / "manifest.json").read_text())
    assert held == json.loads((plex.folder / "out" / "manifest.json").read_text())
    assert checkpoint_format.reached(held)["items"] > checkpoint_format.reached(base)["items"]
    state = run.state()["checkpoint"]
    assert (state["made"], state["failed"], state["kept"], state["newest"]["number"]) == (len(made), 0, True, len(made))
    assert [event["event"] for event in run.events()] == ["checkpoint"] * len(made)
    samples = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
    scanned = max(entry["at"] for entry in samples if entry["task"] == "scan")
    first = datetime.fromisoformat(run.events()[0]["at"].replace("Z", "+00:00")).timestamp()
    assert first > scanned, "none while a library is scanned"
    assert sorted(path.name for path in (plex.folder / "transfer" / "checkpoint").iterdir()) == ["held"]
    assert (place.stat().st_mode & 0o777, (place / "0001" / "delta.json").stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_checkpoint_that_cannot_be_made_is_told_and_does_not_end_the_work(plex: Simulator) -> None:
    run = RunFolder.create(plex.folder / "runs", "20261122-071500-ab12")
    options = checkpointed(plex, run.path)
    code, output, (result,) = play(plex, [watched(plex, "plex_scan", section="Music", **options)])
    assert code == 0, output
    assert result["watched"]["state"] == "complete"
    assert "no checkpoint: Expected the manifest of a snapshot at " in " ".join(output.split())
    assert run.state()["checkpoint"]["failed"] == 1
    assert "manifest.json, but the file does not exist" in run.state()["checkpoint"]["problem"]
    _, output, (result,) = play(
        plex, [watched(plex, "plex_scan", section="Music", **checkpointed(plex, run.path, tracks="x"))]
    )
    assert result["failed"]
    assert "`checkpoint` is invalid" in result["msg"]
