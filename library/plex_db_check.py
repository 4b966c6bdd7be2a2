#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Check a Plex database pair against its manifest and its base."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_check
short_description: Check a Plex database pair against its manifest and its base
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
    details: It only reads; neither O(findings) nor a repaired pair is written in check mode.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: It only reads. A repair is refused when O(repair_dir) holds a pair already.
options:
  dir:
    description: The folder of the pair.
    type: path
    required: true
  manifest:
    description: The manifest of the pair. Default is C(manifest.json) in O(dir).
    type: path
  with_manifest:
    description:
      - Compare the pair with its manifest, and fail without one.
      - Use false for a pair in the own folder of a Plex server that is stopped; no manifest knows what it did since.
    type: bool
    default: true
  base_manifest:
    description: Manifest of the base snapshot.
    type: path
  base_dir:
    description: Folder of the base pair; items are then compared one by one.
    type: path
  listing:
    description: A listing of the remote that M(plexburst.core.plex_db_path_audit) made.
    type: path
  audit:
    description: Audit file of M(plexburst.core.plex_db_path_audit). Its files at home only do not count as proven gone
        when
      they are in the trash; they are a warning.
    type: path
  depth:
    description: Depth of the check.
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
  items_gone:
    description: Number of items or files of a section and type that may be missing from the database.
    type: int
    default: 0
  gone_percent:
    description: The same in percent; the larger of O(items_gone) and this value applies.
    type: float
    default: 0.0
  user_data_gone:
    description:
      - Number of entries of each kind of user data that may be missing.
      - The kinds are views with ratings and resume points, the viewing history, accounts, locked fields, uploaded
        posters, members of playlists, members of collections.
    type: int
    default: 0
  markers_gone_percent:
    description: Percentage of the items of a section and type that may have lost markers, chapters or Sonic data.
    type: float
    default: 1.0
  size_percent:
    description: Percentage by which a file may be smaller than its base.
    type: float
    default: 50.0
  growth_factor:
    description: Factor by which a file may be larger than its base. Files below 64 MB count as 64 MB.
    type: float
    default: 10.0
  repair:
    description:
      - Recover a pair that Plex's own SQLite calls damaged into a new one in O(repair_dir), page by page, then check
        that one instead. The pair in O(dir) stays as it is.
      - Tables are filled from the pages that can still be read, search indexes are built anew, and rows before and
        after are compared. Counters of ids never fall, so that no id is used twice.
      - Only for O(depth=full). A pair that does not match its manifest was damaged during the transfer and is not
        repaired.
    type: bool
    default: false
  repair_dir:
    description: Folder for the repaired pair. Required with O(repair=true).
    type: path
  findings:
    description: File for every problem with up to 100 examples each, as JSON, when there is something to tell.
    type: path
  trashed_percent:
    description: How many percent of the items of a section and type may be newly in the trash when there is no
      O(listing).
    type: float
    default: 10.0
"""

EXAMPLES = r"""
---
- name: Check the indexer's pair
  plexburst.core.plex_db_check:
    dir: /srv/runs/20261122-071500-ab12/snapshots/result
    base_manifest: /srv/runs/20261122-071500-ab12/snapshots/base/manifest.json
    listing: /srv/runs/20261122-071500-ab12/listing.jsonl
"""

RETURN = r"""
---
problems:
  description:
    - Every reason to refuse the pair, as a code and a sentence.
    - Where they have a meaning also the id of the section, how many are concerned, and up to 100 examples.
  returned: always
  type: list
  elements: dict
  sample: [{code: items_gone, message: "221 of 224 movies of section 'Movies' are gone: …", section: 2, count: 221,
      examples: ["Dune (2021) (id 7)"]}]
warnings_found:
  description: Findings that are no reason to refuse the pair.
  returned: always
  type: list
  elements: str
  sample: []
repaired:
  description: The folder of the repaired pair; empty when nothing was repaired.
  returned: success
  type: str
  sample: ''
manifest:
  description: The manifest of the pair; empty when there is none.
  returned: success
  type: dict
  sample: {schema: 1, source: indexer}
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.checks import check, repair
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest, pair
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import audit, remote_listing
except ImportError as error:
    MISSING = error


LIMITS = (
    "items_gone",
    "gone_percent",
    "trashed_percent",
    "user_data_gone",
    "markers_gone_percent",
    "size_percent",
    "growth_factor",
)


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


def look(directory: Path, described: dict[str, Any] | None, options: dict[str, Any]) -> check.Report:
    """Check one pair."""
    return check.check(
        directory,
        described,
        base=manifest.load(Path(options["base_manifest"])) if options["base_manifest"] else None,
        base_directory=Path(options["base_dir"]) if options["base_dir"] else None,
        listing=remote_listing.load(Path(options["listing"])) if options["listing"] else None,
        at_home=audit.home_only(Path(options["audit"])) if options["audit"] else (),
        depth=options["depth"],
        plex_sqlite=options["plex_sqlite"],
        plex_sqlite_directory=options["plex_sqlite_dir"],
        limits=check.Limits(**{name: options[name] for name in LIMITS}),
    )


def repair_copy(directory: Path, described: dict[str, Any] | None, options: dict[str, Any]) -> str:
    """Recover the pair in its folder; returns the result as text."""
    recovered = repair.repair(
        directory,
        Path(options["repair_dir"]),
        options["plex_sqlite"],
        base=Path(options["base_dir"]) if options["base_dir"] else None,
        manifest=described,
        source=(described or {}).get("source", "indexer"),
    )
    return f"The pair in {directory} was damaged and is recovered in {options['repair_dir']}. {repair.words(recovered)}"


def main() -> None:
    """Check the pair and report all problems at once."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "manifest": {"type": "path"},
            "with_manifest": {"type": "bool", "default": True},
            "base_manifest": {"type": "path"},
            "base_dir": {"type": "path"},
            "listing": {"type": "path"},
            "audit": {"type": "path"},
            "depth": {"type": "str", "choices": ["quick", "full"], "default": "quick"},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite_dir": {"type": "str", "default": ""},
            "items_gone": {"type": "int", "default": 0},
            "gone_percent": {"type": "float", "default": 0.0},
            "trashed_percent": {"type": "float", "default": 10.0},
            "user_data_gone": {"type": "int", "default": 0},
            "markers_gone_percent": {"type": "float", "default": 1.0},
            "size_percent": {"type": "float", "default": 50.0},
            "growth_factor": {"type": "float", "default": 10.0},
            "repair": {"type": "bool", "default": False},
            "repair_dir": {"type": "path"},
            "findings": {"type": "path"},
        },
        required_if=[("repair", True, ("repair_dir",))],
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    options = module.params
    directory = Path(options["dir"])
    try:
        place = Path(options["manifest"] or directory / pair.MANIFEST)
        described = manifest.load(place) if options["with_manifest"] else None
        report = look(directory, described, options)
        repaired = ""
        if options["repair"] and check.is_repairable(report):
            if module.check_mode:
                module.exit_json(changed=True, problems=[], warnings_found=report.warnings, manifest={}, repaired="")
            repaired = repair_copy(directory, described, options)
            directory = Path(options["repair_dir"])
            described = manifest.load(directory / pair.MANIFEST)
            report = look(directory, described, options)
            report.warnings.insert(0, repaired)
        if options["findings"] and (report.problems or report.warnings) and not module.check_mode:
            check.write_findings(Path(options["findings"]), report)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The pair in {directory} cannot be checked. {error}", problems=[], warnings_found=[])
    for warning in report.warnings:
        module.warn(warning)
    problems = [check.as_dict(problem) for problem in report.problems]
    if problems:
        module.fail_json(
            msg=f"The database pair in {directory} is refused. {check.sentences(report.problems)}",
            problems=problems,
            warnings_found=report.warnings,
        )
    module.exit_json(
        changed=bool(repaired),
        problems=[],
        warnings_found=report.warnings,
        manifest=described or {},
        repaired=str(directory) if repaired else "",
    )


if __name__ == "__main__":
    main()
