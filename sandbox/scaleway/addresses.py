"""Flexible IP addresses."""

from __future__ import annotations

from sandbox.httpd import Request, Response
from sandbox.scaleway import errors
from sandbox.scaleway.app import App, body_of, comma_list, has_tags, instance_page, tags_of
from sandbox.scaleway.store import Record

_BASE = "/instance/v1/zones/{zone}/ips"


class Addresses:
    """Reserve, find, attach, tag and give back addresses. Dynamic ones are not among them: they belong to a server."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._store = app.store
        app.api("POST", _BASE, self._create)
        app.api("GET", _BASE, self._list)
        app.api("GET", f"{_BASE}/{{ip}}", lambda request: Response.json({"ip": self.as_json(self._find(request))}))
        app.api("PATCH", f"{_BASE}/{{ip}}", self._update)
        app.api("DELETE", f"{_BASE}/{{ip}}", self._delete)

    def as_json(self, ip: Record) -> Record:
        """As the Instance API describes a flexible IP."""
        server = self._store.servers.get(ip["server"] or "")
        return {
            **{
                name: ip[name]
                for name in ("id", "address", "prefix", "reverse", "zone", "type", "state", "tags", "ipam_id")
            },
            "server": {"id": server["id"], "name": server["name"]} if server else None,
            "organization": self._app.settings.organization_id,
            "project": self._app.settings.project_id,
        }

    def _create(self, request: Request) -> Response:
        body = body_of(request, {"project", "organization", "type", "tags", "server"})
        self._app.project_of(body)
        kind = body.get("type") or "routed_ipv4"
        if kind not in ("routed_ipv4", "routed_ipv6"):
            raise errors.invalid("type", f"{kind} is not a type of IP address")
        server = None
        if body.get("server") is not None:
            server = self._server(body["server"], request.params["zone"])
        if self._app.fault("ip_quota"):
            raise errors.quota("instance_ips", 20, 20)
        ip = self._store.new_ip(request.params["zone"], kind=kind, tags=tags_of(body))
        if server is not None:
            self._store.attach_ip(ip, server)
        location = f"{request.path}/{ip['id']}"
        return Response.json({"ip": self.as_json(ip)}, 201, {"Location": location})

    def _list(self, request: Request) -> Response:
        tags, name, kind = comma_list(request, "tags"), request.arg("name"), request.arg("type")
        found = [
            self.as_json(ip)
            for ip in self._store.ips.values()
            if self._app.is_ours(request)
            and not ip["dynamic"]
            and ip["zone"] == request.params["zone"]
            and has_tags(ip, tags)
            and kind in ("", ip["type"])
            and name in (ip["address"] or "")
        ]
        return instance_page(request, "ips", found)

    def _update(self, request: Request) -> Response:
        ip = self._find(request)
        body = body_of(request, {"reverse", "type", "tags", "server"})
        if "tags" in body:
            ip["tags"] = tags_of(body)
            self._store.entry("ip", ip["id"])["tags"] = ip["tags"]
        if "reverse" in body:
            ip["reverse"] = body["reverse"]
        if "server" in body:
            self._store.attach_ip(ip, self._server(body["server"], ip["zone"]) if body["server"] else None)
        self._store.dirty = True
        return Response.json({"ip": self.as_json(ip)})

    def _delete(self, request: Request) -> Response:
        self._store.delete_ip(self._find(request))
        return Response(204)

    def _server(self, server_id: str, zone: str) -> Record:
        server = self._store.servers.get(str(server_id))
        if server is None or server["zone"] != zone:
            raise errors.not_found("instance_server", str(server_id))
        return server

    def _find(self, request: Request) -> Record:
        wanted = request.params["ip"]
        for ip in self._store.ips.values():
            if wanted in (ip["id"], ip["address"]) and ip["zone"] == request.params["zone"] and not ip["dynamic"]:
                return ip
        raise errors.not_found("instance_ip", wanted)
