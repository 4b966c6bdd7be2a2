"""The roles docker, rclone and plex_server as playbooks see them: run by ansible-playbook, as an ordinary user.

What needs root (apt, systemd, Docker, FUSE) is proved in e2e; here are the process runtime, the copy, the inputs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.plexburst.core.plugins.module_utils.home_job.server import HomeJobError, Server

from tests import ansible_cache

REPO = Path(__file__).resolve().parents[2]
ROLES = ("docker", "rclone", "plex_server")
BIN = Path(sys.executable).parent

PLAY = """\
- name: Test
  hosts: all
  gather_facts: false
  tasks:
    - name: Call the role
      ansible.builtin.include_role:
        name: "plexburst.core.{{ test_role }}"
        tasks_from: "{{ test_step }}"
      loop: "{{ test_steps }}"
      loop_control:
        loop_var: test_step
    - name: Show its facts
      ansible.builtin.debug:
        msg: "{{ {'FACTS': {'volumes': rclone_mount_volumes | default(none), 'scope': plex_server_scope | default(none),
          'running': plex_server_running | default(none), 'base_url': plex_server_base_url | default(none),
          'databases': plex_server_database_dir | default(none), 'commands': plex_server_commands | default(none)}} }}"
"""

# A server that behaves as the contract of the process runtime says; what it leaves beside its database is a setting.
SERVER = """\
import argparse, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
for name in ("config", "port", "bind", "name"):
    parser.add_argument("--" + name)
parser.add_argument("--volume", action="append")
args = parser.parse_args()
support = pathlib.Path(args.config) / "Library/Application Support/Plex Media Server"
(support / "Logs").mkdir(parents=True, exist_ok=True)
databases = support / "Plug-in Support/Databases"
databases.mkdir(parents=True, exist_ok=True)
if os.environ.get("TEST_DIES"):
    sys.exit("no database here")
if os.environ.get("TEST_STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
(databases / "com.plexapp.plugins.library.db-wal").write_bytes(b"x" * int(os.environ.get("TEST_WAL", "0")))
(support / "Logs/Plex Media Server.log").write_text("GET /?X-Plex-Token=abcdefghijklmnop1234 200\\n")
print(sys.argv[1:], flush=True)
(support / "plexmediaserver.pid").write_text(str(os.getpid()))
while True:
    time.sleep(0.2)
"""


class Playbook:
    """Runs a role's entry points on a local host and keeps what came out."""

    def __init__(self, folder: Path, role: str, variables: dict[str, Any]) -> None:
        self.folder, self.role, self.variables = folder, role, variables
        (folder / "play.yml").write_text(PLAY)

    def run(
        self, *steps: str, check: bool = False, path: str = "", **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        given = {"test_role": self.role, "test_steps": steps, **self.variables, **variables}
        command = [BIN / "ansible-playbook", "-i", "machine,", "-c", "local", self.folder / "play.yml", "--diff", "-vv"]
        return subprocess.run(
            [*command, "-e", json.dumps(given), *(["--check"] if check else [])],
            cwd=REPO,
            env={
                **os.environ,
                **ansible_cache.environment(),
                "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"),
                "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
                "ANSIBLE_NOCOLOR": "1",
                **({"PATH": path} if path else {}),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def changed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout + done.stderr
    recap = done.stdout[done.stdout.rindex("PLAY RECAP") :]
    return int(recap.split("changed=")[1].split()[0])


@pytest.fixture
def plex(tmp_path: Path) -> Iterator[Playbook]:
    program = tmp_path / "bin" / "Plex Media Server"
    program.parent.mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/server.py" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "media").mkdir()
    variables = {
        "plex_server_runtime": "process",
        "plex_server_command": [str(program)],
        "plex_server_config_dir": str(tmp_path / "config"),
        "plex_server_transcode_dir": str(tmp_path / "transcode"),
        "plex_server_port": 32999,
        "plex_server_name": "indexer",
        "plex_server_volumes": [{"host": str(tmp_path / "media"), "path": "/Media"}],
        "plex_server_sqlite": ["/nowhere/Plex SQLite"],
        "plex_server_stop_timeout": 20,
        "plex_server_logs_dest": str(tmp_path / "logs"),
    }
    yield Playbook(tmp_path, "plex_server", variables)
    pid_file = support(tmp_path) / "plexmediaserver.pid"
    if pid_file.exists() and alive(int(pid_file.read_text())):
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def support(folder: Path) -> Path:
    return folder / "config/Library/Application Support/Plex Media Server"


def alive(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline")
    return command.exists() and b"server.py" in command.read_bytes()


def test_a_process_starts_once_outlives_the_playbook_and_ends_cleanly(plex: Playbook, tmp_path: Path) -> None:
    first = plex.run("prepare", "start")
    assert changed(first) >= 1
    pid = int((support(tmp_path) / "plexmediaserver.pid").read_text())
    assert alive(pid)
    printed = (tmp_path / "config/plexmediaserver.out").read_text()
    assert f"'--volume', '{tmp_path}/media:/Media:ro'" in printed
    assert "'--port', '32999', '--bind', '127.0.0.1'" in printed

    again = plex.run("prepare", "start", "info", "logs")
    assert int((support(tmp_path) / "plexmediaserver.pid").read_text()) == pid
    assert '"running": true' in again.stdout
    assert '"base_url": "http://127.0.0.1:32999"' in again.stdout
    log = (tmp_path / "logs/Plex Media Server.log").read_text()
    assert log == "GET /?X-Plex-Token=******** 200\n"

    assert changed(plex.run("stop")) == 2  # the process, and its empty write-ahead log
    assert not alive(pid)
    assert list((support(tmp_path) / "Plug-in Support/Databases").iterdir()) == []
    assert changed(plex.run("stop")) == 0


def test_a_second_preparing_run_changes_nothing(plex: Playbook) -> None:
    plex.run("prepare", "start")
    assert changed(plex.run("prepare", "start")) == 0
    assert changed(plex.run("absent", plex_server_remove_data=True)) == 2
    assert not Path(plex.variables["plex_server_config_dir"]).exists()


def test_a_write_ahead_log_with_data_is_refused(plex: Playbook) -> None:
    done = plex.run("prepare", "start", "stop", plex_server_environment={"TEST_WAL": "7"})
    assert done.returncode != 0
    assert "com.plexapp.plugins.library.db-wal still contains writes" in done.stdout + done.stderr


def test_a_plex_that_does_not_end_is_not_killed(plex: Playbook, tmp_path: Path) -> None:
    done = plex.run(
        "prepare", "start", "stop", plex_server_environment={"TEST_STUBBORN": "1"}, plex_server_stop_timeout=1
    )
    assert done.returncode != 0
    assert "still runs 1 s after it was asked to end; it was not killed" in done.stdout + done.stderr
    assert alive(int((support(tmp_path) / "plexmediaserver.pid").read_text()))


def test_a_plex_that_dies_at_once_fails_with_what_it_said(plex: Playbook) -> None:
    done = plex.run("prepare", "start", plex_server_environment={"TEST_DIES": "1"})
    assert done.returncode != 0
    assert "Plex ended as soon as it was started" in done.stdout + done.stderr
    assert "no database here" in done.stdout + done.stderr


def test_check_mode_starts_nothing(plex: Playbook, tmp_path: Path) -> None:
    done = plex.run("prepare", "start", "stop", check=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "config").exists()


@pytest.mark.parametrize("name", ["PLEX_CLAIM", "MY_TOKEN", "Password"])
def test_no_secret_goes_into_plexs_environment(plex: Playbook, name: str) -> None:
    done = plex.run("prepare", plex_server_environment={name: "x"})
    assert done.returncode != 0
    assert "must contain no claim, token, password or secret" in done.stdout + done.stderr


@pytest.mark.parametrize("version", ["", "latest", "public"])
def test_an_unpinned_image_is_refused_before_docker_is_asked(plex: Playbook, version: str) -> None:
    done = plex.run("prepare", plex_server_runtime="docker", plex_server_version=version)
    assert done.returncode != 0
    assert "Set it to the exact version of the home server" in done.stdout + done.stderr


def test_a_container_that_updates_itself_is_found_by_how_it_was_made(plex: Playbook, tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{tmp_path}/asked"\necho plexinc/pms-docker:public\n')
    docker.chmod(0o755)
    path = f"{docker.parent}{os.pathsep}{os.environ['PATH']}"
    done = plex.run("updates", plex_server_runtime="docker", plex_server_container="plex", path=path)
    assert "the image's tag public" in done.stdout, done.stdout + done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:3] == ["container", "inspect", "--format"]
    # Nothing but what decides is read: the environment may hold a claim.
    assert 'eq (index $p 0) "VERSION" "PLEXPASS" "ADVANCED_DISABLEUPDATES"' in asked[3]
    assert asked[4] == "plex"


# A container, or a unit, in a file: running or not, and whether Plex runs in it; what is asked of it is kept.
DOCKER = """\
#!/bin/sh
cd "{folder}" || exit 9
echo "$*" | tr '\\n' ' ' | cut -c1-60 >>asked
case "$1 $2" in
"container inspect")
  case "$4" in *Running*) cat running ;; *) cat exit-code ;; esac ;;
"top plex")
  if [ "$(cat running) $(cat plex)" = "true up" ]; then echo "1 /usr/lib/plexmediaserver/Plex Media Server"; fi ;;
"exec plex") shift 5; case "$2" in -d) echo down >plex ;; -u) echo up >plex ;; esac ;;
"start plex") echo true >running; echo up >plex ;;
"stop -t") echo false >running ;;
esac
"""
SYSTEMCTL = """\
#!/bin/sh
cd "{folder}" || exit 9
echo "$*" >>asked
case "$1 $2" in
"show --property=ActiveState") cat running ;;
"show --property=Result") cat result ;;
"stop plexmediaserver") grep -q TimeoutStopSec=20 patience && echo inactive >running ;;
"start plexmediaserver") echo active >running ;;
esac
"""


def commands_of(plex: Playbook, program: str, script: str, **variables: Any) -> dict[str, Any]:
    """The commands that the role gives for somebody else's Plex, asked of a program of ours."""
    path = plex.folder / "bin" / program
    path.write_text(script.format(folder=plex.folder))
    path.chmod(0o755)
    done = plex.run("commands", plex_server_existing=True, plex_server_container="plex", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = done.stdout[done.stdout.rindex('"FACTS"') :].split(":", 1)[1]
    found: dict[str, Any] = json.JSONDecoder().raw_decode(shown.strip())[0]["commands"]
    return found


def server_of(plex: Playbook, commands: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("PATH", f"{plex.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Server(commands, [], plex.folder / "none", plex.folder, 0.02)


def state(home: Playbook, **files: str) -> None:
    for name, text in files.items():
        (home.folder / name.replace("_", "-")).write_text(text + "\n")
    (home.folder / "asked").write_text("")


def asked(plex: Playbook) -> list[str]:
    return (plex.folder / "asked").read_text().splitlines()


def test_a_container_is_stopped_and_started_without_ansible(plex: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    server = server_of(plex, commands_of(plex, "docker", DOCKER, plex_server_runtime="docker"), monkeypatch)
    state(plex, running="true", plex="up", exit_code="0")
    assert server.running()
    server.stop()
    assert not server.running()
    kept = [line.split()[0] for line in asked(plex)]
    assert kept.index("exec") < kept.index("stop"), "Plex ends inside before the container is stopped"
    server._start(1)
    assert server.running()

    # A stop that failed half-way: the container runs, Plex does not.
    state(plex, running="true", plex="down", exit_code="0")
    server._start(1)
    assert (plex.folder / "plex").read_text() == "up\n"
    assert "start plex" not in asked(plex)

    state(plex, running="true", plex="up", exit_code="137")
    with pytest.raises(HomeJobError, match=r"was killed instead of ending by itself.*\(found: 137\)"):
        server.stop()


def test_a_unit_is_stopped_with_patience_and_started_without_ansible(
    plex: Playbook, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = commands_of(plex, "systemctl", SYSTEMCTL, plex_server_runtime="systemd")
    argv = commands["stop"][0]["argv"]
    assert argv[-1] == "/run/systemd/system/plexmediaserver.service.d/plexburst-stop.conf"
    argv[-1] = str(plex.folder / "patience")
    server = server_of(plex, commands, monkeypatch)
    state(plex, running="active", result="success")
    server.stop()
    assert not server.running()
    assert not (plex.folder / "patience").exists()
    server._start(1)
    assert server.running()
    state(plex, running="active", result="timeout")
    with pytest.raises(HomeJobError, match=r"instead of letting it end by itself.*\(found: timeout\)"):
        server.stop()


def test_the_commands_are_for_somebody_elses_plex_alone(plex: Playbook) -> None:
    done = plex.run("commands")
    assert done.returncode != 0
    assert "Use tasks_from start and stop" in done.stdout + done.stderr


def test_somebody_elses_plex_is_never_removed(plex: Playbook) -> None:
    done = plex.run("absent", plex_server_existing=True, plex_server_remove_data=True)
    assert done.returncode != 0
    assert "This Plex was not removed" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "media/Music/Artist").mkdir(parents=True)
    (folder / "media/Music/Artist/It's é.mp3").write_text("one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [BIN / "rclone", "serve", "s3", folder, "--addr", f"127.0.0.1:{port}"]
    command += ["--dir-cache-time", "0s", "--auth-key", "AKIAEXAMPLE0,SECRETEXAMPLE1234"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield folder / "media", f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def media(s3: tuple[Path, str], tmp_path: Path) -> Playbook:
    conf = (
        "[private-dropbox]\ntype = dropbox\ntoken = DROPBOXSECRET\n\n"
        f"[media-s3]\ntype = s3\nprovider = Rclone\nendpoint = {s3[1]}\n"
        "access_key_id = AKIAEXAMPLE0\nsecret_access_key = SECRETEXAMPLE1234\n\n"
        "[media]\ntype = alias\nremote = media-s3:media\n"
    )
    (tmp_path / "source.conf").write_text(conf)
    variables = {
        "rclone_mount_mode": "copy",
        "rclone_mount_manage_packages": False,
        "rclone_mount_bin": str(BIN / "rclone"),
        "rclone_mount_config_source": str(tmp_path / "source.conf"),
        "rclone_mount_config_dir": str(tmp_path / "machine/rclone"),
        "rclone_mount_remotes": [{"remote": "media:", "path": str(tmp_path / "machine/media/0"), "target": "/Media"}],
    }
    return Playbook(tmp_path, "rclone", variables)


def test_a_copy_follows_the_remote_is_read_only_and_takes_only_what_it_needs(
    media: Playbook, s3: tuple[Path, str], tmp_path: Path
) -> None:
    assert changed(media.run("main", check=True)) >= 1
    assert not (tmp_path / "machine").exists()

    first = media.run("main")
    assert changed(first) == 3
    assert '"path": "/Media"' in first.stdout
    copied = tmp_path / "machine/media/0/Music/Artist/It's é.mp3"
    assert copied.read_text() == "one"
    for path in (copied, copied.parent, tmp_path / "machine/media/0"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    conf = tmp_path / "machine/rclone/rclone.conf"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    assert "dropbox" not in conf.read_text()
    assert "SECRETEXAMPLE1234" not in first.stdout + first.stderr

    assert changed(media.run("main")) == 0

    new = s3[0] / "Music/Artist/new.mp3"
    new.write_text("two")
    try:
        assert changed(media.run("main")) == 1
        assert (copied.parent / "new.mp3").read_text() == "two"
    finally:
        new.unlink()
    assert changed(media.run("main")) == 1
    assert not (copied.parent / "new.mp3").exists()

    conf.write_text(conf.read_text() + "# edited by hand\n")
    assert changed(media.run("main")) == 1

    assert changed(media.run("absent")) == 2
    assert not (tmp_path / "machine/media/0").exists()
    assert not conf.exists()
    assert changed(media.run("absent")) == 0


def test_a_wrong_key_names_the_remote_and_its_answer_and_no_secret(media: Playbook, tmp_path: Path) -> None:
    source = tmp_path / "source.conf"
    source.write_text(source.read_text().replace("SECRETEXAMPLE1234", "WRONGSECRET99999"))
    done = media.run("main")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "rclone could not read media: (exit code 1)" in said
    assert "SignatureDoesNotMatch" in said
    assert "WRONGSECRET" not in said
    assert not (tmp_path / "machine/media/0").exists()


def test_an_empty_remote_deletes_nothing(media: Playbook, s3: tuple[Path, str], tmp_path: Path) -> None:
    assert changed(media.run("main")) == 3
    empty = s3[0].parent / "empty"
    empty.mkdir(exist_ok=True)
    conf = tmp_path / "source.conf"
    conf.write_text(conf.read_text().replace("media-s3:media", "media-s3:empty"))
    done = media.run("main")
    assert done.returncode != 0
    assert "media: is empty" in done.stdout + done.stderr
    assert (tmp_path / "machine/media/0/Music/Artist/It's é.mp3").exists()


@pytest.mark.parametrize("path", ["/", "/media", "relative/x", "/a/b/"])
def test_a_folder_that_is_not_the_roles_own_is_refused(media: Playbook, path: str) -> None:
    done = media.run("main", rclone_mount_remotes=[{"remote": "media:", "path": path}])
    assert done.returncode != 0
    assert "at least two folders deep" in done.stdout + done.stderr


def test_docker_that_does_not_answer_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "Cannot connect to the Docker daemon" >&2\nexit 1\n')
    docker.chmod(0o755)
    playbook = Playbook(tmp_path, "docker", {"docker_manage_packages": False, "docker_ready_timeout": 1})
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{tmp_path}:{before}"
    try:
        done = playbook.run("main")
        assert done.returncode != 0
        assert (
            "Docker does not answer on this machine. It returned: Cannot connect to the Docker daemon"
            in done.stdout + done.stderr
        )
        docker.write_text('#!/bin/sh\necho \'{"version": "28.2.2", "driver": "overlay2"}\'\n')
        assert changed(playbook.run("main")) == 0
    finally:
        os.environ["PATH"] = before


def test_a_cloud_that_cannot_be_asked_is_no_proof_that_nothing_is_left(tmp_path: Path) -> None:
    # Nobody listens on port 1; the key is Scaleway's own placeholder and opens nothing.
    nobody = "00000000-0000-4000-8000-000000000000"
    values = {"api_url": "http://127.0.0.1:1", "access_key": "SCWXXXXXXXXXXXXXXXXX", "secret_key": nobody}
    values |= {"default_project_id": nobody, "default_organization_id": nobody, "default_zone": "fr-par-1"}
    config = tmp_path / "scw.yaml"
    config.write_text(yaml.safe_dump(values))
    config.chmod(0o600)
    playbook = Playbook(
        tmp_path,
        "provider_scaleway",
        {
            "provider_scaleway_run_id": "20261126-120000-abcd",
            "provider_scaleway_key_dir": str(tmp_path),
            "provider_scaleway_config_file": str(config),
            "provider_scaleway_remove_timeout": 3,
        },
    )
    done = playbook.run("absent")
    assert done.returncode != 0
    assert '"provider_scaleway_leftovers": ["unknown/servers in fr-par-1", "unknown/ips in fr-par-1"' in done.stdout
    assert "reap.yml -e plexburst_reap_run_id=20261126-120000-abcd" in done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_an_input_and_every_entry_point_has_a_specification(role: str) -> None:
    folder = REPO / "roles" / role
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]
    for entry, spec in specs.items():
        assert (folder / "tasks" / f"{entry}.yml").exists()
        assert set(spec["options"]) == set(defaults), entry
        for name, option in spec["options"].items():
            if "default" in option:
                assert option["default"] == defaults[name], name
    readme = (folder / "README.md").read_text()
    assert [name for name in defaults if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("remote", ["media:", 'media:a "b" 100% $x'])
def test_the_mount_unit_is_read_only_bounded_and_quoted(remote: str, tmp_path: Path) -> None:
    source = "rclone/templates/media.service.j2"
    variables = {
        "rclone_mount_cache_dir": "/var/cache/r",
        "rclone_mount_uid": 1000,
        "rclone_mount_gid": 1000,
        "rclone_mount_rc_port": 5572,
        "rclone_mount_time_flags": ["--use-server-modtime"],
        "__rclone_mount_item": {"remote": remote, "path": "/opt/plex burst/media/0"},
        "__rclone_mount_number": 1,
        "__rclone_mount_bin": "rclone",
        "__rclone_mount_config": "/etc/plexburst/rclone/rclone.conf",
        "__rclone_mount_version": "1.60.1",
        "__rclone_mount_parameters": {
            "cache_max_size_gb": 5, "cache_min_free_gb": 2, "read_ahead_mb": 16, "read_chunk_size_mb": 32,
            "read_chunk_size_limit_mb": 1024, "buffer_size_mb": 16, "transfers": 4, "checkers": 8,
        },
    }  # fmt: skip
    unit = render(source, tmp_path, variables)
    assert "--read-only" in unit
    assert "--allow-other --uid 1000 --gid 1000" in unit
    assert "Type=notify" in unit
    assert "--rc-addr 127.0.0.1:5573" in unit
    assert '"/opt/plex burst/media/0"' in unit
    assert "--vfs-cache-min-free-space" not in unit
    assert "--vfs-cache-min-free-space 2G" in render(
        source, tmp_path, {**variables, "__rclone_mount_version": "1.71.2"}
    )
    command = unit[unit.index("ExecStart=") :].split("\nExecStop=")[0]
    assert all(line.endswith("\\") for line in command.splitlines()[:-1])
    verify = shutil.which("systemd-analyze")
    if verify:
        (tmp_path / "plexburst-media-1.service").write_text(unit.replace('ExecStart="rclone"', "ExecStart=/bin/true"))
        done = subprocess.run(
            [verify, "verify", "--man=no", tmp_path / "plexburst-media-1.service"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "plexburst-media-1.service:" not in done.stderr


def test_the_health_check_is_valid_shell(tmp_path: Path) -> None:
    variables = {"rclone_mount_probe_timeout": 5, "rclone_mount_health_failures": 3}
    script = tmp_path / "health.sh"
    script.write_text(render("rclone/templates/media-health.sh.j2", tmp_path, variables))
    subprocess.run(["/bin/sh", "-n", script], check=True)


def render(template: str, folder: Path, variables: dict[str, Any]) -> str:
    """The role's template as ansible's own template module writes it."""
    command = [BIN / "ansible", "machine", "-i", "machine,", "-c", "local", "-m", "ansible.builtin.template"]
    done = subprocess.run(
        [*command, "-a", f"src={REPO}/roles/{template} dest={folder}/rendered", "-e", json.dumps(variables)],
        cwd=REPO,
        env={**os.environ, "ANSIBLE_PYTHON_INTERPRETER": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "rendered").read_text()
