#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Return modification times of media files as seen by Plex on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_file_mtimes
short_description: Return modification times of media files as seen by Plex on this host
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Returns the modification times of files by Plex's paths, through O(path_map) or through Plex's container or
    service.
  - Also returns the options of this host's rclone mounts that change times, so that another host can use the same.
  - Missing files are left out. If a mount hangs, the module fails after O(timeout).
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
  files:
    description: Paths of the files in Plex.
    type: list
    elements: str
    required: true
  path_map:
    description: Where Plex's folders lie on this host, as V(path) and V(host); the longest path wins.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The folder's path in Plex.
        type: str
        required: true
      host:
        description: The folder on this host.
        type: str
        required: true
  container:
    description: The container that Plex runs in; its own view of the file system is used. Needs root.
    type: str
    default: ''
  timeout:
    description: Timeout for all files, in seconds.
    type: int
    default: 120
"""

EXAMPLES = r"""
---
- name: Get the modification times of a few files at home
  plexburst.core.plex_file_mtimes:
    files: [/Media/Music/A/B/1.flac]
    container: plex
"""

RETURN = r"""
---
files:
  description: Modification time in seconds since 1970 and size in bytes by path.
  returned: always
  type: dict
  sample: {/Media/Music/A/B/1.flac: {mtime: 1700000000.0, size: 30211443}}
seen:
  description: Whether Plex's view of the file system was available.
  returned: always
  type: bool
  sample: true
why:
  description: The reason why not; empty if it was.
  returned: always
  type: str
  sample: ''
mount_flags:
  description: Options of this host's rclone mounts that change times.
  returned: always
  type: list
  elements: str
  sample: [--use-server-modtime]
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import mapping, mtimes


def view(module: AnsibleModule) -> tuple[Path | None, str]:
    """Return the root of the file system that Plex sees, or the reason why there is none."""
    container = module.params["container"]
    if not container:
        return Path("/"), ""
    code, said, problem = module.run_command(["docker", "inspect", "--format", "{{.State.Pid}}", container])
    if code != 0 or not said.strip().isdigit() or said.strip() == "0":
        return None, f"The container {container} is not running: {problem.strip() or said.strip() or 'no process'}."
    root = Path("/proc") / said.strip() / "root"
    try:
        next(root.iterdir(), None)
    except OSError as error:
        return None, f"The file system of container {container} cannot be read: {error}."
    return root, ""


def real_paths(files: list[str], root: Path, path_map: list[dict[str, str]]) -> dict[str, str]:
    """Return the path of each file on this host."""
    entries = sorted(path_map, key=lambda entry: -len(entry["path"]))
    found: dict[str, str] = {}
    for file in files:
        place = next((entry for entry in entries if mapping.is_below(file, entry["path"])), None)
        if place is not None:
            found[file] = place["host"].rstrip("/") + file[len(place["path"].rstrip("/")) :]
        else:
            found[file] = str(root) + file if str(root) != "/" else file
    return found


def command_lines() -> list[list[str]]:
    """Return the command lines of all visible processes."""
    found = []
    for process in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        if process.name.isdigit():
            try:
                raw = (process / "cmdline").read_bytes()
            except OSError:  # it ended meanwhile
                continue
            found.append([word.decode("utf-8", "replace") for word in raw.split(b"\0")])
    return found


def main() -> None:
    """Find Plex's view of the files and return their times."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "str", "required": True},
            "path_map": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": {"type": "str", "required": True}, "host": {"type": "str", "required": True}},
            },
            "container": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    files = module.params["files"]
    flags = mtimes.mount_flags(command_lines())
    root, why = view(module)
    found: dict[str, dict[str, Any]] = {}
    if root is not None and files:
        try:
            found = mtimes.look(files, real_paths(files, root, module.params["path_map"]), module.params["timeout"])
        except PlexDatabaseError as error:
            module.fail_json(msg=str(error), files={}, seen=False, why=str(error), mount_flags=flags)
    module.exit_json(changed=False, files=found, seen=root is not None, why=why, mount_flags=flags)


if __name__ == "__main__":
    main()
