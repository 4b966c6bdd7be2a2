"""The wrapper of the SDK: where credentials come from, what is tried again, what an error says."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import client

KEY = "SCWXXXXXXXXXXXXXXXXX"
SECRET = "11111111-1111-4111-8111-111111111111"
PROJECT = "22222222-2222-4222-8222-222222222222"
ENV = {"SCW_ACCESS_KEY": KEY, "SCW_SECRET_KEY": SECRET, "XDG_CONFIG_HOME": "/nonexistent"}


def write(path: Path, **values: Any) -> str:
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return str(path)


def test_the_environment_is_enough() -> None:
    made = client.load_client(client.Settings(zone="fr-par-2"), ENV | {"SCW_API_URL": "http://127.0.0.1:1/"})
    assert (made.access_key, made.default_zone, made.api_url) == (KEY, "fr-par-2", "http://127.0.0.1:1")


def test_a_file_that_is_named_goes_before_the_environment(tmp_path: Path) -> None:
    other = KEY[:-1] + "Y"
    path = write(tmp_path / "scw.yaml", access_key=other, secret_key=SECRET, api_url="http://127.0.0.1:2")
    assert client.load_client(client.Settings(config_file=path), ENV).access_key == other
    by_variable = client.load_client(client.Settings(), ENV | {"SCW_CONFIG_PATH": path})
    assert (by_variable.access_key, by_variable.api_url) == (KEY, "http://127.0.0.1:2")


def test_profiles_are_read_and_a_missing_one_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "scw.yaml",
        access_key=KEY,
        secret_key=SECRET,
        active_profile="work",
        profiles={"work": {"default_zone": "nl-ams-1"}, "play": {"default_zone": "pl-waw-1"}},
    )
    assert client.load_client(client.Settings(config_file=path), {}).default_zone == "nl-ams-1"
    assert client.load_client(client.Settings(config_file=path, profile="play"), {}).default_zone == "pl-waw-1"
    with pytest.raises(client.ScalewayError, match="play, work"):
        client.load_client(client.Settings(config_file=path, profile="gone"), {})


@pytest.mark.parametrize(
    ("settings", "environ", "words"),
    [
        (client.Settings(config_file="/nonexistent/scw.yaml"), ENV, "/nonexistent/scw.yaml"),
        (client.Settings(), {"XDG_CONFIG_HOME": "/nonexistent"}, "SCW_ACCESS_KEY"),
        (client.Settings(), ENV | {"SCW_SECRET_KEY": "not-a-uuid-but-secret"}, "secret_key"),
        (client.Settings(zone="paris"), ENV, "fr-par-1"),
        (client.Settings(project_id="mine"), ENV, "UUID"),
        (client.Settings(profile="work"), ENV, "work"),
    ],
)
def test_what_is_missing_or_malformed_is_told_without_the_secret(
    settings: client.Settings, environ: dict[str, str], words: str
) -> None:
    with pytest.raises(client.ScalewayError, match=words) as caught:
        client.load_client(settings, environ)
    assert caught.value.kind == "configuration"
    assert "not-a-uuid-but-secret" not in str(caught.value)


def test_a_broken_file_does_not_show_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "scw.yaml"
    path.write_text(f"secret_key: [{SECRET}\n", encoding="utf-8")
    with pytest.raises(client.ScalewayError, match="not valid YAML") as caught:
        client.load_client(client.Settings(config_file=str(path)), {})
    assert SECRET not in str(caught.value)


class Script(http.server.BaseHTTPRequestHandler):
    """Answers with what the test put into ``answers``: (status, headers, body); keeps the requests."""

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.server.seen.append((self.command, self.path, self.rfile.read(length)))  # type: ignore[attr-defined]
        status, headers, body = self.server.answers.pop(0)  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Tests are silent."""


@pytest.fixture
def api() -> Iterator[http.server.ThreadingHTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Script)
    server.answers, server.seen = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def cloud_at(api: Any, naps: list[float] | None = None) -> client.Scaleway:
    settings = client.Settings(api_url=f"http://127.0.0.1:{api.server_port}", zone="fr-par-1", project_id=PROJECT)
    made = client.load_client(settings, ENV)
    transport = client.Transport(secret=SECRET, request_timeout=2, sleep=(naps if naps is not None else []).append)
    return client.Scaleway(made, transport)


def answer(status: int, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, b"" if body is None else json.dumps(body).encode()


def listed(name: str, total: int, *items: Any) -> tuple[int, dict[str, str], bytes]:
    return answer(200, {name: list(items)}, **{"x-total-count": str(total)})


def test_reads_are_tried_again_with_growing_pauses(api: Any) -> None:
    naps: list[float] = []
    api.answers += [answer(500), answer(429, **{"retry-after": "7"}), answer(503), listed("servers", 0)]
    assert cloud_at(api, naps).servers() == []
    assert len(api.seen) == 4
    assert naps[0] < 1 and 5 < naps[1] < 9 and naps[2] > naps[1]


def test_a_post_whose_fate_is_unknown_is_not_repeated(api: Any) -> None:
    api.answers += [answer(502)]
    with pytest.raises(client.ScalewayError) as caught:
        cloud_at(api).create_ip(["plexburst"])
    assert caught.value.ambiguous and len(api.seen) == 1


def test_a_post_that_was_refused_for_its_rate_is_repeated(api: Any) -> None:
    made = {"ip": {"id": "1", "address": "51.15.0.1", "tags": ["plexburst"], "zone": "fr-par-1"}}
    api.answers += [answer(429), answer(201, made)]
    assert cloud_at(api).create_ip(["plexburst"]).id == "1"
    sent = json.loads(api.seen[-1][2])
    assert sent == {"project": PROJECT, "tags": ["plexburst"], "type": "routed_ipv4"}


def test_a_list_ends_at_its_total(api: Any) -> None:
    one = {"id": "1", "tags": [], "zone": "fr-par-1", "address": "51.15.0.1"}
    api.answers += [listed("ips", 1, one)]
    assert len(cloud_at(api).ips()) == 1
    api.answers += [listed("ips", 2, one), listed("ips", 2, {**one, "id": "2"})]
    assert len(cloud_at(api).ips()) == 2
    assert len(api.seen) == 3


@pytest.mark.parametrize(
    "page",
    [
        (200, {"x-total-count": "3"}, b'{"ips": []}'),
        (200, {}, b'{"ips": []}'),
        (200, {}, b"{}"),
        (200, {}, b'{"message": "maintenance"}'),
        (200, {}, b""),
    ],
)
def test_a_page_that_is_no_list_is_not_read_as_a_list_of_nothing(api: Any, page: Any) -> None:
    api.answers += [page]
    with pytest.raises(client.ScalewayError) as caught:
        cloud_at(api).ips()
    assert caught.value.kind == "unreadable"


def test_only_the_apis_own_words_say_that_a_thing_is_gone(api: Any) -> None:
    gone = {"type": "not_found", "message": "resource is not found", "resource": "instance_server", "resource_id": "1"}
    api.answers += [answer(404, gone), answer(404), (404, {}, b"<html>404</html>"), answer(200, {"server": None})]
    cloud = cloud_at(api)
    assert cloud.server("1") is None
    for _ in range(3):
        with pytest.raises(client.ScalewayError):
            cloud.server("1")


def test_user_data_that_is_not_set_has_an_empty_body(api: Any) -> None:
    api.answers += [answer(404)]
    assert cloud_at(api).user_data("1", "cloud-init") is None


def test_html_instead_of_json_is_a_sentence(api: Any) -> None:
    api.answers += [(200, {}, b"<html>captive portal</html>"), (400, {}, b"<html>no</html>")]
    cloud = cloud_at(api)
    with pytest.raises(client.ScalewayError, match="is invalid"):
        cloud.servers()
    with pytest.raises(client.ScalewayError, match=r"refused GET .* with 400"):
        cloud.servers()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (403, {"type": "quotas_exceeded", "message": "quota(s) exceeded", "details": [{"resource": "ips", "quota": 2}]},
         "quotas_exceeded", "resource ips, quota 2"),
        (403, {"message": "Quota exceeded for this resource."}, "quotas_exceeded", "higher quota"),
        (412, {"type": "out_of_stock", "message": "resource is out of stock", "resource": "GP1-S"},
         "out_of_stock", "GP1-S"),
        (403, {"type": "permissions_denied", "message": "insufficient permissions",
               "details": [{"action": "write", "resource": "compute_servers"}]},
         "permissions_denied", "InstancesFullAccess"),
        (401, None, "denied_authentication", "secret key"),
        (400, {"type": "invalid_arguments", "message": "invalid argument(s)",
               "details": [{"argument_name": "image", "reason": "constraint", "help_message": "no such image"}]},
         "invalid_arguments", "no such image"),
    ],
)  # fmt: skip
def test_errors_are_sentences_with_a_next_step(api: Any, status: int, body: Any, kind: str, words: str) -> None:
    api.answers += [answer(status, body)]
    with pytest.raises(client.ScalewayError) as caught:
        cloud_at(api).create_ip(["plexburst"])
    assert caught.value.kind == kind and words in str(caught.value)
    assert caught.value.is_shortage == (kind in {"quotas_exceeded", "out_of_stock"})


def test_an_echoed_secret_is_cut_out(api: Any) -> None:
    api.answers += [answer(400, {"message": f"bad header x-auth-token: {SECRET}"})]
    with pytest.raises(client.ScalewayError) as caught:
        cloud_at(api).servers()
    assert SECRET not in str(caught.value)


def test_a_deadline_ends_the_retries(api: Any) -> None:
    now = [0.0]
    cloud = cloud_at(api)
    cloud.transport.deadline = client.Deadline(10, clock=lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds + 4

    cloud.transport.sleep = sleep
    api.answers += [answer(500) for _ in range(6)]
    with pytest.raises(client.ScalewayError, match="answered 500"):
        cloud.servers()
    assert len(api.seen) == 3


def test_the_sdk_without_our_wrapper_would_crash_on_an_empty_error() -> None:
    """The reason for ``error_from``: if the SDK ever handles this, the wrapper can become thinner."""
    response = requests.Response()
    response.status_code = 404
    response._content = b""
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert client.error_from(response).kind == "refused"
