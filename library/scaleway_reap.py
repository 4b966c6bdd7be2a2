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
    everything of one run, and proves it by listing again.
  - What carries our tag and no expiry is kept and reported, unless it is named by O(run_id), O(older_than) or O(all).
  - Resources without our tags are never touched, but for the root volume that was made together with
    one of our servers.
  - Runs on the controller.
author:
  - plexburst contributors (@plexburst)
requirements:
  - python >= 3.11
  - scaleway >= 2.12
options:
  run_id:
    description: Remove everything of this run, expired or not, and nothing else.
    type: str
  older_than:
    description: Remove also what belongs to a run that began more than so many hours ago, whatever its expiry.
    type: float
  all:
    description: Remove everything of ours, running or not.
    type: bool
    default: false
  zones:
    description: Availability zones to look in. The default zone of the configuration if empty.
    type: list
    elements: str
    default: []
  wait_timeout:
    description: Seconds for everything together, waiting and retries included.
    type: int
    default: 600
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 2.0
  request_timeout:
    description: Seconds to wait for the answer to one request. A request without an answer is tried again.
    type: float
    default: 30.0
  config_file:
    description: The SDK's YAML configuration file. C(SCW_CONFIG_PATH) or V(~/.config/scw/config.yaml) if left out.
    type: path
  profile:
    description: Profile in the configuration file. C(SCW_PROFILE), or the file's C(active_profile), if left out.
    type: str
  api_url:
    description: Another address of the API, a simulator's for example.
    type: str
  project_id:
    description: Project to work in. The default project of the configuration if left out.
    type: str
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
  description: What should be gone and is not. Empty on success.
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

import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.plexburst.core.plugins.module_utils.scaleway import naming

try:
    from ansible_collections.plexburst.core.plugins.module_utils.scaleway import (
        client,
        records,
        servers,
    )

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()


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
        self.wanted = wanted_by(params)
        self.check_mode = check_mode
        self.clock = servers.Clock(client.Deadline(params["wait_timeout"]), params["poll_interval"])
        cloud = client.connect(client.settings_from(params), request_timeout=params["request_timeout"])
        cloud.transport.deadline = self.clock.deadline
        self.clouds = [cloud.in_zone(zone) for zone in dict.fromkeys(params["zones"] or [cloud.zone])]
        self.before: list[str] = []
        self.deleted: list[str] = []
        self.leftovers: list[str] = []
        self.kept: list[dict[str, Any]] = []
        self.problems: list[str] = []

    def _keep(self, present: servers.Holdings) -> None:
        found: list[tuple[str, records.ServerRecord | records.IpRecord | records.VolumeRecord]] = [
            *(("server", server) for server in present.servers),
            *(("ip", ip) for ip in present.ips),
            *(("volume", volume) for volume in present.volumes),
        ]
        self.kept += [
            records.described(kind, record) for kind, record in found if not self.wanted(naming.read_marks(record.tags))
        ]

    def reap(self) -> None:
        """Go through all zones; a zone that cannot be asked does not keep the others from being cleaned."""
        for cloud in self.clouds:
            try:
                present = servers.holdings(cloud, lambda marks: marks.ours)
                doomed = servers.holdings(cloud, self.wanted).names
                self.before += present.names
                self._keep(
                    servers.Holdings(
                        present.servers,
                        present.ips,
                        tuple(volume for volume in present.volumes if f"volume/{volume.id}" not in doomed),
                    )
                )
                if self.check_mode:
                    self.deleted += doomed
                elif doomed:
                    self._remove(cloud)
            except client.ScalewayError as error:
                self.problems.append(f"{cloud.zone}: {error}")

    def _remove(self, cloud: client.Scaleway) -> None:
        removal = servers.Removal(cloud, self.wanted, self.clock)
        try:
            removal.run()
        finally:
            self.deleted += removal.deleted
            self.leftovers += removal.leftovers
            self.problems += removal.problems.values() if removal.leftovers else []

    def result(self) -> dict[str, Any]:
        """Everything the module returns."""
        after = [name for name in self.before if name not in self.deleted]
        return {
            "changed": bool(self.deleted),
            "deleted": self.deleted,
            "leftovers": self.leftovers,
            "kept": self.kept,
            "diff": {"before": {"resources": self.before}, "after": {"resources": after}},
        }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str"},
            "older_than": {"type": "float"},
            "all": {"type": "bool", "default": False},
            "zones": {"type": "list", "elements": "str", "default": []},
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
    if IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("scaleway>=2.12"), exception=IMPORT_ERROR)
    try:
        reaper = Reaper(module.params, module.check_mode)
    except (ValueError, client.ScalewayError) as error:
        module.fail_json(msg=str(error))
    reaper.reap()
    if reaper.leftovers or reaper.problems:
        left = f"{len(reaper.leftovers)} resources could not be removed and are billed: {', '.join(reaper.leftovers)}. "
        module.fail_json(
            msg=(left if reaper.leftovers else "")
            + (" ".join(reaper.problems) or "Run it again with a longer wait_timeout."),
            **reaper.result(),
        )
    module.exit_json(**reaper.result())


if __name__ == "__main__":
    main()
