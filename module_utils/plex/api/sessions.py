"""What a stop of a Plex server would interrupt now: playback, recordings, downloads and conversions.

Requests (plex-api-spec.yaml, each with the server's own token, which is an administrator's):

- `/status/sessions`: playbacks, with user and player. A paused one counts, because stopping Plex would end it.
- `/livetv/sessions`: tuned channels, which may exist without playback.
- `/media/subscriptions/scheduled`: recordings, each a MediaGrabOperation with a status. A server without DVR
  answers 404, or 403 ("User cannot access DVR on this server").
- `/activities`: a download to a player is an activity `media.download` (shape: Tautulli issue 1451).
- `/status/sessions/background`: files that are being converted, for a download or as an optimised version.

Not available: the download queues of players. The API shows a queue only to its own client
(`/downloadQueue/{queueId}`), so a download that waits between two files is not seen. It continues after the restart.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import PlexAnswerError
from .client import PlexClient

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

IDLE_GRABS = frozenset({"inactive", "scheduled", "complete", "cancelled", "error"})
"""Statuses of a MediaGrabOperation that is not recording; all others, also unknown ones, count as recording."""
NO_DVR = (403, 404)
DOWNLOAD = "media.download"
_DOES = {"track": "listens to", "photo": "looks at"}


@dataclass(frozen=True, slots=True)
class Busy:
    """Something that a stop would interrupt. `kind`: watching, recording, downloading or converting."""

    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Look:
    """What the server was doing, and its version."""

    version: str
    busy: tuple[Busy, ...]

    def plain(self) -> dict[str, Any]:
        """As a module's result."""
        return {"version": self.version, "busy": [asdict(entry) for entry in self.busy]}


def look(client: PlexClient) -> Look:
    """Return one observation. Raises PlexError when a request fails, because an unknown state is not idle."""
    version = client.identity().version
    busy = [
        *(_watching(entry) for entry in _entries(client, "/status/sessions")),
        *(
            Busy("watching", f"live TV is tuned to {_title(entry)}")
            for entry in _entries(client, "/livetv/sessions", absent=NO_DVR)
        ),
        *_recordings(client),
        *(
            Busy("downloading", f"{_quoted(entry.get('subtitle', ''))} is downloaded to a player{_percent(entry)}")
            for entry in _entries(client, "/activities")
            if entry.get("type") == DOWNLOAD
        ),
        *(
            Busy("converting", f"{_title(entry)} is converted{_percent(entry)}")
            for entry in _entries(client, "/status/sessions/background")
        ),
    ]
    return Look(version, tuple(busy))


def _entries(client: PlexClient, path: str, absent: tuple[int, ...] = ()) -> list[Element]:
    """Return the entries of a container; none if the status is in `absent`, which means that the feature is missing."""
    answer = client.call("GET", path, accept=(200, *absent))
    if answer.status in absent:
        return []
    root = answer.xml()
    if root.tag != "MediaContainer":
        raise PlexAnswerError(
            f"GET {path} answered {answer.status}, but with <{root.tag}> instead of a MediaContainer."
        )
    return list(root)


def _recordings(client: PlexClient) -> list[Busy]:
    found = []
    for grab in _entries(client, "/media/subscriptions/scheduled", absent=NO_DVR):
        status = grab.get("status", "")
        if status in IDLE_GRABS:
            continue
        item = next((child for child in grab if child.get("title")), None)
        what = "something" if item is None else _title(item)
        words = "" if status == "inprogress" else f" ({status or 'status unknown'})"
        found.append(Busy("recording", f"{what} is recorded{words}{_percent(grab, 'percent')}"))
    return found


def _watching(entry: Element) -> Busy:
    user, player = entry.find("User"), entry.find("Player")
    who = (user.get("title", "") if user is not None else "") or "somebody"
    words = f"{who} {_DOES.get(entry.get('type', ''), 'watches')} {_title(entry)}"
    if player is not None:
        words += f" on {player.get('title')}" if player.get("title") else ""
        words += " (paused)" if player.get("state") == "paused" else ""
    return Busy("watching", words)


def _title(entry: Element) -> str:
    """'Show: Episode', or the title alone."""
    titles = [text for text in (entry.get("grandparentTitle"), entry.get("title")) if text]
    return _quoted(": ".join(titles))


def _quoted(text: str) -> str:
    return f"'{text}'" if text else "something"


def _percent(entry: Element, name: str = "progress") -> str:
    """Return the progress; -1 means unknown."""
    try:
        percent = float(entry.get(name, ""))
    except ValueError:
        return ""
    return f", {percent:.0f} %" if percent >= 0 else ""
