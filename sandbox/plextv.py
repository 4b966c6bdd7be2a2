"""plex.tv, as far as a run needs it: claim tokens, the servers they make, the account's devices.

    python -m sandbox.plextv --dir FOLDER --port PORT [--host ADDRESS] [--home-device NAME:ID]
    seed(FOLDER, account_token, devices=[{"name": "Home", "clientIdentifier": "…"}])     before it starts

| route | who may | what |
|---|---|---|
| GET /api/claim/token.json | the account | a claim token: 240 s, once |
| POST /api/claim/exchange?token= | who has one | registers the server X-Plex-Client-Identifier, gives it its token |
| GET /devices.xml | account, its servers | every device, tokens included, as the real one shows them |
| DELETE /devices/{id}.xml | account, its servers | removes one; its token is worthless from then on |
| PUT /devices/{clientIdentifier}?name= | that server, account | the server reports itself [?] |
| GET /api/v2/user, /api/v2/ping | account, its servers | XML, or JSON when asked for |

[?]: that a server's report carries its `name` is the simulator's own.

The account's token is in FOLDER/plex-account-token, the rest in FOLDER/plextv-state.json (both 0600).
Faults (`plextv`): unauthorized, error_500: n, no_plex_pass, claim_seconds: s (instead of 240).
Sources: docs/plex-facts.md#claim-tokens for the exchange, plexapi 4.18 (`MyPlexAccount`, `MyPlexDevice`) for the
shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import string
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from sandbox.faults import Faults
from sandbox.httpd import Request, Response, Simulator

Record = dict[str, Any]
CLAIM_SECONDS = 240.0
_TOKEN_ALPHABET = string.ascii_letters + string.digits + "-_"


def _secret() -> str:
    """20 characters, as Plex's tokens have."""
    return "".join(secrets.choice(_TOKEN_ALPHABET) for _ in range(20))


class Account:
    """The one account of the sandbox with its devices and claim tokens, on disk after every change."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "plextv-state.json"
        self._token_path = directory / "plex-account-token"
        self._lock = threading.RLock()
        self.devices: list[Record] = []
        self.claims: dict[str, float] = {}
        self.next_id = 100_001
        if self._path.is_file():
            data = json.loads(self._path.read_text(encoding="utf-8"))
            self.devices, self.claims, self.next_id = data["devices"], data["claims"], data["next_id"]
        self.token = self._token_path.read_text(encoding="utf-8").strip() if self._token_path.is_file() else ""
        if not self.token:
            self.set_token(_secret())

    def set_token(self, token: str) -> None:
        """Make this the owner's token."""
        self.token = token
        _write_private(self._token_path, token + "\n")

    def new_claim(self, seconds: float) -> str:
        """A claim token that lives `seconds`."""
        with self._lock:
            claim = f"claim-{_secret()}"
            self.claims[claim] = time.time() + seconds
            self._save()
            return claim

    def use_claim(self, claim: str) -> bool:
        """Whether the token was good; it is not any more."""
        with self._lock:
            expires = self.claims.pop(claim, 0.0)
            self._save()
            return time.time() < expires

    def register(self, client_identifier: str, **attributes: str) -> Record:
        """Make or renew the device of a server, with a fresh token unless one is given."""
        with self._lock:
            device = self.find(client_identifier)
            now = str(int(time.time()))
            if device is None:
                device = {"id": str(self.next_id), "clientIdentifier": client_identifier, "createdAt": now}
                self.next_id += 1
                self.devices.append(device)
            device |= {"token": _secret(), "lastSeenAt": now, **attributes}
            self._save()
            return dict(device)

    def update(self, client_identifier: str, **attributes: str) -> None:
        """Change a device that exists."""
        with self._lock:
            device = self.find(client_identifier)
            if device is None:
                raise KeyError(client_identifier)
            device |= attributes
            self._save()

    def remove(self, device_id: str) -> bool:
        """Forget a device; False when there was none."""
        with self._lock:
            kept = [device for device in self.devices if device["id"] != device_id]
            found = len(kept) < len(self.devices)
            self.devices = kept
            self._save()
            return found

    def find(self, client_identifier: str) -> Record | None:
        """A device by its clientIdentifier (a server's machineIdentifier)."""
        return next((one for one in self.devices if one["clientIdentifier"] == client_identifier), None)

    def owner_of(self, token: str) -> Record | None:
        """The device a token belongs to."""
        return next((one for one in self.devices if one["token"] == token), None)

    def _save(self) -> None:
        data = {"devices": self.devices, "claims": self.claims, "next_id": self.next_id}
        _write_private(self._path, json.dumps(data, indent=2) + "\n")


def seed(
    directory: Path, account_token: str | None = None, *, devices: Sequence[Mapping[str, str]] = ()
) -> list[Record]:
    """Set the owner's token and register devices that were there before; returns them, with their tokens.

    `devices` are XML attributes: name and clientIdentifier at least; token may be given. A known one stays as it is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    account = Account(directory)
    if account_token:
        account.set_token(account_token)
    known = {one["clientIdentifier"] for one in account.devices}
    for device in devices:
        if device["clientIdentifier"] not in known:
            account.register(**{**_SERVER, **{_python(name): value for name, value in device.items()}})
    return account.devices


_SERVER = {
    "product": "Plex Media Server",
    "productVersion": "",
    "platform": "Linux",
    "platformVersion": "",
    "device": "PC",
    "model": "x86_64",
    "vendor": "Debian",
    "provides": "server",
    "version": "",
    "publicAddress": "127.0.0.1",
    "screenResolution": "",
    "screenDensity": "",
}


def _python(name: str) -> str:
    return "client_identifier" if name == "clientIdentifier" else name


class PlexTv(Simulator):
    """The HTTP side."""

    def __init__(self, directory: Path) -> None:
        super().__init__("plextv", Faults(directory / "faults" / "plextv.json"))
        self.account = Account(directory)
        self.route("GET", "/api/claim/token.json", self._owner(self._claim_token))
        self.route("POST", "/api/claim/exchange", self._exchange)
        self.route("GET", "/devices.xml", self._anyone(self._devices))
        self.route("DELETE", "/devices/{device_id}.xml", self._anyone(self._delete_device))
        self.route("PUT", "/devices/{client_identifier}", self._report)
        self.route("GET", "/api/v2/user", self._anyone(self._user))
        self.route("GET", "/api/v2/ping", lambda request: _v2(request, ET.Element("pong", pong="1"), {"pong": True}))

    def before(self, request: Request) -> Response | None:
        """Faults."""
        assert self.faults is not None  # noqa: S101 - given in __init__
        if self.faults.take("error_500"):
            return Response.text("Internal Server Error", 500)
        if self.faults.get("unauthorized"):
            return _unauthorized(request)
        return None

    def _owner(self, handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def checked(request: Request) -> Response:
            return handler(request) if _token(request) == self.account.token else _unauthorized(request)

        return checked

    def _anyone(self, handler: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def checked(request: Request) -> Response:
            token = _token(request)
            known = token == self.account.token or (token and self.account.owner_of(token))
            return handler(request) if known else _unauthorized(request)

        return checked

    def _fault(self, name: str, default: Any = None) -> Any:
        assert self.faults is not None  # noqa: S101 - given in __init__
        return self.faults.get(name, default)

    def _claim_token(self, _request: Request) -> Response:
        return Response.json({"token": self.account.new_claim(float(self._fault("claim_seconds", CLAIM_SECONDS)))})

    def _exchange(self, request: Request) -> Response:
        identifier = request.header("x-plex-client-identifier")
        if not identifier:
            return _xml_error(400, "X-Plex-Client-Identifier is missing")
        if not self.account.use_claim(request.arg("token")):
            return _xml_error(404, "Invalid or expired claim token")
        headers = {
            "product": "x-plex-product",
            "productVersion": "x-plex-version",
            "platform": "x-plex-platform",
            "platformVersion": "x-plex-platform-version",
            "device": "x-plex-device",
            "model": "x-plex-model",
            "provides": "x-plex-provides",
        }
        said = {name: value for name, header in headers.items() if (value := request.header(header))}
        device = self.account.register(
            identifier, **{**_SERVER, **said, "name": request.header("x-plex-device-name") or "PlexMediaServer"}
        )
        user = ET.Element("user", self._profile(), authToken=device["token"], authenticationToken=device["token"])
        for name, value in self._profile().items():
            ET.SubElement(user, name).text = value
        ET.SubElement(user, "authentication-token").text = device["token"]
        return Response.xml(user, 201)

    def _devices(self, _request: Request) -> Response:
        root = ET.Element("MediaContainer", publicAddress="127.0.0.1")
        for device in self.account.devices:
            element = ET.SubElement(root, "Device", {name: str(value) for name, value in device.items()})
            if device["provides"] == "server":
                ET.SubElement(element, "Connection", uri="http://127.0.0.1:32400")
        return Response.xml(root)

    def _delete_device(self, request: Request) -> Response:
        if not self.account.remove(request.params["device_id"]):
            return _xml_error(404, "Device not found")
        return Response(204)

    def _report(self, request: Request) -> Response:
        identifier = request.params["client_identifier"]
        device = self.account.find(identifier)
        token = _token(request)
        if token != self.account.token and (device is None or token != device["token"]):
            return _unauthorized(request)
        if device is None:
            return _xml_error(404, "Device not found")
        changes = {"lastSeenAt": str(int(time.time()))}
        if request.arg("name"):
            changes["name"] = request.arg("name")
        self.account.update(identifier, **changes)
        return Response.xml(ET.Element("MediaContainer", size="0"))

    def _profile(self) -> dict[str, str]:
        return {
            "id": "1000001",
            "uuid": "5b0c0de5a0d5b0c0",
            "username": "sandbox",
            "title": "sandbox",
            "email": "owner@sandbox.invalid",
        }

    def _user(self, request: Request) -> Response:
        active = not self._fault("no_plex_pass")
        profile = {**self._profile(), "authToken": _token(request)}
        features = ["music-analysis", "pass", "webhooks"] if active else []
        status = "Active" if active else "Inactive"
        plan = "lifetime" if active else None
        value = {
            **profile,
            "id": int(profile["id"]),
            "friendlyName": "",
            "home": False,
            "subscription": {"active": active, "status": status, "plan": plan, "features": features},
            "roles": ["plexpass"] if active else [],
        }
        extra = {"friendlyName": "", "home": "0", "homeSize": "1", "scrobbleTypes": "0", "confirmed": "1", "guest": "0"}
        root = ET.Element("user", {**profile, **extra})
        subscription = ET.SubElement(root, "subscription", active=str(int(active)), status=status, plan=plan or "")
        names = ET.SubElement(subscription, "features")
        for feature in features:
            ET.SubElement(names, "feature", id=feature)
        ET.SubElement(root, "profile", autoSelectAudio="1", autoSelectSubtitle="0")
        ET.SubElement(root, "entitlements")
        roles = ET.SubElement(root, "roles")
        if active:
            ET.SubElement(roles, "role", id="plexpass")
        return _v2(request, root, value)


def _token(request: Request) -> str:
    return request.header("x-plex-token") or request.arg("X-Plex-Token")


def _wants_json(request: Request) -> bool:
    return "application/json" in request.header("accept") or request.path.endswith(".json")


def _v2(request: Request, root: ET.Element, value: Any, status: int = 200) -> Response:
    return Response.json(value, status) if _wants_json(request) else Response.xml(root, status)


def _unauthorized(request: Request) -> Response:
    if not request.path.startswith("/api/v2/") and not _wants_json(request):
        return _xml_error(401, "Invalid authentication token.")
    if request.path.startswith("/api/claim/"):
        return Response.json({"error": "Invalid authentication token."}, 401)
    words = {"code": "1001", "message": "User could not be authenticated", "status": "401"}
    root = ET.Element("errors")
    ET.SubElement(root, "error", words)
    return _v2(request, root, {"errors": [{**words, "code": 1001, "status": 401}]}, 401)


def _xml_error(status: int, message: str) -> Response:
    root = ET.Element("errors")
    ET.SubElement(root, "error").text = message
    return Response.xml(root, status)


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def main() -> int:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.plextv", description="The plex.tv simulator.")
    parser.add_argument("--dir", required=True, type=Path, help="the sandbox's folder")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--host", "--bind", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--home-device", action="append", default=[], metavar="NAME:ID", help="a server known before")
    options = parser.parse_args()
    directory = options.dir.resolve()
    pairs = [text.rpartition(":") for text in options.home_device]
    seed(directory, devices=[{"name": name, "clientIdentifier": identifier} for name, _, identifier in pairs])
    PlexTv(directory).serve(options.port, options.host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
