#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Swap the database pair of a stopped Plex server, or roll back."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_install
short_description: Swap the database pair of a stopped Plex server, or roll back
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Puts a checked pair in the place of the one a Plex server has, after a backup of the old one, so that a crash at
    any point leaves a pair that starts.
  - With O(base_dir), what home did since then is merged into the new pair first (see
    M(plexburst.core.plex_db_merge)); what
    cannot be merged refuses the installation.
  - Plex must be stopped. C(Preferences.xml) is never touched.
  - Every call first completes or reverts a swap that was interrupted by a crash.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: Everything is verified and counted; nothing is written, moved or removed.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: The same run is installed once; a state that holds already is not changed.
options:
  state:
    description:
      - V(installed) replaces the pair by the one in O(incoming).
      - V(rolled_back) puts a backup back; the pair in place becomes a backup.
      - V(recovered) only completes or reverts an interrupted swap.
      - V(verified) reads the database of the running server and fails when it contains less than O(manifest).
      - V(listed) only returns the existing backups.
      - V(checksummed) adds the SHA-256 of its files to a backup's manifest, which may take long and needs no stopped
        Plex.
    type: str
    choices: [installed, rolled_back, recovered, checksummed, verified, listed]
    default: installed
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server.
    type: path
    required: true
  backups_dir:
    description: Folder for the backups, preferably on the same file system. Required by states that make or use a
      backup.
    type: path
  incoming:
    description: The folder of the new pair, on the file system of O(databases_dir). Required with O(state=installed).
    type: path
  run_id:
    description: The run, part of the backup's name.
    type: str
    default: manual
  base_dir:
    description:
      - Folder of the pair that home and O(incoming) both descend from, which is the snapshot that
        M(plexburst.core.plex_db_merge) ended with. With it home's changes since then are merged in.
      - Without it the new pair is installed unchanged.
    type: path
  sections:
    description: Titles or ids of the sections that were in the run; the others stay home's. Empty means all.
    type: list
    elements: str
    default: []
  plex_sqlite:
    description: Command of Plex's own SQLite. Needed when home changed rows that its triggers watch.
    type: list
    elements: str
    default: []
  conflicts_file:
    description: A file to which every conflict of the merge is added, one JSON object a line.
    type: path
  manifest:
    description: Manifest of the pair that was installed. Required with O(state=verified).
    type: path
  backup:
    description: The backup's name for O(state=rolled_back) and O(state=checksummed). Empty means the newest that an
      installation made.
    type: str
    default: ''
  keep:
    description: How many backups to keep, the newest included.
    type: int
    default: 3
  owner:
    description: Owner of the new files. Default is the owner of the old ones.
    type: str
  group:
    description: Group of the new files. Default is the group of the old ones.
    type: str
  mode:
    description: Permissions of the new files, in octal, such as V("0644"). Default is those of the old ones.
    type: str
"""

EXAMPLES = r"""
---
- name: Install the downloaded pair
  plexburst.core.plex_db_install:
    incoming: /var/lib/plexburst/incoming
    databases_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    backups_dir: /var/lib/plexburst/backups
    base_dir: /var/lib/plexburst/now
    run_id: 20261122-071500-ab12

- name: Restore the newest backup
  plexburst.core.plex_db_install:
    state: rolled_back
    databases_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    backups_dir: /var/lib/plexburst/backups
"""

RETURN = r"""
---
backup:
  description: The folder that holds the pair that was in place before.
  returned: success
  type: str
  sample: /var/lib/plexburst/backups/20261122T081500Z-20261122-071500-ab12
watch_state:
  description: Rows of watch state changed at home and kept, and how many conflicts there were in all tables.
  returned: success
  type: dict
  sample: {kept: 3, conflicts: 0}
recovered:
  description: What an earlier, interrupted swap came to; V(clean) when there was none, V(interrupted) in check
    mode.
  returned: success
  type: str
  sample: clean
backups:
  description: With O(state=listed), the complete backups, oldest first. Each has its name, path, time, run and kind
    (installation or rollback).
  returned: success
  type: list
  elements: dict
  sample: [{name: 20261122T081500Z-20261122-071500-ab12, kind: installation}]
pruned:
  description: Names of old backups that were removed.
  returned: success
  type: list
  elements: str
  sample: []
"""

import grp
import pwd
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import install
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import run
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest
except ImportError as error:
    MISSING = error


def without_sqlite3(module: AnsibleModule, error: ImportError) -> None:
    """Fail because Python cannot import sqlite3."""
    module.fail_json(
        msg=(
            f"The Python of this host ({sys.executable}) cannot import sqlite3: {error}. Without it no database can "
            "be read, "
            "and nothing may be counted as 0. Install the distribution's sqlite3 support for Python (Debian: python3 "
            "and libsqlite3-0), "
            "or set ansible_python_interpreter to a complete Python."
        )
    )


def ownership(owner: str | None, group: str | None, mode: str | None) -> install.Ownership:
    """Names to numbers."""
    try:
        uid = pwd.getpwnam(owner).pw_uid if owner else None
        gid = grp.getgrnam(group).gr_gid if group else None
        bits = int(mode, 8) if mode else None
    except (KeyError, ValueError) as error:
        raise PlexDatabaseError(f"Expected an existing owner and group and an octal mode: {error}.") from error
    return install.Ownership(uid, gid, bits)


def merging(options: dict[str, Any]) -> install.Merging | None:
    """Return how home's changes are merged; None when the pair is installed unchanged."""
    if not options["base_dir"]:
        return None
    base = Path(options["base_dir"])
    conflicts = Path(options["conflicts_file"]) if options["conflicts_file"] else None
    return install.Merging(base, run.section_ids(base, options["sections"]), options["plex_sqlite"], conflicts)


def act(module: AnsibleModule) -> dict[str, object]:
    """Run the state and return the result."""
    options = module.params
    databases = Path(options["databases_dir"])
    backups = Path(options["backups_dir"] or databases)
    result: dict[str, object] = {
        "changed": False,
        "backup": "",
        "watch_state": {"kept": 0, "conflicts": 0},
        "pruned": [],
        "backups": [],
        "recovered": "clean",
    }
    if options["state"] == "listed":
        return {**result, "backups": install.describe_backups(backups)}
    if options["state"] == "verified":
        install.verify(databases, manifest.load(Path(options["manifest"])))
        return result
    if options["state"] == "checksummed":
        chosen = install.choose(backups, options["backup"])
        return {**result, "backup": str(chosen), "changed": install.seal(chosen, dry_run=module.check_mode)}
    if (databases / install.JOURNAL).exists():
        install.require_stopped(databases)
        result["changed"] = True
        result["recovered"] = install.recover(databases) if not module.check_mode else "interrupted"
    if options["state"] == "installed":
        done = install.install(
            Path(options["incoming"]),
            databases,
            backups,
            options["run_id"],
            keep=options["keep"],
            merging=merging(options),
            ownership=ownership(options["owner"], options["group"], options["mode"]),
            dry_run=module.check_mode,
        )
        result.update(backup=done.backup, pruned=list(done.pruned), changed=done.changed or result["changed"])
        result["watch_state"] = {"kept": done.merged.kept, "conflicts": done.merged.conflicts}
    elif options["state"] == "rolled_back":
        done = install.roll_back(
            databases, backups, options["run_id"], name=options["backup"], dry_run=module.check_mode
        )
        result.update(backup=done.backup, changed=True)
    return result


def main() -> None:
    """Install, roll back, recover or seal."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["installed", "rolled_back", "recovered", "checksummed", "verified", "listed"],
                "default": "installed",
            },
            "databases_dir": {"type": "path", "required": True},
            "backups_dir": {"type": "path"},
            "incoming": {"type": "path"},
            "run_id": {"type": "str", "default": "manual"},
            "base_dir": {"type": "path"},
            "sections": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "conflicts_file": {"type": "path"},
            "manifest": {"type": "path"},
            "backup": {"type": "str", "default": ""},
            "keep": {"type": "int", "default": 3},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str"},
        },
        required_if=[
            ("state", "installed", ["incoming", "backups_dir"]),
            ("state", "rolled_back", ["backups_dir"]),
            ("state", "checksummed", ["backups_dir"]),
            ("state", "listed", ["backups_dir"]),
            ("state", "verified", ["manifest"]),
        ],
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    try:
        result = act(module)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(
            msg=(f"The database pair in {module.params['databases_dir']}: {module.params['state']} failed. {error}")
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
