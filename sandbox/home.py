"""Home: a machine with a Plex server that has a history.

Its library is made by the Plex simulator's own scanner over the old generation of the media; what people did with it
since (sandbox.history) is written beside it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from sandbox import history, media, plextv, processes, s3
from sandbox.addresses import Block
from sandbox.layout import Layout
from sandbox.plex.library import Library
from sandbox.plex.preferences import Preferences
from sandbox.plex.volumes import Volume

MACHINE = "home"
USER = "zima"
NAME = "Home"
PATH_IN_PLEX = "/Media"
SECTIONS = (
    (media.MUSIC, "artist", "tv.plex.agents.music", "Plex Music"),
    (media.MOVIES, "movie", "tv.plex.agents.movie", "Plex Movie"),
    (media.SHOWS, "show", "tv.plex.agents.series", "Plex TV Series"),
    (media.PHOTOS, "photo", "com.plexapp.agents.none", "Plex Photo Scanner"),
)
_STOP_PATIENCE = 20.0


def home_dir(layout: Layout) -> Path:
    """HOME of the login at home's machine."""
    return layout.machines / MACHINE / "home"


def config_dir(layout: Layout) -> Path:
    """Plex's /config."""
    return home_dir(layout) / "plex" / "config"


def support_dir(layout: Layout) -> Path:
    """The folder `Plex Media Server` below /config."""
    return config_dir(layout) / "Library" / "Application Support" / "Plex Media Server"


def databases_dir(layout: Layout) -> Path:
    """Where library.db and blobs.db are."""
    return support_dir(layout) / "Plug-in Support" / "Databases"


def pid_file(layout: Layout) -> Path:
    """Plex writes its process id here and removes the file when it stops."""
    return support_dir(layout) / "plexmediaserver.pid"


def plex_log(layout: Layout) -> Path:
    """Standard output and error of home's Plex."""
    return layout.log / "home-plex.log"


def volumes(layout: Layout) -> list[dict[str, Any]]:
    """Home's mount of the bucket, as Plex sees it."""
    return [{"host": str(layout.s3 / s3.BUCKET), "path": PATH_IN_PLEX, "read_only": True}]


def environment(layout: Layout, plextv_url: str, speed: float, role: str = "home") -> dict[str, str]:
    """What a Plex simulator is told by its environment; `role` chooses the faults file (home or indexer)."""
    return {
        "PLEX_TV_URL": plextv_url,
        "PLEX_SIM_FAULTS": str(layout.faults / f"plex-{role}.json"),
        "PLEX_SIM_SPEED": str(speed),
    }


def start_command(layout: Layout, block: Block) -> list[str]:
    """The whole command line, as the role `plex_server` puts it together from state.json."""
    mapped = [f"{volume['host']}:{volume['path']}:ro" for volume in volumes(layout)]
    return [
        str(layout.programs / "Plex Media Server"),
        *("--config", str(config_dir(layout)), "--port", str(block.home_plex_port), "--bind", "127.0.0.1"),
        *(argument for volume in mapped for argument in ("--volume", volume)),
        *("--name", "home"),
    ]


def start(layout: Layout, block: Block, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start home's Plex as a process of home's machine, in a session of its own."""
    folder = layout.machines / MACHINE
    config_dir(layout).mkdir(parents=True, exist_ok=True)
    with plex_log(layout).open("ab") as output:
        return subprocess.Popen(
            start_command(layout, block),
            cwd=home_dir(layout),
            env={
                "HOME": str(home_dir(layout)),
                "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}",
                "USER": USER,
                "LANG": "C.UTF-8",
                "SANDBOX_MACHINE": MACHINE,
                **variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def running_pid(layout: Layout) -> int | None:
    """Process id of home's Plex, whoever started it; None if it does not run."""
    path = pid_file(layout)
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8").strip()
    if not text.isdigit() or not processes.is_alive(int(text)):
        return None
    # A crash leaves the file, and its number may belong to somebody else by now.
    owner = processes.environment(int(text)).get("HOME", "/")
    return int(text) if Path(owner).is_relative_to(layout.dir) else None


def is_running(layout: Layout) -> bool:
    """Whether home's Plex runs."""
    return running_pid(layout) is not None


def stop(layout: Layout) -> None:
    """Stop home's Plex cleanly if it runs (SIGTERM; killed after 20 s)."""
    pid = running_pid(layout)
    if pid is not None:
        processes.end([pid], patience=_STOP_PATIENCE)


def describe(layout: Layout, block: Block, variables: dict[str, str]) -> dict[str, Any]:
    """The key `home` of state.json."""
    return {
        "address": block.home,
        "port": 2222,
        "user": USER,
        "ssh_key": str(layout.ssh / "id_home"),
        "known_hosts": str(layout.ssh / "known_hosts"),
        "dir": str(home_dir(layout)),
        "config_dir": str(config_dir(layout)),
        "plex_port": block.home_plex_port,
        "plex_command": [str(layout.programs / "Plex Media Server")],
        "plex_sqlite": [str(layout.programs / "Plex SQLite")],
        "volumes": volumes(layout),
        "environment": variables,
        "pid_file": str(pid_file(layout)),
    }


def seed(layout: Layout, catalogue: media.Catalogue) -> None:
    """Make home's databases from the old generation, which must be in the bucket's folder: scanned, then lived with."""
    mapped = [Volume(Path(volume["host"]), volume["path"], volume["read_only"]) for volume in volumes(layout)]
    with Library(databases_dir(layout), mapped, clock=history.Clock()) as library:
        for name, kind, agent, scanner in SECTIONS:
            library.scan(library.add_section(name, kind, agent, scanner, [f"{PATH_IN_PLEX}/{name}"]))
        history.write(library, catalogue, support_dir(layout), PATH_IN_PLEX)


def register(layout: Layout) -> None:
    """Make home's Plex known at plex.tv as a server claimed long ago.

    plex.tv's simulator must not run yet: it reads its file once, at its start.
    """
    preferences = Preferences(support_dir(layout) / "Preferences.xml")
    identifier = preferences.get("ProcessedMachineIdentifier")
    devices = plextv.seed(layout.dir, devices=[{"name": NAME, "clientIdentifier": identifier}])
    token = next(str(device["token"]) for device in devices if device["clientIdentifier"] == identifier)
    preferences.update(
        {
            "FriendlyName": NAME,
            "AcceptedEULA": "1",
            "PublishServerOnPlexOnlineKey": "1",
            "PlexOnlineToken": token,
            "PlexOnlineUsername": "sandbox",
        }
    )
