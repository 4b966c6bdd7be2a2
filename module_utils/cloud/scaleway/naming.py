"""The names and tags by which everything of ours at Scaleway is found again.

Every server, flexible IP and volume carries ``plexburst``, ``plexburst-run=<run id>``, ``plexburst-expires=<when>``
and, where known, ``plexburst-profile=<monitoring profile>``. Nothing else tells ours from the user's other resources:
the tags are set when a resource is created (a volume made together with a server: before that server gets power), so
that a controller that dies at any moment leaves only things that ``reap`` recognises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

TAG = "plexburst"
RUN_PREFIX = "plexburst-run="
EXPIRES_PREFIX = "plexburst-expires="
PROFILE_PREFIX = "plexburst-profile="

ZONES = (
    "fr-par-1",
    "fr-par-2",
    "fr-par-3",
    "nl-ams-1",
    "nl-ams-2",
    "nl-ams-3",
    "pl-waw-1",
    "pl-waw-2",
    "pl-waw-3",
)
"""Zones of the Instance and the Block Storage API, from the official SDK for Go; Python's has no such list."""

CLOUD_GROUP = "plex_cloud"
"""The Ansible group of every indexer."""

# Tags are split at commas by the API's filters, and a run id becomes part of host, group and file names.
_RUN_ID = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
_NOT_IN_GROUP_NAMES = re.compile(r"[^A-Za-z0-9_]")
_EXPIRY_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True)
class Marks:
    """What the tags of one resource say: its run, its end (UTC) and its monitoring profile; None where a tag is
    missing.
    """

    ours: bool
    run_id: str | None
    expires_at: datetime | None
    profile: str | None


def check_run_id(run_id: str) -> str:
    """Return RUN_ID unchanged; ValueError with a sentence when it cannot be a tag, a host name and a group name."""
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(
            f"The run id {run_id!r} is not usable: expected 3 to 63 small letters, digits and dashes, "
            "like 20261122-071500-ab12."
        )
    return run_id


def parse_expiry(text: str) -> datetime:
    """Read an ISO 8601 time with its zone, compact (20261122T190000Z) or not (2026-11-22T19:00:00Z), as UTC.

    A time without a zone is refused: an expiry read in the wrong zone would end a machine hours too early or too late.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a time: expected ISO 8601 in UTC, like 2026-11-22T19:00:00Z.") from error
    if moment.tzinfo is None:
        raise ValueError(f"The time {text!r} has no zone: add Z for UTC, like 2026-11-22T19:00:00Z.")
    return moment.astimezone(UTC)


def format_expiry(moment: datetime) -> str:
    """Write a time as compact ISO 8601 in UTC: no colons or commas, so that it survives as part of a tag."""
    return moment.astimezone(UTC).strftime(_EXPIRY_FORMAT)


def iso(moment: datetime) -> str:
    """Write a time as people and summary.json read it: 2026-11-22T19:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_tags(
    run_id: str, expires_at: datetime | None, profile: str | None = None, extra: Sequence[str] = ()
) -> list[str]:
    """Tags for one resource of a run, ours first, then EXTRA, without repeats.

    Raises ValueError when an extra tag is empty, holds a comma, or claims one of our own meanings.
    """
    tags = [TAG, RUN_PREFIX + check_run_id(run_id)]
    if expires_at is not None:
        tags.append(EXPIRES_PREFIX + format_expiry(expires_at))
    if profile:
        tags.append(PROFILE_PREFIX + profile)
    for tag in extra:
        if not tag or "," in tag:
            raise ValueError(f"The tag {tag!r} is not usable: Scaleway's tags are not empty and hold no comma.")
        if tag.startswith((RUN_PREFIX, EXPIRES_PREFIX)):
            raise ValueError(f"The tag {tag!r} is one that plexburst sets itself: give run_id or expires_at instead.")
        if tag not in tags:
            tags.append(tag)
    return tags


def read_marks(tags: Iterable[str]) -> Marks:
    """Read our tags back. An unreadable expiry counts as none: the reaper then reports it instead of guessing."""
    present = list(tags)

    def value(prefix: str) -> str | None:
        return next((tag.removeprefix(prefix) for tag in present if tag.startswith(prefix)), None)

    expires = value(EXPIRES_PREFIX)
    try:
        expires_at = parse_expiry(expires) if expires else None
    except ValueError:
        expires_at = None
    run_id = value(RUN_PREFIX)
    return Marks(
        ours=TAG in present or run_id is not None,
        run_id=run_id,
        expires_at=expires_at,
        profile=value(PROFILE_PREFIX),
    )


def all_zones(*more: str) -> list[str]:
    """Return ZONES and MORE, the zone in use, in case Scaleway has a new zone."""
    return list(dict.fromkeys([*(zone for zone in more if zone), *ZONES]))


def server_name(run_id: str) -> str:
    """Name of a run's server, which is also its host name in the inventory."""
    return f"{TAG}-{check_run_id(run_id)}"


def run_began(run_id: str | None) -> datetime | None:
    """Return when a run began, from its id (YYYYMMDD-HHMMSS-abcd, UTC); None if the id contains no time."""
    try:
        return datetime.strptime((run_id or "")[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def reap_advice(run_id: str) -> str:
    """Return the next step for resources of a run that are not verified as removed."""
    return (
        f"When Scaleway answers again, run ansible-playbook reap.yml -e plexburst_reap_run_id={run_id}, with the same "
        "inventory. Remove resources that it cannot remove by their ids in Scaleway's console."
    )


def run_group(run_id: str) -> str:
    """Ansible group of a run's indexer."""
    return "plexburst_run_" + _NOT_IN_GROUP_NAMES.sub("_", run_id)


def profile_group(profile: str) -> str:
    """Ansible group of the indexers that are watched with one monitoring profile."""
    return "plexburst_profile_" + _NOT_IN_GROUP_NAMES.sub("_", profile)
