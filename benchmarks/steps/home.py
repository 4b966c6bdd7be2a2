"""How long home's Plex is away when a large pair is installed: a sandbox's home, and the project's own install.yml.

Who says so is an observer of its own: it asks home's Plex 20 times a second, and the longest silence between two
answers is the time it was down. Meanwhile somebody plays a track a second, up to the last moment and from the first one
on, and each play that home's Plex has taken must be in its database at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import LIBRARY, MANIFEST, NAMES
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, new_run_id

from sandbox import home
from sandbox.control import Sandbox
from sandbox.media import Sizes
from sandbox.plex import database as db

REPOSITORY = Path(__file__).resolve().parents[2]
PLAYBOOK_SECONDS = 3600


class Household(threading.Thread):
    """Asks whether home's Plex is there, and plays one track after the other while it is."""

    def __init__(self, url: str, token: str, tracks: list[int]) -> None:
        super().__init__(daemon=True)
        self.silence = 0.0
        self.plays: list[int] = []
        self._url, self._token, self._tracks = url, token, iter(tracks)
        self._over = threading.Event()

    def run(self) -> None:
        answered = played = time.monotonic()
        while not self._over.wait(0.05):
            if not self._ask("/identity"):
                continue
            now = time.monotonic()
            self.silence, answered = max(self.silence, now - answered), now
            if now - played > 1:
                played, track = now, next(self._tracks)
                if self._ask(f"/:/scrobble?key={track}&identifier=com.plexapp.plugins.library"):
                    self.plays.append(track)

    def end(self) -> None:
        """No more plays."""
        self._over.set()
        self.join()

    def _ask(self, path: str) -> bool:
        request = urllib.request.Request(self._url + path, headers={"X-Plex-Token": self._token})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def lived_in(pair: Path, base: Path, root: Path) -> Iterator[Sandbox]:
    """A sandbox whose home has the pair in `pair` (moved there), and beside it the base that went out."""
    box = Sandbox(root / "sandbox", sizes=Sizes(tracks=2, films=2, shows=1, episodes=1, photos=1), speed=0.02)
    box.up()
    try:
        box.down()
        databases = home.databases_dir(box.layout)
        shutil.rmtree(databases)
        pair.rename(databases)
        link(base, home.home_dir(box.layout) / "plexburst" / "base")
        box.up()
        yield box
    finally:
        box.reset()


def link(pair: Path, target: Path) -> None:
    """The same pair in another folder, without a second copy on disk."""
    target.mkdir(parents=True)
    for name in (*NAMES, MANIFEST):
        os.link(pair / name, target / name)


def install(pair: Path, base: Path, result: Path, root: Path, tracks: list[int]) -> dict[str, Any]:
    """Install `result` at a home that has lived on in `pair` since `base` went out.

    :param pair: home's pair now; it is moved.
    :param tracks: ids of tracks that are played meanwhile, one a second.
    :returns: `down` and `seconds` (of the playbook), `plays` taken.
    """
    folder = RunFolder.create(root / "runs", new_run_id())
    for name, source in (("base", base), ("result", result)):
        link(source, folder.path / "snapshots" / name)
    with lived_in(pair, base, root) as box:
        databases = home.databases_dir(box.layout)
        preferences = databases.parents[1] / "Preferences.xml"
        token = ElementTree.parse(preferences).getroot().attrib["PlexOnlineToken"]  # noqa: S314 - our own file
        household = Household(f"http://127.0.0.1:{box.state['home']['plex_port']}", token, tracks)
        household.start()
        begun = time.perf_counter()
        play(box, "install.yml", root / "runs", folder.run_id)
        seconds = time.perf_counter() - begun
        household.end()
        box.down()
        require_plays(databases, household.plays)
    summary = json.loads((folder.path / "summary.json").read_text(encoding="utf-8"))
    if not summary["home"]["installed"]:
        raise SystemExit(f"Expected the pair to be installed at home, found {summary['home']} in {folder.path}.")
    return {"down": household.silence, "seconds": seconds, "plays": len(household.plays)}


def play(box: Sandbox, playbook: str, runs: Path, run_id: str) -> None:
    """Run a playbook in the sandbox; its whole output is the error when it fails."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), str(REPOSITORY / playbook)]
    command += ["-i", str(REPOSITORY / "inventory" / "sandbox")]
    command += ["-e", json.dumps({"plexburst_runs_dir": str(runs), "plexburst_run": run_id})]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "SCW_"))}
    done = subprocess.run(
        command,
        cwd="/",
        env=environment | box.ansible_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PLAYBOOK_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{playbook} failed (exit code {done.returncode}):\n{done.stdout[-8000:]}")


def require_plays(databases: Path, plays: list[int]) -> None:
    """Every play that was taken is there."""
    connection: Any = db.connect(databases / LIBRARY, read_only=True)
    found = {
        row[0]
        for row in connection.execute(
            "SELECT i.id FROM metadata_item_views v JOIN metadata_items i ON i.guid = v.guid WHERE v.viewed_at > ?",
            (time.time() - 2 * PLAYBOOK_SECONDS,),
        )
    }
    connection.close()
    lost = [track for track in plays if track not in found]
    if lost:
        raise SystemExit(f"{len(lost)} of {len(plays)} plays were lost in the installation, for example {lost[:5]}.")
