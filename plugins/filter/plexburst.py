# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Filters of plexburst.core: thin wrappers of module_utils, and the check that refuses partial runs."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleError, AnsibleFilterError
from ansible_collections.plexburst.core.plugins.module_utils.host import container_updates, sizing
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import mapping, mtimes
from ansible_collections.plexburst.core.plugins.module_utils.transfer import rclone_config


def rclone_subset(text: str, remotes: list[str]) -> str:
    """Return the part of an rclone.conf for the named remotes; fails if it would not work on another machine."""
    try:
        sections = rclone_config.subset(rclone_config.parse(text), remotes)
    except rclone_config.RcloneConfError as error:
        raise AnsibleFilterError(str(error)) from error
    trouble = rclone_config.problems(sections.values())
    if trouble:
        raise AnsibleFilterError("The rclone.conf cannot be used on the indexer: " + " ".join(trouble))
    text_of_subset: str = rclone_config.render(sections.values())
    return text_of_subset


def rclone_mask(text: str, config: str) -> str:
    """Return a message of rclone with the configuration's secrets replaced by asterisks."""
    try:
        masked: str = rclone_config.mask(text, rclone_config.parse(config).values())
    except rclone_config.RcloneConfError as error:
        raise AnsibleFilterError(str(error)) from error
    return masked


def rclone_result(json_log: str) -> dict[str, Any]:
    """Return the result of `rclone sync --use-json-log`: counts, errors, and whether anything changed."""
    try:
        result = rclone_config.copy_result(json_log)
    except rclone_config.RcloneConfError as error:
        raise AnsibleFilterError(str(error)) from error
    return {
        "transfers": result.transfers,
        "deletes": result.deletes,
        "deleted_dirs": result.deleted_dirs,
        "checks": result.checks,
        "bytes": result.bytes,
        "seen": result.seen,
        "errors": list(result.errors),
        "changed": result.changed,
    }


def rclone_failures(results: list[dict[str, Any]], config: str, expect: str = "") -> list[str]:
    """Return the failures in a loop of rclone commands (with --use-json-log), one sentence per remote, masked.

    :param results: the `results` of the task; the loop variable is a mount {remote, …} or a list that begins with one.
    :param config: the rclone.conf in use, for masking.
    :param expect: `listing` = an empty listing is a failure too; `files` = a remote without files is.
    """
    sentences: list[str] = []
    for result in results:
        if result.get("skipped"):
            continue
        item = result.get(result.get("ansible_loop_var", "item"), {})
        remote = (item if isinstance(item, Mapping) else item[0])["remote"]
        # A log without statistics is valid here (a listing has none, and an old rclone warns of an unknown provider);
        # the exit code shows whether the command failed.
        log = result.get("stderr") or ""
        if result.get("rc") != 0:
            cause = rclone_config.cause(log) or str(result.get("msg") or "no message").rstrip(".")
            sentences.append(
                f"rclone could not read {remote} (exit code {result.get('rc')}): {cause}. Check the keys, "
                "endpoint and bucket of that remote in the rclone.conf, on the controller with `rclone lsd`."
            )
        elif (expect == "listing" and not (result.get("stdout") or "").strip()) or (
            expect == "files" and rclone_config.copy_result(log).seen == 0
        ):
            sentences.append(
                f"{remote} is empty. Plex would treat all files of the library as deleted, so the run stops. "
                "Check the path after the colon."
            )
    return [rclone_mask(sentence, config) for sentence in sentences]


def media_volumes(mounts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mounts {remote, path, target?} as read-only volumes {host, path, read_only} for the role plex_server."""
    return [
        {"host": mount["path"], "path": mount.get("target") or mount["path"], "read_only": True} for mount in mounts
    ]


def systemd_quote(value: Any) -> str:
    """Return a value as one quoted argument of a systemd command line, with `%`, `$`, `\\` and `"` escaped."""
    text = str(value)
    if "\n" in text:
        raise AnsibleFilterError("A systemd command line cannot contain a line break.")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def rclone_parameters(memory_mb: int, cpus: int, disk_gb: int, mounts: int = 1) -> dict[str, int]:
    """Parameters of each rclone mount of a machine (MiB, GiB); see module_utils/host/sizing.py."""
    try:
        found: dict[str, int] = sizing.rclone_parameters(int(memory_mb), int(cpus), int(disk_gb), int(mounts)).as_dict()
    except sizing.SizingError as error:
        raise AnsibleFilterError(str(error)) from error
    return found


def container_limits(memory_mb: int, cpus: int, mounts: int = 1) -> dict[str, int]:
    """Memory (MiB) and CPU limits of Plex's container that fit the machine; see module_utils/host/sizing.py."""
    try:
        found: dict[str, int] = sizing.container_limits(int(memory_mb), int(cpus), int(mounts)).as_dict()
    except sizing.SizingError as error:
        raise AnsibleFilterError(str(error)) from error
    return found


def _checked_volumes(volumes: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """(host, path, read_only) of each volume; absolute, without a colon (docker splits there)."""
    checked: list[tuple[str, str, bool]] = []
    for volume in volumes:
        host, path = str(volume.get("host", "")), str(volume.get("path", ""))
        if not host.startswith("/") or not path.startswith("/") or ":" in host + path:
            raise AnsibleFilterError(
                f"A media volume needs two absolute paths without a colon, {{host: /…, path: /…}}; found {volume!r}."
            )
        checked.append((host, path, bool(volume.get("read_only", True))))
    return checked


def volume_arguments(volumes: list[dict[str, Any]]) -> list[str]:
    """Volumes {host, path, read_only} as `--volume HOST:PATH[:ro]` arguments of a Plex process."""
    return [
        argument
        for host, path, read_only in _checked_volumes(volumes)
        for argument in ("--volume", f"{host}:{path}{':ro' if read_only else ''}")
    ]


def docker_mounts(volumes: list[dict[str, Any]]) -> list[str]:
    """Volumes {host, path, read_only} as `--mount` arguments of docker.

    --mount, since --volume makes a missing source an empty folder, which Plex would read as an empty library; rslave,
    so that what the host mounts or unmounts below the source is seen inside.
    """
    arguments: list[str] = []
    for host, path, read_only in _checked_volumes(volumes):
        fields = ["type=bind", f"source={host}", f"target={path}", "bind-propagation=rslave"]
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(fields + (["readonly"] if read_only else []))
        arguments += ["--mount", line.getvalue()]
    return arguments


def media_mounts(media: Any, folder: str) -> list[dict[str, str]]:
    """`plexburst_media` as the role rclone's mounts: each remote gets a folder below `folder`, numbered from 0.

    Args:
        media: list of {remote, path}; path is what home's Plex calls the folder.
        folder: absolute folder on the indexer.
    """
    return [
        {"remote": entry["remote"], "path": f"{folder}/{number}", "target": entry["path"]}
        for number, entry in enumerate(media)
    ]


def mapped_volumes(volumes: list[dict[str, Any]], mappings: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Volumes {host, path, read_only} under the names that the indexer's path mappings give them.

    A mapping of a folder within a volume makes a volume of its own of that folder. One that no volume covers is
    refused: the indexer would look for files where nothing is mounted.
    """
    parsed = _parsed(mappings)
    found = [{**volume, "path": parsed.apply(volume["path"])} for volume in volumes]
    for entry in parsed.entries:
        holding = [volume for volume in volumes if mapping.is_below(entry.source, volume["path"])]
        if holding:
            volume = max(holding, key=lambda volume: len(volume["path"]))
            below = entry.source[len(volume["path"].rstrip("/")) :]
            if below:
                found.append({**volume, "host": volume["host"].rstrip("/") + below, "path": entry.target})
        elif not any(mapping.is_below(volume["path"], entry.source) for volume in volumes):
            raise AnsibleFilterError(
                f"plexburst_indexer_path_mappings maps {entry.source!r}, which is not in any folder of "
                f"plexburst_media ({', '.join(volume['path'] for volume in volumes)})."
            )
    return found


def path_pairs(volumes: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Volumes {host, path, …} as {path, host}, which is all that modules want of them."""
    return [{"path": str(volume["path"]), "host": str(volume["host"])} for volume in volumes]


def mapped_paths(paths: list[str], mappings: list[dict[str, str]]) -> list[str]:
    """Paths after path mappings."""
    parsed = _parsed(mappings)
    return [parsed.apply(path) for path in paths]


def times_verdict(
    sample: list[dict[str, Any]], home: dict[str, Any], indexer: dict[str, Any], indexer_names: list[str]
) -> dict[str, list[str]]:
    """Do modification times agree? {problems, notes}, sentences each; see module_utils/plex_db/path_mapping/mtimes.py.

    :param home: what plex_file_mtimes found at home, by home's names.
    :param indexer: what it found on the indexer, by the indexer's names: `indexer_names`, in the order of the sample.
    """
    by_home = {
        entry["path"]: indexer[name] for entry, name in zip(sample, indexer_names, strict=True) if name in indexer
    }
    verdict = mtimes.judge(sample, home, by_home)
    return {"problems": verdict.problems, "notes": verdict.notes}


def _parsed(mappings: list[dict[str, str]]) -> mapping.Mappings:
    try:
        return mapping.Mappings.parse(mappings)
    except PlexDatabaseError as error:
        raise AnsibleFilterError(str(error)) from error


def docker_environment(environment: dict[str, Any]) -> list[str]:
    """A dictionary as `--env NAME=value` arguments of docker, sorted by name."""
    return [argument for name in sorted(environment) for argument in ("--env", f"{name}={environment[name]}")]


def run_group(run_id: str) -> str:
    """The inventory group of a run's indexer: `plexburst_run_<id>`, with underscores (group names have no dashes)."""
    if not isinstance(run_id, str) or not run_id.strip():
        raise AnsibleFilterError("run_group needs a run id such as 20261122-071500-ab12, but got none.")
    return "plexburst_run_" + run_id.strip().replace("-", "_")


def partial_run_reasons(cliargs: Mapping[str, Any]) -> list[str]:
    """The options of this ansible-playbook call that would skip part of the run, each with what it would skip."""
    reasons: list[str] = []
    if cliargs.get("subset"):
        reasons.append(f"--limit {cliargs['subset']} skips the plays that release the instance and resume home")
    tags = [tag for tag in cliargs.get("tags") or () if tag != "all"]
    if tags:
        reasons.append(f"--tags {','.join(sorted(tags))} runs only some tasks, without the checks")
    skipped = list(cliargs.get("skip_tags") or ())
    if skipped:
        reasons.append(f"--skip-tags {','.join(sorted(skipped))} skips tasks, perhaps also checks")
    if cliargs.get("start_at_task"):
        reasons.append(f"--start-at-task '{cliargs['start_at_task']}' skips all tasks before it, including the checks")
    return reasons


def whole_run(value: Any) -> Any:
    """Return the input if the whole playbook runs; fail if options would skip the checks or the release.

    Used in a play's `hosts:`, which is evaluated whatever the tags are; a task of its own could be skipped by the very
    options it is there to refuse.
    """
    reasons = partial_run_reasons(context.CLIARGS)
    if reasons:
        raise AnsibleFilterError(
            "This playbook cannot run in part, because that could leave a paid instance running or home's maintenance "
            f"paused: {'; '.join(reasons)}. Remove the option (and a job template's Limit and Tags). "
            "To restrict the work, use plexburst_sections."
        )
    return value


def run_hosts(variables: Any) -> str:
    """Return the pattern of a stage that works on the indexer: the group of this run's indexer, and localhost.

    Used in a play's `hosts:`. Before a run has begun, and when a playbook is only parsed, the group does not exist.

    :param variables: hostvars, or an empty dict where it is not defined.
    """
    try:
        group = variables["localhost"]["run_group"]
    except (KeyError, AnsibleError):
        group = "plexburst_no_run"
    return f"{group}:localhost"


def self_update(asked: Mapping[str, Any], container: str, version: str = "") -> str:
    """A warning when home's container updates its Plex at each start, else an empty text; fails without a container.

    :param asked: the result of `docker container inspect` in roles/plex_server/tasks/updates.yml, or a skipped one.
    :param version: the version that home runs, which is the tag to pin.
    """
    if asked.get("skipped"):
        return ""
    if asked.get("rc") != 0:
        said = str(asked.get("stderr") or asked.get("msg") or "no message").strip()
        raise AnsibleFilterError(
            f"Expected a container named {container} with home's Plex; docker reports: {said}. Set "
            "plexburst_home_container to a name of `docker ps --all` at home, and use a login that may run docker."
        )
    words: str = container_updates.warning(str(asked["stdout"]), container, version)
    return words


class FilterModule:
    """The filters of plexburst.core."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name → function, as Ansible wants it."""
        return {
            "container_limits": container_limits,
            "docker_environment": docker_environment,
            "docker_mounts": docker_mounts,
            "mapped_paths": mapped_paths,
            "mapped_volumes": mapped_volumes,
            "media_mounts": media_mounts,
            "media_volumes": media_volumes,
            "path_pairs": path_pairs,
            "rclone_failures": rclone_failures,
            "rclone_mask": rclone_mask,
            "rclone_parameters": rclone_parameters,
            "rclone_result": rclone_result,
            "rclone_subset": rclone_subset,
            "run_group": run_group,
            "run_hosts": run_hosts,
            "self_update": self_update,
            "systemd_quote": systemd_quote,
            "times_verdict": times_verdict,
            "volume_arguments": volume_arguments,
            "whole_run": whole_run,
        }
