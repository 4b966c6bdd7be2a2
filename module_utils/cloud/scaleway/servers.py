"""The life cycle of a run's Instance: create, boot, find, remove, and verify the removal.

Crash safety: the flexible IP and the server are tagged in the very request that makes them. A root volume cannot be
(the server's request has no tags for it), so it is tagged right after, before user data and power; until then it is
found through the server that holds it at key "0". A controller may die between any two requests: ``Removal`` finds
what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from .client import Deadline, Scaleway, ScalewayError
from .naming import Marks, read_marks, run_began
from .offers import SONIC_ARCH, Choice, Offer, Refusal, choose
from .records import LOCAL_VOLUME, AttachedVolume, IpRecord, ServerRecord, VolumeRecord, described

T = TypeVar("T")
R = TypeVar("R", ServerRecord, IpRecord, VolumeRecord)

KINDS = ("server", "ip", "block volume", "local volume")
"""Kinds of resources, each with its own listing; a resource's name begins with the last word of its kind."""
PROOF = 2
"""Number of empty listings in a row that verify a removal."""

SHORTEST_POLL = 0.05
"""Seconds; only a simulator is asked that often."""
STUCK_SECONDS = 10.0
"""How long a server may be in a state that allows no end (starting) before every end is tried in turn."""
ASK_AGAIN_SECONDS = 30.0
"""Seconds after which an accepted action without effect is requested again."""
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
    roots = {root.id for server in servers for root in _roots(server)} | set(known_volumes)
    return Holdings(
        servers=servers,
        ips=tuple(ip for ip in cloud.ips() if wanted(read_marks(ip.tags))),
        volumes=tuple(v for v in cloud.volumes() if v.id in roots or wanted(read_marks(v.tags))),
    )


def _roots(server: ServerRecord) -> list[AttachedVolume]:
    return [volume for volume in server.volumes if volume.key == "0"]


def _place(volume: AttachedVolume) -> str:
    """Return the kind, as in KINDS, of a server's volume."""
    return "local volume" if volume.kind == LOCAL_VOLUME else "block volume"


def _name(kind: str, identity: str) -> str:
    return f"{kind.rsplit(maxsplit=1)[-1]}/{identity}"


class Removal:
    """Removes all resources that WANTED accepts or KNOWN names (``server/<id>``, …), and verifies the removal.

    A round lists each kind separately and takes the next step for each resource. A failed listing leaves its kind
    without a result in this round: the others continue, and it is repeated until the deadline. A resource that was seen
    or is known, but is not listed, is queried by its id. The removal of a kind is verified by two rounds in a row with
    an empty listing in which Scaleway knows none of the ids; one empty page is no proof.

    With ACT false it only lists. ``leftovers`` and ``left`` have what is not verified as removed, and why.
    """

    def __init__(
        self,
        cloud: Scaleway,
        wanted: Callable[[Marks], bool],
        clock: Clock,
        *,
        known: Iterable[str] = (),
        keep_ips: bool = False,
        act: bool = True,
    ) -> None:
        self.cloud = cloud
        self.wanted = wanted
        self.clock = clock
        self.act = act
        self.kinds = tuple(kind for kind in KINDS if not (keep_ips and kind == "ip"))
        self.records: dict[str, ServerRecord | IpRecord | VolumeRecord] = {}
        """All resources seen, in their last state, by name."""
        self.kept: dict[str, dict[str, Any]] = {}
        """Plexburst's resources that are not wanted, with a description, by name."""
        self.problems: dict[str, str] = {}
        """Scaleway's last message about a resource that was not removed."""
        self.unlisted: dict[str, str] = {}
        """Error of the last listing, by kind."""
        self._denied: set[str] = set()
        """Kinds whose last listing was denied (401, 403): the next one will be, too."""
        self._absent: dict[str, dict[str, int]] = {kind: {} for kind in self.kinds}
        self._empty = dict.fromkeys(self.kinds, 0)
        self._listings = dict.fromkeys(self.kinds, 0)
        self._kept_roots: set[str] = set()
        self._tagged: set[str] = set()
        self._asked: dict[str, float] = {}
        self._turn = 0
        for name in known:
            kind, _, identity = name.partition("/")
            for place in (each for each in self.kinds if each.rsplit(maxsplit=1)[-1] == kind):
                self._absent[place][identity] = 0

    # --- leftovers

    @property
    def done(self) -> bool:
        """True if the removal of every kind is verified."""
        return all(count >= PROOF for count in self._empty.values())

    @property
    def looked(self) -> bool:
        """True if every kind was listed often enough."""
        return all(count >= PROOF for count in self._listings.values())

    @property
    def ended(self) -> bool:
        """True if another round can change nothing. A look ends when all it lacks is denied; a removal goes on."""
        if self.act:
            return self.done
        return all(count >= PROOF or kind in self._denied for kind, count in self._listings.items())

    @property
    def not_listed(self) -> dict[str, str]:
        """Kinds that were not listed often enough, and why."""
        short = [kind for kind, count in self._listings.items() if count < PROOF]
        return {kind: self.unlisted.get(kind, "No time was left to list them twice.") for kind in short}

    @property
    def seen(self) -> list[str]:
        """Names of all resources seen."""
        return list(self.records)

    @property
    def leftovers(self) -> list[str]:
        """Resources that are not verified as removed: names, and ``unknown/…`` for a kind that could not be listed."""
        return list(dict.fromkeys(name for names in self._left().values() for name in names))

    @property
    def deleted(self) -> list[str]:
        """Resources that were seen and are verified as removed."""
        left = self.leftovers
        return [name for name in self.seen if name not in left] if self.act else []

    def _left(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for kind in self.kinds:
            names = [_name(kind, identity) for identity, count in self._absent[kind].items() if count < PROOF]
            if not names and self._empty[kind] < PROOF:
                names = [f"unknown/{kind}s in {self.cloud.zone}"]
            if names:
                found[kind] = names
        return found

    @property
    def left(self) -> str:
        """Return the leftovers by kind with Scaleway's message; empty without leftovers."""
        sentences = []
        for kind, names in self._left().items():
            said = [self.unlisted[kind]] if kind in self.unlisted else []
            said += [self.problems[name] for name in names if self.problems.get(name) not in (None, *said)]
            reason = " ".join(said) or "Scaleway accepted every request."
            sentences.append(f"{kind}s: {', '.join(names)} ({reason})")
        return "; ".join(sentences)

    # --- removal

    def run(self) -> None:
        """Repeat rounds until the removal is verified or the deadline has passed. A failed request raises nothing.

        When only looking, as many listings as proof takes are enough.
        """
        together([self], self.clock)

    def machines(self) -> None:
        """Run the part of a round for servers and IPs (Instance API)."""
        # The next round is the retry, so that a service that hangs does not delay the others.
        with self.cloud.attempts(2):
            for server in self._look("server", self.cloud.servers, self.cloud.server):
                self._remove_server(server)
            if "ip" in self.kinds:
                for ip in self._look("ip", self.cloud.ips, self.cloud.ip):
                    if ip.server_id not in self._alive or self.clock.elapsed > ASK_AGAIN_SECONDS:
                        self._try(f"ip/{ip.id}", partial(self.cloud.delete_ip, ip.id))

    def storage(self) -> None:
        """Run the part of a round for volumes; Block Storage can fail separately."""
        with self.cloud.attempts(2):
            for volume in [
                *self._look("local volume", self.cloud.local_volumes, self.cloud.local_volume),
                *self._look("block volume", self.cloud.block_volumes, self.cloud.block_volume),
            ]:
                if not volume.references and not self._alive.intersection(volume.server_ids):
                    self._try(f"volume/{volume.id}", partial(self.cloud.delete_volume, volume.id, volume.kind))

    @property
    def _alive(self) -> set[str]:
        """Servers that existed at the last query."""
        return {identity for identity, count in self._absent["server"].items() if not count}

    def _look(self, kind: str, listing: Callable[[], list[R]], one: Callable[[str], R | None]) -> list[R]:
        """Return the existing resources of KIND, as far as Scaleway answers; counts the absent ones."""
        absent = self._absent[kind]
        listed = self._listed(kind, listing)
        found = {record.id: record for record in listed or ()}
        answered = listed is not None
        for identity in [each for each, count in absent.items() if each not in found and count < PROOF]:
            try:
                known = one(identity)
            except ScalewayError as error:
                answered = False
                self._note(self.problems, _name(kind, identity), error)
                continue
            if known is None:
                absent[identity] += 1
            else:
                found[identity] = known
        for record in found.values():
            absent[record.id] = 0
            self.records[_name(kind, record.id)] = record
            roots: list[AttachedVolume] = _roots(record) if isinstance(record, ServerRecord) else []
            for root in roots:
                self._absent[_place(root)].setdefault(root.id, 0)
        self._empty[kind] = self._empty[kind] + 1 if answered and not found else 0
        return list(found.values())

    def _listed(self, kind: str, listing: Callable[[], list[R]]) -> list[R] | None:
        """Return the listed resources to remove; None if the listing failed, with the error in ``unlisted``."""
        try:
            records = listing()
        except ScalewayError as error:
            self._note(self.unlisted, kind, error)
            if error.status in (401, 403):
                self._denied.add(kind)
            return None
        self.unlisted.pop(kind, None)
        self._denied.discard(kind)
        self._listings[kind] += 1
        wanted = []
        for record in records:
            marks = read_marks(record.tags)
            if record.id in self._absent[kind] or self.wanted(marks):
                wanted.append(record)
            elif marks.ours or record.id in self._kept_roots:
                self._keep(kind, record)
        return wanted

    def _keep(self, kind: str, record: ServerRecord | IpRecord | VolumeRecord) -> None:
        self.kept[_name(kind, record.id)] = described(kind.rsplit(maxsplit=1)[-1], record)
        if isinstance(record, ServerRecord):
            self._kept_roots |= {root.id for root in _roots(record)}

    @staticmethod
    def _note(where: dict[str, str], name: str, error: ScalewayError) -> None:
        """Keep Scaleway's message; a timeout does not replace an earlier message."""
        if error.kind == "deadline":
            where.setdefault(name, str(error))
        else:
            where[name] = str(error)

    def _remove_server(self, server: ServerRecord) -> None:
        untagged = [root for root in _roots(server) if root.id not in self._tagged]
        for root in untagged if read_marks(server.tags).ours else []:
            # Terminate only detaches block storage; without tags it can be found only by its id.
            self._try(f"volume/{root.id}", partial(self._tag, root, server.tags))
        patience = min(ASK_AGAIN_SECONDS, self.clock.deadline.seconds / 4)
        if all(root.id in self._tagged for root in untagged) or self.clock.elapsed >= patience:
            self._try(f"server/{server.id}", partial(self._end_server, server))

    def _tag(self, root: AttachedVolume, tags: Sequence[str]) -> None:
        self.cloud.tag_volume(root.id, root.kind, tags)
        self._tagged.add(root.id)

    def _try(self, name: str, step: Callable[[], None]) -> None:
        if not self.act:
            return
        try:
            step()
        except ScalewayError as error:
            self._note(self.problems, name, error)
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


def together(removals: Sequence[Removal], clock: Clock) -> None:
    """Run the REMOVALS of several zones round by round, so that no zone delays another.

    Servers come first in every zone, because they cost most and Block Storage may hang.
    """
    while True:
        going = [one for one in removals if not one.ended]
        for removal in going:
            removal.machines()
        for removal in going:
            removal.storage()
        if all(one.ended for one in going) or not clock.nap():
            return


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
                self._remove(keep_ips=False)
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
        self._remove(keep_ips=True, known=[f"server/{server.id}"])
        self.server = None

    def _remove(self, *, keep_ips: bool, known: Iterable[str] = ()) -> None:
        """Remove the resources of this run; ScalewayError (leftovers) if that is not verified at the deadline."""
        account = self.account
        made = [name for name in account.created if name not in account.deleted]
        removal = Removal(
            self.cloud, of_run(self.wish.run_id), self.clock, known=dict.fromkeys([*made, *known]), keep_ips=keep_ips
        )
        removal.run()
        account.changed = True
        account.deleted += removal.deleted
        if not removal.done:
            refused = "; ".join(f"{refusal.type}: {refusal.reason}" for refusal in account.tried)
            raise ScalewayError(
                f"No wanted instance type could be used so far ({refused}). The resources created for it are not "
                f"verified as removed, so they may be billed. {removal.left}",
                kind="leftovers",
            )


def overdue(now: datetime, older_than_hours: float | None = None) -> Callable[[Marks], bool]:
    """Predicate: ours, and past its expiry at NOW, or (if asked) of a run that began more than N hours ago.

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
