"""Servers: made, found, changed, deleted; their user data."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any

from sandbox.httpd import Request, Response
from sandbox.scaleway import catalogue, create, errors
from sandbox.scaleway.app import App, body_of, comma_list, has_tags, instance_page, tags_of, uuid_of
from sandbox.scaleway.products import Products
from sandbox.scaleway.store import Record, iso
from sandbox.scaleway.volumes import Volumes

BASE = "/instance/v1/zones/{zone}/servers"
FINGERPRINTS = "ssh-host-fingerprints"
# Which actions a server in a state takes; starting and running as recorded, "stopped in place" [?].
ALLOWED = {
    "stopped": ["poweron", "backup"],
    "starting": ["stop_in_place", "backup"],
    "running": ["poweroff", "terminate", "reboot", "stop_in_place", "backup"],
    "stopped in place": ["poweron", "poweroff", "terminate", "backup"],
    "stopping": [],
}


class Servers:
    """The Instance API's servers and their user data. What happens over time is in `actions`."""

    def __init__(self, app: App, products: Products, volumes: Volumes) -> None:
        self._app = app
        self._store = app.store
        self._products = products
        self._volumes = volumes
        one = f"{BASE}/{{server_id}}"
        app.api("POST", BASE, self._create)
        app.api("GET", BASE, self._list)
        app.api("GET", one, lambda request: Response.json({"server": self.as_json(self.find(request))}))
        app.api("PATCH", one, self._update)
        app.api("DELETE", one, self._delete)
        app.api("POST", f"{one}/detach-volume", self._detach_volume)
        app.api("POST", f"{one}/attach-volume", self._attach_volume)
        app.api("GET", f"{one}/user_data", self._list_user_data)
        app.api("GET", f"{one}/user_data/{{key}}", self._get_user_data)
        app.api("PATCH", f"{one}/user_data/{{key}}", self._set_user_data)
        app.api("DELETE", f"{one}/user_data/{{key}}", self._delete_user_data)
        app.api("GET", "/instance/v1/zones/{zone}/dashboard", self._dashboard)

    def find(self, request: Request) -> Record:
        """The server a path names; a typed 404 when it is not (or no longer) there."""
        server_id = uuid_of(request, "server_id")
        server = self._store.servers.get(server_id)
        if server is None or server["zone"] != request.params["zone"]:
            raise errors.not_found("instance_server", server_id)
        return server

    def as_json(self, server: Record) -> Record:
        """As the Instance API describes a server."""
        settings = self._app.settings
        ips = [self._ip_json(self._store.ips[ip_id]) for ip_id in self._shown_ips(server)]
        image = catalogue.IMAGES[server["image"]]
        same = ("id", "name", "tags", "commercial_type", "protected", "boot_type", "dynamic_ip_required", "zone")
        return {
            **{name: server[name] for name in same},
            "organization": settings.organization_id,
            "project": settings.project_id,
            "hostname": server["name"],
            "image": image.as_instance_image(settings.organization_id),
            "arch": catalogue.TYPES[server["commercial_type"]].arch,
            "state": server["state"],
            "state_detail": server["detail"],
            "allowed_actions": ALLOWED[server["state"]],
            "creation_date": iso(server["created"]),
            "modification_date": iso(server["modified"]),
            "public_ip": ips[0] if ips else None,
            "public_ips": ips,
            "private_ip": None,
            "private_nics": [],
            "ipv6": None,
            "enable_ipv6": False,
            "routed_ip_enabled": True,
            "mac_address": server["mac"],
            "location": server["location"],
            "volumes": {
                key: self._volumes.in_server_json(self._store.volumes[volume_id])
                for key, volume_id in sorted(server["volumes"].items())
            },
            "security_group": {"id": server["security_group"], "name": "Default security group"},
            "placement_group": None,
            "maintenances": [],
            "filesystems": [],
            "end_of_service": False,
            "dns": f"{server['id']}.pub.instances.scw.cloud",
            "admin_password_encryption_ssh_key_id": None,
            "admin_password_encrypted_value": None,
            "bootscript": None,
            "extra_networks": [],
        }

    def _shown_ips(self, server: Record) -> list[str]:
        """A dynamic address is not shown before the server runs."""
        hidden = server["state"] in ("stopped", "starting")
        return [ip_id for ip_id in server["ips"] if not (hidden and self._store.ips[ip_id]["dynamic"])]

    def _ip_json(self, ip: Record) -> Record:
        return {
            "id": ip["id"],
            "address": ip["address"] or ip["prefix"].replace("::/64", "::1"),
            "dynamic": ip["dynamic"],
            "gateway": "62.210.0.1" if ip["address"] else "fe80::1",
            "netmask": "32" if ip["address"] else "64",
            "family": "inet" if ip["address"] else "inet6",
            "provisioning_mode": "dhcp" if ip["address"] else "slaac",
            "tags": ip["tags"],
            "state": ip["state"],
            "ipam_id": ip["ipam_id"],
        }

    def _create(self, request: Request) -> Response:
        zone = request.params["zone"]
        body = body_of(request, create.CREATE_FIELDS)
        self._app.project_of(body)
        wish = create.read(body, zone, self._store)
        if self._app.fault("quota"):
            raise errors.quota(f"instances_{wish.type.name.lower()}", 10, 10)
        if self._products.refuses(wish.type.name):
            raise errors.out_of_stock(wish.type.name)
        server = self._make(wish, zone)
        location = f"{request.path}/{server['id']}"
        return Response.json({"server": self.as_json(server)}, 201, {"Location": location})

    def _make(self, wish: create.ServerWish, zone: str) -> Record:
        now = time.time()
        server: Record = {
            "id": str(uuid.uuid4()),
            "zone": zone,
            "name": wish.name,
            "tags": wish.tags,
            "commercial_type": wish.type.name,
            "image": wish.image.id,
            "protected": wish.protected,
            "boot_type": wish.boot_type,
            "dynamic_ip_required": wish.dynamic_ip,
            "state": "stopped",
            "detail": "",
            "created": now,
            "modified": now,
            "mac": "de:00:00:" + ":".join(f"{random.randrange(256):02x}" for _ in range(3)),
            "location": None,
            "security_group": str(uuid.uuid5(uuid.UUID(self._app.settings.project_id), zone)),
            "volumes": {},
            "ips": [],
            "user_data": {},
            "transition": None,
        }
        self._store.servers[server["id"]] = server
        self._store.bill(
            "server", server["id"], name=wish.name, tags=wish.tags, sort=wish.type.name, hourly=wish.type.hourly
        )
        for volume in wish.volumes:
            made = self._store.new_volume(zone, volume.kind, volume.size, name=volume.name)
            self._store.attach_volume(made, server, volume.key)
        for ip in wish.ips:
            self._store.attach_ip(ip, server)
        return server

    def _list(self, request: Request) -> Response:
        tags, wanted = comma_list(request, "tags"), comma_list(request, "servers")
        state, kind = request.arg("state").replace("_", " "), request.arg("commercial_type")
        if state and state not in ALLOWED and state != "locked":
            raise errors.invalid("state", f"{request.arg('state')} is not a server state")
        found = [
            self.as_json(server)
            for server in self._store.servers.values()
            if self._app.is_ours(request)
            and server["zone"] == request.params["zone"]
            and has_tags(server, tags)
            and request.arg("name") in server["name"]
            and state in ("", server["state"])
            and kind in ("", server["commercial_type"])
            and (not wanted or server["id"] in wanted)
        ]
        newest_first = request.arg("order") in ("", "creation_date_desc")
        return instance_page(request, "servers", found[::-1] if newest_first else found)

    def _update(self, request: Request) -> Response:
        server = self.find(request)
        body = body_of(request, {"name", "tags", "protected", "dynamic_ip_required", "boot_type", "public_ips"})
        if "public_ips" in body:
            self._replace_ips(server, body)
        for name in ("name", "protected", "dynamic_ip_required", "boot_type"):
            if body.get(name) is not None:
                server[name] = body[name]
        if body.get("tags") is not None:
            server["tags"] = tags_of(body)
        entry = self._store.entry("server", server["id"])
        entry["name"], entry["tags"] = server["name"], server["tags"]
        self._touch(server)
        return Response.json({"server": self.as_json(server)})

    def _replace_ips(self, server: Record, body: Record) -> None:
        kept = [ip_id for ip_id in server["ips"] if ip_id in body["public_ips"]]
        new = {"public_ips": [ip_id for ip_id in body["public_ips"] if ip_id not in kept]}
        fresh = create.ips_of(new, server["zone"], self._store)
        for ip_id in [one for one in server["ips"] if one not in kept and not self._store.ips[one]["dynamic"]]:
            self._store.attach_ip(self._store.ips[ip_id], None)
        for ip in fresh:
            self._store.attach_ip(ip, server)

    def _delete(self, request: Request) -> Response:
        server = self.find(request)
        if server["state"] in ("starting", "stopping"):
            raise errors.transient("instance_server", server["id"], server["state"])
        if server["state"] != "stopped":
            raise errors.precondition("server should be stopped")
        if server["protected"]:
            raise errors.precondition("server is protected")
        self.remove(server, local_volumes=False)
        return Response(204)

    def remove(self, server: Record, *, local_volumes: bool) -> None:
        """The server is gone. Block volumes and flexible addresses stay, and go on costing; so do local volumes after a
        plain DELETE. Dynamic addresses go with it.
        """
        for volume in [self._store.volumes[volume_id] for volume_id in server["volumes"].values()]:
            self._store.detach_volume(volume, status="attached")
            if volume["kind"] == "l_ssd" and local_volumes:
                self._store.delete_volume(volume)
        self.release_ips(server, dynamic_only=False)
        self._store.end("server", server["id"])
        del self._store.servers[server["id"]]
        self._app.hosts.forget(server["id"])

    def release_ips(self, server: Record, *, dynamic_only: bool) -> None:
        """Give dynamic addresses back; detach flexible ones unless `dynamic_only`."""
        for ip in [self._store.ips[ip_id] for ip_id in server["ips"]]:
            if ip["dynamic"]:
                self._store.delete_ip(ip)
            elif not dynamic_only:
                self._store.attach_ip(ip, None)

    def _detach_volume(self, request: Request) -> Response:
        server = self.find(request)
        volume_id = str(body_of(request, {"volume_id"}).get("volume_id"))
        if volume_id not in server["volumes"].values():
            raise errors.not_found("instance_volume", volume_id)
        self._store.detach_volume(self._store.volumes[volume_id], status="detaching")
        self._touch(server)
        return Response.json({"server": self.as_json(server)})

    def _attach_volume(self, request: Request) -> Response:
        server = self.find(request)
        body = body_of(request, {"volume_id", "volume_type", "boot"})
        volume = self._store.volumes.get(str(body.get("volume_id")))
        if volume is None or volume["zone"] != server["zone"]:
            raise errors.not_found("instance_volume", str(body.get("volume_id")))
        if volume["reference"] or volume["due"] is not None:
            raise errors.precondition("volume is not available", precondition="resource_still_in_use")
        key = next(str(number) for number in range(16) if str(number) not in server["volumes"])
        self._store.attach_volume(volume, server, key)
        self._touch(server)
        return Response.json({"server": self.as_json(server)})

    # --- user data -------------------------------------------------------------------------------------------------

    def _list_user_data(self, request: Request) -> Response:
        server = self.find(request)
        keys = set(server["user_data"])
        if self._fingerprints(server) is not None:
            keys.add(FINGERPRINTS)
        return Response.json({"user_data": sorted(keys)})

    def _get_user_data(self, request: Request) -> Response:
        server = self.find(request)
        key = request.params["key"]
        value = self._store.user_data(server, key)
        if value is None and key == FINGERPRINTS:
            value = self._fingerprints(server)
        headers = {"Content-Type": "text/plain"}
        # Recorded: a missing key is a 404 without a body, which the SDK cannot parse.
        return Response(404, b"", headers) if value is None else Response(200, value, headers)

    def _set_user_data(self, request: Request) -> Response:
        server = self.find(request)
        if not request.header("content-type").startswith("text/plain"):
            raise errors.malformed("Content-Type must be text/plain")
        self._store.set_user_data(server, request.params["key"], request.body)
        return Response(204)

    def _delete_user_data(self, request: Request) -> Response:
        server = self.find(request)
        if self._store.user_data(server, request.params["key"]) is None:
            return Response(404, b"", {"Content-Type": "text/plain"})
        self._store.set_user_data(server, request.params["key"], None)
        return Response(204)

    def _fingerprints(self, server: Record) -> bytes | None:
        return self._app.hosts.fingerprints(server["id"])

    def _dashboard(self, request: Request) -> Response:
        zone = request.params["zone"]
        servers = [one for one in self._store.servers.values() if one["zone"] == zone]
        volumes = [one for one in self._store.volumes.values() if one["zone"] == zone and one["kind"] == "l_ssd"]
        ips = [one for one in self._store.ips.values() if one["zone"] == zone and not one["dynamic"]]
        kinds: dict[str, int] = {}
        for server in servers:
            kinds[server["commercial_type"]] = kinds.get(server["commercial_type"], 0) + 1
        dashboard: dict[str, Any] = {
            "servers_count": len(servers),
            "servers_by_types": kinds,
            "running_servers_count": sum(1 for one in servers if one["state"] == "running"),
            "ips_count": len(ips),
            "ips_unused": sum(1 for one in ips if one["server"] is None),
            "volumes_count": len(volumes),
            "volumes_l_ssd_count": len(volumes),
            "volumes_l_ssd_total_size": sum(one["size"] for one in volumes),
            "security_groups_count": 1,
        }
        for name in ("images", "snapshots", "private_nics", "placement_groups", "volumes_scratch", "volumes_b_ssd"):
            dashboard[f"{name}_count"] = 0
        return Response.json({"dashboard": {**dashboard, "volumes_b_ssd_total_size": 0}})

    def _touch(self, server: Record) -> None:
        server["modified"] = time.time()
        self._store.dirty = True
