"""Wait until a Plex server is ready, by the steps of docs/plex-facts.md#readiness, and record every try.

1 `/identity` answers 200 with a MediaContainer (503 Maintenance = it migrates its database: keep waiting, it is no
failure);
2 `claimed` is as expected; 3 an authenticated `/library/sections` answers 200; 4 `/` gives version and Plex Pass;
5 as many sections as the injected database has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import NotReady, PlexAnswerError, PlexError, PlexMaintenance, PlexUnauthorized, PlexUnreachable
from .sections import list_sections

if TYPE_CHECKING:
    from .client import PlexClient
    from .sections import Section

TRIES_KEPT = 40
BODY_KEPT = 300


@dataclass(slots=True)
class Try:
    """One observation of the server. `seconds` since the start; `times`: number of equal observations in a row."""

    seconds: float
    step: str
    http_status: int
    body: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Server:
    """A ready server, from `/identity` and `/`."""

    machine_identifier: str
    version: str
    friendly_name: str
    claimed: bool
    plex_pass: bool
    platform: str
    sign_in_state: str
    username: str


@dataclass(slots=True)
class Waiting:
    """The tries so far; only the first and the last ones are kept."""

    tries: list[Try] = field(default_factory=list)
    dropped: int = 0

    def note(self, entry: Try) -> None:
        """Add a try."""
        last = self.tries[-1] if self.tries else None
        if last is not None and (last.step, last.http_status, last.body) == (entry.step, entry.http_status, entry.body):
            last.times += 1
            last.seconds = entry.seconds
            return
        if len(self.tries) >= TRIES_KEPT:
            del self.tries[TRIES_KEPT // 2]
            self.dropped += 1
        self.tries.append(entry)

    def plain(self) -> list[dict[str, Any]]:
        """Return the tries as the module's result."""
        return [asdict(entry) for entry in self.tries]


@dataclass(frozen=True, slots=True)
class Ready:
    """The result of the waiting."""

    server: Server
    sections: list[Section]
    waiting: Waiting
    seconds: float


def describe_server(client: PlexClient) -> Server:
    """Version, name and Plex Pass from `/` (authenticated) and `/identity`."""
    identity = client.identity()
    root = client.call("GET", "/").xml()
    return Server(
        machine_identifier=identity.machine_identifier,
        version=root.get("version", identity.version),
        friendly_name=root.get("friendlyName", ""),
        claimed=identity.claimed,
        plex_pass=root.get("myPlexSubscription", "0") in ("1", "true"),
        platform=root.get("platform", ""),
        sign_in_state=root.get("myPlexSigninState", ""),
        username=root.get("myPlexUsername", ""),
    )


def wait_ready(
    client: PlexClient,
    *,
    deadline: float,
    poll: float,
    expect_sections: int | None = None,
    expect_claimed: bool | None = None,
    find_token: Callable[[], str] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Ready:
    """Look every `poll` seconds until the server is ready or `deadline` seconds have passed.

    `find_token` is asked for the token again at each try while the client has none (it appears late in
    Preferences.xml).
    Raises NotReady with the tries, the last problem, and for how long.
    """
    started = clock()
    waiting = Waiting()
    step = "identity"
    while True:
        status, words = 0, ""
        try:
            step = "identity"
            identity = client.identity(retries=0)
            if expect_claimed is not None and identity.claimed != expect_claimed:
                step, status = "claimed", 200
                words = f"claimed is {identity.claimed}, expected {expect_claimed}"
            else:
                if find_token is not None and not client.token:
                    client.token = find_token()
                step = "token"
                if find_token is not None and not client.token and identity.claimed:
                    status, words = 200, "the server is claimed but Preferences.xml contains no PlexOnlineToken yet"
                else:
                    step = "sections"
                    sections = list_sections(client, retries=0)
                    if expect_sections is not None and len(sections) < expect_sections:
                        status = 200
                        words = f"{len(sections)} sections, expected {expect_sections}"
                    else:
                        step = "server"
                        server = describe_server(client)
                        waiting.note(Try(round(clock() - started, 2), "ready", 200, ""))
                        return Ready(server, sections, waiting, round(clock() - started, 2))
        except PlexUnreachable as error:
            words = error.message
        except (PlexMaintenance, PlexAnswerError, PlexUnauthorized) as error:
            status = int(error.details.get("http_status", 0))
            words = str(error.details.get("body") or error.message)
        except PlexError as error:
            status, words = int(error.details.get("http_status", 0)), error.message
        elapsed = clock() - started
        waiting.note(Try(round(elapsed, 2), step, status, client.mask(words)[:BODY_KEPT]))
        if elapsed + poll > deadline:
            raise not_ready(waiting, elapsed, client.base_url)
        sleep(poll)


def not_ready(waiting: Waiting, elapsed: float, url: str) -> NotReady:
    """Return the failure's message: duration, state, and what to check."""
    last = waiting.tries[-1]
    hint = {
        "identity": (
            "Plex migrates its database or does start-up maintenance, which can take long for several GB. Raise the "
            "deadline (plexburst_ready_timeout), or check its log for an error that repeats."
            if last.http_status == 503
            else "Check the server's log below; a restart loop ('database disk image is malformed') appears only there."
        ),
        "claimed": "Claim it again. A claim token is valid for 4 minutes, and a failed claim prints nothing.",
        "token": "The claim is not in Preferences.xml. Claim it again.",
        "sections": ("The token does not belong to the owner, or the server did not open the uploaded database."),
        "server": "It answers only some requests. Check its log below.",
    }.get(last.step, "")
    state = f"HTTP {last.http_status}" if last.http_status else "no answer"
    return NotReady(
        f"Plex at {url} was not ready after {elapsed:.0f} s. The last result ({last.step}, {last.times} "
        f"times): {state}: {last.body}. {hint}",
        tries=waiting.plain(),
        tries_dropped=waiting.dropped,
        step=last.step,
        http_status=last.http_status,
        waited=round(elapsed, 1),
    )
