"""Home in Docker (the official image's layout), a fresh instance that our roles make able to work, and back again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import homes, rootfs
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.evidence import changed_at_home, files_of_remote
from tests.e2e.world import World
from tests.sandbox.evidence import HomeState

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    with lived_in(World(engine, "full", image=rootfs.FRESH)) as made:
        print("set-up:", made.up(homes.install_docker))
        yield made


def test_a_delta_sync_on_real_plumbing_brings_home_what_the_bucket_holds(world: World) -> None:
    with world.home_databases() as folder:
        before = HomeState.read(folder)
    playing = world.play()
    assert playing.code == 0, playing.output[-8000:]
    assert playing.summary["status"] == "succeeded"
    assert playing.summary["cloud"]["leftovers"] == []
    assert world.alive() == []
    assert world.machines() == []
    assert f"plexburst {playing.summary['run_id']}" not in world.devices()
    with world.home_databases() as folder:
        after = HomeState.read(folder)
    assert after.sections == before.sections
    assert {name for name, deleted in after.parts.items() if not deleted} == files_of_remote(world)
    assert after.tracks == after.sonic_blobs == after.sonic_marks
    assert changed_at_home(before, after) == []
