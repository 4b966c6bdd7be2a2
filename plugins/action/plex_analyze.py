# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_analyze to its end; the work is in plugins/plugin_utils/watched_action.py, the options in
library/plex_analyze.py."""

from __future__ import annotations

from ansible_collections.plexburst.core.plugins.plugin_utils.watched_action import WatchedAction


class ActionModule(WatchedAction):
    """plexburst.core.plex_analyze"""

    MODULE = "plexburst.core.plex_analyze"
