"""The difference on its way between the controller and a machine of the sandbox: real ssh, the role's own tasks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox.machines import Machine
from tests import ansible_cache
from tests.simulators.scaleway_client import make_keys, ssh_options
from tests.simulators.test_machines import new_machine
from tests.unit.plex_db import building

REPO = Path(__file__).resolve().parents[2]

PLAY = """\
- name: Bring what is new, then send it back
  hosts: "{{ where | default('all') }}"
  gather_facts: false
  tasks:
    - name: Move it
      ansible.builtin.include_role:
        name: plexburst.core.plex_fetch
        tasks_from: "{{ step }}"
      loop: "{{ steps }}"
      loop_control:
        loop_var: step
    - name: Show what travelled
      ansible.builtin.debug:
        msg: "TRAVELLED {{ plex_fetch_bytes | default(0) }}"
"""


class Way:
    """A machine with a live pair, the base it got, and the controller's folders."""

    def __init__(self, root: Path, machine: Machine, keys: Path) -> None:
        self.root, self.machine = root, machine
        self.there = machine.folder / "home"
        self.live = building.make_library(self.there / "live", tracks=300)
        self.variables: dict[str, Any] = {
            "plex_fetch_databases_dir": str(self.live),
            "plex_fetch_work_dir": str(self.there / "work"),
            "plex_fetch_dest": str(root / "base"),
            "plex_fetch_source": "indexer",
        }
        (root / "play.yml").write_text(PLAY)
        (root / "inventory.yml").write_text(
            "all:\n  hosts:\n    machine:\n"
            f"      ansible_host: {machine.address}\n      ansible_port: {machine.port}\n      ansible_user: root\n"
            f"      ansible_ssh_private_key_file: {keys / 'id'}\n"
            f"      ansible_ssh_common_args: {' '.join(ssh_options(keys, machine.address))}\n"
            f"      ansible_python_interpreter: {sys.executable}\n"
        )

    def play(self, *steps: str, **more: Any) -> str:
        """Run steps of the role; what ansible-playbook said."""
        (self.root / "vars.json").write_text(json.dumps({"steps": steps, **self.variables, **more}))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment |= {
            **ansible_cache.environment(),
            "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"),
            "ANSIBLE_HOME": str(self.root / "ansible"),
        }
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *("-i", str(self.root / "inventory.yml"), "-e", f"@{self.root / 'vars.json'}"),
                str(self.root / "play.yml"),
            ],
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        self.code = done.returncode
        return done.stdout

    def work(self) -> None:
        """What an indexer does: half of the tracks get Sonic data."""
        done = [("UPDATE metadata_items SET extra_data = ? WHERE id < 150", building.SONIC)]
        building.write(self.live / building.LIBRARY, *done)
        building.write(self.live / building.BLOBS, *[building.vector(number) for number in range(1000, 1100)])
        self.variables |= {
            "plex_fetch_base_dir": str(self.root / "base"),
            "plex_fetch_base_manifest": str(self.root / "base" / "manifest.json"),
            "plex_fetch_delta_dir": str(self.root / "delta"),
            "plex_fetch_dest": str(self.root / "result"),
            "plex_fetch_upload_dir": str(self.there / "incoming"),
        }

    def faults(self, faults: dict[str, Any]) -> None:
        """Switch faults of the machine on, or off."""
        (self.root / "faults.json").write_text(json.dumps(faults))


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    root = tmp_path_factory.mktemp("way")
    keys = root / "keys"
    keys.mkdir()
    (keys / "user-data").write_text(make_keys(keys))
    (root / "faults.json").write_text("{}")
    machine = new_machine(root / "machine", keys, faults=root / "faults.json")
    machine.start()
    try:
        machine.wait_ready()
        yield Way(root, machine, keys)
    finally:
        machine.stop()


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """What the work wrote. An online backup writes a change counter of its own, so bytes differ from the live files."""
    with closing(sqlite3.connect(f"file:{folder / building.LIBRARY}?mode=ro&immutable=1", uri=True)) as library:
        return library.execute("SELECT id, extra_data FROM metadata_items ORDER BY id").fetchall()


def same(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in (building.LIBRARY, building.BLOBS))


def test_the_difference_travels_both_ways_and_goes_on_after_a_failure(way: Way) -> None:
    told = way.play("snapshot", plex_fetch_keep=True)
    assert way.code == 0, told[-3000:]
    assert same(way.there / "work" / "base", way.root / "base")
    way.work()

    way.faults({"sftp_truncate": {"suffix": "blobs.db", "bytes": 100}})
    told = way.play("download")
    assert way.code != 0
    words = "a part of com.plexapp.plugins.library.blobs.db arrived damaged or incomplete in each of 3 attempts"
    assert words in " ".join(told.split()), told[-3000:]
    assert not (way.root / "result" / building.LIBRARY).exists()

    way.faults({})
    told = way.play("download", "upload")
    assert way.code == 0, told[-3000:]
    assert "1 parts exist already" in told
    assert rows(way.root / "result") == rows(way.live) != rows(way.root / "base")
    assert same(way.there / "incoming", way.root / "result")
    assert told.count("the delta, ") == 2
    travelled = int(told.partition("TRAVELLED ")[2].split('"')[0])
    assert travelled < sum((way.live / name).stat().st_size for name in (building.LIBRARY, building.BLOBS)) / 4
    assert not (way.there / "work" / "delta").exists()

    with (way.there / "work" / "base" / building.LIBRARY).open("r+b") as stream:
        stream.seek(60_000)
        stream.write(b"damaged at home")
    for path in (way.there / "incoming").iterdir():
        path.unlink()
    told = way.play("upload")
    assert way.code == 0, told[-3000:]
    assert "Transfer the whole pair" in told
    assert ": the whole pair, " in told
    assert same(way.there / "incoming", way.root / "result")

    told = way.play("absent", "upload")
    assert way.code == 0, told[-3000:]
    assert "the other end has no base" in told
