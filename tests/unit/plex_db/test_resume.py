"""Which checkpoint a run goes on from, whether it is good, and what the merge makes of it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import resume
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks.loss import STRICT
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import id_gap
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import run as merges
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import files, snapshot
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import apply
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping.mapping import Mappings
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder

from tests.unit.plex_db import building

RUN_A, RUN_B, RUN_C = "20261122-071500-aaaa", "20261123-071500-bbbb", "20261124-071500-cccc"
HOME = "home-machine"
SONIC = "UPDATE metadata_items SET extra_data = ? WHERE id BETWEEN ? AND ?"
NEW = 900_001
"""Id of the first track that an indexer finds: beyond the gap."""


class World:
    """A home, a folder of runs, and indexers that are lost."""

    def __init__(self, root: Path) -> None:
        self.root, self.runs = root, root / "runs"
        self.home = building.make_library(root / "home", tracks=100, analysed=10)

    def begin(self, run_id: str) -> RunFolder:
        """A run takes its snapshot of home."""
        run = RunFolder.create(self.runs, run_id)
        snapshot.take(self.home, run.path / "snapshots" / "base", "home", "1.41")
        return run

    def asking(self, run_id: str = RUN_B, **more: Any) -> resume.Asking:
        """That run asks what it can go on from."""
        base = self.runs / run_id / "snapshots" / "base"
        if not base.exists():
            self.begin(run_id)
        plain = {"run_id": run_id, "machine_identifier": HOME, "sections": [], "path_mappings": [], "base": base}
        return resume.Asking(**{**plain, **more})

    def find(self, **more: Any) -> tuple[list[resume.Candidate], list[str]]:
        found, refused = resume.find(self.runs, self.asking(**more))
        return found, [one.words for one in refused]

    def open(self, **more: Any) -> tuple[resume.Candidate | None, list[str]]:
        asking = self.asking(**more)
        found, refused = resume.find(self.runs, asking)
        chosen, later = resume.open_first(found, self.root / "pair", asking, None, STRICT)
        return chosen, [one.words for one in [*refused, *later]]

    def does(self, *statements: tuple[Any, ...]) -> None:
        """Something that people, or Plex, do at home."""
        building.write(self.home / building.LIBRARY, *statements)


class Indexer:
    """An indexer that works on what a run sent it, makes checkpoints, and is lost."""

    def __init__(self, world: World, run: RunFolder, **about: Any) -> None:
        self.run, self.base = run, run.path / "snapshots" / "base"
        self.live, self.work = world.root / f"live-{run.run_id}", world.root / f"work-{run.run_id}"
        shutil.copytree(self.base, self.live)
        (self.live / "manifest.json").unlink()
        id_gap.raise_pair(self.live)
        self.about = {"machine_identifier": HOME, "sections": [], "path_mappings": [], **about}
        self.analysed = 10

    def maps(self, mappings: list[dict[str, str]], *, way_back: bool) -> None:
        """What role plex_fetch's map_paths does before Plex starts."""
        journal = self.work.with_name(f"{self.work.name}-{way_back}.journal")
        apply.apply(self.live, Mappings.parse(mappings), journal=journal, way_back=way_back)
        self.about["indexer_path_mappings" if way_back else "path_mappings"] = mappings

    def analyses(self, count: int) -> None:
        first, self.analysed = self.analysed + 1, self.analysed + count
        building.write(self.live / building.LIBRARY, (SONIC, building.SONIC, first, self.analysed))
        building.write(self.live / building.BLOBS, *map(building.vector, range(first, self.analysed + 1)))

    def finds(self, number: int, file: str) -> None:
        building.write(self.live / building.LIBRARY, *building.track(number, file, building.SONIC))
        building.write(self.live / building.BLOBS, building.vector(number))

    def checkpoint(self) -> checkpoint.Checkpoint:
        place = self.run.path / "snapshots" / "checkpoint"
        base = json.loads((self.base / "manifest.json").read_text())["files"]
        checkpoint.make(self.live, self.work, self.base, "1.41", checkpoint.known(place, base))
        place.mkdir(exist_ok=True)
        shutil.copytree(self.work / "delta", place / ".next")
        kept = checkpoint.put(place, self.about)
        checkpoint.keep(self.work)
        self.run.record("checkpoint", {"made": kept.number, "failed": 0, "kept": True})
        return kept


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def lost(world: World) -> Indexer:
    """An indexer that was lost after two checkpoints: half of the tracks have Sonic data, one track is new."""
    indexer = Indexer(world, world.begin(RUN_A))
    indexer.analyses(20)
    indexer.checkpoint()
    indexer.analyses(20)
    indexer.finds(NEW, "/Media/Music/A/B/new.flac")
    indexer.checkpoint()
    return indexer


def rows(folder: Path, sql: str, name: str = building.LIBRARY) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{folder / name}?mode=ro&immutable=1", uri=True)) as connection:
        connection.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
        return connection.execute(sql).fetchall()


def test_the_newest_is_found_and_said_in_numbers(world: World, lost: Indexer) -> None:
    found, refused = world.find()
    assert refused == []
    assert [(one.run.name, one.checkpoint.number) for one in found] == [(RUN_A, 2), (RUN_A, 1)]
    assert found[0].gained == {"tracks": 41, "pending": 91, "items": 1}
    taken = found[0].checkpoint.taken_at
    assert found[0].words() == (
        f"the checkpoint of run {RUN_A} of {taken}: 41 of 91 tracks need not be analysed again, 1 new item is known"
    )
    assert found[0].plain()["base"] == str(lost.base)


@pytest.mark.parametrize(
    ("harm", "asks", "words"),
    [
        (lambda world, lost: None, {"machine_identifier": "another"}, "It belongs to another home."),
        (
            lambda world, lost: None,
            {"sections": ["Movies"]},
            "It contains work on all sections, but this run only has Movies",
        ),
        (
            lambda world, lost: None,
            {"path_mappings": [{"from": "/Media/Old", "to": "/Media/New"}]},
            "other plexburst_path_",
        ),
        (lambda world, lost: shutil.rmtree(lost.base), {}, "does not exist"),
        (lambda world, lost: (lost.base / building.BLOBS).unlink(), {}, "is not complete any more"),
        (
            lambda world, lost: world.does(("UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'media_parts'",)),
            {},
            "Home was restored to an older database since (media_parts was at id 5000, is at 4999)",
        ),
        (
            lambda world, lost: id_gap.raise_pair(world.home),
            {},
            "Home got another run's database since, or has grown too much",
        ),
        (
            lambda world, lost: world.does(("UPDATE library_sections SET uuid = 'x' WHERE id = 1",)),
            {},
            "Home's section Music was replaced by another section since.",
        ),
        (
            lambda world, lost: world.does(("INSERT INTO schema_migrations(version) VALUES('20991231000000')",)),
            {},
            "Its database has another schema than home's.",
        ),
    ],
)
def test_one_that_does_not_fit_is_refused_in_words(
    world: World, lost: Indexer, harm: Callable[[World, Indexer], Any], asks: dict[str, Any], words: str
) -> None:
    harm(world, lost)
    found, refused = world.find(**asks)
    assert found == []
    assert len(refused) == 1
    assert words in refused[0]
    assert refused[0].startswith(f"The checkpoint of run {RUN_A} is not used. ")


def test_another_version_of_plex_is_refused(world: World, lost: Indexer) -> None:
    asking = world.asking()
    snapshot.take(world.home, asking.base, "home", "1.42")
    found, (refused,) = resume.find(world.runs, asking)
    assert found == []
    assert "Home's Plex was 1.41 then and is 1.42 now." in refused.words


def test_sections_may_become_more_but_not_fewer(world: World) -> None:
    indexer = Indexer(world, world.begin(RUN_A), sections=["Music"])
    indexer.analyses(5)
    indexer.checkpoint()
    assert world.find(sections=["Music"])[0]
    assert world.find(sections=["Movies", "Music"])[0]
    assert world.find(sections=[])[0]
    assert world.find(sections=["Movies"])[0] == []


def test_a_run_that_went_on_and_was_lost_too_is_gone_on_from_and_the_older_one_stays_until_all_is_home(
    world: World, lost: Indexer
) -> None:
    second = world.begin(RUN_B)
    assert resume.take_over(world.runs, RUN_B, RUN_A)
    assert not resume.take_over(world.runs, RUN_B, RUN_A)
    assert lost.run.state()["checkpoint"]["resumed_by"] == [RUN_B]
    third = world.begin(RUN_C)
    found, _ = resume.find(world.runs, world.asking(RUN_C))
    assert found[0].run.name == RUN_A, "the second one was lost before it had a checkpoint of its own"
    indexer = Indexer(world, second)
    indexer.analyses(60)
    indexer.checkpoint()
    found, _ = resume.find(world.runs, world.asking(RUN_C))
    assert [one.run.name for one in found] == [RUN_B, RUN_A, RUN_A]
    resume.take_over(world.runs, RUN_C, RUN_B)
    third.record("checkpoint", {"made": 0})

    removed = resume.spend(world.runs, RUN_C)
    assert removed == [
        str(world.runs / run / "snapshots" / name)
        for run, name in ((RUN_B, "checkpoint"), (RUN_B, "base"), (RUN_A, "checkpoint"), (RUN_A, "base"))
    ]
    assert (third.path / "snapshots" / "base").is_dir(), "the run that is installed keeps what it leads from"
    assert lost.run.state()["checkpoint"]["kept"] is False
    assert resume.find(world.runs, world.asking("20261125-071500-dddd"))[0] == []
    assert resume.spend(world.runs, RUN_C) == []


def test_a_run_that_ends_well_removes_its_own(world: World, lost: Indexer) -> None:
    assert resume.spend(world.runs, RUN_A) == [str(lost.run.path / "snapshots" / "checkpoint")]
    assert lost.base.is_dir()


def test_the_summary_of_a_run_that_is_over_tells_who_went_on(world: World, lost: Indexer) -> None:
    summary = lost.run.path / "summary.json"
    summary.write_text(json.dumps({"run_id": RUN_A, "checkpoint": {"made": 2, "failed": 0, "kept": True}}))
    world.begin(RUN_B)
    resume.take_over(world.runs, RUN_B, RUN_A)
    resume.spend(world.runs, RUN_B)
    told = json.loads(summary.read_text())["checkpoint"]
    assert told == {"made": 2, "failed": 0, "kept": False, "resumed_by": [RUN_B]}
    assert summary.stat().st_mode & 0o077 == 0


def test_a_damaged_one_is_said_and_the_older_one_is_opened(world: World, lost: Indexer) -> None:
    newest = checkpoint.load(checkpoint.folders(lost.run.path / "snapshots" / "checkpoint")[-1])
    (newest.folder / newest.delta.parts[0].name).unlink()
    chosen, refused = world.open()
    assert chosen is not None
    assert chosen.checkpoint.number == 1
    (words,) = refused
    assert words.startswith(f"Checkpoint 2 of run {RUN_A} is not used. 0000-")
    assert words.endswith("library.db of checkpoint 2 is missing or damaged.")
    assert len(rows(world.root / "pair", "SELECT id FROM metadata_items WHERE extra_data IS NOT NULL")) == 30


def test_one_in_which_something_is_lost_is_refused_and_the_older_one_is_opened(world: World, lost: Indexer) -> None:
    building.write(lost.live / building.LIBRARY, ("DELETE FROM metadata_items WHERE id BETWEEN 80 AND 90",))
    lost.checkpoint()
    chosen, refused = world.open()
    assert chosen is not None
    assert chosen.checkpoint.number == 2
    assert len(refused) == 1
    assert "11 of 100 tracks" in refused[0]


def test_a_home_that_went_back_and_gave_the_same_ids_away_again_is_noticed(world: World, lost: Indexer) -> None:
    world.does(("UPDATE metadata_items SET created_at = 4711 WHERE id = 50",))
    chosen, refused = world.open()
    assert chosen is None
    assert "1 of home's items differ from those" in refused[0]
    assert not (world.root / "pair").exists()


def test_a_base_that_was_damaged_is_noticed(world: World, lost: Indexer) -> None:
    with (lost.base / building.BLOBS).open("r+b") as stream:
        stream.seek(9000)
        stream.write(b"damaged")
    chosen, refused = world.open()
    assert chosen is None
    assert all("It is another base, or it was damaged since" in words for words in refused)


def test_a_disk_that_is_full_ends_the_run_before_anything_is_paid(
    world: World, lost: Indexer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = world.asking()
    found, _ = resume.find(world.runs, asking)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(PlexDatabaseError, match=r"Continuing from the checkpoint of run .* free some space"):
        resume.open_first(found, world.root / "pair", asking, None, STRICT)
    assert not (world.root / "pair").exists()


MOVES = [{"from": "/Media/Music/A/B", "to": "/Media/Music/A/C"}]
NAMES = [{"from": "/Media", "to": "/srv/somewhere"}]


def test_names_of_the_lost_indexers_own_are_taken_back_and_moves_stay(world: World) -> None:
    indexer = Indexer(world, world.begin(RUN_A))
    indexer.maps(MOVES, way_back=False)
    indexer.maps(NAMES, way_back=True)
    indexer.analyses(20)
    indexer.finds(NEW, "/srv/somewhere/Music/A/C/new.flac")
    indexer.checkpoint()
    chosen, refused = world.open(path_mappings=MOVES)
    assert chosen is not None, refused
    pair = world.root / "pair"
    paths = [path for (path,) in rows(pair, "SELECT file FROM media_parts WHERE media_item_id < 5000 OR id > 5000")]
    assert len(paths) == 101
    assert all(path.startswith("/Media/Music/A/C/") for path in paths)
    roots = rows(pair, "SELECT root_path FROM section_locations ORDER BY id")
    assert roots == [("/Media/Music",), ("/Media/Movies",)]
    assert sorted(path.name for path in pair.iterdir()) == sorted([building.LIBRARY, building.BLOBS, "manifest.json"])
    manifest = json.loads((pair / "manifest.json").read_text())
    assert manifest["files"][building.LIBRARY]["sha256"] == files.sha256_of(pair / building.LIBRARY)


def test_the_new_indexer_has_what_the_lost_one_did_and_what_home_did_since(world: World, lost: Indexer) -> None:
    world.does(
        ("INSERT INTO metadata_item_views(account_id, guid, viewed_at) VALUES(1, 'g-7', 2000)",),
        ("INSERT INTO metadata_item_settings(account_id, guid, rating, updated_at) VALUES(1, 'g-8', 9.0, 2000)",),
        ("UPDATE metadata_items SET title = 'Named at home', user_fields = 'lockedFields=1' WHERE id = 20",),
        ("DELETE FROM metadata_items WHERE id = 30",),
        *building.track(6000, "/Media/Music/A/B/found at home.flac"),
    )
    chosen, refused = world.open()
    assert chosen is not None, refused
    base = chosen.base
    there = world.root / "indexer"
    shutil.copytree(world.asking().base, there / "Databases")
    shutil.copytree(world.root / "pair", there / "plexburst-resume" / "pair")
    id_gap.raise_pair(there / "Databases")  # an existing server was here before
    done = merges.resume(
        base, there / "Databases", there / "plexburst-resume" / "pair", plex_sqlite=building.plex_sqlite()
    )
    assert done.kept == 2
    databases = there / "Databases"
    have = {row for (row,) in rows(databases, "SELECT id FROM metadata_items WHERE extra_data IS NOT NULL")}
    assert have == {*range(1, 51), NEW} - {30}, "none of them is analysed again"
    vectors = {row for (row,) in rows(databases, "SELECT linked_id FROM blobs", building.BLOBS)}
    assert have <= vectors
    assert rows(databases, "SELECT title FROM metadata_items WHERE id IN (20, 30)") == [("Named at home",)]
    assert (1, "g-7", 2000) in rows(databases, "SELECT account_id, guid, viewed_at FROM metadata_item_views")
    assert (9.0,) in rows(databases, "SELECT rating FROM metadata_item_settings")
    parts = {file for (file,) in rows(databases, "SELECT file FROM media_parts")}
    assert {"/Media/Music/A/B/new.flac", "/Media/Music/A/B/found at home.flac"} <= parts
    before = dict(rows(databases, "SELECT name, seq FROM sqlite_sequence"))
    assert before["metadata_items"] >= NEW
    assert id_gap.raise_pair(databases), "what is noted of the pair before it does not count"
    after = dict(rows(databases, "SELECT name, seq FROM sqlite_sequence"))
    assert after["metadata_items"] == before["metadata_items"] + id_gap.GAP


def test_a_merge_that_is_refused_leaves_homes_pair_in_place(world: World, lost: Indexer) -> None:
    world.does(*building.track(NEW, "/Media/Music/A/B/the same id.flac"))
    there = world.root / "indexer"
    shutil.copytree(world.asking().base, there / "Databases")
    before = {path.name: path.read_bytes() for path in (there / "Databases").iterdir()}
    pair = world.root / "pair"
    candidate = resume.Candidate(
        lost.run.path,
        checkpoint.load(lost.run.path / "snapshots" / "checkpoint" / "0002"),
        checkpoint.folders(lost.run.path / "snapshots" / "checkpoint"),
        json.loads((lost.base / "manifest.json").read_text()),
    )
    chosen, _ = resume.open_first([candidate], pair, world.asking(), None, STRICT)
    assert chosen is candidate
    with pytest.raises(PlexDatabaseError, match=f"both gave the ids {NEW} of metadata_items"):
        merges.resume(lost.base, there / "Databases", pair, plex_sqlite=building.plex_sqlite())
    assert {path.name: path.read_bytes() for path in (there / "Databases").iterdir()} == before


def test_half_a_relay_is_taken_back(world: World, lost: Indexer, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, _ = world.open()
    assert chosen is not None
    there = world.root / "Databases"
    shutil.copytree(world.asking().base, there)
    before = {path.name: path.read_bytes() for path in there.iterdir()}

    def replace(self: files.FileOperations, source: Path, target: Path) -> None:
        if source == world.root / "pair" / building.BLOBS:
            raise OSError(5, "Input/output error")
        source.replace(target)

    monkeypatch.setattr(files.FileOperations, "replace", replace)
    with pytest.raises(OSError, match="Input/output"):
        merges.resume(chosen.base, there, world.root / "pair", plex_sqlite=building.plex_sqlite())
    assert {path.name: path.read_bytes() for path in there.iterdir()} == before
