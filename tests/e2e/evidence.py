"""What a household would notice, and what a machine used, asked of the real things."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox import home
from sandbox.machines.container import ContainerMachine
from tests.e2e.world import World
from tests.playbooks.evidence import HomeState

# What any machine changes by itself while it runs: logs, caches, the journal, apt's lists, and Ansible's own visit.
_RESTLESS = (
    "/var/log|/var/cache|/var/lib/apt|/var/lib/systemd|/var/lib/dpkg|/var/lib/cloud|/var/tmp|/var/lib/private|"
    "/var/backups|/(root|home/[^/]+)/[.]ansible|"
    # What groupadd and groupdel keep of the file they changed.
    "/etc/(group|gshadow)-"
)
_LISTING = f"""
find / -xdev -regextype posix-extended -regex '({_RESTLESS})(/.*)?' -prune -o -type f \\
  -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/tmp/*' -not -path '/dev/*' \\
  -newermt '@1' -printf '%m %u:%g %s %p\\n' -o -type d -printf '%m %u:%g %p/\\n' | sort
"""


def files_of_remote(world: World) -> set[str]:
    """Every media file in the bucket, as home's Plex names it."""
    root = world.media_dir
    return {f"{home.PATH_IN_PLEX}/{path.relative_to(root).as_posix()}" for path in root.rglob("*") if path.is_file()}


def files(machine: ContainerMachine) -> set[str]:
    """What is on its disk, with owner, mode and size; and in Docker's data, which here is a disk of its own."""
    data = machine.run("[ ! -d /var/lib/docker ] || find /var/lib/docker -mindepth 1 -maxdepth 1")
    return set(machine.run(_LISTING, timeout=400).splitlines()) | set(data.splitlines())


def changed_at_home(before: HomeState, after: HomeState) -> list[str]:
    """What people made at home and is not there any more, or another: one sentence each."""
    lost = [f"view {row}" for row in before.views - after.views]
    lost += [f"setting {row}" for row in before.settings - after.settings]
    lost += [f"account {row}" for row in before.accounts - after.accounts]
    lost += [f"playlist {key}: {row}" for key, row in before.playlists.items() if after.playlists.get(key) != row]
    lost += [f"playlist's item {row}" for row in before.playlist_rows - after.playlist_rows]
    for key, (kind, guid, _title) in before.items.items():
        if key in after.items and after.items[key][:2] != (kind, guid):
            lost.append(f"item {key} was {kind} {guid} and is {after.items[key]}")
    return lost


@dataclass(frozen=True)
class Footprint:
    """What a machine has used so far: MiB of disk and of memory at most, and processes killed for want of memory."""

    disk: int
    memory: int
    memory_limit: int
    killed: int

    @classmethod
    def of(cls, machine: ContainerMachine) -> Footprint:
        """Its own files and Docker's, and its control group, of either version, where the host keeps it."""
        answer = machine.run(
            """
            set -e
            du --summarize --one-file-system --block-size=1M / /var/lib/docker | cut -f1
            group=$(sed -n 's/^[0-9]*:memory://p' /proc/1/cgroup)
            if [ -n "$group" ]; then
                cd "/sys/fs/cgroup/memory${group%/init.scope}"
                cat memory.max_usage_in_bytes memory.limit_in_bytes
                sed -n 's/^oom_kill //p' memory.oom_control
            else
                group=$(sed -n 's/^0:://p' /proc/1/cgroup)
                cd "/sys/fs/cgroup${group%/init.scope}"
                cat memory.peak memory.max
                sed -n 's/^oom_kill //p' memory.events
            fi
            """,
            timeout=120,
        )
        system, docker, peak, limit, killed = (int(line) for line in answer.split())
        return cls(system + docker, peak >> 20, limit >> 20, killed)
