# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""What the modules that speak to a Plex server say alike: written once, taken in by extends_documentation_fragment.

The options' other half, the argument specs, is in module_utils/edge_plex.py; validate-modules compares the two.
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
    description: The server owner's token. Give O(preferences_file) instead where the module runs beside the server.
    type: str
  preferences_file:
    description: Path of the server's C(Preferences.xml), or of a private copy, from which C(PlexOnlineToken) is read.
    type: path
  timeout:
    description: Seconds that one request may take.
    type: float
    default: 30.0
"""

    LIBRARY = r"""
options:
  database_dir:
    description: Directory that holds C(com.plexapp.plugins.library.db) and its blobs database.
    type: path
    required: true
  path_map:
    description: Where paths that Plex knows lie on this machine. Without an entry a path is the same.
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
    description: How many files of the section are read to prove that the mount is alive.
    type: int
    default: 12
  probe_timeout:
    description: Seconds that reading them may take altogether.
    type: float
    default: 60.0
  max_missing_percent:
    description:
      - More than this share of the probed files missing (of at least five) is a sick mount or a wrong O(path_map).
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
    description: Monitoring profile, such as V(cloud_standard), V(cloud_intensive), V(local_quick) or V(sandbox).
    type: str
    default: cloud_standard
  profile_overrides:
    description: Single values of the profile to replace, in seconds, by name.
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
      - When what was reached is brought to safety while the work goes on, and where to. Needs O(run_dir).
      - C(minutes) and C(tracks), whichever comes first, counted from the last checkpoint; V(0) means never by that.
        C(dir) and C(base_manifest) are the folder for checkpoints and the manifest of the pair that went out, on the
        controller; C(work_dir) and C(base_dir) a folder and that pair on the machine; C(plex_version) is the server's;
        C(about) is kept with each checkpoint.
      - One that fails is told, counted in the run's folder and tried again later; it does not fail the task. None is
        made while a library is scanned. After an analysis that failed there is one in any case.
    type: dict
    default: {}
  settle:
    description: Wait afterwards until the server is calm (no activity, no worker, little CPU).
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
