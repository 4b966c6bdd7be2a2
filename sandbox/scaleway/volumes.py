"""Storage: local volumes of the Instance API, block volumes of Block Storage v1 and v1alpha1."""

from __future__ import annotations

import time
from typing import Any

from sandbox.httpd import Request, Response
from sandbox.scaleway import catalogue, errors
from sandbox.scaleway.app import App, body_of, comma_list, has_tags, instance_page, modern_page, tags_of, uuid_of
from sandbox.scaleway.store import Record, iso

_LOCAL = "/instance/v1/zones/{zone}/volumes"


class Volumes:
    """The two APIs do not see each other's volumes: asking Instance for a block volume is a 404, and vice versa."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._store = app.store
        app.ticks.append(self._tick)
        app.api("GET", _LOCAL, self._list_local)
        app.api("GET", f"{_LOCAL}/{{volume_id}}", lambda request: self._one_local(self._find(request, "l_ssd")))
        app.api("PATCH", f"{_LOCAL}/{{volume_id}}", self._update_local)
        app.api("DELETE", f"{_LOCAL}/{{volume_id}}", self._delete_local)
        for version in ("v1", "v1alpha1"):
            base = f"/block/{version}/zones/{{zone}}/volumes"
            app.api("GET", base, self._list_block)
            app.api("POST", base, self._create_block)
            app.api(
                "GET", f"{base}/{{volume_id}}", lambda request: Response.json(_block(self._app, self._find(request)))
            )
            app.api("PATCH", f"{base}/{{volume_id}}", self._update_block)
            app.api("DELETE", f"{base}/{{volume_id}}", self._delete_block)

    def local_json(self, volume: Record) -> Record:
        """A local volume as the Instance API describes it; without boot, which only servers show."""
        server = self._store.servers.get(volume["server"] or "")
        return {
            "id": volume["id"],
            "name": volume["name"],
            "size": volume["size"],
            "volume_type": "l_ssd",
            "export_uri": None,
            "organization": self._app.settings.organization_id,
            "project": self._app.settings.project_id,
            "server": {"id": server["id"], "name": server["name"]} if server else None,
            "state": "available",
            "tags": volume["tags"],
            "zone": volume["zone"],
            "creation_date": iso(volume["created"]),
            "modification_date": iso(volume["updated"]),
        }

    def in_server_json(self, volume: Record) -> Record:
        """A volume inside a server: a block volume shows very little there."""
        if volume["kind"] == "l_ssd":
            return {**self.local_json(volume), "boot": volume["boot"]}
        return {
            "boot": volume["boot"],
            "id": volume["id"],
            "state": "available",
            "volume_type": "sbs_volume",
            "zone": volume["zone"],
        }

    def _tick(self, now: float) -> None:
        for volume in list(self._store.volumes.values()):
            reference = volume["reference"]
            if reference and reference["due"] is not None and reference["due"] <= now:
                volume["reference"], volume["status"] = None, "available"
                volume["detached"] = volume["updated"] = now
                self._store.dirty = True
            if volume["due"] is not None and volume["due"] <= now:
                self._store.delete_volume(volume)

    def _find(self, request: Request, kind: str = "sbs") -> Record:
        volume_id = uuid_of(request, "volume_id")
        volume = self._store.volumes.get(volume_id)
        if volume is None or volume["kind"] != kind or volume["zone"] != request.params["zone"]:
            raise errors.not_found("instance_volume" if kind == "l_ssd" else "volume", volume_id)
        return volume

    def _of_zone(self, request: Request, kind: str) -> list[Record]:
        found = [
            one for one in self._store.volumes.values() if one["kind"] == kind and one["zone"] == request.params["zone"]
        ]
        return found[::-1]

    # --- Instance API ----------------------------------------------------------------------------------------------

    def _one_local(self, volume: Record) -> Response:
        return Response.json({"volume": self.local_json(volume)})

    def _list_local(self, request: Request) -> Response:
        tags = comma_list(request, "tags")
        found = [
            self.local_json(volume)
            for volume in self._of_zone(request, "l_ssd")
            if self._app.is_ours(request)
            and has_tags(volume, tags)
            and request.arg("name") in volume["name"]
            and request.arg("volume_type") in ("", "l_ssd")
        ]
        return instance_page(request, "volumes", found)

    def _update_local(self, request: Request) -> Response:
        volume = self._find(request, "l_ssd")
        self._change(volume, body_of(request, {"name", "tags"}))
        return self._one_local(volume)

    def _delete_local(self, request: Request) -> Response:
        volume = self._find(request, "l_ssd")
        if volume["server"]:
            raise errors.precondition("a server is attached to this volume", precondition="resource_still_in_use")
        self._store.delete_volume(volume)
        return Response(204)

    # --- Block Storage ---------------------------------------------------------------------------------------------

    def _list_block(self, request: Request) -> Response:
        ids, server = request.args("volume_ids"), request.arg("product_resource_id")
        found = [
            _block(self._app, volume)
            for volume in self._of_zone(request, "sbs")
            if self._app.is_ours(request, "_id")
            and has_tags(volume, [tag for tag in request.args("tags") if tag])
            and request.arg("name") in volume["name"]
            and (not ids or volume["id"] in ids)
            and server in ("", volume["reference"] and volume["reference"].get("server"))
            and request.arg("volume_type") in ("", "sbs_5k")
        ]
        return modern_page(request, "volumes", found)

    def _create_block(self, request: Request) -> Response:
        body = body_of(
            request, {"name", "project_id", "perf_iops", "from_empty", "from_snapshot", "tags", "kms_key_id"}
        )
        if body.get("project_id") != self._app.settings.project_id:
            raise errors.forbidden("write", "block_volume")
        size = (body.get("from_empty") or {}).get("size")
        if not isinstance(size, int) or size < catalogue.GB:
            raise errors.invalid("from_empty.size", "the simulator makes empty volumes of at least 1 GB")
        name = body.get("name") or "vol-sandbox"
        volume = self._store.new_volume(request.params["zone"], "sbs", size, name=name, tags=tags_of(body))
        return Response.json(_block(self._app, volume))

    def _update_block(self, request: Request) -> Response:
        volume = self._find(request)
        body = body_of(request, {"name", "tags", "size", "perf_iops"})
        if body.get("size") is not None and body["size"] != volume["size"]:
            raise errors.typed(501, "not_implemented", "the simulator does not resize block volumes")
        self._change(volume, body)
        volume["iops"] = body.get("perf_iops") or volume["iops"]
        return Response.json(_block(self._app, volume))

    def _delete_block(self, request: Request) -> Response:
        volume = self._find(request)
        if volume["reference"]:
            raise errors.precondition("resource is still in use", precondition="resource_still_in_use", help_message="")
        if volume["status"] != "deleting":
            volume["status"] = "deleting"
            volume["due"] = time.time() + self._app.settings.delay("deleting_volume")
            self._store.dirty = True
        return Response(204)

    def _change(self, volume: Record, body: Record) -> None:
        entry = self._store.entry("volume", volume["id"])
        if body.get("name") is not None:
            volume["name"] = entry["name"] = str(body["name"])
        if body.get("tags") is not None:
            volume["tags"] = entry["tags"] = tags_of(body)
        volume["updated"] = time.time()
        self._store.dirty = True


def _block(app: App, volume: Record) -> dict[str, Any]:
    """A block volume as Block Storage describes it."""
    reference = volume["reference"]
    references = []
    if reference:
        references.append(
            {
                "id": reference["id"],
                "product_resource_type": "instance_server",
                "product_resource_id": reference["server"],
                "type": "exclusive",
                "status": reference["status"],
                "created_at": _zulu(reference["created"]),
            }
        )
    return {
        "id": volume["id"],
        "name": volume["name"],
        "type": "sbs_5k" if volume["iops"] == 5000 else "sbs_15k",
        "size": volume["size"],
        "project_id": app.settings.project_id,
        "created_at": _zulu(volume["created"]),
        "updated_at": _zulu(volume["updated"]),
        "references": references,
        "parent_snapshot_id": None,
        "status": volume["status"],
        "tags": volume["tags"],
        "zone": volume["zone"],
        "specs": {"perf_iops": volume["iops"], "class": "sbs"},
        "last_detached_at": None if volume["detached"] is None else _zulu(volume["detached"]),
        "kms_key_id": None,
    }


def _zulu(moment: float) -> str:
    """A time stamp as the newer APIs write it."""
    return iso(moment).replace("+00:00", "Z")
