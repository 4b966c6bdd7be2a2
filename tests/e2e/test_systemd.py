"""Home without Docker, its Plex from the package; and the indexer's mount killed in the middle of a scan."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import homes
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.evidence import changed_at_home, files_of_remote
from tests.e2e.world import World
from tests.playbooks.evidence import HomeState

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    # Slow enough that the scan is still at work when rclone is killed.
    with lived_in(World(engine, "systemd", speed=1.0)) as made:
        print("set-up:", made.up(homes.install_systemd))
        yield made


def test_a_mount_killed_during_a_scan_deletes_nothing_and_the_run_ends_well(world: World) -> None:
    with world.home_databases() as folder:
        before = HomeState.read(folder)
    owner = world.home.run(f"stat -c %U:%G '{homes.PACKAGE_DIR}/{homes.DATABASES}/{homes.LIBRARY}'").strip()
    playing = world.start()
    playing.until(lambda: playing.is_at("scan"), "the scan at work", 900)
    indexer = world.indexer()
    killed = indexer.run("pkill -KILL --echo rclone; true")
    assert "killed" in killed
    assert playing.wait(1500) == 0, playing.output[-8000:]
    assert playing.summary["status"] == "succeeded"
    assert world.alive() == []
    with world.home_databases() as folder:
        after = HomeState.read(folder)
    assert {name for name, deleted in after.parts.items() if not deleted} == files_of_remote(world)
    assert after.sections == before.sections
    assert changed_at_home(before, after) == []
    assert owner == "plex:plex"
    listed = world.home.run(f"stat -c '%U:%G %a %n' '{homes.PACKAGE_DIR}/{homes.DATABASES}'/{homes.LIBRARY}")
    assert listed.startswith("plex:plex 644 "), listed
    assert world.home.run("systemctl show --property=ActiveState,NRestarts plexmediaserver").split() == [
        "NRestarts=0",
        "ActiveState=active",
    ]
    assert "plexburst" not in world.home.run("ls /etc/systemd/system /run/systemd/system")
