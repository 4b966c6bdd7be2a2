"""The server's own calls to plex.tv.

Claim exchange, whose token is this, has the account Plex Pass, the server's name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen
from xml.etree import ElementTree as ET

_TIMEOUT = 15


class ClaimError(Exception):
    """plex.tv did not take the claim token."""


@dataclass(frozen=True, slots=True)
class PlexTv:
    """plex.tv at ``url``; an empty one is a server without internet: every call fails as if there were no network."""

    url: str

    def _call(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        """The body of the answer. Raises OSError (urllib's HTTPError and URLError are OSErrors)."""
        if not self.url:
            raise OSError("no route to plex.tv: PLEX_TV_URL is not set")
        request = Request(self.url + path, method=method, headers=headers)  # noqa: S310 - the sandbox's address
        with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            body: bytes = answer.read()
        return body

    def exchange(self, claim_token: str, identifier: str, name: str, version: str) -> tuple[str, str]:
        """(token, user name) for a claim token. Raises ClaimError."""
        headers = {
            "X-Plex-Client-Identifier": identifier,
            "X-Plex-Device-Name": name,
            "X-Plex-Product": "Plex Media Server",
            "X-Plex-Version": version,
            "X-Plex-Provides": "server",
            "X-Plex-Platform": "Linux",
        }
        try:
            body = self._call("POST", f"/api/claim/exchange?token={quote(claim_token, safe='')}", headers)
            root = ET.fromstring(body)  # noqa: S314 - from the sandbox's own plex.tv
        except HTTPError as error:
            raise ClaimError(f"plex.tv answered {error.code}") from error
        except OSError as error:
            raise ClaimError(f"plex.tv cannot be reached: {error}") from error
        except ET.ParseError as error:
            raise ClaimError(f"plex.tv's answer is not XML: {error}") from error
        token = (root.findtext("authentication-token") or "").strip()
        if not token:
            raise ClaimError("plex.tv's answer holds no token")
        return token, root.get("username") or (root.findtext("username") or "").strip()

    def user(self, token: str) -> dict[str, Any] | None:
        """The account of a token; None when plex.tv does not know it. Raises OSError when plex.tv cannot be asked."""
        try:
            body = self._call("GET", "/api/v2/user", {"X-Plex-Token": token, "Accept": "application/json"})
        except HTTPError as error:
            if error.code == 401:
                return None
            raise
        data: dict[str, Any] = json.loads(body)
        return data

    def rename(self, identifier: str, name: str, token: str) -> None:
        """Tell the account the server's new name. Raises OSError."""
        self._call("PUT", f"/devices/{quote(identifier)}?name={quote(name, safe='')}", {"X-Plex-Token": token})
