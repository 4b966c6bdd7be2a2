"""What people do with the server just now, by its faults: play, download, record, and what it converts for them.

Shapes: ``/status/sessions``, ``/status/sessions/background``, ``/livetv/sessions`` and
``/media/subscriptions/scheduled`` of the OpenAPI description; the activity ``media.download``: Tautulli issue 1451.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sandbox.httpd import Reply, Request, Response
from sandbox.plex.nodes import Node, container, refuse, respond
from sandbox.plex.runtime import Runtime

# One object in JSON, where XML has a child like any other.
_SINGLE = ("User", "Player", "Session")


class Household:
    """Answers for the routes; `nodes` renders the items of a list of rating keys, those that exist."""

    def __init__(self, runtime: Runtime, nodes: Callable[[list[int]], list[Node]]) -> None:
        self.runtime = runtime
        self._nodes = nodes

    def sessions(self, request: Request) -> Response:
        """Playbacks: whoever the fault ``playing`` (a list of rating keys) says is watching."""
        account = self.runtime.preferences.get("PlexOnlineUsername") or "Administrator"
        nodes = self._affected("playing")
        for number, node in enumerate(nodes, 1):
            node.attributes["sessionKey"] = str(number)
            node.add(Node("User", {"id": "1", "title": account}))
            node.add(
                Node(
                    "Player",
                    {
                        "address": "127.0.0.1",
                        "local": True,
                        "machineIdentifier": f"player-{number}",
                        "platform": "Linux",
                        "product": "Plex for Linux",
                        "state": "playing",
                        "title": "Living room",
                        "userID": 1,
                    },
                )
            )
            node.add(Node("Session", {"id": f"session-{number}", "bandwidth": 320, "location": "lan"}))
        return self._respond(request, container(nodes), "Metadata", _SINGLE)

    def downloads(self) -> list[Node]:
        """Activities of the rating keys of the fault ``downloading``: a download to a player shows nowhere else."""
        return [
            Node(
                "Activity",
                {
                    "uuid": f"download-{item.attributes['ratingKey']}",
                    "type": "media.download",
                    "cancellable": False,
                    "userID": 1,
                    "title": "Downloading Media",
                    "subtitle": item.attributes["title"],
                    "progress": 40,
                },
            )
            for item in self._affected("downloading")
        ]

    def conversions(self, request: Request) -> Response:
        """Background transcodes: the rating keys of the fault ``converting``."""
        nodes = [
            Node(
                "TranscodeJob",
                {
                    "type": "transcode",
                    "key": f"/status/sessions/background/{item.attributes['ratingKey']}",
                    "ratingKey": item.attributes["ratingKey"],
                    "title": item.attributes["title"],
                    "progress": 12.5,
                    "remaining": 60,
                    "size": 1000,
                    "speed": 1.0,
                    "targetTagID": 1,
                },
            )
            for item in self._affected("converting")
        ]
        return respond(request, container(nodes))

    def live_sessions(self, request: Request) -> Response:
        """Tuned channels: a recording tunes one."""
        nodes = [_airing()] if self._recording() == "inprogress" else []
        return respond(request, container(nodes, status=0))

    def recordings(self, request: Request) -> Response:
        """Scheduled and running recordings: one that comes some day, and the one of the fault ``recording``."""
        status = self._recording()
        grabs = [("1", "scheduled")] + ([("2", status)] if status else [])
        nodes = [
            Node(
                "MediaGrabOperation",
                {
                    "id": f"grab-{number}",
                    "key": f"/media/grabbers/operations/grab-{number}",
                    "grabberIdentifier": "tv.plex.grabbers.hdhomerun",
                    "grabberProtocol": "livetv",
                    "mediaIndex": 0,
                    "mediaSubscriptionID": int(number),
                    "percent": 0 if state == "scheduled" else 33.3,
                    "currentSize": 0 if state == "scheduled" else 1000,
                    "provider": "tv.plex.providers.epg.cloud:1",
                    "status": state,
                },
                [_airing()],
            )
            for number, state in grabs
        ]
        return self._respond(request, container(nodes), "MediaGrabOperation", ("Metadata",))

    def _affected(self, fault: str) -> list[Node]:
        """The items whose rating keys a fault names; one that is not there would make a test green for nothing."""
        keys = [int(key) for key in self.runtime.faults.get(fault, [])]
        nodes = self._nodes(keys)
        if len(nodes) != len(keys):
            raise ValueError(f"The fault {fault} names {keys}, and not all of these items exist.")
        return nodes

    def _recording(self) -> str:
        """The status of the recording that runs, by the fault ``recording``: empty for an idle DVR.

        ``no_dvr`` is a server without one, a number an HTTP error.
        """
        value = self.runtime.faults.get("recording", "")
        if value == "no_dvr":
            # The one error of the specification: "User cannot access DVR on this server".
            raise Reply(refuse(403, "Forbidden"))
        if isinstance(value, int):
            raise Reply(refuse(value, "Not Found" if value == 404 else "Internal Server Error"))
        return str(value)

    @staticmethod
    def _respond(request: Request, node: Node, listed: str, single: tuple[str, ...]) -> Response:
        if "application/json" not in request.header("Accept"):
            return respond(request, node)
        plain: dict[str, Any] = node.plain()
        for entry in plain.get(listed, []):
            entry.update({name: entry[name][0] for name in single if name in entry})
        return Response.json({node.tag: plain})


def _airing() -> Node:
    return Node(
        "Video",
        {
            "addedAt": 1,
            "grandparentTitle": "Evening News",
            "key": "/tv.plex.providers.epg.cloud:1/metadata/1",
            "ratingKey": "plex://episode/1",
            "title": "Late Edition",
            "type": "episode",
        },
        json_name="Metadata",
    )
