"""plex.tv's simulator, asked by plexapi and as pms-docker asks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from plexapi.exceptions import Unauthorized
from plexapi.myplex import MyPlexAccount

from sandbox import plextv

TOKEN = "the-owners-token"
HOME = {"name": "Home", "clientIdentifier": "h" * 40}


class Tv:
    """A simulator, and the session through which plexapi reaches it."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.home = plextv.seed(directory, TOKEN, devices=[HOME])[0]
        self.app = plextv.PlexTv(directory)
        self.url = self.app.start()

    def account(self, token: str = TOKEN) -> MyPlexAccount:
        tv = self

        class Session(requests.Session):
            def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
                return super().request(method, str(url).replace("https://plex.tv", tv.url), *args, **options)

        return MyPlexAccount(token=token, session=Session())

    def exchange(
        self, claim: str, identifier: str | None = "new-server", name: str = "plexburst x"
    ) -> requests.Response:
        headers = {"X-Plex-Product": "Plex Media Server", "X-Plex-Device-Name": name}
        if identifier:
            headers["X-Plex-Client-Identifier"] = identifier
        return requests.post(f"{self.url}/api/claim/exchange", params={"token": claim}, headers=headers, timeout=5)

    def get(self, path: str, token: str | None = None, **headers: str) -> requests.Response:
        if token:
            headers["X-Plex-Token"] = token
        return requests.get(self.url + path, headers=headers, timeout=5)


@pytest.fixture
def tv(tmp_path: Path) -> Iterator[Tv]:
    one = Tv(tmp_path)
    yield one
    one.app.stop()


def server_token(answer: requests.Response) -> str:
    """As pms-docker's script cuts it out."""
    return answer.text.split("<authentication-token>")[1].split("</authentication-token>")[0]


def test_a_claim_makes_a_device_with_a_token_of_its_own(tv: Tv) -> None:
    account = tv.account()
    claim = account.claimToken()
    assert claim.startswith("claim-")
    token = server_token(tv.exchange(claim))
    device = account.device(clientId="new-server")
    assert (device.name, device.product, device.provides, device.token) == (
        "plexburst x",
        "Plex Media Server",
        "server",
        token,
    )
    assert token != TOKEN


def test_a_claim_token_works_once(tv: Tv) -> None:
    claim = tv.account().claimToken()
    assert tv.exchange(claim).ok
    assert tv.exchange(claim, "another").status_code == 404
    assert [device.name for device in tv.account().devices()] == ["Home", "plexburst x"]


def test_a_claim_token_expires(tv: Tv) -> None:
    (tv.dir / "faults").mkdir()
    (tv.dir / "faults" / "plextv.json").write_text(json.dumps({"claim_seconds": 0.1}))
    claim = tv.account().claimToken()
    time.sleep(0.15)
    assert tv.exchange(claim).status_code == 404
    assert plextv.CLAIM_SECONDS == 240


def test_an_invented_claim_token_and_a_server_without_a_name_are_refused(tv: Tv) -> None:
    assert tv.exchange("claim-invented").status_code == 404
    assert tv.exchange(tv.account().claimToken(), identifier=None).status_code == 400
    assert len(tv.account().devices()) == 1


def test_a_removed_device_is_gone_and_its_token_worthless(tv: Tv) -> None:
    account = tv.account()
    token = server_token(tv.exchange(account.claimToken()))
    assert tv.account(token).username == "sandbox"
    account.device(clientId="new-server").delete()
    assert [device.name for device in account.devices()] == ["Home"]
    with pytest.raises(Unauthorized):
        tv.account(token)
    missing = requests.delete(f"{tv.url}/devices/999.xml", headers={"X-Plex-Token": TOKEN}, timeout=5)
    assert missing.status_code == 404


def test_a_server_reports_its_new_name_with_its_own_token_only(tv: Tv) -> None:
    token = server_token(tv.exchange(tv.account().claimToken()))
    url = f"{tv.url}/devices/new-server"
    for stranger in ("nobody", tv.home["token"]):
        answer = requests.put(url, params={"name": "stolen"}, headers={"X-Plex-Token": stranger}, timeout=5)
        assert answer.status_code == 401
    assert requests.put(url, params={"name": "renamed", "X-Plex-Token": token}, timeout=5).ok
    assert tv.account().device(clientId="new-server").name == "renamed"


@pytest.mark.parametrize("path", ["/devices.xml", "/api/v2/user", "/api/claim/token.json"])
def test_without_a_token_it_is_401(tv: Tv, path: str) -> None:
    assert tv.get(path).status_code == 401
    assert tv.get(path, "wrong").status_code == 401
    (tv.dir / "faults").mkdir()
    (tv.dir / "faults" / "plextv.json").write_text('{"unauthorized": true}')
    assert tv.get(path, TOKEN).status_code == 401


def test_a_servers_token_may_not_make_claim_tokens(tv: Tv) -> None:
    assert tv.get("/api/claim/token.json", tv.home["token"]).status_code == 401


def test_the_user_is_xml_or_json_and_says_whether_there_is_plex_pass(tv: Tv) -> None:
    account = tv.account()
    assert account.subscriptionActive
    assert "music-analysis" in account.subscriptionFeatures
    assert tv.get("/api/v2/user", TOKEN, Accept="application/json").json()["subscription"]["active"] is True
    (tv.dir / "faults").mkdir()
    (tv.dir / "faults" / "plextv.json").write_text('{"no_plex_pass": true, "error_500": 1}')
    assert tv.get("/api/v2/user", TOKEN).status_code == 500
    assert tv.account().subscriptionActive is False


def test_devices_and_claims_survive_a_restart_and_seeding_again_changes_nothing(tv: Tv) -> None:
    claim = tv.account().claimToken()
    tv.app.stop()
    again = Tv(tv.dir)
    try:
        assert again.home == tv.home
        assert again.exchange(claim).ok
    finally:
        again.app.stop()
    for name in ("plextv-state.json", "plex-account-token"):
        assert (tv.dir / name).stat().st_mode & 0o077 == 0


def test_an_unknown_route_is_404(tv: Tv) -> None:
    assert tv.get("/api/v2/unknown", TOKEN).status_code == 404
