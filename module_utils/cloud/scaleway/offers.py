"""Instance types: what they have, what they cost, and which of the wanted ones to try, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .records import LOCAL_VOLUME

if TYPE_CHECKING:
    from scaleway.instance.v1.types import ServerType

CURRENCY = "EUR"
"""Scaleway's prices are in euros, without VAT."""
SONIC_ARCH = "x86_64"
"""Plex's Music Analyzer, which Sonic analysis needs, does not exist for ARM."""
_GIGABYTE = 10**9


@dataclass(frozen=True, slots=True)
class Offer:
    """One instance type in one zone.

    ``ram`` and ``local_max`` are bytes (``local_max`` 0: block storage only), ``hourly_price`` is EUR per hour without
    VAT, ``availability`` is the API's word: available, scarce, shortage, or unknown.
    """

    name: str
    arch: str
    vcpus: int
    ram: int
    hourly_price: float
    availability: str
    local_max: int
    end_of_service: bool

    @classmethod
    def of(cls, name: str, kind: ServerType, availability: str) -> Offer:
        """Offer from an SDK ``ServerType``."""
        constraint = kind.volumes_constraint
        return cls(
            name=name,
            arch=str(kind.arch),
            vcpus=int(kind.ncpus),
            ram=int(kind.ram),
            hourly_price=float(kind.hourly_price),
            availability=availability,
            local_max=int(constraint.max_size or 0) if constraint else 0,
            end_of_service=bool(kind.end_of_service),
        )

    @property
    def price(self) -> dict[str, Any]:
        """The ``price`` of module results."""
        return {"hourly": self.hourly_price, "currency": CURRENCY}

    def as_result(self) -> dict[str, Any]:
        """One of the ``offers`` of module results."""
        return {
            "type": self.name,
            "arch": self.arch,
            "vcpus": self.vcpus,
            "ram_bytes": self.ram,
            "hourly_price": self.hourly_price,
            "currency": CURRENCY,
            "availability": self.availability,
            "local_storage_bytes": self.local_max,
            "end_of_service": self.end_of_service,
        }


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wanted type that is not available, and the reason as a sentence."""

    type: str
    reason: str

    def as_result(self) -> dict[str, str]:
        """One of the ``tried`` of module results."""
        return {"type": self.type, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Choice:
    """Types worth trying, in the order wanted, and the ones that are not."""

    candidates: tuple[Offer, ...]
    refused: tuple[Refusal, ...]


def _objection(offer: Offer | None, zone: str, root_volume: str, size_gb: int) -> str | None:
    """Why a type cannot be used, None when it can."""
    if offer is None:
        return f"it is not offered in {zone}"
    local = root_volume == LOCAL_VOLUME
    objections = (
        (
            offer.arch != SONIC_ARCH,
            f"it is {offer.arch}, and Plex has no Sonic analysis for that: choose an {SONIC_ARCH} type",
        ),
        (offer.end_of_service, "Scaleway has withdrawn it"),
        (local and offer.local_max == 0, "it has no local storage: use an sbs_volume root volume"),
        (
            local and size_gb * _GIGABYTE > offer.local_max,
            f"its local storage ends at {offer.local_max // _GIGABYTE} GB, wanted were {size_gb} GB",
        ),
        (offer.availability == "shortage", f"it is out of stock in {zone}"),
    )
    return next((reason for applies, reason in objections if applies), None)


def choose(types: Sequence[str], offers: Mapping[str, Offer], *, zone: str, root_volume: str, size_gb: int) -> Choice:
    """Split the wanted TYPES into those to try, in order, and those refused with a reason.

    "scarce" is tried like "available": the list is ordered by the user's preference, and stock changes by the minute.
    """
    candidates: list[Offer] = []
    refused: list[Refusal] = []
    for name in dict.fromkeys(types):
        offer = offers.get(name)
        reason = _objection(offer, zone, root_volume, size_gb)
        if reason is None and offer is not None:
            candidates.append(offer)
        elif reason is not None:
            refused.append(Refusal(name, reason))
    return Choice(tuple(candidates), tuple(refused))
