"""A server of the cloud as an Ansible host: one function for ``add_host`` and for the inventory plugin.

In AWX the inventory is fixed before the play starts, so a new indexer joins through ``add_host``; the inventory
plugin finds it in later runs. Both must agree on name, groups and variables, or the same machine would be two hosts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .naming import CLOUD_GROUP, iso, profile_group, read_marks, run_group
from .records import ServerRecord


@dataclass(frozen=True, slots=True)
class Login:
    """How Ansible reaches an indexer. BECOME None means: become root unless the user is root already."""

    user: str = "root"
    port: int = 22
    become: bool | None = None


def host_record(server: ServerRecord, login: Login | None = None) -> dict[str, Any]:
    """Return ``{"name", "groups", "hostvars"}``, the arguments of ``add_host`` for SERVER.

    ``ansible_host`` is the public IPv4 address when there is one, else IPv6, else the private address; without any
    address it is left out, and Ansible then says that the name cannot be resolved instead of reaching another machine.
    """
    login = login or Login()
    marks = read_marks(server.tags)
    groups = [CLOUD_GROUP]
    hostvars: dict[str, Any] = {
        "scaleway_id": server.id,
        "scaleway_name": server.name,
        "scaleway_type": server.commercial_type,
        "scaleway_state": server.state,
        "scaleway_zone": server.zone,
        "scaleway_tags": list(server.tags),
        "scaleway_public_ipv4": server.public_ipv4,
        "scaleway_public_ipv6": server.public_ipv6,
        "scaleway_private_ip": server.private_ip,
        "scaleway_run_id": marks.run_id,
        "scaleway_profile": marks.profile,
        "scaleway_expires_at": iso(marks.expires_at) if marks.expires_at else None,
        "ansible_user": login.user,
        "ansible_port": login.port,
        "ansible_become": login.user != "root" if login.become is None else login.become,
    }
    address = server.public_ipv4 or server.public_ipv6 or server.private_ip
    if address:
        hostvars["ansible_host"] = address
    if marks.run_id:
        groups.append(run_group(marks.run_id))
    if marks.profile:
        groups.append(profile_group(marks.profile))
    return {"name": server.name, "groups": groups, "hostvars": hostvars}
