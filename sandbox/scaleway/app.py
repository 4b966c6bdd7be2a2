"""The API's frame: authentication, faults, zones, pages, one lock, and the clock that moves everything on."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.faults import Faults
from sandbox.httpd import Request, Response, Simulator
from sandbox.scaleway import catalogue, errors
from sandbox.scaleway.containers import PLATFORM, ContainerHosts
from sandbox.scaleway.hosts import Hosts
from sandbox.scaleway.settings import Settings
from sandbox.scaleway.store import Record, Store

_TICK_SECONDS = 0.05


class App(Simulator):
    """The frame in which servers, addresses, volumes and products register their routes and their ticks."""

    def __init__(self, directory: Path, settings: Settings) -> None:
        super().__init__("scaleway", Faults(directory / "faults" / "scaleway.json"))
        self.settings = settings
        self.store = Store(directory, settings)
        self.hosts: Hosts | ContainerHosts = (
            ContainerHosts(directory) if (directory / PLATFORM).is_file() else Hosts(directory, settings)
        )
        self.lock = threading.RLock()
        self.ticks: list[Callable[[float], None]] = []
        self._emptied: dict[str, int] = {}
        self._end = threading.Event()
        self._clock = threading.Thread(target=self._run_clock, daemon=True, name="clock")
        self.route("GET", "/_sandbox/ledger", self._ledger)

    def api(self, method: str, template: str, handler: Callable[[Request], Response]) -> None:
        """Register a route of the API: `{zone}` is checked, the clock is brought up to now, changes are saved."""

        def locked(request: Request) -> Response:
            zone = request.params.get("zone")
            if zone is not None and zone not in catalogue.ZONES:
                raise errors.invalid("zone", f"{zone} is not a valid zone")
            with self.lock:
                self.tick()
                try:
                    return handler(request)
                finally:
                    self.store.save()

        self.route(method, template, locked)

    def before(self, request: Request) -> Response | None:
        """Faults first (a gateway fails before anybody is asked who they are), then the key."""
        assert self.faults is not None  # noqa: S101 - given in __init__
        self._hang()
        block = request.path.startswith("/block/")
        if self.faults.take("rate_limit") or (block and self.faults.take("block_rate_limit")):
            return Response(429)
        if block and (status := self.fault("block_down")) is not None:
            raise errors.block_down(status)
        if self.faults.take("error_500"):
            raise errors.typed(500, "internal_error", "internal error")
        if self.faults.take("error_html"):
            return Response.text("<html><body><h1>502 Bad Gateway</h1></body></html>", 502, "text/html")
        if self.faults.take("html_page"):
            return Response.text("<html><body><h1>Sign in to this network</h1></body></html>", 200, "text/html")
        token = request.header("x-auth-token")
        if not token:
            raise errors.denied("invalid_argument")
        if token != self.settings.secret_key:
            raise errors.denied("not_found")
        return self._empty_list(request)

    def _empty_list(self, request: Request) -> Response | None:
        """Fault `empty_lists`: the first n times that each list of things is asked for, it shows nothing."""
        times = self.fault("empty_lists")
        if times is None:
            self._emptied.clear()
            return None
        name = request.path.rpartition("/")[2]
        if request.method != "GET" or name not in ("servers", "ips", "volumes") or "/products/" in request.path:
            return None
        with self.lock:
            self._emptied[request.path] = self._emptied.get(request.path, 0) + 1
            if self._emptied[request.path] > int(times):
                return None
        return (modern_page if request.path.startswith("/block/") else instance_page)(request, name, [])

    def fallback(self, request: Request, allowed: list[str]) -> Response:
        """A route nobody wrote: loud and typed, so that a test fails for the right reason."""
        if allowed:
            methods = ", ".join(sorted(set(allowed)))
            message = f"{request.method} is not allowed on {request.path}, only {methods}"
            raise errors.typed(405, "method_not_allowed", message)
        raise errors.typed(501, "not_implemented", f"the simulator does not know {request.method} {request.path}")

    def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Serve; servers that ran when the simulator ended run again."""
        url = super().start(port, host)
        self._clock.start()
        return url

    def stop(self) -> None:
        """Stop serving, end the machines, keep the state."""
        super().stop()
        self._end.set()
        if self._clock.is_alive():
            self._clock.join()
        self.hosts.stop_all()
        with self.lock:
            self.store.save()

    def tick(self) -> None:
        """Let everything that is due happen."""
        now = time.time()
        for tick in self.ticks:
            tick(now)

    def fault(self, name: str) -> Any:
        """The value of a fault, None when it is off."""
        assert self.faults is not None  # noqa: S101 - given in __init__
        return self.faults.get(name)

    def project_of(self, body: Record, key: str = "project") -> str:
        """The project a new thing belongs to: given as project or organization, exactly one of them, and ours."""
        project, organization = body.get(key), body.get(key.replace("project", "organization"))
        if (project is None) == (organization is None):
            raise errors.invalid(key, f"exactly one of {key} and organization must be given", "required")
        if project not in (None, self.settings.project_id) or organization not in (None, self.settings.organization_id):
            raise errors.forbidden("write", key)
        return self.settings.project_id

    def is_ours(self, request: Request, suffix: str = "") -> bool:
        """Whether the list filters `project` and `organization` let our things through."""
        project, organization = request.arg(f"project{suffix}"), request.arg(f"organization{suffix}")
        return project in ("", self.settings.project_id) and organization in ("", self.settings.organization_id)

    def _run_clock(self) -> None:
        while not self._end.wait(_TICK_SECONDS):
            with self.lock:
                self.tick()
                self.store.save()
            self.hosts.reap()

    def _hang(self) -> None:
        """Fault `hang`: this request waits, until the seconds are over or the fault is switched off."""
        started = time.monotonic()
        while (seconds := self.fault("hang")) is not None and time.monotonic() - started < float(seconds):
            time.sleep(0.05)

    def _ledger(self, _request: Request) -> Response:
        with self.lock:
            self.tick()
            return Response.json(self.store.ledger_as_json())


def body_of(request: Request, allowed: set[str]) -> Record:
    """The JSON body, an object with no other keys than `allowed`."""
    if not request.header("content-type").startswith("application/json"):
        raise errors.malformed("Content-Type must be application/json")
    try:
        body = json.loads(request.body)
    except ValueError:
        raise errors.malformed("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise errors.malformed("the body must be a JSON object")
    for key in body:
        if key not in allowed:
            raise errors.invalid(key, f"{key} is not a field of this request", "unknown")
    return body


def tags_of(body: Record) -> list[str]:
    """The tags in a body: a list of strings."""
    tags = body.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise errors.invalid("tags", "tags must be a list of strings")
    return list(tags)


def uuid_of(request: Request, name: str) -> str:
    """A path parameter that must be a UUID."""
    value = request.params[name]
    try:
        return str(uuid.UUID(value))
    except ValueError:
        raise errors.invalid(name, f"{value} is not a valid UUID") from None


def has_tags(record: Record, wanted: list[str]) -> bool:
    """Whether a record carries all of `wanted`."""
    return set(wanted) <= set(record["tags"])


def comma_list(request: Request, name: str) -> list[str]:
    """`?tags=a,b`: how the Instance API takes lists."""
    return [part for part in request.arg(name).split(",") if part]


def instance_page(request: Request, name: str, items: list[Any], *, as_map: bool = False) -> Response:
    """A page as the Instance API gives it: per_page/page, X-Total-Count, Link; empty beyond the end.

    With `as_map` the items are (key, value) pairs and the page is an object, as for server types.
    """
    size = _positive(request, "per_page", 50, 100)
    chosen, page, pages = _slice(request, items, size)
    links = [("first", 1), ("previous", page - 1), ("next", page + 1), ("last", pages)]
    link = ",".join(
        f'<{request.path}?page={number}&per_page={size}>; rel="{rel}"' for rel, number in links if 1 <= number <= pages
    )
    headers = {"X-Total-Count": str(len(items)), "Link": link}
    return Response.json({name: dict(chosen) if as_map else chosen}, headers=headers)


def modern_page(request: Request, name: str, items: list[Any]) -> Response:
    """A page as the newer APIs give it: page_size/page, total_count in the body."""
    chosen, _, _ = _slice(request, items, _positive(request, "page_size", 50, 100))
    return Response.json({name: chosen, "total_count": len(items)})


def _slice(request: Request, items: list[Any], size: int) -> tuple[list[Any], int, int]:
    page = _positive(request, "page", 1, 1_000_000)
    return items[(page - 1) * size : page * size], page, max(1, -(-len(items) // size))


def _positive(request: Request, name: str, default: int, most: int) -> int:
    text = request.arg(name)
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise errors.invalid(name, f"{name} must be between 1 and {most}, not {text}")
    return int(text)
