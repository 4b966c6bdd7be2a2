#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: scaleway_runs
short_description: List the resources of other runs at Scaleway
version_added: 0.1.0
description:
  - Lists plexburst's servers, flexible IPs and volumes in all zones, twice. Returns the resources of runs that do not
    hold the lock of the runs folder, with their age, their price and the commands that end their cost.
  - Fails if a listing fails, because an unlisted resource may be billed.
  - The lock of another controller cannot be seen here, so it is unknown whether its runs are alive. They are returned
    with RV(other_runs[].here=false).
  - Changes nothing. Runs on the controller.
author:
  - plexburst contributors (@plexburst)
extends_documentation_fragment:
  - plexburst.core.scaleway
options:
  run_id:
    description: The current run. Its resources are not in RV(other_runs).
    type: str
    required: true
  runs_dir:
    description:
      - Folder of the run folders. The run that holds its lock is alive.
      - Resources that its records name as created and not removed are also queried by id in O(zone).
    type: path
    required: true
  inventory:
    description: Inventory sources to use in the commands.
    type: list
    elements: str
    default: []
  zone:
    description: A zone to list in addition to the known ones. The default zone of the configuration if left out.
    type: str
  wait_timeout:
    description: Timeout for the whole module including retries, in seconds.
    type: int
    default: 120
  poll_interval:
    description: Seconds between the two listings.
    type: float
    default: 0.5
attributes:
  check_mode:
    description: The module only reads.
    support: full
  diff_mode:
    description: The module only reads.
    support: none
  idempotent:
    description: The module only reads.
    support: full
"""

EXAMPLES = r"""
- name: List the resources of other runs
  plexburst.core.scaleway_runs:
    run_id: "{{ run_id }}"
    runs_dir: "{{ runs_dir }}"
  register: others
"""

RETURN = r"""
listed_at:
  description: Time of the listing.
  returned: success
  type: str
other_runs:
  description: Runs that are not alive here and hold resources.
  returned: success
  type: list
  elements: dict
  contains:
    run_id:
      description: The run. Empty for resources with plexburst's tag but without a run.
      type: str
    here:
      description: Whether its folder is in O(runs_dir).
      type: bool
    resources:
      description: Its resources, as C(server/ID), C(ip/ID) and C(volume/ID).
      type: list
      elements: str
    since:
      description: When the oldest resource was created. Null if unknown.
      type: str
    expires_at:
      description: When the reaper may remove the resources. Null without an expiry.
      type: str
    hourly_price:
      description: Price of its server in EUR per hour, without VAT. Null if the price list has no price.
      type: float
    billed:
      description: Cost of its server so far in EUR, if it ran since its creation. Null if unknown.
      type: float
    commands:
      description: The commands that end the cost; the first one keeps the results.
      type: list
      elements: str
told:
  description: All other runs as one text. Empty if there are none.
  returned: success
  type: str
own:
  description: The resources of the current run.
  returned: success
  type: list
  elements: str
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import (
    client,
    naming,
    other_runs,
    records,
    servers,
)
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import (
    RunFolderError,
    living_run,
    recorded,
    utc_now,
)


class Look:
    """One listing of all zones."""

    def __init__(self, module: AnsibleModule) -> None:
        params = module.params
        self.module = module
        self.runs_dir = Path(params["runs_dir"])
        self.recorded = recorded(self.runs_dir)
        self.clock = servers.Clock(client.Deadline(params["wait_timeout"]), params["poll_interval"])
        self.cloud = client.connect(client.settings_from(params), request_timeout=params["request_timeout"])
        self.cloud.transport.deadline = self.clock.deadline

    def found(self) -> dict[str, records.ServerRecord | records.IpRecord | records.VolumeRecord]:
        """Return plexburst's resources by name; client.ScalewayError if a zone or a kind could not be listed."""
        zones = naming.all_zones(self.cloud.zone)
        looks = [
            servers.Removal(
                self.cloud.in_zone(zone),
                lambda marks: marks.ours,
                self.clock,
                known=self.recorded if number == 0 else (),
                act=False,
            )
            for number, zone in enumerate(zones)
        ]
        servers.together(looks, self.clock)
        missing = [
            f"{kind}s in {look.cloud.zone}: {reason}" for look in looks for kind, reason in look.not_listed.items()
        ]
        if missing:
            more = (
                f" {len(missing) - 3} more listings failed in other zones or of other kinds."
                if len(missing) > 3
                else ""
            )
            raise client.ScalewayError(
                "Resources that earlier runs left at Scaleway could not be listed, so they may be billed unnoticed. "
                f"{' '.join(missing[:3])}{more}",
                kind="not_listed",
            )
        return {name: record for look in looks for name, record in look.records.items()}

    def prices(self, zones: set[str]) -> dict[str, dict[str, float]]:
        """Return hourly prices by zone and type; a price list that cannot be read is a warning and no price."""
        told: dict[str, dict[str, float]] = {}
        for zone in sorted(zones):
            try:
                told[zone] = {name: offer.hourly_price for name, offer in self.cloud.offers(zone).items()}
            except client.ScalewayError as error:
                self.module.warn(f"The price list of {zone} could not be read, so prices are unknown. {error}")
        return told

    def result(self) -> dict[str, Any]:
        """Return the result of the module."""
        found = self.found()
        now = datetime.now(UTC)
        prices = self.prices({record.zone for record in found.values() if isinstance(record, records.ServerRecord)})
        runs = other_runs.by_run(found, self.recorded, prices, now)
        for record in found.values():
            if isinstance(record, records.ServerRecord) and record.commercial_type not in prices.get(record.zone, {}):
                self.module.warn(f"The price list of {record.zone} has no price for {record.commercial_type}.")
        own = runs.pop(self.module.params["run_id"], None)
        runs.pop(living_run(self.runs_dir), None)
        ordered = [runs[run_id] for run_id in sorted(runs)]
        for run in ordered:
            other_runs.advise(run, self.runs_dir, self.module.params["inventory"])
        return {
            "listed_at": utc_now(),
            "other_runs": [run.as_result() for run in ordered],
            "told": other_runs.told(ordered, now),
            "own": [item.name for item in own.held] if own else [],
        }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "run_id": {"type": "str", "required": True},
            "runs_dir": {"type": "path", "required": True},
            "inventory": {"type": "list", "elements": "str", "default": []},
            "zone": {"type": "str"},
            "wait_timeout": {"type": "int", "default": 120},
            "poll_interval": {"type": "float", "default": 0.5},
            "request_timeout": {"type": "float", "default": 30.0},
            "config_file": {"type": "path"},
            "profile": {"type": "str"},
            "api_url": {"type": "str"},
            "project_id": {"type": "str"},
        },
        supports_check_mode=True,
    )
    if client.IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("scaleway>=2.12"), exception=client.IMPORT_ERROR)
    try:
        result = Look(module).result()
    except (ValueError, RunFolderError, client.ScalewayError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
