"""Claiming and unclaiming a server over its own loopback.

Claiming by API leaves no token in the container's environment. The name is set first, because the account's
device list shows it and a leftover device can be told from home.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ClaimFailed, PlexAnswerError, PlexUnauthorized
from . import preferences
from .sections import list_sections

if TYPE_CHECKING:
    from .client import Identity, PlexClient

POLL = 0.5


@dataclass(frozen=True, slots=True)
class Claimed:
    """The server afterwards. `changed`: whether anything was done; `previous_name`: its name before."""

    changed: bool
    identity: Identity
    token_present: bool
    previous_name: str = ""


def _wait(
    probe: Callable[[], bool], deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]
) -> bool:
    end = clock() + deadline
    while True:
        if probe():
            return True
        if clock() >= end:
            return False
        sleep(POLL)


def claim(
    client: PlexClient,
    claim_token: str,
    *,
    preferences_file: str,
    name: str = "",
    deadline: float = 120.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Claimed:
    """Claim the server for the account of the claim token, and wait until this is confirmed.

    Confirmed by /identity, by PlexOnlineToken in Preferences.xml (which appears seconds later) and by an authenticated
    request. Sets client.token. Idempotent: a claimed server with a valid token is not changed. Raises ClaimFailed.
    """
    identity = client.identity()
    if identity.claimed:
        client.token = client.token or preferences.read_token(preferences_file)
        if not client.token:
            raise ClaimFailed(
                f"The server is claimed, but {preferences_file} contains no PlexOnlineToken, so its token is unknown. "
                "Unclaim the server, or pass its token."
            )
        list_sections(client)
        return Claimed(changed=False, identity=identity, token_present=True, previous_name=_name(client))
    if not claim_token.startswith("claim-"):
        raise ClaimFailed("The given claim token does not begin with 'claim-'. Get one with plex_account.")
    client.secrets = (*client.secrets, claim_token)
    client.token = ""
    previous = _name(client)
    if name:
        preferences.apply(client, {"FriendlyName": name})
    try:
        client.call("POST", "/myplex/claim", params={"token": claim_token}, timeout=max(client.timeout, 60.0))
    except (PlexAnswerError, PlexUnauthorized) as error:
        raise ClaimFailed(
            f"Plex did not accept the claim: {error.message} A claim token is valid for 4 minutes and once. "
            "Get a new one immediately before the claim, and check that the server can reach plex.tv.",
            **error.details,
        ) from error
    if not _wait(lambda: client.identity().claimed, deadline, clock, sleep):
        raise ClaimFailed(f"Plex accepted the claim, but /identity still says unclaimed after {deadline:g} s.")

    def token_is_there() -> bool:
        client.token = preferences.read_token(preferences_file)
        return bool(client.token)

    if not _wait(token_is_there, deadline, clock, sleep):
        raise ClaimFailed(
            f"The server is claimed, but no PlexOnlineToken appeared in {preferences_file} within {deadline:g} s."
        )
    list_sections(client)
    return Claimed(changed=True, identity=client.identity(), token_present=True, previous_name=previous)


def _name(client: PlexClient) -> str:
    known = preferences.read_all(client)
    return str(known["FriendlyName"].value) if "FriendlyName" in known else ""


def unclaim(
    client: PlexClient,
    *,
    name: str | None = None,
    deadline: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Claimed:
    """Sign the server out of its account. Idempotent. Raises ClaimFailed when it is still claimed afterwards.

    `name` is the server's new name. It is set last, because a name restored earlier would be published to the account,
    where the run's device is found by the run's name.
    """
    identity = client.identity()
    if not identity.claimed:
        renamed = name is not None and name != _name(client)
        if renamed:
            preferences.apply(client, {"FriendlyName": name})
        return Claimed(changed=renamed, identity=identity, token_present=False)
    if not client.token:
        raise ClaimFailed(
            "The server is claimed, but its token is missing, so it cannot be unclaimed. Set token or preferences_file."
        )
    client.call("DELETE", "/myplex/account")
    if not _wait(lambda: not client.identity().claimed, deadline, clock, sleep):
        raise ClaimFailed(
            f"Plex accepted the sign-out, but /identity still says claimed after {deadline:g} s. Remove "
            "the device at plex.tv."
        )
    client.token = ""
    if name is not None:
        preferences.apply(client, {"FriendlyName": name})
    return Claimed(changed=True, identity=client.identity(), token_present=False)
