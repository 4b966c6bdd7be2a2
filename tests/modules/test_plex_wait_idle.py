"""The moment to stop home's Plex, against a real simulated server: what a look sees, and the action that waits."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modules.plex_simulator import Simulator, make_template, simulator
from tests.modules.runner import run_module

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plex(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    """A ready server."""
    folder = tmp_path_factory.mktemp("idle")
    make_template(folder / "template")
    with simulator(folder / "template", folder / "plex") as made:
        made.start()
        ready = run_module("plex_wait_ready", {**made.connection(), "deadline": 30, "poll": 0.2})
        assert not ready["failed"], ready
        yield made


@pytest.fixture(autouse=True)
def calm(plex: Simulator) -> Iterator[None]:
    yield
    plex.faults()


def look(plex: Simulator) -> dict[str, Any]:
    return run_module("plex_wait_idle", {**plex.connection(), "step": "look"})


def busy(plex: Simulator, **faults: Any) -> dict[str, str]:
    """Kind and words of the one thing that is going on."""
    plex.faults(**faults)
    seen = look(plex)
    assert not seen["failed"], seen
    (only,) = seen["busy"]
    return dict(only)


def item(plex: Simulator, kind: int) -> tuple[int, str]:
    """An item of a type and its title."""
    database = plex.databases / "com.plexapp.plugins.library.db"
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as library:
        found: tuple[int, str] = library.execute(
            "SELECT id, title FROM metadata_items WHERE metadata_type = ? ORDER BY id LIMIT 1", (kind,)
        ).fetchone()
    return found


def test_an_idle_server_is_quiet_and_says_its_version(plex: Simulator) -> None:
    seen = look(plex)
    assert seen["busy"] == [], seen
    assert seen["version"].startswith("1.43.4")


def test_who_watches_what_where_is_said(plex: Simulator) -> None:
    film, title = item(plex, 1)
    assert busy(plex, playing=[film]) == {
        "kind": "watching",
        "words": f"Administrator watches '{title}' on Living room",
    }


def test_a_recording_a_download_and_a_conversion_are_seen(plex: Simulator) -> None:
    film, title = item(plex, 1)
    assert busy(plex, recording="postprocessing") == {
        "kind": "recording",
        "words": "'Evening News: Late Edition' is recorded (postprocessing), 33 %",
    }
    assert busy(plex, downloading=[film])["words"] == f"'{title}' is downloaded to a player, 40 %"
    assert busy(plex, converting=[film])["words"] == f"'{title}' is converted, 12 %"
    plex.faults(recording="inprogress")
    assert {entry["kind"] for entry in look(plex)["busy"]} == {"watching", "recording"}


def test_a_status_that_nobody_knows_is_taken_for_a_recording(plex: Simulator) -> None:
    assert busy(plex, recording="warming-up")["kind"] == "recording"
    plex.faults(recording="complete")
    assert look(plex)["busy"] == []


def test_a_server_without_dvr_is_quiet_and_one_that_fails_is_not(plex: Simulator) -> None:
    for answer in ("no_dvr", 404):
        plex.faults(recording=answer)
        assert look(plex)["busy"] == []
    plex.faults(recording=500)
    seen = look(plex)
    assert seen["failed"]
    assert "/livetv/sessions answered HTTP 500" in seen["msg"]
    plex.faults(unauthorized=True)
    seen = look(plex)
    assert (seen["failed"], seen["error"]) == (True, "PlexUnauthorized")


def test_without_its_action_nobody_would_wait(plex: Simulator) -> None:
    alone = run_module("plex_wait_idle", plex.connection())
    assert alone["failed"]
    assert "action plugin" in alone["msg"]


@pytest.mark.playbook
def test_the_task_says_for_whom_it_waits_and_goes_on_when_it_is_quiet_or_ends_in_words(plex: Simulator) -> None:
    film, title = item(plex, 1)
    plex.faults(playing=[film])
    asked = [{"version": "1.0.0.1-abc"}, {"patience": 0, "timeout_advice": "install.yml goes on."}, {"patience": 300}]
    tasks: list[dict[str, Any]] = [
        {
            "plexburst.core.plex_wait_idle": {**plex.connection(), "poll": 0.5, "settle": 0.2, **options},
            "delegate_to": "localhost",
            "register": f"out_{number}",
            "ignore_errors": True,
        }
        for number, options in enumerate(asked)
    ]
    kept = plex.folder / "result.json"
    keep = {"content": "{{ [out_0, out_1, out_2] | to_json }}", "dest": str(kept), "mode": "0600"}
    tasks.append({"ansible.builtin.copy": keep, "delegate_to": "localhost"})
    (plex.folder / "play.yml").write_text(json.dumps([{"hosts": "home", "gather_facts": False, "tasks": tasks}]))
    # Home itself is never reached: all is asked from the controller.
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {"home": {"ansible_host": "192.0.2.1"}, "localhost": local}
    (plex.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    running = subprocess.Popen(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            *("-i", plex.folder / "hosts.json", plex.folder / "play.yml"),
        ],
        cwd="/",
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"),
            "ANSIBLE_HOME": str(plex.folder / ".ansible"),
            "PYTHONUNBUFFERED": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    lines = []
    for line in running.stdout:
        lines.append(line)
        if "[home] wait to stop home's Plex: " in line:
            plex.faults()
    assert running.wait(60) == 0, "".join(lines)
    updated, timed_out, waited = json.loads(kept.read_text())
    assert updated["failed"]
    assert "1.0.0.1-abc as when the snapshot was taken, found 1.43.4" in updated["msg"]
    assert timed_out["failed"]
    assert f"watches '{title}' on Living room" in timed_out["msg"]
    assert "Nothing was stopped" in timed_out["msg"]
    assert timed_out["advice"] == "install.yml goes on."
    told = next(line for line in lines if "[home] wait to stop home's Plex: " in line)
    assert f"Administrator watches '{title}' on Living room" in told
    assert not waited.get("failed"), lines
    assert waited["looks"] >= 2
    assert waited["busy"] == []
