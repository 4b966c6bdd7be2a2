#!/usr/bin/python
# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
from __future__ import annotations

DOCUMENTATION = r"""
module: plex_account
short_description: Get a claim token from plex.tv, list or remove the account's devices
version_added: 0.1.0
author: [plexburst contributors (@plexburst)]
description:
  - Runs on the controller, with the owner's account token from a file that only its owner can read.
  - Without removal, every run would leave an unused server in the account's apps.
requirements: [python >= 3.10, plexapi >= 4.16, requests >= 2.31]
options:
  state:
    description:
      - V(claim_token) gets a token that is valid for 4 minutes; use C(no_log) on the task.
      - V(devices) lists the devices registered with the account.
      - V(device_absent) removes the Plex Media Server with this identifier or name, and verifies it by listing again.
    type: str
    required: true
    choices: [claim_token, devices, device_absent]
  token_file:
    description: File, mode 0600, that contains only the owner's account token.
    type: path
    required: true
  plex_tv_url:
    description: Address of plex.tv.
    type: str
    default: https://plex.tv
  machine_identifier:
    description: The server's identifier, for O(state=device_absent).
    type: str
    default: ""
  name:
    description: The server's exact name, for O(state=device_absent) when the identifier is not known.
    type: str
    default: ""
  timeout:
    description: Timeout of one request in seconds.
    type: float
    default: 30.0
attributes:
  check_mode:
    description: Can run in check mode and says what it would do without changing anything.
    support: full
  diff_mode:
    description: Returns what changed, before and after.
    support: none
  idempotent:
    description: Run again at once, it changes nothing.
    support: partial
    details: A claim token is a new one each time; removing a device that is gone changes nothing.
"""

EXAMPLES = r"""
- name: Get a claim token
  plexburst.core.plex_account:
    state: claim_token
    token_file: ~/.config/plexburst/plex-account-token
  delegate_to: localhost
  register: claim
  no_log: true

- name: Remove the run's server from the account
  plexburst.core.plex_account:
    state: device_absent
    token_file: ~/.config/plexburst/plex-account-token
    machine_identifier: "{{ indexer_identifier }}"
  delegate_to: localhost
"""

RETURN = r"""
claim_token:
  description: The claim token. A secret. Empty in check mode.
  returned: when O(state=claim_token)
  type: str
devices:
  description: Devices registered with the account (id, name, product, identifier, provides), never a token.
  returned: when O(state=devices) or O(state=device_absent)
  type: list
  elements: dict
removed:
  description: The devices that were removed, or would be in check mode.
  returned: when O(state=device_absent)
  type: list
  elements: dict
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.plexburst.core.plugins.module_utils.plex.api.account import Account
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import AccountError
from ansible_collections.plexburst.core.plugins.module_utils.plex.module import run


def work(module: AnsibleModule) -> dict[str, Any]:
    """Return the result of the requested state."""
    params = module.params
    account = Account(params["plex_tv_url"], params["token_file"], timeout=params["timeout"])
    if params["state"] == "claim_token":
        return {"changed": False, "claim_token": "" if module.check_mode else account.claim_token()}
    if params["state"] == "devices":
        return {"changed": False, "devices": [asdict(device) for device in account.devices()]}
    wanted = {"identifier": params["machine_identifier"], "name": params["name"]}
    if not any(wanted.values()):
        raise AccountError("device_absent needs machine_identifier or name. Set one of them to the server to remove.")
    found = account.find(**wanted)
    if not module.check_mode:
        for device in found:
            account.remove(device)
        left = account.find(**wanted)
        if left:
            names = ", ".join(f"{device.name} ({device.identifier})" for device in left)
            raise AccountError(f"plex.tv accepted the removal, but still lists {names}. Remove it at app.plex.tv.")
    return {
        "changed": bool(found),
        "removed": [asdict(device) for device in found],
        "devices": [asdict(device) for device in account.devices()],
    }


def main() -> None:
    spec = {
        "state": {"type": "str", "required": True, "choices": ["claim_token", "devices", "device_absent"]},
        "token_file": {"type": "path", "required": True, "no_log": False},
        "plex_tv_url": {"type": "str", "default": "https://plex.tv"},
        "machine_identifier": {"type": "str", "default": ""},
        "name": {"type": "str", "default": ""},
        "timeout": {"type": "float", "default": 30.0},
    }
    run(AnsibleModule(argument_spec=spec, supports_check_mode=True), work)


if __name__ == "__main__":
    main()
