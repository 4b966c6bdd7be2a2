"""A server of the inventory that does the work (provider existing), and a run on it whose index stage can be tried
again and again.

A whole run that fails costs one to two CPU minutes, nearly all of it before and after what a test of a situation is
about. So one run takes the existing server as far as a quiet, claimed Plex, and then each situation is a playbook run
of
its own that opens that run again: the project's stages index, logs and report, as in any run.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import requests
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.naming import run_group

from sandbox import processes
from sandbox.control import Sandbox
from sandbox.layout import Layout
from sandbox.machines import Machine
from sandbox.plex.harness import wait_for
from sandbox.plex.preferences import SETTINGS, Preferences
from sandbox.plex.runtime import SUPPORT, VERSION
from tests.playbooks.evidence import REPO, Meanwhile, Outcome, Step, run_playbook

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
"""What the existing server's owner has chosen, much of it not the default and not what a run needs."""

STAGES = REPO / "playbooks" / "stages"
TO_A_QUIET_PLEX = ("preflight", "snapshot", "plan", "pause_home", "provision", "prepare", "start")
OPEN_AGAIN = f"""
- name: Open the run again
  hosts: localhost
  gather_facts: false
  vars:
    plexburst_phase: preflight
  tasks:
    - name: Open the run
      ansible.builtin.include_role:
        name: plexburst.core.run
        tasks_from: begin
      vars:
        run_required: []
        run_existing_id: "{{{{ opened_again }}}}"

- name: Find its server, and see that Plex runs
  hosts: "{{{{ hostvars['localhost']['run_group'] }}}}"
  gather_facts: false
  vars:
    plexburst_phase: found
  vars_files:
    - {REPO}/playbooks/vars/common.yml
    - {REPO}/playbooks/vars/indexer.yml
  tasks:
    - name: Gather what it is
      ansible.builtin.setup:
        gather_subset: [min, env]
    - name: See that the media are there
      ansible.builtin.include_role:
        name: plexburst.core.rclone_mount
    - name: Start Plex unless it runs
      ansible.builtin.include_role:
        name: plexburst.core.plex_server
        tasks_from: start
      vars:
        plex_server_volumes: "{{{{ indexer_volumes }}}}"
    - name: Name the interpreter that speaks to it
      ansible.builtin.set_fact:
        plex_indexing_interpreter: "{{{{ settings.indexer_python }}}}"
    - name: Wait until it answers
      plexburst.core.plex_wait_ready:
        base_url: "{{{{ plex_server_base_url }}}}"
        preferences_file: "{{{{ plex_server_preferences }}}}"
        expect_claimed: true
        deadline: 60
      vars:
        ansible_python_interpreter: "{{{{ plex_indexing_interpreter }}}}"
"""


def imports(*stages: str) -> str:
    """Plays that import the project's own stages."""
    return "".join(f"- import_playbook: {STAGES / stage}.yml\n" for stage in stages)


@dataclass
class ExistingHost:
    """A sandbox, and a machine beside it whose Plex was used before. `run_id`: what `begin` has begun."""

    sandbox: Sandbox
    machine: Machine
    folder: Path
    inventory: Path
    run_id: str = ""
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

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
        """A whole delta sync on it."""
        return self._play("delta_sync.yml", runs, {"plexburst_sections": ["Music"], **given}, *steps)

    def begin(self, given: dict[str, Any]) -> None:
        """Bring a run as far as a quiet, claimed Plex; `given` holds for all that comes of it."""
        self.given = given
        outcome = self._play(self._playbook("begin", imports(*TO_A_QUIET_PLEX)), self.runs, given)
        assert outcome.rc == 0, outcome.output[-3000:]
        self.run_id = outcome.run_dir.name
        hosts = json.loads(self.inventory.read_text(encoding="utf-8"))
        hosts[run_group(self.run_id)] = {"hosts": {self.machine.machine_id: {}}}
        self.inventory.write_text(json.dumps(hosts), encoding="utf-8")

    def index(self, given: dict[str, Any], *steps: Step, faults: dict[str, Any] | None = None) -> Outcome:
        """Index in the run that was begun, with these faults of its Plex from the start; a playbook run of its own.

        What was recorded is this time's only. What Plex still does of it afterwards is stopped before the faults end.
        """
        (self.runs / "latest" / "samples.jsonl").unlink(missing_ok=True)
        playbook = self._playbook("index", OPEN_AGAIN + imports("index", "logs", "report"))
        again = {
            "opened_again": self.run_id,
            "plexburst_plex_version": VERSION,
            # As the play at home, which comes before the stages in a whole run, has found it.
            "plex_home_machine_identifier": "home",
        }
        self.sandbox.set_faults("plex-indexer", faults or {})
        return self._play(playbook, self.runs, {**self.given, **given, **again}, *steps)

    def recover(self) -> Outcome:
        """Bring home what the run that was begun has reached."""
        return self._play("recover.yml", self.runs, {**self.given, "plexburst_run": self.run_id})

    def end_plex(self) -> None:
        """Plex is killed, and first whatever would start it again."""
        home = self.machine.folder / "home"
        names = {pid: " ".join(processes.command(pid)) for pid in processes.of_sandbox(home)}
        for name in ("sandbox.plex.restarting", "Plex Media Server"):
            for pid in [pid for pid, command in names.items() if name in command]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait_for_plex(self) -> None:
        """Until what starts Plex again has done so."""
        wait_for(self._answers, seconds=60)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self._url}/identity", timeout=10).status_code == 200
        except requests.ConnectionError:
            return False

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self.sandbox.state['indexer']['plex_port']}"

    def _playbook(self, name: str, plays: str) -> str:
        for link, target in (("collections", "collections"), ("callback_plugins", "plugins/callback")):
            if not (self.folder / link).is_symlink():
                (self.folder / link).symlink_to(REPO / target)
        path = self.folder / f"{name}.yml"
        path.write_text(f"---\n{plays}", encoding="utf-8")
        return str(path)

    def _play(self, playbook: str, runs: Path, given: dict[str, Any], *steps: Step) -> Outcome:
        extra = {"plexburst_provider": "existing", **given}
        arguments = ("-i", str(self.inventory), "-e", json.dumps(extra))
        try:
            with Meanwhile(runs, steps) as meanwhile:
                outcome = run_playbook(self.sandbox.ansible_env(), runs, *arguments, playbook=playbook)
        finally:
            self.sandbox.set_faults("machine", {})
            self._calm()
            self.sandbox.set_faults("plex-indexer", {})
        assert meanwhile.done == len(steps), outcome.output[-3000:]
        return outcome

    def _calm(self) -> None:
        """Stop what goes on in the existing Plex, if it runs and is claimed."""
        if not self.preferences_file.exists():
            return
        token = ElementTree.parse(self.preferences_file).getroot().get("PlexOnlineToken", "")  # noqa: S314  (our own file)
        with suppress(requests.ConnectionError):
            requests.delete(f"{self._url}/butler", headers={"X-Plex-Token": token}, timeout=10)


@contextmanager
def existing_host(sandbox: Sandbox, folder: Path) -> Iterator[ExistingHost]:
    """A machine beside a sandbox that is up; it runs, its Plex does not yet."""
    state = sandbox.state
    layout = Layout(Path(state["dir"]))
    machine = Machine(
        layout.machines / "existing",
        "existing",
        f"{state['block']}.0.3",
        host_key=layout.ssh / "host_home",
        authorized_keys=layout.ssh / "id_home.pub",
        faults=layout.faults / "machine.json",
    )
    inventory, known_hosts = folder / "existing.json", folder / "known_hosts"
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
    inventory.write_text(json.dumps({"plex_cloud": {"hosts": {"existing": host}}}), encoding="utf-8")
    given = ExistingHost(sandbox, machine, folder, inventory)
    Preferences(given.preferences_file).update(OWNERS)
    process = machine.start()
    machine.wait_ready()
    try:
        yield given
    finally:
        machine.stop()
        if process is not None:
            process.wait(10)
