"""Whatever the machine, rclone's buffers, Plex and the system fit into its memory, and Docker accepts the CPUs."""

from __future__ import annotations

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.host import sizing
from hypothesis import given
from hypothesis import strategies as st

# (memory MiB, CPUs, disk GiB) of real instance types, docs/scaleway-facts.md#instance-types; Linux sees a few percent
# less memory.
MACHINES = {
    "DEV1-S": (1950, 2, 20),
    "DEV1-M": (3900, 3, 40),
    "DEV1-L": (7850, 4, 80),
    "GP1-XS": (16000, 4, 150),
    "GP1-S": (32000, 8, 300),
    "GP1-M": (64200, 16, 600),
    "POP2-HC-32C-64G": (64200, 32, 100),
}


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("mounts", [1, 2])
def test_everything_fits_into_a_real_machine(name: str, mounts: int) -> None:
    memory, cpus, disk = MACHINES[name]
    mount = sizing.rclone_parameters(memory, cpus, disk, mounts)
    container = sizing.container_limits(memory, cpus, mounts)
    assert mount.memory_mb * mounts + container.memory_mb + sizing.system_reserve_mb(memory) <= memory
    assert container.cpus <= cpus
    assert mount.cache_max_size_gb * mounts <= max(mounts, disk // 4)


def test_the_prior_profiles_that_did_not_fit_are_corrected() -> None:
    lite = sizing.container_limits(1950, 2)
    assert lite.memory_mb < 1950  # was 4g on a machine of 2 GiB
    assert sizing.container_limits(3900, 3).cpus == 3  # was 4.0, which Docker refuses
    assert sizing.rclone_parameters(32000, 8, 100).buffer_size_mb == 256  # "power" was right
    assert sizing.rclone_parameters(64200, 16, 100).buffer_size_mb == 256  # 512M x 36 open files was 18 GiB


@given(
    st.integers(min_value=1, max_value=2_000_000),
    st.integers(min_value=1, max_value=256),
    st.integers(min_value=1, max_value=20_000),
    st.integers(min_value=1, max_value=8),
)
def test_any_machine_gets_sizes_that_fit_or_a_sentence(memory: int, cpus: int, disk: int, mounts: int) -> None:
    try:
        mount = sizing.rclone_parameters(memory, cpus, disk, mounts)
        container = sizing.container_limits(memory, cpus, mounts)
    except sizing.SizingError as error:
        assert "Use a larger instance type" in str(error)
        return
    assert mount.memory_mb * mounts + container.memory_mb + sizing.system_reserve_mb(memory) <= memory
    assert container.memory_mb >= sizing.CONTAINER_LEAST_MB
    assert 1 <= mount.cache_max_size_gb <= sizing.CACHE_MOST_GB


def test_without_mounts_plex_gets_rclones_share() -> None:
    assert sizing.container_limits(8000, 4, 0).memory_mb - sizing.container_limits(8000, 4, 1).memory_mb == 1600


@pytest.mark.parametrize("numbers", [(0, 2, 20), (2000, 0, 20), (2000, 2, 0), (2000, 2, 20, 0)])
def test_facts_that_were_not_gathered_are_an_error(numbers: tuple[int, ...]) -> None:
    with pytest.raises(sizing.SizingError, match="Gather the host's facts first"):
        sizing.rclone_parameters(*numbers)
