#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_claim
short_description: Claim a Plex server for an account, or sign it out
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Claims over the server's loopback, so that a container's environment contains no claim token.
  - Verified by C(/identity), by the token that appears in C(Preferences.xml) seconds later, and by a request with it.
extends_documentation_fragment:
  - plexburst.core.plex
  - plexburst.core.plex.attributes
options:
  state:
    description: Whether the server must be claimed by the account or unclaimed.
    type: str
    default: claimed
    choices: [claimed, unclaimed]
  claim_token:
    description: Claim token from M(plexburst.core.plex_account), valid for 4 minutes. Get it immediately before.
    type: str
  name:
    description: Name set before the claim, under which the account lists the server.
    type: str
    default: ""
  name_after:
    description: Name set after signing out, such as RV(previous_name) of the claim.
    type: str
  deadline:
    description: Seconds to wait until the claim and its token are confirmed.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Claim the indexer's Plex for this run
  plexburst.core.plex_claim:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    claim_token: "{{ claim.claim_token }}"
    name: plexburst 20261122-071500-ab12
  no_log: true

- name: Sign it out
  plexburst.core.plex_claim:
    base_url: http://127.0.0.1:32400
    preferences_file: "{{ plex_server_preferences }}"
    state: unclaimed
"""

RETURN = r"""
claimed:
  description: Whether the server is claimed now (in check mode, whether it would be).
  returned: success
  type: bool
machine_identifier:
  description: The server's identifier, under which plex.tv lists it.
  returned: success
  type: str
previous_name:
  description: The server's name before the claim; empty if it had none.
  returned: when O(state=claimed), not in check mode
  type: str
version:
  description: Version of the server.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import claim
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import connection_spec, make_client, run


def work(module: AnsibleModule) -> dict[str, Any]:
    """Claim or sign out, unless the state is already as requested."""
    params = module.params
    wanted = params["state"] == "claimed"
    client = make_client(params, need_token=False)
    if module.check_mode:
        identity = client.identity()
        changed = identity.claimed != wanted
    elif wanted:
        done = claim.claim(
            client,
            params["claim_token"] or "",
            preferences_file=params["preferences_file"] or "",
            name=params["name"],
            deadline=params["deadline"],
        )
        identity, changed = done.identity, done.changed
    else:
        if client.identity().claimed:
            client = make_client(params)
        done = claim.unclaim(client, name=params["name_after"], deadline=params["deadline"])
        identity, changed = done.identity, done.changed
    told = {"previous_name": done.previous_name} if wanted and not module.check_mode else {}
    return {
        **told,
        "changed": changed,
        "claimed": wanted,
        "machine_identifier": identity.machine_identifier,
        "version": identity.version,
    }


def main() -> None:
    spec = {
        **connection_spec(),
        "state": {"type": "str", "default": "claimed", "choices": ["claimed", "unclaimed"]},
        "claim_token": {"type": "str", "no_log": True},
        "name": {"type": "str", "default": ""},
        "name_after": {"type": "str"},
        "deadline": {"type": "float", "default": 120.0},
    }
    module = AnsibleModule(
        argument_spec=spec,
        supports_check_mode=True,
        required_if=[("state", "claimed", ("preferences_file",))],
    )
    run(module, work)


if __name__ == "__main__":
    main()
