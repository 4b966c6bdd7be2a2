# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Limits of memory, disk and CPU for rclone's mounts and Plex's container, by the size of the machine.

The prior scripts had a fixed table per profile. Two of its rows did not fit their machines (`--memory 4g` on a DEV1-S
of 2 GiB; `--cpus 4.0` on a DEV1-M of 3 CPUs, which Docker refuses), and its buffers (512 MiB per open file) could fill
any machine. Here all limits are computed from the machine's memory, disk and CPUs, with
system reserve + rclone + Plex ≤ memory.

Units: memory in MiB, disk in GiB, unless a name says otherwise. Pure functions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

# Share of the memory that all rclone mounts together may use.
RCLONE_SHARE = 0.20
# Directory cache and runtime of one mount: about 1 KiB per object, 490,000 objects in the reference library, plus Go.
RCLONE_BASE_MB = 96
# Memory of the system, sshd, dockerd and the watcher's Python.
SYSTEM_SHARE = 0.06
SYSTEM_LEAST_MB = 384
# Files open at once: Plex runs about one analyser or scanner per CPU, each may hold the last file while opening the
# next, and the health check, the probe and one stream come on top.
OPEN_FILES_PER_CPU = 2
OPEN_FILES_BASE = 4

BUFFER_STEPS_MB = (256, 128, 64, 32, 16, 8, 4)
# The prior scripts' largest cache. A larger one does not help: analysis reads every file once, from end to end.
CACHE_MOST_GB = 20
CACHE_SHARE_OF_DISK = 0.25
# Below this Plex's server process does not start reliably with a larger library.
CONTAINER_LEAST_MB = 768


class SizingError(ValueError):
    """The machine is too small, or a number is invalid; the message names what was found and what is needed."""


@dataclass(frozen=True, slots=True)
class RcloneParameters:
    """Parameters of one mount; the field names are rclone's options with underscores.

    buffer_size_mb, read_ahead_mb, read_chunk_size_mb: MiB; cache_max_size_gb, cache_min_free_gb: GiB;
    open_files: number of files the buffers were computed for; memory_mb: maximum memory of this mount.
    """

    buffer_size_mb: int
    read_ahead_mb: int
    read_chunk_size_mb: int
    read_chunk_size_limit_mb: int
    cache_max_size_gb: int
    cache_min_free_gb: int
    transfers: int
    checkers: int
    open_files: int
    memory_mb: int

    def as_dict(self) -> dict[str, int]:
        """Return the fields as a dictionary, for templates."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ContainerLimits:
    """Limits of Plex's container: memory_mb and memory_swap_mb (memory plus swap) in MiB; cpus."""

    memory_mb: int
    memory_swap_mb: int
    cpus: int

    def as_dict(self) -> dict[str, int]:
        """Return the fields as a dictionary, for templates."""
        return asdict(self)


def _positive(**values: float) -> None:
    for name, value in values.items():
        if value <= 0:
            raise SizingError(f"{name} is {value}, which is not a valid machine size. Gather the host's facts first.")


def system_reserve_mb(memory_mb: int) -> int:
    """Return the memory reserved for the system, in MiB."""
    return max(SYSTEM_LEAST_MB, int(memory_mb * SYSTEM_SHARE))


def rclone_budget_mb(memory_mb: int) -> int:
    """Return the memory for all rclone mounts of a machine together, in MiB."""
    return int(memory_mb * RCLONE_SHARE)


def rclone_parameters(memory_mb: int, cpus: int, disk_gb: int, mounts: int = 1) -> RcloneParameters:
    """Return the parameters of each of `mounts` mounts on a machine.

    The buffer is the largest step for which the sum over all open files, plus the mount's base, fits its memory share.

    :param memory_mb: the machine's memory, MiB.
    :param cpus: its CPUs.
    :param disk_gb: size of the file system that holds the cache, GiB.
    :raises SizingError: not even the smallest buffer fits.
    """
    _positive(memory_mb=memory_mb, cpus=cpus, disk_gb=disk_gb, mounts=mounts)
    open_files = OPEN_FILES_PER_CPU * cpus + OPEN_FILES_BASE
    share = rclone_budget_mb(memory_mb) // mounts
    buffer = next((step for step in BUFFER_STEPS_MB if step * open_files + RCLONE_BASE_MB <= share), None)
    if buffer is None:
        need = int((BUFFER_STEPS_MB[-1] * open_files + RCLONE_BASE_MB) * mounts / RCLONE_SHARE) + 1
        raise SizingError(
            f"{mounts} rclone mount(s) on {cpus} CPUs need at least {need} MiB; this machine has {memory_mb}. "
            "Use a larger instance type, fewer remotes, or plexburst_rclone_mode=copy."
        )
    cache = max(1, min(CACHE_MOST_GB, int(disk_gb * CACHE_SHARE_OF_DISK)) // mounts)
    return RcloneParameters(
        buffer_size_mb=buffer,
        # Read-ahead goes to the disk cache, not to memory: the same size again keeps one stream busy.
        read_ahead_mb=buffer,
        # The first range request; rclone doubles it up to the limit. Small, because a scan reads only heads of files.
        read_chunk_size_mb=32 if cpus <= 2 else 64 if cpus <= 4 else 128,
        read_chunk_size_limit_mb=1024,
        cache_max_size_gb=cache,
        cache_min_free_gb=max(1, disk_gb // 10),
        transfers=max(2, min(32, 2 * cpus)),
        checkers=max(4, min(64, 4 * cpus)),
        open_files=open_files,
        memory_mb=buffer * open_files + RCLONE_BASE_MB,
    )


def container_limits(memory_mb: int, cpus: int, mounts: int = 1) -> ContainerLimits:
    """Return the limits of Plex's container beside `mounts` rclone mounts (0: media are copied, rclone has ended).

    :raises SizingError: less than 768 MiB would remain for Plex.
    """
    _positive(memory_mb=memory_mb, cpus=cpus)
    rclone = rclone_budget_mb(memory_mb) if mounts else 0
    memory = memory_mb - system_reserve_mb(memory_mb) - rclone
    if memory < CONTAINER_LEAST_MB:
        raise SizingError(
            f"A machine of {memory_mb} MiB leaves {memory} MiB for Plex; it needs {CONTAINER_LEAST_MB}. "
            "Use a larger instance type."
        )
    # 2 GiB of swap as in the prior scripts; without swap on the machine the number has no effect.
    return ContainerLimits(memory_mb=memory, memory_swap_mb=memory + 2048, cpus=cpus)
