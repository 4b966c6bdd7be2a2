"""The images that machines are made of: Debian by debootstrap, then what a cloud image adds; kept in the cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.e2e import host
from tests.e2e.engine import Engine

REPO = Path(__file__).resolve().parents[2]
BASE = "plexburst-e2e/debian:base"
FRESH = "plexburst-e2e/machine:fresh"
DOCKER = "plexburst-e2e/machine:docker"
_LABEL = "plexburst.e2e.recipe"
_CLOUD = {
    "datasource_list": ["NoCloud", "None"],
    # Address and names come from the engine, the language of a minimal image from nobody.
    "network": {"config": "disabled"},
    "locale": False,
    "apt": {"preserve_sources_list": True},
}
# On a machine with cgroup v1 Docker's default driver would put containers beside the machine, outside of its limits.
_DAEMON = '{"exec-opts": ["native.cgroupdriver=systemd"]}\n'


def build(engine: Engine) -> dict[str, float]:
    """Make what is missing or was made from another recipe; seconds per image, 0.0 for those that were there."""
    suite = host.release()
    spent = {BASE: _timed(_base, engine, suite)}
    context = engine.run_dir / "machine"
    recipe = _context(context, suite, engine.cache / "wheels")
    base = engine.docker("image", "inspect", "--format", "{{.Id}}", BASE).strip()
    recipe = hashlib.sha256(f"{recipe} {base}".encode()).hexdigest()
    spent[FRESH] = _timed(_machine, engine, context, FRESH, "fresh", recipe)
    spent[DOCKER] = _timed(_machine, engine, context, DOCKER, "docker", recipe)
    return spent


def _timed(step: Callable[..., bool], *arguments: object) -> float:
    began = time.monotonic()
    made = step(*arguments)
    return round(time.monotonic() - began, 1) if made else 0.0


def _recipe_of(engine: Engine, image: str) -> str:
    try:
        return engine.docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{_LABEL}"}}}}', image).strip()
    except host.E2EError:
        return ""


def _base(engine: Engine, suite: str) -> bool:
    """A minimal Debian with Python, of this machine's own release, from its own mirror."""
    recipe = f"{suite} minbase 1"
    if _recipe_of(engine, BASE) == recipe:
        return False
    root = engine.run_dir / "rootfs"
    host.run(
        *("debootstrap", "--variant=minbase", "--include=ca-certificates,python3", suite, str(root)),
        host.mirror(suite),
        timeout=900,
    )
    for folder in ("var/cache/apt/archives", "var/lib/apt/lists"):
        shutil.rmtree(root / folder)
    packed = subprocess.Popen(["tar", "--directory", str(root), "--create", "."], stdout=subprocess.PIPE)
    done = subprocess.run(
        [*engine.command, "import", "--change", f'LABEL {_LABEL}="{recipe}"', "-", BASE],
        stdin=packed.stdout,
        capture_output=True,
        check=False,
        timeout=300,
    )
    if packed.wait() or done.returncode:
        raise host.E2EError(f"expected the engine to import Debian's files, found: {done.stderr.decode()[-1000:]}")
    shutil.rmtree(root)
    return True


def _machine(engine: Engine, context: Path, image: str, target: str, recipe: str) -> bool:
    if _recipe_of(engine, image) == recipe:
        return False
    engine.docker(
        *("build", "--quiet", "--network", "host", "--force-rm", "--build-arg", f"BASE={BASE}"),
        *("--target", target, "--label", f"{_LABEL}={recipe}", "--tag", image, str(context)),
        timeout=900,
    )
    return True


def _context(folder: Path, suite: str, wheels: Path) -> str:
    """Write the build context; returns a hash of all of it."""
    shutil.copytree(Path(__file__).with_name("machine"), folder)
    defaults = yaml.safe_load((REPO / "roles/plex_indexing/defaults/main.yml").read_text(encoding="utf-8"))
    host.wheels(list(defaults["plex_indexing_packages"]), wheels)
    shutil.copytree(wheels, folder / "context" / "wheels")
    etc = {
        "apt/sources.list": "\n".join(host.sources()) + "\n",
        "apt/apt.conf.d/80-e2e": "\n".join(host.acquire()) + "\n",
        "ssl/certs/ca-certificates.crt": host.certificates(),
        "pip.conf": "[global]\nno-index = true\nfind-links = /opt/wheels\n",
        "cloud/cloud.cfg.d/90_e2e.cfg": yaml.safe_dump(_CLOUD),
        "docker/daemon.json": _DAEMON,
        # These machines live for minutes: their packages need not survive a power cut.
        "dpkg/dpkg.cfg.d/90-e2e": "force-unsafe-io\n",
    }
    for name, content in etc.items():
        path = folder / "context" / "etc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    digest = hashlib.sha256(suite.encode())
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
