"""The action plugins' side of watching: start by a short module call, sample in a loop, finish by another call.

A dropped connection costs one sample; only after the profile's `missed_after` seconds is the host called unreachable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils import watch
from ansible_collections.plexburst.core.plugins.module_utils.plex import counters, profiles, verdict
from ansible_collections.plexburst.core.plugins.module_utils.plex.sample import Sample

SAMPLE = "plexburst.core.plex_sample"
PROBE_EVERY = 2.0
"""Seconds between two probes of the mount at least; a profile with a longer interval probes with every sample."""


class WatchedAction(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Base of plex_scan, plex_analyze and plex_sonic. MODULE is the module that starts, cancels and finishes."""

    MODULE = ""
    _supports_check_mode = True
    _supports_async = False  # a looping plugin under async would report success at once
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start, watch, finish."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        started = self._module("start")
        plan = started.pop("watch", None)
        if started.get("failed") or started.get("unreachable") or plan is None:
            started.pop("nothing_to_do", None)
            return started
        if self._task.check_mode:
            return started
        try:
            profile = profiles.resolve(plan["profile"], plan["task"], plan["section_type"], plan["profile_overrides"])
        except ValueError as error:
            return {"failed": True, "msg": str(error)}
        outcome, recent = self._watch(plan, profile, [])
        result: dict[str, Any] = {**started, "watched": outcome.plain()}
        if outcome.lost is not None:
            return {**result, **outcome.lost, "unreachable": True, "msg": outcome.verdict.advice}
        if plan["settle"] and outcome.verdict.state in (verdict.COMPLETE, verdict.IDLE):
            settled = self._settle(plan, recent)
            result["settled"] = settled.plain()
        finished = self._module("finish", since=float(started.get("began", 0.0)))
        return self._result(result, outcome, finished, profile)

    def _result(
        self, result: dict[str, Any], outcome: watch.Outcome, finished: dict[str, Any], profile: profiles.Profile
    ) -> dict[str, Any]:
        """What the task returns; a verdict that is neither complete nor idle fails with its advice."""
        del profile
        bad = outcome.verdict.state not in (verdict.COMPLETE, verdict.IDLE)
        merged = {**result, **{key: value for key, value in finished.items() if key != "invocation"}}
        merged["changed"] = self._counted(merged.get("before")) != self._counted(merged.get("after"))
        if bad:
            merged.update(failed=True, msg=self._words(outcome))
        return merged

    @staticmethod
    def _counted(counts: Mapping[str, Any] | None) -> dict[str, Any]:
        """Counts without what changes by looking."""
        return {key: value for key, value in (counts or {}).items() if key not in ("signature", "seconds")}

    def _words(self, outcome: watch.Outcome) -> str:
        reason = outcome.verdict.reason.replace("_", " ")
        return f"{outcome.task.kind} is {outcome.verdict.state.replace('_', ' ')}: {reason}. {outcome.verdict.advice}"

    def _module(self, step: str, **more: Any) -> dict[str, Any]:
        args = {**self._task.args, "step": step, **more}
        return dict(self._execute_module(module_name=self.MODULE, module_args=args, task_vars=self._vars))

    def _settle(self, plan: Mapping[str, Any], recent: list[Sample]) -> watch.Outcome:
        """Wait until the server is calm; that it is not in time is told, not failed."""
        profile = profiles.resolve(
            plan["profile"], "stabilise", plan["section_type"], {**plan["profile_overrides"], "timeout": 1800}
        )
        return self._watch({**plan, "task": "stabilise"}, profile, recent)[0]

    def _watch(
        self, plan: Mapping[str, Any], profile: profiles.Profile, recent: list[Sample]
    ) -> tuple[watch.Outcome, list[Sample]]:
        display = Display()
        host = self._task_host()
        now = time.time()
        probed_at = 0.0

        def observe(last: Sample | None, gap: float) -> list[Sample]:
            nonlocal probed_at
            args = dict(plan["sample"])
            if self._task.args.get("token"):
                args["token"] = self._task.args["token"]
            if last is not None and last.counters is not None:
                args["cursor"] = watch.plain_counters(last)
            if time.time() - probed_at < min(PROBE_EVERY, profile.interval * 4):
                args["probe_section"] = None
            else:
                probed_at = time.time()
            if gap > 0:
                args.update(times=2, gap=gap)
            return self._samples(args)

        watcher = watch.Watcher(
            task=verdict.Task(
                kind=plan["task"],
                section_ids=tuple(plan["section_ids"]),
                started_at=now,
                before=counters.from_dict(plan["before"]),
                scanned_before=plan["scanned_before"],
                window_from=recent[0].at if recent else now,
            ),
            profile=profile,
            title=plan["title"],
            observe=observe,
            act=self._act,
            emit=lambda line: display.display(f"[{host}] {line}"),
            clock=time.time,
            sleep=time.sleep,
            recorder=watch.Recorder(Path(plan["run_dir"]) / "samples.jsonl" if plan["run_dir"] else None),
            hourly_price=plan["hourly_price"],
            currency=plan["currency"],
            seed=recent,
        )
        outcome = watcher.run()
        return outcome, watcher.recent()

    def _task_host(self) -> str:
        return str(self._vars.get("inventory_hostname", "plex"))

    def _samples(self, args: dict[str, Any]) -> list[Sample]:
        try:
            result = self._execute_module(module_name=SAMPLE, module_args=args, task_vars=self._vars)
        except AnsibleConnectionFailure as error:
            self._reconnect()
            raise watch.SampleMissed(str(error).splitlines()[0][:200], {"unreachable": True}) from error
        if result.get("unreachable"):
            self._reconnect()
            raise watch.SampleMissed(str(result.get("msg", "unreachable"))[:200], result)
        if result.get("failed") or not result.get("samples"):
            raise watch.SampleMissed(str(result.get("msg", "plex_sample gave no sample"))[:200], result)
        return [Sample.from_dict(sample) for sample in result["samples"]]

    def _reconnect(self) -> None:
        """Drop a dead master connection, so that the next sample makes a new one."""
        try:
            self._connection.reset()
        except (AnsibleError, AttributeError) as error:  # local connections have no reset
            Display().vvv(f"connection reset: {error}")

    def _act(self, step: str) -> bool:
        """Carry out a verdict's step; False when it could not be."""
        steps = {
            verdict.START_AGAIN: ("again",),
            verdict.CANCEL_SCAN: ("cancel",),
            verdict.CANCEL_BUTLER: ("cancel", "again"),
            verdict.CANCEL_REFRESH: ("cancel", "again"),
        }[step]
        for name in steps:
            try:
                result = self._module(name)
            except AnsibleConnectionFailure as error:
                Display().warning(f"{self.MODULE} {name}: {error}")
                return False
            if result.get("failed"):
                Display().warning(f"{self.MODULE} {name}: {result.get('msg')}")
                return False
        return True
