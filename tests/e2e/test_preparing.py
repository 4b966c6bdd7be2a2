"""The roles that prepare a machine: honest in check mode, done once, repaired when somebody meddled, and taken back."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.machines.container import ContainerMachine
from tests.e2e import rootfs
from tests.e2e.conftest import lived_in
from tests.e2e.engine import Engine
from tests.e2e.evidence import files
from tests.e2e.world import Playing, World

pytestmark = pytest.mark.e2e
PLAYBOOK = Path(__file__).with_name("playbooks") / "preparing.yml"


@pytest.fixture(scope="module")
def world(engine: Engine) -> Iterator[World]:
    with lived_in(World(engine, "preparing", image=rootfs.FRESH)) as made:
        yield made


@pytest.fixture(scope="module")
def machine(world: World) -> ContainerMachine:
    return world.lend("indexer")


def packages(machine: ContainerMachine) -> set[str]:
    """State, name and version of each."""
    listed = machine.run("dpkg-query --show --showformat='${db:Status-Abbrev}${Package} ${Version}\\n'")
    return {line for line in listed.splitlines() if not line.startswith("rc")}


def hold_the_lock(machine: ContainerMachine, seconds: int) -> None:
    """What unattended-upgrades does to everybody else on a first boot."""
    held = "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX)"
    machine.run(f'systemd-run --quiet --unit=first-boot-upgrade python3 -c "{held}; time.sleep({seconds})"')


def prepare(world: World, *arguments: str) -> tuple[Playing, int]:
    """Play the roles; how many tasks changed something."""
    began = time.monotonic()
    playing = world.play(*arguments, playbook=str(PLAYBOOK), seconds=1500)
    assert playing.code == 0, playing.output[-8000:]
    counted = re.search(r"indexer +: .*changed=(\d+)", playing.output)
    assert counted, playing.output[-3000:]
    print(f"preparing {' '.join(arguments)}: {time.monotonic() - began:.0f} s, changed={counted[1]}")
    return playing, int(counted[1])


def test_roles_prepare_a_fresh_machine_honestly_and_take_everything_back(
    world: World, machine: ContainerMachine
) -> None:
    # Brought up to date first: what a package of ours needs may be newer than what is there, and nothing goes back to
    # an older version of a package that the machine had before us.
    machine.run(
        "cloud-init status --wait >/dev/null; apt-get update >/dev/null &&"
        " DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet upgrade >/dev/null",
        timeout=400,
    )
    known_packages, known_files = packages(machine), files(machine)

    prepare(world, "--check")
    assert packages(machine) == known_packages
    assert files(machine) ^ known_files == set()

    hold_the_lock(machine, 60)
    _, changed = prepare(world)
    assert changed > 0
    assert "plexburst-media-0.service" in machine.run("systemctl list-units --no-pager 'plexburst-media-*'")
    assert machine.run("setpriv --reuid=1000 --regid=1000 --clear-groups ls /opt/plexburst/media/*").strip()
    print(
        machine.run(
            "docker version --format '{{.Server.Version}}'; RCLONE_CONFIG=/dev/null rclone version | head -1;"
            " cat /etc/debian_version"
        )
    )

    again, changed = prepare(world)
    assert changed == 0, again.output[-6000:]

    machine.run("echo '# somebody was here' >>/opt/plexburst/rclone/rclone.conf")
    repaired, _ = prepare(world)
    assert "somebody" not in machine.run("cat /opt/plexburst/rclone/rclone.conf")
    # The file, and the mount that uses it; nothing else.
    assert changed_tasks(repaired) == [
        "Write only the required remotes to rclone.conf",
        "Start the mounts",
    ]

    # What others keep in this Docker is not deleted with it, and nothing else of it is removed then.
    machine.run("docker volume create somebodys >/dev/null")
    refused = world.play("-e", "step=absent", playbook=str(PLAYBOOK), seconds=1500)
    assert refused.code not in (0, None)
    assert "1 containers and volumes" in refused.output, refused.output[-4000:]
    assert machine.run("docker volume ls --quiet").strip() == "somebodys"
    machine.run("docker volume rm somebodys >/dev/null")

    prepare(world, "-e", "step=absent")
    again, changed = prepare(world, "-e", "step=absent")
    assert changed == 0, again.output[-6000:]
    assert packages(machine) == known_packages
    assert files(machine) ^ known_files == set()
    # Where something is mounted, not from where: the machine's own disk lies in this tier's cache.
    assert "plexburst" not in machine.run("cut --delimiter=' ' --fields=2 /proc/mounts; ls /etc/systemd/system")


def changed_tasks(playing: Playing) -> list[str]:
    """The last words of each task that changed something, in order."""
    found, task = [], ""
    for line in playing.output.splitlines():
        if line.startswith("TASK ["):
            task = line.split("[", 1)[1].rpartition("]")[0].rpartition(" | ")[2]
        elif line.startswith("changed: ") and (not found or found[-1] != task):
            found.append(task)
    return found
