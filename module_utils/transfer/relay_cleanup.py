# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Decide which runs' folders in the relay may be removed. Reads only the runs folder of this controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ..run.folder import RUN_ID, living_run

LONGEST_LIFE = timedelta(hours=168)
"""Maximum of `plexburst_max_hours`: after it, the indexer of another controller's run no longer needs its base."""
PASSING = frozenset({"base", "probe"})
"""Names without results: the uploaded base, and files of a preflight."""


@dataclass
class Sorted:
    """The run ids to remove, and the kept ones with the reason, each {run_id, why}."""

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
    """Decide for each run in the relay.

    :param held: run id → names in its folder.
    :param run: remove only this run.
    :param older_than: hours; remove also runs that began before, even with results.
    """
    found = Sorted()
    for run_id, names in sorted(held.items()):
        if run:
            why = "" if run_id == run else "It is another run."
        elif not RUN_ID.match(run_id):
            why = "It is not a run of plexburst."
        elif everything:
            why = ""
        else:
            age = now - datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
            if run_id == living_run(runs_dir):
                why = "It is running."
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
            f"It has results that were never downloaded. Run ansible-playbook recover.yml -e plexburst_run={run_id}, "
            f"or delete them with reap.yml -e plexburst_reap_run_id={run_id}."
        )
    if not here.is_dir() and age <= LONGEST_LIFE:
        return "It is a run of another controller and may still be running."
    return ""
