"""Watched tasks of the action plugins: start with a short module call, sample in a loop, finish with another call.

A lost connection costs one sample; only after the profile's `missed_after` seconds is the host unreachable.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.checkpoint.schedule import Checkpoints
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import counters
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import WORKER_KINDS, Sample
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles, verdict
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import watcher as watch
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolderError

from . import checkpoint_host, connection_files

SAMPLE = "plexburst.core.plex_sample"
PROBE_EVERY = 2.0
"""Minimum seconds between two probes of the mount; a profile with a longer interval probes with every sample."""

LONG = ("analyse", "sonic")
"""Tasks during which checkpoints are created."""

RESTING_LOOKS = 4
"""Minimum number of samples before Plex's workers are reported as still running."""

NEXT = {
    "mount_dead": "Home was not changed. Check rclone's log (logs/ of the run folder) and the connection to the "
    "remote, then run again. (With plex_indexing_remount_tasks, the role plex_indexing mounts again once per "
    "library.)",
    "plex_silent": "Plex ended or hangs. Check its log (logs/ of the run folder); use a larger instance type if "
    "memory ran out. Then run again.",
    "plex_restarting": "Check Plex's log (logs/ of the run folder); only it reports a damaged database. Home's "
    "database was not changed.",
    "disk_full": "Home was not changed. Give the indexer a larger disk (plexburst_volume_size_gb), or free disk space "
    "on an existing host, then run again.",
    "unreachable": "Check the instance's console, if it still exists, and the connection; then run again.",
    "timeout": "Run again to continue, or choose a profile with a longer timeout (plexburst_profile).",
}
"""Advice by reason, where the verdict's own advice tells what was done instead of what to do."""


class WatchedAction(ActionBase):  # type: ignore[misc]  # ansible has no types
    """Base class of plex_scan, plex_analyze and plex_sonic. MODULE starts, cancels and finishes the task."""

    MODULE = ""
    _supports_check_mode = True
    _supports_async = False  # with async, a looping plugin would report success at once
    _requires_connection = True
    _checkpoints: Checkpoints | None = None

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start, watch and finish the task."""
        super().run(tmp, task_vars)
        self._vars = task_vars or {}
        started = self._module("start")
        plan = started.pop("watch", None)
        if started.get("failed") or started.get("unreachable") or plan is None:
            started.pop("nothing_to_do", None)
            return self._refused(started, plan)
        if self._task.check_mode:
            return started
        try:
            profile = profiles.resolve(plan["profile"], plan["task"], plan["section_type"], plan["profile_overrides"])
            self._checkpoints = self._checkpoints_wanted()
        except (RunFolderError, ValueError) as error:
            return {"failed": True, "msg": str(error)}
        for note in started.pop("notes", []):
            Display().display(f"[{self._task_host()}] {plan['task']} {plan['title']}: {note}")
        outcome, recent = self._watch(plan, profile, [])
        result: dict[str, Any] = {**started, "watched": outcome.plain()}
        if outcome.lost is not None:
            return {**result, **self._lost(outcome)}
        if outcome.verdict.reason == "mount_dead":
            result["at_rest"] = self._wait_for_rest(plan, profile)
        outcome, recent = self._follow(plan, profile, result, outcome, recent)
        if outcome.lost is not None:
            return {**result, **self._lost(outcome)}
        if plan["settle"] and outcome.verdict.state in (verdict.COMPLETE, verdict.IDLE):
            settled = self._settle(plan, recent)
            result["settled"] = settled.plain()
        finished = self._module("finish", since=self._task.args.get("since") or float(started.get("began", 0.0)))
        if finished.get("mount_sick") and "at_rest" not in result:
            result["at_rest"] = self._wait_for_rest(plan, profile)
        result = self._result(result, outcome, finished, profile)
        self._bring_to_safety(plan["task"], failed=bool(result.get("failed")), mount_died="at_rest" in result)
        return result

    @staticmethod
    def _lost(outcome: watch.Outcome) -> dict[str, Any]:
        """Return the result for a host that was unreachable for too long."""
        told = {"unreachable": True, "msg": outcome.verdict.advice, "advice": NEXT["unreachable"]}
        return {**(outcome.lost or {}), **told}

    def _refused(self, started: dict[str, Any], plan: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the result of a failed start.

        If the start was refused because of a dead mount (it has a plan), the result says whether the mount may be
        touched, as for a mount that dies later.
        """
        if plan is None or not started.get("failed") or self._task.check_mode:
            return started
        try:
            profile = profiles.resolve(plan["profile"], plan["task"], plan["section_type"], plan["profile_overrides"])
        except ValueError as error:
            return {**started, "msg": f"{started.get('msg', '')} {error}".strip()}
        return {**started, "at_rest": self._wait_for_rest(plan, profile), "advice": NEXT["mount_dead"]}

    def _checkpoints_wanted(self) -> Checkpoints | None:
        """Return the checkpoints of this task, None without the option."""
        option, run_dir = self._task.args.get("checkpoint"), self._task.args.get("run_dir")
        wanted = checkpoint_host.Wanted.of(option) if option and run_dir else None
        if wanted is None:
            return None
        host = checkpoint_host.IndexerHost(
            wanted,
            databases=str(self._task.args["database_dir"]),
            owner=str(self._get_remote_user() or "") if self._connection.become else "",
            call=lambda args: self._execute_module(
                module_name=checkpoint_host.MODULE, module_args=args, task_vars=self._vars
            ),
            fetch=lambda source, target: connection_files.move(
                self._connection, self._connection.fetch_file, source, str(target)
            ),
            clock=time.time,
            sleep=time.sleep,
        )

        def emit(line: str) -> None:
            Display().display(f"[{self._task_host()}] {line}")

        return checkpoint_host.checkpoints(wanted, host, str(run_dir), emit, time.time)

    def _bring_to_safety(self, task: str, *, failed: bool, mount_died: bool) -> None:
        """Download a due checkpoint between two steps; after a failed analysis, download one in any case.

        Not after a mount failure, which may have damaged the library; nor after a successful Sonic analysis, because it
        is the last step and its result is downloaded anyway.
        """
        if self._checkpoints is None:
            return
        if task in LONG and failed and not mount_died:
            self._checkpoints.between(anyway=True)
        elif task != "sonic" and not failed:
            self._checkpoints.between()
        self._checkpoints.leave()

    def _follow(
        self,
        plan: dict[str, Any],
        profile: profiles.Profile,
        result: dict[str, Any],
        outcome: watch.Outcome,
        recent: list[Sample],
    ) -> tuple[watch.Outcome, list[Sample]]:
        """Return a later outcome, after further steps of a plugin; it may add to `result`."""
        del plan, profile, result
        return outcome, recent

    def _wait_for_rest(self, plan: Mapping[str, Any], profile: profiles.Profile) -> bool:
        """Wait after a mount failure until no worker of Plex runs, because remounting under I/O has hung machines.

        Returns False when workers still run at the end of the profile's time; then the mount must not be touched.
        """
        display, host = Display(), self._task_host()
        end = time.time() + min(profile.stall_after, 900.0)
        args = {**plan["sample"], "probe_section": None, "api_count": False}
        if self._task.args.get("token"):
            args["token"] = self._task.args["token"]
        quiet = looks = 0
        # A minimum number of samples: on a slow connection one sample may take longer than a short profile waits.
        while time.time() < end or looks < RESTING_LOOKS:
            looks += 1
            try:
                sample = self._samples(dict(args))[-1]
            except watch.SampleMissed as missed:
                display.display(f"[{host}] waiting for Plex's workers to end: sample missed ({missed})")
                time.sleep(min(profile.interval, 5.0))
                continue
            busy = [process.kind for process in sample.of_kind(*WORKER_KINDS)]
            quiet = 0 if busy or sample.processes_error else quiet + 1
            if quiet >= 2:
                display.display(f"[{host}] no worker of Plex runs any more; the mount can be touched")
                return True
            if busy:
                display.display(f"[{host}] waiting for {', '.join(sorted(set(busy)))} to end")
            time.sleep(min(profile.interval, 5.0))
        return False

    def _result(
        self, result: dict[str, Any], outcome: watch.Outcome, finished: dict[str, Any], profile: profiles.Profile
    ) -> dict[str, Any]:
        """Return the task's result; a verdict other than complete or idle fails with its advice."""
        del profile
        bad = outcome.verdict.state not in (verdict.COMPLETE, verdict.IDLE)
        merged = {**result, **{key: value for key, value in finished.items() if key != "invocation"}}
        merged["changed"] = self._counted(merged.get("before")) != self._counted(merged.get("after"))
        # Report also what finish found, such as unexpected items in the trash.
        words = [self._words(outcome)] if bad else []
        words += [merged.get("msg", "")] if merged.get("failed") else []
        dead = outcome.verdict.reason == "mount_dead" or bool(merged.get("mount_sick"))
        if dead:
            words.append(
                "No worker of Plex runs any more, so the remote can be mounted again."
                if result.get("at_rest")
                else "Workers of Plex still run. Do not touch the mount before they have ended."
            )
        if words:
            advice = NEXT["mount_dead"] if dead else self._advice(outcome)
            merged.update(failed=True, msg=" ".join(filter(None, words)), advice=advice)
        return merged

    @staticmethod
    def _counted(counts: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the counts without the fields that change with every count."""
        return {key: value for key, value in (counts or {}).items() if key not in ("signature", "seconds")}

    def _words(self, outcome: watch.Outcome) -> str:
        reason = outcome.verdict.reason.replace("_", " ")
        advice = outcome.verdict.advice
        if (
            outcome.verdict.next_step == verdict.START_AGAIN
        ):  # the step was not taken: it was done as often as the profile allows
            advice = advice.replace("is started again", f"was started again {outcome.task.restarts} times")
        return f"{outcome.task.kind} is {outcome.verdict.state.replace('_', ' ')}: {reason}. {advice}"

    def _advice(self, outcome: watch.Outcome) -> str:
        """Return the next step after a failure, as one line."""
        return NEXT.get(outcome.verdict.reason, outcome.verdict.advice)

    def _module(self, step: str, **more: Any) -> dict[str, Any]:
        args = {**self._arguments(step), "step": step, **more}
        return dict(self._execute_module(module_name=self.MODULE, module_args=args, task_vars=self._vars))

    def _arguments(self, step: str) -> dict[str, Any]:
        """Return the module's arguments for one step of the task."""
        del step
        return {key: value for key, value in self._task.args.items() if key != "checkpoint"}

    def _keep(self, name: str, key: str, value: Any) -> str:
        """Write `value` under `key` to RUN_DIR/NAME, a JSON object of mode 0600; returns its path, '' without a run."""
        folder = self._task.args.get("run_dir")
        if not folder:
            return ""
        path = Path(str(folder)) / name
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            held = {}
        partial = path.with_name(f".{name}.partial")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump({**held, key: value}, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
        partial.replace(path)
        return str(path)

    def _settle(self, plan: Mapping[str, Any], recent: list[Sample]) -> watch.Outcome:
        """Wait until the server is calm; a timeout is reported and does not fail."""
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
            batch = self._samples(args)
            self._look(plan, profile, batch)
            return batch

        work = self._checkpoints if plan["task"] != "stabilise" else None

        def between(sample: Sample, seconds: float) -> None:
            count = checkpoint_host.progress_of(sample.counters)
            if work is not None and count is not None:
                work.look(count, seconds)

        if work is not None:
            work.begin(checkpoint_host.progress_of(counters.from_dict(plan["before"])))
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
            act=lambda step: self._act(step, plan["task"]),
            emit=lambda line: display.display(f"[{host}] {line}"),
            clock=time.time,
            sleep=time.sleep,
            recorder=watch.Recorder(Path(plan["run_dir"]) / "samples.jsonl" if plan["run_dir"] else None),
            hourly_price=plan["hourly_price"],
            currency=plan["currency"],
            seed=recent,
            # Not during a scan, where a dead mount must be detected within two samples.
            between=between if work is not None and plan["task"] in LONG else None,
        )
        outcome = watcher.run()
        if work is not None:
            reached = None if outcome.last is None else checkpoint_host.progress_of(outcome.last.counters)
            if reached is not None:
                work.saw(reached)
            work.end()
        return outcome, watcher.recent()

    def _look(self, plan: Mapping[str, Any], profile: profiles.Profile, batch: list[Sample]) -> None:
        """Handle each sample; overridden by plugins."""

    def _task_host(self) -> str:
        return str(self._vars.get("inventory_hostname", "plex"))

    def _samples(self, args: dict[str, Any]) -> list[Sample]:
        try:
            result = self._execute_module(module_name=SAMPLE, module_args=args, task_vars=self._vars)
        except AnsibleConnectionFailure as error:
            connection_files.reconnect(self._connection)
            raise watch.SampleMissed(str(error).splitlines()[0][:200], {"unreachable": True}) from error
        if result.get("unreachable"):
            connection_files.reconnect(self._connection)
            raise watch.SampleMissed(str(result.get("msg", "unreachable"))[:200], result)
        if result.get("failed") or not result.get("samples"):
            raise watch.SampleMissed(str(result.get("msg", "plex_sample returned no sample"))[:200], result)
        return [Sample.from_dict(sample) for sample in result["samples"]]

    def _act(self, step: str, task: str) -> bool:
        """Carry out a verdict's step; returns False if that failed. A wait for calm cannot be started again."""
        steps = {
            verdict.START_AGAIN: ("again",),
            verdict.CANCEL_SCAN: ("cancel",),
            verdict.CANCEL_BUTLER: ("cancel", "again"),
            verdict.CANCEL_REFRESH: ("cancel", "again"),
        }[step]
        for name in steps[:1] if task == "stabilise" else steps:
            try:
                result = self._module(name)
            except AnsibleConnectionFailure as error:
                Display().warning(f"{self.MODULE} {name}: {error}")
                return False
            if result.get("failed"):
                Display().warning(f"{self.MODULE} {name}: {result.get('msg')}")
                return False
        return True
