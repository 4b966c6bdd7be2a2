"""Plain records of what Scaleway says, free of SDK types: what modules return and tests compare."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from .naming import iso, read_marks

if TYPE_CHECKING:
    from scaleway.block.v1.types import Volume
    from scaleway.instance.v1.types import Ip, Server
    from scaleway.instance.v1.types import Volume as LocalVolume

BLOCK_VOLUME = "sbs_volume"
LOCAL_VOLUME = "l_ssd"


def _when(moment: datetime | None) -> str | None:
    return iso(moment) if moment is not None else None


@dataclass(frozen=True, slots=True)
class AddressRecord:
    """One public address as a server shows it. A dynamic one goes with the server; a flexible one stays and is
    billed.
    """

    id: str
    address: str | None
    family: str
    dynamic: bool
    state: str


@dataclass(frozen=True, slots=True)
class AttachedVolume:
    """A volume as a server shows it; ``kind`` is sbs_volume (kept by the block API, survives the server) or l_ssd.

    ``key`` is its place, "0" the root volume that was made with the server.
    """

    id: str
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """A server. ``state`` is the API's own word: stopped, starting, running, stopping, "stopped in place", locked."""

    id: str
    name: str
    zone: str
    state: str
    state_detail: str
    commercial_type: str
    tags: tuple[str, ...]
    actions: tuple[str, ...] = ()
    addresses: tuple[AddressRecord, ...] = ()
    volumes: tuple[AttachedVolume, ...] = ()
    private_ip: str | None = None
    created_at: str | None = None

    @classmethod
    def of(cls, server: Server, zone: str) -> ServerRecord:
        """Record of an SDK ``Server``; ZONE stands in where the API leaves it out."""
        return cls(
            id=server.id,
            name=server.name,
            zone=str(server.zone or zone),
            state=str(server.state),
            state_detail=str(server.state_detail or ""),
            commercial_type=server.commercial_type,
            tags=tuple(server.tags),
            actions=tuple(str(action) for action in server.allowed_actions),
            addresses=tuple(
                AddressRecord(ip.id, ip.address, str(ip.family), bool(ip.dynamic), str(ip.state))
                for ip in server.public_ips
            ),
            volumes=tuple(
                AttachedVolume(volume.id, str(volume.volume_type), key)
                for key, volume in sorted(server.volumes.items())
            ),
            private_ip=server.private_ip,
            created_at=_when(server.creation_date),
        )

    def _public(self, family: str) -> str | None:
        ready = (item.address for item in self.addresses if item.family == family and item.state == "attached")
        return next((address for address in ready if address), None)

    @property
    def public_ipv4(self) -> str | None:
        """Public IPv4 address that is really attached; a pending one (dynamic addresses begin so) does not count."""
        return self._public("inet")

    @property
    def public_ipv6(self) -> str | None:
        """Public IPv6 address that is really attached."""
        return self._public("inet6")

    def as_result(self) -> dict[str, Any]:
        """The ``server`` of module results."""
        return {
            "id": self.id,
            "name": self.name,
            "zone": self.zone,
            "state": self.state,
            "state_detail": self.state_detail,
            "commercial_type": self.commercial_type,
            "public_ip": self.public_ipv4 or self.public_ipv6,
            "private_ip": self.private_ip,
            "tags": list(self.tags),
            "ips": [asdict(address) for address in self.addresses],
            "volumes": [asdict(volume) for volume in self.volumes],
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class IpRecord:
    """A flexible IP, which is billed until it is deleted, attached or not."""

    id: str
    address: str | None
    zone: str
    tags: tuple[str, ...]
    server_id: str | None

    @classmethod
    def of(cls, ip: Ip, zone: str) -> IpRecord:
        """Record of an SDK ``Ip``."""
        return cls(
            id=ip.id,
            address=ip.address or ip.prefix,
            zone=str(ip.zone or zone),
            tags=tuple(ip.tags),
            server_id=ip.server.id if ip.server else None,
        )


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """A volume that outlives its server: block storage, or a local one that a deleted (not terminated) server left."""

    id: str
    name: str
    zone: str
    kind: str
    size: int
    status: str
    tags: tuple[str, ...]
    references: tuple[str, ...] = field(default=())
    server_ids: tuple[str, ...] = field(default=())
    created_at: str | None = None

    @classmethod
    def of(cls, volume: Volume, zone: str) -> VolumeRecord:
        """Record of an SDK block ``Volume``; sizes in bytes."""
        return cls(
            id=volume.id,
            name=volume.name,
            zone=str(volume.zone or zone),
            kind=BLOCK_VOLUME,
            size=int(volume.size or 0),
            status=str(volume.status),
            tags=tuple(volume.tags or ()),
            references=tuple(str(reference.status) for reference in volume.references or ()),
            server_ids=tuple(reference.product_resource_id for reference in volume.references or ()),
            created_at=_when(volume.created_at),
        )

    @classmethod
    def of_local(cls, volume: LocalVolume, zone: str) -> VolumeRecord:
        """Return the record of an SDK ``Volume`` of the Instance API; sizes in bytes."""
        return cls(
            id=volume.id,
            name=volume.name,
            zone=str(volume.zone or zone),
            kind=str(volume.volume_type),
            size=int(volume.size or 0),
            status=str(volume.state),
            tags=tuple(volume.tags or ()),
            references=("attached",) if volume.server else (),
            server_ids=(volume.server.id,) if volume.server else (),
            created_at=_when(volume.creation_date),
        )


def described(kind: str, record: ServerRecord | IpRecord | VolumeRecord) -> dict[str, Any]:
    """One line of a listing: ``id`` as ``server/<id>``, its run, when it expires, and where it is."""
    marks = read_marks(record.tags)
    return {
        "id": f"{kind}/{record.id}",
        "zone": record.zone,
        "run_id": marks.run_id,
        "profile": marks.profile,
        "expires_at": _when(marks.expires_at),
        "tags": list(record.tags),
    }
