"""`plexburst_apply: sonic` in the sandbox: nothing but Sonic data comes home, into a library that goes on working."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import (
    BLOBS,
    LIBRARY,
    HomeState,
    Outcome,
    alive,
    ask_home,
    connect,
    databases_of,
    files_of_remote,
    run_playbook,
)

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=27, films=4, shows=1, episodes=3, photos=4)
# What a Plex that runs writes by itself, whoever is at work.
ITS_OWN = {"activities", "statistics_bandwidth", "statistics_media", "statistics_resources", "sqlite_sequence"}


def everything(databases: Path, file: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every ordinary table of one database."""
    library = connect(databases / file)
    try:
        names = library.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        tables = [name for name, sql in names if "VIRTUAL" not in sql.upper() and not name.startswith("fts4_")]
        return {
            name: sorted(library.execute(f'SELECT * FROM "{name}"').fetchall(), key=repr)  # noqa: S608 - a table's name
            for name in tables
            if name not in ITS_OWN and not name.startswith("spellfix_")
        }
    finally:
        library.close()


def columns(databases: Path, table: str) -> list[str]:
    library = connect(databases / LIBRARY)
    try:
        return [row[1] for row in library.execute(f"PRAGMA table_info({table})")]
    finally:
        library.close()


@dataclass(frozen=True)
class Story:
    """Home before and after, and what its Plex said meanwhile."""

    sandbox: Sandbox
    databases: Path
    before: HomeState
    rows: dict[str, dict[str, list[tuple[Any, ...]]]]
    pid: str
    log: int
    first: Outcome
    after: HomeState
    rows_after: dict[str, dict[str, list[tuple[Any, ...]]]]
    machines: int
    again: Outcome
    after_again: HomeState


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("sonic")
    sandbox = Sandbox(root / "sandbox", sizes=SMALL)
    sandbox.up()
    try:
        home = sandbox.state["home"]
        databases = databases_of(home["config_dir"])
        before = HomeState.read(databases)
        rows = {file: everything(databases, file) for file in (LIBRARY, BLOBS)}
        pid = Path(home["pid_file"]).read_text()
        log = (databases.parents[1] / "Logs" / "Plex Media Server.log").stat().st_size
        env = sandbox.ansible_env()
        first = run_playbook(env, root / "runs", "-e", "plexburst_apply=sonic")
        after = HomeState.read(databases)
        rows_after = {file: everything(databases, file) for file in (LIBRARY, BLOBS)}
        machines = len(sandbox.ledger())
        again = run_playbook(env, root / "runs", "-e", "plexburst_apply=sonic")
        yield Story(
            sandbox,
            databases,
            before,
            rows,
            pid,
            log,
            first,
            after,
            rows_after,
            machines,
            again,
            HomeState.read(databases),
        )
    finally:
        sandbox.down()


def heard(story: Story) -> set[int]:
    """Home's tracks whose files are on the remote."""
    library = connect(story.databases / LIBRARY)
    try:
        there = files_of_remote(story.sandbox.state)
        rows = library.execute(
            "SELECT m.metadata_item_id, p.file FROM media_parts p JOIN media_items m ON m.id = p.media_item_id"
        ).fetchall()
    finally:
        library.close()
    return {track for track, file in rows if file in there} & story.before.tracks


def test_every_track_that_home_knows_has_sonic_data_by_two_measures(story: Story) -> None:
    assert story.first.rc == 0, story.first.output[-6000:]
    assert story.first.summary["cloud"]["leftovers"] == []
    assert story.before.sonic_marks < heard(story)
    assert heard(story) <= story.after.sonic_marks
    assert heard(story) <= story.after.sonic_blobs
    assert story.after.sonic_blobs <= story.before.tracks


def test_nothing_else_of_home_is_another(story: Story) -> None:
    assert story.after.items == story.before.items
    assert story.after.parts == story.before.parts
    for table, rows in story.rows[LIBRARY].items():
        if table != "metadata_items":
            assert story.rows_after[LIBRARY][table] == rows, table
    names = columns(story.databases, "metadata_items")
    kept = [index for index, name in enumerate(names) if name not in ("extra_data", "changed_at")]
    plain = [
        sorted((tuple(row[index] for index in kept) for row in side[LIBRARY]["metadata_items"]), key=repr)
        for side in (story.rows, story.rows_after)
    ]
    assert plain[0] == plain[1]
    # Vectors came; every blob that was there is the one it was.
    assert set(story.rows[BLOBS]["blobs"]) <= set(story.rows_after[BLOBS]["blobs"])
    for table, rows in story.rows[BLOBS].items():
        if table != "blobs":
            assert story.rows_after[BLOBS][table] == rows, table


def test_homes_plex_was_never_stopped(story: Story) -> None:
    home = story.sandbox.state["home"]
    assert Path(home["pid_file"]).read_text() == story.pid
    log = (story.databases.parents[1] / "Logs" / "Plex Media Server.log").read_bytes()[story.log :].decode()
    assert "stopped cleanly" not in log
    assert "started; listening" not in log
    assert story.first.summary["home"]["backup"] is None
    assert not (story.databases.parent / "plexburst-backups").exists()


def test_home_answers_nearest_for_the_tracks_that_were_analysed_now(story: Story) -> None:
    new = sorted(heard(story) - story.before.sonic_marks)
    assert new
    for track in (new[0], new[-1]):
        near = ask_home(story.sandbox.state, f"/library/metadata/{track}/nearest")
        found = {int(entry.attrib["ratingKey"]) for entry in near}
        assert found
        assert track not in found
        assert found <= story.before.tracks


def test_only_music_was_worked_on_and_a_second_run_pays_for_nothing(story: Story) -> None:
    assert "only the music sections below are indexed" in story.first.output
    assert "scan Music" in story.first.output
    assert "scan Movies" not in story.first.output
    assert "analyse Music" not in story.first.output
    assert story.again.rc == 0, story.again.output[-6000:]
    assert "Nothing to do: every track of home's library with a file on the remote" in story.again.output
    assert len(story.sandbox.ledger()) == story.machines
    assert alive(story.sandbox.ledger()) == []
    assert story.after_again == story.after
