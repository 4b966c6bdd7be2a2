"""The world of one scenario: a bucket, plex.tv, a Scaleway whose machines are containers, and a home that is one too.

Simulators are the sandbox's own, at the address of the machines' bridge. What a scenario asserts is read from the real
things: the machines' disks, the ledger, plex.tv's devices; never from what plexburst says about itself alone.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from sandbox import home, media, processes, s3
from sandbox.faults import Faults
from sandbox.files import tail, write, write_json, write_secret
from sandbox.layout import FAULT_NAMES, Layout
from sandbox.machines.container import ContainerMachine, Platform
from sandbox.media import Sizes
from sandbox.scaleway import settings as scaleway
from sandbox.scaleway.containers import PLATFORM
from tests import ansible_cache
from tests.e2e import rootfs
from tests.e2e.engine import NETWORK, Engine
from tests.e2e.host import E2EError, run

REPO = Path(__file__).resolve().parents[2]
ZONE = "fr-par-1"
INSTANCE_TYPE = "DEV1-S"
"""The smallest type that any profile allows: 2 CPUs, 2 GiB."""
MEMORY_MB = 2048
VOLUME_GB = 20
_NUMBERS = {"full": 0, "linuxserver": 1, "systemd": 2, "faults": 3, "lost": 4, "preparing": 5}
SMALL = Sizes(tracks=20, films=6, shows=1, episodes=3, photos=4)


class World:
    """Everything one scenario needs, in one folder. `up` starts it, `down` ends it."""

    def __init__(
        self, engine: Engine, name: str, *, image: str = rootfs.DOCKER, sizes: Sizes = SMALL, speed: float = 0.02
    ) -> None:
        self.engine, self.name, self.speed, self.sizes = engine, name, speed, sizes
        self.number = _NUMBERS[name]
        self.dir = engine.run_dir / "worlds" / name
        self.layout = Layout(self.dir)
        self.runs = self.dir / "runs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._keys = s3.Keys.new()
        registry = json.loads((engine.run_dir / "registry.json").read_text(encoding="utf-8"))
        self.registry: str = registry["address"]
        self.images: dict[str, str] = registry["images"]
        trusted = {f"/etc/docker/certs.d/{self.registry}/ca.crt": registry["ca"]}
        common: dict[str, Any] = {"docker": tuple(engine.command), "network": NETWORK, "files": trusted}
        memory = self.dir / "meminfo"
        self.platform = Platform(
            **common, image=image, mounts={"/proc/meminfo": str(memory)}, memory_mb=MEMORY_MB, prefix=f"pbe2e-{name}"
        )
        self.home = ContainerMachine(
            Platform(**common, image=rootfs.DOCKER, prefix=f"pbe2e-{name}"),
            "home",
            f"{engine.block}.0.{10 + self.number}",
            hostname="zimaboard",
        )
        self.home_settings: dict[str, Any] = {}

    # --- addresses -------------------------------------------------------------------------------------------------

    def _url(self, part: str) -> str:
        ports = {"scaleway": 0, "plextv": 1, "s3": 2}
        return f"http://{self.engine.gateway}:{21_000 + 10 * self.number + ports[part]}"

    @property
    def plextv_url(self) -> str:
        """plex.tv."""
        return self._url("plextv")

    @property
    def scaleway_url(self) -> str:
        """Scaleway's API."""
        return self._url("scaleway")

    @property
    def s3_url(self) -> str:
        """The S3 server."""
        return self._url("s3")

    @property
    def rclone_config(self) -> Path:
        """rclone.conf of the bucket's user; the remote is `media-s3:media`."""
        return self.layout.rclone_config

    @property
    def media_dir(self) -> Path:
        """The bucket's files."""
        return self.layout.s3 / s3.BUCKET

    @property
    def home_config(self) -> Path:
        """Home's /config as it was before its machine got it."""
        return home.config_dir(self.layout)

    @property
    def inventory(self) -> Path:
        """The inventory folder for ansible-playbook."""
        return self.dir / "inventory"

    # --- life ------------------------------------------------------------------------------------------------------

    def up(self, install: Callable[[ContainerMachine, World], dict[str, Any]]) -> dict[str, float]:
        """Start everything; `install` brings home's Plex up on the booted machine and returns its settings."""
        began = time.monotonic()
        self._prepare()
        spent = {}
        with ThreadPoolExecutor() as pool:
            seeded = pool.submit(self._seed)
            booted = pool.submit(self._boot_home)
            spent["library"], spent["home boots"] = seeded.result(), booted.result()
        cloud = scaleway.load(
            self.dir, block=self.engine.block, first_address=254 * (self.number + 1), ssh_port=22, speed=1.0
        )
        self.platform.write(self.dir / PLATFORM)
        self._write_cloud_config(cloud)
        for name in ("scaleway", "plextv"):
            self._start_module(name)
        at = time.monotonic()
        self.home_settings = install(self.home, self)
        spent["home's Plex"] = time.monotonic() - at
        self._write_inventory()
        spent["all"] = time.monotonic() - began
        return {name: round(seconds, 1) for name, seconds in spent.items()}

    def lend(self, name: str) -> ContainerMachine:
        """Without home and cloud: a bucket, and one machine that is there already, in the inventory by its name."""
        self._prepare()
        media.make(self.media_dir, media.catalogue(self.sizes).old())
        machine = ContainerMachine(self.platform, name, f"{self.engine.block}.0.{100 + self.number}", hostname=name)
        machine.create(self._user_data("root"))
        machine.start()
        machine.wait_for_ssh()
        self._write_inventory(name)
        return machine

    def down(self) -> None:
        """End the simulators and remove the machines of this world."""
        for process in self._children.values():
            processes.end([process.pid] if process.poll() is None else [], patience=20)
            process.wait()
        names = self.engine.docker("ps", "--all", "--format", "{{.Names}}").split()
        for name in names:
            if name.startswith(f"pbe2e-{self.name}-"):
                self.engine.docker("rm", "--force", "--volumes", name)

    def start_s3(self) -> None:
        """Start the S3 server."""
        address, _, port = self.s3_url.removeprefix("http://").partition(":")
        self._children["s3"] = s3.start(self.layout.s3, address, int(port), self._keys, self.layout.log / "s3.log")

    def stop_s3(self) -> None:
        """Stop the S3 server."""
        process = self._children.pop("s3")
        processes.end([process.pid], patience=10)
        process.wait()

    def faults(self, part: str, **values: Any) -> None:
        """Replace the faults of one simulator (scaleway, plextv, machine)."""
        Faults(self.layout.faults / f"{part}.json").replace(values)

    # --- playbooks -------------------------------------------------------------------------------------------------

    def command(self, playbook: str, *arguments: str) -> list[str]:
        """The command line that plays a top-level playbook here."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        given = ["-i", str(self.inventory), "-e", f"plexburst_runs_dir={self.runs}"]
        return [program, str(REPO / playbook), *given, *arguments]

    def start(self, *arguments: str, playbook: str = "delta_sync.yml") -> Playing:
        """Start a playbook from `/`, without the project's ansible.cfg."""
        # The project's playbooks find the collection beside themselves; a test's own are told where it is.
        own = {"ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections")} if "/" in playbook else {}
        return Playing(self, self.command(playbook, *arguments), own)

    def play(self, *arguments: str, playbook: str = "delta_sync.yml", seconds: float = 600) -> Playing:
        """Run a playbook to its end."""
        playing = self.start(*arguments, playbook=playbook)
        playing.wait(seconds)
        return playing

    # --- what is really there --------------------------------------------------------------------------------------

    def ledger(self) -> list[dict[str, Any]]:
        """Everything billable that ever existed."""
        return list(_get_json(f"{self.scaleway_url}/_sandbox/ledger"))

    def alive(self) -> list[dict[str, Any]]:
        """What the cloud would still bill."""
        return [row for row in self.ledger() if row["ended_at"] is None]

    def machines(self) -> list[str]:
        """Names of the containers that stand for instances now."""
        names = self.engine.docker("ps", "--all", "--format", "{{.Names}}").split()
        return [name for name in names if name.startswith(f"pbe2e-{self.name}-") and name != self.home.name]

    def indexer(self) -> ContainerMachine:
        """The one instance that exists now. Raises E2EError if there is not exactly one."""
        names = self.machines()
        if len(names) != 1:
            raise E2EError(f"expected one machine of the cloud, found {names}")
        machine = ContainerMachine(self.platform, names[0].removeprefix(f"{self.platform.prefix}-"), "")
        address = next(iter(machine.facts()["NetworkSettings"]["Networks"].values()))["IPAddress"]
        return ContainerMachine(self.platform, machine.machine_id, address)

    def devices(self) -> str:
        """plex.tv's list of the account's devices (XML)."""
        token = self.layout.account_token.read_text(encoding="utf-8").strip()
        request = urllib.request.Request(f"{self.plextv_url}/devices.xml", headers={"X-Plex-Token": token})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - a simulator of ours
            return str(answer.read().decode())

    @contextmanager
    def home_databases(self) -> Iterator[Path]:
        """A copy of home's database folder, -wal and -shm included, as it is on its machine now."""
        source = f"{self.home_settings['plexburst_home_config_dir']}/{_DATABASES}"
        folder = self.dir / f"copy-{secrets.token_hex(4)}"
        folder.mkdir()
        packed = subprocess.run(
            [*self.engine.command, "exec", self.home.name, "tar", "--create", "--directory", source, "."],
            capture_output=True,
            check=True,
            timeout=120,
        )
        run("tar", "--extract", "--directory", str(folder), data=packed.stdout)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    def home_files(self) -> list[str]:
        """Names in home's database folder."""
        source = f"{self.home_settings['plexburst_home_config_dir']}/{_DATABASES}"
        return self.home.run(f"ls -A '{source}'").split("\n")

    # --- pieces ----------------------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """Folders, keys, the S3 server."""
        for folder in (self.layout.log, self.layout.faults, self.media_dir, self.runs):
            folder.mkdir(parents=True)
        for name in FAULT_NAMES:
            write_json(self.layout.faults / f"{name}.json", {})
        self._write_keys()
        write(self.dir / "meminfo", _meminfo(MEMORY_MB))
        s3.write_config(self.rclone_config, self.s3_url, self._keys)
        self.start_s3()

    def _seed(self) -> float:
        began = time.monotonic()
        catalogue = media.catalogue(self.sizes)
        media.make(self.media_dir, catalogue.old())
        home.seed(self.layout, catalogue)
        home.register(self.layout)
        media.move_on(self.media_dir, catalogue)
        write_json(self.layout.seeded, {"sizes": asdict(self.sizes)})
        return time.monotonic() - began

    def _boot_home(self) -> float:
        began = time.monotonic()
        self.home.create(self._user_data(home.USER))
        self.home.start()
        self.home.wait_for_ssh()
        self.home.run("cloud-init status --wait >/dev/null; systemctl start docker; docker info >/dev/null")
        return time.monotonic() - began

    def _user_data(self, user: str) -> bytes:
        """cloud-init for a machine that is not the cloud's: our host key; we log in as root, or as a user with sudo."""
        ssh = self.layout.ssh
        login = (ssh / "id_home.pub").read_text(encoding="utf-8").strip()
        values: dict[str, Any] = {
            "ssh_pwauth": False,
            "disable_root": False,
            "ssh_keys": {
                "ed25519_private": (ssh / "host_home").read_text(encoding="utf-8"),
                "ed25519_public": (ssh / "host_home.pub").read_text(encoding="utf-8"),
            },
        }
        if user == "root":
            values["ssh_authorized_keys"] = [login]
        else:
            person = {"name": user, "shell": "/bin/bash", "uid": 1000, "sudo": "ALL=(ALL) NOPASSWD:ALL"}
            values["users"] = [{**person, "ssh_authorized_keys": [login]}]
        return b"#cloud-config\n" + yaml.safe_dump(values).encode()

    def _write_keys(self) -> None:
        ssh = self.layout.ssh
        ssh.mkdir(mode=0o700)
        for name in ("host_home", "id_home"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"e2e {name}", "-f", str(ssh / name))
        public = (ssh / "host_home.pub").read_text(encoding="utf-8").split()
        existing = f"{self.engine.block}.0.{100 + self.number}"
        write(ssh / "known_hosts", f"{self.home.address},{existing} {public[0]} {public[1]}\n")

    def _write_cloud_config(self, cloud: scaleway.Settings) -> None:
        values = {
            "access_key": cloud.access_key,
            "secret_key": cloud.secret_key,
            "api_url": self.scaleway_url,
            "default_organization_id": cloud.organization_id,
            "default_project_id": cloud.project_id,
            "default_region": ZONE.rpartition("-")[0],
            "default_zone": ZONE,
        }
        write_secret(self.layout.scaleway_config, yaml.safe_dump(values))

    def _start_module(self, name: str) -> None:
        address, _, port = self._url(name).removeprefix("http://").partition(":")
        log = self.layout.log / f"{name}.log"
        command = [sys.executable, "-P", "-m", f"sandbox.{name}", "--dir", str(self.dir), "--port", port]
        with log.open("ab") as output:
            self._children[name] = subprocess.Popen(
                [*command, "--host", address],
                cwd=self.dir,
                env={**os.environ, "PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": "1", "SANDBOX_BIND": address},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 30
        while not _answers(f"{self._url(name)}/_sandbox/ping"):
            if self._children[name].poll() is not None or time.monotonic() > deadline:
                raise E2EError(f"expected {name} to answer at {self._url(name)}, found silence; its log:\n{tail(log)}")
            time.sleep(0.1)

    def _write_inventory(self, existing: str = "") -> None:
        repository, _, version = self.images["official"].rpartition(":")
        who = {"ansible_host": self.home.address, "ansible_user": home.USER, "ansible_become": True}
        if existing:
            who = {"ansible_host": f"{self.engine.block}.0.{100 + self.number}", "ansible_user": "root"}
        group = {"hosts": {existing or "zimaboard": None}}
        hosts = {"all": {"children": {"plex_cloud": group} if existing else {"plex_home": group, "plex_cloud": {}}}}
        connection = {
            **who,
            "ansible_ssh_private_key_file": str(self.layout.ssh / "id_home"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.layout.ssh}/known_hosts"
            " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
            " -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o ConnectTimeout=15",
            "ansible_pipelining": True,
        }
        settings = {
            "plexburst_zone": ZONE,
            "plexburst_instance_types": [INSTANCE_TYPE],
            "plexburst_scw_config_file": str(self.layout.scaleway_config),
            "plexburst_volume_size_gb": VOLUME_GB,
            "plexburst_max_hours": 2,
            "plexburst_boot_timeout": 120,
            "plexburst_ssh_timeout": 120,
            "plexburst_ready_timeout": 120,
            "plexburst_profile": "sandbox",
            "plexburst_media": [{"remote": f"{s3.REMOTE}:{s3.BUCKET}", "path": home.PATH_IN_PLEX}],
            "plexburst_rclone_config": str(self.rclone_config),
            "plexburst_account_token_file": str(self.layout.account_token),
            "plexburst_plex_tv_url": self.plextv_url,
            "plexburst_plex_image": repository,
            "plexburst_indexer_plex_environment": {"PLEX_TV_URL": self.plextv_url, "PLEX_SIM_SPEED": str(self.speed)},
            "plexburst_install": "true",
            "plex_version": version,
            **self.home_settings,
        }
        for name, values in (
            ("hosts.yml", hosts),
            ("group_vars/all/e2e.yml", settings),
            (f"group_vars/{'plex_cloud' if existing else 'plex_home'}/connection.yml", connection),
        ):
            path = self.inventory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


_DATABASES = "Library/Application Support/Plex Media Server/Plug-in Support/Databases"


class Playing:
    """A playbook that runs, or has ended."""

    def __init__(self, world: World, command: list[str], variables: dict[str, str]) -> None:
        self.world = world
        self._path = world.dir / f"output-{secrets.token_hex(4)}.log"
        self._before = self._latest()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SCW_")}
        environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"}
        environment |= {**ansible_cache.environment(bytecode=True), **variables}
        with self._path.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self._path.read_text(encoding="utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    @property
    def run_dir(self) -> Path:
        """The folder of this run."""
        latest = self._latest()
        if latest is None or latest == self._before:
            raise E2EError(
                f"expected this playbook to have begun a run, found none; its output:\n{self.output[-3000:]}"
            )
        return latest

    @property
    def summary(self) -> dict[str, Any]:
        """summary.json of this run."""
        loaded: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text(encoding="utf-8"))
        return loaded

    def wait(self, seconds: float = 600) -> int:
        """Wait for its end; a playbook that takes longer is ended and fails the test."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            processes.end([self.process.pid], patience=20)
            self.process.wait()
            raise E2EError(
                f"expected the playbook to end in {seconds:g} s; its output:\n{self.output[-6000:]}"
            ) from None

    def until(self, seen: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait until something is seen while it runs. Raises E2EError when it ends before, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not seen():
            if self.code is not None or time.monotonic() > deadline:
                raise E2EError(f"expected {what} while the playbook ran, found its output:\n{self.output[-6000:]}")
            time.sleep(0.2)

    def is_at(self, task: str) -> bool:
        """Whether the watcher has taken samples of this task (scan, analyse, sonic) by now."""
        latest = self._latest()
        if latest is None or latest == self._before or not (latest / "samples.jsonl").is_file():
            return False
        lines = (latest / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return any(json.loads(line).get("task") == task for line in lines if line.endswith("}"))

    def _latest(self) -> Path | None:
        link = self.world.runs / "latest"
        return link.resolve() if link.is_symlink() else None


def read_only(path: Path) -> sqlite3.Connection:
    """Open a copy of a Plex database; `icu_root` is stood in for."""
    database = sqlite3.connect(path)
    database.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
    return database


def _meminfo(megabytes: int) -> str:
    """A /proc/meminfo of a machine of that size: the kernel keeps a little for itself, as on a real one."""
    total = megabytes * 1024 - 70_000
    rows = {"MemTotal": total, "MemFree": total * 8 // 10, "MemAvailable": total * 9 // 10, "Buffers": 0}
    rows |= {"Cached": total // 10, "SwapCached": 0, "SwapTotal": 0, "SwapFree": 0}
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items())


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - a simulator of ours
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def _get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - a simulator of ours
        return json.load(answer)
