#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Make or apply the delta between two Plex database pairs."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_db_patch
short_description: Make or apply the delta between two Plex database pairs
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Writes what differs between a base and a newer pair to a folder of parts, each with its size and SHA-256, and makes
    the newer pair again where the base is.
  - The base, each part and the result are verified by SHA-256. The result's files appear only when all of it is right.
  - Where the two ends hold different bases, or one has no base, the delta holds the whole pair and the reason.
  - Needs nothing but Python 3.9 with zlib and sqlite3, and about 30 MB of memory, however large the databases are.
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
    details: A patch that leads from the same base to the same result is left alone, and so is a result that is there.
options:
  state:
    description:
      - V(made) writes a patch to O(patch) that leads from O(base) to O(result).
      - V(applied) makes the pair in O(result) from O(base) and the patch.
      - V(known) only returns which base is in O(base) and which parts of the delta are in O(patch).
      - V(absent) removes the patch in O(patch), and nothing else in that folder.
    type: str
    choices: [made, applied, known, absent]
    default: made
  patch:
    description: The folder of the patch.
    type: path
    required: true
  result:
    description: The folder of the newer pair, with its manifest. Required by V(made) and V(applied) of O(state).
    type: path
  base:
    description: The folder of the base, with its manifest. Empty means no base.
    type: str
    default: ''
  other_base:
    description:
      - What the other end holds as its base, as C(files) of its manifest has it, for O(state=made).
      - When O(base) is something else, or when this is empty, the patch holds the whole pair.
    type: dict
  owner:
    description:
      - User that owns the patch, where the user who logs in is not the one who may read Plex's files.
      - Empty means the user the module runs as.
    type: str
    default: ''
"""

EXAMPLES = r"""
---
- name: Make the delta against the base
  plexburst.core.plex_db_patch:
    patch: /opt/plexburst/transfer/patch
    base: /opt/plexburst/transfer/base
    result: /opt/plexburst/transfer/snapshot
    other_base: "{{ manifest.files }}"

- name: Make the newer pair at home
  plexburst.core.plex_db_patch:
    state: applied
    patch: /var/lib/plexburst/patch
    base: /var/lib/plexburst/base
    result: /var/lib/plexburst/incoming
"""

RETURN = r"""
---
whole:
  description: Whether the patch holds the whole pair and needs no base.
  returned: when there is a patch
  type: bool
  sample: false
words:
  description: What travels, for people; and why it is the whole pair, if it is.
  returned: when there is a patch
  type: str
  sample: the delta, 1.3 MB for 12.9 MB changed of 2300.0 MB
bytes:
  description: Bytes of the parts.
  returned: when there is a patch
  type: int
  sample: 1300000
changed_bytes:
  description: Bytes of the pages that differ from the base.
  returned: when there is a patch
  type: int
  sample: 12900000
parts:
  description: Names of the parts.
  returned: when there is a patch
  type: list
  elements: str
  sample: [0000-com.plexapp.plugins.library.db]
present:
  description: Names of the parts that are in O(patch) and are as they must be.
  returned: when O(state=known)
  type: list
  elements: str
  sample: []
base:
  description: C(files) of the manifest of the pair in O(base), if one lies there.
  returned: when O(state=known)
  type: dict
  sample: {com.plexapp.plugins.library.db: {size: 2300000000, sha256: 0a1b}}
description_sha256:
  description: SHA-256 of the patch's description, C(patch.json), by which the other end knows that it arrived.
  returned: when there is a patch
  type: str
  sample: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef
manifest:
  description: The manifest of the newer pair.
  returned: when there is a patch
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
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import manifest as manifests
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch as patches
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.files import give_to, sha256_of
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import MANIFEST
except ImportError as error:
    MISSING = error


def described(folder: Path, patch: Any, why: str = "") -> dict[str, Any]:
    """What every state returns about a patch."""
    path = folder / patches.DESCRIPTION
    return {
        "whole": patch.whole,
        "words": patches.words(patch) + (f" ({why})" if why else ""),
        "bytes": patch.size,
        "changed_bytes": patch.changed_bytes,
        "parts": [part.name for part in patch.parts],
        "description_sha256": sha256_of(path) if path.is_file() else "",
        "manifest": dict(patch.manifest),
    }


def why_whole(base: str, found: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    """Why the whole pair must travel, or nothing."""
    if not base:
        return "no base was named"
    if found is None:
        return f"there is no complete base in {base}"
    if other is not None and not other:
        return "the other end holds no base"
    if other is not None and any(
        (found[name]["size"], found[name]["sha256"]) != (entry.get("size"), entry.get("sha256"))
        for name, entry in ((name, other.get(name) or {}) for name in found)
    ):
        return f"the base in {base} is not the one that the other end holds"
    return ""


def make(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `made`."""
    folder, result = Path(options["patch"]), Path(options["result"])
    base = patches.base_of(Path(options["base"])) if options["base"] else None
    why = why_whole(options["base"], base, options["other_base"])
    base = None if why else base
    files = manifests.load(result / MANIFEST)["files"]
    there = patches.is_made(folder, base, files)
    if there is not None:
        return {"changed": False, **described(folder, there, why)}
    if check:
        return {"changed": True}
    made = patches.make(result, folder, None if base is None else Path(options["base"]))
    if base is not None and options["other_base"] is not None and not made.base_is(options["other_base"]):
        # The base was damaged since its manifest was written: only its bytes tell.
        why = f"the base in {options['base']} is damaged"
        made = patches.make(result, folder)
    if options["owner"]:
        give_to(options["owner"], folder, *folder.iterdir())
    return {"changed": True, **described(folder, made, why)}


def apply(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `applied`."""
    folder, result = Path(options["patch"]), Path(options["result"])
    patch = patches.load(folder)
    changed = not patches.is_applied(patch, result)
    if changed and not check:
        patches.apply(folder, result, Path(options["base"]) if options["base"] else None)
    return {"changed": changed, **described(folder, patch)}


def known(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `known`; it only reads."""
    del check
    folder = Path(options["patch"])
    base = patches.base_of(Path(options["base"])) if options["base"] else None
    answer: dict[str, Any] = {"changed": False, "base": base or {}, "present": []}
    if (folder / patches.DESCRIPTION).is_file():
        patch = patches.load(folder)
        lacking = {part.name for part in patches.missing_parts(folder, patch)}
        answer["present"] = [part.name for part in patch.parts if part.name not in lacking]
        answer.update(described(folder, patch))
    return answer


def remove(options: dict[str, Any], check: bool) -> dict[str, Any]:
    """State `absent`."""
    folder = Path(options["patch"])
    return {"changed": patches.is_there(folder) if check else patches.remove(folder)}


def main() -> None:
    """Make, apply, look or remove."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["made", "applied", "known", "absent"], "default": "made"},
            "patch": {"type": "path", "required": True},
            "result": {"type": "path"},
            "base": {"type": "str", "default": ""},
            "other_base": {"type": "dict"},
            "owner": {"type": "str", "default": ""},
        },
        required_if=[("state", "made", ["result"]), ("state", "applied", ["result"])],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=f"The Python of this host ({sys.executable}) lacks what a delta needs: {MISSING}. Install the "
            "distribution's complete python3, or set ansible_python_interpreter to one."
        )
    options = module.params
    if options["base"]:
        options["base"] = str(Path(options["base"]).expanduser())
    states = {"made": make, "applied": apply, "known": known, "absent": remove}
    try:
        answer = states[options["state"]](options, module.check_mode)
    except (PlexDatabaseError, OSError) as error:
        what = {"made": "made", "applied": "applied", "known": "read", "absent": "removed"}[options["state"]]
        module.fail_json(
            msg=f"The delta in {options['patch']} could not be {what}. {error}",
            wrong_base=isinstance(error, patches.WrongBase),
        )
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
