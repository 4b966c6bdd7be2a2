"""Up, down and reset do what they say, keep what they must, and leave no process and no readable secret behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scaleway_core.profile.profile import Profile

from sandbox import addresses, home, processes
from sandbox.control import REPO, Sandbox, SandboxError
from sandbox.media import Sizes
from sandbox.options import Options
from sandbox.plex.preferences import Preferences
from tests.small_sandbox import SMALL

TINY = Sizes(tracks=10, films=3, shows=1, episodes=1, photos=2)
CONTRACT = {
    "scaleway": {"url", "config_file", "access_key", "secret_key", "project_id", "zone"},
    "plextv": {"url", "token_file"},
    "s3": {"endpoint", "rclone_config", "remote", "bucket"},
    "home": {
        *("address", "port", "user", "ssh_key", "known_hosts", "dir", "config_dir", "plex_port", "plex_command"),
        *("plex_sqlite", "volumes", "environment", "pid_file"),
    },
    "indexer": {"ssh_port", "plex_port", "plex_command", "plex_sqlite", "environment"},
}


def everything(box: Sandbox) -> list[Any]:
    """Each row that people made or that has an id others rely on."""
    tables = ("metadata_items", "metadata_item_settings", "metadata_item_views", "accounts", "play_queue_generators")
    with contextlib.closing(box.home_db()) as connection:
        return [
            [tuple(row) for row in connection.execute(f"SELECT * FROM {table} ORDER BY id")]  # noqa: S608
            for table in (*tables, "library_sections", "media_parts")
        ]


@pytest.fixture
def throwaway(tmp_path: Path) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path / "box", sizes=TINY, speed=0.02)
    try:
        yield box
    finally:
        box.reset()


def test_state_has_the_contracts_keys(sandbox: Sandbox) -> None:
    state = sandbox.state
    assert {"dir", "repo", "python", "block", "pids"} <= set(state)
    for part, keys in CONTRACT.items():
        assert keys <= set(state[part]), part
    assert state["home"]["address"] == f"{state['block']}.0.2"
    assert all(processes.is_alive(pid) for pid in state["pids"].values())


def test_the_scaleway_sdk_reads_the_configuration_file(sandbox: Sandbox) -> None:
    cloud = sandbox.state["scaleway"]
    profile = Profile.from_config_file(cloud["config_file"])
    assert (
        profile.api_url,
        profile.access_key,
        profile.secret_key,
        profile.default_project_id,
        profile.default_zone,
    ) == (*(cloud["url"], cloud["access_key"], cloud["secret_key"], cloud["project_id"], "fr-par-1"),)


def test_nothing_secret_can_be_read_by_others(sandbox: Sandbox) -> None:
    state = sandbox.state
    secrets = [state["scaleway"]["secret_key"], Path(state["plextv"]["token_file"]).read_text().strip()]
    secrets += [
        line.partition(" = ")[2]
        for line in Path(state["s3"]["rclone_config"]).read_text().splitlines()
        if line.startswith(("secret_access_key", "token"))
    ]
    secrets.append(Preferences(home.support_dir(sandbox.layout) / "Preferences.xml").get("PlexOnlineToken"))
    secrets.append("PRIVATE KEY")
    assert all(len(secret) > 8 for secret in secrets)
    assert stat.S_IMODE(sandbox.dir.stat().st_mode) == 0o700
    holders = []
    for path in sandbox.dir.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1_000_000:
            text = path.read_text(errors="replace")
            if any(secret in text for secret in secrets):
                holders.append(path)
                assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert {"state.json", "scw.yaml", "rclone.conf", "plex-account-token", "id_home"} <= {path.name for path in holders}
    assert not [path for path in holders if path.suffix == ".log"]


def test_no_secret_is_in_an_argument_of_a_process(sandbox: Sandbox) -> None:
    secret = next(
        line.partition(" = ")[2]
        for line in sandbox.layout.rclone_config.read_text().splitlines()
        if line.startswith("secret_access_key")
    )
    token = sandbox.layout.account_token.read_text().strip()
    found = processes.of_sandbox(sandbox.dir)
    assert len(found) >= 5
    for pid in found:
        arguments = " ".join(processes.command(pid))
        assert secret not in arguments
        assert token not in arguments


def test_up_again_changes_nothing(sandbox: Sandbox) -> None:
    before = sandbox.state
    assert sandbox.up() == before


def test_status_tells_each_part(sandbox: Sandbox) -> None:
    status = sandbox.status()
    assert status["up"]
    assert set(status["parts"]) == {"supervisor", "scaleway", "plextv", "s3", "home-plex"}
    assert all(status["parts"].values())


def test_the_ledger_is_empty_and_homes_is_the_only_device(sandbox: Sandbox) -> None:
    assert sandbox.ledger() == []
    assert [device["name"] for device in sandbox.devices()] == [home.NAME]


def test_faults_reach_the_running_simulator_and_can_be_cleared(sandbox: Sandbox) -> None:
    url = f"{sandbox.state['scaleway']['url']}/_sandbox/faults"
    sandbox.set_faults("scaleway", {"quota": True})
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            assert json.load(answer) == {"quota": True}
        assert sandbox.faults() == {"scaleway": {"quota": True}}
    finally:
        sandbox.set_faults("scaleway", {})
    assert sandbox.faults() == {}


def test_an_unknown_simulators_faults_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="plex-home"):
        sandbox.set_faults("plex", {})


def test_homes_plex_stops_by_its_pid_file_and_up_brings_it_back(sandbox: Sandbox) -> None:
    pid = home.running_pid(sandbox.layout)
    assert pid is not None
    processes.end([pid], patience=10)
    assert not home.is_running(sandbox.layout)
    databases = home.databases_dir(sandbox.layout)
    assert not [path.name for path in databases.iterdir() if path.name.endswith(("-wal", "-shm"))]
    sandbox.up()
    again = home.running_pid(sandbox.layout)
    assert again is not None
    assert processes.environment(again)["SANDBOX_MACHINE"] == "home"


def test_two_sandboxes_live_side_by_side(sandbox: Sandbox, throwaway: Sandbox) -> None:
    one, two = sandbox.state, throwaway.up()
    assert one["block"] != two["block"]
    assert one["home"]["plex_port"] != two["home"]["plex_port"]
    throwaway.down()
    assert sandbox.status()["up"]


def test_down_leaves_no_process_and_up_finds_everything_as_it_was(throwaway: Sandbox) -> None:
    first = throwaway.up()
    rows, rclone_conf = everything(throwaway), throwaway.layout.rclone_config.read_text()
    identity = (home.support_dir(throwaway.layout) / "Preferences.xml").read_text()
    # A stray that somebody started on home's machine ends with it.
    subprocess.run(
        [
            *(
                "ssh",
                "-F",
                "none",
                "-p",
                str(first["home"]["port"]),
                "-i",
                first["home"]["ssh_key"],
                "-o",
                "BatchMode=yes",
            ),
            *("-o", f"UserKnownHostsFile={first['home']['known_hosts']}", f"zima@{first['home']['address']}"),
            "setsid sleep 600 >/dev/null 2>&1 </dev/null &",
        ],
        check=True,
        timeout=20,
    )
    assert "sleep" in {processes.command(pid)[0] for pid in processes.of_sandbox(throwaway.dir)}
    throwaway.down()
    assert processes.of_sandbox(throwaway.dir) == []
    mentioned = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and int(entry.name) != os.getpid()
        and str(throwaway.dir)
        in " ".join([*processes.command(int(entry.name)), *processes.environment(int(entry.name)).values()])
    ]
    assert mentioned == []
    assert throwaway.state["pids"] == {}
    assert not throwaway.is_up
    second = throwaway.up()
    assert second["block"] == first["block"]
    assert everything(throwaway) == rows
    assert throwaway.layout.rclone_config.read_text() == rclone_conf
    assert (home.support_dir(throwaway.layout) / "Preferences.xml").read_text() == identity
    assert [device["name"] for device in throwaway.devices()] == [home.NAME]


def test_a_killed_supervisor_is_cleaned_up_by_the_next_up(throwaway: Sandbox) -> None:
    state = throwaway.up()
    os.kill(state["pids"]["supervisor"], signal.SIGKILL)
    while processes.is_alive(state["pids"]["supervisor"]):
        time.sleep(0.01)
    again = throwaway.up()
    assert again["pids"]["supervisor"] != state["pids"]["supervisor"]
    assert throwaway.status()["up"]
    assert not any(processes.is_alive(pid) for pid in state["pids"].values())


def test_a_part_that_dies_at_start_is_named_with_its_log(throwaway: Sandbox) -> None:
    throwaway.dir.mkdir()
    Options(TINY).write(throwaway.layout.options)
    for path in (throwaway.layout.lock, throwaway.layout.seeded):
        path.touch()
    (throwaway.dir / "plextv-state.json").write_text('{"devices": ')
    with pytest.raises(SandboxError, match=r"expected plextv to run(.|\n)*JSONDecodeError"):
        throwaway.up()
    assert processes.of_sandbox(throwaway.dir) == []


def test_a_taken_port_makes_the_sandbox_choose_another_block() -> None:
    block, lock = addresses.claim()
    lock.close()
    with socket.socket() as taken:
        taken.bind((block.home, addresses.SSH_PORT))
        taken.listen()
        other, lock = addresses.claim(block.number)
        lock.close()
    assert other != block


def test_other_sizes_are_refused_for_a_sandbox_that_has_its_media(sandbox: Sandbox) -> None:
    other = Sandbox(sandbox.dir, sizes=TINY)
    assert SMALL != TINY
    sandbox_was_up = sandbox.is_up
    with pytest.raises(SandboxError, match="reset"):
        other.up()
    assert sandbox_was_up


def test_a_folder_that_holds_the_users_home_is_refused() -> None:
    with pytest.raises(SandboxError, match="home folder"):
        Sandbox("/")


def test_reset_deletes_only_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("precious")
    with pytest.raises(SandboxError, match="nothing was deleted"):
        Sandbox(tmp_path / "letters").reset()
    assert (tmp_path / "letters" / "dear.txt").is_file()


def test_the_command_line_shows_a_sandbox_that_is_down(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", "status", "--dir", str(tmp_path / "none")],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 3
    assert json.loads(done.stdout)["up"] is False
