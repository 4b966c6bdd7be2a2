"""The life of a run's machine at Scaleway: made, booted, found again, removed, and proved removed.

Crash safety: the flexible IP and the server are tagged in the very request that makes them. A root volume cannot be
(the server's request has no tags for it), so it is tagged right after, before user data and power; until then it is
found through the server that holds it at key "0". A controller may die between any two requests: ``Removal`` finds
what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from ansible_collections.plexburst.core.plugins.module_utils.scaleway.client import (
    Deadline,
    Scaleway,
    ScalewayError,
)
from ansible_collections.plexburst.core.plugins.module_utils.scaleway.naming import (
    Marks,
    read_marks,
)
from ansible_collections.plexburst.core.plugins.module_utils.scaleway.offers import (
    SONIC_ARCH,
    Choice,
    Offer,
    Refusal,
    choose,
)
from ansible_collections.plexburst.core.plugins.module_utils.scaleway.records import (
    IpRecord,
    ServerRecord,
    VolumeRecord,
)

T = TypeVar("T")

SHORTEST_POLL = 0.05
"""Seconds; only a simulator is asked that often."""
STUCK_SECONDS = 10.0
"""How long a server may be in a state that allows no end (starting) before every end is tried in turn."""
ASK_AGAIN_SECONDS = 30.0
"""An action that was accepted and shows no effect for so long is asked for again."""
CREATE_TRIES = 4
USER_DATA_KEY = "cloud-init"
_ENDS = ("terminate", "poweroff", "stop_in_place")
_STOPPED = frozenset({"stopped", "stopped in place"})


@dataclass(frozen=True, slots=True)
class Wish:
    """The machine that is wanted. ``size_gb`` is 10^9 bytes each; ``types`` are in order of preference."""

    name: str
    run_id: str
    types: Sequence[str]
    image: str
    root_volume: str
    size_gb: int
    tags: Sequence[str]
    cloud_init: str | None = None
    public_ip: bool = True
    power: bool = True


@dataclass(slots=True)
class Account:
    """What one call made and removed, as ``server/<id>``, ``ip/<id>``, ``volume/<id>``, and which types it was
    refused.
    """

    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    tried: list[Refusal] = field(default_factory=list)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Holdings:
    """Servers, IPs and volumes at one moment."""

    servers: tuple[ServerRecord, ...] = ()
    ips: tuple[IpRecord, ...] = ()
    volumes: tuple[VolumeRecord, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every resource as ``kind/id``."""
        return [
            *(f"server/{server.id}" for server in self.servers),
            *(f"ip/{ip.id}" for ip in self.ips),
            *(f"volume/{volume.id}" for volume in self.volumes),
        ]


class Clock:
    """A deadline and the pause between two looks; SLEEP and the deadline's clock are replaced in tests."""

    def __init__(self, deadline: Deadline, poll: float = 2.0, sleep: Callable[[float], None] = time.sleep) -> None:
        self.deadline = deadline
        self.poll = max(SHORTEST_POLL, poll)
        self._sleep = sleep
        self._began = deadline.remaining()

    @property
    def elapsed(self) -> float:
        """Seconds since this clock was made."""
        return float(self._began - self.deadline.remaining())

    def nap(self) -> bool:
        """Pause once; False when the deadline has passed, before or meanwhile."""
        if not self.deadline.passed:
            self._sleep(min(self.poll, self.deadline.remaining()))
        return not self.deadline.passed


def of_run(run_id: str) -> Callable[[Marks], bool]:
    """Predicate: carries the tag of this run."""
    return lambda marks: marks.run_id == run_id


def holdings(cloud: Scaleway, wanted: Callable[[Marks], bool], known_volumes: Iterable[str] = ()) -> Holdings:
    """List what carries tags that WANTED accepts, root volumes of those servers, and the volumes in KNOWN_VOLUMES.

    Anything else that a person attached to one of our machines (a volume of theirs, their own IP) is theirs, and stays.
    """
    servers = tuple(server for server in cloud.servers() if wanted(read_marks(server.tags)))
    roots = {volume.id for server in servers for volume in server.volumes if volume.key == "0"} | set(known_volumes)
    return Holdings(
        servers=servers,
        ips=tuple(ip for ip in cloud.ips() if wanted(read_marks(ip.tags))),
        volumes=tuple(v for v in cloud.volumes() if v.id in roots or wanted(read_marks(v.tags))),
    )


class Removal:
    """Removes everything WANTED accepts and proves it: every round lists what is there and takes each thing's next
    step.

    One thing that refuses to go does not keep the others; what Scaleway last said about it is kept in ``problems``.
    """

    def __init__(
        self, cloud: Scaleway, wanted: Callable[[Marks], bool], clock: Clock, *, keep_ips: bool = False
    ) -> None:
        self.cloud = cloud
        self.wanted = wanted
        self.keep_ips = keep_ips
        self.clock = clock
        self.deleted: list[str] = []
        self.leftovers: list[str] = []
        self.problems: dict[str, str] = {}
        self._roots: set[str] = set()
        self._asked: dict[str, float] = {}
        self._turn = 0

    def run(self) -> None:
        """Go on until a listing shows nothing (``leftovers`` is empty then) or the deadline has passed."""
        listed = False
        while True:
            try:
                present = holdings(self.cloud, self.wanted, self._roots)
            except ScalewayError:
                if listed and self.clock.deadline.passed:
                    return
                raise
            listed = True
            if self.keep_ips:
                present = replace(present, ips=())
            now = present.names
            self.deleted += [name for name in self.leftovers if name not in now]
            self.leftovers = now
            if not now or self.clock.deadline.passed:
                return
            self._round(present)
            if not self.clock.nap():
                return

    def _round(self, present: Holdings) -> None:
        tags = {volume.id: volume.tags for volume in present.volumes}
        for server in present.servers:
            for root in (volume for volume in server.volumes if volume.key == "0"):
                self._roots.add(root.id)
                if not read_marks(tags.get(root.id, ())).ours:
                    # Terminate only detaches block storage: untagged, nobody would ever find it again.
                    self._try(f"volume/{root.id}", partial(self.cloud.tag_volume, root.id, root.kind, server.tags))
            self._try(f"server/{server.id}", partial(self._end_server, server))
        alive = {server.id for server in present.servers}
        for ip in present.ips:
            if ip.server_id not in alive or self.clock.elapsed > ASK_AGAIN_SECONDS:
                self._try(f"ip/{ip.id}", partial(self.cloud.delete_ip, ip.id))
        for volume in present.volumes:
            if not volume.references and not alive.intersection(volume.server_ids):
                self._try(f"volume/{volume.id}", partial(self.cloud.delete_volume, volume.id, volume.kind))

    def _try(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except ScalewayError as error:
            self.problems[name] = str(error)
        else:
            self.problems.pop(name, None)

    def _end_server(self, server: ServerRecord) -> None:
        """Take the next step towards the end of SERVER, from whatever state it is in."""
        if server.state == "stopped":
            self.cloud.delete_server(server.id)
            return
        if server.state == "locked":
            raise ScalewayError(
                f"Scaleway has locked the server {server.id}: only its support can unlock and remove it.", kind="locked"
            )
        asked = self._asked.get(server.id)
        if asked is not None and self.clock.elapsed - asked < ASK_AGAIN_SECONDS:
            return
        action = next((end for end in _ENDS[:2] if end in server.actions), None)
        if action is None:
            if server.state == "stopping" or self.clock.elapsed < min(STUCK_SECONDS, self.clock.deadline.seconds / 4):
                return
            # A server that hangs in "starting" offers to be stopped in place at most, and lies about that too at times.
            action = "stop_in_place" if "stop_in_place" in server.actions else _ENDS[self._turn % len(_ENDS)]
            self._turn += 1
        self.cloud.action(server.id, action)
        if action in _ENDS[:2]:
            self._asked[server.id] = self.clock.elapsed


class ServerManager:
    """Makes and finds the one machine of a run."""

    def __init__(self, cloud: Scaleway, wish: Wish, clock: Clock) -> None:
        self.cloud = cloud
        self.wish = wish
        self.clock = clock
        self.account = Account()
        self.server: ServerRecord | None = None
        self._offers: dict[str, Offer] | None = None

    def offers(self) -> dict[str, Offer]:
        """All types of the zone, asked for once."""
        if self._offers is None:
            self._offers = self.cloud.offers()
        return self._offers

    def find(self) -> ServerRecord | None:
        """The run's server, whatever its name; ScalewayError when there are several."""
        found = [server for server in self.cloud.servers() if read_marks(server.tags).run_id == self.wish.run_id]
        if len(found) > 1:
            raise ScalewayError(
                f"{len(found)} servers carry the tag of run {self.wish.run_id} ({', '.join(s.id for s in found)}): "
                "expected one. Remove them with state=absent or reap.yml, then run again.",
                kind="ambiguous_run",
            )
        self.server = found[0] if found else None
        return self.server

    def choice(self) -> Choice:
        """Which of the wanted types can be tried now, at today's stock."""
        wish = self.wish
        return choose(
            wish.types, self.offers(), zone=self.cloud.zone, root_volume=wish.root_volume, size_gb=wish.size_gb
        )

    def best(self) -> Offer:
        """The type that would be tried first; ScalewayError when none or no fitting image can be had."""
        self.cloud.check_project()
        choice = self.choice()
        self.account.tried += choice.refused
        if not choice.candidates:
            raise self._no_capacity()
        self.image_id()
        return choice.candidates[0]

    def image_id(self) -> str:
        """Id of the wanted image; a UUID is taken as it is, a label is looked up in the marketplace."""
        image = self.wish.image
        if len(image) == 36 and image.count("-") == 4:
            return image
        return str(self.cloud.image_id(image, arch=SONIC_ARCH, root_volume=self.wish.root_volume))

    def ensure(self) -> ServerRecord:
        """Make the machine, or go on with the one that an interrupted run left, until it is as wished.

        Raises ScalewayError; ``account`` tells in any case what was made and removed, ``server`` what was last seen.
        """
        server = self.find()
        if server is None:
            return self._create(self.choice())
        try:
            return self._bring_up(server) if self.wish.power else server
        except ScalewayError as error:
            if not error.is_shortage:
                raise
            self.account.tried.append(Refusal(server.commercial_type, str(error)))
            self._discard(server)
            choice = self.choice()
            left = tuple(offer for offer in choice.candidates if offer.name != server.commercial_type)
            return self._create(Choice(left, choice.refused))

    # --- making

    def _create(self, choice: Choice) -> ServerRecord:
        self.cloud.check_project()
        self.account.tried += choice.refused
        if choice.candidates:
            image = self.image_id()
            address = self._ip() if self.wish.public_ip else None
            for offer in choice.candidates:
                try:
                    return self._create_one(offer, image, address)
                except ScalewayError as error:
                    if not error.is_shortage:
                        raise
                    self.account.tried.append(Refusal(offer.name, str(error)))
                    if self.server is not None:
                        self._discard(self.server)
            if address is not None:
                self.cloud.delete_ip(address.id)
                self.account.deleted.append(f"ip/{address.id}")
        raise self._no_capacity()

    def _no_capacity(self) -> ScalewayError:
        reasons = "; ".join(f"{refusal.type}: {refusal.reason}" for refusal in self.account.tried)
        return ScalewayError(
            f"None of the wanted instance types can be had in {self.cloud.zone} "
            f"({reasons.rstrip('.') or 'none was named'}). "
            "Name more types, another zone, or try again later; nothing was left behind.",
            kind="no_capacity",
        )

    def _create_one(self, offer: Offer, image: str, address: IpRecord | None) -> ServerRecord:
        wish = self.wish
        self.server = None
        server = self._make_once(
            lambda: self.cloud.create_server(
                name=wish.name,
                commercial_type=offer.name,
                image=image,
                root_volume=wish.root_volume,
                size_gb=wish.size_gb,
                tags=wish.tags,
                ip_id=address.id if address else None,
            ),
            self.find,
        )
        self.server = server
        self.account.changed = True
        self.account.created.append(f"server/{server.id}")
        self.account.created += [f"volume/{volume.id}" for volume in server.volumes]
        self._prepare(server)
        return self._bring_up(server, prepared=True) if wish.power else server

    def _ip(self) -> IpRecord:
        """The run's flexible IP: the one an interrupted create left, or a new one."""

        def left_over() -> IpRecord | None:
            return next((ip for ip in self.cloud.ips() if read_marks(ip.tags).run_id == self.wish.run_id), None)

        found = left_over()
        if found is not None:
            return found
        address = self._make_once(lambda: self.cloud.create_ip(self.wish.tags), left_over)
        self.account.changed = True
        self.account.created.append(f"ip/{address.id}")
        return address

    def _make_once(self, make: Callable[[], T], find: Callable[[], T | None]) -> T:
        """Make a thing exactly once, although the answer to a request that made it may be lost."""
        tries = 0
        while True:
            tries += 1
            try:
                return make()
            except ScalewayError as error:
                if not error.ambiguous:
                    raise
                went_on = self.clock.nap()
                found = find()
                if found is not None:
                    return found
                if tries >= CREATE_TRIES or not went_on:
                    raise

    def _prepare(self, server: ServerRecord) -> None:
        """What must be there before the first boot: tags on the volumes, then cloud-init."""
        for volume in server.volumes:
            self.cloud.tag_volume(volume.id, volume.kind, self.wish.tags)
        if self.wish.cloud_init:
            self.cloud.set_user_data(server.id, USER_DATA_KEY, self.wish.cloud_init.encode())

    # --- booting

    def _bring_up(self, server: ServerRecord, *, prepared: bool = False) -> ServerRecord:
        """Power SERVER on if need be and wait until it runs and its address is attached.

        A server that was stopped, moved, and is stopped again was given up by Scaleway: no capacity for that type.
        """
        asked = moved = False
        while True:
            self.server = server
            if server.state == "running" and (not self.wish.public_ip or server.public_ipv4 or server.public_ipv6):
                return server
            if server.state == "locked":
                raise ScalewayError(f"Scaleway has locked the server {server.id}: ask its support.", kind="locked")
            if server.state in _STOPPED:
                if moved:
                    raise ScalewayError(
                        f"Scaleway stopped the new server {server.id} again instead of booting it.", kind="out_of_stock"
                    )
                if not asked:
                    if not prepared and server.state == "stopped":
                        self._prepare(server)
                        prepared = True
                    asked = self._power_on(server)
            else:
                moved = asked
            if not self.clock.nap():
                raise self._late(server)
            try:
                seen = self.cloud.server(server.id)
            except ScalewayError as error:
                if self.clock.deadline.passed:
                    raise self._late(server) from error
                raise
            if seen is None:
                raise ScalewayError(
                    f"The server {server.id} disappeared while it was booting: somebody or something removed it.",
                    kind="not_found",
                )
            server = seen

    def _late(self, server: ServerRecord) -> ScalewayError:
        detail = f" ({server.state_detail})" if server.state_detail else ""
        missing = ", but no public address was attached" if server.state == "running" else ""
        return ScalewayError(
            f"The server {server.id} ({server.commercial_type}) was not running after "
            f"{self.clock.deadline.seconds:.0f} s: its last state was {server.state}{detail}{missing}. "
            "Remove it (state=absent), then try another type or zone, or a longer wait_timeout.",
            kind="deadline",
        )

    def _power_on(self, server: ServerRecord) -> bool:
        """Ask for power; False when it is unknown whether the request arrived (the next look decides)."""
        try:
            self.cloud.action(server.id, "poweron")
        except ScalewayError as error:
            if error.ambiguous:
                return False
            if error.kind != "transient_state":
                raise
        self.account.changed = True
        return True

    def _discard(self, server: ServerRecord) -> None:
        """Remove a server that cannot boot, and its root volume, and keep the IP for the next type."""
        removal = Removal(self.cloud, of_run(self.wish.run_id), self.clock, keep_ips=True)
        removal.run()
        self.account.changed = True
        self.account.deleted += removal.deleted
        if removal.leftovers:
            raise ScalewayError(
                f"The server {server.id} cannot boot and could not be removed either (left: "
                f"{', '.join(removal.leftovers)}). Run reap.yml.",
                kind="leftovers",
            )
        self.server = None


def run_began(run_id: str | None) -> datetime | None:
    """When a run began, read from its id (YYYYMMDD-HHMMSS-abcd, UTC); None when the id says no time."""
    try:
        return datetime.strptime((run_id or "")[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def overdue(now: datetime, older_than_hours: float | None = None) -> Callable[[Marks], bool]:
    """Predicate: ours, and past its expiry at NOW, or (if asked) of a run that began more than so many hours ago.

    What has neither an expiry nor a time in its run id is never overdue: it is reported, and removed only when named.
    """

    def judge(marks: Marks) -> bool:
        if not marks.ours:
            return False
        if marks.expires_at is not None and marks.expires_at <= now:
            return True
        began = run_began(marks.run_id)
        if older_than_hours is None or began is None:
            return False
        return (now - began).total_seconds() > older_than_hours * 3600

    return judge
