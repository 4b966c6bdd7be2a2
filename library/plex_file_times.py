#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""See modification times of media files as Plex on this host sees them."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_file_times
short_description: See modification times of media files as Plex on this host sees them
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Looks at files under the names that Plex has for them, through O(path_map) or through the container or service that
    Plex runs in, and returns their modification times.
  - Returns as well which options of this host's rclone mounts change times, so that another host can mount likewise.
  - Missing files are left out. A mount that hangs fails with a message after O(timeout).
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
    description: Paths as Plex names them.
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
        description: The folder as Plex names it.
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
    description: Seconds that looking at all files may take.
    type: int
    default: 120
"""

EXAMPLES = r"""
---
- name: See how home's Plex sees a few files
  plexburst.core.plex_file_times:
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
  description: Whether Plex's view of the files could be had at all.
  returned: always
  type: bool
  sample: true
why:
  description: Why not, empty when it could.
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
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import mapping, times
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError


def view(module: AnsibleModule) -> tuple[Path | None, str]:
    """The root of the file system that Plex sees, or why there is none."""
    container = module.params["container"]
    if not container:
        return Path("/"), ""
    code, said, problem = module.run_command(["docker", "inspect", "--format", "{{.State.Pid}}", container])
    if code != 0 or not said.strip().isdigit() or said.strip() == "0":
        return None, f"The container {container} does not run: {problem.strip() or said.strip() or 'no process'}."
    root = Path("/proc") / said.strip() / "root"
    try:
        next(root.iterdir(), None)
    except OSError as error:
        return None, f"The file system of container {container} cannot be seen: {error}."
    return root, ""


def real_paths(files: list[str], root: Path, path_map: list[dict[str, str]]) -> dict[str, str]:
    """Where each file lies on this host."""
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
    """The command line of every process that can be seen."""
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
    """Find the view, look, answer."""
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
    flags = times.mount_flags(command_lines())
    root, why = view(module)
    found: dict[str, dict[str, Any]] = {}
    if root is not None and files:
        try:
            found = times.look(files, real_paths(files, root, module.params["path_map"]), module.params["timeout"])
        except PlexDatabaseError as error:
            module.fail_json(msg=str(error), files={}, seen=False, why=str(error), mount_flags=flags)
    module.exit_json(changed=False, files=found, seen=root is not None, why=why, mount_flags=flags)


if __name__ == "__main__":
    main()
