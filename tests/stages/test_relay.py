"""The database by way of an encrypted relay in S3: real ssh, a real S3 server, the tasks of role and action."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import s3
from tests.modules.s3_relay import PASSPHRASE, REMOTE, RUN, Server
from tests.simulators.scaleway_client import make_keys
from tests.simulators.test_machines import new_machine
from tests.stages.test_transfer import REPO, Way, rows, same
from tests.unit.plex_db import building


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "user-data").write_text(make_keys(keys))
    machine = new_machine(tmp_path / "machine", keys)
    machine.start()
    try:
        machine.wait_ready()
        yield Way(tmp_path, machine, keys)
    finally:
        machine.stop()


def where(server: Server, **more: str) -> dict[str, str]:
    return {
        "remote": REMOTE,
        "password_file": str(server.password_file),
        "rclone_config": str(server.rclone_conf),
        "rclone_bin": str(s3.rclone_binary()),
        "run": RUN,
        **more,
    }


def test_the_pair_goes_out_and_the_result_comes_home_after_the_indexer_is_gone(server: Server, way: Way) -> None:
    incoming = way.there / "incoming"
    told = way.play("snapshot")
    assert way.code == 0, told[-3000:]
    way.variables |= {"plex_fetch_relay": where(server), "plex_fetch_delta_dir": str(way.root / "delta")}
    told = way.play("relay_upload_base", "place_snapshot", plex_fetch_upload_dir=str(incoming), plex_fetch_keep=True)
    assert way.code == 0, told[-3000:]
    assert same(incoming, way.root / "base")
    assert same(way.there / "work" / "base", way.root / "base")
    assert not list((way.root / "delta").iterdir()), "the packed pair does not stay on the controller"
    assert not (way.there / "work" / "delta").exists()

    way.work()
    told = way.play("relay_upload_result")
    assert way.code == 0, told[-3000:]
    assert "the delta, " in told
    indexed = rows(way.live)
    way.machine.stop()
    assert not (way.root / "result").exists()

    # Home's side of the relay fails first: an object is damaged, and so is the base on the controller.
    bad = min(
        (path for path in server.objects() if path.stat().st_size > 5000), key=lambda path: path.stat().st_mtime_ns
    )
    with (way.root / "base" / building.LIBRARY).open("r+b") as stream:
        stream.seek(60_000)
        stream.write(b"damaged on the controller")
    content = bad.read_bytes()
    bad.write_bytes(content[:3000] + b"damaged" + content[3007:])
    told = way.play("relay_download_result", where="localhost")
    assert way.code != 0
    assert "arrived damaged or incomplete in each of 3 attempts" in " ".join(told.split()), told[-3000:]
    assert not (way.root / "result" / building.LIBRARY).exists()

    bad.write_bytes(content)
    told = way.play("relay_download_result", where="localhost")
    assert way.code == 0, told[-3000:]
    assert "The base is downloaded from the relay" in " ".join(told.split()), told[-3000:]
    assert rows(way.root / "result") == indexed != rows(way.root / "base")
    assert PASSPHRASE not in told
    assert server.keys.secret_key not in told


PLAY = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Do one after the other
      plexburst.core.plex_db_relay:
        state: "{{ item.state }}"
        relay: "{{ item.relay }}"
        name: "{{ item.name | default('') }}"
        media: "{{ item.media | default([]) }}"
        runs_dir: "{{ runs_dir }}"
      register: done
      failed_when: false # each call's own result, failures among them, is what the tests look at
      loop: "{{ calls }}"
    - name: Keep what came of it
      ansible.builtin.copy:
        content: "{{ done.results | to_json }}"
        dest: "{{ answers }}"
        mode: "0600"
      check_mode: false
"""


def play(folder: Path, calls: list[dict[str, Any]], *arguments: str) -> list[dict[str, Any]]:
    """The result of each call."""
    (folder / "play.yml").write_text(PLAY)
    answers = folder / "answers.json"
    given = {"calls": calls, "answers": str(answers), "runs_dir": str(folder / "runs")}
    (folder / "vars.json").write_text(json.dumps(given))
    (folder / "runs").mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"), "ANSIBLE_HOME": str(folder / "ansible")}
    program = str(Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-e", f"@{folder / 'vars.json'}", str(folder / "play.yml"), "-vvv", *arguments]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=300, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-3000:]
    assert PASSPHRASE not in told
    assert "password = " not in told
    results: list[dict[str, Any]] = json.loads(answers.read_text())
    return results


def test_a_preflight_names_what_is_wrong_with_the_relay_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    shutil.rmtree(server.buckets / "plexburst-relay", ignore_errors=True)
    open_to_all = tmp_path / "open"
    open_to_all.write_text(f"{PASSPHRASE}\n")
    open_to_all.chmod(0o644)
    wrong_key = tmp_path / "rclone.conf"
    wrong_key.write_text(server.rclone_conf.read_text().replace(server.keys.secret_key, "not-the-secret-key"))
    calls: list[tuple[dict[str, Any], str]] = [
        ({"relay": where(server), "media": [f"{s3.REMOTE}:{s3.BUCKET}"]}, ""),
        ({"relay": where(server), "media": [f"{s3.REMOTE}:plexburst-relay"]}, "which Plex scans"),
        ({"relay": where(server, password_file=str(open_to_all))}, "chmod 600"),
        ({"relay": where(server, password_file=str(tmp_path / "none"))}, "openssl rand"),
        ({"relay": where(server, rclone_config=str(wrong_key))}, "SignatureDoesNotMatch"),
        ({"relay": where(server, rclone_config=str(tmp_path / "none"))}, "No such file"),
        ({"relay": where(server, remote="nowhere:x")}, "no remote [nowhere]"),
        ({"relay": where(server, run="")}, "is not a valid run id"),
    ]
    results = play(tmp_path, [{"state": "tested", **call} for call, _words in calls])
    assert not any("not-the-secret-key" in json.dumps(result) for result in results)
    for result, (_call, words) in zip(results, calls, strict=True):
        assert words in result.get("msg", "")
        assert ("msg" in result) == bool(words), result
        assert not words or "plexburst_transfer_remote" in result["advice"]
    assert server.objects() == []


def test_what_runs_left_there_is_seen_reaped_and_removed(server: Server, tmp_path: Path) -> None:
    shutil.rmtree(server.buckets / "plexburst-relay", ignore_errors=True)
    relay = server.relay()
    over, unfetched = "20200101-000000-aaaa", "20200102-000000-bbbb"
    for place in (f"{over}/base/delta.json", f"{unfetched}/result/0000-part", f"{RUN}/base/0000-part"):
        assert relay._call("rcat", f"plexburst-relay-crypt:{place}", data=b"left").code == 0
    (tmp_path / "runs" / RUN).mkdir(parents=True)
    reaped = {"state": "pruned", "relay": where(server, run="")}
    assert play(tmp_path, [reaped], "--check")[0]["deleted"] == [over, RUN]
    assert set(relay.runs()) == {over, unfetched, RUN}
    known, first, again, absent, named, last = play(
        tmp_path,
        [
            {"state": "inspected", "relay": where(server, run=unfetched), "name": "result"},
            reaped,
            reaped,
            {"state": "absent", "relay": where(server)},
            {"state": "pruned", "relay": where(server, run=unfetched)},
            {"state": "absent", "relay": where(server, run=unfetched)},
        ],
    )
    assert (known["complete"], known["changed"]) == (False, False)
    assert first["deleted"] == [over, RUN]
    assert [entry["run_id"] for entry in again["kept"]] == [unfetched]
    assert "recover.yml" in again["kept"][0]["why"]
    assert (again["changed"], absent["changed"]) == (False, False)
    assert (named["deleted"], last["changed"]) == ([unfetched], False)
    assert server.objects() == []
