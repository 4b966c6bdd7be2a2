"""The inventory plugin and the role, through the real ansible commands from the root directory, without ansible.cfg."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import ansible_cache
from tests.modules.runner import REPO
from tests.modules.scaleway_simulator import KEYS, Simulator, simulator

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("scaleway")) as running:
        running.server("inv-1", watch_profile="sandbox", ssh_port=2222)
        running.server("inv-2", state="present")
        yield running


def run(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SCW_", "ANSIBLE_"))}
    clean |= {"ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"), **ansible_cache.environment(), **env}
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd="/",
        env=clean,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def inventory(path: Path, text: str, **env: str) -> tuple[dict[str, Any], str]:
    path.write_text("plugin: plexburst.core.scaleway\n" + text, encoding="utf-8")
    finished = run(["ansible-inventory", "-i", str(path), "--list"], **env)
    return json.loads(finished.stdout, object_hook=_plain), finished.stderr


def _plain(value: dict[str, Any]) -> Any:
    """ansible-inventory marks what came from outside: Ansible must never take a server's name or tag for a template."""
    return value.get("__ansible_unsafe", value)


def test_the_running_indexer_is_a_host_with_groups_and_variables(cloud: Simulator, tmp_path: Path) -> None:
    listed, said = inventory(tmp_path / "scaleway.yml", f"config_file: {cloud.config_file}\nssh_port: 2222\n")
    assert said == "", "nothing may be said when nothing is wrong"
    assert list(listed["_meta"]["hostvars"]) == ["plexburst-inv-1"]
    for group in ("plex_cloud", "plexburst_run_inv_1", "plexburst_profile_sandbox"):
        assert listed[group]["hosts"] == ["plexburst-inv-1"]
    assert listed["_meta"]["hostvars"]["plexburst-inv-1"] == cloud.server("inv-1", ssh_port=2222)["host"]["hostvars"]


def test_states_composed_variables_and_groups_are_honoured(cloud: Simulator, tmp_path: Path) -> None:
    (tmp_path / "keys").symlink_to(cloud.config_file.parent)
    listed, said = inventory(
        tmp_path / "my.scaleway.yaml",
        "config_file: \"{{ 'keys' }}/scw.yaml\"\n"
        "states: []\nzones: [fr-par-1, nl-ams-1]\nhostnames: [public_ipv4, id]\nstrict: true\n"
        "compose: {price_class: scaleway_type ~ '!'}\n"
        "groups: {asleep: scaleway_state == 'stopped'}\n"
        "keyed_groups: [{key: scaleway_type, prefix: type}]\n",
    )
    assert said == "", said
    hostvars = listed["_meta"]["hostvars"]
    assert len(hostvars) == 2
    assert {values["price_class"] for values in hostvars.values()} == {"GP1-S!"}
    (asleep,) = listed["asleep"]["hosts"]
    assert hostvars[asleep]["scaleway_run_id"] == "inv-2"
    assert sorted(listed["type_GP1_S"]["hosts"]) == sorted(hostvars)


def test_other_servers_are_no_hosts_unless_asked_for(cloud: Simulator, tmp_path: Path) -> None:
    listed, _ = inventory(tmp_path / "a.scw.yml", f"config_file: {cloud.config_file}\ntags: [somebody-else]\n")
    assert listed["_meta"]["hostvars"] == {}


def test_credentials_come_from_the_environment_too(cloud: Simulator, tmp_path: Path) -> None:
    listed, said = inventory(
        tmp_path / "scw.yml",
        "",
        SCW_ACCESS_KEY=KEYS["access_key"],
        SCW_SECRET_KEY=KEYS["secret_key"],
        SCW_API_URL=cloud.url,
        SCW_DEFAULT_ZONE="fr-par-1",
        HOME=str(tmp_path),
    )
    assert said == "" and list(listed["_meta"]["hostvars"]) == ["plexburst-inv-1"]


def test_the_cache_answers_without_the_api(cloud: Simulator, tmp_path: Path) -> None:
    path, text = tmp_path / "scaleway.yml", f"config_file: {cloud.config_file}\nattempts: 1\n"
    text += f"cache: true\ncache_plugin: jsonfile\ncache_connection: {tmp_path / 'cache'}\n"
    first, _ = inventory(path, text)
    cloud.faults(error_500=50)
    second, said = inventory(path, text)
    cloud.faults()
    assert second == first and said == ""


def test_a_missing_configuration_is_told_in_one_sentence(tmp_path: Path) -> None:
    listed, said = inventory(tmp_path / "scaleway.yml", "config_file: nowhere.yaml\n")
    assert listed["_meta"]["hostvars"] == {}
    assert str(tmp_path / "nowhere.yaml") in said and "cannot be read" in said


PLAY = """
- name: Boot
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Boot the machine
      ansible.builtin.include_role:
        name: plexburst.core.provider_scaleway
- name: Work
  hosts: plexburst_run_role_1:localhost
  gather_facts: false
  tasks:
    - name: Wait
      ansible.builtin.include_role:
        name: plexburst.core.provider_scaleway
        tasks_from: wait
      when: inventory_hostname != 'localhost'
- name: Release
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Verify
      ansible.builtin.include_role:
        name: plexburst.core.provider_scaleway
        tasks_from: verify
      when: provider_scaleway_result.host is not none
    - name: Remove
      ansible.builtin.include_role:
        name: plexburst.core.provider_scaleway
        tasks_from: absent
    - name: Tell
      ansible.builtin.copy:
        dest: "{{ told }}"
        mode: "0600"
        content: "{{ {'result': provider_scaleway_result, 'leftovers': provider_scaleway_leftovers,
                      'published': provider_scaleway_fingerprint_published | default(none),
                      'host': hostvars['plexburst-role-1'] | default({})} | to_json }}"
"""


def play(cloud: Simulator, folder: Path, *arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    book = folder / "play.yml"
    book.write_text(PLAY, encoding="utf-8")
    inputs = {
        "run_id": "role-1",
        "zone": "fr-par-1",
        "types": ["PRO2-S", "GP1-S"],
        "volume": {"size_gb": 20, "type": "sbs_volume"},
        "ssh_port": 2222,
        "ssh_timeout": 30,
        "expires_at": "2099-01-01T00:00:00Z",
        "config_file": str(cloud.config_file),
        "key_dir": str(folder / "run keys"),
        "boot_timeout": 30,
        "poll_interval": 0.2,
        "groups": ["extra_group"],
        **changes,
    }
    variables = {f"provider_scaleway_{name}": value for name, value in inputs.items()} | {"told": str(folder / "told")}
    return run(["ansible-playbook", str(book), "-e", json.dumps(variables), *arguments])


@pytest.mark.playbook
def test_the_role_boots_a_machine_that_is_verified_and_leaves_nothing(cloud: Simulator, tmp_path: Path) -> None:
    finished = play(cloud, tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "unsafe" not in finished.stderr
    told = json.loads((tmp_path / "told").read_text(encoding="utf-8"))
    assert told["leftovers"] == [] and cloud.alive("plexburst-run=role-1") == []
    assert told["published"] is True, "the machine's own fingerprints confirm the key that we made"
    host = told["result"]["host"]
    assert {name: told["host"][name] for name in host["hostvars"]} == host["hostvars"], "add_host left something out"
    assert set(told["host"]["group_names"]) == {*host["groups"], "extra_group"}
    assert "StrictHostKeyChecking=yes" in told["host"]["ansible_ssh_common_args"]
    keys = tmp_path / "run keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert sorted(path.name for path in keys.iterdir()) == ["host_ed25519.pub", "id_run.pub", "known_hosts"]


@pytest.mark.playbook
def test_check_mode_of_the_role_makes_nothing(cloud: Simulator, tmp_path: Path) -> None:
    finished = play(cloud, tmp_path, "--check")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not (tmp_path / "run keys").exists() and cloud.alive("plexburst-run=role-1") == []


@pytest.mark.playbook
def test_a_machine_that_never_boots_is_removed_by_the_role_and_the_cause_is_told(
    cloud: Simulator, tmp_path: Path
) -> None:
    cloud.faults(never_boots=True)
    finished = play(cloud, tmp_path, boot_timeout=8)
    cloud.faults()
    assert finished.returncode == 2
    assert "its last state was starting" in finished.stdout
    assert cloud.alive("plexburst-run=role-1") == []


@pytest.mark.playbook
def test_a_machine_with_another_host_key_is_not_trusted(cloud: Simulator, tmp_path: Path) -> None:
    faults = cloud.folder / "faults" / "machine.json"
    faults.parent.mkdir(exist_ok=True)
    faults.write_text('{"wrong_host_key": true}', encoding="utf-8")
    finished = play(cloud, tmp_path, ssh_timeout=6)
    faults.unlink()
    assert finished.returncode != 0
    assert "plexburst-role-1" in finished.stdout and cloud.alive("plexburst-run=role-1") == []
