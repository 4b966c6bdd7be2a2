"""Home in linuxserver's image under compose, as CasaOS has it; and the indexer rebooted while Sonic works."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.e2e import homes
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.evidence import changed_at_home, files_of_remote
from tests.e2e.world import World
from tests.playbooks.evidence import HomeState

pytestmark = pytest.mark.e2e

PATIENCE = json.dumps({"plexburst_profile_overrides": {"silent_after": 400, "missed_after": 400, "timeout": 1200}})
"""The sandbox's profile gives an indexer up after 20 s, those for a cloud after 15 min: what is done here must fit."""


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    # Slow enough that Sonic is still at work when the indexer goes down, and when it has come back.
    with lived_in(World(engine, "linuxserver", speed=1.0)) as made:
        print("set-up:", made.up(homes.install_linuxserver))
        yield made


def test_an_indexer_rebooted_during_sonic_goes_on_and_home_gets_everything(world: World) -> None:
    with world.home_databases() as folder:
        before = HomeState.read(folder)
    made_by_compose = json.loads(world.home.run("docker inspect plex"))[0]
    playing = world.start("-e", PATIENCE)
    playing.until(lambda: playing.is_at("sonic"), "Sonic at work", 900)
    time.sleep(5)
    indexer = world.indexer()
    indexer.stop(60)
    indexer.start()
    assert playing.wait(1500) == 0, playing.output[-8000:]
    # Once before, once after: the mounts are there before Docker, so that Plex need not be shown its media once more.
    lines = (playing.run_dir / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    watched = [entry for entry in map(json.loads, lines) if entry.get("task") == "sonic" and "sample" in entry]
    assert len({entry["sample"]["server_started"] for entry in watched} - {None}) == 2
    assert world.alive() == []
    with world.home_databases() as folder:
        after = HomeState.read(folder)
    assert {name for name, deleted in after.parts.items() if not deleted} == files_of_remote(world)
    assert after.tracks == after.sonic_blobs == after.sonic_marks
    assert changed_at_home(before, after) == []
    container = json.loads(world.home.run("docker inspect plex"))[0]
    assert container["Id"] == made_by_compose["Id"], "stopped and started, never made again"
    assert container["Config"]["Labels"]["com.docker.compose.project"] == "plex"
    assert container["State"]["Running"]
    path = f"{homes.APP_DIR}/config/{homes.DATABASES}/{homes.LIBRARY}"
    assert world.home.run(f"stat -c '%u:%g %a' '{path}'").strip() == "1000:1000 644"
