"""Reading a create request the way the real API does: everything is checked before anything is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sandbox.scaleway import catalogue, errors
from sandbox.scaleway.app import tags_of
from sandbox.scaleway.store import Record, Store

CREATE_FIELDS = {
    "name",
    "commercial_type",
    "image",
    "volumes",
    "dynamic_ip_required",
    "routed_ip_enabled",
    "enable_ipv6",
    "protected",
    "public_ip",
    "public_ips",
    "boot_type",
    "organization",
    "project",
    "tags",
    "security_group",
}
_VOLUME_FIELDS = {"id", "boot", "name", "size", "volume_type", "base_snapshot", "organization", "project"}


@dataclass(frozen=True, slots=True)
class VolumeWish:
    """One volume to be made: `kind` is sbs or l_ssd, `size` bytes."""

    key: str
    kind: str
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class ServerWish:
    """A create request that is in order."""

    name: str
    type: catalogue.ServerType
    image: catalogue.Image
    volumes: list[VolumeWish]
    ips: list[Record]
    dynamic_ip: bool
    protected: bool
    boot_type: str
    tags: list[str]


def read(body: Record, zone: str, store: Store) -> ServerWish:
    """Check a create request; raises the API's typed errors."""
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise errors.invalid("name", "name must be a non-empty string", "required")
    server_type = _type(body.get("commercial_type"))
    wanted = body.get("volumes") or {}
    root = wanted.get("0") or {}
    image = _image(body.get("image"), zone, server_type, str(root.get("volume_type") or ""))
    boot_type = body.get("boot_type") or "local"
    if boot_type not in ("local", "rescue"):
        raise errors.invalid("boot_type", f"{boot_type} is not a boot type")
    for field in ("dynamic_ip_required", "protected", "enable_ipv6", "routed_ip_enabled"):
        if body.get(field) is not None and not isinstance(body[field], bool):
            raise errors.invalid(field, f"{field} must be a boolean")
    return ServerWish(
        name=name,
        type=server_type,
        image=image,
        volumes=_volumes(wanted, server_type, image, name),
        ips=ips_of(body, zone, store),
        dynamic_ip=body.get("dynamic_ip_required") is not False,
        protected=bool(body.get("protected")),
        boot_type=boot_type,
        tags=tags_of(body),
    )


def ips_of(body: Record, zone: str, store: Store) -> list[Record]:
    """The flexible addresses named by id; each must exist here and be free."""
    wanted = body.get("public_ips")
    if wanted is None:
        wanted = [body["public_ip"]] if body.get("public_ip") else []
    if not isinstance(wanted, list):
        raise errors.invalid("public_ips", "public_ips must be a list of IP ids")
    found = []
    for ip_id in wanted:
        ip = store.ips.get(str(ip_id))
        if ip is None or ip["zone"] != zone or ip["dynamic"]:
            raise errors.not_found("instance_ip", str(ip_id))
        if ip["server"]:
            raise errors.precondition(f"IP {ip_id} is already attached to a server")
        found.append(ip)
    return found


def _type(name: Any) -> catalogue.ServerType:
    if not isinstance(name, str) or name not in catalogue.TYPES:
        raise errors.invalid("commercial_type", f"{name} is not a commercial type of this zone")
    server_type = catalogue.TYPES[name]
    if server_type.end_of_service:
        raise errors.invalid("commercial_type", f"{name} has reached its end of service")
    return server_type


def _image(name: Any, zone: str, server_type: catalogue.ServerType, volume_type: str) -> catalogue.Image:
    """An image by id, or by label (then the kind that fits the root volume)."""
    if not isinstance(name, str) or not name:
        raise errors.invalid("image", "an image is needed; the simulator boots from nothing else", "required")
    image = catalogue.IMAGES.get(name)
    if image is None and name in catalogue.LABELS:
        kind = "instance_local" if volume_type == "l_ssd" else "instance_sbs"
        for one in catalogue.IMAGES.values():
            if (one.label, one.zone, one.arch, one.type) == (name, zone, server_type.arch, kind):
                image = one
    if image is None or image.zone != zone:
        raise errors.not_found("instance_image", name)
    if image.arch != server_type.arch:
        raise errors.invalid("image", f"the image's architecture {image.arch} does not fit {server_type.name}")
    return image


def _volumes(
    wanted: Any, server_type: catalogue.ServerType, image: catalogue.Image, server_name: str
) -> list[VolumeWish]:
    if not isinstance(wanted, dict):
        raise errors.invalid("volumes", "volumes must be an object with keys 0, 1, …")
    default = "l_ssd" if image.type == "instance_local" else "sbs_volume"
    templates = wanted or {"0": {"volume_type": default, "size": catalogue.IMAGE_BYTES}}
    if "0" not in templates:
        raise errors.invalid("volumes", "the root volume must be given under key 0")
    wishes = [_volume(key, template, default, server_name) for key, template in sorted(templates.items())]
    if (wishes[0].kind == "l_ssd") != (image.type == "instance_local"):
        raise errors.invalid(
            "volumes.0.volume_type",
            f"image {image.label} is of type {image.type}; it cannot boot from {wishes[0].kind}",
        )
    local = sum(wish.size for wish in wishes if wish.kind == "l_ssd")
    most = server_type.local * catalogue.GB
    if local > most:
        raise errors.invalid(
            "volumes", f"the total size of local volumes must not exceed {most} bytes on {server_type.name}"
        )
    return wishes


def _volume(key: str, template: Any, default: str, server_name: str) -> VolumeWish:
    where = f"volumes.{key}"
    if not key.isdecimal() or not isinstance(template, dict) or set(template) - _VOLUME_FIELDS:
        raise errors.invalid(where, "a volume has a number as its key and known fields only")
    if template.get("id") or template.get("base_snapshot"):
        raise errors.typed(501, "not_implemented", "the simulator makes fresh volumes only: no id, no base_snapshot")
    kind = template.get("volume_type") or default
    if kind not in ("sbs_volume", "l_ssd"):
        raise errors.invalid(f"{where}.volume_type", f"{kind} is not a volume type the simulator has")
    size = template.get("size", catalogue.IMAGE_BYTES)
    least = catalogue.IMAGE_BYTES if key == "0" else catalogue.GB
    # size 0 is what the SDK's VolumeServerTemplate sends unless size=None is passed
    # (docs/scaleway-facts.md#sdk-pitfalls, 5).
    if not isinstance(size, int) or size < least:
        raise errors.invalid(f"{where}.size", f"size must be an integer of at least {least} bytes, not {size}")
    name = str(template.get("name") or f"{server_name}-vol-{key}")
    return VolumeWish(key=key, kind="sbs" if kind == "sbs_volume" else "l_ssd", size=size, name=name)
