"""The module scaleway_server against the simulator, over real HTTP, as processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import client, naming, servers

from tests.modules.scaleway_simulator import CLOUD_INIT, EXPIRES, KEYS, Simulator, simulator


@pytest.fixture(scope="module")
def cloud_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("scaleway")) as running:
        yield running


@pytest.fixture
def cloud(cloud_of_module: Simulator) -> Simulator:
    """The simulator without faults; what a test makes stays, so every test has run ids of its own."""
    cloud_of_module.faults()
    return cloud_of_module


def test_a_server_boots_with_its_address_and_everything_is_tagged(cloud: Simulator) -> None:
    made = cloud.server("boot-1", watch_profile="cloud_standard", tags=["mine"], ssh_port=2222)
    assert made["changed"] and made["server"]["state"] == "running", made
    assert made["host"]["name"] == "plexburst-boot-1"
    assert made["host"]["groups"] == ["plex_cloud", "plexburst_run_boot_1", "plexburst_profile_cloud_standard"]
    assert made["host"]["hostvars"]["ansible_host"] == made["server"]["public_ip"]
    assert made["host"]["hostvars"]["ansible_port"] == 2222
    assert made["price"] == {"hourly": 0.19074, "currency": "EUR"}
    entries = cloud.alive("plexburst-run=boot-1")
    assert sorted(f"{entry['kind']}/{entry['id']}" for entry in entries) == sorted(made["created"])
    wanted = ["plexburst", "plexburst-run=boot-1", "plexburst-expires=20990101T000000Z"]
    wanted += ["plexburst-profile=cloud_standard", "mine"]
    assert [entry["tags"] for entry in entries] == [wanted] * 3


def test_a_second_call_changes_nothing(cloud: Simulator) -> None:
    first = cloud.server("twice-1")
    second = cloud.server("twice-1", types=["PRO2-S"])
    assert not second["changed"] and second["created"] == []
    assert second["server"]["id"] == first["server"]["id"]
    assert second["host"] == first["host"]


def test_check_mode_says_what_it_would_make_and_makes_nothing(cloud: Simulator) -> None:
    said = cloud.server("check-1", check=True, types=["BASIC2-A8C-16G", "GP1-S"])
    assert said["changed"] and said["server"] is None and said["price"]["hourly"] == 0.19074
    assert "server of type GP1-S, 0.19074 EUR per hour" in said["diff"]["after"]["resources"]
    assert [refusal["type"] for refusal in said["tried"]] == ["BASIC2-A8C-16G"]
    assert cloud.alive("check-1") == []


def test_absent_removes_server_volume_and_ip_and_says_so(cloud: Simulator) -> None:
    made = cloud.server("gone-1")
    would = cloud.absent("gone-1", check=True)
    assert would["changed"] and sorted(would["deleted"]) == sorted(made["created"])
    assert len(cloud.alive("gone-1")) == 3
    gone = cloud.absent("gone-1")
    assert sorted(gone["deleted"]) == sorted(made["created"]) and gone["leftovers"] == []
    assert cloud.alive("gone-1") == []
    again = cloud.absent("gone-1")
    assert not again["changed"] and not again["failed"]


def test_a_stopped_server_with_a_local_volume_leaves_nothing(cloud: Simulator) -> None:
    made = cloud.server("local-1", state="present", root_volume={"size_gb": 20, "type": "l_ssd"})
    assert made["server"]["state"] == "stopped", made
    gone = cloud.absent("local-1")
    assert gone["leftovers"] == [] and cloud.alive("local-1") == []
    assert sorted(gone["deleted"]) == sorted(made["created"])


def test_a_server_that_is_still_starting_is_removed_too(cloud: Simulator) -> None:
    cloud.faults(never_boots=True)
    stuck = cloud.server("stuck-1", wait_timeout=3)
    assert stuck["failed"] and "starting" in stuck["msg"], stuck
    assert len(stuck["created"]) == 3, "the caller must learn what to remove"
    gone = cloud.absent("stuck-1", wait_timeout=20)
    assert gone["leftovers"] == [] and cloud.alive("stuck-1") == []


def test_a_run_that_was_interrupted_is_continued(cloud: Simulator) -> None:
    stopped = cloud.server("resume-1", state="present")
    assert stopped["server"]["state"] == "stopped"
    running = cloud.server("resume-1")
    assert running["changed"] and running["created"] == [] and running["server"]["state"] == "running"
    assert running["server"]["id"] == stopped["server"]["id"]


def test_the_next_type_is_taken_when_the_first_is_out_of_stock(cloud: Simulator) -> None:
    cloud.faults(out_of_stock=["PRO2-S"])
    made = cloud.server("stock-1", types=["PRO2-S", "GP1-S"])
    assert made["server"]["commercial_type"] == "GP1-S"
    assert [refusal["type"] for refusal in made["tried"]] == ["PRO2-S"]


def test_what_was_made_for_a_type_that_cannot_boot_is_removed_before_the_next(cloud: Simulator) -> None:
    cloud.faults(out_of_stock_at_poweron=["PRO2-S"])
    made = cloud.server("power-1", types=["PRO2-S", "GP1-S"])
    assert made["server"]["commercial_type"] == "GP1-S", made
    assert len(made["created"]) == 5 and len(made["deleted"]) == 2
    assert sorted(f"{e['kind']}/{e['id']}" for e in cloud.alive("power-1")) == sorted(
        set(made["created"]) - set(made["deleted"])
    )


def test_no_stock_at_all_fails_with_words_and_leaves_nothing(cloud: Simulator) -> None:
    cloud.faults(out_of_stock="*")
    failed = cloud.server("none-1", types=["PRO2-S", "GP1-S"])
    assert failed["failed"] and failed["kind"] == "no_capacity"
    assert "PRO2-S" in failed["msg"] and "GP1-S" in failed["msg"] and "fr-par-1" in failed["msg"]
    assert cloud.alive("none-1") == []


def test_a_used_up_quota_is_told_and_leaves_nothing(cloud: Simulator) -> None:
    cloud.faults(quota=True)
    failed = cloud.server("quota-1")
    assert failed["failed"] and "quota" in failed["msg"].lower(), failed["msg"]
    assert cloud.alive("quota-1") == []


def test_arm_types_are_refused_because_of_sonic(cloud: Simulator) -> None:
    failed = cloud.server("arm-1", types=["BASIC2-A8C-16G"])
    assert failed["failed"] and "Sonic" in failed["msg"]
    assert cloud.alive("arm-1") == []


@pytest.mark.parametrize("fault", [{"rate_limit": 3}, {"error_500": 3}])
def test_passing_trouble_at_the_api_is_waited_out(cloud: Simulator, fault: dict[str, int]) -> None:
    run_id = "trouble-" + next(iter(fault)).replace("_", "-")
    cloud.faults(**fault)
    made = cloud.server(run_id, wait_timeout=60)
    assert made["server"]["state"] == "running", made
    assert len(cloud.alive(f"plexburst-run={run_id}")) == 3, "a request that was repeated made a second thing"


@pytest.mark.parametrize("fault", [{"block_rate_limit": 12}, {"html_page": 1}, {"empty_lists": 1}])
def test_passing_trouble_does_not_end_a_removal(cloud: Simulator, fault: dict[str, int]) -> None:
    run_id = "leave-" + next(iter(fault)).replace("_", "-")
    made = cloud.server(run_id, state="present")
    cloud.faults(**fault)
    gone = cloud.absent(run_id, wait_timeout=60)
    assert not gone["failed"] and sorted(gone["deleted"]) == sorted(made["created"]), gone
    assert cloud.alive(run_id) == []


def test_block_storage_that_is_down_keeps_neither_server_nor_address(cloud: Simulator) -> None:
    run_id = "block-403"
    made = cloud.server(run_id)
    volume = next(name for name in made["created"] if name.startswith("volume/"))
    cloud.faults(block_down=403)
    failed = cloud.absent(run_id, wait_timeout=10)
    assert failed["failed"] and failed["kind"] == "leftovers", failed
    assert failed["leftovers"] == [volume] and volume in failed["msg"]
    assert "BlockStorageFullAccess" in failed["msg"]
    assert f"reap.yml -e plexburst_reap_run_id={run_id}" in failed["advice"]
    assert [f"{entry['kind']}/{entry['id']}" for entry in cloud.alive(run_id)] == [volume]
    cloud.faults()
    assert cloud.absent(run_id)["deleted"] == [volume]


def test_an_untagged_volume_that_the_record_knows_is_removed_by_its_id(cloud: Simulator) -> None:
    made = cloud.server("known-1", state="present")
    volume = next(name for name in made["created"] if name.startswith("volume/"))
    cloud.call("PATCH", f"/block/v1/zones/fr-par-1/volumes/{volume.removeprefix('volume/')}", tags=[])
    server = made["server"]["id"]
    cloud.call("DELETE", f"/instance/v1/zones/fr-par-1/servers/{server}")
    cloud.absent("known-1")
    assert [entry["id"] for entry in cloud.alive(volume.removeprefix("volume/"))], "no tag says that it is ours"
    gone = cloud.absent("known-1", known=made["created"])
    assert gone["deleted"] == [volume]


def test_an_api_that_hangs_ends_at_the_deadline(cloud: Simulator) -> None:
    cloud.faults(hang=60)
    began = time.monotonic()
    failed = cloud.server("hang-1", wait_timeout=3, request_timeout=1)
    assert failed["failed"] and "did not answer" in failed["msg"]
    assert time.monotonic() - began < 6


def test_wrong_keys_are_told_without_quoting_them(cloud: Simulator) -> None:
    wrong = "33333333-3333-4333-8333-333333333333"
    config = cloud.folder / "wrong.yaml"
    config.write_text(cloud.config_file.read_text().replace(KEYS["secret_key"], wrong), encoding="utf-8")
    failed = cloud.server("keys-1", config_file=str(config))
    assert failed["failed"] and failed["kind"] == "denied_authentication"
    assert "secret key" in failed["msg"]
    assert wrong not in str(failed)


def test_the_private_host_key_in_cloud_init_is_not_returned(cloud: Simulator) -> None:
    made = cloud.server("secret-1", state="present", cloud_init="#cloud-config\n# very-secret-key\n")
    assert not made["failed"] and "very-secret-key" not in str(made)


def test_things_of_other_people_are_left_alone(cloud: Simulator) -> None:
    theirs = cloud.call(
        "POST",
        "/instance/v1/zones/fr-par-1/ips",
        project=KEYS["project_id"],
        type="routed_ipv4",
        tags=["web"],
    )["ip"]["id"]
    cloud.server("others-1")
    cloud.absent("others-1")
    assert [entry["id"] for entry in cloud.alive('"web"')] == [theirs]
    cloud.call("DELETE", f"/instance/v1/zones/fr-par-1/ips/{theirs}")


class ControllerDiedError(BaseException):
    """Nothing in the code under test may catch this: the process is gone."""


def test_a_controller_that_dies_after_any_request_leaves_only_what_absent_finds(cloud: Simulator) -> None:
    """Die after the 1st, 2nd, … changing request of a create (IP, server, volume tags, user data, power)."""
    survived = False
    for requests_until_death in range(1, 12):
        run_id = f"killed-{requests_until_death}"
        connection = client.connect(client.Settings(config_file=str(cloud.config_file)))
        _die_after(connection.transport, requests_until_death)
        wish = servers.Wish(
            name=f"plexburst-{run_id}",
            run_id=run_id,
            types=["GP1-S"],
            image="ubuntu_noble",
            root_volume="sbs_volume",
            size_gb=20,
            tags=naming.run_tags(run_id, naming.parse_expiry(EXPIRES)),
            cloud_init=CLOUD_INIT,
        )
        before = {entry["id"] for entry in cloud.alive()}
        try:
            servers.ServerManager(connection, wish, servers.Clock(client.Deadline(20), 0.1)).ensure()
            survived = True
        except ControllerDiedError:
            pass
        gone = cloud.absent(run_id)
        assert gone["leftovers"] == [] and not gone["failed"], gone
        assert gone["deleted"], "it died before it made anything: the test proves nothing"
        assert {entry["id"] for entry in cloud.alive()} == before
        if survived:
            break
    assert survived and requests_until_death > 4


def _die_after(transport: Any, changes: int) -> None:
    really_send = transport.send
    seen = 0

    def send(method: str, url: str, **rest: Any) -> Any:
        nonlocal seen
        answer = really_send(method, url, **rest)
        seen += method != "GET"
        if seen >= changes:
            raise ControllerDiedError
        return answer

    transport.send = send
