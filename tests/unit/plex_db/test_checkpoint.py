"""Checkpoints of a pair that is worked on: made on the indexer, kept by the controller, gone on from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import format as checkpoint
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import chain, delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import files, snapshot

from tests.unit.plex_db import building
from tests.unit.plex_db.test_delta import contents


class Two:
    """An indexer with a pair that is worked on, and a controller."""

    def __init__(self, root: Path) -> None:
        self.live = building.make_library(root / "live", tracks=400, analysed=0)
        self.work, self.base, self.place = root / "work", root / "base", root / "run" / "checkpoint"
        self.base_files = snapshot.take(self.live, self.base, "home", "1")["files"]
        self.analysed = 0

    def analyse(self, count: int = 100) -> None:
        """So many more tracks get Sonic data."""
        first, self.analysed = self.analysed + 1, self.analysed + count
        mark = "UPDATE metadata_items SET extra_data = ? WHERE id BETWEEN ? AND ?"
        building.write(self.live / building.LIBRARY, (mark, building.SONIC, first, self.analysed))
        building.write(self.live / building.BLOBS, *map(building.vector, range(first, self.analysed + 1)))

    def make(self) -> delta.Delta:
        known = checkpoint.known(self.place, self.base_files)
        return checkpoint.make(self.live, self.work, self.base, "1", known)

    def bring(self) -> checkpoint.Checkpoint:
        """What the controller does with what was made."""
        self.place.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.work / "delta", self.place / ".next")
        return checkpoint.put(self.place, {"run_id": "20261122-071500-ab12"})

    def checkpoint(self) -> checkpoint.Checkpoint:
        """A whole one."""
        self.analyse()
        self.make()
        kept = self.bring()
        assert checkpoint.keep(self.work)
        return kept

    def all(self) -> list[checkpoint.Checkpoint]:
        return [checkpoint.load(folder) for folder in checkpoint.folders(self.place)]


@pytest.fixture
def two(tmp_path: Path) -> Two:
    return Two(tmp_path)


def test_each_leads_on_from_the_one_before_and_the_newest_gives_the_whole_pair(two: Two, tmp_path: Path) -> None:
    made = [two.checkpoint() for _ in range(3)]
    assert [one.number for one in made] == [1, 2, 3]
    assert made[0].delta.base_is(two.base_files)
    assert made[2].delta.base_is(made[1].files)
    assert made[2].delta.size < delta.make(two.work / "held", tmp_path / "all", two.base).size / 2
    folders = checkpoint.chain(two.all(), two.all()[-1], two.base_files)
    assert [folder.name for folder in folders] == ["0001", "0002", "0003"]
    chain.apply(folders, tmp_path / "out", two.base)
    assert contents(tmp_path / "out") == contents(two.work / "held")
    counts = checkpoint.reached(json.loads((tmp_path / "out" / "manifest.json").read_text()))
    assert counts == {"items": 401, "sonic_done": 300, "sonic_total": 400}
    assert checkpoint.words(counts) == "300 tracks with Sonic data"
    assert sorted(path.name for path in two.work.iterdir()) == ["held"], "one copy stays between two checkpoints"
    assert two.all()[-1].about == {"run_id": "20261122-071500-ab12"}
    assert {path.stat().st_mode & 0o077 for path in two.place.rglob("*") if path.is_file()} == {0}


def test_one_that_never_arrived_costs_nothing_but_itself(two: Two, tmp_path: Path) -> None:
    two.checkpoint()
    two.analyse()
    two.make()
    (two.place / ".next").mkdir()
    (two.place / ".next" / "delta.json").write_text("half")
    checkpoint.remove(two.work, held=False)
    assert [one.number for one in two.all()] == [1]
    shutil.rmtree(two.place / ".next")
    last = two.checkpoint()
    assert last.delta.base_is(two.all()[0].files), "it leads on from the one that arrived"
    chain.apply(checkpoint.chain(two.all(), last, two.base_files), tmp_path / "out", two.base)
    assert contents(tmp_path / "out") == contents(two.work / "held")


@pytest.mark.parametrize(
    ("harm", "whole"),
    [
        (lambda two: shutil.rmtree(two.work), False),
        (lambda two: (two.work / "held" / building.BLOBS).write_bytes(b"damaged" * 9000), False),
        (lambda two: [shutil.rmtree(two.work), shutil.rmtree(two.base)], True),
    ],
    ids=["the indexer lost its copy", "that copy was damaged", "the indexer has nothing"],
)
def test_where_both_ends_differ_it_leads_on_from_what_they_share(
    two: Two, tmp_path: Path, harm: Callable[[Two], Any], whole: bool
) -> None:
    shutil.copytree(two.base, tmp_path / "controllers-base")
    two.checkpoint()
    harm(two)
    last = two.checkpoint()
    assert last.delta.whole is whole
    assert whole or last.delta.base_is(two.base_files)
    folders = checkpoint.chain(two.all(), last, two.base_files)
    assert [folder.name for folder in folders] == ["0002"]
    chain.apply(folders, tmp_path / "out", tmp_path / "controllers-base")
    assert contents(tmp_path / "out") == contents(two.work / "held")


def test_a_failure_leaves_no_copy_of_the_library_on_the_indexer(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.checkpoint()
    two.analyse()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(PlexDatabaseError, match="free some space"):
        two.make()
    assert sorted(path.name for path in two.work.iterdir()) == ["held"]
    monkeypatch.undo()
    assert two.make().base_is(two.all()[0].files)


def test_a_damaged_one_is_named_and_the_one_before_it_is_good(two: Two) -> None:
    for _ in range(3):
        last = two.checkpoint()
    part = last.folder / last.delta.parts[0].name
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(PlexDatabaseError, match="of checkpoint 3 is missing or damaged"):
        checkpoint.chain(two.all(), last, two.base_files)
    assert len(checkpoint.chain(two.all(), two.all()[1], two.base_files)) == 2
    shutil.rmtree(two.place / "0001")
    with pytest.raises(PlexDatabaseError, match=r"base of checkpoint .* is neither"):
        checkpoint.chain(two.all(), two.all()[0], two.base_files)


def test_a_description_of_another_schema_is_refused(two: Two) -> None:
    kept = two.checkpoint()
    (kept.folder / "about.json").write_text('{"schema": 7, "about": {}}')
    with pytest.raises(PlexDatabaseError, match="schema 7"):
        checkpoint.load(kept.folder)
    two.analyse()
    assert two.make().base_is(two.base_files), "what cannot be read is not led on from"
