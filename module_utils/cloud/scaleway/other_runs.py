"""The resources of other runs at Scaleway, with their age, their price and the commands that end their cost.

A run is alive if it holds the lock of the runs folder. The lock of another controller cannot be seen from here, so a
run without a folder here is marked as such, and only its age and its expiry are known.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...run.folder import RunFolder, RunFolderError
from .naming import iso, read_marks, run_began
from .records import IpRecord, ServerRecord, VolumeRecord

Record = ServerRecord | IpRecord | VolumeRecord
UNKNOWN_RUN = ""
"""Run id of resources with plexburst's tag but without a run."""


@dataclass(frozen=True, slots=True)
class Held:
    """One resource. Prices are in EUR without VAT; None if the price or the billed time is unknown."""

    name: str
    about: str
    zone: str
    created_at: datetime | None
    hourly: float | None
    so_far: float | None


@dataclass(slots=True)
class OtherRun:
    """One run and its resources. HERE: its folder is in this controller's runs folder."""

    run_id: str
    here: bool = False
    held: list[Held] = field(default_factory=list)
    expires_at: datetime | None = None
    server_runs: bool = False
    commands: list[str] = field(default_factory=list)

    @property
    def since(self) -> datetime | None:
        """When the oldest resource was created, or else when the run began."""
        moments = [item.created_at for item in self.held if item.created_at]
        return min(moments) if moments else run_began(self.run_id)

    @property
    def hourly(self) -> float | None:
        """EUR per hour of the resources with a known price; None if there are none."""
        return _total(item.hourly for item in self.held)

    @property
    def so_far(self) -> float | None:
        """EUR so far of the resources with a known price; None if there are none."""
        return _total(item.so_far for item in self.held)

    def as_result(self) -> dict[str, Any]:
        """Return one entry of ``other_runs`` in the module's result and in summary.json."""
        return {
            "run_id": self.run_id,
            "here": self.here,
            "resources": [item.name for item in self.held],
            "since": iso(self.since) if self.since else None,
            "expires_at": iso(self.expires_at) if self.expires_at else None,
            "hourly_price": self.hourly,
            "billed": self.so_far,
            "commands": self.commands,
        }

    def sentence(self, now: datetime) -> str:
        """Return the description for the message."""
        name = f"run {self.run_id}" if self.run_id else "resources without the tag of a run"
        if not self.here:
            name += (
                " (not in this controller's runs folder; it may be alive on another controller, which cannot be seen "
                "from here)"
            )
        ends = "no expiry"
        if self.expires_at:
            ends = f"{'expired' if self.expires_at <= now else 'expires'} {iso(self.expires_at)}"
        hourly = "unknown EUR per hour" if self.hourly is None else f"{self.hourly:.4f} EUR per hour"
        so_far = "unknown EUR so far" if self.so_far is None else f"{self.so_far:.2f} EUR so far"
        things = "; ".join(f"{item.name} {item.about} in {item.zone}" for item in self.held)
        return (
            f"{name}, since {iso(self.since) if self.since else 'an unknown time'}, {ends}, {hourly}, {so_far}: "
            f"{things}. Next: {' or '.join(self.commands)}."
        )


def _total(amounts: Iterable[float | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return round(sum(known), 6) if known else None


def _when(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def held(name: str, record: Record, prices: Mapping[str, float], now: datetime) -> Held:
    """Return RECORD with its cost; PRICES are the hourly prices of instance types in its zone."""
    hourly = so_far = created = None
    if isinstance(record, ServerRecord):
        about = f"({record.commercial_type}, {record.state})"
        price = prices.get(record.commercial_type)
        created = _when(record.created_at)
        # A stopped server costs nothing, and how long it ran is unknown.
        if price is not None and record.state == "stopped":
            hourly = 0.0
        elif price is not None:
            hourly = price
            so_far = round(price * (now - created).total_seconds() / 3600, 6) if created else None
    elif isinstance(record, VolumeRecord):
        about, created = f"({record.size / 10**9:.0f} GB)", _when(record.created_at)
    else:
        about = f"({record.address})"
    return Held(name, about, record.zone, created, hourly, so_far)


def by_run(
    found: Mapping[str, Record],
    recorded: Mapping[str, str],
    prices: Mapping[str, Mapping[str, float]],
    now: datetime,
) -> dict[str, OtherRun]:
    """Sort FOUND (by name) into runs by tag, by the run that RECORDED its creation, or by the server it belongs to.

    PRICES are hourly prices by zone and type.
    """
    roots = {
        volume.id: read_marks(record.tags).run_id
        for record in found.values()
        if isinstance(record, ServerRecord)
        for volume in record.volumes
    }
    runs: dict[str, OtherRun] = {}
    for name, record in found.items():
        marks = read_marks(record.tags)
        run_id = marks.run_id or recorded.get(name) or roots.get(record.id) or UNKNOWN_RUN
        run = runs.setdefault(run_id, OtherRun(run_id))
        run.held.append(held(name, record, prices.get(record.zone, {}), now))
        run.expires_at = run.expires_at or marks.expires_at
        run.server_runs |= isinstance(record, ServerRecord) and record.state == "running"
    return runs


def advise(run: OtherRun, runs_dir: Path, inventory: Sequence[str]) -> None:
    """Set whether RUN is in this runs folder, and the commands that end its cost."""
    if not run.run_id:
        run.commands = ["remove it by its id in Scaleway's console"]
        return
    folder = RunFolder(runs_dir / run.run_id)
    run.here = (folder.path / "state.json").is_file()
    options = "".join(f" -i {shlex.quote(source)}" for source in inventory)
    chosen = f"{options} -e plexburst_run={run.run_id}"
    if run.here and run.server_runs:
        if (folder.path / "snapshots" / "result" / "manifest.json").is_file():
            run.commands.append(f"ansible-playbook release.yml{chosen} (its result is in its run folder)")
        elif _was_started(folder):
            run.commands.append(
                f"ansible-playbook recover.yml{chosen} (downloads its results and releases the Instance)"
            )
    run.commands.append(
        f"ansible-playbook reap.yml{options} -e plexburst_reap_run_id={run.run_id} (removes it and discards its work)"
    )


def _was_started(folder: RunFolder) -> bool:
    """Return whether Plex was started on the run's indexer, so that there may be results."""
    try:
        events = folder.events()
    except RunFolderError:
        # Torn by the crash. recover.yml checks this itself and changes nothing without results.
        return True
    return any(
        (event.get("event"), event.get("phase"), event.get("status")) == ("phase_ended", "start", "succeeded")
        for event in events
    )


def told(runs: Sequence[OtherRun], now: datetime | None = None) -> str:
    """Return all RUNS as one text; empty if there are none."""
    moment = now or datetime.now(UTC)
    return " ".join(f"({number}) {run.sentence(moment)}" for number, run in enumerate(runs, start=1))
