#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Create or apply a delta of a Plex database pair."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_delta
short_description: Create or apply a delta of a Plex database pair
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Writes the changed pages of a newer pair against a base to a folder of parts, each with its size and SHA-256, and
    creates the newer pair from the base and the delta.
  - The base, each part and the result are verified by SHA-256. The result's files are created only if all are valid.
  - If the two ends have different bases, or one has none, the delta contains the whole pair, with the reason.
  - Needs only Python 3.9 with zlib and sqlite3, and about 30 MB of memory for databases of any size.
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
    details: An existing delta from the same base to the same result is kept, and so is an existing result.
options:
  state:
    description:
      - V(present) writes the delta from O(base) to O(result) to O(delta).
      - V(applied) creates the pair in O(result) from O(base) and the delta.
      - V(inspected) only returns which base is in O(base) and which parts of the delta are in O(delta).
      - V(absent) removes the delta in O(delta), and nothing else in that folder.
    type: str
    choices: [present, applied, inspected, absent]
    default: present
  delta:
    description: Folder of the delta.
    type: path
    required: true
  result:
    description: The folder of the newer pair, with its manifest. Required by V(present) and V(applied) of O(state).
    type: path
  base:
    description: Folder of the base, with its manifest. Empty means no base.
    type: path
    default: ''
  other_base:
    description:
      - The base of the other end, as C(files) of its manifest, for O(state=present).
      - If O(base) differs, or if this is empty, the delta contains the whole pair.
    type: dict
  owner:
    description:
      - Owner of the delta, if the login user may not read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Create the delta against the uploaded snapshot
  plexburst.core.plex_db_delta:
    delta: /opt/plexburst/transfer/delta
    base: /opt/plexburst/transfer/base
    result: /opt/plexburst/transfer/snapshot
    other_base: "{{ manifest.files }}"

- name: Create the newer pair at home
  plexburst.core.plex_db_delta:
    state: applied
    delta: /var/lib/plexburst/delta
    base: /var/lib/plexburst/base
    result: /var/lib/plexburst/incoming
"""

RETURN = r"""
---
whole:
  description: Whether the delta contains the whole pair and needs no base.
  returned: when there is a delta
  type: bool
  sample: false
words:
  description: Size of the transfer as text, with the reason if it is the whole pair.
  returned: when there is a delta
  type: str
  sample: the delta, 1.3 MB for 12.9 MB changed of 2300.0 MB
bytes:
  description: Bytes of the parts.
  returned: when there is a delta
  type: int
  sample: 1300000
changed_bytes:
  description: Bytes of the pages that differ from the base.
  returned: when there is a delta
  type: int
  sample: 12900000
parts:
  description: Names of the parts.
  returned: when there is a delta
  type: list
  elements: str
  sample: [0000-com.plexapp.plugins.library.db]
present:
  description: Names of the valid parts in O(delta).
  returned: when O(state=inspected)
  type: list
  elements: str
  sample: []
base:
  description: C(files) of the manifest of the pair in O(base), if there is one.
  returned: when O(state=inspected)
  type: dict
  sample: {com.plexapp.plugins.library.db: {size: 2300000000, sha256: 0a1b}}
description_sha256:
  description: SHA-256 of the delta's description, C(delta.json), by which the other end verifies the arrival.
  returned: when there is a delta
  type: str
  sample: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
manifest:
  description: The manifest of the newer pair.
  returned: when there is a delta
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
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta as deltas
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import manifest as manifests
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.files import give_to, sha256_of
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair.pair import MANIFEST
except ImportError as error:
    MISSING = error


def described(folder: Path, delta: Any, why: str = "") -> dict[str, Any]:
    """Return the fields that every state returns about a delta."""
    path = folder / deltas.DESCRIPTION
    return {
        "whole": delta.whole,
        "words": deltas.words(delta) + (f" ({why})" if why else ""),
        "bytes": delta.size,
        "changed_bytes": delta.changed_bytes,
        "parts": [part.name for part in delta.parts],
        "description_sha256": sha256_of(path) if path.is_file() else "",
        "manifest": dict(delta.manifest),
    }


def why_whole(base: str, found: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    """Return the reason why the whole pair must be transferred, or None."""
    if not base:
        return "no base was given"
    if found is None:
        return f"there is no complete base in {base}"
    if other is not None and not other:
        return "the other end has no base"
    if other is not None and any(
        (found[name]["size"], found[name]["sha256"]) != (entry.get("size"), entry.get("sha256"))
        for name, entry in ((name, other.get(name) or {}) for name in found)
    ):
        return f"the base in {base} differs from the other end's base"
    return ""


def make(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `present`."""
    folder, result = Path(options["delta"]), Path(options["result"])
    base = deltas.base_of(Path(options["base"])) if options["base"] else None
    why = why_whole(options["base"], base, options["other_base"])
    base = None if why else base
    files = manifests.load(result / MANIFEST)["files"]
    there = deltas.is_made(folder, base, files)
    if there is not None:
        return {"changed": False, **described(folder, there, why)}
    if check:
        return {"changed": True}
    made = deltas.make(result, folder, None if base is None else Path(options["base"]))
    if base is not None and options["other_base"] is not None and not made.base_is(options["other_base"]):
        # The base was damaged since its manifest was written: only its bytes tell.
        why = f"the base in {options['base']} is damaged"
        made = deltas.make(result, folder)
    if options["owner"]:
        give_to(options["owner"], folder, *folder.iterdir())
    return {"changed": True, **described(folder, made, why)}


def apply(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `applied`."""
    folder, result = Path(options["delta"]), Path(options["result"])
    delta = deltas.load(folder)
    changed = not deltas.is_applied(delta, result)
    if changed and not check:
        deltas.apply(folder, result, Path(options["base"]) if options["base"] else None)
    return {"changed": changed, **described(folder, delta)}


def known(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `inspected`; it only reads."""
    del check
    folder = Path(options["delta"])
    base = deltas.base_of(Path(options["base"])) if options["base"] else None
    answer: dict[str, Any] = {"changed": False, "base": base or {}, "present": []}
    if (folder / deltas.DESCRIPTION).is_file():
        delta = deltas.load(folder)
        lacking = {part.name for part in deltas.missing_parts(folder, delta)}
        answer["present"] = [part.name for part in delta.parts if part.name not in lacking]
        answer.update(described(folder, delta))
    return answer


def remove(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `absent`."""
    folder = Path(options["delta"])
    return {"changed": deltas.is_there(folder) if check else deltas.remove(folder)}


def main() -> None:
    """Create, apply, check or remove a delta."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "applied", "inspected", "absent"], "default": "present"},
            "delta": {"type": "path", "required": True},
            "result": {"type": "path"},
            "base": {"type": "path", "default": ""},
            "other_base": {"type": "dict"},
            "owner": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ["result"]), ("state", "applied", ["result"])],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks a module for deltas: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    options = module.params
    states = {"present": make, "applied": apply, "inspected": known, "absent": remove}
    try:
        answer = states[options["state"]](options, module.check_mode)
    except (PlexDatabaseError, OSError) as error:
        what = {"present": "made", "applied": "applied", "inspected": "read", "absent": "removed"}[options["state"]]
        module.fail_json(
            msg=f"The delta in {options['delta']} could not be {what}. {error}",
            wrong_base=isinstance(error, deltas.WrongBase),
        )
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
