"""A server that is lent for the work (provider none): whatever happens, its owner finds every preference as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.layout import Layout
from sandbox.machines import Machine
from sandbox.media import Sizes
from sandbox.plex.preferences import SETTINGS, Preferences
from sandbox.plex.runtime import SUPPORT
from tests.sandbox.evidence import (
    HomeState,
    Meanwhile,
    Outcome,
    Step,
    databases_of,
    home_preferences,
    run_playbook,
    told,
    verdicts,
)

pytestmark = pytest.mark.playbook

OWNERS = {
    "FriendlyName": "the workstation upstairs",
    "autoEmptyTrash": "1",
    "allowMediaDeletion": "0",
    "ButlerTaskDeepMediaAnalysis": "1",
    "ButlerTaskRefreshLibraries": "1",
    "ButlerTaskBackupDatabase": "0",
    "LoudnessAnalysisBehavior": "asap",
    "MusicAnalysisBehavior": "never",
    "GenerateBIFBehavior": "asap",
    "GdmEnabled": "0",
    "DlnaEnabled": "1",
}
"""What the lent server's owner has chosen, much of it not the default and not what a run needs."""
BROKEN = "Music/Aalto/Broken/01 - noise.mp3"


@dataclass(frozen=True)
class Lent:
    """A sandbox, and a machine beside it whose Plex was used before."""

    sandbox: Sandbox
    machine: Machine
    inventory: Path

    @property
    def preferences_file(self) -> Path:
        return self.machine.folder / "home" / "plexburst" / "config" / SUPPORT / "Preferences.xml"

    def preferences(self) -> dict[str, str]:
        """Every setting there is, set or at its default, and its identity. (The account comes and goes by design.)"""
        held = Preferences(self.preferences_file)
        assert held.get("PlexOnlineToken") == ""
        identity = ("MachineIdentifier", "ProcessedMachineIdentifier", "AnonymousMachineIdentifier")
        return {name: held.setting(name) for name in SETTINGS} | {name: held.get(name) for name in identity}

    def run(self, runs: Path, given: dict[str, Any], *steps: Step) -> Outcome:
        """A delta sync on it."""
        extra = {"plexburst_provider": "none", "plexburst_sections": ["Music"], **given}
        try:
            with Meanwhile(runs, steps) as meanwhile:
                outcome = run_playbook(
                    self.sandbox.ansible_env(), runs, "-i", str(self.inventory), "-e", json.dumps(extra)
                )
        finally:
            self.sandbox.set_faults("plex-indexer", {})
            self.sandbox.set_faults("machine", {})
        assert meanwhile.done == len(steps), outcome.output[-3000:]
        return outcome


@pytest.fixture(scope="module")
def lent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lent]:
    folder = tmp_path_factory.mktemp("lent")
    sizes = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
    box = Sandbox(folder / "sandbox", sizes=sizes, speed=0.1)
    state = box.up()
    layout = Layout(Path(state["dir"]))
    # Named after no section of the bucket's generations: what no decoder takes is taken in as a track all the same.
    noise = Path(state["home"]["volumes"][0]["host"]) / BROKEN
    noise.parent.mkdir(parents=True)
    noise.write_bytes(bytes(range(1, 250)) * 80)
    machine = Machine(
        layout.machines / "lent",
        "lent",
        f"{state['block']}.0.3",
        host_key=layout.ssh / "host_home",
        authorized_keys=layout.ssh / "id_home.pub",
        faults=layout.faults / "machine.json",
    )
    inventory, known_hosts = folder / "lent.yml", folder / "known_hosts"
    public = (layout.ssh / "host_home.pub").read_text(encoding="utf-8").split()
    known_hosts.write_text(f"[{machine.address}]:2222 {public[0]} {public[1]}\n", encoding="utf-8")
    host = {
        "ansible_host": machine.address,
        "ansible_port": 2222,
        "ansible_user": state["home"]["user"],
        "ansible_ssh_private_key_file": state["home"]["ssh_key"],
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o IdentitiesOnly=yes",
        "ansible_pipelining": True,
    }
    inventory.write_text(json.dumps({"plex_cloud": {"hosts": {"lent": host}}}), encoding="utf-8")
    given = Lent(box, machine, inventory)
    Preferences(given.preferences_file).update(OWNERS)
    process = machine.start()
    machine.wait_ready()
    try:
        yield given
    finally:
        machine.stop()
        if process is not None:
            process.wait(10)
        box.reset()


def test_a_mount_that_is_too_slow_is_named_and_the_lent_server_is_as_it_was(lent: Lent, tmp_path: Path) -> None:
    box = lent.sandbox
    databases = databases_of(box.state["home"]["config_dir"])
    before, devices, mine = HomeState.read(databases), box.devices(), home_preferences(box.state)
    owners = lent.preferences()

    def slow() -> None:
        # Opening takes two seconds; what a transcoder has to read whole does not come at all.
        box.set_faults("plex-indexer", {"mount_slow": 3600})
        box.set_faults("machine", {"mount_slow": 2})

    def quick() -> None:
        box.set_faults("machine", {})
        box.set_faults("plex-indexer", {})

    outcome = lent.run(
        tmp_path / "runs",
        {
            "plexburst_skip_analysis": True,
            "plex_index_probe_count": 2,
            "plex_index_profile_overrides": {"named_after": 3, "stall_after": 120, "slow_read": 2},
        },
        Step.at("sonic", slow),
        Step.named("mount_slow", quick),
    )
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert ("sonic", "mount_slow") in verdicts(outcome)
    assert "The remote throttles or the line is full" in told(outcome), told(outcome)
    assert HomeState.read(databases) == before
    assert home_preferences(box.state) == mine
    assert lent.preferences() == owners
    assert box.devices() == devices
    assert box.ledger() == []


def test_tracks_that_fail_are_listed_with_their_cause_and_the_lent_server_is_as_it_was(
    lent: Lent, tmp_path: Path
) -> None:
    box = lent.sandbox
    databases = databases_of(box.state["home"]["config_dir"])
    before, devices, mine = HomeState.read(databases), box.devices(), home_preferences(box.state)
    owners = lent.preferences()
    outcome = lent.run(
        tmp_path / "runs",
        {"plexburst_skip_analysis": True, "plex_index_profile_overrides": {"max_failed_percent": 10, "restarts": 1}},
    )
    assert outcome.rc == 0, outcome.output[-5000:]
    summary = outcome.summary
    assert (summary["sonic"]["verdict"], summary["sonic"]["failed"]) == ("tracks_failing", 1)
    assert summary["sonic"]["after"] == summary["sonic"]["total"] - 1
    assert summary["status"] == "partial"
    left = json.loads((outcome.run_dir / "sonic_left.json").read_text())["tracks"]
    assert [(track["file"], track["cause"]) for track in left] == [(f"/Media/{BROKEN}", "failed")]
    after = HomeState.read(databases)
    assert len(after.tracks - after.sonic_marks) == 1
    assert before.settings <= after.settings
    assert f"/Media/{BROKEN}" in after.parts
    assert home_preferences(box.state) == mine
    assert lent.preferences() == owners
    assert box.devices() == devices
    assert box.ledger() == []
