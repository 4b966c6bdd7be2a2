"""What exists in the simulated cloud, and what it has cost. Plain records, kept in FOLDER/scaleway-state.json."""

from __future__ import annotations

import base64
import json
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox.scaleway import catalogue
from sandbox.scaleway.settings import Settings, write_private

Record = dict[str, Any]


def iso(moment: float) -> str:
    """A time stamp as the Instance API writes it."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds")


class Store:
    """Servers, addresses, volumes and the ledger. Not thread safe by itself: the API holds one lock around it."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        self.path = directory / "scaleway-state.json"
        self.settings = settings
        self.servers: dict[str, Record] = {}
        self.ips: dict[str, Record] = {}
        self.volumes: dict[str, Record] = {}
        self.ledger: list[Record] = []
        self.next_address = settings.first_address
        self.dirty = False
        if self.path.is_file():
            data = json.loads(self.path.read_text(encoding="utf-8"))
            self.servers, self.ips, self.volumes = data["servers"], data["ips"], data["volumes"]
            self.ledger, self.next_address = data["ledger"], data["next_address"]

    def save(self) -> None:
        """Write everything down if anything changed. The file holds user data, so it is private."""
        if not self.dirty:
            return
        names = ("servers", "ips", "volumes", "ledger", "next_address")
        write_private(self.path, json.dumps({name: getattr(self, name) for name in names}, indent=1) + "\n")
        self.dirty = False

    # --- addresses -------------------------------------------------------------------------------------------------

    def new_ip(
        self, zone: str, *, kind: str = "routed_ipv4", tags: list[str] | None = None, dynamic: bool = False
    ) -> Record:
        """Take the next address; one that was given away once is never given away again."""
        self.dirty = True
        address, prefix = None, None
        if kind == "routed_ipv6":
            prefix = f"2001:db8:{self.next_address + 1:x}::/64"
        else:
            high, low = divmod(self.next_address, 254)
            address = f"{self.settings.block}.{high + 1}.{low + 1}"
        self.next_address += 1
        ip: Record = {
            "id": str(uuid.uuid4()),
            "zone": zone,
            "address": address,
            "prefix": prefix,
            "type": kind,
            "tags": list(tags or []),
            "reverse": None,
            "server": None,
            "dynamic": dynamic,
            "state": "detached",
            "due": None,
            "ipam_id": str(uuid.uuid4()),
        }
        self.ips[ip["id"]] = ip
        price = 0.0 if address is None else catalogue.IPV4_HOURLY
        self.bill("ip", ip["id"], name=address or prefix or "", tags=ip["tags"], sort=kind, hourly=price)
        return ip

    def attach_ip(self, ip: Record, server: Record | None) -> None:
        """Attach to a server, or detach with None."""
        self.dirty = True
        for other in self.servers.values():
            if ip["id"] in other["ips"]:
                other["ips"].remove(ip["id"])
        ip["server"] = server["id"] if server else None
        ip["state"] = "attached" if server else "detached"
        if server:
            server["ips"].append(ip["id"])

    def delete_ip(self, ip: Record) -> None:
        """Give it back; attached or not."""
        self.attach_ip(ip, None)
        del self.ips[ip["id"]]
        self.end("ip", ip["id"])

    # --- volumes ---------------------------------------------------------------------------------------------------

    def new_volume(self, zone: str, kind: str, size: int, *, name: str, tags: list[str] | None = None) -> Record:
        """`kind` is sbs or l_ssd, `size` bytes."""
        self.dirty = True
        now = time.time()
        volume: Record = {
            "id": str(uuid.uuid4()),
            "zone": zone,
            "kind": kind,
            "name": name,
            "size": size,
            "tags": list(tags or []),
            "iops": 5000,
            "server": None,
            "boot": False,
            "status": "available",
            "reference": None,
            "created": now,
            "updated": now,
            "detached": None,
            "due": None,
        }
        self.volumes[volume["id"]] = volume
        rate = catalogue.SBS_GB_HOURLY if kind == "sbs" else catalogue.LOCAL_GB_HOURLY
        sort = "sbs_5k" if kind == "sbs" else "l_ssd"
        hourly = round(rate * size / catalogue.GB, 8)
        self.bill("volume", volume["id"], name=name, tags=volume["tags"], sort=sort, size=size, hourly=hourly)
        return volume

    def attach_volume(self, volume: Record, server: Record, key: str) -> None:
        """Put it into the server under `key` ("0" is the root)."""
        self.dirty = True
        server["volumes"][key] = volume["id"]
        volume["server"], volume["status"] = server["id"], "in_use"
        volume["boot"] = False
        reference = {"id": str(uuid.uuid4()), "server": server["id"], "created": time.time()}
        volume["reference"] = {**reference, "status": "attached", "due": None}

    def detach_volume(self, volume: Record, *, status: str) -> None:
        """Leave the server at once; a block volume's reference goes a little later (`tick` of the API)."""
        self.dirty = True
        server = self.servers.get(volume["server"] or "")
        if server:
            server["volumes"] = {key: held for key, held in server["volumes"].items() if held != volume["id"]}
        volume["server"] = None
        if volume["kind"] != "sbs":
            volume["reference"], volume["status"] = None, "available"
            return
        volume["reference"]["status"] = status
        volume["reference"]["due"] = time.time() + self.settings.delay("detaching")

    def delete_volume(self, volume: Record) -> None:
        """It is gone and costs nothing any more."""
        self.dirty = True
        del self.volumes[volume["id"]]
        self.end("volume", volume["id"])

    # --- user data -------------------------------------------------------------------------------------------------

    def set_user_data(self, server: Record, key: str, value: bytes | None) -> None:
        """Store raw bytes under `key`; None removes it."""
        self.dirty = True
        if value is None:
            server["user_data"].pop(key, None)
        else:
            server["user_data"][key] = base64.b64encode(value).decode("ascii")

    @staticmethod
    def user_data(server: Record, key: str) -> bytes | None:
        """Raw bytes stored under `key`, or None."""
        value = server["user_data"].get(key)
        return None if value is None else base64.b64decode(value)

    # --- ledger ----------------------------------------------------------------------------------------------------

    def bill(
        self,
        kind: str,
        resource_id: str,
        *,
        name: str,
        tags: list[str],
        sort: str,
        hourly: float,
        size: int | None = None,
    ) -> None:
        """Open an entry. A server's meter starts with `meter`, everything else costs from now on."""
        self.dirty = True
        now = time.time()
        self.ledger.append(
            {
                "kind": kind,
                "id": resource_id,
                "name": name,
                "tags": list(tags),
                "type": sort,
                "size": size,
                "hourly_price": hourly,
                "created": now,
                "ended": None,
                "billed": 0.0,
                "since": None if kind == "server" else now,
            }
        )

    def entry(self, kind: str, resource_id: str) -> Record:
        """The ledger's entry of a resource; raises KeyError when there is none."""
        for entry in self.ledger:
            if entry["kind"] == kind and entry["id"] == resource_id:
                return entry
        raise KeyError(f"{kind}/{resource_id}")

    def meter(self, server_id: str, *, running: bool) -> None:
        """A stopped server's compute costs nothing."""
        self.dirty = True
        entry, now = self.entry("server", server_id), time.time()
        if entry["since"] is not None:
            entry["billed"] += now - entry["since"]
        entry["since"] = now if running else None

    def end(self, kind: str, resource_id: str) -> None:
        """Close an entry."""
        self.dirty = True
        entry, now = self.entry(kind, resource_id), time.time()
        if entry["since"] is not None:
            entry["billed"] += now - entry["since"]
        entry["since"], entry["ended"] = None, now

    def ledger_as_json(self) -> list[Record]:
        """Every billable resource that ever existed; seconds alive, and cost in EUR of the seconds that are billed."""
        now = time.time()
        rows = []
        for entry in self.ledger:
            billed = entry["billed"] + (now - entry["since"] if entry["since"] is not None else 0.0)
            rows.append(
                {
                    **{name: entry[name] for name in ("kind", "id", "name", "tags", "type", "size", "hourly_price")},
                    "currency": "EUR",
                    "created_at": iso(entry["created"]),
                    "ended_at": None if entry["ended"] is None else iso(entry["ended"]),
                    "seconds": round((entry["ended"] or now) - entry["created"], 3),
                    "billed_seconds": round(billed, 3),
                    "cost": round(entry["hourly_price"] * billed / 3600, 8),
                }
            )
        return rows
