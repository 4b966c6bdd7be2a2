"""Marketplace images, server types, prices, availability, block volume types."""

from __future__ import annotations

from typing import Any

from sandbox.httpd import Request, Response
from sandbox.scaleway import catalogue, errors
from sandbox.scaleway.app import App, instance_page, modern_page, uuid_of


class Products:
    """What can be bought."""

    def __init__(self, app: App) -> None:
        self._app = app
        app.api("GET", "/marketplace/v2/local-images", self._local_images)
        app.api("GET", "/marketplace/v2/local-images/{image_id}", self._local_image)
        app.api("GET", "/instance/v1/zones/{zone}/images/{image_id}", self._image)
        app.api("GET", "/instance/v1/zones/{zone}/products/servers", self._types)
        app.api("GET", "/instance/v1/zones/{zone}/products/servers/availability", self._availability)
        for version in ("v1", "v1alpha1"):
            app.api("GET", f"/block/{version}/zones/{{zone}}/volume-types", self._volume_types)

    def refuses(self, commercial_type: str) -> bool:
        """Whether this type is out of stock now, by nature or by fault."""
        fault = self._app.fault("out_of_stock")
        if fault == "*" or (isinstance(fault, list) and ("*" in fault or commercial_type in fault)):
            return True
        return catalogue.TYPES[commercial_type].availability == "shortage"

    def _local_images(self, request: Request) -> Response:
        label, zone, kind, arch = (request.arg(name) for name in ("image_label", "zone", "type", "arch"))
        if label and label not in catalogue.LABELS:
            raise errors.not_found("MarketplaceImage", label)
        if not label:
            raise errors.invalid("image_label", "image_label is needed; the simulator has no image ids or versions")
        if zone and zone not in catalogue.ZONES:
            raise errors.invalid("zone", f"{zone} is not a valid zone")
        if kind not in ("", "unknown_type", "instance_local", "instance_sbs"):
            raise errors.invalid("type", f"{kind} is not a type of local image")
        order = request.arg("order_by") or "type_asc"
        if order not in ("type_asc", "type_desc", "created_at_asc", "created_at_desc"):
            raise errors.invalid("order_by", f"{order} is not an order of local images")
        found = [
            image
            for image in catalogue.IMAGES.values()
            if image.label == label
            and zone in ("", image.zone)
            and kind in ("", "unknown_type", image.type)
            and arch in ("", image.arch)
        ]
        # type_asc puts instance_sbs first, as recorded: the API orders by its enumeration, not by the alphabet [?].
        found.sort(key=lambda image: image.type == "instance_local", reverse=order == "type_desc")
        return modern_page(request, "local_images", [image.as_local_image() for image in found])

    def _local_image(self, request: Request) -> Response:
        image = catalogue.IMAGES.get(uuid_of(request, "image_id"))
        if image is None:
            raise errors.not_found("MarketplaceLocalImage", request.params["image_id"])
        return Response.json(image.as_local_image())

    def _image(self, request: Request) -> Response:
        image = catalogue.IMAGES.get(uuid_of(request, "image_id"))
        if image is None or image.zone != request.params["zone"]:
            raise errors.not_found("instance_image", request.params["image_id"])
        return Response.json({"image": image.as_instance_image(self._app.settings.organization_id)})

    def _types(self, request: Request) -> Response:
        rows = [(one.name, one.as_json()) for one in catalogue.TYPES.values()]
        return instance_page(request, "servers", rows, as_map=True)

    def _availability(self, request: Request) -> Response:
        rows: list[Any] = [
            (one.name, {"availability": "shortage" if self.refuses(one.name) else one.availability})
            for one in catalogue.TYPES.values()
        ]
        return instance_page(request, "servers", rows, as_map=True)

    def _volume_types(self, request: Request) -> Response:
        rows = []
        for name, iops, factor in (("sbs_5k", 5000, 1.0), ("sbs_15k", 15000, 1.5)):
            price = {"currency_code": "EUR", "units": 0, "nanos": round(catalogue.SBS_GB_HOURLY * factor * 1e9)}
            specs = {"perf_iops": iops, "class": "sbs"}
            rows.append({"type": name, "pricing": price, "snapshot_pricing": price, "specs": specs})
        return modern_page(request, "volume_types", rows)
