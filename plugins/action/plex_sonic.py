# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_sonic to its end; the loop is in module_utils/edge_watch.py, the options in library/plex_sonic.py."""

from __future__ import annotations

from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils import watch
from ansible_collections.plexburst.core.plugins.module_utils.edge_watch import WatchedAction
from ansible_collections.plexburst.core.plugins.module_utils.plex import profiles, verdict


class ActionModule(WatchedAction):
    """plexburst.core.plex_sonic"""

    MODULE = "plexburst.core.plex_sonic"

    def _result(
        self, result: dict[str, Any], outcome: watch.Outcome, finished: dict[str, Any], profile: profiles.Profile
    ) -> dict[str, Any]:
        """The numbers of summary.json. A few failed tracks, listed, do not fail the task; the verdict names them."""
        merged = {**result, **{key: value for key, value in finished.items() if key not in ("invocation", "after")}}
        if finished.get("failed"):
            return merged
        after = finished["after"]
        pending = after["sonic_total"] - after["sonic_done"]
        state, reason = outcome.verdict.state, outcome.verdict.reason
        merged["sonic"] = {
            **result["sonic"],
            "total": after["sonic_total"],
            "after": after["sonic_done"],
            "failed": pending if reason == "tracks_failing" else 0,
            "verdict": state if state == verdict.COMPLETE else reason,
            "tracks_per_minute": round(outcome.rate or 0.0, 2),
        }
        merged["changed"] = after["sonic_done"] != result["sonic"]["before"]
        percent = 100.0 * pending / max(1, after["sonic_total"])
        tolerated = reason == "tracks_failing" and percent <= profile.max_failed_percent
        if state != verdict.COMPLETE and not tolerated:
            merged.update(failed=True, msg=self._words(outcome))
        return merged
