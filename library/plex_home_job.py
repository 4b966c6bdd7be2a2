#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Stop home's Plex, swap its pair and start it, as one process at home that needs no controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_home_job
short_description: Stop home's Plex, swap its database pair and start it, without needing the controller
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Writes down at home what is about to be done, then starts one process there, in a session of its own, that stops
    Plex, swaps the pair as M(plexburst.core.plex_db_install) does, starts Plex, waits until it is ready and verifies
    the database. A failure at any point puts the old pair back; Plex is started in any case.
  - That process runs from its own copy of the code, so it goes on when the connection or the controller is lost. It is
    asked how far it is by short module calls; a lost line only delays that.
  - A part of it that is killed or takes longer than its time limit is followed by another one, which goes forward when
    the new pair is in place, else backward. When all of it is killed, O(state=recovered) does so.
  - The record lies in the folder C(home-job) of O(work_dir), mode 0700, until O(state=absent).
options:
  state:
    description:
      - V(finished) starts the job and waits until it has ended. It fails when what was asked for did not come about.
      - V(recovered) looks for a job that an earlier controller began. It waits for one that is under way and settles
        one that was killed. It never fails because of how that job ended.
      - V(absent) removes the record of a job that has ended.
    type: str
    choices: [finished, recovered, absent]
    default: finished
  work_dir:
    description: A folder at home; its folder C(home-job) holds the record.
    type: path
    required: true
  commands:
    description:
      - How Plex is asked for, stopped and started, as the role plex_server gives it (C(tasks_from) commands).
      - Required unless O(state=absent).
    type: dict
  what:
    description: An V(installation) of the pair in O(incoming), or a V(rollback) to O(backup).
    type: str
    choices: [installation, rollback]
    default: installation
  run_id:
    description: The run, part of the backup's name.
    type: str
    default: manual
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server. Required with O(state=finished).
    type: path
  backups_dir:
    description: The folder for the backups. Required with O(state=finished).
    type: path
  preferences:
    description: Plex's C(Preferences.xml) at home, whose token the check for readiness uses there. Required with
      O(state=finished).
    type: path
  urls:
    description: Where Plex may answer as seen from home itself. When none of them answers before the stop, Plex counts
      as ready when it has opened its database.
    type: list
    elements: str
    default: []
  incoming:
    description: The folder of the new pair, on the file system of O(databases_dir). Required for an installation.
    type: path
  base_dir:
    description: Folder of the pair that home and O(incoming) both descend from. With it home's last changes are merged
      in. It is removed when the old pair is put back.
    type: path
  sections:
    description: Titles or ids of the sections that were in the run. Empty means all.
    type: list
    elements: str
    default: []
  plex_sqlite:
    description: Command of Plex's own SQLite.
    type: list
    elements: str
    default: []
  conflicts_file:
    description: A file to which every conflict of the merge is added.
    type: path
  keep:
    description: How many backups to keep, the newest included.
    type: int
    default: 3
  backup:
    description: The backup's name for a rollback. Empty means the newest that an installation made.
    type: str
    default: ''
  ready_timeout:
    description: Seconds until Plex must be ready after it was started.
    type: float
    default: 600.0
  swap_timeout:
    description: Seconds for the last merge and the swap.
    type: float
    default: 900.0
  steady:
    description: Seconds that a Plex that did not end when it was asked to must stay ready.
    type: float
    default: 30.0
  poll:
    description: Seconds between two looks at Plex, and at the job.
    type: float
    default: 0.5
  patience:
    description: Seconds for which home may be out of reach before the task says so.
    type: float
    default: 600.0
  job_id:
    description: Set by the action plugin, so that a start whose answer was lost is not done twice.
    type: str
    default: ''
  step:
    description: Set by the action plugin.
    type: str
    choices: [alone, start, look, settle]
    default: alone
attributes:
  action:
    description: Runs as an action plugin on the controller too.
    support: full
    details: It calls the module to start the job and for each look, and waits in between.
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: With O(state=recovered) it says what it would do. O(state=finished) does nothing.
  diff_mode:
    description: Shows what would be changed in diff mode.
    support: none
  idempotent:
    description: Running it twice does not change more than running it once.
    support: partial
    details: V(recovered) and V(absent) are; V(finished) stops Plex each time.
"""

EXAMPLES = r"""
---
- name: Settle what an earlier run began
  plexburst.core.plex_home_job:
    state: recovered
    work_dir: /var/lib/plexburst
    commands: "{{ plex_server_commands }}"

- name: Swap the pair
  plexburst.core.plex_home_job:
    work_dir: /var/lib/plexburst
    commands: "{{ plex_server_commands }}"
    incoming: /var/lib/plexmediaserver/incoming
    databases_dir: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Plug-in Support/Databases
    backups_dir: /var/lib/plexmediaserver/backups
    preferences: /var/lib/plexmediaserver/Library/Application Support/Plex Media Server/Preferences.xml
    urls: ["http://127.0.0.1:32400"]
    run_id: 20261122-071500-ab12
"""

RETURN = r"""
---
found:
  description: With O(state=recovered) V(none), V(ended), V(running) or V(died), the state in which the job was found.
    With O(state=finished) V(ended).
  returned: success
  type: str
  sample: none
said:
  description: What was found and done, or would be done, in one sentence. Empty when there was nothing.
  returned: success
  type: str
  sample: ''
what:
  description: What the job does or did.
  returned: when there is a record
  type: str
  sample: installation
run_id:
  description: The run that began it.
  returned: when there is a record
  type: str
  sample: 20261122-071500-ab12
log:
  description: The end of what a job that was killed had printed.
  returned: success
  type: str
  sample: ''
job_id:
  description: The id that the action plugin gave it.
  returned: when there is a record
  type: str
  sample: 0f8fad5b
step_at:
  description: When that step began.
  returned: when there is a record
  type: str
  sample: "2026-11-22T08:15:00Z"
started_at:
  description: When the job began.
  returned: when there is a record
  type: str
  sample: "2026-11-22T08:14:58Z"
step:
  description: The step it is at.
  returned: when there is a record
  type: str
  sample: end
result:
  description: How it ended. C(done), whether what was asked for came about. C(installed), whether the new pair is in
    place. C(serves), whether Plex became ready. C(backup), the folder of the pair that was in place before.
    C(down_seconds). C(watch_state), null values where the process that counted was killed. C(version) of Plex.
    C(reason), why it did not come about.
  returned: when it has ended
  type: dict
  sample: {done: true, installed: true, serves: true, down_seconds: 4.1, reason: ''}
"""

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError

MISSING: ImportError | None = None
try:
    from ansible_collections.plexburst.core.plugins.module_utils.home_job import launch, record
    from ansible_collections.plexburst.core.plugins.module_utils.plex_db.merge import run
except ImportError as error:
    MISSING = error


def order(options: dict[str, Any]) -> dict[str, Any]:
    """What the job is told."""
    names = ["what", "run_id", "databases_dir", "backups_dir", "preferences", "urls", "incoming", "base_dir"]
    names += ["plex_sqlite", "conflicts_file", "keep", "backup", "commands", "poll"]
    base = options["base_dir"]
    return {
        **{name: options[name] for name in names},
        "section_ids": run.section_ids(Path(base), options["sections"]) if base else None,
        "stop_seconds": sum(float(step.get("seconds", 60)) for step in options["commands"]["stop"]),
        "ready_seconds": options["ready_timeout"],
        "swap_seconds": options["swap_timeout"],
        "steady_seconds": options["steady"],
    }


def act(module: AnsibleModule) -> dict[str, Any]:
    """Start, settle, look or forget."""
    options = module.params
    place = record.Record(Path(options["work_dir"]) / record.FOLDER)
    changed = False
    if options["state"] == "absent":
        return {"changed": place.exists() if module.check_mode else launch.forget(place), "found": "none", "said": ""}
    if options["step"] == "alone":
        raise PlexDatabaseError(
            "plex_home_job was reached without its action plugin, so nothing would wait for the job. Use it as "
            "plexburst.core.plex_home_job from a playbook that finds the collection (the top-level playbooks do)."
        )
    if not module.check_mode:
        if options["step"] == "start" and options["what"] == "installation" and not options["incoming"]:
            raise PlexDatabaseError("Expected incoming, the folder of the pair to install; found nothing. Give it.")
        if options["step"] == "start":
            launch.start(place, options["job_id"], order(options))
            changed = True
        elif options["step"] == "settle":
            changed = launch.settle(place, options["commands"])
    seen = launch.look(place)
    said = launch.outcome(seen) if seen["found"] == "ended" else ""
    log = launch.log_of(place) if seen["found"] == "died" else ""
    return {"changed": changed, "said": said, "log": log, **seen}


def main() -> None:
    """One short call; the action plugin waits."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["finished", "recovered", "absent"], "default": "finished"},
            "work_dir": {"type": "path", "required": True},
            "commands": {"type": "dict"},
            "what": {"type": "str", "choices": ["installation", "rollback"], "default": "installation"},
            "run_id": {"type": "str", "default": "manual"},
            "databases_dir": {"type": "path"},
            "backups_dir": {"type": "path"},
            "preferences": {"type": "path"},
            "urls": {"type": "list", "elements": "str", "default": []},
            "incoming": {"type": "path"},
            "base_dir": {"type": "path"},
            "sections": {"type": "list", "elements": "str", "default": []},
            "plex_sqlite": {"type": "list", "elements": "str", "default": []},
            "conflicts_file": {"type": "path"},
            "keep": {"type": "int", "default": 3},
            "backup": {"type": "str", "default": ""},
            "ready_timeout": {"type": "float", "default": 600.0},
            "swap_timeout": {"type": "float", "default": 900.0},
            "steady": {"type": "float", "default": 30.0},
            "poll": {"type": "float", "default": 0.5},
            "patience": {"type": "float", "default": 600.0},
            "job_id": {"type": "str", "default": ""},
            "step": {"type": "str", "choices": ["alone", "start", "look", "settle"], "default": "alone"},
        },
        required_if=[
            ("state", "finished", ["commands", "databases_dir", "backups_dir", "preferences"]),
            ("state", "recovered", ["commands"]),
        ],
        supports_check_mode=True,
    )
    if MISSING is not None:
        module.fail_json(
            msg=(
                f"The Python of this host ({sys.executable}) cannot import what is needed: {MISSING}. Install the "
                "distribution's sqlite3 support for Python, or set ansible_python_interpreter to a complete Python."
            )
        )
    try:
        result = act(module)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The job at home ({module.params['work_dir']}): {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
