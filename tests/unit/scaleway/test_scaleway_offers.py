"""Which instance type is tried, and why another one is not."""

from __future__ import annotations

from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.offers import Offer, choose


def offer(name: str, **changes: Any) -> Offer:
    values: dict[str, Any] = {
        "name": name,
        "arch": "x86_64",
        "vcpus": 8,
        "ram": 32 * 2**30,
        "hourly_price": 0.19,
        "availability": "available",
        "local_max": 0,
        "end_of_service": False,
    }
    return Offer(**{**values, **changes})


MARKET = {
    item.name: item
    for item in (
        offer("BLOCK"),
        offer("SCARCE", availability="scarce"),
        offer("SOLD-OUT", availability="shortage"),
        offer("ARM", arch="arm64"),
        offer("OLD", end_of_service=True),
        offer("LOCAL", local_max=300 * 10**9),
    )
}


def reasons(types: list[str], root_volume: str = "sbs_volume", size_gb: int = 50) -> tuple[list[str], dict[str, str]]:
    choice = choose(types, MARKET, zone="fr-par-1", root_volume=root_volume, size_gb=size_gb)
    return [item.name for item in choice.candidates], {item.type: item.reason for item in choice.refused}


def test_the_users_order_is_kept_and_scarce_is_tried() -> None:
    assert reasons(["SCARCE", "BLOCK", "SCARCE"]) == (["SCARCE", "BLOCK"], {})


def test_every_refusal_has_its_reason() -> None:
    names, why = reasons(["SOLD-OUT", "ARM", "OLD", "NOWHERE"])
    assert names == []
    assert "out of stock" in why["SOLD-OUT"]
    assert "Sonic" in why["ARM"] and "x86_64" in why["ARM"]
    assert "withdrawn" in why["OLD"]
    assert "fr-par-1" in why["NOWHERE"]


def test_a_local_root_volume_needs_local_storage_of_that_size() -> None:
    names, why = reasons(["BLOCK", "LOCAL"], "l_ssd")
    assert names == ["LOCAL"] and "no local storage" in why["BLOCK"]
    names, why = reasons(["LOCAL"], "l_ssd", 301)
    assert names == [] and "300 GB" in why["LOCAL"] and "301 GB" in why["LOCAL"]
