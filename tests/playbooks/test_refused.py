"""A pair in which something is lost never reaches home, whatever the run before it looked like."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from sandbox.plex import database
from tests.playbooks.evidence import BLOBS, LIBRARY, HomeState, Outcome, alive, databases_of, run_playbook

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=12, films=12, shows=1, episodes=2, photos=2)
QUICK = {"plexburst_sections": ["Movies"], "plexburst_quick_test": True}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path_factory.mktemp("refused") / "sandbox", sizes=SMALL, speed=0.02)
    box.up()
    try:
        yield box
    finally:
        box.reset()


class Accident(threading.Thread):
    """Does something once when a phase of the run begins."""

    def __init__(self, runs: Path, phase: str, deed: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.runs, self.phase, self.deed = runs, phase, deed
        self.over, self.happened = threading.Event(), False

    def run(self) -> None:
        while not self.over.wait(0.1):
            events = self.runs / "latest" / "events.jsonl"
            if events.exists() and f'"{self.phase}"' in events.read_text():
                self.deed()
                self.happened = True
                return


def run_into(sandbox: Sandbox, runs: Path, phase: str, deed: Callable[[], None]) -> Outcome:
    """Run a delta sync with an accident; home must be as it was, and nothing left in the cloud."""
    databases = databases_of(sandbox.state["home"]["config_dir"])
    before = HomeState.read(databases)
    accident = Accident(runs, phase, deed)
    accident.start()
    try:
        outcome = run_playbook(sandbox.ansible_env(), runs, "-e", json.dumps(QUICK))
    finally:
        accident.over.set()
        accident.join(30)
    assert accident.happened
    assert outcome.rc != 0
    assert outcome.summary["status"] == "failed"
    assert HomeState.read(databases) == before
    assert alive(sandbox.ledger()) == []
    return outcome


def indexer_library(sandbox: Sandbox) -> Path:
    """library.db of the newest indexer."""
    found = (Path(sandbox.state["dir"]) / "machines").glob(f"*/home/plexburst/config/**/{LIBRARY}")
    return max(found, key=lambda path: path.stat().st_mtime)


def test_a_section_emptied_on_the_indexer_is_refused_with_its_films(sandbox: Sandbox, tmp_path: Path) -> None:
    def empty() -> None:
        connection = database.connect(indexer_library(sandbox), set_up=False)
        films = "SELECT id FROM metadata_items WHERE metadata_type = 1"
        with database.writing(connection):
            connection.execute(f"DELETE FROM media_items WHERE metadata_item_id IN ({films})")  # noqa: S608
            connection.execute("DELETE FROM metadata_items WHERE metadata_type = 1")
        connection.close()

    outcome = run_into(sandbox, tmp_path / "runs", "fetch", empty)
    message = outcome.summary["failure"]["message"]
    assert "movies of section 'Movies' are gone" in message
    findings = json.loads((outcome.run_dir / "findings.json").read_text())
    (gone,) = [entry for entry in findings["problems"] if entry["code"] == "items_gone"]
    assert len(gone["examples"]) == min(gone["count"], 100)
    for folder in ("base", "result"):
        kept = {path.name for path in (outcome.run_dir / "snapshots" / folder).iterdir()}
        assert {LIBRARY, BLOBS} <= kept


def test_a_database_damaged_on_the_indexer_does_not_travel(sandbox: Sandbox, tmp_path: Path) -> None:
    def damage() -> None:
        connection = database.connect(indexer_library(sandbox), set_up=False)
        # A row of an index that its table does not have: readable, countable, and wrong.
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(
            "UPDATE sqlite_master SET sql = replace(sql, '(\"guid\")', '(\"hash\")') "
            "WHERE name = 'index_metadata_items_on_guid'"
        )
        connection.close()

    outcome = run_into(sandbox, tmp_path / "runs", "fetch", damage)
    message = outcome.summary["failure"]["message"]
    assert "is damaged, says Plex SQLite" in message
    assert "index_metadata_items_on_guid" in message
    assert not (outcome.run_dir / "snapshots" / "result").exists()
