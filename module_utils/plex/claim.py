"""Claiming and unclaiming a server over its own loopback.

Claiming by API leaves no token in the container's environment. The name is set first: it is what the account's device
list
shows, so that a ghost can be told from home.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ansible_collections.plexburst.core.plugins.module_utils.plex import preferences
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import (
    ClaimFailed,
    PlexAnswerError,
    PlexUnauthorized,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.sections import list_sections

if TYPE_CHECKING:
    from ansible_collections.plexburst.core.plugins.module_utils.plex.client import Identity, PlexClient

POLL = 0.5


@dataclass(frozen=True, slots=True)
class Claimed:
    """The server after it: `changed` says whether anything was done, `previous_name` what it was called before."""

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
    """Make the server belong to the account the claim token came from, and wait until it shows.

    Proved by /identity, by PlexOnlineToken in Preferences.xml (it appears seconds later) and by an authenticated
    request.
    Sets client.token. Idempotent: a claimed server whose token works is left alone. Raises ClaimFailed.
    """
    identity = client.identity()
    if identity.claimed:
        client.token = client.token or preferences.read_token(preferences_file)
        if not client.token:
            raise ClaimFailed(
                f"The server is claimed, but {preferences_file} holds no PlexOnlineToken, so it belongs to "
                "somebody whose "
                "token is not here. Unclaim it, or give its token."
            )
        list_sections(client)
        return Claimed(changed=False, identity=identity, token_present=True, previous_name=_name(client))
    if not claim_token.startswith("claim-"):
        raise ClaimFailed("A claim token begins with 'claim-'; the given one does not. Fetch it with plex_account.")
    client.secrets = (*client.secrets, claim_token)
    client.token = ""
    previous = _name(client)
    if name:
        preferences.apply(client, {"FriendlyName": name})
    try:
        client.call("POST", "/myplex/claim", params={"token": claim_token}, timeout=max(client.timeout, 60.0))
    except (PlexAnswerError, PlexUnauthorized) as error:
        raise ClaimFailed(
            f"Plex did not accept the claim: {error.message} A claim token lives 4 minutes and is used "
            "once; fetch a new "
            "one in that second, and check that the server can reach plex.tv.",
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
    """Sign the server out of its account. Idempotent. Raises ClaimFailed when it still says claimed afterwards.

    `name` is what it is called from then on; a name given back earlier would be published to the account, which finds
    the run's device by the run's name.
    """
    identity = client.identity()
    if not identity.claimed:
        renamed = name is not None and name != _name(client)
        if renamed:
            preferences.apply(client, {"FriendlyName": name})
        return Claimed(changed=renamed, identity=identity, token_present=False)
    if not client.token:
        raise ClaimFailed(
            "The server is claimed, and without its token it cannot be unclaimed. Give token or preferences_file."
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
