#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Pack the artwork of a Plex server, or install packed artwork on another one."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_artwork
short_description: Pack the artwork of a Plex server, or install packed artwork
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Plex stores artwork (covers, posters, thumbnails and chapter images) in bundles below C(Metadata) and C(Media). The
    database only refers to it. This module transfers it along with the database.
  - Packs what is new there, and every file that a changed reference of the database leads to, into parts with their
    size and SHA-256, which C(plexburst.core.plex_db_transfer) carries.
  - Installs packed files on another server, file by file, while its Plex works. Missing files are added, equal ones are
    kept, and different ones are replaced only if that server has not changed them since O(unchanged_since). User
    uploads are never changed.
  - No link is followed, no path leaves its bundle, and incomplete files have temporary names.
  - Needs only Python 3.9 with sqlite3, and memory for a list of the paths.
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
  state:
    description:
      - V(listed) writes a list of the existing files to O(before), for a later V(archived).
      - V(archived) packs into O(archive) what is not in O(before), and what the pair in O(result) names and the one in
        O(base) does not.
      - V(inspected) returns which parts of an archive are in O(archive), and creates that folder.
      - V(installed) installs the artwork in O(archive) below O(support_dir), or fails before it writes
        anything if a reference that has its file on the source server would have no file here.
      - V(measured) returns the size of the bundles of O(sections).
      - V(absent) removes the archive in O(archive), and nothing else in that folder.
    type: str
    required: true
    choices: [listed, archived, inspected, installed, measured, absent]
  support_dir:
    description:
      - The folder C(Plex Media Server) that holds C(Metadata) and C(Media).
      - Required by V(listed), V(archived), V(installed) and V(measured) of O(state).
    type: path
  archive:
    description: Folder of the packed artwork. Required by V(archived), V(inspected), V(installed) and V(absent) of
        O(state).
    type: path
  before:
    description:
      - File with the list of files before the work. Required by O(state=listed).
      - If it does not exist, O(state=archived) treats all files as new.
    type: path
  result:
    description:
      - Folder of the closed database pair that names the files. Without it O(state=archived) ignores references.
    type: path
  base:
    description: Folder of the base pair. If it contains no pair, every reference counts as changed.
    type: path
  databases_dir:
    description: Folder of the databases that say which bundles belong to O(sections); Plex may be working on them.
    type: path
  sections:
    description:
      - Titles of the sections whose bundles are meant, by V(measured), and by V(archived) if O(databases_dir) is given.
      - Empty means all.
    type: list
    elements: str
    default: []
  uploads:
    description: Include user uploads, for a server without its own artwork.
    type: bool
    default: false
  unchanged_since:
    description:
      - Time of the base snapshot by the clock of this host, such as V(2026-11-22T15:16:22Z).
      - Required by O(state=installed).
    type: str
  consume:
    description: Remove the packed artwork after the installation, for O(state=installed).
    type: bool
    default: false
  owner:
    description:
      - Owner of the packed artwork, if the login user may not read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Pack the new artwork
  plexburst.core.plex_artwork:
    state: archived
    support_dir: /opt/plexburst/config/Library/Application Support/Plex Media Server
    archive: /opt/plexburst/transfer/artwork
    result: /opt/plexburst/config/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    base: /opt/plexburst/transfer/base

- name: Install the artwork at home
  plexburst.core.plex_artwork:
    state: installed
    support_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server
    archive: /var/lib/plexburst/artwork
    unchanged_since: "{{ manifest.created_at }}"
"""

RETURN = r"""
---
files:
  description: Number of packed, existing or measured files.
  returned: when O(state) is not V(absent)
  type: int
  sample: 120
bytes:
  description: Size of these files; for O(state=installed), the bytes written.
  returned: when O(state) is not V(absent)
  type: int
  sample: 8400000
words:
  description: Summary of the packed files as text.
  returned: when O(state=archived)
  type: str
  sample: 120 files of artwork, 8.4 MB
references:
  description: Changed references that lead to a file.
  returned: when O(state=archived)
  type: int
  sample: 118
unresolved:
  description: Changed references without a file; reported, but not an error.
  returned: when O(state=archived)
  type: int
  sample: 0
skipped:
  description: Links that leave their bundle and are not packed.
  returned: when O(state=archived)
  type: int
  sample: 0
parts:
  description: Names of the parts.
  returned: when there is an archive
  type: list
  elements: str
  sample: [00000.artwork]
present:
  description: Names of the valid parts in O(archive).
  returned: when O(state=inspected)
  type: list
  elements: str
  sample: []
no_space:
  description: Why there is not enough disk space in O(archive) for the remaining parts; empty if there is.
  returned: when O(state=inspected) and there is an archive
  type: str
  sample: ''
description_sha256:
  description: SHA-256 of the archive's description, C(artwork.json), by which the other end knows that it arrived.
  returned: when there is an archive
  type: str
  sample: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
merged:
  description:
    - How many files were C(added), C(replaced), the C(same), C(kept) because this server changed them, or C(refused)
      because something is in the way, with C(bytes) written and C(examples).
  returned: when O(state=installed)
  type: dict
  sample: {added: 120, replaced: 0, same: 0, kept: 0, refused: 0, bytes: 8400000, examples: {kept: [], refused: []}}
warnings_of_artwork:
  description: Warnings for the user.
  returned: when O(state=archived) or O(state=installed)
  type: list
  elements: str
  sample: []
"""

import calendar
import sys
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork import archive, layout, merge
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork.references import changed, hashes_of
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta.delta import missing_parts
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import (
        give_to,
        make_folder,
        sha256_of,
    )
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import LIBRARY
except ImportError as error:
    MISSING = error


def described(folder: Path, packed: Any) -> dict[str, Any]:
    """What every state returns about an archive."""
    path = folder / archive.DESCRIPTION
    return {
        "files": packed.files + packed.links,
        "bytes": packed.bytes,
        "words": packed.words,
        "references": packed.references,
        "unresolved": packed.unresolved,
        "skipped": packed.skipped,
        "parts": [part.name for part in packed.parts],
        "description_sha256": sha256_of(path) if path.is_file() else "",
        "warnings_of_artwork": archive.warnings_of(packed),
    }


def list_them(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `listed`."""
    support, file = Path(options["support_dir"]), Path(options["before"])
    found = {entry.path: entry for entry in layout.walk(support)}
    answer = {"files": len(found), "bytes": sum(entry.size for entry in found.values())}
    now = {path: (entry.size, entry.mtime_ns) for path, entry in found.items()}
    if file.exists() and layout.read_list(file) == now:
        return {"changed": False, **answer}
    if not check:
        make_folder(file.parent)
        layout.write_list(now, file)
    return {"changed": True, **answer}


def pack(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `archived`."""
    support, folder = Path(options["support_dir"]), Path(options["archive"])
    base = Path(options["base"]) if options["base"] else None
    if base is not None and not (base / LIBRARY).is_file():
        base = None
    references = changed(Path(options["result"]), base) if options["result"] else ()
    only = hashes_of(Path(options["databases_dir"]), options["sections"]) if options["databases_dir"] else None
    before = layout.read_list(Path(options["before"])) if options["before"] else {}
    chosen = archive.choose(support, before, references, only, options["uploads"])
    there = archive.is_packed(folder, chosen)
    if there is not None:
        return {"changed": False, **described(folder, there)}
    if check:
        return {"changed": True, **described(folder, archive.summed_up(chosen, ()))}
    packed = archive.pack(support, folder, chosen)
    if options["owner"]:
        give_to(options["owner"], folder, *folder.iterdir())
    return {"changed": True, **described(folder, packed)}


def know(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `inspected`; creates the folder for a following upload."""
    folder = Path(options["archive"])
    made = not folder.is_dir()
    if made and not check:
        make_folder(folder)
    if options["owner"] and folder.is_dir() and not check:
        give_to(options["owner"], folder)
    answer: dict[str, Any] = {"changed": made, "files": 0, "bytes": 0, "present": []}
    if (folder / archive.DESCRIPTION).is_file():
        packed = archive.load(folder)
        lacking = {part.name for part in missing_parts(folder, packed)}
        answer["present"] = [part.name for part in packed.parts if part.name not in lacking]
        answer.update(described(folder, packed))
        answer["no_space"] = archive.no_space_for(folder, packed)
    return answer


def lay(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `installed`."""
    support, folder = Path(options["support_dir"]), Path(options["archive"])
    try:
        since = calendar.timegm(time.strptime(options["unchanged_since"], "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise PlexDatabaseError(
            f"Expected unchanged_since as in 2026-11-22T15:16:22Z, found {options['unchanged_since']!r}."
        ) from None
    packed = archive.load(folder)
    done = merge.merge(folder, packed, support, since, uploads=options["uploads"], dry_run=check)
    if options["consume"] and not check:
        archive.remove(folder)
    return {
        "changed": done.changed,
        "files": packed.files + packed.links,
        "bytes": done.bytes,
        "merged": done.plain(),
        "warnings_of_artwork": merge.warnings_of(done),
    }


def measure(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `measured`; it only reads."""
    del check
    only = hashes_of(Path(options["databases_dir"]), options["sections"])
    found = list(layout.walk(Path(options["support_dir"]), only, options["uploads"]))
    return {"changed": False, "files": len(found), "bytes": sum(entry.size for entry in found)}


def remove(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `absent`."""
    folder = Path(options["archive"])
    return {"changed": archive.is_there(folder) if check else archive.remove(folder)}


def main() -> None:
    """List, pack, check, install, measure or remove artwork."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "required": True,
                "choices": ["listed", "archived", "inspected", "installed", "measured", "absent"],
            },
            "support_dir": {"type": "path"},
            "archive": {"type": "path"},
            "before": {"type": "path"},
            "result": {"type": "path"},
            "base": {"type": "path"},
            "databases_dir": {"type": "path"},
            "sections": {"type": "list", "elements": "str", "default": []},
            "uploads": {"type": "bool", "default": False},
            "unchanged_since": {"type": "str"},
            "consume": {"type": "bool", "default": False},
            "owner": {"type": "str", "default": ""},
        },
        required_if=[
            ("state", "listed", ["support_dir", "before"]),
            ("state", "archived", ["support_dir", "archive"]),
            ("state", "inspected", ["archive"]),
            ("state", "installed", ["support_dir", "archive", "unchanged_since"]),
            ("state", "measured", ["support_dir", "databases_dir"]),
            ("state", "absent", ["archive"]),
        ],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks a module for artwork: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    options = module.params
    states = {
        "listed": list_them,
        "archived": pack,
        "inspected": know,
        "installed": lay,
        "measured": measure,
        "absent": remove,
    }
    try:
        answer = states[options["state"]](options, module.check_mode)
    except (PlexDatabaseError, OSError) as error:
        what = {"measured": "measured", "inspected": "read"}.get(options["state"], options["state"])
        module.fail_json(msg=f"The artwork could not be {'removed' if what == 'absent' else what}. {error}")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
