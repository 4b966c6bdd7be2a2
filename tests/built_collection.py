"""The collection as a user gets it: built with `make collection`, installed into a folder outside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
TOOLS = Path(sys.executable).parent

LEFT_BEHIND = (
    ".sandbox/state.json",
    ".venv/lib/python3.11/site-packages/requests.py",
    "docs/notes.txt",
    "inventory/mine/hosts.yml",
    "module_utils/__pycache__/text.cpython-311.pyc",
    "playbooks/stages/draft.yml",
    "roles/run/files/id_ed25519",
    "runs/20261201-120000-abcd/snapshots/com.plexapp.plugins.library.db",
    "runs/20261201-120000-abcd/summary.json",
)
"""What a checkout that was used holds beside its tracked files; half of it is not ignored by git."""


def tracked(project: Path = PROJECT) -> list[str]:
    """The tracked files that exist, sorted; links are among them, what lies behind a link is not."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=project, env=_without_git(), capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.fail(
            f"git ls-files failed in {project}: {listed.stderr.strip()} The collection is built from tracked files. "
            "Run these tests in a git checkout."
        )
    return sorted(name for name in listed.stdout.split("\0") if name and os.path.lexists(project / name))


def _without_git() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def used_checkout(folder: Path) -> Path:
    """A git checkout of the tracked files as they are now, with what a used one holds beside them."""
    for name in tracked():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, copy, follow_symlinks=False)
    for command in (["git", "init", "--quiet"], ["git", "add", "--all", "--force"]):
        subprocess.run(command, cwd=folder, env=_without_git(), check=True)
    for name in LEFT_BEHIND:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left behind\n", encoding="utf-8")
    return folder


def build(folder: Path) -> Path:
    """Run `make collection` in a used checkout below `folder`; the path of the tarball."""
    checkout = used_checkout(folder / "checkout")
    made = subprocess.run(
        ["make", "--old-file", ".venv/.installed", "collection"],
        cwd=checkout,
        env={**_without_git(), "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    (tarball,) = (checkout / "dist").glob("plexburst-core-*.tar.gz")
    return tarball


def members(tarball: Path) -> dict[str, str]:
    """Every member but folders, and where it leads if it is a link (else an empty text)."""
    with tarfile.open(tarball) as archive:
        return {each.name: each.linkname for each in archive if not each.isdir()}


def outside(folder: Path, collections: Path) -> dict[str, str]:
    """An environment that knows `collections` alone: no ansible.cfg, no checkout, a home folder of its own."""
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_NOCOLOR": "1",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",
    }


def ansible(
    *command: str, folder: Path, env: Mapping[str, str], seconds: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run one of Ansible's programs in `folder`; it has ended when this returns."""
    return subprocess.run(
        [str(TOOLS / command[0]), *command[1:]],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def install(tarball: Path, collections: Path, folder: Path) -> Path:
    """`ansible-galaxy collection install --offline --force`; the path of the installed collection."""
    done = ansible(
        *("ansible-galaxy", "collection", "install", str(tarball), "-p", str(collections), "--offline", "--force"),
        folder=folder,
        env=outside(folder, collections),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return collections / "ansible_collections" / "plexburst" / "core"


def with_real_folders(tarball: Path, root: Path) -> Path:
    """The collection below `root`/ansible_collections, its folder links replaced by the folders: ansible-test refuses
    links to folders, and sees nothing through them."""
    core = root / "ansible_collections" / "plexburst" / "core"
    core.mkdir(parents=True)
    with tarfile.open(tarball) as archive:
        archive.extractall(core, filter="data")
    for link in [path for path in core.rglob("*") if path.is_symlink() and path.is_dir()]:
        target = link.resolve()
        link.unlink()
        target.rename(link)
    return core
