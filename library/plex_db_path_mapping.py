#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Apply path mappings to a Plex database, or revert them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_path_mapping
short_description: Apply path mappings to a Plex database, or revert them
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Changes the paths in a closed pair by prefix at path boundaries, in one transaction over every table that holds
    paths - section locations, files, the folders that hold them, sidecar subtitles, and guids that are paths, with the
    plays and ratings that follow them.
  - All mappings apply at once to the path as it was; the one with the longest O(mappings[].from) wins. Names compare
    equal in either Unicode form.
  - Refuses, and changes nothing, when two files would have one path, when a file would leave its section, or when the
    mappings would move something again in the next run.
  - The previous values are written to O(journal), with which they can be restored exactly.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
options:
  dir:
    description: The folder of a closed pair. Plex must not run on it.
    type: path
    required: true
  state:
    description: Whether the mappings are in the database.
    type: str
    choices: [applied, reverted]
    default: applied
  mappings:
    description: The path mappings. Required with O(state=applied).
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: Path of a folder or file in the database.
        type: str
        required: true
      to:
        description: The new path.
        type: str
        required: true
  journal:
    description: File for the previous values, readable by its owner only; renamed to C(.reverted) when
      the mappings are reverted.
    type: path
    required: true
  way_back:
    description:
      - Whether these mappings are temporary and reverted later, also in rows that were added meanwhile. Mappings that
        cannot be reverted exactly are refused.
      - Otherwise they are permanent.
    type: bool
    default: false
  backup:
    description: Copy library.db to this file before anything is changed.
    type: path
  plex_sqlite:
    description: Command of Plex's own SQLite. Needed only if guids are paths, which are in a table with triggers
      that stock SQLite cannot run.
    type: list
    elements: str
    default: []
  plex_sqlite_dir:
    description: The folder of the pair as O(plex_sqlite) sees it, in a container for example. Empty means as O(dir).
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Change the database's paths to where the files are now
  plexburst.core.plex_db_path_mapping:
    dir: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    mappings:
      - from: /Media/TV/Kaamelott
        to: /Media/TV/Kaamelott (2005)
    journal: /opt/plexburst/transfer/path-mappings.journal

- name: Revert the mappings of the indexer
  plexburst.core.plex_db_path_mapping:
    dir: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    state: reverted
    journal: /opt/plexburst/transfer/indexer-paths.journal
"""

RETURN = r"""
---
counts:
  description: Changed values by table.
  returned: success
  type: dict
  sample: {directories: 9, media_parts: 416}
used:
  description: Files by the C(from) of the mapping that applies to them.
  returned: success
  type: dict
  sample: {/Media/TV/Kaamelott: 416}
engine:
  description: The SQLite that writes; empty when nothing changes.
  returned: success
  type: str
  sample: stock SQLite
notes:
  description: Remarks.
  returned: success
  type: list
  elements: str
  sample: []
"""

import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import apply, mapping
except ImportError as error:
    MISSING = error


def without_sqlite3(module: AnsibleModule, error: ImportError) -> None:
    """Fail because Python cannot import sqlite3."""
    module.fail_json(
        msg=(
            f"The Python of this host ({sys.executable}) cannot import sqlite3: {error}. Install the distribution's "
            "sqlite3 support for Python (Debian: python3 and libsqlite3-0), or set ansible_python_interpreter to a "
            "complete Python."
        )
    )


def change(module: AnsibleModule) -> apply.Outcome:
    """Apply or revert the mappings."""
    options = module.params
    directory, journal = Path(options["dir"]), Path(options["journal"])
    backup = Path(options["backup"]) if options["backup"] else None
    engine = apply.Engine(options["plex_sqlite"], options["plex_sqlite_dir"])
    if options["state"] == "reverted":
        return apply.revert(directory, journal=journal, engine=engine, backup=backup, dry_run=module.check_mode)
    return apply.apply(
        directory,
        mapping.Mappings.parse(options["mappings"]),
        journal=journal,
        engine=engine,
        way_back=options["way_back"],
        backup=backup,
        dry_run=module.check_mode,
    )


def main() -> None:
    """Plan, write and verify the changes; return the result."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["applied", "reverted"], "default": "applied"},
            "mappings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"from": {"type": "str", "required": True}, "to": {"type": "str", "required": True}},
            },
            "journal": {"type": "path", "required": True},
            "way_back": {"type": "bool", "default": False},
            "backup": {"type": "path"},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite_dir": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    try:
        outcome = change(module)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        counts=outcome.counts,
        used=outcome.used,
        engine=outcome.engine,
        notes=outcome.notes,
    )


if __name__ == "__main__":
    main()
