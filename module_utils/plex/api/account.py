"""The owner's account at plex.tv: claim tokens, and the device list from which a run's server is removed.

plexapi has these calls, but with a fixed address of plex.tv; the sandbox has its own plex.tv.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AccountError, PlexAnswerError, PlexError, PlexUnauthorized, PlexUnreachable
from .client import PlexClient

if TYPE_CHECKING:
    from .client import Answer

SERVER_ERRORS_TRIES = 4


@dataclass(frozen=True, slots=True)
class Device:
    """One row of /devices.xml; `identifier` is a server's machineIdentifier. Tokens are left out."""

    id: str
    name: str
    product: str
    identifier: str
    provides: str


def read_token_file(path: str) -> str:
    """Return the account token of a 0600 file. Raises AccountError if it is missing, empty or readable by others."""
    file = Path(path).expanduser()
    try:
        mode = file.stat().st_mode & 0o077
        token = file.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise AccountError(
            f"The account token file {file} does not exist. Write the owner's plex.tv token to it."
        ) from error
    except PermissionError as error:
        raise AccountError(f"The account token file {file} is not readable by this user. Change its owner.") from error
    if mode:
        raise AccountError(f"The account token file {file} can be read by others. Run `chmod 600 {file}`.")
    if not token or any(character.isspace() for character in token):
        raise AccountError(f"The account token file {file} must contain exactly one token. Write only the token to it.")
    return token


@dataclass(slots=True)
class Account:
    """Calls to plex.tv at `url` with the token of `token_file`."""

    url: str
    token_file: str
    timeout: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def _call(self, method: str, path: str, *, accept: tuple[int, ...] = (200, 201, 204)) -> Answer:
        client = PlexClient(
            self.url, read_token_file(self.token_file), timeout=self.timeout, retries=2, sleep=self.sleep
        )
        problem = PlexError("no answer")
        for attempt in range(SERVER_ERRORS_TRIES):
            if attempt:
                self.sleep(min(0.5 * 2**attempt, 8.0))
            try:
                return client.call(method, path, accept=accept)
            except PlexUnauthorized as error:
                raise AccountError(
                    f"plex.tv does not accept the account token of {self.token_file} (HTTP 401). It was revoked, "
                    "or belongs to another server. Write the owner's current token to that file.",
                    http_status=401,
                ) from error
            except PlexUnreachable as error:
                raise AccountError(f"plex.tv at {self.url} cannot be reached. {error.message}") from error
            except PlexAnswerError as error:
                problem = error
                if int(error.details.get("http_status", 0)) < 500:
                    break
        raise AccountError(
            f"plex.tv refused {method} {path}: {problem.message} ({SERVER_ERRORS_TRIES} tries at most).",
            **problem.details,
        )

    def claim_token(self) -> str:
        """Return a new claim token, valid for 4 minutes. It is a secret; the caller keeps it out of logs."""
        answer = self._call("GET", "/api/claim/token.json")
        try:
            token = json.loads(answer.body)["token"]
        except (ValueError, KeyError, TypeError) as error:
            raise AccountError("plex.tv's answer to the request for a claim token contains no token.") from error
        if not str(token).startswith("claim-"):
            raise AccountError("plex.tv gave a claim token that does not begin with 'claim-'.")
        return str(token)

    def devices(self) -> list[Device]:
        """Return all devices registered with the account."""
        root = self._call("GET", "/devices.xml").xml()
        return [
            Device(
                id=element.get("id", ""),
                name=element.get("name", ""),
                product=element.get("product", ""),
                identifier=element.get("clientIdentifier", ""),
                provides=element.get("provides", ""),
            )
            for element in root.iter("Device")
        ]

    def find(self, *, identifier: str = "", name: str = "") -> list[Device]:
        """Return the account's Plex Media Servers with this machine identifier or, without one, this exact name."""
        return [
            device
            for device in self.devices()
            if device.product == "Plex Media Server"
            and (device.identifier == identifier if identifier else bool(name) and device.name == name)
        ]

    def remove(self, device: Device) -> None:
        """Remove one device; a missing device (404) is not an error."""
        self._call("DELETE", f"/devices/{device.id}.xml", accept=(200, 201, 202, 204, 404))
