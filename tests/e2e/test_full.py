"""Home in Docker (the official image's layout), a fresh instance that our roles make able to work, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import homes, rootfs
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.evidence import Footprint, changed_at_home, files, files_of_remote
from tests.e2e.world import MEMORY_MB, VOLUME_GB, World
from tests.playbooks.evidence import HomeState

pytestmark = pytest.mark.e2e
LEAVING = Path(__file__).with_name("playbooks") / "leaving.yml"


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    with lived_in(World(engine, "full", image=rootfs.FRESH)) as made:
        print("set-up:", made.up(homes.install_docker))
        yield made


def beside_plex(world: World) -> set[str]:
    """Home's files but those of its Plex."""
    return {line for line in files(world.home) if f" {homes.APP_DIR}/" not in line}


def test_a_delta_sync_on_real_plumbing_brings_home_what_the_bucket_holds(world: World) -> None:
    with world.home_databases() as folder:
        before = HomeState.read(folder)
    known = beside_plex(world)
    playing = world.start()
    playing.until(lambda: playing.is_at("sonic"), "Sonic at work", 900)
    used = Footprint.of(world.indexer())
    print(used)
    assert playing.wait(900) == 0, playing.output[-8000:]
    # The smallest profile's machine: a DEV1-S with its volume. It reaches its limit of memory with what files it read;
    # what did not fit would have been killed.
    assert (used.memory_limit, used.killed) == (MEMORY_MB, 0), used
    assert used.disk < VOLUME_GB * 1000 // 2, used
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

    # What a run leaves at home: a folder of its own without a file in it, and backups; without them it is as it was.
    kept = beside_plex(world) ^ known
    assert kept
    assert all("/.plexburst/" in line and line.endswith("/") for line in kept), kept
    left = world.play(playbook=str(LEAVING))
    assert left.code == 0, left.output[-4000:]
    assert beside_plex(world) ^ known == set()
    named = world.home.run(f"find {homes.APP_DIR} -name '*plexburst*'").split("\n")
    assert {Path(name).name for name in named if name} == {"plexburst-backups"}
