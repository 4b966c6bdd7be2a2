"""The modules scaleway_reap and scaleway_info against the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modules.runner import run_module
from tests.modules.scaleway_simulator import KEYS, Simulator, simulator

PAST = "2020-01-01T00:00:00Z"


@pytest.fixture
def cloud(tmp_path: Any) -> Iterator[Simulator]:
    with simulator(tmp_path / "scaleway") as running:
        yield running


def reap(cloud: Simulator, check: bool = False, **changes: Any) -> dict[str, Any]:
    arguments = {key: value for key, value in cloud.arguments.items() if key != "zone"}
    return run_module("scaleway_reap", {"poll_interval": 0.1, "wait_timeout": 30, **arguments, **changes}, check=check)


def test_only_what_outlived_its_expiry_is_removed(cloud: Simulator) -> None:
    old = cloud.server("old-1", expires_at=PAST)
    young = cloud.server("young-1", state="present")
    stray = cloud.call(
        "POST",
        "/instance/v1/zones/fr-par-1/ips",
        project=KEYS["project_id"],
        type="routed_ipv4",
        tags=["plexburst", "plexburst-run=stray-1"],
    )["ip"]["id"]

    would = reap(cloud, check=True)
    assert would["changed"] and sorted(would["deleted"]) == sorted(old["created"])
    assert len(cloud.alive("plexburst-run=old-1")) == 3

    done = reap(cloud, zones=["fr-par-1", "nl-ams-1"])
    assert sorted(done["deleted"]) == sorted(old["created"]) and done["leftovers"] == []
    assert cloud.alive("plexburst-run=old-1") == []
    kept = {line["id"]: line["expires_at"] for line in done["kept"]}
    assert sorted(kept) == sorted([*young["created"], f"ip/{stray}"])
    assert kept[f"ip/{stray}"] is None, "without an expiry it is reported, never guessed"
    assert not reap(cloud)["changed"]

    named = reap(cloud, run_id="stray-1")
    assert named["deleted"] == [f"ip/{stray}"]
    everything = reap(cloud, all=True)
    assert sorted(everything["deleted"]) == sorted(young["created"])
    assert cloud.alive() == []


def test_an_untagged_root_volume_is_found_through_its_server(cloud: Simulator) -> None:
    made = cloud.server("crash-1", state="present", expires_at=PAST)
    volume = next(name for name in made["created"] if name.startswith("volume/")).removeprefix("volume/")
    # What a controller leaves that died between making the server and tagging its volume.
    cloud.call("PATCH", f"/block/v1/zones/fr-par-1/volumes/{volume}", tags=[])
    done = reap(cloud)
    assert f"volume/{volume}" in done["deleted"]
    assert cloud.alive() == []


def test_block_storage_that_is_down_does_not_keep_the_reaper_from_the_rest(cloud: Simulator) -> None:
    made = cloud.server("old-2", state="present", expires_at=PAST)
    volume = next(name for name in made["created"] if name.startswith("volume/"))
    cloud.faults(block_down=503)
    failed = reap(cloud, zones=["fr-par-1", "nl-ams-1"], wait_timeout=10)
    assert failed["failed"] and "503" in failed["msg"]
    assert failed["leftovers"] == [volume, "unknown/block volumes in nl-ams-1"]
    assert [f"volume/{entry['id']}" for entry in cloud.alive()] == [volume]
    cloud.faults(empty_lists=1)
    assert reap(cloud, zones=["fr-par-1"])["deleted"] == [volume], "one empty list proves nothing"


def test_every_zone_is_looked_in_and_what_a_record_knows(cloud: Simulator, tmp_path: Path) -> None:
    made = cloud.server("far-1", state="present", zone="nl-ams-2", expires_at=PAST)
    volume = next(name for name in made["created"] if name.startswith("volume/"))
    run = tmp_path / "runs" / "20261122-071500-ab12"
    run.mkdir(parents=True)
    lost = cloud.call(
        "POST", "/block/v1/zones/fr-par-1/volumes", project_id=KEYS["project_id"], from_empty={"size": 10**9}
    )["id"]
    record = {"run_id": run.name, "cloud": {"created": [f"volume/{lost}", "ip/gone"], "deleted": ["ip/gone"]}}
    (run / "state.json").write_text(json.dumps(record))
    assert volume in reap(cloud, runs_dir=str(run.parent))["deleted"]
    assert [entry["id"] for entry in cloud.alive()] == [lost], "a volume without an expiry is removed only when named"
    assert reap(cloud, runs_dir=str(run.parent), run_id=run.name)["deleted"] == [f"volume/{lost}"]


def test_info_tells_prices_stock_image_and_what_is_ours(cloud: Simulator) -> None:
    cloud.faults(out_of_stock=["PRO2-S"])
    made = cloud.server("info-1")
    told = run_module(
        "scaleway_info",
        {"types": ["PRO2-S", "GP1-S"], "image": "ubuntu_noble", "run_id": "info-1", **cloud.arguments},
        check=True,
    )
    assert not told["changed"]
    assert told["usable"] == ["GP1-S"] and [line["type"] for line in told["refused"]] == ["PRO2-S"]
    assert [offer["type"] for offer in told["offers"]] == ["PRO2-S", "GP1-S"]
    assert told["image"]["label"] == "ubuntu_noble" and len(told["image"]["id"]) == 36
    ours = [line["id"] for kind in ("ips", "servers", "volumes") for line in told[kind]]
    assert sorted(ours) == sorted(made["created"])
    assert told["hosts"][0]["name"] == "plexburst-info-1"
    assert not told["servers"][0]["expired"]
    everything = run_module("scaleway_info", cloud.arguments)
    assert len(everything["offers"]) > 20
    prices = [offer["hourly_price"] for offer in everything["offers"]]
    assert prices == sorted(prices)


def test_an_unknown_image_is_an_error_with_a_hint(cloud: Simulator) -> None:
    failed = run_module("scaleway_info", {"image": "macos", **cloud.arguments})
    assert failed["failed"] and "macos" in failed["msg"] and "ubuntu_noble" in failed["msg"]
