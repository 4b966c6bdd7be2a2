"""A server of the simulated cloud is a machine: cloud-init's keys open it, its end ends everything on it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scaleway.instance.v1 import Server

from sandbox import processes
from sandbox.machines import compiled
from tests.simulators.scaleway_client import Cloud, make_keys, ssh, wait_for
from tests.simulators.scaleway_client import cloud as make_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with make_cloud(tmp_path_factory.mktemp("cloud")) as one:
        yield one


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture
def server(cloud: Cloud, keys: Path) -> Iterator[tuple[Server, str]]:
    """A server that runs and answers on SSH, and its address."""
    made = cloud.create()
    cloud.instance.set_server_user_data(made.id, "cloud-init", make_keys(keys).encode())
    cloud.act(made, "poweron")
    found = cloud.until(made, "running", "booted")
    yield found, str(found.public_ips[0].address)
    if not cloud.is_gone(found):
        cloud.until(made, "running", "booted")
        cloud.act(found, "terminate")
        wait_for(lambda: cloud.is_gone(found))


def listens(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, 2222)) == 0


def test_the_host_key_of_cloud_init_is_the_one_that_answers_and_is_published(
    cloud: Cloud, keys: Path, server: tuple[Server, str]
) -> None:
    one, address = server
    assert (
        ssh(keys, address, "cloud-init status --wait && id -un >/dev/null && echo $USER").stdout
        == "status: done\nroot\n"
    )
    published = cloud.instance.get_server_user_data(one.id, "ssh-host-fingerprints").text
    expected = subprocess.run(
        ["/usr/bin/ssh-keygen", "-lf", keys / "host.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert published.split()[:2] == expected.split()[:2]
    assert "ssh-host-fingerprints" in cloud.instance.list_server_user_data(server_id=one.id).user_data


def test_what_cloud_init_was_told_is_recorded_and_never_run(
    cloud: Cloud, keys: Path, server: tuple[Server, str]
) -> None:
    one, address = server
    assert ssh(keys, address, "cloud-init status --wait --format json").returncode == 0
    record = json.loads((cloud.dir / "machines" / one.id / "log" / "cloud-init.json").read_text())
    assert record["recorded"] == {"runcmd": [["touch", "/tmp/plexburst-must-never-exist"]]}
    assert not Path("/tmp/plexburst-must-never-exist").exists()
    assert "PRIVATE KEY" not in json.dumps(record)


def test_terminate_ends_every_process_and_wipes_the_disk(cloud: Cloud, keys: Path, server: tuple[Server, str]) -> None:
    one, address = server
    started = ssh(keys, address, "nohup setsid sleep 600 >/dev/null 2>&1 & echo $!; touch precious")
    assert started.returncode == 0
    machine = cloud.dir / "machines" / one.id
    assert processes.of_sandbox(machine / "home")
    cloud.act(one, "terminate")
    wait_for(lambda: cloud.is_gone(one))
    assert not listens(address)
    assert processes.of_sandbox(machine) == []
    assert not (machine / "home").exists()


def test_a_reboot_keeps_the_disk_and_shows_a_transition(cloud: Cloud, keys: Path, server: tuple[Server, str]) -> None:
    one, address = server
    assert ssh(keys, address, "cloud-init status --wait; echo kept > file").returncode == 0
    cloud.act(one, "reboot")
    assert cloud.get(one).state == "starting"
    cloud.until(one, "running", "booted")
    assert ssh(keys, address, "cat file; cloud-init status").stdout == "kept\nstatus: done\n"


def test_poweroff_closes_ssh_and_poweron_opens_it_again_on_a_new_dynamic_address(
    cloud: Cloud, keys: Path, server: tuple[Server, str]
) -> None:
    one, address = server
    cloud.act(one, "poweroff")
    stopped = cloud.until(one, "stopped")
    assert (stopped.public_ips, listens(address)) == ([], False)
    cloud.act(one, "poweron")
    again = str(cloud.until(one, "running", "booted").public_ips[0].address)
    assert again != address
    assert ssh(keys, again, "true").returncode == 0


def test_nothing_of_our_environment_reaches_a_machine(cloud: Cloud, keys: Path, server: tuple[Server, str]) -> None:
    _, address = server
    names = {line.partition("=")[0] for line in ssh(keys, address, "env").stdout.splitlines()}
    assert names == {"HOME", "PATH", "USER", "LANG", "SANDBOX_MACHINE", "PWD", "PYTHONPATH", compiled.VARIABLE}
    assert os.environ["HOME"] not in ssh(keys, address, "echo $HOME ~ ~root").stdout.split()
