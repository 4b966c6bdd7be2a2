"""The Plex images: the simulator, laid out like plexinc/pms-docker and like linuxserver/plex.

The simulator becomes a Debian package of the real name and version, which both images install and which a home without
Docker installs as well. s6 and the other tools are Debian's; what apt and pip have to fetch comes through the
configuration of the machine that builds, is kept in the cache and is fetched again only when what decides it changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sandbox.plex.runtime import VERSION

REPO = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).resolve().parent / "image"
BASE = "plexburst-e2e/debian:base"
COMMON = "plexburst-e2e/plex"
REPOSITORIES = {"official": "plexinc/pms-docker", "linuxserver": "linuxserver/plex"}
PROGRAMS = ("Plex Media Server", "Plex Media Scanner", "Plex Transcoder", "Plex Music Analyzer", "Plex SQLite")
PACKAGES = ("s6", "execline", "curl", "procps", "passwd")
WHEELS = ("apsw", "av", "mutagen", "pillow")
"""What the simulator of Plex imports besides the standard library."""
_LOOK = "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])' && cat /var/lib/dpkg/status"
"""The image's Python and what is installed in it."""


class Engine(Protocol):
    """What this module needs of the tier's Docker engine."""

    cache: Path

    def docker(self, *arguments: str, input: bytes | None = None, timeout: float = ...) -> str: ...


class Registry(Protocol):
    """Where images are pushed to: HOST:PORT."""

    address: str


class ImageError(RuntimeError):
    """Something an image needs could not be made."""


@dataclass(frozen=True, slots=True)
class Images:
    """Names of the images in the engine, by layout, and the package they were made from."""

    names: dict[str, str]
    package: Path


def _run(command: Sequence[str | Path], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr or done.stdout}")
    return done.stdout


def _digest(*parts: str, files: Iterable[Path] = ()) -> str:
    found = hashlib.sha256("\0".join(parts).encode())
    for path in files:
        found.update(f"{path.relative_to(REPO)}\0{path.stat().st_mode:o}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _cached(target: Path, make: Callable[[Path], None]) -> Path:
    """``target``, made by ``make(temporary)`` unless it is there; whole or not at all, also with two makers at once."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as folder:
            made = Path(folder) / target.name
            make(made)
            try:
                made.replace(target)
            except OSError:
                if not target.exists():
                    raise
    return target


def _simulator() -> list[Path]:
    """The files of the simulator that go into the package."""
    shared = (REPO / "sandbox" / f"{name}.py" for name in ("__init__", "faults", "files", "httpd"))
    return sorted([*shared, *(REPO / "sandbox/plex").glob("*.py")])


def _wheels(cache: Path, python: str) -> Path:
    """A folder with what the simulator needs under the image's Python (``3.11``), from the machine's package index."""
    constraints = REPO / "constraints.txt"
    key = _digest(python, *WHEELS, files=[constraints])

    def make(folder: Path) -> None:
        _run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, "--only-binary", ":all:"),
                *("--python-version", python, "--implementation", "cp", "--no-compile", "--no-deps"),
                *("--constraint", constraints, *WHEELS),
            ]
        )

    return _cached(cache / f"wheels-{key}", make)


def _debs(cache: Path, status: str) -> Path:
    """A folder with PACKAGES and all they need besides what ``status`` (dpkg's of the base image) says is there."""
    key = _digest(status, *PACKAGES)

    def make(folder: Path) -> None:
        (folder / "partial").mkdir(parents=True)
        installed = folder / "status"
        installed.write_text(status, encoding="utf-8")
        # apt's own sandbox user may not be able to write below the cache folder.
        _run(
            [
                *("apt-get", "install", "--download-only", "--yes", "--no-install-recommends", "--reinstall", "-qq"),
                *("-o", f"Dir::State::status={installed}", "-o", f"Dir::Cache::archives={folder}"),
                *("-o", "Debug::NoLocking=true", "-o", "APT::Sandbox::User=root", *PACKAGES),
            ],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        )
        installed.unlink()
        shutil.rmtree(folder / "partial")
        (folder / "lock").unlink(missing_ok=True)

    return _cached(cache / f"debs-{key}", make)


def package(cache: Path, python: str = "3.11") -> Path:
    """The simulator as plexmediaserver_VERSION_ARCH.deb. Raises ImageError."""
    wheels = _wheels(cache, python)
    parts = SOURCES / "plex"
    architecture = _run(["dpkg", "--print-architecture"]).strip()
    # This file too: it decides what lies where.
    files = [*_simulator(), *sorted(path for path in parts.iterdir() if path.name != "Dockerfile"), Path(__file__)]
    key = _digest(VERSION, architecture, wheels.name, files=files)

    def make(target: Path) -> None:
        root = target.with_name("root")
        lib = root / "usr/lib/plexmediaserver"
        shutil.copytree(wheels, lib / "Resources")
        for path in _simulator():
            copy = lib / "Resources" / path.relative_to(REPO)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        shutil.copy2(parts / "launch.sh", lib / "launch.sh")
        for name in PROGRAMS:
            (lib / name).symlink_to("launch.sh")
        unit = root / "usr/lib/systemd/system/plexmediaserver.service"
        unit.parent.mkdir(parents=True)
        shutil.copy2(parts / unit.name, unit)
        control = root / "DEBIAN"
        control.mkdir()
        control.joinpath("control").write_text(
            f"Package: plexmediaserver\nVersion: {VERSION}\nArchitecture: {architecture}\nDepends: python3, passwd\n"
            "Section: sound\nPriority: extra\nMaintainer: plexburst tests <root@localhost>\n"
            "Description: simulator of Plex Media Server, laid out like the real package\n",
            encoding="utf-8",
        )
        shutil.copy2(parts / "postinst.sh", control / "postinst")
        _run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, target])

    return _cached(cache / f"deb-{key}" / f"plexmediaserver_{VERSION}_{architecture}.deb", make)


def build(engine: Engine, base: str = BASE) -> Images:
    """Build both images in the engine; quick when nothing changed. Raises ImageError."""
    cache = engine.cache / "plex"
    seen = engine.docker("run", "--rm", "--network", "none", base, "sh", "-c", _LOOK)
    python, _, status = seen.partition("\n")
    deb = package(cache, python)
    with tempfile.TemporaryDirectory(prefix="plexburst-image-") as folder:
        context = Path(folder)
        with (context / "plex.tar").open("wb") as payload:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=payload, check=True)
        shutil.copytree(_debs(cache, status), context / "debs")
        shutil.copy2(SOURCES / "plex/Dockerfile", context / "Dockerfile")
        common = f"{COMMON}:{VERSION}"
        engine.docker("build", "--quiet", "--build-arg", f"BASE={base}", "--tag", common, folder, timeout=600)
    names = {}
    for layout, repository in REPOSITORIES.items():
        name = f"{repository}:{VERSION}"
        engine.docker(
            *("build", "--quiet", "--network", "none", "--build-arg", f"BASE={common}", "--tag", name),
            str(SOURCES / layout),
            timeout=600,
        )
        names[layout] = name
    return Images(names, deb)


def build_and_push(engine: Engine, registry: Registry) -> dict[str, str]:
    """Build, push, and say by layout what a machine pulls: ``HOST:PORT/plexinc/pms-docker:VERSION``."""
    images = build(engine)
    pushed = {}
    for layout, name in images.names.items():
        pushed[layout] = f"{registry.address}/{name}"
        engine.docker("tag", name, pushed[layout])
        engine.docker("push", "--quiet", pushed[layout], timeout=600)
    return pushed


def repo_digest(engine: Engine, name: str) -> str:
    """``sha256:…`` of a pushed image, as the registry knows it. Raises ImageError."""
    for found in json.loads(engine.docker("image", "inspect", name))[0]["RepoDigests"]:
        match = re.fullmatch(re.escape(name.rpartition(":")[0]) + r"@(sha256:[0-9a-f]{64})", found)
        if match:
            return match[1]
    raise ImageError(f"Expected {name} to have been pushed, found no digest of that repository.")
