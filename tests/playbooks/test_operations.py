"""The playbooks around a delta sync: plan, install, rollback, release, and recover after the controller died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests import ansible_cache
from tests.playbooks.evidence import (
    REPO,
    HomeState,
    Outcome,
    alive,
    ask_home,
    databases_of,
    files_of_remote,
    home_preferences,
    run_playbook,
)

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
SERVES_WITHIN = 120.0
"""Seconds in which home's Plex serves again, whoever has died."""

QUICK = {"plexburst_sections": ["Music"], "plexburst_skip_analysis": True}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("operations") / "sandbox", sizes=SMALL, speed=0.02)
    box.up()
    try:
        yield box
    finally:
        box.reset()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


def home(sandbox: Sandbox) -> HomeState:
    return HomeState.read(databases_of(sandbox.state["home"]["config_dir"]))


def play(sandbox: Sandbox, runs: Path, playbook: str, *arguments: str, **more: object) -> Outcome:
    given = ["-e", json.dumps({**QUICK, **more}), *arguments]
    return run_playbook(sandbox.ansible_env(), runs, *given, playbook=playbook)


def kill_when(sandbox: Sandbox, runs: Path, condition: Callable[[], bool], playbook: str, **more: object) -> None:
    """Begin a playbook and kill -9 all of the controller once the condition holds."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(REPO / playbook)]
    command += ["-i", str(REPO / "inventory" / "sandbox"), "-e", f"plexburst_runs_dir={runs}"]
    command += ["-e", json.dumps({**QUICK, **more})]
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "SCW_"))
    } | ansible_cache.environment()
    with (runs / "killed.log").open("w") as log:
        running = subprocess.Popen(
            command, cwd="/", env=environment | sandbox.ansible_env(), stdout=log, stderr=log, start_new_session=True
        )
        try:
            while not condition():
                assert running.poll() is None, (runs / "killed.log").read_text()[-3000:]
                time.sleep(0.02)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@dataclass(frozen=True)
class Planned:
    """A run that planned and did nothing else."""

    run_id: str
    run: Outcome
    summary: dict[str, Any]
    before: tuple[HomeState, dict[str, str]]
    after: tuple[HomeState, dict[str, str]]


@pytest.fixture(scope="module")
def planned(sandbox: Sandbox, runs: Path) -> Planned:
    before = home(sandbox), home_preferences(sandbox.state)
    run = play(sandbox, runs, "plan.yml")
    assert run.rc == 0, run.output[-3000:]
    after = home(sandbox), home_preferences(sandbox.state)
    return Planned(run.summary["run_id"], run, run.summary, before, after)


def test_a_plan_says_what_would_happen_and_touches_nothing(sandbox: Sandbox, planned: Planned) -> None:
    assert planned.summary["playbook"] == "plan"
    assert planned.summary["status"] == "succeeded"
    assert planned.summary["plan"]["sections"]
    assert (planned.run.runs / planned.run_id / "audit.json").exists()
    assert "per hour" in planned.run.output
    assert planned.after == planned.before
    assert sandbox.ledger() == []


def test_what_cannot_be_done_is_said_with_the_next_step(sandbox: Sandbox, runs: Path, planned: Planned) -> None:
    before = home(sandbox)
    for playbook, words in (
        ("install.yml", "the run has downloaded no database"),
        ("recover.yml", "was not found. The inventory has no host"),
        ("release.yml", "would be lost"),
    ):
        refused = play(sandbox, runs, playbook, plexburst_run=planned.run_id)
        assert refused.rc != 0, (playbook, refused.output[-2000:])
        assert words in refused.output, (playbook, refused.output[-2000:])
    nowhere = play(sandbox, runs, "install.yml", plexburst_run="20200101-000000-abcd")
    assert nowhere.rc != 0
    assert "is not a run folder" in nowhere.output
    assert home(sandbox) == before


def test_install_and_rollback_and_release_one_after_the_other(sandbox: Sandbox, runs: Path) -> None:
    before, prefs, devices = home(sandbox), home_preferences(sandbox.state), sandbox.devices()

    kept = play(sandbox, runs, "delta_sync.yml", plexburst_install="ask", plexburst_keep_instance=True)
    assert kept.rc == 0, kept.output[-3000:]
    assert "no result has been installed on this home before" in kept.output
    assert home(sandbox) == before
    assert {row["kind"] for row in alive(sandbox.ledger())} >= {"server"}
    run_id = kept.summary["run_id"]
    assert f"plexburst_run={run_id}" in kept.output
    assert "not removed by this run: " in kept.output

    # Inside the window somebody records.
    hours = [time.strftime("%H:%M", time.localtime(time.time() + 3600 * hour)) for hour in (-1, 2)]
    moment = {"plexburst_install_window": "-".join(hours), "plexburst_install_patience": 0}
    sandbox.set_faults("plex-home", {"recording": "inprogress"})
    refused = play(sandbox, runs, "install.yml", plexburst_run=run_id, **moment)
    sandbox.set_faults("plex-home", {})
    assert refused.rc != 0
    assert "'Evening News: Late Edition' is recorded" in refused.summary["failure"]["message"]
    assert f"install.yml -e plexburst_run={run_id}" in refused.summary["failure"]["advice"]
    assert (home(sandbox), home_preferences(sandbox.state)) == (before, prefs)

    # The controller dies while home's Plex is stopped. Home goes on alone, and the next playbook says what came of it.
    folder = Path(sandbox.state["home"]["dir"]) / "plexburst" / "home-job"
    kill_when(sandbox, runs, lambda: _window_has_begun(folder), "install.yml", plexburst_run=run_id)
    died = time.monotonic()
    while not (_has_ended(folder) and _serves(sandbox)):
        assert time.monotonic() - died < SERVES_WITHIN, (folder / "job.log").read_text()
        time.sleep(0.1)

    looked = play(sandbox, runs, "rollback.yml", "--check")
    assert looked.rc == 0, looked.output[-3000:]
    assert folder.is_dir(), "a check forgets nothing"
    installed = play(sandbox, runs, "install.yml", plexburst_run=run_id)
    assert installed.rc == 0, installed.output[-3000:]
    for output in (looked.output, installed.output):
        assert f"The installation of run {run_id} had ended at home" in output
        assert "the new pair is in place and Plex is ready" in output
    assert f"Run {run_id} is already installed" in installed.output
    assert not folder.exists()
    assert (installed.summary["run_id"], installed.summary["playbook"]) == (run_id, "install")
    assert installed.summary["home"]["installed"] is True
    assert installed.summary["sonic"]["after"] == installed.summary["sonic"]["total"], "what the run recorded is kept"
    new = home(sandbox)
    assert new != before
    music = {file for file in files_of_remote(sandbox.state) if file.startswith("/Media/Music/")}
    assert music <= set(new.parts)
    assert home_preferences(sandbox.state) == prefs

    released = play(sandbox, runs, "release.yml", plexburst_keep_instance=True)
    assert released.rc == 0, released.output[-3000:]
    assert alive(sandbox.ledger()) == []
    assert sandbox.devices() == devices

    # A Plex that crashed and is not running is no obstacle: the new database might be why.
    os.kill(int(Path(sandbox.state["home"]["pid_file"]).read_text()), signal.SIGKILL)
    back = play(sandbox, runs, "rollback.yml")
    assert back.rc == 0, back.output[-3000:]
    assert home(sandbox) == before
    assert Path(back.summary["home"]["backup"]).is_dir(), "what was in place is a backup now"
    assert home_preferences(sandbox.state) == prefs

    unknown = play(sandbox, runs, "rollback.yml", plexburst_backup="20200101T000000Z-none")
    assert unknown.rc != 0
    assert home(sandbox) == before


def test_what_a_dead_controller_left_is_recovered(sandbox: Sandbox, runs: Path) -> None:
    before, prefs, devices = home(sandbox), home_preferences(sandbox.state), sandbox.devices()
    latest = (runs / "latest").resolve()
    # The controller dies in the middle of the last thing the indexer does.
    kill_when(sandbox, runs, lambda: _sonic_has_begun(runs, latest), "delta_sync.yml")
    assert home(sandbox) == before
    assert home_preferences(sandbox.state) != prefs, "home is still frozen"

    # Its server is billed on: the next run names it and the command, and pays for nothing.
    dead, billed = (runs / "latest").resolve().name, alive(sandbox.ledger())
    stopped = play(sandbox, runs, "delta_sync.yml")
    assert stopped.rc != 0
    failure = stopped.summary["failure"]
    assert failure["phase"] == "preflight"
    assert all(f"{row['kind']}/{row['id']}" in failure["message"] for row in billed)
    command = f"recover.yml -i {REPO / 'inventory' / 'sandbox'} -e plexburst_run={dead}"
    assert command in failure["message"]
    assert "Leftovers: none of this run" in stopped.output
    assert f"Leftovers of other runs: {dead}" in stopped.output
    assert {row["id"] for row in alive(sandbox.ledger())} == {row["id"] for row in billed}

    recovered = play(sandbox, runs, "recover.yml", plexburst_run=dead)
    assert recovered.rc == 0, recovered.output[-3000:]
    music = {file for file in files_of_remote(sandbox.state) if file.startswith("/Media/Music/")}
    assert music <= set(home(sandbox).parts)
    assert home_preferences(sandbox.state) == prefs
    assert alive(sandbox.ledger()) == []
    assert sandbox.devices() == devices
    summary = json.loads((runs / dead / "summary.json").read_text())  # `latest` is the run that was stopped
    assert summary["home"]["installed"] is True
    assert summary["cloud"]["leftovers"] == []
    assert "Leftovers: none\n" in recovered.output


def _sonic_has_begun(runs: Path, not_this: Path) -> bool:
    folder = (runs / "latest").resolve()
    samples = folder / "samples.jsonl"
    return folder != not_this and samples.exists() and '"task":"sonic"' in samples.read_text(encoding="utf-8")


def _window_has_begun(folder: Path) -> bool:
    return _step(folder) in ("stop", "swap", "start")


def _has_ended(folder: Path) -> bool:
    return _step(folder) == "end"


def _step(folder: Path) -> str:
    path = folder / "record.json"
    return str(json.loads(path.read_text())["step"]) if path.exists() else ""


def _serves(sandbox: Sandbox) -> bool:
    try:
        return ask_home(sandbox.state, "/identity").get("machineIdentifier", "") != ""
    except OSError:
        return False
