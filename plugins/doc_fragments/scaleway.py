# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Documentation shared by the modules that call Scaleway.

Their argument specs have these options, too; validate-modules compares both.
"""

from __future__ import annotations


class ModuleDocFragment:
    """plexburst.core.scaleway: where the configuration and the API are."""

    DOCUMENTATION = r"""
requirements: [python >= 3.11, scaleway >= 2.12]
options:
  request_timeout:
    description: Timeout for one request, in seconds. A request without an answer is repeated.
    type: float
    default: 30.0
  config_file:
    description:
      - The SDK's YAML configuration file. C(SCW_CONFIG_PATH) or V(~/.config/scw/config.yaml) if left out.
      - Values of a file named here go before C(SCW_*) variables; otherwise the variables go first.
    type: path
  profile:
    description: Profile in the configuration file. C(SCW_PROFILE), or the file's C(active_profile), if left out.
    type: str
  api_url:
    description: Another URL of the API, for example of a simulator.
    type: str
  project_id:
    description: Project to work in. The default project of the configuration if left out.
    type: str
"""
