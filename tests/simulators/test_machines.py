"""A simulated machine is an sshd to OpenSSH's own clients and to Ansible."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox import processes
from sandbox.machines import Machine, cloudinit, compiled
from tests.simulators.scaleway_client import make_keys, ssh, ssh_options, wait_for

BIG = 10_000_000


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "user-data").write_text(make_keys(folder))
    return folder


def new_machine(folder: Path, keys: Path, **more: Any) -> Machine:
    address = f"127.{100 + secrets.randbelow(150)}.{secrets.randbelow(250)}.{1 + secrets.randbelow(250)}"
    return Machine(folder, folder.name, address, user_data=keys / "user-data", **more)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Machine]:
    one = new_machine(tmp_path_factory.mktemp("m") / "module", keys)
    one.start()
    try:
        one.wait_ready()
        yield one
    finally:
        one.stop()


@pytest.fixture
def start(tmp_path: Path, keys: Path) -> Iterator[Callable[..., Machine]]:
    """Makes machines with faults of their own."""
    made: list[Machine] = []

    def make(faults: dict[str, Any] | None = None, *, wait: bool = True, **more: Any) -> Machine:
        path = tmp_path / "machine.json"
        path.write_text(json.dumps(faults or {}))
        made.append(new_machine(tmp_path / f"m{len(made)}", keys, faults=path, **more))
        made[-1].start()
        if wait:
            made[-1].wait_ready()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def run(machine: Machine, keys: Path, command: str, *more: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    return ssh(keys, machine.address, command, *more, **arguments)


def listens(machine: Machine) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((machine.address, machine.port)) == 0


# --- commands -------------------------------------------------------------------------------------------------------


def test_output_errors_and_exit_code_arrive_apart(machine: Machine, keys: Path) -> None:
    done = run(machine, keys, "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_a_command_sees_the_end_of_its_input(machine: Machine, keys: Path) -> None:
    assert run(machine, keys, "wc -l; echo after", input="a\nb\n").stdout == "2\nafter\n"
    assert run(machine, keys, "true", input="x" * 500_000).returncode == 0


def test_a_shell_reads_its_commands_from_standard_input(machine: Machine, keys: Path) -> None:
    argv = ["ssh", *ssh_options(keys, machine.address), "-T", f"root@{machine.address}"]
    done = subprocess.run(argv, input="pwd\nexit 5\n", capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.returncode) == (f"{machine.folder}/home\n", 5)


def test_a_terminal_is_one_and_merges_both_streams(machine: Machine, keys: Path) -> None:
    done = run(machine, keys, "test -t 0 && test -t 1 && echo tty; echo err >&2; exit 4", "-tt")
    assert (done.stdout, done.returncode) == ("tty\nerr\n", 4)
    assert run(machine, keys, "test -t 0").returncode == 1


def test_a_command_killed_by_a_signal_has_no_exit_code(machine: Machine, keys: Path) -> None:
    assert run(machine, keys, "kill -TERM $$; sleep 5").returncode == 255


def test_a_terminal_that_hangs_up_ends_its_command(machine: Machine, keys: Path) -> None:
    argv = ["ssh", *ssh_options(keys, machine.address), "-tt", f"root@{machine.address}", "echo $$; exec sleep 600"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        client.send_signal(signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(pid))


def test_a_command_without_a_terminal_outlives_a_lost_connection(machine: Machine, keys: Path) -> None:
    command = "echo $$; sleep 0.5; echo gone >&1; touch finished"
    argv = ["ssh", *ssh_options(keys, machine.address), f"root@{machine.address}", command]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline().strip().isdecimal()
        client.send_signal(signal.SIGKILL)
    wait_for((machine.folder / "home" / "finished").exists)


def test_a_background_process_does_not_hold_the_session_and_is_not_lost(machine: Machine, keys: Path) -> None:
    started = time.monotonic()
    pid = int(run(machine, keys, "nohup setsid sleep 600 >/dev/null 2>&1 & echo $!").stdout)
    assert time.monotonic() - started < 5
    assert pid in processes.of_sandbox(machine.folder / "home")
    os.kill(pid, signal.SIGTERM)
    # Nobody waits for it but the machine, which must not leave a zombie.
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_the_environment_is_the_machines_own(machine: Machine, keys: Path) -> None:
    lines = run(machine, keys, "env; echo ~ ~root").stdout.splitlines()
    home = f"{machine.folder}/home"
    assert lines[-1] == f"{home} {home}"
    values = dict(line.split("=", 1) for line in lines[:-1])
    assert values.pop("PWD") == home
    assert values.pop("PATH").startswith(f"{machine.folder}/bin:")
    remembered = compiled.environment(machine.folder.parent)
    own = {"HOME": home, "USER": "root", "LANG": "C.UTF-8", "SANDBOX_MACHINE": machine.machine_id}
    assert values == own | remembered
    assert run(machine, keys, "rclone version").stdout.startswith("rclone v")


def test_a_tilde_that_is_not_the_users_home_is_left_alone(machine: Machine, keys: Path) -> None:
    assert run(machine, keys, "echo 'a~root' x~root/y ~nobody-here").stdout == "a~root x~root/y ~nobody-here\n"


# --- files ----------------------------------------------------------------------------------------------------------


def test_files_travel_whole_and_fast_both_ways(machine: Machine, keys: Path, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(BIG))
    remote = f"root@{machine.address}:big file"
    started = time.monotonic()
    for argv in ([source, remote], [remote, back]):
        subprocess.run(["/usr/bin/scp", "-q", *ssh_options(keys, machine.address), *argv], check=True, timeout=20)
    assert back.read_bytes() == source.read_bytes()
    argv = ["ssh", *ssh_options(keys, machine.address), f"root@{machine.address}", "cat 'big file'"]
    assert subprocess.run(argv, capture_output=True, check=True, timeout=20).stdout == source.read_bytes()
    assert time.monotonic() - started < 10


def test_sftp_starts_in_home(machine: Machine, keys: Path) -> None:
    argv = ["/usr/bin/sftp", "-q", "-b", "-", *ssh_options(keys, machine.address), f"root@{machine.address}"]
    done = subprocess.run(
        argv, input="mkdir folder\npwd\nls -1\n", capture_output=True, text=True, check=True, timeout=20
    )
    assert f"Remote working directory: {machine.folder}/home" in done.stdout
    assert (machine.folder / "home" / "folder").is_dir()


def test_ansible_works_with_and_without_pipelining(machine: Machine, keys: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(100_000))

    def play(name: str, *, pipelining: bool) -> dict[str, Any]:
        copy = {"src": str(source), "dest": f"~/{name}", "mode": "0600"}
        fetch = {"src": f"~/{name}", "dest": f"{tmp_path}/{name}", "flat": True}
        tasks = [{"ansible.builtin.copy": copy}, {"ansible.builtin.fetch": fetch}]
        return {"hosts": "all", "gather_facts": False, "vars": {"ansible_pipelining": pipelining}, "tasks": tasks}

    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([play("piped", pipelining=True), play("plain", pipelining=False)]))
    variables = {
        "ansible_host": machine.address,
        "ansible_user": "root",
        "ansible_ssh_common_args": " ".join(ssh_options(keys, machine.address)) + f" -o ControlPath={tmp_path}/cp",
        "ansible_python_interpreter": sys.executable,
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "m,", "-e", json.dumps(variables), playbook],
        env={**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("piped", "plain"):
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    # `~root`, which is how Ansible asks for the remote user's home, is the machine's.
    assert (machine.folder / "home" / ".ansible").is_dir()


# --- who may enter, and where to ------------------------------------------------------------------------------------


def test_only_an_authorised_key_enters(machine: Machine, keys: Path, tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "host.pub").write_text((keys / "host.pub").read_text())
    refused = ssh(tmp_path, machine.address, "true")
    assert refused.returncode == 255
    assert "Permission denied (publickey)" in refused.stderr


def test_a_host_key_that_is_not_the_expected_one_is_noticed(start: Callable[..., Machine], keys: Path) -> None:
    machine = start({"wrong_host_key": True})
    refused = run(machine, keys, "true")
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_forwarding_reaches_loopback_only(machine: Machine, keys: Path) -> None:
    target = f"{machine.address}:{machine.port}"
    for destination, works in ((target, True), ("192.0.2.1:80", False), ("example.org:80", False)):
        argv = ["ssh", *ssh_options(keys, machine.address), "-W", destination, f"root@{machine.address}"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
        assert done.stdout.startswith(b"SSH-2.0-OpenSSH") is works, destination


def test_a_tunnel_without_a_command_carries_connections(machine: Machine, keys: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    forward = f"127.0.0.1:{port}:{machine.address}:{machine.port}"
    argv = ["ssh", *ssh_options(keys, machine.address), "-N", "-L", forward, f"root@{machine.address}"]
    with subprocess.Popen(argv) as client:

        def banner() -> bytes:
            with socket.socket() as connection:
                return connection.recv(20) if connection.connect_ex(("127.0.0.1", port)) == 0 else b""

        assert wait_for(banner).startswith(b"SSH-2.0-")
        client.terminate()


def test_home_uses_the_key_files_it_is_given_and_knows_no_cloud_init_data(tmp_path: Path, keys: Path) -> None:
    machine = replace(
        new_machine(tmp_path / "home", keys),
        user_data=None,
        host_key=keys / "host",
        authorized_keys=keys / "id.pub",
    )
    machine.start()
    try:
        machine.wait_ready()
        assert run(machine, keys, "echo $SANDBOX_MACHINE").stdout == "home\n"
        assert machine.start() is None
    finally:
        machine.stop()


# --- boot, cloud-init, shutdown -------------------------------------------------------------------------------------


def test_cloud_init_status_is_honest_and_waits(start: Callable[..., Machine], keys: Path) -> None:
    machine = start(cloud_init_seconds=1.5)
    first = run(machine, keys, "cloud-init status; cloud-init status --wait; cloud-init status --format json")
    lines = first.stdout.splitlines()
    assert lines[:2] == ["status: running", "status: done"]
    assert json.loads(lines[2])["status"] == "done"
    assert run(machine, keys, "cloud-init clean").returncode == 2


@pytest.mark.parametrize("text", ["#cloud-config\n: : :\n  - [", "no header\n", "#cloud-config\n- a list\n"])
def test_user_data_that_cloud_init_cannot_read_is_an_error_and_not_a_crash(text: str) -> None:
    config = cloudinit.parse(text)
    assert config.error
    assert config.authorized_keys == []


def test_keys_of_users_count_and_scripts_are_recorded() -> None:
    config = cloudinit.parse("#cloud-config\nusers: [default, {name: a, ssh_authorized_keys: [k1]}]\n")
    assert config.authorized_keys == ["k1"]
    assert cloudinit.parse("#!/bin/sh\nreboot\n").recorded == {"script": "#!/bin/sh\nreboot\n"}


def test_shutdown_asks_processes_first_then_kills_and_leaves_nothing(start: Callable[..., Machine], keys: Path) -> None:
    machine = start()
    polite = "trap 'echo asked > asked; exit 0' TERM; while :; do sleep 0.05; done"
    run(machine, keys, f'nohup setsid sh -c "{polite}" >/dev/null 2>&1 &')
    # One that forgot whose it is: no HOME, no SANDBOX_MACHINE, only its ancestry tells.
    run(machine, keys, "nohup setsid env -i sleep 600 >/dev/null 2>&1 &")
    children = wait_for(lambda: (found := processes.of_sandbox(machine.folder)) and len(found) >= 3 and found)
    machine.stop()
    assert (machine.folder / "home" / "asked").read_text() == "asked\n"
    assert [pid for pid in children if processes.is_alive(pid)] == []
    assert not listens(machine)


# --- faults ---------------------------------------------------------------------------------------------------------


def test_ssh_that_never_opens_never_opens(start: Callable[..., Machine]) -> None:
    machine = start({"ssh_never_opens": True}, wait=False)
    wait_for((machine.folder / "log" / "ssh-host-fingerprints").exists)
    time.sleep(0.4)
    assert machine.pid is not None
    assert not listens(machine)
    assert not machine.is_ready


def test_without_sqlite3_python_cannot_import_it_and_nothing_else_suffers(
    start: Callable[..., Machine], keys: Path
) -> None:
    machine = start({"no_sqlite3": True})
    failed = run(machine, keys, f"{sys.executable} -c 'import json, ssl; import sqlite3'")
    assert failed.returncode == 1
    assert "ModuleNotFoundError: No module named '_sqlite3'" in failed.stderr


def test_a_small_disk_is_small_for_every_python_there(start: Callable[..., Machine], keys: Path) -> None:
    machine = start({"disk_free": 20 * 1024**2, "no_sqlite3": True})
    code = "import os, shutil; s = os.statvfs('.'); print(s.f_bavail * s.f_frsize, shutil.disk_usage('/').free)"
    found = run(machine, keys, f'{sys.executable} -c "{code}"')
    assert found.stdout.split() == ["20971520", "20971520"]
    assert run(machine, keys, f"{sys.executable} -c 'import sqlite3'").returncode == 1


def test_a_truncated_file_ends_early_over_sftp_and_only_the_one_that_is_named(
    start: Callable[..., Machine], keys: Path, tmp_path: Path
) -> None:
    machine = start({"sftp_truncate": {"suffix": "library.db", "bytes": 100_000}})
    for name in ("com.plexapp.plugins.library.db", "other.db"):
        (machine.folder / "home" / name).write_bytes(os.urandom(300_000))
        argv = ["scp", "-q", *ssh_options(keys, machine.address), f"root@{machine.address}:{name}", tmp_path / name]
        subprocess.run(argv, check=False, timeout=20, stderr=subprocess.DEVNULL)
    assert (tmp_path / "com.plexapp.plugins.library.db").stat().st_size == 100_000
    assert (tmp_path / "other.db").stat().st_size == 300_000


def test_a_dropped_connection_can_be_made_again(start: Callable[..., Machine], keys: Path) -> None:
    machine = start({"drop_after": 0.6})
    assert run(machine, keys, "sleep 10").returncode == 255
    assert run(machine, keys, "true").returncode == 0


def test_a_vanished_machine_answers_no_more_but_its_processes_run(start: Callable[..., Machine], keys: Path) -> None:
    machine = start({"vanish_after": 0.8})
    assert run(machine, keys, "nohup setsid sleep 600 >/dev/null 2>&1 &").returncode == 0
    wait_for(lambda: not listens(machine))
    assert processes.of_sandbox(machine.folder / "home")
    assert run(machine, keys, "true").returncode == 255
