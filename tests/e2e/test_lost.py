"""A machine that is not the one we made, and one that goes away for good: home keeps its own, nothing stays behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import homes
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.world import World
from tests.playbooks.evidence import HomeState

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    # Slow enough that Sonic is still at work when the network goes.
    with lived_in(World(engine, "lost", speed=1.0)) as made:
        print("set-up:", made.up(homes.install_docker))
        yield made


def state_of_home(world: World) -> HomeState:
    with world.home_databases() as folder:
        return HomeState.read(folder)


def test_another_machines_host_key_is_refused_and_nothing_is_sent_to_it(world: World) -> None:
    before = state_of_home(world)
    world.faults("machine", wrong_host_key=True)
    playing = world.play("-e", "plexburst_keep_instance=true", "-e", "plexburst_ssh_timeout=20")
    assert playing.code not in (0, None), playing.output[-4000:]
    assert playing.summary["failure"]["phase"] == "prepare", playing.output[-4000:]
    stranger = world.indexer()
    journal = stranger.run("journalctl --no-pager --unit ssh.service")
    assert "Server listening" in journal
    assert "Accepted" not in journal
    assert stranger.run("ls -A /opt /root; cat /root/.ssh/authorized_keys | wc -l").split()[-1] == "1"
    assert "plexburst" not in stranger.run("ls -A /opt")
    assert state_of_home(world) == before
    world.faults("machine")
    reaped = world.play("-e", "plexburst_reap_all=true", playbook="reap.yml", seconds=300)
    assert reaped.code == 0, reaped.output[-4000:]
    assert world.alive() == []


def test_an_indexer_that_is_lost_is_released_and_home_keeps_its_database(world: World) -> None:
    before = state_of_home(world)
    playing = world.start()
    playing.until(lambda: playing.is_at("sonic"), "Sonic at work", 900)
    world.indexer().cut()
    assert playing.wait(900) not in (0, None)
    assert playing.summary["status"] != "succeeded"
    assert playing.summary["failure"]["message"]
    assert world.alive() == []
    assert world.machines() == []
    assert playing.summary["run_id"] not in world.devices()
    assert state_of_home(world) == before
    assert "<MediaContainer" in world.home.run("curl -fsS http://127.0.0.1:32400/identity")
