#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Check a Plex database pair against its manifest and against what went out."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_check
short_description: Check a Plex database pair against its manifest and against what went out
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Fails unless the pair in O(dir) is what its manifest says, and, when there is a base, unless nothing in it was lost
    since.
  - Quick reads with stock SQLite; full runs Plex's own SQLite for the integrity check as well, where complaints about
    search indexes alone are warnings.
  - With a listing of the remote, a newly trashed file that the remote still has refuses the pair; the tolerance is
    zero.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: It only reads.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: It only reads.
options:
  dir:
    description: The folder of the pair.
    type: path
    required: true
  manifest:
    description: The manifest of the pair. Default is C(manifest.json) in O(dir).
    type: path
  base_manifest:
    description: The manifest of the snapshot that went out.
    type: path
  base_dir:
    description: The pair that went out; items are then compared one by one.
    type: path
  listing:
    description: A listing of the remote that M(plexburst.core.plex_db_paths) made.
    type: path
  depth:
    description: How deep to look.
    type: str
    choices: [quick, full]
    default: quick
  plex_sqlite:
    description: Command of Plex's own SQLite, for O(depth=full).
    type: list
    elements: str
    default: []
  plex_sqlite_dir:
    description: The folder of the pair as O(plex_sqlite) sees it, in a container for example. Empty means as O(dir).
    type: str
    default: ''
  gone_percent:
    description: How many percent of the items or files of a section and type may be gone.
    type: float
    default: 1.0
  trashed_percent:
    description: How many percent of the items of a section and type may be newly in the trash when there is no
      O(listing).
    type: float
    default: 10.0
"""

EXAMPLES = r"""
---
- name: Check what came back
  plexburst.core.plex_db_check:
    dir: /srv/runs/20261122-071500-ab12/snapshots/result
    base_manifest: /srv/runs/20261122-071500-ab12/snapshots/base/manifest.json
    listing: /srv/runs/20261122-071500-ab12/listing.jsonl
"""

RETURN = r"""
---
problems:
  description: Every reason to refuse the pair, as a code and a sentence.
  returned: always
  type: list
  elements: dict
  sample: [{code: truncated, message: "com.plexapp.plugins.library.db is truncated: …"}]
warnings_found:
  description: What is worth knowing but no reason to refuse.
  returned: always
  type: list
  elements: str
  sample: []
manifest:
  description: The manifest of the pair.
  returned: success
  type: dict
  sample: {schema: 1, source: indexer}
"""

import sys
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import check, listing, manifest, pair
except ImportError as error:
    MISSING = error


def without_sqlite3(module: AnsibleModule, error: ImportError) -> None:
    """End with the cause that once made every counter read 0: Python cannot import sqlite3."""
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
    """Check the pair; every problem is told at once."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "manifest": {"type": "path"},
            "base_manifest": {"type": "path"},
            "base_dir": {"type": "path"},
            "listing": {"type": "path"},
            "depth": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite_dir": {"type": "str", "default": ""},
            "gone_percent": {"type": "float", "default": 1.0},
            "trashed_percent": {"type": "float", "default": 10.0},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    options = module.params
    directory = Path(options["dir"])
    try:
        described = manifest.load(Path(options["manifest"] or directory / pair.MANIFEST))
        report = check.check(
            directory,
            described,
            base=manifest.load(Path(options["base_manifest"])) if options["base_manifest"] else None,
            base_directory=Path(options["base_dir"]) if options["base_dir"] else None,
            listing=listing.load(Path(options["listing"])) if options["listing"] else None,
            depth=options["depth"],
            plex_sqlite=options["plex_sqlite"],
            plex_sqlite_directory=options["plex_sqlite_dir"],
            limits=check.Limits(options["gone_percent"], options["trashed_percent"]),
        )
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The pair in {directory} cannot be checked. {error}", problems=[], warnings_found=[])
    for warning in report.warnings:
        module.warn(warning)
    problems = [{"code": problem.code, "message": problem.message} for problem in report.problems]
    if problems:
        module.fail_json(
            msg=f"The database pair in {directory} is refused. {check.sentences(report.problems)}",
            problems=problems,
            warnings_found=report.warnings,
        )
    module.exit_json(changed=False, problems=[], warnings_found=report.warnings, manifest=described)


if __name__ == "__main__":
    main()
