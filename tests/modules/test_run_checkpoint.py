"""The module that finds, opens and forgets checkpoints, as the playbooks call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.modules.runner import run_module
from tests.unit.plex_db.test_resume import HOME, RUN_A, RUN_B, Indexer, World

ABOUT = {"machine_identifier": HOME, "sections": [], "path_mappings": []}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    indexer = Indexer(world, world.begin(RUN_A))
    indexer.analyses(20)
    indexer.checkpoint()
    indexer.analyses(20)
    indexer.checkpoint()
    world.begin(RUN_B)
    return world


def call(world: World, state: str, check: bool = False, **more: Any) -> dict[str, Any]:
    base = str(world.runs / RUN_B / "snapshots" / "base")
    asked = {"base_dir": base, "about": ABOUT} if state in ("inspected", "restored") else {}
    named = {"state": state, "runs_dir": str(world.runs), "run_id": RUN_B}
    return run_module("run_checkpoint", {**named, **asked, **more}, check)


def test_a_run_finds_opens_takes_over_and_at_last_forgets_the_checkpoint_of_a_lost_one(world: World) -> None:
    dest = world.root / "pair"
    found = call(world, "inspected")
    assert not found["failed"], found
    assert (found["resume"]["run"], found["resume"]["number"], found["changed"]) == (RUN_A, 2, False)
    assert (found["resume"]["tracks"], found["resume"]["pending"]) == (40, 90)
    looked = call(world, "restored", check=True, dest=str(dest))
    assert looked["resume"] == found["resume"]
    assert not dest.exists(), "check mode opens nothing"
    opened = call(world, "restored", dest=str(dest), limits={"items_gone": 0})
    assert opened["resume"] == found["resume"], opened
    assert opened["changed"]
    assert (dest / "manifest.json").is_file()

    assert call(world, "resumed", run=RUN_A)["changed"]
    assert not call(world, "resumed", run=RUN_A)["changed"]
    assert call(world, "absent", check=True)["changed"]
    spent = call(world, "absent")
    assert [Path(path).name for path in spent["removed"]] == ["checkpoint", "base"]
    assert call(world, "inspected") == {**call(world, "inspected"), "resume": {}, "refused": []}
    assert not call(world, "absent")["changed"]


def test_what_cannot_be_used_is_told_but_not_what_is_older_than_the_one_that_is(world: World) -> None:
    other = {**ABOUT, "machine_identifier": "another"}
    refused = run_module(
        "run_checkpoint",
        {
            "runs_dir": str(world.runs),
            "run_id": RUN_B,
            "base_dir": str(world.runs / RUN_B / "snapshots" / "base"),
            "about": other,
        },
    )
    assert refused["resume"] == {}
    assert refused["refused"] == [f"The checkpoint of run {RUN_A} is not used. It belongs to another home."]
    old = world.begin("20261101-000000-0000")
    lost = Indexer(world, old, machine_identifier="another")
    lost.analyses(5)
    lost.checkpoint()
    assert call(world, "inspected")["refused"] == []


def test_no_room_for_the_pair_is_a_failure_with_the_way_out(world: World) -> None:
    nowhere = world.root / "file"
    nowhere.write_text("in the way")
    failed = call(world, "restored", dest=str(nowhere / "pair"))
    assert failed["failed"]
    assert "plexburst_resume=false" in failed["advice"]
