"""A cloud in memory, on a clock that only moves when somebody waits: the listings of each kind fail as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.client import Deadline, ScalewayError
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.records import (
    AttachedVolume,
    IpRecord,
    ServerRecord,
    VolumeRecord,
)
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.servers import Clock

ZONE = "fr-par-1"
TAGS = ("plexburst", "plexburst-run=run-1")
REQUEST_SECONDS = 0.1

Trouble = Callable[[float, int], "ScalewayError | str | None"]
"""Says of the N-th request to a service at a moment (seconds) what is wrong: an error, "empty" for a list, None."""


class VirtualTime:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self, seconds: float, poll: float = 2.0) -> Clock:
        return Clock(Deadline(seconds, clock=lambda: self.now), poll, self.sleep)


class FakeCloud:
    """What ``Removal`` asks of ``Scaleway``. ``trouble`` is by service: server, ip, block, local."""

    zone = ZONE

    def __init__(self, time: VirtualTime, **trouble: Trouble) -> None:
        self.time = time
        self.trouble = trouble
        self.deadline: Deadline | None = None
        self.tries = 6
        self.requests: dict[str, int] = {}
        self.held: dict[str, dict[str, Any]] = {"server": {}, "ip": {}, "block": {}, "local": {}}
        self.terminated_at: float | None = None

    def run(self, *, state: str = "running", tagged: bool = True) -> None:
        """Hold what one run made: server/s1, its root volume/v1, ip/i1."""
        self.held["server"]["s1"] = ServerRecord(
            id="s1",
            name="plexburst-run-1",
            zone=ZONE,
            state=state,
            state_detail="",
            commercial_type="GP1-S",
            tags=TAGS,
            actions=("terminate", "poweroff") if state == "running" else ("poweron",),
            volumes=(AttachedVolume("v1", "sbs_volume", "0"),),
        )
        self.held["ip"]["i1"] = IpRecord("i1", "51.15.0.1", ZONE, TAGS, "s1")
        self.volume("v1", TAGS if tagged else (), "s1")

    def volume(self, identity: str, tags: Iterable[str], server: str | None = None) -> None:
        self.held["block"][identity] = VolumeRecord(
            id=identity,
            name="Ubuntu_sbs_volume_0",
            zone=ZONE,
            kind="sbs_volume",
            size=20_000_000_000,
            status="in_use" if server else "available",
            tags=tuple(tags),
            references=("attached",) if server else (),
            server_ids=(server,) if server else (),
        )

    @property
    def alive(self) -> list[str]:
        """Ids of all that is billed."""
        return sorted(identity for things in self.held.values() for identity in things)

    @contextmanager
    def attempts(self, number: int) -> Iterator[None]:
        before, self.tries = self.tries, number
        try:
            yield
        finally:
            self.tries = before

    def _ask(self, service: str, *, listing: bool = False) -> bool:
        """Pay for a request in time; False when the list is to show nothing. Tries again as the client does."""
        pause = 0.5
        for attempt in range(1, self.tries + 1):
            if self.deadline is not None and self.deadline.passed:
                raise ScalewayError("Scaleway's API was not queried, because no time was left.", kind="deadline")
            self.time.sleep(REQUEST_SECONDS)
            self.requests[service] = self.requests.get(service, 0) + 1
            wrong = self.trouble.get(service, lambda _now, _number: None)(self.time.now, self.requests[service])
            if wrong == "empty":
                return not listing
            if wrong is None:
                return True
            assert isinstance(wrong, ScalewayError)
            if wrong.kind not in {"server_error", "rate_limited"} or attempt == self.tries:
                raise wrong
            if self.deadline is not None and pause >= self.deadline.remaining():
                raise wrong
            self.time.sleep(pause)
            pause *= 2
        raise AssertionError("not reached")

    def _list(self, service: str) -> list[Any]:
        return list(self.held[service].values()) if self._ask(service, listing=True) else []

    def _one(self, service: str, identity: str) -> Any:
        self._ask(service)
        return self.held[service].get(identity)

    def servers(self) -> list[ServerRecord]:
        return self._list("server")

    def ips(self) -> list[IpRecord]:
        return self._list("ip")

    def block_volumes(self) -> list[VolumeRecord]:
        return self._list("block")

    def local_volumes(self) -> list[VolumeRecord]:
        return self._list("local")

    def volumes(self) -> list[VolumeRecord]:
        return [*self.block_volumes(), *self.local_volumes()]

    def server(self, identity: str) -> ServerRecord | None:
        return self._one("server", identity)

    def ip(self, identity: str) -> IpRecord | None:
        return self._one("ip", identity)

    def block_volume(self, identity: str) -> VolumeRecord | None:
        return self._one("block", identity)

    def local_volume(self, identity: str) -> VolumeRecord | None:
        return self._one("local", identity)

    def tag_volume(self, identity: str, _kind: str, tags: Iterable[str]) -> None:
        self._ask("block")
        self.held["block"][identity] = replace(self.held["block"][identity], tags=tuple(tags))

    def action(self, identity: str, action: str) -> None:
        self._ask("server")
        assert action == "terminate"
        self.delete_server(identity)

    def delete_server(self, identity: str) -> None:
        self._ask("server")
        self.terminated_at = self.time.now
        del self.held["server"][identity]
        for volume in self.held["block"].values():
            if identity in volume.server_ids:
                self.volume(volume.id, volume.tags)

    def delete_ip(self, identity: str) -> None:
        self._ask("ip")
        self.held["ip"].pop(identity, None)

    def delete_volume(self, identity: str, _kind: str) -> None:
        self._ask("block")
        self.held["block"].pop(identity, None)


def down(status: int = 503) -> ScalewayError:
    """What the client raises for a service that is down, or that refuses the key."""
    if status == 403:
        return ScalewayError("Scaleway refused GET volumes with 403.", kind="permissions_denied", status=403)
    kind = "rate_limited" if status == 429 else "server_error"
    return ScalewayError(f"Scaleway's API answered {status}.", kind=kind, status=status)


def html() -> ScalewayError:
    """What the client raises for an HTML page with 200."""
    return ScalewayError("Scaleway's answer about volumes is invalid.", kind="unreadable")
