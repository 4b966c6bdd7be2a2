"""A delta sync as `ansible-playbook plexburst.core.delta_sync` with nothing but the installed collection.

The controller has no ansible.cfg and no checkout: sitecustomize.py takes it out of sys.path (an editable install puts
it there) and writes down every file of it that is opened. The simulators run from the checkout, as ever.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.control import DIR_VARIABLE, Sandbox
from sandbox.media import Sizes
from tests.built_collection import ansible, build, install, outside
from tests.playbooks.evidence import REPO, HomeState, Outcome, alive, databases_of, files_of_remote

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=6, shows=1, episodes=2, photos=2)
WATCH = """\
import os
import sys

CHECKOUT, INTERPRETER, SEEN = {checkout!r}, {interpreter!r}, {seen!r}


def of_checkout(path):
    path = os.path.abspath(path)
    return path.startswith(CHECKOUT + os.sep) and not path.startswith(INTERPRETER + os.sep)


def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and of_checkout(arguments[0]):
        descriptor = os.open(SEEN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, (arguments[0] + chr(10)).encode())
        os.close(descriptor)


sys.path[:] = [path for path in sys.path if not of_checkout(path)]
sys.addaudithook(watch)
"""


@dataclass
class Elsewhere:
    """A folder outside with the installed collection and a copy of the sandbox's inventory."""

    folder: Path
    tarball: Path
    sandbox: Sandbox

    @property
    def seen(self) -> Path:
        return self.folder / "seen"

    @property
    def core(self) -> Path:
        return self.folder / "collections" / "ansible_collections" / "plexburst" / "core"

    def install(self) -> None:
        assert install(self.tarball, self.folder / "collections", self.folder) == self.core

    def play(self, playbook: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return ansible(
            *("ansible-playbook", f"plexburst.core.{playbook}", "-i", "inventory"),
            *("-e", '{"plexburst_sections": ["Music"]}', *arguments),
            folder=self.folder,
            env={
                **outside(self.folder, self.folder / "collections"),
                "PYTHONPATH": str(self.folder / "startup"),
                DIR_VARIABLE: str(self.sandbox.dir),
            },
            seconds=900,
        )

    def tree(self) -> dict[str, str]:
        """Every file of the installed collection but bytecode, which is not data, and what it holds."""
        return {
            path.relative_to(self.core).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.core.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    def latest(self) -> list[Path]:
        """Every link to a newest run below the folder, the installed collection's too."""
        return [path for path in self.folder.rglob("latest") if path.is_symlink()]

    def home(self) -> HomeState:
        return HomeState.read(databases_of(self.sandbox.state["home"]["config_dir"]))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    folder = tmp_path_factory.mktemp("elsewhere")
    box = Sandbox(tmp_path_factory.mktemp("installed") / "sandbox", sizes=SMALL, speed=0.02)
    place = Elsewhere(folder, build(tmp_path_factory.mktemp("built")), box)
    place.install()
    shutil.copytree(REPO / "inventory" / "sandbox", folder / "inventory")
    (folder / "startup").mkdir()
    (folder / "startup" / "sitecustomize.py").write_text(
        WATCH.format(checkout=str(REPO), interpreter=sys.prefix, seen=str(place.seen)), encoding="utf-8"
    )
    box.up()
    try:
        yield place
    finally:
        box.reset()


@dataclass(frozen=True)
class Story:
    """A plan, the collection installed anew, and what its playbooks then know of the plan; a delta sync after that."""

    tags: subprocess.CompletedProcess[str]
    plan: subprocess.CompletedProcess[str]
    installed: dict[str, str]
    after_plan: dict[str, str]
    latest: list[Path]
    run_id: str
    goes_on: subprocess.CompletedProcess[str]
    status: subprocess.CompletedProcess[str]
    before: HomeState
    delta_sync: subprocess.CompletedProcess[str]
    after: HomeState
    after_delta_sync: dict[str, str]


@pytest.fixture(scope="module")
def story(elsewhere: Elsewhere) -> Story:
    before, installed = elsewhere.home(), elsewhere.tree()
    tags = elsewhere.play("delta_sync", "--tags", "preflight")
    plan = elsewhere.play("plan")
    assert plan.returncode == 0, plan.stdout[-6000:] + plan.stderr
    after_plan, latest = elsewhere.tree(), elsewhere.latest()
    assert latest, plan.stdout[-3000:]
    run_id = latest[0].resolve().name
    elsewhere.install()
    return Story(
        tags=tags,
        plan=plan,
        installed=installed,
        after_plan=after_plan,
        latest=latest,
        run_id=run_id,
        goes_on=elsewhere.play("install"),
        status=elsewhere.play("status"),
        before=before,
        delta_sync=elsewhere.play("delta_sync"),
        after=elsewhere.home(),
        after_delta_sync=elsewhere.tree(),
    )


def test_tags_are_refused(story: Story) -> None:
    assert story.tags.returncode != 0
    assert "--tags" in story.tags.stdout + story.tags.stderr
    assert "ok=" not in story.tags.stdout


def test_a_run_folder_outlives_the_collection(elsewhere: Elsewhere, story: Story) -> None:
    """It lies beside the inventory; playbooks of the collection that was installed anew find it."""
    (latest,) = story.latest
    assert not latest.is_relative_to(elsewhere.core)
    assert story.goes_on.returncode != 0
    assert story.run_id in story.goes_on.stdout, story.goes_on.stdout[-3000:] + story.goes_on.stderr
    assert story.status.returncode == 0, story.status.stdout[-3000:] + story.status.stderr
    assert str(latest.parent) in story.status.stdout


def test_a_whole_delta_sync(elsewhere: Elsewhere, story: Story) -> None:
    assert story.delta_sync.returncode == 0, story.delta_sync.stdout[-6000:] + story.delta_sync.stderr
    (latest,) = elsewhere.latest()
    summary = Outcome(0, story.delta_sync.stdout, latest.parent).summary
    assert summary["status"] == "succeeded"
    assert summary["run_id"] != story.run_id
    assert {row["kind"] for row in elsewhere.sandbox.ledger()} == {"server", "ip", "volume"}
    assert alive(elsewhere.sandbox.ledger()) == []
    music = {file for file in files_of_remote(elsewhere.sandbox.state) if file.startswith("/Media/Music/")}
    assert music - set(story.before.parts)
    assert music <= set(story.after.parts)
    stayed = story.before.items.keys() & story.after.items.keys()
    assert {item: story.after.items[item] for item in stayed} == {item: story.before.items[item] for item in stayed}
    left = story.before.items.keys() - stayed
    assert left <= story.before.tracks, "nothing but music is worked on"
    assert not {file for file, trashed in story.after.parts.items() if trashed} & music
    assert story.before.sonic_marks < story.after.sonic_marks


def test_nothing_is_written_below_the_collection(story: Story) -> None:
    assert story.after_plan == story.installed
    assert story.after_delta_sync == story.installed


def test_the_controller_reads_nothing_of_the_checkout(elsewhere: Elsewhere, story: Story) -> None:
    assert story.delta_sync.returncode == 0
    assert not elsewhere.seen.exists(), elsewhere.seen.read_text(encoding="utf-8")[:2000]
