#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: scaleway_reap
short_description: Remove what a run left behind at Scaleway
version_added: 0.1.0
description:
  - Removes every server, root volume, flexible IP and volume that plexburst made and that outlived its expiry, or
    everything of one run, and verifies it by two empty listings in a row.
  - Each kind (servers, IPs, block volumes, local volumes) and each zone is listed and removed separately, so a
    failed listing does not block the others. It is repeated until O(wait_timeout) and then reported.
  - Resources with plexburst's tag but without an expiry are kept and reported, unless O(run_id), O(older_than) or
    O(all) selects them.
  - Resources without plexburst's tags are never touched, except the root volume created with one of plexburst's
    servers.
  - Runs on the controller.
author:
  - plexburst contributors (@plexburst)
extends_documentation_fragment:
  - plexburst.core.scaleway
options:
  run_id:
    description: Remove everything of this run, expired or not, and nothing else.
    type: str
  older_than:
    description: Also remove resources of runs that began more than this number of hours ago, whatever their expiry.
    type: float
  all:
    description: Remove all of plexburst's resources, running or not.
    type: bool
    default: false
  zones:
    description: Availability zones to list. All zones if empty.
    type: list
    elements: str
    default: []
  runs_dir:
    description:
      - Folder of the run folders. Resources that the record of a selected run names as created and not removed are also
        queried by id. That finds a volume that was never tagged.
    type: path
  wait_timeout:
    description: Timeout for the whole module including waits and retries, in seconds.
    type: int
    default: 600
  poll_interval:
    description: Seconds between two listings.
    type: float
    default: 2.0
attributes:
  check_mode:
    description: Returns in RV(deleted) what would be removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows our resources before and after.
    support: full
  idempotent:
    description: A second run finds nothing to remove.
    support: full
"""

EXAMPLES = r"""
- name: Remove what outlived its expiry
  plexburst.core.scaleway_reap:
    zones: [fr-par-1, nl-ams-1]

- name: Remove one run
  plexburst.core.scaleway_reap:
    run_id: 20261122-071500-ab12
"""

RETURN = r"""
deleted:
  description: What was removed, as C(server/ID), C(ip/ID) and C(volume/ID).
  returned: always
  type: list
  elements: str
leftovers:
  description:
    - Selected resources that are not verified as removed. Empty on success.
    - An entry that begins with C(unknown/) is a kind of resource in a zone that could not be listed.
  returned: always
  type: list
  elements: str
kept:
  description: What is ours and was not to be removed.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: Kind and id.
      type: str
    zone:
      description: Zone.
      type: str
    run_id:
      description: Its run.
      type: str
    profile:
      description: Its monitoring profile.
      type: str
    expires_at:
      description: When it may be removed. Null when nothing says so.
      type: str
    tags:
      description: All its tags.
      type: list
      elements: str
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import client, naming, servers
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolderError, recorded


def wanted_by(params: dict[str, Any]) -> Callable[[naming.Marks], bool]:
    """Predicate for what is to be removed; ValueError when the run id is not usable."""
    if params["run_id"]:
        return servers.of_run(naming.check_run_id(params["run_id"]))
    if params["all"]:
        return lambda marks: marks.ours
    return servers.overdue(datetime.now(UTC), params["older_than"])


class Reaper:
    """One call of the module over all zones: keeps the result complete whether it ends well or not."""

    def __init__(self, params: dict[str, Any], check_mode: bool) -> None:
        self.check_mode = check_mode
        self.clock = servers.Clock(client.Deadline(params["wait_timeout"]), params["poll_interval"])
        cloud = client.connect(client.settings_from(params), request_timeout=params["request_timeout"])
        cloud.transport.deadline = self.clock.deadline
        zones = list(dict.fromkeys(params["zones"])) or naming.all_zones(cloud.client.default_zone)
        wanted = wanted_by(params)
        made = recorded(Path(params["runs_dir"])) if params["runs_dir"] else {}
        known = [name for name, run_id in made.items() if wanted(naming.Marks(True, run_id, None, None))]
        self.removals = [
            servers.Removal(cloud.in_zone(zone), wanted, self.clock, known=known, act=not check_mode) for zone in zones
        ]

    def reap(self) -> None:
        """Remove resources in all zones until the removal is verified or the deadline has passed."""
        servers.together(self.removals, self.clock)

    @property
    def left(self) -> str:
        """Return what is not verified as removed in each zone, and why; in check mode only failed listings."""
        if self.check_mode:
            reasons = [(removal.cloud.zone, " ".join(removal.not_listed.values())) for removal in self.removals]
        else:
            reasons = [(removal.cloud.zone, removal.left) for removal in self.removals]
        return " ".join(f"{zone}: {reason}" for zone, reason in reasons if reason)

    def result(self) -> dict[str, Any]:
        """Everything the module returns."""
        before = [name for removal in self.removals for name in [*removal.seen, *removal.kept]]
        gone = [name for removal in self.removals for name in (removal.seen if self.check_mode else removal.deleted)]
        return {
            "changed": bool(gone),
            "deleted": gone,
            "leftovers": [] if self.check_mode else [name for one in self.removals for name in one.leftovers],
            "kept": [line for removal in self.removals for line in removal.kept.values()],
            "diff": {
                "before": {"resources": before},
                "after": {"resources": [name for name in before if name not in gone]},
            },
        }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str"},
            "older_than": {"type": "float"},
            "all": {"type": "bool", "default": False},
            "zones": {"type": "list", "elements": "str", "default": []},
            "runs_dir": {"type": "path"},
            "wait_timeout": {"type": "int", "default": 600},
            "poll_interval": {"type": "float", "default": 2.0},
            "request_timeout": {"type": "float", "default": 30.0},
            "config_file": {"type": "path"},
            "profile": {"type": "str"},
            "api_url": {"type": "str"},
            "project_id": {"type": "str"},
        },
        mutually_exclusive=[("run_id", "older_than", "all")],
        supports_check_mode=True,
    )
    if client.IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("scaleway>=2.12"), exception=client.IMPORT_ERROR)
    try:
        reaper = Reaper(module.params, module.check_mode)
    except (ValueError, RunFolderError, client.ScalewayError) as error:
        module.fail_json(msg=str(error))
    reaper.reap()
    if reaper.left:
        module.fail_json(
            msg=f"Not all resources could be listed or verified as removed in {module.params['wait_timeout']} s, so "
            f"they may still exist and be billed. {reaper.left}",
            advice="Run it again when Scaleway answers, with a longer wait_timeout if it was only slow. Remove the "
            "other resources by their ids in Scaleway's console.",
            **reaper.result(),
        )
    module.exit_json(**reaper.result())


if __name__ == "__main__":
    main()
