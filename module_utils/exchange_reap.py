# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Which runs' folders in the exchange may go. It only decides, and looks into the runs folder of this controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from .run_folder import RUN_ID, living_run

LONGEST_LIFE = timedelta(hours=168)
"""What `plexburst_max_hours` may be at most: after it, no indexer of a run unknown here still wants its base."""
PASSING = frozenset({"base", "probe"})
"""Names that hold nobody's work: the way out, and what a preflight left."""


@dataclass
class Sorted:
    """The run ids to remove, and what is kept with the reason, each {run_id, why}."""

    remove: list[str] = field(default_factory=list)
    kept: list[dict[str, str]] = field(default_factory=list)


def sort_out(
    held: Mapping[str, Iterable[str]],
    runs_dir: Path,
    now: datetime,
    *,
    run: str = "",
    older_than: float | None = None,
    everything: bool = False,
) -> Sorted:
    """Decide for each run in the exchange.

    :param held: run id → names in its folder.
    :param run: remove this run, and no other.
    :param older_than: hours; remove also what began longer ago, whatever it holds.
    """
    found = Sorted()
    for run_id, names in sorted(held.items()):
        if run:
            why = "" if run_id == run else "It is another run."
        elif not RUN_ID.match(run_id):
            why = "It is no run of plexburst's."
        elif everything:
            why = ""
        else:
            age = now - datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
            if run_id == living_run(runs_dir):
                why = "It is going on."
            elif older_than is not None and age > timedelta(hours=older_than):
                why = ""
            else:
                why = _still_wanted(run_id, set(names), runs_dir / run_id, age)
        if why:
            found.kept.append({"run_id": run_id, "why": why})
        else:
            found.remove.append(run_id)
    return found


def _still_wanted(run_id: str, names: set[str], here: Path, age: timedelta) -> str:
    if names - PASSING and not (here / "snapshots" / "result" / "manifest.json").is_file():
        return (
            f"It holds work that was never brought home. Run ansible-playbook collect.yml -e plexburst_run={run_id}, "
            f"or give it up with reap.yml -e plexburst_reap_run_id={run_id}."
        )
    if not here.is_dir() and age <= LONGEST_LIFE:
        return "It is a run of another controller and may be going on."
    return ""
