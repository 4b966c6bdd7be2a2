# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Documentation shared by the modules that connect to a Plex server.

The argument specs of these options are in module_utils/plex/module.py; validate-modules compares both.
"""

from __future__ import annotations


class ModuleDocFragment:
    """plexburst.core.plex, and its parts .library, .scope, .watched, .reads and .attributes."""

    DOCUMENTATION = r"""
requirements: [python >= 3.10, plexapi >= 4.16, requests >= 2.31]
options:
  base_url:
    description: Address of the server, C(http://127.0.0.1:32400) on the machine that runs it.
    type: str
    required: true
  token:
    description: The server owner's token. Use O(preferences_file) if the module runs on the server's machine.
    type: str
  preferences_file:
    description: Path of the server's C(Preferences.xml), or of a private copy, from which C(PlexOnlineToken) is read.
    type: path
  timeout:
    description: Timeout of one request in seconds.
    type: float
    default: 30.0
"""

    LIBRARY = r"""
options:
  database_dir:
    description: Directory with C(com.plexapp.plugins.library.db) and its blobs database.
    type: path
    required: true
  path_map:
    description: Where Plex's paths are on this machine. A path without an entry is the same.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The path as Plex sees it, such as C(/Media).
        type: str
        required: true
      host:
        description: The same folder on this machine.
        type: path
        required: true
  probe_count:
    description: Number of files of the section to read when probing the mount.
    type: int
    default: 12
  probe_timeout:
    description: Maximum seconds for reading them.
    type: float
    default: 60.0
  max_missing_percent:
    description:
      - Percentage of missing files (of at least five probed) above which the mount or O(path_map) is wrong.
    type: float
    default: 50.0
"""

    SCOPE = r"""
options:
  scope:
    description:
      - How the server's processes are found. A dict with C(runtime) V(docker) and C(container), V(systemd) and C(unit),
        or V(process) and C(pid_file).
    type: dict
    required: true
"""

    WATCHED = r"""
options:
  profile:
    description: Watch profile, such as V(cloud_standard), V(cloud_intensive), V(local_quick) or V(sandbox).
    type: str
    default: cloud_standard
  profile_overrides:
    description: Values that override the profile, in seconds, by name.
    type: dict
    default: {}
  run_dir:
    description: Run folder on the controller; samples are appended to C(samples.jsonl) in it.
    type: str
  hourly_price:
    description: Price of the instance per hour, for the cost in the progress line.
    type: float
    default: 0.0
  currency:
    description: Currency of O(hourly_price).
    type: str
    default: EUR
  checkpoint:
    description:
      - Checkpoints during the task, and their folders. Needs O(run_dir).
      - C(minutes) and C(tracks) since the last checkpoint, whichever comes first; V(0) disables one.
        C(dir) and C(base_manifest) are the folder for checkpoints and the manifest of the base pair, on the
        controller; C(work_dir) and C(base_dir) a folder and that pair on the machine; C(plex_version) is the server's;
        C(about) is kept with each checkpoint.
      - A failed checkpoint is reported, counted in the run folder and tried again later; it does not fail the task.
        None is created during a scan. After a failed analysis there is one in any case.
    type: dict
    default: {}
  settle:
    description: Wait afterwards until the server is idle (no activity, no worker, little CPU).
    type: bool
    default: true
attributes:
  action:
    description: Runs as an action plugin on the controller too.
    support: full
    details: It starts the module, samples, judges, and takes the safe next step.
"""

    ATTRIBUTES = r"""
attributes:
  check_mode:
    description: Can run in check mode and says what it would do without changing anything.
    support: full
  diff_mode:
    description: Returns what changed, before and after.
    support: none
  idempotent:
    description: Run again at once, it changes nothing.
    support: full
"""

    READS = r"""
attributes:
  check_mode:
    description: Can run in check mode and says what it would do without changing anything.
    support: full
  diff_mode:
    description: Returns what changed, before and after.
    support: none
  idempotent:
    description: Run again at once, it changes nothing.
    support: full
    details: It only reads.
"""
