#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Find, open and remove checkpoints of runs whose indexer was lost."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_checkpoint
short_description: Find, open and remove checkpoints of runs whose indexer was lost
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Returns the checkpoint of an earlier run from which a run can continue, and the reasons why others cannot be used.
    It must have the same home and history, Plex version, schema and path mappings, and only sections of this run.
  - Creates the checkpoint's pair and checks it like a result.
  - Runs on the controller.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: In check mode V(restored) does the same as V(inspected).
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
options:
  state:
    description:
      - V(inspected) searches, V(restored) also creates the pair of the newest valid checkpoint in O(dest).
      - V(resumed) records in both run folders that O(run_id) continues from a checkpoint of O(run).
      - V(absent) removes the checkpoints of O(run_id) after its result was downloaded, and those of the runs that it
        continued from, with their base snapshots.
    type: str
    choices: [inspected, restored, resumed, absent]
    default: inspected
  runs_dir:
    description: The folder of the run folders.
    type: path
    required: true
  run_id:
    description: The current run.
    type: str
    required: true
  run:
    description: The run whose checkpoint is used, for O(state=resumed).
    type: str
  base_dir:
    description: Folder of home's current snapshot. Required by V(inspected) and V(restored) of O(state).
    type: path
  about:
    description:
      - What a checkpoint must agree with, C(machine_identifier), C(sections) and C(path_mappings), as it was given to
        the task that made it. Required by V(inspected) and V(restored) of O(state).
    type: dict
  dest:
    description: The folder for the pair. Required with O(state=restored).
    type: path
  listing:
    description: Listing of the remote, which shows that trashed files are gone.
    type: path
  limits:
    description: Limits of the loss check, by the names of the options of M(plexburst.core.plex_db_check).
    type: dict
    default: {}
"""

EXAMPLES = r"""
---
- name: Find a checkpoint to continue from
  plexburst.core.run_checkpoint:
    runs_dir: runs
    run_id: 20261123-071500-cd34
    base_dir: runs/20261123-071500-cd34/snapshots/base
    about:
      machine_identifier: 0a1b2c3d
      sections: []
      path_mappings: []
"""

RETURN = r"""
---
resume:
  description: The checkpoint to continue from, empty without one.
  returned: O(state=inspected) and O(state=restored)
  type: dict
  contains:
    run:
      description: The run that made it.
      type: str
    number:
      description: Number of the checkpoint.
      type: int
    taken_at:
      description: When the pair was copied, UTC.
      type: str
    words:
      description: What need not be done again, as text.
      type: str
    base:
      description: Folder of that run's base pair.
      type: str
    sections:
      description: The sections that were in that run; empty means all.
      type: list
      elements: str
    tracks:
      description: Tracks that got Sonic data in that run.
      type: int
    pending:
      description: Tracks without Sonic data when that run began, including new ones.
      type: int
    items:
      description: New items found in that run.
      type: int
  sample: {run: 20261122-071500-ab12, number: 3, tracks: 41200, pending: 375000}
refused:
  description: Why other checkpoints are not used, one sentence each.
  returned: O(state=inspected) and O(state=restored)
  type: list
  elements: str
  sample: []
removed:
  description: Folders that were removed.
  returned: O(state=absent), not in check mode
  type: list
  elements: str
  sample: []
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint import resume
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks.loss import Limits
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import remote_listing as listings
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolderError

TOLD = 3
"""Number of refusals that are returned: a folder of old runs is not a report."""


def look(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """States `inspected` and `restored`."""
    about = options["about"]
    asking = resume.Asking(
        run_id=options["run_id"],
        machine_identifier=str(about["machine_identifier"]),
        sections=about["sections"],
        path_mappings=about["path_mappings"],
        base=Path(options["base_dir"]),
    )
    found, refused = resume.find(Path(options["runs_dir"]), asking)
    chosen = found[0] if found else None
    opened = options["state"] == "restored" and not check
    if opened:
        listing = listings.load(Path(options["listing"])) if options["listing"] else None
        limits = Limits(**options["limits"])
        chosen, more = resume.open_first(found, Path(options["dest"]), asking, listing, limits)
        refused += more
    # Checkpoints older than the used one need no reason.
    told = [one.words for one in refused if chosen is None or one.run >= chosen.run.name]
    return {
        "changed": chosen is not None and options["state"] == "restored",
        "resume": {} if chosen is None else chosen.plain(),
        "refused": told[:TOLD],
    }


def act(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """What the state asks for; returns the result."""
    runs_dir, run_id = Path(options["runs_dir"]), options["run_id"]
    if options["state"] in ("inspected", "restored"):
        return look(options, check)
    if check:
        return {"changed": True}
    if options["state"] == "resumed":
        return {"changed": resume.take_over(runs_dir, run_id, options["run"])}
    removed = resume.spend(runs_dir, run_id)
    return {"changed": bool(removed), "removed": removed}


def main() -> None:
    """Look, open, write down or forget."""
    asked = ["base_dir", "about"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["inspected", "restored", "resumed", "absent"], "default": "inspected"},
            "runs_dir": {"type": "path", "required": True},
            "run_id": {"type": "str", "required": True},
            "run": {"type": "str"},
            "base_dir": {"type": "path"},
            "about": {"type": "dict"},
            "dest": {"type": "path"},
            "listing": {"type": "path"},
            "limits": {"type": "dict", "default": {}},
        },
        required_if=[
            ("state", "inspected", asked),
            ("state", "restored", [*asked, "dest"]),
            ("state", "resumed", ["run"]),
        ],
        supports_check_mode=True,
    )
    try:
        answer = act(module.params, module.check_mode)
    except (PlexDatabaseError, RunFolderError, OSError) as error:
        module.fail_json(msg=str(error), advice="Fix the cause, or run without a checkpoint (plexburst_resume=false).")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
