#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: scaleway_info
short_description: What Scaleway offers, and what it holds of ours
version_added: 0.1.0
description:
  - Checks that the credentials work, and returns instance types with prices and stock, the image that would be used,
    and every server, flexible IP and volume that plexburst ever made and that still exists.
  - Changes nothing. Runs on the controller.
author:
  - plexburst contributors (@plexburst)
extends_documentation_fragment:
  - plexburst.core.scaleway
options:
  zone:
    description: Availability zone, like V(fr-par-1). The default zone of the configuration if left out.
    type: str
  types:
    description: Types to tell about, in order of preference. All types of the zone if empty.
    type: list
    elements: str
    default: []
  image:
    description: Label of a marketplace image to look up.
    type: str
  root_volume:
    description: The root volume that the types and the image have to fit.
    type: dict
    default: {}
    suboptions:
      size_gb:
        description: Size in GB of 10^9 bytes.
        type: int
        default: 50
      type:
        description: Kind of volume.
        type: str
        choices: [sbs_volume, l_ssd]
        default: sbs_volume
  run_id:
    description: Tell only about this run, and what its server says of its SSH host keys.
    type: str
  wait_timeout:
    description: Seconds for everything together, retries included.
    type: int
    default: 120
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
- name: Ask for prices and stock
  plexburst.core.scaleway_info:
    zone: fr-par-1
    types: [POP2-HC-8C-16G, PRO2-S, GP1-S]
    image: ubuntu_noble
  register: market
"""

RETURN = r"""
zone:
  description: The zone that was asked.
  returned: success
  type: str
project_id:
  description: The project that was asked. Null when the configuration names none.
  returned: success
  type: str
offers:
  description: The types, in the order wanted, or by price if all were asked for.
  returned: success
  type: list
  elements: dict
  contains:
    type:
      description: Commercial type.
      type: str
    arch:
      description: Architecture. Sonic analysis needs x86_64.
      type: str
    vcpus:
      description: Number of virtual CPUs.
      type: int
    ram_bytes:
      description: Memory in bytes.
      type: int
    hourly_price:
      description: Price per hour without VAT, storage and IP not included.
      type: float
    currency:
      description: Always EUR.
      type: str
    availability:
      description: The API's word, available, scarce, shortage or unknown.
      type: str
    local_storage_bytes:
      description: Largest local volume in bytes, 0 if the type has block storage only.
      type: int
    end_of_service:
      description: Whether Scaleway has withdrawn it.
      type: bool
usable:
  description: The wanted types that can be tried now, in order.
  returned: success
  type: list
  elements: str
refused:
  description: The wanted types that cannot be had now, each with its RV(refused[].reason).
  returned: success
  type: list
  elements: dict
  contains:
    type:
      description: Commercial type.
      type: str
    reason:
      description: Why not.
      type: str
image:
  description: Label and id of the image. Null if none was asked for.
  returned: success
  type: dict
  contains:
    label:
      description: The label.
      type: str
    id:
      description: The id in this zone.
      type: str
servers:
  description: Our servers.
  returned: success
  type: list
  elements: dict
  contains: &resource
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
      description: When the reaper may remove it.
      type: str
    expired:
      description: Whether that has passed.
      type: bool
    tags:
      description: All its tags.
      type: list
      elements: str
ips:
  description: Our flexible IPs.
  returned: success
  type: list
  elements: dict
  contains: *resource
volumes:
  description: Our volumes.
  returned: success
  type: list
  elements: dict
  contains: *resource
hosts:
  description: Our servers as arguments of M(ansible.builtin.add_host), named as the inventory plugin names them.
  returned: success
  type: list
  elements: dict
ssh_host_fingerprints:
  description: Lines of the user data C(ssh-host-fingerprints) of the run's server. Empty until it publishes them.
  returned: when O(run_id) is given
  type: list
  elements: str
"""

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import (
    client,
    hosts,
    naming,
    offers,
    records,
    servers,
)


def holdings_of(cloud: client.Scaleway, run_id: str | None) -> dict[str, Any]:
    """Servers, IPs and volumes of ours (of one run, if RUN_ID), and the servers as hosts."""
    wanted = servers.of_run(run_id) if run_id else (lambda marks: marks.ours)
    found = servers.holdings(cloud, wanted)
    now = datetime.now(UTC)

    def line(kind: str, record: Any) -> dict[str, Any]:
        ends = naming.read_marks(record.tags).expires_at
        return {**records.described(kind, record), "expired": ends is not None and ends <= now}

    result: dict[str, Any] = {
        "servers": [line("server", server) for server in found.servers],
        "ips": [line("ip", ip) for ip in found.ips],
        "volumes": [line("volume", volume) for volume in found.volumes],
        "hosts": [hosts.host_record(server) for server in found.servers],
    }
    if run_id:
        said = [cloud.user_data(server.id, "ssh-host-fingerprints") for server in found.servers]
        result["ssh_host_fingerprints"] = [
            text.strip()
            for content in said
            if content
            for text in content.decode(errors="replace").splitlines()
            if text
        ]
    return result


def inform(params: dict[str, Any]) -> dict[str, Any]:
    """Everything the module returns; client.ScalewayError or ValueError with a sentence."""
    run_id = naming.check_run_id(params["run_id"]) if params["run_id"] else None
    cloud = client.connect(client.settings_from(params), request_timeout=params["request_timeout"])
    cloud.transport.deadline = client.Deadline(params["wait_timeout"])
    root = params["root_volume"].get("type") or "sbs_volume"
    size_gb = params["root_volume"].get("size_gb") or 50
    known = cloud.offers()
    by_price = sorted(known.values(), key=lambda offer: (offer.hourly_price, offer.name))
    wanted = params["types"] or [offer.name for offer in by_price]
    choice = offers.choose(wanted, known, zone=cloud.zone, root_volume=root, size_gb=size_gb)
    image = None
    if params["image"]:
        image = {
            "label": params["image"],
            "id": cloud.image_id(params["image"], arch=offers.SONIC_ARCH, root_volume=root),
        }
    return {
        "zone": cloud.zone,
        "project_id": cloud.client.default_project_id,
        "offers": [known[name].as_result() for name in dict.fromkeys(wanted) if name in known],
        "usable": [offer.name for offer in choice.candidates],
        "refused": [refusal.as_result() for refusal in choice.refused],
        "image": image,
        **holdings_of(cloud, run_id),
    }


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "zone": {"type": "str"},
            "types": {"type": "list", "elements": "str", "default": []},
            "image": {"type": "str"},
            "root_volume": {
                "type": "dict",
                "default": {},
                "options": {
                    "size_gb": {"type": "int", "default": 50},
                    "type": {"type": "str", "choices": ["sbs_volume", "l_ssd"], "default": "sbs_volume"},
                },
            },
            "run_id": {"type": "str"},
            "request_timeout": {"type": "float", "default": 30.0},
            "wait_timeout": {"type": "int", "default": 120},
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
        result = inform(module.params)
    except (ValueError, client.ScalewayError) as error:
        module.fail_json(msg=str(error), kind=getattr(error, "kind", "invalid_parameter"))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
