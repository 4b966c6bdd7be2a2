"""Homes as households have them: Plex in the official image, in linuxserver's under compose, and from the package.

Each function takes a booted machine with a Docker engine, gives it home's library with the owner that layout needs,
starts Plex, waits until it answers, and returns the `plexburst_home_*` settings of an inventory.
"""

from __future__ import annotations

import json
import shlex
import time
import urllib.error
import urllib.request
from typing import Any

import yaml

from sandbox import home, s3
from sandbox.machines.container import ContainerMachine
from tests.e2e import images
from tests.e2e.host import E2EError
from tests.e2e.world import World

APP_DIR = "/DATA/AppData/plex"
"""Where CasaOS, the ZimaBoard's own system, keeps an application."""

PACKAGE_DIR = "/var/lib/plexmediaserver"
PORT = 32400
DATABASES = "Library/Application Support/Plex Media Server/Plug-in Support/Databases"
LIBRARY = "com.plexapp.plugins.library.db"
_READY_SECONDS = 90.0

_MEDIA_UNIT = """\
[Unit]
Description=The bucket at {mount}
After=network-online.target
Before=docker.service plexmediaserver.service

[Service]
Type=notify
ExecStart=/usr/bin/rclone mount {remote} {mount} --config /etc/rclone-home.conf --allow-other --read-only \
--dir-cache-time 5s --cache-dir /var/cache/rclone-home
ExecStop=/bin/fusermount3 -uz {mount}

[Install]
WantedBy=multi-user.target
"""


def install_docker(machine: ContainerMachine, world: World) -> dict[str, Any]:
    """Home with the official image: `docker run`, as its README says, restarted unless stopped."""
    _bring_media(machine, world, "/DATA/Media")
    _bring_library(machine, world, f"{APP_DIR}/config", "1000:1000")
    command = [
        *("docker", "run", "--detach", "--name", "plex", "--restart", "unless-stopped"),
        *("--publish", f"{PORT}:{PORT}/tcp", "--env", "TZ=Europe/Paris", "--env", "PLEX_UID=1000"),
        *("--env", "PLEX_GID=1000", *_environment(world)),
        *("--volume", f"{APP_DIR}/config:/config", "--volume", f"{APP_DIR}/transcode:/transcode"),
        *("--volume", f"/DATA/Media:{home.PATH_IN_PLEX}:ro", world.images["official"]),
    ]
    machine.run(shlex.join(command), timeout=300)
    return _ready(machine, {"runtime": "docker", "container": "plex", "config_dir": f"{APP_DIR}/config"})


def install_linuxserver(machine: ContainerMachine, world: World) -> dict[str, Any]:
    """Home with linuxserver's image, managed by compose, in the host's network, as CasaOS installs it."""
    _bring_media(machine, world, "/DATA/Media")
    _bring_library(machine, world, f"{APP_DIR}/config", "1000:1000")
    # apt-get, not in the machine's image: the only home that has it, and its Python would be in everybody's way.
    machine.run(
        "export DEBIAN_FRONTEND=noninteractive; command -v docker-compose >/dev/null ||"
        " { apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-compose; }",
        timeout=300,
    )
    service = {
        "image": world.images["linuxserver"],
        "container_name": "plex",
        "network_mode": "host",
        "restart": "unless-stopped",
        "environment": {
            "PUID": "1000",
            "PGID": "1000",
            "TZ": "Europe/Paris",
            "VERSION": "docker",
            **dict(pair.split("=", 1) for pair in _environment(world)[1::2]),
        },
        "volumes": [f"{APP_DIR}/config:/config", f"/DATA/Media:{home.PATH_IN_PLEX}:ro"],
    }
    folder = "/var/lib/casaos/apps/plex"
    document = {"version": "3", "services": {"plex": service}}
    machine.run(
        f"mkdir -p {folder} && cat >{folder}/docker-compose.yml <<'END'\n{yaml.safe_dump(document)}END\n"
        f"cd {folder} && docker-compose --project-name plex up --detach",
        timeout=300,
    )
    return _ready(machine, {"runtime": "docker", "container": "plex", "config_dir": f"{APP_DIR}/config"})


def install_systemd(machine: ContainerMachine, world: World) -> dict[str, Any]:
    """Home without Docker: the package, its unit, its user; media where the database says they are."""
    _bring_media(machine, world, home.PATH_IN_PLEX)
    package = images.package(world.engine.cache / "plex")
    machine.put(package, f"/root/{package.name}")
    variables = "".join(f'Environment="{pair}"\n' for pair in _environment(world)[1::2])
    machine.run(
        "systemctl disable --now docker.socket docker.service\n"
        "mkdir -p /etc/systemd/system/plexmediaserver.service.d\n"
        f"cat >/etc/systemd/system/plexmediaserver.service.d/home.conf <<'END'\n[Service]\n{variables}END\n"
        f"dpkg --install /root/{package.name} && rm /root/{package.name}\n"
        # The package starts its server; a household's library comes to a stopped one.
        f"systemctl stop plexmediaserver && rm -rf {PACKAGE_DIR}/Library",
        timeout=300,
    )
    owner = machine.run("echo $(id -u plex):$(id -g plex)").strip()
    _bring_library(machine, world, PACKAGE_DIR, owner)
    machine.run("systemctl start plexmediaserver")
    return _ready(machine, {"runtime": "systemd", "config_dir": PACKAGE_DIR})


def _environment(world: World) -> list[str]:
    """What the simulator is told, as docker's `--env` arguments."""
    return ["--env", f"PLEX_TV_URL={world.plextv_url}", "--env", f"PLEX_SIM_SPEED={world.speed}"]


def _bring_media(machine: ContainerMachine, world: World, mount: str) -> None:
    """The bucket at `mount`, by rclone and a unit of home's own."""
    machine.put(world.rclone_config, "/etc/rclone-home.conf")
    unit = _MEDIA_UNIT.format(remote=f"{s3.REMOTE}:{s3.BUCKET}", mount=mount)
    machine.run(
        f"chmod 600 /etc/rclone-home.conf; mkdir -p {mount}\n"
        f"cat >/etc/systemd/system/home-media.service <<'END'\n{unit}END\n"
        f"systemctl daemon-reload && systemctl enable --now home-media.service && ls {mount} | grep -q ."
    )


def _bring_library(machine: ContainerMachine, world: World, config: str, owner: str) -> None:
    """Home's library as its Plex left it: `owner` (uid:gid) has every file of it."""
    machine.run(f"mkdir -p {config} {APP_DIR}/transcode && chown {owner} {config} {APP_DIR}/transcode")
    machine.put(world.home_config / "Library", f"{config}/Library", owner=owner)


def _ready(machine: ContainerMachine, settings: dict[str, Any]) -> dict[str, Any]:
    """Wait until home's Plex answers as the claimed server it is; its settings."""
    url = f"http://{machine.address}:{PORT}/identity"
    deadline = time.monotonic() + _READY_SECONDS
    said = "silence"
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(url, headers={"Accept": "application/json"})
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                identity = json.load(answer)["MediaContainer"]
            if identity["claimed"]:
                return {f"plexburst_home_{name}": value for name, value in settings.items()}
            said = f"an unclaimed server {identity}"
        except urllib.error.HTTPError as error:
            said = f"HTTP {error.code}"
        except OSError as error:
            said = str(error)
        time.sleep(0.3)
    log = machine.run(
        "docker logs --tail 30 plex 2>&1; journalctl --no-pager -n 30 -u plexmediaserver -u home-media", check=False
    )
    raise E2EError(f"expected home's Plex at {url} in {_READY_SECONDS:g} s, found {said}; its log:\n{log}")
