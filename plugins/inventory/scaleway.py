# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
name: scaleway
short_description: Scaleway Instances as hosts, by default those of plexburst
version_added: 0.1.0
author:
  - plexburst contributors (@plexburst)
description:
  - Lists Instances with the official SDK and makes one host of each, with the groups C(plex_cloud),
    C(plexburst_run_RUN) and C(plexburst_profile_PROFILE) from plexburst's tags.
  - Without tags it would be any Instance of the project; by default only those tagged C(plexburst) become hosts.
  - The file's name must end in C(scaleway.yml), C(scaleway.yaml), C(scw.yml) or C(scw.yaml).
  - Credentials come from O(config_file), from C(SCW_*) variables, or from the SDK's own configuration file.
requirements:
  - python >= 3.11
  - scaleway >= 2.12
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Always V(plexburst.core.scaleway).
    type: str
    required: true
    choices: [plexburst.core.scaleway]
  zones:
    description: Availability zones to look in. The default zone of the configuration if empty.
    type: list
    elements: str
    default: []
  tags:
    description: Only Instances that carry all these tags. An empty list takes every Instance of the project.
    type: list
    elements: str
    default: [plexburst]
  states:
    description: Only Instances in one of these states, as named by the API. An empty list takes every state.
    type: list
    elements: str
    default: [running]
  hostnames:
    description:
      - Source of a host's name; the first of these that the Instance has.
      - V(name) is what plexburst's playbooks expect.
    type: list
    elements: str
    choices: [name, public_ipv4, public_ipv6, private_ip, id]
    default: [name]
  ssh_user:
    description: C(ansible_user) of every host.
    type: str
    default: root
  ssh_port:
    description: C(ansible_port) of every host.
    type: int
    default: 22
  config_file:
    description:
      - The SDK's YAML configuration file. A relative path is relative to the inventory file. A template is allowed.
      - Values of a file named here go before C(SCW_*) variables; otherwise the variables go first.
    type: str
  profile:
    description: Profile in the configuration file.
    type: str
  api_url:
    description: Another address of the API, a simulator's for example.
    type: str
  project_id:
    description: Project to work in. The default project of the configuration if left out.
    type: str
  request_timeout:
    description: Seconds to wait for the answer to one request.
    type: float
    default: 15.0
  attempts:
    description: Number of tries per request.
    type: int
    default: 4
  timeout:
    description: Maximum seconds for all requests together.
    type: float
    default: 60.0
"""

EXAMPLES = r"""
# inventory/scaleway.yml: plexburst's active indexers
plugin: plexburst.core.scaleway
zones: [fr-par-1, nl-ams-1]

# every Instance of the project, grouped by type
---
plugin: plexburst.core.scaleway
tags: []
states: []
keyed_groups:
  - key: scaleway_type
    prefix: type
compose:
  ansible_host: scaleway_private_ip
groups:
  ending_soon: scaleway_expires_at is not none
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import client, hosts
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.records import ServerRecord

ENDINGS = ("scaleway.yml", "scaleway.yaml", "scw.yml", "scw.yaml")


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):  # type: ignore[misc]  # ansible has no types
    """The inventory plugin; what a host looks like is decided in ``module_utils/cloud/scaleway/hosts.py``."""

    NAME = "plexburst.core.scaleway"

    def verify_file(self, path: str) -> bool:
        """True for a readable file whose name says that it is ours."""
        return bool(super().verify_file(path)) and path.endswith(ENDINGS)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Fill INVENTORY from PATH; AnsibleParserError with a sentence when that is not possible."""
        super().parse(inventory, loader, path, cache)
        if client.IMPORT_ERROR is not None:
            raise AnsibleParserError(
                f"The inventory {path} needs the Python package scaleway, 2.12 or newer, where Ansible runs "
                f"({client.IMPORT_ERROR.splitlines()[-1]})."
            )
        self._read_config_data(path)
        for item in self._records(path, cache):
            self._add(item)

    def _records(self, path: str, cache: bool) -> list[dict[str, Any]]:
        """Hosts with names, groups and variables, from the cache if the user has one and allows it now."""
        key = self.get_cache_key(path)
        caching = self.get_option("cache")
        if caching and cache and key in self._cache:
            return list(self._cache[key])
        records = self._ask(path)
        if caching:
            self._cache[key] = records
        return records

    def _ask(self, path: str) -> list[dict[str, Any]]:
        tags, states = set(self.get_option("tags")), set(self.get_option("states"))
        login = hosts.Login(self.get_option("ssh_user"), self.get_option("ssh_port"))
        try:
            cloud = client.connect(
                client.Settings(
                    config_file=self._config_file(path),
                    profile=self._text("profile"),
                    api_url=self._text("api_url"),
                    project_id=self._text("project_id"),
                ),
                request_timeout=self.get_option("request_timeout"),
                attempts=self.get_option("attempts"),
            )
            cloud.transport.deadline = client.Deadline(self.get_option("timeout"))
            servers = [server for zone in self.get_option("zones") or [cloud.zone] for server in cloud.servers(zone)]
        except client.ScalewayError as error:
            raise AnsibleParserError(f"The inventory {path} cannot be filled: {error}") from None
        wanted = [s for s in servers if tags.issubset(s.tags) and (not states or s.state in states)]
        records: list[dict[str, Any]] = []
        taken: set[str] = set()
        for server in sorted(wanted, key=lambda s: (s.created_at or "", s.id)):
            record = hosts.host_record(server, login)
            name = self._name(server)
            # Scaleway allows two servers of one name; Ansible would quietly make one host of them.
            record["name"] = name if name not in taken else f"{name}-{server.id}"
            taken.add(record["name"])
            records.append(record)
        return records

    def _name(self, server: ServerRecord) -> str:
        found = (str(getattr(server, source)) for source in self.get_option("hostnames") if getattr(server, source))
        return next(found, server.name)

    def _text(self, option: str) -> str | None:
        """An option's value with its template filled in; None when there is none."""
        value = self.get_option(option)
        return str(self.templar.template(value)).strip() or None if value else None

    def _config_file(self, path: str) -> str | None:
        named = self._text("config_file")
        return str(Path(path).resolve().parent / Path(named).expanduser()) if named else None

    def _add(self, record: dict[str, Any]) -> None:
        host = self.inventory.add_host(record["name"])
        for group in record["groups"]:
            self.inventory.add_child(self.inventory.add_group(group), host)
        for key, value in record["hostvars"].items():
            self.inventory.set_variable(host, key, value)
        strict = self.get_option("strict")
        variables = dict(record["hostvars"])
        self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
