"""What goes wrong for a while and is survived: the S3 server away, Plex killed for want of memory, the network cut."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from sandbox.machines.container import ContainerMachine
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
    with lived_in(World(engine, "faults", speed=1.0)) as made:
        print("set-up:", made.up(homes.install_docker))
        yield made


def starve(machine: ContainerMachine) -> None:
    """Fill the memory of Plex's container until the kernel kills Plex, which it is told to prefer."""
    machine.run(
        """
        main=$(docker top plexburst -eo pid,args | awk '/Plex Media Server/ {print $1; exit}')
        echo 1000 >/proc/$main/oom_score_adj
        docker exec --detach plexburst python3 -c "
import time
held = []
try:
    while True:
        held.append(bytearray(16 << 20))
except MemoryError:
    time.sleep(5)
"
        for i in $(seq 120); do [ -d /proc/$main ] || exit 0; sleep 0.5; done
        exit 1
        """,
        timeout=120,
    )


def test_a_run_survives_s3_away_plex_killed_and_the_network_cut(world: World) -> None:
    with world.home_databases() as folder:
        before = HomeState.read(folder)
    playing = world.start("-e", PATIENCE)
    playing.until(lambda: playing.is_at("scan"), "the scan at work", 900)
    world.stop_s3()
    time.sleep(60)
    world.start_s3()
    playing.until(lambda: playing.is_at("sonic"), "Sonic at work", 900)
    machine = world.indexer()
    starve(machine)
    time.sleep(20)
    machine.cut()
    time.sleep(120)
    machine.mend()
    assert playing.wait(900) == 0, playing.output[-8000:]
    assert world.alive() == []
    with world.home_databases() as folder:
        after = HomeState.read(folder)
    assert {name for name, deleted in after.parts.items() if not deleted} == files_of_remote(world)
    assert after.tracks <= after.sonic_blobs
    assert changed_at_home(before, after) == []
