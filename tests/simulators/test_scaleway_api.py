"""The simulator answers the official SDK as the recorded API does, traps included
(docs/scaleway-facts.md#instance-api)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scaleway.instance.v1.tests
import yaml
from requests.exceptions import JSONDecodeError
from scaleway import Client, ScalewayException
from scaleway.block.v1alpha1 import BlockV1Alpha1API
from scaleway.instance.v1 import IpType, ServerState, VolumeServerTemplate, VolumeServerVolumeType
from scaleway.instance.v1.custom_api import InstanceUtilsV1API
from scaleway.marketplace.v2 import LocalImageType

from sandbox.scaleway.catalogue import IPV4_HOURLY
from tests.simulators.scaleway_client import SIZE, ZONE, Cloud, error_of, wait_for
from tests.simulators.scaleway_client import cloud as make_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with make_cloud(tmp_path_factory.mktemp("cloud")) as one:
        yield one


def local(size: int) -> VolumeServerTemplate:
    return VolumeServerTemplate(volume_type=VolumeServerVolumeType.L_SSD, size=size)


def refused(call: Any, **arguments: Any) -> tuple[int, dict[str, Any]]:
    with pytest.raises(ScalewayException) as raised:
        call(**arguments)
    return error_of(raised.value)


# --- who may ask, and what ------------------------------------------------------------------------------------------


def test_without_a_key_or_with_an_unknown_one_nothing_is_told(cloud: Cloud) -> None:
    missing, wrong = cloud.raw("GET", "servers", token=None), cloud.raw("GET", "servers", token="x" * 36)
    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert (missing.json()["type"], missing.json()["reason"]) == ("denied_authentication", "invalid_argument")
    assert wrong.json()["reason"] == "not_found"


def test_another_project_is_forbidden_to_write_and_empty_to_read(cloud: Cloud) -> None:
    stranger = "22222222-2222-4222-8222-222222222222"
    status, error = refused(cloud.create, project=stranger)
    assert (status, error["type"]) == (403, "permissions_denied")
    assert cloud.instance.list_servers(project=stranger).servers == []


def test_an_unknown_route_is_a_typed_501_and_a_wrong_method_405(cloud: Cloud) -> None:
    unknown = cloud.raw("GET", "/baremetal/v1/zones/fr-par-1/servers")
    assert (unknown.status_code, unknown.json()["type"]) == (501, "not_implemented")
    assert cloud.raw("PUT", "servers").status_code == 405


def test_an_unknown_zone_is_refused(cloud: Cloud) -> None:
    status, error = refused(cloud.instance.list_servers, zone="fr-par-7")
    assert (status, error["details"][0]["argument_name"]) == (400, "zone")


@pytest.mark.parametrize(
    ("body", "argument"),
    [
        ({"commercial_type": "GP1-XXL"}, "commercial_type"),
        ({"commercial_type": "COPARM1-2C-8G"}, "commercial_type"),
        ({"image": None}, "image"),
        ({"colour": "blue"}, "colour"),
        ({"tags": "plexburst"}, "tags"),
        ({"project": None}, "project"),
        ({"commercial_type": "BASIC2-A8C-16G"}, "image"),
        ({"volumes": {"1": {"size": SIZE}}}, "volumes"),
        ({"volumes": {"0": {"size": SIZE, "volume_type": "b_ssd"}}}, "volumes.0.volume_type"),
    ],
)
def test_a_create_request_that_is_not_in_order_names_the_argument(
    cloud: Cloud, body: dict[str, Any], argument: str
) -> None:
    good = {
        "name": "x",
        "project": cloud.settings.project_id,
        "commercial_type": "GP1-S",
        "image": cloud.image(),
        "volumes": {"0": {"size": SIZE, "volume_type": "sbs_volume"}},
    }
    before = len(cloud.ledger())
    answer = cloud.raw("POST", "servers", json={**good, **body})
    assert answer.status_code == 400
    assert [detail["argument_name"] for detail in answer.json()["details"]] == [argument]
    assert len(cloud.ledger()) == before


def test_a_body_that_is_not_json_is_refused(cloud: Cloud) -> None:
    answer = cloud.raw("POST", "ips", data="{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid_request_error")


def test_what_is_not_there_is_a_typed_404(cloud: Cloud) -> None:
    nobody = "33333333-3333-4333-8333-333333333333"
    status, error = refused(cloud.instance.get_server, server_id=nobody)
    assert (status, error["type"], error["resource"], error["resource_id"]) == (
        404,
        "not_found",
        "instance_server",
        nobody,
    )
    assert cloud.raw("GET", "servers/no-uuid").status_code == 400


# --- products -------------------------------------------------------------------------------------------------------


def test_an_image_label_leads_to_an_image_that_boots_from_block_storage(cloud: Cloud) -> None:
    found = cloud.marketplace.list_local_images_all(image_label="ubuntu_noble", arch="x86_64")
    assert [image.type_ for image in found] == [LocalImageType.INSTANCE_SBS, LocalImageType.INSTANCE_LOCAL]
    assert {"GP1-S", "PRO2-S"} <= set(found[0].compatible_commercial_types)
    assert "PRO2-S" not in found[1].compatible_commercial_types
    image = cloud.instance.get_image(image_id=found[0].id).image
    assert image is not None
    assert image.root_volume is not None
    assert image.root_volume.volume_type == "sbs_snapshot"
    assert refused(cloud.instance.get_image, image_id=found[0].id, zone="nl-ams-1")[0] == 404


def test_an_unknown_image_label_is_a_404(cloud: Cloud) -> None:
    status, error = refused(cloud.marketplace.list_local_images, image_label="macos")
    assert (status, error["resource"], error["resource_id"]) == (404, "MarketplaceImage", "macos")


def test_server_types_do_not_fit_one_page(cloud: Cloud) -> None:
    first = cloud.instance.list_servers_types()
    assert len(first.servers) == 50 < int(first.total_count)
    assert "PRO2-S" not in first.servers
    second = cloud.instance.list_servers_types(page=2)
    assert second.servers["PRO2-S"].hourly_price == 0.22338
    assert cloud.instance.list_servers_types(page=3).servers == {}
    everything = cloud.instance.list_servers_types(per_page=100).servers
    power = everything["GP1-S"]
    assert (power.hourly_price, power.ncpus, power.ram, power.arch) == (0.19074, 8, 32 << 30, "x86_64")
    assert power.volumes_constraint is not None
    assert power.volumes_constraint.max_size == 300_000_000_000
    assert everything["COPARM1-2C-8G"].end_of_service


def test_availability_tells_stock(cloud: Cloud) -> None:
    stock = cloud.instance.get_server_types_availability(per_page=100).servers
    found = {name: str(stock[name].availability) for name in ("GP1-S", "PRO2-M", "PRO2-L")}
    assert found == {"GP1-S": "available", "PRO2-M": "scarce", "PRO2-L": "shortage"}
    assert refused(cloud.create, commercial_type="PRO2-L")[1]["type"] == "out_of_stock"


# --- servers --------------------------------------------------------------------------------------------------------


def test_a_server_has_every_field_that_a_recorded_one_has(cloud: Cloud) -> None:
    """The recordings ship with the SDK."""
    path = Path(scaleway.instance.v1.tests.__file__ or "").parent / "cassettes" / "test_create_new_server.cassette.yaml"
    for interaction in yaml.safe_load(path.read_text())["interactions"]:
        if interaction["request"]["method"] == "POST" and interaction["request"]["uri"].endswith("/servers"):
            recorded = json.loads(interaction["response"]["body"]["string"])["server"]
    ours = cloud.raw("GET", f"servers/{cloud.create().id}").json()["server"]
    assert set(recorded) - set(ours) == set()
    assert set(recorded["security_group"]) == set(ours["security_group"])
    same = ("state", "state_detail", "allowed_actions", "location", "private_ip", "ipv6", "routed_ip_enabled", "arch")
    assert {name: ours[name] for name in same} == {name: recorded[name] for name in same}


def test_a_new_server_is_stopped_which_the_sdk_takes_for_done(cloud: Cloud) -> None:
    server = cloud.create()
    assert (server.state, [str(action) for action in server.allowed_actions]) == ("stopped", ["poweron", "backup"])
    assert cloud.instance.wait_instance_server(server.id, ZONE).server is not None


def test_size_zero_which_the_sdk_sends_by_default_is_refused(cloud: Cloud) -> None:
    volume = VolumeServerTemplate(volume_type=VolumeServerVolumeType.SBS_VOLUME)
    status, error = refused(cloud.create, volumes={"0": volume})
    assert (status, error["details"][0]["argument_name"]) == (400, "volumes.0.size")


def test_a_block_root_volume_shows_little_inside_the_server_and_does_not_exist_for_the_instance_api(
    cloud: Cloud,
) -> None:
    server = cloud.raw("GET", f"servers/{cloud.create().id}").json()["server"]
    root = server["volumes"]["0"]
    assert set(root) == {"boot", "volume_type", "id", "state", "zone"}
    assert refused(cloud.instance.get_volume, volume_id=root["id"])[1]["resource"] == "instance_volume"
    volume = cloud.block.get_volume(volume_id=root["id"])
    assert (str(volume.status), volume.size, volume.references[0].product_resource_id) == ("in_use", SIZE, server["id"])
    assert BlockV1Alpha1API(cloud.client).get_volume(volume_id=root["id"]).id == volume.id


def test_local_storage_ends_where_the_type_says(cloud: Cloud) -> None:
    image = cloud.image(LocalImageType.INSTANCE_LOCAL)
    server = cloud.create(image=image, volumes={"0": local(100_000_000_000)})
    assert server.volumes["0"].size == 100_000_000_000
    assert refused(cloud.create, image=image, volumes={"0": local(301_000_000_000)})[0] == 400
    assert refused(cloud.create, image=image, commercial_type="PRO2-S", volumes={"0": local(SIZE)})[0] == 400
    assert (
        refused(cloud.create, volumes={"0": local(SIZE)})[1]["details"][0]["argument_name"] == "volumes.0.volume_type"
    )


def test_lists_filter_and_end_with_an_empty_page(cloud: Cloud) -> None:
    made = [cloud.create(name=f"page-{number}", tags=["pages", f"n{number}"]) for number in range(3)]
    assert [one.id for one in cloud.instance.list_servers_all(tags=["pages"], per_page=2)] == [
        one.id for one in made[::-1]
    ]
    assert cloud.instance.list_servers(tags=["pages"], page=2, per_page=3).servers == []
    assert [one.id for one in cloud.instance.list_servers_all(tags=["pages", "n1"])] == [made[1].id]
    assert [one.id for one in cloud.instance.list_servers_all(name="page-2")] == [made[2].id]
    assert cloud.instance.list_servers(tags=["pages"], state=ServerState.RUNNING).servers == []
    assert len(cloud.instance.list_servers(tags=["pages"], commercial_type="GP1-S").servers) == 3
    assert cloud.instance.list_servers(tags=["pages"], zone="nl-ams-1").servers == []
    assert cloud.raw("GET", "servers?per_page=101").status_code == 400


def test_tags_and_name_of_a_server_can_be_changed(cloud: Cloud) -> None:
    server = cloud.create()
    cloud.instance._update_server(server_id=server.id, tags=["a", "b"], name="renamed")
    found = cloud.get(server)
    assert (found.name, found.tags) == ("renamed", ["a", "b"])
    assert [row["tags"] for row in cloud.ledger() if row["id"] == server.id] == [["a", "b"]]


def test_a_dynamic_address_is_absent_then_pending_then_attached_and_goes_with_the_server(cloud: Cloud) -> None:
    server = cloud.create()
    assert server.public_ips == []
    cloud.act(server, "poweron")
    seen = []

    def attached() -> bool:
        found = cloud.get(server)
        seen.append((found.state, [str(ip.state) for ip in found.public_ips]))
        return seen[-1] == ("running", ["attached"])

    wait_for(attached)
    assert ("starting", []) in seen
    assert ("running", ["pending"]) in seen
    address = cloud.get(server).public_ips[0]
    assert address.dynamic
    assert cloud.instance.list_ips(name=address.address).ips == []
    cloud.until(server, "running", "booted")
    cloud.act(server, "terminate")
    wait_for(lambda: cloud.is_gone(server))
    entry = next(row for row in cloud.ledger() if row["name"] == address.address)
    assert entry["ended_at"] is not None


def test_starting_and_running_have_the_recorded_details_and_actions(cloud: Cloud) -> None:
    server = cloud.create()
    task = cloud.raw("POST", f"servers/{server.id}/action", json={"action": "poweron"})
    assert (task.status_code, task.json()["task"]["description"]) == (202, "server_batch_poweron")
    starting = cloud.get(server)
    assert (starting.state, starting.state_detail) == ("starting", "allocating node")
    assert [str(action) for action in starting.allowed_actions] == ["stop_in_place", "backup"]
    status, error = refused(cloud.instance.delete_server, server_id=server.id)
    assert (status, error["type"], error["current_state"]) == (409, "transient_state", "starting")
    running = cloud.until(server, "running", "booting kernel")
    assert [str(one) for one in running.allowed_actions] == [
        "poweroff",
        "terminate",
        "reboot",
        "stop_in_place",
        "backup",
    ]
    assert running.location is not None
    assert refused(cloud.instance.delete_server, server_id=server.id)[1]["type"] == "precondition_failed"
    status, error = refused(cloud.act, server=server, action="poweron")
    assert (status, error["message"]) == (412, "server should be stopped")


def test_stopped_in_place_is_spelled_with_spaces_and_goes_on_costing(cloud: Cloud) -> None:
    server = cloud.create()
    cloud.act(server, "poweron")
    cloud.until(server, "running", "booted")
    cloud.act(server, "stop_in_place")
    found = cloud.until(server, "stopped in place")
    assert found.state != ServerState.STOPPED_IN_PLACE
    row = next(row for row in cloud.ledger() if row["id"] == server.id)
    time.sleep(0.05)
    assert next(one for one in cloud.ledger() if one["id"] == server.id)["cost"] > row["cost"] > 0
    cloud.act(server, "terminate")
    wait_for(lambda: cloud.is_gone(server))


def test_terminate_leaves_the_block_volume_and_the_flexible_address_behind(cloud: Cloud) -> None:
    ip = cloud.instance.create_ip(type_=IpType.ROUTED_IPV4, tags=["orphan"]).ip
    assert ip is not None
    server = cloud.create(public_ips=[ip.id], tags=["orphan"])
    root = server.volumes["0"].id
    assert refused(cloud.act, server=server, action="terminate")[1]["type"] == "precondition_failed"
    cloud.act(server, "poweron")
    cloud.until(server, "running", "booted")
    cloud.act(server, "terminate")
    assert refused(cloud.block.delete_volume, volume_id=root)[1]["precondition"] == "resource_still_in_use"
    wait_for(lambda: cloud.is_gone(server))
    volume = wait_for(lambda: (found := cloud.block.get_volume(volume_id=root)).references == [] and found)
    assert str(volume.status) == "available"
    assert volume.last_detached_at is not None
    left = cloud.instance.list_ips(tags=["orphan"]).ips[0]
    assert (left.server, str(left.state)) == (None, "detached")
    open_rows = {row["kind"] for row in cloud.ledger() if row["id"] in (server.id, root, ip.id) and not row["ended_at"]}
    assert open_rows == {"volume", "ip"}
    cloud.block.delete_volume(volume_id=root)
    cloud.instance.delete_ip(ip=ip.id)
    wait_for(lambda: root not in [one.id for one in cloud.block.list_volumes_all(include_deleted=False)])
    assert refused(cloud.block.get_volume, volume_id=root)[0] == 404
    assert refused(cloud.instance.get_ip, ip=ip.id)[1]["resource"] == "instance_ip"
    assert all(row["ended_at"] for row in cloud.ledger() if row["id"] in (server.id, root, ip.id))


def test_terminate_takes_local_volumes_along_but_a_plain_delete_does_not(cloud: Cloud) -> None:
    image = cloud.image(LocalImageType.INSTANCE_LOCAL)
    first, second = (cloud.create(image=image, volumes={"0": local(SIZE)}) for _ in range(2))
    cloud.act(first, "poweron")
    cloud.until(first, "running", "booted")
    cloud.act(first, "terminate")
    wait_for(lambda: cloud.is_gone(first))
    assert refused(cloud.instance.get_volume, volume_id=first.volumes["0"].id)[0] == 404
    cloud.instance.delete_server(server_id=second.id)
    left = cloud.instance.get_volume(volume_id=second.volumes["0"].id).volume
    assert left is not None
    assert left.server is None
    cloud.instance.delete_volume(volume_id=left.id)


def test_a_block_volume_detaches_slowly(cloud: Cloud) -> None:
    server = cloud.create()
    root = server.volumes["0"].id
    found = cloud.instance.detach_server_volume(server_id=server.id, volume_id=root).server
    assert found is not None
    assert found.volumes == {}
    detaching = cloud.block.get_volume(volume_id=root)
    assert ([str(one.status) for one in detaching.references], str(detaching.status)) == (["detaching"], "in_use")
    wait_for(lambda: str(cloud.block.get_volume(volume_id=root).status) == "available")


def test_block_volumes_can_be_tagged_and_found_by_tag(cloud: Cloud) -> None:
    root = cloud.create().volumes["0"].id
    cloud.block.update_volume(volume_id=root, tags=["plexburst-run=x", "b"])
    found = cloud.block.list_volumes_all(include_deleted=False, tags=["plexburst-run=x"])
    assert [(one.id, one.tags) for one in found] == [(root, ["plexburst-run=x", "b"])]
    assert cloud.block.list_volumes_all(include_deleted=False, project_id=cloud.settings.access_key) == []


def test_an_address_is_never_given_away_twice(cloud: Cloud) -> None:
    addresses = set()
    for _ in range(5):
        ip = cloud.instance.create_ip(type_=IpType.ROUTED_IPV4).ip
        assert ip is not None
        addresses.add(ip.address)
        cloud.instance.delete_ip(ip=ip.id)
    assert len(addresses) == 5
    assert all(str(address).startswith(cloud.settings.block) for address in addresses)


def test_an_address_that_is_taken_cannot_be_attached_again(cloud: Cloud) -> None:
    ip = cloud.instance.create_ip(type_=IpType.ROUTED_IPV4).ip
    assert ip is not None
    server = cloud.create(public_ips=[ip.id])
    held = cloud.instance.get_ip(ip=ip.id).ip
    assert held is not None
    assert held.server is not None
    assert held.server.id == server.id
    assert refused(cloud.create, public_ips=[ip.id])[0] == 412


def test_ipv6_has_a_prefix_and_no_address(cloud: Cloud) -> None:
    ip = cloud.instance.create_ip(type_=IpType.ROUTED_IPV6).ip
    assert ip is not None
    assert ip.address is None
    assert str(ip.prefix).endswith("::/64")


# --- user data ------------------------------------------------------------------------------------------------------


def test_user_data_are_raw_bytes(cloud: Cloud) -> None:
    server = cloud.create()
    content = "#cloud-config\n# é\n".encode()
    cloud.instance.set_server_user_data(server.id, "cloud-init", content)
    assert cloud.instance.get_server_user_data(server.id, "cloud-init").content == content
    assert cloud.instance.list_server_user_data(server_id=server.id).user_data == ["cloud-init"]
    assert cloud.instance.get_all_server_user_data(server.id).user_data == {"cloud-init": content}
    cloud.instance.delete_server_user_data(server_id=server.id, key="cloud-init")
    assert cloud.instance.list_server_user_data(server_id=server.id).user_data == []


def test_a_missing_user_data_key_is_a_404_without_a_body_that_the_sdk_cannot_read(cloud: Cloud) -> None:
    server = cloud.create()
    with pytest.raises(JSONDecodeError):
        cloud.instance.get_server_user_data(server.id, "nothing")
    answer = cloud.raw("GET", f"servers/{server.id}/user_data/nothing", data="{}")
    assert (answer.status_code, answer.content) == (404, b"")


def test_user_data_are_patched_as_text_not_put_and_not_json(cloud: Cloud) -> None:
    path = f"servers/{cloud.create().id}/user_data/cloud-init"
    assert cloud.raw("PUT", path, data="x", headers={"Content-Type": "text/plain"}).status_code == 405
    assert cloud.raw("PATCH", path, json={}).status_code == 400
    assert cloud.raw("PATCH", path, data="x", headers={"Content-Type": "text/plain"}).status_code == 204


# --- money and memory -----------------------------------------------------------------------------------------------


def test_the_ledger_knows_everything_that_ever_cost(tmp_path: Path) -> None:
    with make_cloud(tmp_path) as cloud:
        ip = cloud.instance.create_ip(type_=IpType.ROUTED_IPV4, tags=["t"]).ip
        assert ip is not None
        server = cloud.create(public_ips=[ip.id])
        rows = {row["kind"]: row for row in cloud.ledger()}
        assert {kind: row["hourly_price"] for kind, row in rows.items() if kind != "volume"} == {
            "server": 0.19074,
            "ip": IPV4_HOURLY,
        }
        assert (rows["server"]["type"], rows["volume"]["size"], rows["ip"]["tags"]) == ("GP1-S", SIZE, ["t"])
        time.sleep(0.05)
        rows = {row["kind"]: row for row in cloud.ledger()}
        assert rows["server"]["cost"] == 0 < rows["ip"]["cost"]
        assert rows["server"]["ended_at"] is None
        cloud.instance.delete_server(server_id=server.id)
        rows = {row["kind"]: row for row in cloud.ledger()}
        assert rows["server"]["ended_at"] is not None
        assert rows["volume"]["ended_at"] is None


def test_servers_and_ledger_survive_a_restart_of_the_simulator(tmp_path: Path) -> None:
    with make_cloud(tmp_path) as cloud:
        server = cloud.create()
        cloud.act(server, "poweron")
        before = cloud.ledger()
    with make_cloud(tmp_path) as cloud:
        found = cloud.until(server, "running", "booted")
        assert found.public_ips[0].address
        assert {row["id"] for row in before} <= {row["id"] for row in cloud.ledger()}
        assert cloud.app.hosts.is_ready(server.id)
    assert (tmp_path / "scaleway-state.json").stat().st_mode & 0o077 == 0
    assert (tmp_path / "scaleway.json").stat().st_mode & 0o077 == 0


def test_the_environment_alone_points_the_sdk_at_the_simulator(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SCW_ACCESS_KEY": cloud.settings.access_key,
        "SCW_SECRET_KEY": cloud.settings.secret_key,
        "SCW_API_URL": cloud.url,
        "SCW_DEFAULT_PROJECT_ID": cloud.settings.project_id,
        "SCW_DEFAULT_ZONE": ZONE,
    }.items():
        monkeypatch.setenv(name, value)
    assert InstanceUtilsV1API(Client.from_env()).get_dashboard().dashboard is not None
