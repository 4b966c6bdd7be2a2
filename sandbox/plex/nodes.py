"""One answer, two forms: the XML that Plex gives by default and the JSON it gives for ``Accept: application/json``.

In XML everything is an attribute and booleans are ``1``/``0``; in JSON booleans and numbers have their type, and what
XML calls ``<Video>``, ``<Track>``, ``<Photo>`` or an item's ``<Directory>`` is an entry of ``Metadata``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import quoteattr

from sandbox.httpd import Request, Response

Value = str | int | float | bool | None


@dataclass(slots=True)
class Node:
    """An element. ``json_name``: its list in the parent's JSON object when that differs from the tag.

    None values are left out.
    """

    tag: str
    attributes: dict[str, Value] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    json_name: str = ""

    def add(self, child: Node) -> Node:
        """Append a child and return it."""
        self.children.append(child)
        return child

    def xml(self) -> str:
        """The element as XML text."""
        attributes = "".join(
            f" {name}={quoteattr(_text(value))}" for name, value in self.attributes.items() if value is not None
        )
        inner = "".join(child.xml() for child in self.children)
        return f"<{self.tag}{attributes}>{inner}</{self.tag}>" if inner else f"<{self.tag}{attributes}/>"

    def plain(self) -> dict[str, Any]:
        """The element as a JSON object (without its own name)."""
        result: dict[str, Any] = {name: value for name, value in self.attributes.items() if value is not None}
        for child in self.children:
            result.setdefault(child.json_name or child.tag, []).append(child.plain())
        return result


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def container(children: list[Node] | None = None, **attributes: Value) -> Node:
    """A ``MediaContainer`` with its ``size``."""
    inner = children or []
    return Node("MediaContainer", {"size": len(inner), **attributes}, inner)


def respond(request: Request, node: Node, status: int = 200) -> Response:
    """The node in the form the client asked for."""
    headers = {"X-Plex-Protocol": "1.0", "Cache-Control": "no-cache"}
    for name, header in (("offset", "X-Plex-Container-Start"), ("totalSize", "X-Plex-Container-Total-Size")):
        if node.attributes.get(name) is not None:
            headers[header] = str(node.attributes[name])
    if "application/json" in request.header("Accept"):
        return Response.json({node.tag: node.plain()}, status, headers)
    body = '<?xml version="1.0" encoding="UTF-8"?>\n' + node.xml() + "\n"
    return Response(status, body.encode(), {"Content-Type": "text/xml;charset=utf-8", **headers})


def refuse(status: int, reason: str) -> Response:
    """An error page as Plex writes it: text/html, whatever was asked for."""
    page = f"<html><head><title>{reason}</title></head><body><h1>{status} {reason}</h1></body></html>"
    return Response(status, page.encode(), {"Content-Type": "text/html"})


def maintenance(request: Request, status: str) -> Response:
    """HTTP 503 while the server starts (docs/plex-facts.md#readiness)."""
    if "application/json" in request.header("Accept"):
        return Response(
            503,
            json.dumps({"code": 503, "title": "Maintenance", "status": status}, separators=(",", ":")).encode(),
            {"Content-Type": "application/json"},
        )
    body = f'<Response code="503" title="Maintenance" status={quoteattr(status)}/>'
    return Response(503, body.encode(), {"Content-Type": "text/xml;charset=utf-8"})
