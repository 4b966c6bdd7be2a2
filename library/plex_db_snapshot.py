#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Copy a Plex database pair consistently while Plex works."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_snapshot
short_description: Copy a Plex database pair consistently while Plex works
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Copies library.db and blobs.db by SQLite's online backup to a folder and describes the pair in C(manifest.json)
    there.
  - Both files are read at one point in time, without a commit to C(blobs.db) in between. If C(blobs.db) changes
    continuously, so that the two files would not match, the module fails.
  - Free space is checked first. Neither -wal files nor Plex's own dated backups are copied.
  - Runs on the host that has the files and needs only Python 3.9 with sqlite3.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: The source is only read. In check mode the copy is described but not kept; use C(check_mode=false) on the
      task to keep it.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: none
    details: Every call takes a new snapshot, which replaces the previous one.
options:
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server.
    type: path
    required: true
  dest:
    description: Folder for the copy, created with mode 0700.
    type: path
    required: true
  source:
    description: Owner of the database, for the manifest.
    type: str
    choices: [home, indexer]
    required: true
  plex_version:
    description: The version of the Plex server, for the manifest.
    type: str
    default: ''
  attempts:
    description: Number of tries to copy both files while C(blobs.db) does not change.
    type: int
    default: 5
  drop_statistics:
    description:
      - Leave the rows of Plex's own statistics (bandwidth, media, resources) out of the copy.
      - The copy keeps its size; the freed pages are zeros, which compress to nothing. The source is only read.
    type: bool
    default: false
  room_for:
    description:
      - Number of copies of the pair that an installation will store beside O(databases_dir) later. Without enough disk
        space for them, nothing is copied.
    type: int
    default: 0
  owner:
    description:
      - Owner of the copies, if the login user may not read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
  replace:
    description: Remove the existing snapshot in O(dest) first, so that both never need disk space together.
    type: bool
    default: false
"""

EXAMPLES = r"""
---
- name: Take a snapshot of home
  plexburst.core.plex_db_snapshot:
    databases_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    dest: /var/lib/plexburst/snapshot
    source: home
    plex_version: 1.43.4.10000-abcdef123
"""

RETURN = r"""
---
manifest:
  description: Description of the pair; also written to C(manifest.json) in O(dest).
  returned: success
  type: dict
  sample: {schema: 1, source: home, page_size: 1024}
dest:
  description: The folder that holds the copies and the manifest.
  returned: success
  type: str
  sample: /var/lib/plexburst/snapshot
advice:
  description: A sentence when Plex's own statistics are a large part of the copy, else empty.
  returned: success
  type: str
  sample: ''
bytes:
  description: Bytes of the two copies.
  returned: success
  type: int
  sample: 2300000000
free:
  description: Free bytes on the file system of O(dest), minus those that O(room_for) copies will need there.
  returned: success
  type: int
  sample: 9000000000
"""

import shutil
import sys
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, snapshot
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import give_to
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


def main() -> None:
    """Take the snapshot; in check mode to a temporary folder."""
    module = AnsibleModule(
        argument_spec={
            "databases_dir": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "source": {"type": "str", "choices": ["home", "indexer"], "required": True},
            "plex_version": {"type": "str", "default": ""},
            "attempts": {"type": "int", "default": 5},
            "drop_statistics": {"type": "bool", "default": False},
            "room_for": {"type": "int", "default": 0},
            "owner": {"type": "str", "default": ""},
            "replace": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    options = module.params
    dest = Path(options["dest"])
    # In check mode nothing may appear at the destination, its folder included; the nearest existing folder has its
    # file system.
    parent = next(folder for folder in (dest, *dest.absolute().parents) if folder.is_dir())
    target = Path(tempfile.mkdtemp(prefix=".plexburst-check-", dir=parent)) if module.check_mode else dest
    databases = Path(options["databases_dir"])
    try:
        if options["replace"] and not module.check_mode:
            snapshot.remove(dest)
        later = snapshot.require_room(databases, options["room_for"]) if databases.is_dir() else 0
        manifest = snapshot.take(
            databases,
            target,
            options["source"],
            options["plex_version"],
            options["attempts"],
            drop_statistics=options["drop_statistics"],
        )
        if options["owner"]:
            give_to(options["owner"], target, *(target / name for name in (*pair.NAMES, pair.MANIFEST)))
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The snapshot of {options['databases_dir']} failed. {error}")
    finally:
        if module.check_mode:
            shutil.rmtree(target)
    size = sum(entry["size"] for entry in manifest["files"].values())
    advice = snapshot.statistics_words(manifest)
    free = shutil.disk_usage(parent).free - (later if parent.stat().st_dev == databases.stat().st_dev else 0)
    module.exit_json(changed=True, manifest=manifest, dest=str(dest), bytes=size, advice=advice, free=free)


if __name__ == "__main__":
    main()
