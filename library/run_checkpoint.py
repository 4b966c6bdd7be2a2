#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Find, open and forget the checkpoints of runs whose indexer was lost."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_checkpoint
short_description: Find, open and forget the checkpoints of runs whose indexer was lost
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Says which checkpoint of an earlier run a run can go on from, so that nothing is analysed twice, and why others
    cannot be used. It must be of the same home and history, Plex version, schema and path mappings, and of sections
    that are in this run.
  - Makes the pair that it leads to and checks it as a pair that comes home is checked.
  - Runs on the controller.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: In check mode V(opened) looks as V(found) does.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
options:
  state:
    description:
      - V(found) looks, V(opened) makes the pair in O(dest) too, of the newest checkpoint that is good.
      - V(taken_over) writes down in both runs' folders that O(run_id) has gone on from a checkpoint of O(run).
      - V(spent) says that O(run_id) has brought its pair home. Its checkpoints are removed, and so are those of the
        runs that it went on from, with the snapshots that they lead from.
    type: str
    choices: [found, opened, taken_over, spent]
    default: found
  runs_dir:
    description: The folder of the run folders.
    type: path
    required: true
  run_id:
    description: The run that asks.
    type: str
    required: true
  run:
    description: The run whose checkpoint it went on from, for O(state=taken_over).
    type: str
  base_dir:
    description: The folder of home's snapshot as it is now. Required by V(found) and V(opened) of O(state).
    type: path
  about:
    description:
      - What a checkpoint must agree with, C(machine_identifier), C(sections) and C(path_mappings), as it was given to
        the task that made it. Required by V(found) and V(opened) of O(state).
    type: dict
  dest:
    description: The folder for the pair. Required with O(state=opened).
    type: path
  listing:
    description: The listing of the remote, by which trashed files are proven to be gone.
    type: path
  limits:
    description: What may be gone, by the names of the options of M(plexburst.core.plex_db_check).
    type: dict
    default: {}
"""

EXAMPLES = r"""
---
- name: Look for a checkpoint to go on from
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
  description: The checkpoint to resume from; empty without one.
  returned: O(state=found) and O(state=opened)
  type: dict
  contains:
    run:
      description: The run that made it.
      type: str
    number:
      description: Which of its checkpoints it is.
      type: int
    taken_at:
      description: When the pair was copied, UTC.
      type: str
    words:
      description: What need not be done again, for people.
      type: str
    base:
      description: The folder of the pair that went out then.
      type: str
    sections:
      description: The sections that were in that run; empty means all.
      type: list
      elements: str
    tracks:
      description: Tracks that got Sonic data in it.
      type: int
    pending:
      description: Tracks that lacked Sonic data when that run began, new ones included.
      type: int
    items:
      description: Items that it found.
      type: int
  sample: {run: 20261122-071500-ab12, number: 3, tracks: 41200, pending: 375000}
refused:
  description: Why other checkpoints are not used, a sentence each.
  returned: O(state=found) and O(state=opened)
  type: list
  elements: str
  sample: []
removed:
  description: Folders that were removed.
  returned: O(state=spent), not in check mode
  type: list
  elements: str
  sample: []
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils import resume
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import listing as listings
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.guard import Limits
from ansible_collections.plexburst.core.plugins.module_utils.run_folder import RunFolderError

TOLD = 3
"""So many refusals are returned: a folder of old runs is not a report."""


def look(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """States `found` and `opened`."""
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
    opened = options["state"] == "opened" and not check
    if opened:
        listing = listings.load(Path(options["listing"])) if options["listing"] else None
        limits = Limits(**options["limits"])
        chosen, more = resume.open_first(found, Path(options["dest"]), asking, listing, limits)
        refused += more
    # What is older than the one that is used needs no words.
    told = [one.words for one in refused if chosen is None or one.run >= chosen.run.name]
    return {
        "changed": chosen is not None and options["state"] == "opened",
        "resume": {} if chosen is None else chosen.plain(),
        "refused": told[:TOLD],
    }


def act(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """What the state asks for; returns the result."""
    runs_dir, run_id = Path(options["runs_dir"]), options["run_id"]
    if options["state"] in ("found", "opened"):
        return look(options, check)
    if check:
        return {"changed": True}
    if options["state"] == "taken_over":
        return {"changed": resume.take_over(runs_dir, run_id, options["run"])}
    removed = resume.spend(runs_dir, run_id)
    return {"changed": bool(removed), "removed": removed}


def main() -> None:
    """Look, open, write down or forget."""
    asked = ["base_dir", "about"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["found", "opened", "taken_over", "spent"], "default": "found"},
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
            ("state", "found", asked),
            ("state", "opened", [*asked, "dest"]),
            ("state", "taken_over", ["run"]),
        ],
        supports_check_mode=True,
    )
    try:
        answer = act(module.params, module.check_mode)
    except (PlexDatabaseError, RunFolderError, OSError) as error:
        module.fail_json(msg=str(error), advice="Mend that, or go on without a checkpoint: plexburst_resume=false.")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
