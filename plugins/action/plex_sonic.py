# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_sonic to its end; the loop is in plugins/plugin_utils/watched_action.py, the options in
library/plex_sonic.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex import sonic
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles, verdict, watcher
from ansible_collections.plexburst.core.plugins.plugin_utils.watched_action import WatchedAction

SHOWN = 200
ANOTHER_WAY = ("not_started", "no_progress", "queue_empty_incomplete")
"""Verdicts after which another way of starting may help; not a dead mount or failing tracks."""
FORECAST_LOOKS = 15
"""Number of the profile's intervals until the forecast, at most half an hour."""


class ActionModule(WatchedAction):
    """plexburst.core.plex_sonic"""

    MODULE = "plexburst.core.plex_sonic"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: list[Sample] = []
        self._forecast: dict[str, Any] | None = None

    def _look(self, plan: Mapping[str, Any], profile: profiles.Profile, batch: list[Sample]) -> None:
        """Print once, early, a forecast of duration, cost and bottleneck."""
        if plan["task"] != "sonic" or self._forecast is not None:
            return
        self._seen.extend(batch)
        if self._seen[-1].at - self._seen[0].at < min(1800.0, FORECAST_LOOKS * profile.interval):
            return
        told = sonic.forecast(self._seen, hourly_price=plan["hourly_price"])
        if told is None:
            return
        self._forecast = asdict(told)
        self._seen = []
        Display().display(f"[{self._task_host()}] sonic {plan['title']}: {told.words(plan['currency'], plan['cpus'])}")

    def _follow(
        self,
        plan: dict[str, Any],
        profile: profiles.Profile,
        result: dict[str, Any],
        outcome: watcher.Outcome,
        recent: list[Sample],
    ) -> tuple[watcher.Outcome, list[Sample]]:
        """Try the other ways once each; then, with the option, the failed tracks again."""
        ways: list[dict[str, Any]] = [self._told(sonic.BUTLER, outcome)]
        result["ways"] = ways
        fewer = replace(profile, restarts=min(1, profile.restarts))
        for way in sonic.WAYS[1:]:
            if outcome.verdict.state != verdict.STALLED or outcome.verdict.reason not in ANOTHER_WAY:
                break
            self._say(plan, f"{outcome.verdict.reason.replace('_', ' ')}; trying another way: {way}")
            later, recent = self._again(way, fewer, recent, ways)
            outcome = later or outcome
        if outcome.verdict.reason in ("tracks_failing", "queue_empty_incomplete") and boolean(
            self._task.args.get("retry_failed", False), strict=False
        ):
            outcome, recent = self._retry(plan, fewer, result, outcome, recent)
        if self._forecast is not None:
            result["forecast"] = self._forecast
        return outcome, recent

    def _again(
        self, way: str, profile: profiles.Profile, recent: list[Sample], ways: list[dict[str, Any]]
    ) -> tuple[watcher.Outcome | None, list[Sample]]:
        """Start in one way and watch; a way that cannot be started is reported and has no outcome."""
        started = self._module("way", way=way)
        if started.get("failed") or "watch" not in started:
            ways.append({"way": way, "problem": str(started.get("msg", "it could not be started"))})
            return None, recent
        outcome, recent = self._watch(started["watch"], profile, [])
        ways.append(self._told(way, outcome))
        return outcome, recent

    def _retry(
        self,
        plan: dict[str, Any],
        profile: profiles.Profile,
        result: dict[str, Any],
        outcome: watcher.Outcome,
        recent: list[Sample],
    ) -> tuple[watcher.Outcome, list[Sample]]:
        """Refresh the albums of the remaining tracks, wait for the end, and analyse again."""
        asked = self._module("retry")
        if asked.get("failed"):
            result["retried"] = {"problem": str(asked.get("msg", "the albums could not be refreshed"))}
            return outcome, recent
        self._say(plan, f"{asked['albums']} albums with failed tracks are refreshed, then analysed once more")
        self._settle(plan, [])
        later, recent = self._again(sonic.BUTLER, profile, recent, result["ways"])
        result["retried"] = {"albums": asked["albums"], "gained": result["ways"][-1].get("gained", 0)}
        return later or outcome, recent

    def _advice(self, outcome: watcher.Outcome) -> str:
        """Return advice for a stalled Sonic analysis, which need not block the other results."""
        if outcome.verdict.reason not in ANOTHER_WAY:
            return super()._advice(outcome)
        return (
            "Check the lines of Plex Music Analyzer in Plex's log (logs/ of the run folder), and the library's own "
            "switch 'Analyze audio tracks for sonic features'. Set plexburst_skip_sonic=true to run without Sonic."
        )

    @staticmethod
    def _told(way: str, outcome: watcher.Outcome) -> dict[str, Any]:
        """One tried way for the result."""
        last = None if outcome.last is None else outcome.last.counters
        gained = 0 if last is None or outcome.task.before is None else last.sonic_done - outcome.task.before.sonic_done
        name = outcome.verdict.state if outcome.verdict.state == verdict.COMPLETE else outcome.verdict.reason
        return {"way": way, "verdict": name, "gained": gained, "restarts": outcome.task.restarts}

    def _say(self, plan: Mapping[str, Any], words: str) -> None:
        Display().display(f"[{self._task_host()}] sonic {plan['title']}: {words}")

    def _result(
        self, result: dict[str, Any], outcome: watcher.Outcome, finished: dict[str, Any], profile: profiles.Profile
    ) -> dict[str, Any]:
        """The numbers of summary.json. A few failed tracks, listed, do not fail the task; the verdict names them."""
        merged = {**result, **{key: value for key, value in finished.items() if key not in ("invocation", "after")}}
        state, reason = outcome.verdict.state, outcome.verdict.reason
        if finished.get("failed"):
            if state != verdict.COMPLETE:
                merged["msg"] = f"{self._words(outcome)} {finished.get('msg', '')}".rstrip()
            return merged
        after = finished["after"]
        pending = after["sonic_total"] - after["sonic_done"]
        merged["sonic"] = {
            **result["sonic"],
            "total": after["sonic_total"],
            "after": after["sonic_done"],
            "failed": pending if reason == "tracks_failing" else 0,
            "verdict": state if state == verdict.COMPLETE else reason,
            "tracks_per_minute": round(outcome.rate or 0.0, 2),
        }
        merged["others"] = {**result.get("others", {}), "after": after["sonic_other"]}
        merged["changed"] = after["sonic_done"] != result["sonic"]["before"]
        merged["left"], merged["left_count"] = finished["left"][:SHOWN], pending
        merged["left_file"] = self._keep("sonic_left.json", "tracks", finished["left"]) if pending else ""
        percent = 100.0 * pending / max(1, after["sonic_total"])
        tolerated = reason == "tracks_failing" and percent <= profile.max_failed_percent
        if state != verdict.COMPLETE and not tolerated:
            tried = ", ".join(entry["way"] for entry in result.get("ways", []))
            merged.update(
                failed=True, msg=f"{self._words(outcome)} Ways tried: {tried or 'none'}.", advice=self._advice(outcome)
            )
        return merged
