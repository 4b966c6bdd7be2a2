#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: scaleway_server
short_description: Create, boot and remove the Scaleway Instance of a run
version_added: 0.1.0
description:
  - Ensures that a run has exactly one running and reachable server, or no resources.
  - The server is found by the tag C(plexburst-run=RUN_ID), never by its name, and every server, flexible IP and volume
    carries that tag and its expiry before the server gets power.
  - An existing server of an interrupted run is used and booted.
  - Runs on the controller.
author:
  - plexburst contributors (@plexburst)
extends_documentation_fragment:
  - plexburst.core.scaleway
options:
  state:
    description:
      - V(running) creates the server, boots it, and waits until it runs with its public address.
      - V(present) creates the server and does not start it.
      - V(absent) removes the server from any state, its root volume and its flexible IP. Servers, IPs, block volumes
        and local volumes are each listed and removed separately until two listings in a row are empty. A failed listing
        is repeated. The module fails if a removal is not verified in O(wait_timeout).
    type: str
    choices: [absent, present, running]
    default: running
  run_id:
    description: The run that the server belongs to. Small letters, digits and dashes.
    type: str
    required: true
  name:
    description: Name of the server, and of the host in the inventory. V(plexburst-RUN_ID) if left out.
    type: str
  zone:
    description: Availability zone, like V(fr-par-1). The default zone of the configuration if left out.
    type: str
  types:
    description:
      - Commercial types in order of preference. Each is tried in turn as long as Scaleway has no stock or no quota for
        the one before; what was made for a refused type is removed first.
      - ARM types are refused, because Plex has no Sonic analysis for them.
      - Needed unless O(state=absent).
    type: list
    elements: str
    default: []
  image:
    description: Label of a marketplace image, like V(ubuntu_noble), or the UUID of an image.
    type: str
    default: ubuntu_noble
  root_volume:
    description: The root volume, made together with the server.
    type: dict
    default: {}
    suboptions:
      size_gb:
        description: Size in GB of 10^9 bytes.
        type: int
        default: 50
      type:
        description:
          - V(sbs_volume) is block storage, which every type has. V(l_ssd) is local storage, which only few types have.
        type: str
        choices: [sbs_volume, l_ssd]
        default: sbs_volume
  tags:
    description: Tags besides plexburst's own.
    type: list
    elements: str
    default: []
  watch_profile:
    description: Name of the monitoring profile, kept in a tag so that the inventory can group by it.
    type: str
  expires_at:
    description:
      - When the reaper may remove everything, as ISO 8601 in UTC, like V(2026-11-22T19:00:00Z).
      - Needed unless O(state=absent).
    type: str
  cloud_init:
    description: Content of the user data C(cloud-init), stored before the first boot. It may hold a private host key.
    type: str
  public_ip:
    description: Whether to make a flexible IPv4 for the server.
    type: bool
    default: true
  known:
    description:
      - Resources that O(state=absent) also queries by id, in addition to its listings, as C(server/ID), C(ip/ID) and
        C(volume/ID). For example those that a run's record names as created.
    type: list
    elements: str
    default: []
  ssh_user:
    description: Login of the host in the result RV(host).
    type: str
    default: root
  ssh_port:
    description: SSH port of the host in the result RV(host).
    type: int
    default: 22
  ssh_become:
    description: Value of C(ansible_become) in the result RV(host). True unless O(ssh_user) is root, if left out.
    type: bool
  wait_timeout:
    description: Seconds for everything together, waiting and retries included.
    type: int
    default: 600
  poll_interval:
    description: Seconds between two looks.
    type: float
    default: 2.0
attributes:
  check_mode:
    description: Says what would be made, of which type and at what price, or removed, and changes nothing.
    support: full
  diff_mode:
    description: Shows the resources before and after.
    support: full
  idempotent:
    description: A second run with the same O(run_id) finds the server and changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Boot the machine of this run
  plexburst.core.scaleway_server:
    run_id: 20261122-071500-ab12
    zone: fr-par-1
    types: [POP2-HC-8C-16G, PRO2-S, GP1-S]
    root_volume:
      size_gb: 60
    expires_at: "2026-11-22T19:15:00Z"
    cloud_init: "{{ lookup('ansible.builtin.template', 'cloud-init.yml.j2') }}"
  register: machine

- name: Remove it and prove that nothing is left
  plexburst.core.scaleway_server:
    run_id: 20261122-071500-ab12
    zone: fr-par-1
    state: absent
"""

RETURN = r"""
server:
  description: The server, or null when there is none (absent, or check mode of a new one).
  returned: always
  type: dict
  contains:
    id:
      description: Its id.
      type: str
    name:
      description: Its name.
      type: str
    zone:
      description: Its zone.
      type: str
    state:
      description: The API's word for its state.
      type: str
    state_detail:
      description: What it is doing, in the API's words.
      type: str
    commercial_type:
      description: Its type.
      type: str
    public_ip:
      description: Its public address, once it is attached.
      type: str
    private_ip:
      description: Its private address.
      type: str
    tags:
      description: All its tags.
      type: list
      elements: str
    ips:
      description: Its public addresses with their ids and states.
      type: list
      elements: dict
    volumes:
      description: Its volumes with their ids, kinds and places.
      type: list
      elements: dict
    created_at:
      description: When it was made.
      type: str
host:
  description: The arguments of M(ansible.builtin.add_host), as the inventory plugin has them. Null without a server.
  returned: always
  type: dict
  contains:
    name:
      description: Name of the host.
      type: str
    groups:
      description: Its groups.
      type: list
      elements: str
    hostvars:
      description: Its variables.
      type: dict
price:
  description: What the chosen type costs. Null when it is absent.
  returned: always
  type: dict
  contains:
    hourly:
      description: Price per hour without VAT, storage and IP not included.
      type: float
    currency:
      description: Always EUR.
      type: str
created:
  description:
    - What this call made, as C(server/ID), C(ip/ID) and C(volume/ID), things it removed again included.
    - Returned on failure too.
  returned: always
  type: list
  elements: str
deleted:
  description: What this call removed.
  returned: always
  type: list
  elements: str
leftovers:
  description:
    - Resources of the run that are not verified as removed. Empty on success.
    - An entry that begins with C(unknown/) is a kind of resource that could not be listed.
  returned: always
  type: list
  elements: str
tried:
  description: Types that could not be had, in order.
  returned: always
  type: list
  elements: dict
  contains:
    type:
      description: The type.
      type: str
    reason:
      description: Why not.
      type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import client, hosts, naming, servers


def wish_from(params: dict[str, Any]) -> servers.Wish:
    """The wanted machine; ValueError with a sentence when a parameter is not usable."""
    run_id = naming.check_run_id(params["run_id"])
    root_volume = params["root_volume"]
    expires_at = naming.parse_expiry(params["expires_at"]) if params["expires_at"] else None
    return servers.Wish(
        name=params["name"] or naming.server_name(run_id),
        run_id=run_id,
        types=params["types"],
        image=params["image"],
        root_volume=root_volume.get("type") or "sbs_volume",
        size_gb=root_volume.get("size_gb") or 50,
        tags=naming.run_tags(run_id, expires_at, params["watch_profile"], params["tags"]),
        cloud_init=params["cloud_init"],
        public_ip=params["public_ip"],
        power=params["state"] == "running",
    )


class Runner:
    """One call of the module: keeps the result complete whether it ends well or not."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        params = module.params
        self.wish = wish_from(params)
        self.login = hosts.Login(params["ssh_user"], params["ssh_port"], params["ssh_become"])
        deadline = client.Deadline(params["wait_timeout"])
        self.clock = servers.Clock(deadline, params["poll_interval"])
        self.cloud = client.connect(client.settings_from(params), request_timeout=params["request_timeout"])
        self.cloud.transport.deadline = deadline
        self.manager = servers.ServerManager(self.cloud, self.wish, self.clock)
        self.price: dict[str, Any] | None = None
        self.before: list[str] = []
        self.after: list[str] = []
        self.leftovers: list[str] = []

    def result(self) -> dict[str, Any]:
        """Everything the module returns."""
        account, server = self.manager.account, self.manager.server
        return {
            "changed": account.changed,
            "server": server.as_result() if server else None,
            "host": hosts.host_record(server, self.login) if server else None,
            "price": self.price,
            "created": account.created,
            "deleted": account.deleted,
            "leftovers": self.leftovers,
            "tried": [refusal.as_result() for refusal in account.tried],
            "diff": {"before": {"resources": self.before}, "after": {"resources": self.after}},
        }

    def _holdings(self) -> list[str]:
        return servers.holdings(self.cloud, servers.of_run(self.wish.run_id)).names

    def make(self) -> None:
        """States present and running."""
        manager, account = self.manager, self.manager.account
        self.before = self._holdings()
        found = manager.find()
        if not self.module.check_mode:
            server = manager.ensure()
            self.price = self._price_of(server.commercial_type)
            # Not listed again, because a failed listing must not discard a running Instance.
            known = dict.fromkeys([*self.before, *account.created])
            self.after = [name for name in known if name not in account.deleted]
            return
        self.after = list(self.before)
        if found is not None:
            self.price = self._price_of(found.commercial_type)
            account.changed = self.wish.power and found.state != "running"
            if account.changed:
                self.after.append(f"power for server/{found.id}")
            return
        best = manager.best()
        account.changed = True
        self.price = best.price
        self.after += [
            f"server of type {best.name}, {best.hourly_price} EUR per hour",
            f"root volume of {self.wish.size_gb} GB",
        ]
        if self.wish.public_ip:
            self.after.append("flexible IPv4")

    def _price_of(self, commercial_type: str) -> dict[str, Any] | None:
        offer = self.manager.offers().get(commercial_type)
        return offer.price if offer else None

    def remove(self) -> None:
        """State absent."""
        account = self.manager.account
        params = self.module.params
        removal = servers.Removal(
            self.cloud,
            servers.of_run(self.wish.run_id),
            self.clock,
            known=params["known"],
            act=not self.module.check_mode,
        )
        removal.run()
        self.before = removal.seen
        account.changed = bool(removal.seen)
        if self.module.check_mode:
            account.deleted = removal.seen
            if not removal.looked:
                raise client.ScalewayError(" ".join(removal.not_listed.values()), kind="network")
            return
        account.deleted = removal.deleted
        self.after = self.leftovers = removal.leftovers
        if not removal.done:
            raise client.ScalewayError(
                f"Not all resources of run {self.wish.run_id} were verified as removed in "
                f"{self.clock.deadline.seconds:.0f} s, so they may still exist and be billed. {removal.left}",
                kind="leftovers",
            )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["absent", "present", "running"], "default": "running"},
            "run_id": {"type": "str", "required": True},
            "name": {"type": "str"},
            "zone": {"type": "str"},
            "types": {"type": "list", "elements": "str", "default": []},
            "image": {"type": "str", "default": "ubuntu_noble"},
            "root_volume": {
                "type": "dict",
                "default": {},
                "options": {
                    "size_gb": {"type": "int", "default": 50},
                    "type": {"type": "str", "choices": ["sbs_volume", "l_ssd"], "default": "sbs_volume"},
                },
            },
            "tags": {"type": "list", "elements": "str", "default": []},
            "watch_profile": {"type": "str"},
            "expires_at": {"type": "str"},
            "cloud_init": {"type": "str", "no_log": True},
            "public_ip": {"type": "bool", "default": True},
            "known": {"type": "list", "elements": "str", "default": []},
            "ssh_user": {"type": "str", "default": "root"},
            "ssh_port": {"type": "int", "default": 22},
            "ssh_become": {"type": "bool"},
            "wait_timeout": {"type": "int", "default": 600},
            "poll_interval": {"type": "float", "default": 2.0},
            "request_timeout": {"type": "float", "default": 30.0},
            "config_file": {"type": "path"},
            "profile": {"type": "str"},
            "api_url": {"type": "str"},
            "project_id": {"type": "str"},
        },
        required_if=[("state", "present", ("types", "expires_at")), ("state", "running", ("types", "expires_at"))],
        supports_check_mode=True,
    )
    if client.IMPORT_ERROR is not None:
        module.fail_json(msg=missing_required_lib("scaleway>=2.12"), exception=client.IMPORT_ERROR)
    try:
        runner = Runner(module)
    except (ValueError, client.ScalewayError) as error:
        module.fail_json(msg=str(error))
    try:
        if module.params["state"] == "absent":
            runner.remove()
        else:
            runner.make()
    except client.ScalewayError as error:
        advice = {"advice": naming.reap_advice(runner.wish.run_id)} if error.kind == "leftovers" else {}
        module.fail_json(msg=str(error), kind=error.kind, **advice, **runner.result())
    module.exit_json(**runner.result())


if __name__ == "__main__":
    main()
