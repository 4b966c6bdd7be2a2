#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Merge home's changes into the indexer's database pair."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_merge
short_description: Merge home's changes into the indexer's database pair
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - A three-way merge. Base is the uploaded snapshot, theirs is the indexer's pair, ours is home's current pair.
  - Home's user data wins; the indexer's new items and analyses are kept. Each table of a Plex database
    has a stated rule (C(module_utils/plex_db/merge/policy.py)).
  - Home's Plex goes on working meanwhile, for an online snapshot of it is merged. M(plexburst.core.plex_db_install)
    then only merges the moments since that snapshot, with Plex stopped.
  - Files that the indexer moved to the trash and that home's Plex can or may read keep home's rows (O(look)).
  - Every value that both sides changed is listed in a private file.
  - Needs only Python 3.9 with sqlite3, and Plex's own SQLite where its triggers fire.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: Everything is read and planned; nothing of the pairs is written. The snapshot of home is made and
      removed again.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: As long as home stays as it is, a second merge finds nothing to write.
options:
  state:
    description:
      - V(merged) writes home's part into the pair in O(incoming).
      - V(ids_reserved) raises the counters of the pair in O(databases_dir) by O(gap) ids, before a Plex starts on it,
        so
        that ids given out at home and by the indexer never meet.
      - V(sonic_merged) brings home nothing but Sonic data, from the pair in O(incoming) into the living library in
        O(databases_dir), without a swap of files.
      - V(checkpoint_merged) goes on from a checkpoint. Its pair in O(incoming), made from the pair in O(base_dir), gets
        what home
        did since, and takes the place of home's pair in O(databases_dir) of a Plex that does not run yet.
    type: str
    choices: [merged, ids_reserved, sonic_merged, checkpoint_merged]
    default: merged
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server.
    type: path
    required: true
  incoming:
    description: Folder of the indexer's pair. Required unless O(state=ids_reserved).
    type: path
  base_dir:
    description: Folder of the base pair. Required by V(merged) and V(checkpoint_merged) of O(state).
    type: path
  snapshot_dir:
    description:
      - The folder for the online snapshot of home. It is the base of the last merge, the one with Plex stopped. What is
        noted beside it spares that merge the comparison of every row.
      - Required with O(state=merged).
    type: path
  sections:
    description: Titles or ids of the sections that were in the run; the others stay home's. Empty means all.
    type: list
    elements: str
    default: []
  plex_sqlite:
    description: Command of Plex's own SQLite. Needed when home changed what its triggers watch, and for
        O(state=sonic_merged).
    type: list
    elements: str
    default: []
  conflicts_file:
    description: File for the conflicts, one JSON object per line, with mode 0600.
    type: path
  look:
    description:
      - With O(state=merged), check at home each file that the indexer did not see, in O(container) or on this host as
        the owner of Plex's database, and keep home's rows of present and unknown files.
    type: bool
    default: true
  container:
    description: Plex's container at home. Empty means that Plex runs on this host.
    type: str
    default: ''
  path_map:
    description: Plex's folders and their paths on this host; the longest O(path_map[].path) wins.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the folder in Plex.
        type: str
        required: true
      host:
        description: Path of the folder on this host.
        type: str
        required: true
  gap:
    description: Number of ids to reserve for home, with O(state=ids_reserved).
    type: int
    default: 250000
"""

EXAMPLES = r"""
---
- name: Keep the ids of both sides apart, before the indexer's Plex starts
  plexburst.core.plex_db_merge:
    state: ids_reserved
    databases_dir: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases

- name: Merge home's changes
  plexburst.core.plex_db_merge:
    databases_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    incoming: /var/lib/plexburst/incoming
    base_dir: /var/lib/plexburst/base
    snapshot_dir: /var/lib/plexburst/now
    plex_sqlite: [/usr/lib/plexmediaserver/Plex SQLite]
"""

RETURN = r"""
---
watch_state:
  description: Rows of watch state changed at home and kept, and how many conflicts there were in all tables.
  returned: success
  type: dict
  sample: {kept: 3, conflicts: 0}
put:
  description: Rows of the result that are home's, per table.
  returned: success
  type: dict
  sample: {metadata_item_settings: 3}
drop:
  description: Removed rows per table.
  returned: success
  type: dict
  sample: {}
whole:
  description: Tables that were copied completely from home.
  returned: success
  type: list
  elements: str
  sample: []
conflicts:
  description: The first of the conflicts.
  returned: success
  type: list
  elements: dict
  sample: [{table: metadata_items, id: 17, what: "changed on both sides: title", kept: "home's"}]
warnings_of_merge:
  description: Notes about tables that were decided as a whole.
  returned: success
  type: list
  elements: str
  sample: []
at_home:
  description: Number of files that the indexer did not see and that are present, absent or unknown at home; number by
    section and first examples of the kept files; and why files are unknown. Empty without O(look).
  returned: success
  type: dict
  sample: {present: 1, absent: 1, unknown: 0, sections: {Music: 1}, examples: [/Media/Music/A/B/1.flac], why: []}
sonic:
  description: With O(state=sonic_merged), tracks, albums and artists that were marked, vectors brought home, and what
      was
    left.
  returned: success
  type: dict
  sample: {vectors: 120, marks: 140, skipped: 0}
seconds:
  description: Duration in seconds.
  returned: success
  type: float
  sample: 12.3
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import id_gap, run, sonic
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import files, manifest, pair, snapshot
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import presence
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.sqlite_pages import changed_rows
except ImportError as error:
    MISSING = error

EMPTY = {
    "put": {},
    "drop": {},
    "whole": [],
    "conflicts": [],
    "warnings_of_merge": [],
    "at_home": {},
    "seconds": 0.0,
    "sonic": {},
}


def merged(module: AnsibleModule) -> dict[str, object]:
    """Take home's snapshot and merge it into the indexer's pair."""
    options = module.params
    incoming = Path(options["incoming"])
    now = Path(options["snapshot_dir"])
    if module.check_mode:
        parent = next(folder for folder in (now, *now.absolute().parents) if folder.is_dir())
        now = Path(tempfile.mkdtemp(prefix=".plexburst-check-", dir=parent))
    try:
        snapshot.copy(Path(options["databases_dir"]), now)
        view = presence.View(
            container=options["container"],
            path_map={entry["path"]: entry["host"] for entry in options["path_map"]},
            user=presence.owner_of(Path(options["databases_dir"]) / pair.LIBRARY),
        )
        done = run.merge(
            Path(options["base_dir"]),
            now,
            incoming,
            sections=run.section_ids(Path(options["base_dir"]), options["sections"]),
            plex_sqlite=options["plex_sqlite"],
            owner_like=Path(options["databases_dir"]) / pair.LIBRARY,
            conflicts_file=Path(options["conflicts_file"]) if options["conflicts_file"] else None,
            look=(lambda paths, roots: presence.look(paths, roots, view)) if options["look"] else None,
            dry_run=module.check_mode,
        )
        if not module.check_mode:
            changed_rows.remember(now)
    finally:
        if module.check_mode:
            shutil.rmtree(now)
    described = incoming / pair.MANIFEST
    if done.changed and described.exists() and not module.check_mode:
        # What home deleted is no loss: the manifest says what is in the pair now.
        text = {**manifest.load(described), **manifest.contents(incoming)}
        text.pop("gone_since", None)  # of an installation that was taken back
        files.FileOperations().write_text(described, json.dumps(text, indent=1) + "\n")
    return told(done)


def resumed(module: AnsibleModule) -> dict[str, object]:
    """Put a checkpoint's pair, with what home did since, in the place of home's."""
    options = module.params
    base = Path(options["base_dir"])
    done = run.resume(
        base,
        Path(options["databases_dir"]),
        Path(options["incoming"]),
        sections=run.section_ids(base, options["sections"]),
        plex_sqlite=options["plex_sqlite"],
        dry_run=module.check_mode,
    )
    return told(done)


def told(done: run.Merged) -> dict[str, object]:
    """A merge as the module's result."""
    return {
        **EMPTY,
        "changed": done.changed,
        "watch_state": {"kept": done.kept, "conflicts": done.conflicts},
        "put": done.put,
        "drop": done.drop,
        "whole": done.whole,
        "conflicts": done.examples,
        "warnings_of_merge": done.warnings,
        "at_home": done.at_home,
        "seconds": done.seconds,
    }


def act(module: AnsibleModule) -> dict[str, object]:
    """Run the state and return the result."""
    options = module.params
    databases = Path(options["databases_dir"])
    none = {"kept": 0, "conflicts": 0}
    if options["state"] == "ids_reserved":
        found = pair.holders(databases)
        if found:
            raise PlexDatabaseError(
                f"{databases} is open in {', '.join(found)}. Stop Plex; the ids must be reserved before it starts."
            )
        changed = id_gap.raise_pair(databases, options["gap"], dry_run=module.check_mode)
        return {**EMPTY, "changed": changed, "watch_state": none}
    if options["state"] == "sonic_merged":
        brought = sonic.bring(
            Path(options["incoming"]), databases, plex_sqlite=options["plex_sqlite"], dry_run=module.check_mode
        )
        return {
            **EMPTY,
            "changed": brought.changed,
            "watch_state": none,
            "sonic": {"vectors": brought.vectors, "marks": brought.marks, "skipped": brought.skipped},
            "seconds": brought.seconds,
        }
    return resumed(module) if options["state"] == "checkpoint_merged" else merged(module)


def main() -> None:
    """Merge, raise the counters, or bring home Sonic data."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["merged", "ids_reserved", "sonic_merged", "checkpoint_merged"],
                "default": "merged",
            },
            "databases_dir": {"type": "path", "required": True},
            "incoming": {"type": "path"},
            "base_dir": {"type": "path"},
            "snapshot_dir": {"type": "path"},
            "sections": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "conflicts_file": {"type": "path"},
            "look": {"type": "bool", "default": True},
            "container": {"type": "str", "default": ""},
            "path_map": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "host": {"type": "str", "required": True}},
            },
            "gap": {"type": "int", "default": 250000},
        },
        required_if=[
            ("state", "merged", ["incoming", "base_dir", "snapshot_dir"]),
            ("state", "sonic_merged", ["incoming"]),
            ("state", "checkpoint_merged", ["incoming", "base_dir"]),
        ],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=(
                f"The Python of this host ({sys.executable}) cannot import sqlite3: {MISSING}. Without it no "
                "database can "
                "be read. Install the distribution's sqlite3 support for Python, or set ansible_python_interpreter "
                "to a "
                "complete Python."
            )
        )
    try:
        result = act(module)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(
            msg=f"plex_db_merge of {module.params['databases_dir']}: {module.params['state']} failed. {error}"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
