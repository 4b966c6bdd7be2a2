"""What Scaleway sells: zones, server types with prices, images, storage and address prices."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

ZONES = (
    "fr-par-1",
    "fr-par-2",
    "fr-par-3",
    "nl-ams-1",
    "nl-ams-2",
    "nl-ams-3",
    "pl-waw-1",
    "pl-waw-2",
    "pl-waw-3",
)
GB = 1_000_000_000
GIB = 1 << 30

# EUR. Flexible and dynamic IPv4: docs/scaleway-facts.md#billing. Storage per GB and hour: no dated source [?].
IPV4_HOURLY = 0.004
SBS_GB_HOURLY = 0.000118
LOCAL_GB_HOURLY = 0.0000548
# The smallest root volume that Ubuntu's and Debian's images fit on.
IMAGE_BYTES = 10 * GB

_NAMESPACE = uuid.UUID("5ca1e0a7-0000-4000-8000-000000000000")


@dataclass(frozen=True, slots=True)
class ServerType:
    """One commercial type. `memory` is GiB, `local` the most local storage in GB (0: Block Storage only)."""

    name: str
    cpus: int
    memory: int
    hourly: float
    local: int = 0
    arch: str = "x86_64"
    availability: str = "available"
    end_of_service: bool = False

    def as_json(self) -> dict[str, Any]:
        """As `/products/servers` describes it."""
        size = {"min_size": GB if self.local else 0, "max_size": self.local * GB}
        bandwidth = 100_000_000 * max(1, self.cpus)
        return {
            "alt_names": [],
            "arch": self.arch,
            "ncpus": self.cpus,
            "ram": self.memory * GIB,
            "gpu": 0,
            "gpu_info": None,
            "mig_profile": None,
            "volumes_constraint": size,
            "per_volume_constraint": {"l_ssd": {"min_size": GB, "max_size": min(self.local, 800) * GB}},
            "scratch_storage_max_size": 0,
            "scratch_storage_max_volumes_count": 0,
            "monthly_price": round(self.hourly * 730, 4),
            "hourly_price": self.hourly,
            "capabilities": {
                "boot_types": ["local", "rescue"],
                "placement_groups": 2,
                "block_storage": True,
                "hot_snapshots_local_volume": bool(self.local),
                "private_network": 8,
                "max_file_systems": 0,
            },
            "network": {
                "interfaces": [{"internal_bandwidth": bandwidth, "internet_bandwidth": bandwidth}],
                "sum_internal_bandwidth": bandwidth,
                "sum_internet_bandwidth": bandwidth,
                "ipv6_support": True,
            },
            "block_bandwidth": bandwidth // 2,
            "end_of_service": self.end_of_service,
        }


def _types() -> dict[str, ServerType]:
    # docs/scaleway-facts.md#instance-types, recorded on fr-par-1 on 2026-07-01; local sizes of DEV1 and GP1 from the
    # same page.
    recorded = [
        ServerType("DEV1-S", 2, 2, 0.008976, local=20),
        ServerType("DEV1-M", 3, 4, 0.020196, local=40),
        ServerType("DEV1-L", 4, 8, 0.04284, local=80),
        ServerType("DEV1-XL", 4, 12, 0.065076, local=120),
        ServerType("GP1-XS", 4, 16, 0.09282, local=150),
        ServerType("GP1-S", 8, 32, 0.19074, local=300),
        ServerType("GP1-M", 16, 64, 0.38352, local=600),
        ServerType("GP1-L", 32, 128, 0.77418, local=600),
        ServerType("PLAY2-PICO", 1, 2, 0.01428),
        ServerType("PLAY2-NANO", 2, 4, 0.02754),
        ServerType("PLAY2-MICRO", 4, 8, 0.05508),
        ServerType("PRO2-XXS", 2, 8, 0.0561),
        ServerType("PRO2-XS", 4, 16, 0.1122),
        ServerType("PRO2-S", 8, 32, 0.22338),
        ServerType("PRO2-M", 16, 64, 0.44676, availability="scarce"),
        ServerType("PRO2-L", 32, 128, 0.89454, availability="shortage"),
        ServerType("POP2-2C-8G", 2, 8, 0.0735),
        ServerType("POP2-4C-16G", 4, 16, 0.147),
        ServerType("POP2-8C-32G", 8, 32, 0.29),
        ServerType("POP2-16C-64G", 16, 64, 0.59),
        ServerType("POP2-32C-128G", 32, 128, 1.18),
        ServerType("POP2-HC-8C-16G", 8, 16, 0.2128),
        ServerType("POP2-HC-16C-32G", 16, 32, 0.4256),
        ServerType("POP2-HC-32C-64G", 32, 64, 0.8512),
        ServerType("BASIC3-X4C-8G", 4, 8, 0.079001),
        ServerType("BASIC3-X8C-16G", 8, 16, 0.177675),
        ServerType("BASIC3-X16C-32G", 16, 32, 0.355247),
        ServerType("BASIC2-A8C-16G", 8, 16, 0.1034, arch="arm64"),
    ]
    # The real list has 107 types on three pages; these stand in for the families without a recorded price, so that a
    # caller that reads one page only misses what it needs here too.
    families = [
        ("STANDARD3-X{0}C-{1}G", 4, 0.031, (2, 4, 8, 16, 32, 48, 64, 96)),
        ("COMPUTE3-X{0}C-{1}G", 2, 0.027, (2, 4, 8, 16, 32, 48, 64, 96)),
        ("MEMORY3-X{0}C-{1}G", 8, 0.039, (2, 4, 8, 16, 32, 48, 64, 96)),
        ("POP2-HM-{0}C-{1}G", 8, 0.0515, (2, 4, 8, 16, 32, 64)),
        ("POP2-HN-{0}C-{1}G", 2, 0.1, (3, 5, 10)),
        ("ENT1-{0}C-{1}G", 4, 0.0367, (2, 4, 8, 16, 32, 64, 96)),
    ]
    stand_ins = [
        ServerType(name.format(cpus, cpus * ratio), cpus, cpus * ratio, round(cpus * price, 5), availability="shortage")
        for name, ratio, price, sizes in families
        for cpus in sizes
    ]
    withdrawn = [
        ServerType(
            f"COPARM1-{cpus}C-{cpus * 4}G", cpus, cpus * 4, round(cpus * 0.0213, 5), 0, "arm64", "shortage", True
        )
        for cpus in (2, 4, 8, 16, 32)
    ]
    return {one.name: one for one in sorted(recorded + stand_ins + withdrawn, key=lambda one: one.name)}


TYPES = _types()
LABELS = {
    "debian_bookworm": "Debian Bookworm",
    "debian_trixie": "Debian Trixie",
    "ubuntu_jammy": "Ubuntu 22.04 Jammy Jellyfish",
    "ubuntu_noble": "Ubuntu 24.04 Noble Numbat",
}


@dataclass(frozen=True, slots=True)
class Image:
    """A marketplace image as it exists in one zone, for one architecture and one kind of storage."""

    id: str
    label: str
    zone: str
    arch: str
    type: str

    def as_local_image(self) -> dict[str, Any]:
        """As the marketplace lists it."""
        fits = [
            one.name
            for one in TYPES.values()
            if one.arch == self.arch and (self.type == "instance_sbs" or one.local > 0)
        ]
        return {
            "id": self.id,
            "arch": self.arch,
            "zone": self.zone,
            "compatible_commercial_types": fits,
            "label": self.label,
            "type": self.type,
        }

    def as_instance_image(self, organization: str) -> dict[str, Any]:
        """As the Instance API describes it."""
        local = self.type == "instance_local"
        return {
            "id": self.id,
            "name": LABELS[self.label],
            "arch": self.arch,
            "root_volume": {
                "id": str(uuid.uuid5(_NAMESPACE, f"snapshot/{self.id}")),
                "name": "",
                "size": IMAGE_BYTES if local else 0,
                "volume_type": "unified" if local else "sbs_snapshot",
            },
            "extra_volumes": {},
            "from_server": None,
            "organization": organization,
            "project": organization,
            "creation_date": "2026-10-01T08:00:00.000000+00:00",
            "modification_date": "2026-10-01T08:00:00.000000+00:00",
            "default_bootscript": None,
            "public": True,
            "state": "available",
            "tags": [],
            "zone": self.zone,
        }


def _images() -> dict[str, Image]:
    images = [
        Image(str(uuid.uuid5(_NAMESPACE, f"{label}/{zone}/{arch}/{kind}")), label, zone, arch, kind)
        for label in LABELS
        for zone in ZONES
        for arch, kind in (("x86_64", "instance_local"), ("x86_64", "instance_sbs"), ("arm64", "instance_sbs"))
    ]
    return {image.id: image for image in images}


IMAGES = _images()
