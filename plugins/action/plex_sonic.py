# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Watch plex_sonic to its end; the loop is in module_utils/edge_watch.py, the options in library/plex_sonic.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils import watch
from ansible_collections.plexburst.core.plugins.module_utils.edge_watch import WatchedAction
from ansible_collections.plexburst.core.plugins.module_utils.plex import profiles, sonic, verdict
from ansible_collections.plexburst.core.plugins.module_utils.plex.sample import Sample

SHOWN = 200
ANOTHER_WAY = ("not_started", "no_progress", "queue_empty_incomplete")
"""Verdicts after which another way of starting may help; a dead mount or failing tracks are not cured by one."""
FORECAST_LOOKS = 15
"""Number of the profile's intervals before the forecast, at most half an hour."""


class ActionModule(WatchedAction):
    """plexburst.core.plex_sonic"""

    MODULE = "plexburst.core.plex_sonic"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._seen: list[Sample] = []
        self._forecast: dict[str, Any] | None = None

    def _look(self, plan: Mapping[str, Any], profile: profiles.Profile, batch: list[Sample]) -> None:
        """Say once, early, how long it will take, what it will cost and what limits it."""
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
        outcome: watch.Outcome,
        recent: list[Sample],
    ) -> tuple[watch.Outcome, list[Sample]]:
        """The other ways in turn, each once; then, when asked, the failed tracks once more."""
        ways: list[dict[str, Any]] = [self._told(sonic.BUTLER, outcome)]
        result["ways"] = ways
        fewer = replace(profile, restarts=min(1, profile.restarts))
        for way in sonic.WAYS[1:]:
            if outcome.verdict.state != verdict.STALLED or outcome.verdict.reason not in ANOTHER_WAY:
                break
            self._say(plan, f"{outcome.verdict.reason.replace('_', ' ')}; another way is tried: {way}")
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
    ) -> tuple[watch.Outcome | None, list[Sample]]:
        """Start in one way and watch; what cannot be started is told and gives no outcome."""
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
        outcome: watch.Outcome,
        recent: list[Sample],
    ) -> tuple[watch.Outcome, list[Sample]]:
        """Refresh the albums of what is left, wait until that is over, and analyse once more."""
        asked = self._module("retry")
        if asked.get("failed"):
            result["retried"] = {"problem": str(asked.get("msg", "the albums could not be refreshed"))}
            return outcome, recent
        self._say(plan, f"{asked['albums']} albums with failed tracks are refreshed, then analysed once more")
        self._settle(plan, [])
        later, recent = self._again(sonic.BUTLER, profile, recent, result["ways"])
        result["retried"] = {"albums": asked["albums"], "gained": result["ways"][-1].get("gained", 0)}
        return later or outcome, recent

    def _advice(self, outcome: watch.Outcome) -> str:
        """A Sonic analysis that does not get on need not keep the rest from coming home."""
        if outcome.verdict.reason not in ANOTHER_WAY:
            return super()._advice(outcome)
        return (
            "Look for the lines of Plex Music Analyzer in Plex's log (logs/ of the run folder) and at the library's "
            "own switch 'Analyze audio tracks for sonic features'; plexburst_skip_sonic=true brings all else home."
        )

    @staticmethod
    def _told(way: str, outcome: watch.Outcome) -> dict[str, Any]:
        """One tried way for the result."""
        last = None if outcome.last is None else outcome.last.counters
        gained = 0 if last is None or outcome.task.before is None else last.sonic_done - outcome.task.before.sonic_done
        name = outcome.verdict.state if outcome.verdict.state == verdict.COMPLETE else outcome.verdict.reason
        return {"way": way, "verdict": name, "gained": gained, "restarts": outcome.task.restarts}

    def _say(self, plan: Mapping[str, Any], words: str) -> None:
        Display().display(f"[{self._task_host()}] sonic {plan['title']}: {words}")

    def _result(
        self, result: dict[str, Any], outcome: watch.Outcome, finished: dict[str, Any], profile: profiles.Profile
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
