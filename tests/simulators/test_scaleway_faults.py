"""Faults on demand: each fails the way the real API fails, and stops when it is switched off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests
from requests.exceptions import JSONDecodeError
from scaleway import ScalewayException

from tests.simulators.scaleway_client import Cloud, error_of, wait_for
from tests.simulators.scaleway_client import cloud as make_cloud


@pytest.fixture(scope="module")
def running_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with make_cloud(tmp_path_factory.mktemp("cloud")) as one:
        yield one


@pytest.fixture
def cloud(running_cloud: Cloud) -> Iterator[Cloud]:
    yield running_cloud
    running_cloud.set_faults()


@pytest.mark.parametrize("which", ["*", ["GP1-S", "GP1-M"]])
def test_out_of_stock_is_refused_at_create_and_shown_as_shortage(cloud: Cloud, which: object) -> None:
    cloud.set_faults(out_of_stock=which)
    with pytest.raises(ScalewayException) as raised:
        cloud.create()
    status, error = error_of(raised.value)
    assert (status, error["type"], error["resource"]) == (412, "out_of_stock", "GP1-S")
    stock = cloud.instance.get_server_types_availability(per_page=100).servers
    assert str(stock["GP1-S"].availability) == "shortage"
    assert str(stock["GP1-L"].availability) == ("shortage" if which == "*" else "available")


@pytest.mark.parametrize("fault", ["out_of_stock", "out_of_stock_at_poweron"])
def test_stock_may_run_out_between_create_and_poweron(cloud: Cloud, fault: str) -> None:
    server = cloud.create()
    cloud.set_faults(**{fault: ["GP1-S"]})
    with pytest.raises(ScalewayException) as raised:
        cloud.act(server, "poweron")
    assert error_of(raised.value)[1]["type"] == "out_of_stock"
    assert cloud.get(server).state == "stopped"
    cloud.instance.delete_server(server_id=server.id)


def test_quota_refuses_the_server_and_leaves_the_address_that_was_made_before(cloud: Cloud) -> None:
    ip = cloud.instance.create_ip(tags=["before"]).ip
    assert ip is not None
    cloud.set_faults(quota=True)
    with pytest.raises(ScalewayException) as raised:
        cloud.create(public_ips=[ip.id])
    status, error = error_of(raised.value)
    assert (status, error["type"]) == (403, "quotas_exceeded")
    assert set(error["details"][0]) == {"resource", "quota", "current"}
    assert [one.id for one in cloud.instance.list_ips(tags=["before"]).ips] == [ip.id]


def test_a_counted_fault_ends_by_itself(cloud: Cloud) -> None:
    cloud.set_faults(error_500=2)
    for _ in range(2):
        with pytest.raises(ScalewayException) as raised:
            cloud.instance.list_servers()
        assert (error_of(raised.value)[0], error_of(raised.value)[1]["type"]) == (500, "internal_error")
    cloud.instance.list_servers()
    assert requests.get(f"{cloud.url}/_sandbox/faults", timeout=5).json() == {}


def test_too_many_requests_are_refused_without_a_word(cloud: Cloud) -> None:
    cloud.set_faults(rate_limit=1)
    refused = cloud.raw("GET", "servers")
    assert (refused.status_code, refused.content) == (429, b"")
    assert "retry-after" not in refused.headers


def block(cloud: Cloud) -> requests.Response:
    return cloud.raw("GET", "/block/v1/zones/fr-par-1/volumes?page=1")


@pytest.mark.parametrize(
    ("fault", "status"), [({"block_down": 503}, 503), ({"block_down": 403}, 403), ({"block_rate_limit": 1}, 429)]
)
def test_block_storage_fails_alone(cloud: Cloud, fault: dict[str, int], status: int) -> None:
    cloud.set_faults(**fault)
    assert cloud.raw("GET", "servers").status_code == 200
    assert block(cloud).status_code == status
    cloud.set_faults()
    assert block(cloud).json()["total_count"] >= 0


def test_lists_show_nothing_once_each(cloud: Cloud) -> None:
    ip = cloud.instance.create_ip(tags=["mine"]).ip
    assert ip is not None
    cloud.set_faults(empty_lists=1)
    first, second = cloud.raw("GET", "ips"), cloud.raw("GET", "ips")
    assert (first.json(), first.headers["x-total-count"]) == ({"ips": []}, "0")
    assert ip.id in [one["id"] for one in second.json()["ips"]]
    assert cloud.instance.get_ip(ip=ip.id).ip, "by its id it was there all the time"


def test_a_page_of_somebody_else_comes_with_200(cloud: Cloud) -> None:
    cloud.set_faults(html_page=1)
    page = cloud.raw("GET", "servers")
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")


def test_a_gateway_error_is_html_which_the_sdk_cannot_read(cloud: Cloud) -> None:
    cloud.set_faults(error_html=1)
    with pytest.raises(JSONDecodeError):
        cloud.instance.list_servers()


def test_a_hanging_api_answers_when_the_fault_is_gone(cloud: Cloud) -> None:
    cloud.set_faults(hang=30)
    with pytest.raises(requests.Timeout):
        requests.get(f"{cloud.url}/instance/v1/zones/fr-par-1/servers", timeout=0.3)
    cloud.set_faults(hang=0.3)
    started = time.monotonic()
    cloud.instance.list_servers()
    assert 0.25 < time.monotonic() - started < 3


def test_a_server_that_never_boots_stays_in_starting_and_can_still_be_got_rid_of(cloud: Cloud) -> None:
    cloud.set_faults(never_boots=True)
    server = cloud.create()
    cloud.act(server, "poweron")
    time.sleep(0.5)
    assert cloud.get(server).state == "starting"
    cloud.act(server, "stop_in_place")
    cloud.until(server, "stopped in place")
    cloud.act(server, "terminate")
    wait_for(lambda: cloud.is_gone(server))


def test_a_slow_poweroff_is_slow(cloud: Cloud) -> None:
    server = cloud.create()
    cloud.act(server, "poweron")
    cloud.until(server, "running", "booted")
    cloud.set_faults(poweroff_slow=0.8)
    cloud.act(server, "poweroff")
    time.sleep(0.5)
    assert cloud.get(server).state == "stopping"
    cloud.until(server, "stopped")


def test_faults_are_on_disk_and_read_again_when_someone_writes_them(cloud: Cloud) -> None:
    path = cloud.dir / "faults" / "scaleway.json"
    cloud.set_faults(quota=True)
    assert json.loads(path.read_text()) == {"quota": True}
    path.write_text('{"error_500": 1}')
    assert cloud.raw("GET", "servers").status_code == 500
    assert requests.put(f"{cloud.url}/_sandbox/faults", data="[]", timeout=5).status_code == 400
