"""The module scaleway_runs against the simulator: what runs that are not alive hold, in which state they died."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, acquire_lock

from tests import ansible_cache
from tests.modules.runner import REPO, run_module
from tests.modules.scaleway_simulator import KEYS, Simulator, simulator

ME = "20261201-100000-aaaa"
DEAD = "20261130-100000-bbbb"
AWAY = "20261129-100000-cccc"


@pytest.fixture(scope="module")
def cloud_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("scaleway")) as running:
        yield running


@pytest.fixture
def cloud(cloud_of_module: Simulator) -> Iterator[Simulator]:
    """The simulator without faults and, after the test, without anything in it."""
    cloud_of_module.faults()
    yield cloud_of_module
    cloud_of_module.faults()
    arguments = {key: value for key, value in cloud_of_module.arguments.items() if key != "zone"}
    run_module("scaleway_reap", {"all": True, "poll_interval": 0.1, **arguments})
    assert cloud_of_module.alive() == []


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """A runs folder in which ME is alive and DEAD is not."""
    for run_id in (DEAD, ME):
        RunFolder.create(tmp_path / "runs", run_id)
    acquire_lock(tmp_path / "runs", ME, os.getpid())
    return tmp_path / "runs"


def look(cloud: Simulator, runs_dir: Path, **changes: Any) -> dict[str, Any]:
    parameters = {"run_id": ME, "runs_dir": str(runs_dir), "inventory": ["inventory/mine"], "poll_interval": 0.1}
    return run_module("scaleway_runs", {**parameters, **cloud.arguments, **changes})


def test_a_server_that_died_while_it_indexed_is_named_with_price_and_commands(cloud: Simulator, runs_dir: Path) -> None:
    made = cloud.server(DEAD, zone="nl-ams-1")
    mine = cloud.server(ME, state="present")
    folder = RunFolder(runs_dir / DEAD)
    folder.append_event("phase_ended", phase="start", status="succeeded", started_at="", seconds=1)
    seen = look(cloud, runs_dir)
    (other,) = seen["other_runs"]
    assert sorted(other["resources"]) == sorted(made["created"]) and other["here"]
    assert sorted(seen["own"]) == sorted(mine["created"])
    assert other["hourly_price"] == 0.19074 and 0 < other["billed"] < 0.01
    assert other["expires_at"] == "2099-01-01T00:00:00Z" and other["since"] is not None
    assert [command.partition(" (")[0] for command in other["commands"]] == [
        f"ansible-playbook recover.yml -i inventory/mine -e plexburst_run={DEAD}",
        f"ansible-playbook reap.yml -i inventory/mine -e plexburst_reap_run_id={DEAD}",
    ]
    for words in ("GP1-S, running", "20 GB", "nl-ams-1", "0.1907 EUR per hour", "expires 2099-01-01"):
        assert words in seen["told"], seen["told"]

    (runs_dir / DEAD / "snapshots" / "result").mkdir()
    (runs_dir / DEAD / "snapshots" / "result" / "manifest.json").write_text("{}")
    assert look(cloud, runs_dir)["other_runs"][0]["commands"][0].startswith("ansible-playbook release.yml")


def test_a_server_that_was_made_and_never_started_is_to_be_reaped(cloud: Simulator, runs_dir: Path) -> None:
    made = cloud.server(DEAD, state="present")
    volume = next(name for name in made["created"] if name.startswith("volume/")).removeprefix("volume/")
    cloud.call("PATCH", f"/block/v1/zones/fr-par-1/volumes/{volume}", tags=[])
    (other,) = look(cloud, runs_dir)["other_runs"]
    assert sorted(other["resources"]) == sorted(made["created"]), "the untagged volume is found through its server"
    assert other["hourly_price"] == 0.0 and other["billed"] is None
    assert [command.split()[1] for command in other["commands"]] == ["reap.yml"]


def test_a_volume_and_an_ip_alone_are_named_and_their_price_is_unknown(cloud: Simulator, runs_dir: Path) -> None:
    tags = ["plexburst", f"plexburst-run={DEAD}"]
    ip = cloud.call(
        "POST", "/instance/v1/zones/pl-waw-3/ips", project=KEYS["project_id"], type="routed_ipv4", tags=tags
    )["ip"]["id"]
    volume = cloud.call(
        "POST", "/block/v1/zones/fr-par-1/volumes", project_id=KEYS["project_id"], from_empty={"size": 10**9}
    )["id"]
    record = {"run_id": DEAD, "cloud": {"created": [f"volume/{volume}"]}}
    (runs_dir / DEAD / "state.json").write_text(json.dumps(record))
    seen = look(cloud, runs_dir)
    (other,) = seen["other_runs"]
    assert sorted(other["resources"]) == sorted([f"ip/{ip}", f"volume/{volume}"])
    assert other["hourly_price"] is None and "unknown EUR per hour" in seen["told"]
    assert [command.split()[1] for command in other["commands"]] == ["reap.yml"]
    cloud.call("DELETE", f"/block/v1/zones/fr-par-1/volumes/{volume}")


def test_a_run_of_another_controller_is_named_as_such(cloud: Simulator, runs_dir: Path) -> None:
    cloud.server(AWAY)
    seen = look(cloud, runs_dir)
    assert not seen["other_runs"][0]["here"]
    assert "not in this controller's runs folder" in seen["told"]
    assert [command.split()[1] for command in seen["other_runs"][0]["commands"]] == ["reap.yml"]


def test_nothing_is_said_only_after_two_whole_listings(cloud: Simulator, runs_dir: Path) -> None:
    assert look(cloud, runs_dir)["told"] == ""
    ip = cloud.call(
        "POST",
        "/instance/v1/zones/fr-par-1/ips",
        project=KEYS["project_id"],
        type="routed_ipv4",
        tags=["plexburst", f"plexburst-run={DEAD}"],
    )["ip"]["id"]
    cloud.faults(empty_lists=1)
    assert look(cloud, runs_dir)["other_runs"][0]["resources"] == [f"ip/{ip}"]
    cloud.faults(block_down=403)
    failed = look(cloud, runs_dir, wait_timeout=2)
    assert failed["failed"] and "may be billed unnoticed" in failed["msg"]
    assert "block volumes in fr-par-1" in failed["msg"] and "BlockStorageFullAccess" in failed["msg"]


PLAY = """
- name: Preflight
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Begin
      plexburst.core.run_begin:
        runs_dir: "{{ runs_dir }}"
    - name: Check
      ansible.builtin.include_tasks: CASE
      loop: "{{ cases }}"
      loop_control:
        loop_var: case
"""
CASE = f"""
- name: Forget the case before
  ansible.builtin.set_fact:
    preflight_problems: []
- name: Check
  ansible.builtin.include_tasks: {REPO}/playbooks/checks/one.yml
  vars:
    check_name: other_runs
    settings: "{{{{ {{'runs_dir': runs_dir, 'zone': 'fr-par-1', 'scw_config_file': config_file, 'scw_profile': '',
      'provider': 'scaleway', 'other_runs': 'stop'}} | combine(case) }}}}"
- name: Tell
  ansible.builtin.copy:
    dest: "{{{{ folder }}}}/{{{{ case.name }}}}.json"
    mode: "0600"
    content: "{{{{ {{'problems': preflight_problems,
      'listing': (lookup('ansible.builtin.file', run_dir ~ '/state.json') | from_json).cloud.listing}} | to_json }}}}"
"""


def test_preflight_stops_for_another_run_unless_told_and_records_what_it_saw(
    cloud: Simulator, runs_dir: Path, tmp_path: Path
) -> None:
    made = cloud.server(DEAD, state="present")
    (runs_dir / ".lock").unlink()
    (tmp_path / "case.yml").write_text(CASE, encoding="utf-8")
    (tmp_path / "play.yml").write_text(PLAY.replace("CASE", str(tmp_path / "case.yml")), encoding="utf-8")
    cases = [
        {"name": "stop"},
        {"name": "ignore", "other_runs": "ignore"},
        {"name": "existing", "provider": "existing"},
        {"name": "failed", "scw_config_file": "/nonexistent/scw.yaml"},
    ]
    values = {"runs_dir": str(runs_dir), "config_file": str(cloud.config_file), "cases": cases, "folder": str(tmp_path)}
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "play.yml")]
    done = subprocess.run(
        [*command, "-i", "home,", "-e", json.dumps(values)],
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", **ansible_cache.environment()}
        | {"ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    said = {case["name"]: json.loads((tmp_path / f"{case['name']}.json").read_text()) for case in cases}
    (problem,) = said["stop"]["problems"]
    assert problem.startswith("other_runs: 1 run(s) that are not alive here hold resources at Scaleway")
    assert f"reap.yml -i home, -e plexburst_reap_run_id={DEAD}" in problem
    assert "plexburst_other_runs=ignore" in problem
    assert sorted(said["stop"]["listing"]["other_runs"][0]["resources"]) == sorted(made["created"])
    assert said["ignore"]["problems"] == [] and "WARNING: other runs hold" in done.stdout
    assert said["ignore"]["listing"]["at"] and said["ignore"]["listing"]["problem"] is None
    assert said["existing"]["problems"] == [] and said["existing"]["listing"]["other_runs"] == []
    assert (
        said["existing"]["listing"]["at"] is None
        and "plexburst_provider is existing" in said["existing"]["listing"]["problem"]
    )
    assert "/nonexistent/scw.yaml" in said["failed"]["problems"][0], "what was not listed is not nothing"
    assert said["failed"]["listing"]["at"] is None and "/nonexistent" in said["failed"]["listing"]["problem"]
