#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Compare the files in a Plex database with the files on the remote."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_path_audit
short_description: Compare the files in a Plex database with the files on the remote
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Lists the remote with rclone into O(listing) when O(mounts) are given, else reads that listing.
  - Sorts every file of every section into present, missing, new and in the trash, in memory, and counts tracks without
    Sonic data and media never analysed.
  - Proposes mappings for moved or renamed files by name and size; ambiguous moves are never proposed.
  - Files missing on the remote that home's Plex can read (O(at_home_packed)) or may read (O(unknown_packed)) do not
    count as gone, moved or work to do.
  - Names compare equal in either Unicode form. Hidden files and files that the section's scanner would not take are no
    news.
attributes:
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: full
    details: The database and the remote are only read; O(listing) and O(dest) are not written.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: full
    details: The same library and remote give the same answer.
options:
  dir:
    description: The folder of a closed pair, a snapshot.
    type: path
    required: true
  listing:
    description: The file of the listing, written when O(mounts) are given.
    type: path
    required: true
  mounts:
    description: The remotes to list.
    type: list
    elements: dict
    default: []
    suboptions:
      remote:
        description: An rclone remote with its path, such as V(media-s3:media).
        type: str
        required: true
      path:
        description: The folder under which Plex sees it, such as V(/Media).
        type: str
        required: true
  rclone_bin:
    description: The rclone executable.
    type: str
    default: rclone
  rclone_config:
    description: The configuration file of rclone. Required with O(mounts).
    type: path
  timeout:
    description: Timeout for listing one remote, in seconds.
    type: int
    default: 3600
  sections:
    description: Titles of the sections to compare. Empty means all.
    type: list
    elements: str
    default: []
  sonic:
    description: Whether tracks without Sonic data count as work to do.
    type: bool
    default: true
  analysis:
    description: Whether media that were never analysed count as work to do.
    type: bool
    default: true
  max_missing_percent:
    description: Fail if more than this percentage of the files in the database, or of the files of a section of ten or
      more, are missing on the remote. Files at home do not count. A failure also returns the proposals.
    type: float
    default: 100.0
  max_home_only_percent:
    description: Fail if more than this percentage of the files in the database, or of the files of a section of ten or
      more, exist, or may exist, at home only and not on the remote.
    type: float
    default: 100.0
  at_home_packed:
    description: Files that home's Plex can read, packed, from
      RV(plexburst.core.plex_file_presence#module:present_packed).
    type: str
    default: ''
  unknown_packed:
    description: Files for which that is unknown, packed, from
      RV(plexburst.core.plex_file_presence#module:unknown_packed).
    type: str
    default: ''
  mappings:
    description: Moves that a person has accepted; files are looked for where these bring them. One from a path to
      itself says that nothing is to be proposed there.
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: Path of a folder or file in the database.
        type: str
        required: true
      to:
        description: Its current path.
        type: str
        required: true
  indexer_mappings:
    description: How the indexer names the paths of home, for O(indexer_dest).
    type: list
    elements: dict
    default: []
    suboptions:
      from:
        description: Path of a folder at home.
        type: str
        required: true
      to:
        description: Path of the folder on the indexer.
        type: str
        required: true
  times_sample:
    description: How many files of each section to return in RV(sample), for a comparison of modification times.
    type: int
    default: 0
  dest:
    description: File for the whole result with its lists of paths, readable by its owner only. Not written in check
      mode.
    type: path
  indexer_dest:
    description: File for the same with every path as the indexer will name it. Not written in check mode.
    type: path
"""

EXAMPLES = r"""
---
- name: Compare home's library with the bucket
  plexburst.core.plex_db_path_audit:
    dir: /srv/runs/20261122-071500-ab12/snapshots/base
    listing: /srv/runs/20261122-071500-ab12/listing.jsonl
    mounts:
      - remote: media-s3:media
        path: /Media
    rclone_config: /home/me/.config/rclone/rclone.conf
    dest: /srv/runs/20261122-071500-ab12/audit.json
"""

RETURN = r"""
---
sections:
  description: Counts per section.
  returned: always
  type: list
  elements: dict
  sample: [{id: 1, title: Music, type: artist, present: 40, missing: 1, new: 3}]
totals:
  description: The same over all sections.
  returned: success
  type: dict
  sample: {present: 40, missing: 1, new: 3, sonic_pending: 2}
missing_percent:
  description: Percentage of the files in the database that neither the remote nor home has.
  returned: success
  type: float
  sample: 2.4
home_only_percent:
  description: Percentage of the files that exist, or may exist, at home and are missing on the remote.
  returned: success
  type: float
  sample: 0.8
missing_packed:
  description: Home's paths of the files missing on the remote, packed for M(plexburst.core.plex_file_presence).
  returned: success
  type: str
  sample: eJzTd01Jzy9KBAANdgM4
roots:
  description: The folders of the sections.
  returned: success
  type: list
  elements: str
  sample: [/Media/Music]
proposals:
  description: Mappings for moved files with their evidence, those with most files first. O(mappings) takes them
    as they are.
  returned: always
  type: list
  elements: dict
  sample:
    - from: /Media/TV/Kaamelott
      to: /Media/TV/Kaamelott (2005)
      files: 416
      by_name: 416
      by_size: 0
      absent: 0
      bytes: 162849214464
      sections: [3]
      sure: certain
proposals_yaml:
  description: The same as YAML to paste into the inventory, empty when there are none.
  returned: always
  type: str
  sample: "plexburst_path_mappings:\n  - from: /Media/TV/Kaamelott\n    to: /Media/TV/Kaamelott (2005)"
undecided:
  description: Moved files without a proposal, with the reason.
  returned: always
  type: list
  elements: dict
  sample:
    - why: ambiguous
      files: 2
      words: several files of the remote, or of the library, could be the one
      examples: [/Media/TV/a.mkv]
mapped:
  description: Files by the C(from) of the accepted mapping that applies to them.
  returned: always
  type: dict
  sample: {/Media/TV/Kaamelott: 416}
sample:
  description: Files spread over each section, with what the database says about them.
  returned: success
  type: list
  elements: dict
  sample: [{section: 1, title: Music, path: /Media/Music/A/B/1.flac, size: 30211443, updated_at: 1700000000}]
nothing_to_do:
  description: Whether there is no work for a run.
  returned: success
  type: bool
  sample: false
listed:
  description: Files on the remote.
  returned: success
  type: int
  sample: 43
dest:
  description: The file with the lists, empty when none was asked for.
  returned: success
  type: str
  sample: /srv/runs/20261122-071500-ab12/audit.json
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import (
        audit,
        mapping,
        presence,
        remote_listing,
    )
except ImportError as error:
    MISSING = error


NO_MOVES: dict[str, Any] = {"proposals": [], "proposals_yaml": "", "undecided": [], "mapped": {}}
PAIR = {"from": {"type": "str", "required": True}, "to": {"type": "str", "required": True}}


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


def listed(module: AnsibleModule) -> remote_listing.Listing:
    """Return the listing: created if mounts are given (in check mode in a temporary file), else read."""
    options = module.params
    if not options["mounts"]:
        return remote_listing.load(Path(options["listing"]))
    with tempfile.TemporaryDirectory(prefix="plexburst-") as folder:
        target = Path(folder) / "listing.jsonl" if module.check_mode else Path(options["listing"])
        remote_listing.make(
            options["rclone_bin"], Path(options["rclone_config"]), options["mounts"], target, float(options["timeout"])
        )
        return remote_listing.load(target)


def uncovered_words(counts: dict[str, Any]) -> str:
    """Return a sentence with the sections' folders that no mount covers, or an empty text."""
    uncovered = [place for section in counts["sections"] for place in section["uncovered_locations"]]
    return f" No mount covers {', '.join(uncovered)}. Add their remote to plexburst_media." if uncovered else ""


def missing_words(too_much: list[str], counts: dict[str, Any], moves: dict[str, Any], options: dict[str, Any]) -> str:
    """Return why the limit stops the run, and the next step."""
    hint = uncovered_words(counts)
    if moves["proposals"]:
        files = sum(proposal["files"] for proposal in moves["proposals"])
        hint += (
            f" {files} of them were moved, as far as names and sizes tell. If that is right, put this into the "
            f"inventory and run again:\n{moves['proposals_yaml']}\n"
        )
    return (
        f"{' and '.join(too_much)} are not on the remote, more than the limit of {options['max_missing_percent']:g} %."
        f"{hint} Check that the mounts' paths are those of home's Plex, and that the remote is complete; the "
        "indexer would move all of these files to the trash. If they were deleted, raise plexburst_max_missing_percent "
        "for this run."
    )


def home_only_words(too_much: list[str], counts: dict[str, Any], options: dict[str, Any]) -> str:
    """Return why the files at home only stop the run, and the next step."""
    examples = [path for section in counts["sections"] for path in section["home_only_examples"]]
    return (
        f"{' and '.join(too_much)} are at home, or unknown at home, and not on the remote, more than the limit of "
        f"{options['max_home_only_percent']:g} %, for example {examples[0]!r}. An indexer cannot read them."
        f"{uncovered_words(counts)} Check that the mounts' paths are those of home's Plex, and that the remote is "
        "complete. If these files are really only at home, raise plexburst_max_home_only_percent."
    )


def main() -> None:
    """List, compare and write the result."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "listing": {"type": "path", "required": True},
            "mounts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"remote": {"type": "str", "required": True}, "path": {"type": "str", "required": True}},
            },
            "rclone_bin": {"type": "str", "default": "rclone"},
            "rclone_config": {"type": "path"},
            "timeout": {"type": "int", "default": 3600},
            "sections": {"type": "list", "elements": "str", "default": []},
            "sonic": {"type": "bool", "default": True},
            "analysis": {"type": "bool", "default": True},
            "max_missing_percent": {"type": "float", "default": 100.0},
            "max_home_only_percent": {"type": "float", "default": 100.0},
            "at_home_packed": {"type": "str", "default": ""},
            "unknown_packed": {"type": "str", "default": ""},
            "mappings": {"type": "list", "elements": "dict", "default": [], "options": dict(PAIR)},
            "indexer_mappings": {"type": "list", "elements": "dict", "default": [], "options": dict(PAIR)},
            "times_sample": {"type": "int", "default": 0},
            "dest": {"type": "path"},
            "indexer_dest": {"type": "path"},
        },
        supports_check_mode=True,
    )
    if MISSING is not None:
        without_sqlite3(module, MISSING)
    options = module.params
    if options["mounts"] and not options["rclone_config"]:
        module.fail_json(
            msg="Listing a remote needs rclone_config. Set it to the path of rclone's configuration file.",
            sections=[],
            **NO_MOVES,
        )
    try:
        held = listed(module)
        result = audit.audit(
            Path(options["dir"]),
            held,
            options["sections"],
            options["sonic"],
            options["analysis"],
            mappings=mapping.Mappings.parse(options["mappings"]),
            at_home=presence.unpack(options["at_home_packed"]),
            unknown=presence.unpack(options["unknown_packed"]),
        )
        there = audit.as_indexer(
            result, mapping.Mappings.parse(options["mappings"]), mapping.Mappings.parse(options["indexer_mappings"])
        )
        sample = audit.sample(Path(options["dir"]), options["times_sample"], options["sections"])
        for wanted, document in (("dest", result), ("indexer_dest", there)):
            if options[wanted] and not module.check_mode:
                audit.write(document, Path(options[wanted]))
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The path audit failed. {error}", sections=[], **NO_MOVES)
    counts = audit.summary(result)
    moves = {
        "proposals": result["proposals"],
        "proposals_yaml": mapping.to_yaml(result["proposals"]) if result["proposals"] else "",
        "undecided": result["undecided"],
        "mapped": result["mapped"],
    }
    too_much = audit.too_much_missing(counts, options["max_missing_percent"])
    if too_much:
        module.fail_json(msg=missing_words(too_much, counts, moves, options), sections=counts["sections"], **moves)
    too_much = audit.too_much_at_home_only(counts, options["max_home_only_percent"])
    if too_much:
        module.fail_json(msg=home_only_words(too_much, counts, options), sections=counts["sections"], **moves)
    module.exit_json(
        changed=False,
        sections=counts["sections"],
        totals=counts["totals"],
        missing_percent=counts["missing_percent"],
        home_only_percent=counts["home_only_percent"],
        missing_packed=presence.pack(path for section in result["sections"] for path in section["missing"]),
        roots=[place for section in result["sections"] for place in section["locations"]],
        nothing_to_do=counts["nothing_to_do"],
        listed=len(held.exact),
        sample=sample,
        **moves,
        dest=options["dest"] or "",
    )


if __name__ == "__main__":
    main()
