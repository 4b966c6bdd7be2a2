#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Stop home's Plex, swap its pair and start it, in one process at home that needs no controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plex_home_job
short_description: Stop home's Plex, swap its database pair and start it, independent of the controller
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Records the job at home, then starts one process there in its own session. The process stops Plex, swaps the pair
    like M(plexburst.core.plex_db_install), starts Plex, waits until it is ready and verifies the database. After any
    failure the old pair is restored; Plex is always started.
  - The process runs from its own copy of the code, so it continues when the connection or the controller is lost. Short
    module calls query its progress; a lost connection only delays them.
  - If a worker of the process is killed or exceeds its time limit, another worker finishes the job when the new pair is
    in place, and reverts it otherwise. If the whole process is killed, O(state=recovered) does the same.
  - The record is in the folder C(home-job) of O(work_dir), mode 0700, until O(state=absent).
options:
  state:
    description:
      - V(finished) starts the job and waits until it has ended. It fails if the installation or rollback failed.
      - V(recovered) looks for a job of an earlier controller. It waits for a running job, and finishes or reverts a
        killed one. It does not fail if that job failed.
      - V(absent) removes the record of a job that has ended.
    type: str
    choices: [finished, recovered, absent]
    default: finished
  work_dir:
    description: Folder at home that contains the folder C(home-job) with the record.
    type: path
    required: true
  commands:
    description:
      - The commands that check, stop and start Plex, from the role plex_server (C(tasks_from) commands).
      - Required unless O(state=absent).
    type: dict
  what:
    description: V(installation) of the pair in O(incoming), or V(rollback) to O(backup).
    type: str
    choices: [installation, rollback]
    default: installation
  run_id:
    description: Id of the run; part of the backup's name.
    type: str
    default: manual
  databases_dir:
    description: The folder C(Plug-in Support/Databases) of the Plex server. Required with O(state=finished).
    type: path
  backups_dir:
    description: Folder for the backups. Required with O(state=finished).
    type: path
  preferences:
    description: Plex's C(Preferences.xml) at home, with the token for the readiness check. Required with
      O(state=finished).
    type: path
  urls:
    description: URLs at which Plex may answer on home itself. If no URL answers before the stop, Plex counts as ready
      when it has opened its database.
    type: list
    elements: str
    default: []
  incoming:
    description: The folder of the new pair, on the file system of O(databases_dir). Required for an installation.
    type: path
  base_dir:
    description: Folder of the base of home and O(incoming). If given, home's last changes are merged into the new pair.
      It is removed when the old pair is restored.
    type: path
  sections:
    description: Titles or ids of the run's sections. Empty means all.
    type: list
    elements: str
    default: []
  plex_sqlite:
    description: Command of Plex's own SQLite.
    type: list
    elements: str
    default: []
  conflicts_file:
    description: File to which the conflicts of the merge are appended.
    type: path
  keep:
    description: Number of backups to keep, including the newest.
    type: int
    default: 3
  backup:
    description: Name of the backup for a rollback. Empty means the newest backup of an installation.
    type: str
    default: ''
  ready_timeout:
    description: Timeout until Plex is ready after its start, in seconds.
    type: float
    default: 600.0
  swap_timeout:
    description: Timeout for the last merge and the swap, in seconds.
    type: float
    default: 900.0
  steady:
    description: Seconds for which Plex must stay ready if it did not end when it was stopped.
    type: float
    default: 30.0
  poll:
    description: Seconds between two checks of Plex, and of the job.
    type: float
    default: 0.5
  patience:
    description: Seconds for which home may be unreachable before the task fails.
    type: float
    default: 600.0
  job_id:
    description: Set by the action plugin, so that a job whose start was not confirmed does not start twice.
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
    details: It calls the module to start the job and to query its state, and waits in between.
  check_mode:
    description: Can run in check mode and return what it would do, without changing anything.
    support: partial
    details: O(state=recovered) reports what it would do. O(state=finished) does nothing.
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
- name: Recover an interrupted installation or rollback
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
  description: State of the job when it was found. V(none), V(ended), V(running) or V(died) with O(state=recovered);
    V(ended) with O(state=finished).
  returned: success
  type: str
  sample: none
said:
  description: What was found and done, or would be done, in one sentence. Empty if no job was found.
  returned: success
  type: str
  sample: ''
what:
  description: The kind of job.
  returned: when there is a record
  type: str
  sample: installation
run_id:
  description: The run that started the job.
  returned: when there is a record
  type: str
  sample: 20261122-071500-ab12
log:
  description: The end of the log of a killed job.
  returned: success
  type: str
  sample: ''
job_id:
  description: The id set by the action plugin.
  returned: when there is a record
  type: str
  sample: 0f8fad5b
step_at:
  description: When the current step began.
  returned: when there is a record
  type: str
  sample: "2026-11-22T08:15:00Z"
started_at:
  description: When the job began.
  returned: when there is a record
  type: str
  sample: "2026-11-22T08:14:58Z"
step:
  description: The current step.
  returned: when there is a record
  type: str
  sample: end
result:
  description: Result of the job. C(done), whether the job succeeded. C(installed), whether the new pair is in place.
    C(serves), whether Plex became ready. C(backup), the folder of the former pair. C(down_seconds), how long Plex was
    stopped. C(watch_state), with null values if the process that counted was killed. C(version) of Plex. C(reason),
    why the job failed.
  returned: when the job has ended
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
    """Return the specification of the job."""
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
    """Start, settle, query or remove the job."""
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
    """Run one step of the job; the action plugin waits."""
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
                f"The Python of this host ({sys.executable}) cannot import a required module: {MISSING}. Install the "
                "distribution's sqlite3 support for Python, or set ansible_python_interpreter to a complete Python."
            )
        )
    try:
        result = act(module)
    except (PlexDatabaseError, OSError) as error:
        module.fail_json(msg=f"The job at home ({module.params['work_dir']}) failed. {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
