"""What happens to a server over time: switched on, off, rebooted, terminated."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable

from sandbox.httpd import Request, Response
from sandbox.scaleway import errors
from sandbox.scaleway.app import App, body_of
from sandbox.scaleway.products import Products
from sandbox.scaleway.servers import ALLOWED, BASE, Servers
from sandbox.scaleway.store import Record, iso

_TASKS = {
    "poweron": "server_batch_poweron",
    "poweroff": "server_poweroff",
    "terminate": "server_terminate",
    "reboot": "server_reboot",
    "stop_in_place": "server_stop_in_place",
}


class Actions:
    """A transition is a record {"to", "due"} on the server: it survives a restart of the simulator."""

    def __init__(self, app: App, products: Products, servers: Servers) -> None:
        self._app = app
        self._store = app.store
        self._products = products
        self._servers = servers
        self._arrivals: dict[str, Callable[[Record, float], bool]] = {
            "running": self._arrive_running,
            "booted": self._arrive_booted,
            "rebooted": self._arrive_rebooted,
            "stopped": self._arrive_stopped,
            "stopped in place": self._arrive_stopped,
            "gone": self._arrive_gone,
        }
        app.ticks.append(self._tick)
        app.api("POST", f"{BASE}/{{server_id}}/action", self._action)
        for server in self._store.servers.values():
            if server["state"] == "running" and (server["transition"] or {}).get("to") in (None, "booted"):
                self._switch_on(server)

    def _action(self, request: Request) -> Response:
        server = self._servers.find(request)
        body = body_of(request, {"action", "name", "volumes", "disk_path"})
        action = body.get("action")
        if action not in _TASKS and action not in ("backup", "enable_routed_ip"):
            raise errors.invalid("action", f"{action} is not an action")
        if action not in ALLOWED[server["state"]]:
            if server["state"] in ("starting", "stopping"):
                raise errors.transient("instance_server", server["id"], server["state"])
            raise errors.precondition(f"server should be {'stopped' if action == 'poweron' else 'running'}")
        if action not in _TASKS:
            raise errors.typed(501, "not_implemented", f"the simulator does not do {action}")
        if action == "terminate" and server["protected"]:
            raise errors.precondition("server is protected")
        getattr(self, f"_{action}")(server)
        server["modified"] = time.time()
        self._store.dirty = True
        return self._task(request, server, action)

    def _task(self, request: Request, server: Record, action: str) -> Response:
        task_id = str(uuid.uuid4())
        task = {
            "id": task_id,
            "description": _TASKS[action],
            "status": "pending",
            "href_from": f"/servers/{server['id']}/action",
            "href_result": f"/servers/{server['id']}",
            "started_at": iso(time.time()),
            "terminated_at": None,
            "progress": 0,
            "zone": server["zone"],
        }
        location = f"/instance/v1/zones/{request.params['zone']}/tasks/{task_id}"
        return Response.json({"task": task}, 202, {"Location": location})

    # --- departures ------------------------------------------------------------------------------------------------

    def _poweron(self, server: Record) -> None:
        fault = self._app.fault("out_of_stock_at_poweron")
        refused = fault == "*" or (isinstance(fault, list) and server["commercial_type"] in fault)
        if refused or (server["state"] == "stopped" and self._products.refuses(server["commercial_type"])):
            raise errors.out_of_stock(server["commercial_type"])
        server["state"], server["detail"] = "starting", "allocating node"
        self._store.meter(server["id"], running=True)
        if server["dynamic_ip_required"] and not server["ips"]:
            ip = self._store.new_ip(server["zone"], tags=server["tags"], dynamic=True)
            self._store.attach_ip(ip, server)
            ip["state"] = "pending"
        self._due(server, "running", self._app.settings.delay("starting"))

    def _poweroff(self, server: Record) -> None:
        local = any(self._store.volumes[volume_id]["kind"] == "l_ssd" for volume_id in server["volumes"].values())
        delay = self._app.settings.delay("stopping_local" if local else "stopping")
        server["state"], server["detail"] = "stopping", "stopping"
        self._due(server, "stopped", delay + float(self._app.fault("poweroff_slow") or 0))
        self._app.hosts.stop(server["id"])

    def _stop_in_place(self, server: Record) -> None:
        server["state"], server["detail"] = "stopping", "stopping"
        self._due(server, "stopped in place", self._app.settings.delay("stopping"))
        self._app.hosts.stop(server["id"])

    def _reboot(self, server: Record) -> None:
        # [?] which states a real reboot shows; one must be seen, or a caller cannot tell that it happened.
        server["state"], server["detail"] = "starting", "rebooting"
        self._due(server, "rebooted", self._app.settings.delay("rebooting"))
        self._app.hosts.stop(server["id"])

    def _terminate(self, server: Record) -> None:
        server["state"], server["detail"] = "stopping", "terminating"
        self._due(server, "gone", self._app.settings.delay("terminating"))
        self._app.hosts.stop(server["id"])

    def _due(self, server: Record, to: str, seconds: float) -> None:
        server["transition"] = {"to": to, "due": time.time() + seconds}

    # --- arrivals --------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for server in list(self._store.servers.values()):
            transition = server["transition"]
            if transition and transition["due"] <= now and self._arrivals[transition["to"]](server, now):
                self._store.dirty = True
        for ip in self._store.ips.values():
            if ip["state"] == "pending" and ip["due"] is not None and ip["due"] <= now:
                ip["state"], ip["due"] = "attached", None
                self._store.dirty = True

    def _arrive_running(self, server: Record, now: float) -> bool:
        if self._app.fault("never_boots"):
            return False
        server["state"], server["detail"] = "running", "booting kernel"
        numbers = {"cluster_id": random.randrange(1, 99), "hypervisor_id": random.randrange(1, 999)}
        server["location"] = {
            "zone_id": server["zone"].replace("fr-par-", "par"),
            "platform_id": "14",
            **{name: str(number) for name, number in numbers.items()},
            "node_id": str(random.randrange(1, 99)),
        }
        for ip_id in server["ips"]:
            if self._store.ips[ip_id]["state"] == "pending":
                self._store.ips[ip_id]["due"] = now + self._app.settings.delay("ip_pending")
        self._due(server, "booted", self._app.settings.delay("booted"))
        self._switch_on(server)
        return True

    def _arrive_booted(self, server: Record, now: float) -> bool:
        if self._address(server) and not self._app.hosts.is_ready(server["id"]):
            return False
        server["detail"], server["transition"] = "booted", None
        return True

    def _arrive_rebooted(self, server: Record, now: float) -> bool:
        return self._app.hosts.is_down(server["id"]) and self._arrive_running(server, now)

    def _arrive_stopped(self, server: Record, now: float) -> bool:
        if not self._app.hosts.is_down(server["id"]):
            return False
        server["state"], server["detail"] = server["transition"]["to"], ""
        server["transition"] = None
        if server["state"] == "stopped":
            server["location"] = None
            self._store.meter(server["id"], running=False)
            self._servers.release_ips(server, dynamic_only=True)
        return True

    def _arrive_gone(self, server: Record, now: float) -> bool:
        if not self._app.hosts.is_down(server["id"]):
            return False
        self._servers.remove(server, local_volumes=True)
        return True

    def _switch_on(self, server: Record) -> None:
        address = self._address(server)
        if address:
            user_data = self._store.user_data(server, "cloud-init") or b""
            self._app.hosts.start(server["id"], address, user_data)

    def _address(self, server: Record) -> str:
        """Where its SSH server listens: the first public IPv4, "" when it has none (nobody can reach it then)."""
        addresses = [self._store.ips[ip_id]["address"] for ip_id in server["ips"]]
        return next((address for address in addresses if address), "")
