"""The layer between Ansible and module_utils/plex: common options, the client, errors as results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .api import preferences, sections
from .api.client import PlexClient
from .errors import CountersBusy, CountersError, PlexError, PlexMaintenance, ProcessScopeError, TokenMissing
from .observe import counters, mount_probe, processes
from .observe.sample import Counters, MountProbe, Sample

TOKEN_WAIT = 10.0
"""Seconds to wait for a claimed server's token in Preferences.xml; plex_wait_ready waits up to its deadline."""


def connection_spec() -> dict[str, Any]:
    """Options of every module that connects to a Plex server."""
    return {
        "base_url": {"type": "str", "required": True},
        "token": {"type": "str", "no_log": True},
        "preferences_file": {"type": "path"},
        "timeout": {"type": "float", "default": 30.0},
    }


def mount_spec() -> dict[str, Any]:
    """Options for the location of a section's files on this machine, and for probing them."""
    return {
        "database_dir": {"type": "path", "required": True},
        "path_map": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {"path": {"type": "str", "required": True}, "host": {"type": "path", "required": True}},
        },
        "probe_count": {"type": "int", "default": 12},
        "probe_timeout": {"type": "float", "default": 60.0},
        "max_missing_percent": {"type": "float", "default": 50.0},
    }


STEPS = ("alone", "start", "again", "cancel", "finish")


def watch_spec(*steps: str) -> dict[str, Any]:
    """Options of the modules that an action plugin watches. `step` is set by the plugin; `steps` are further values."""
    return {
        "scope": {"type": "dict", "required": True},
        "profile": {"type": "str", "default": "cloud_standard"},
        "profile_overrides": {"type": "dict", "default": {}},
        "run_dir": {"type": "str"},
        "hourly_price": {"type": "float", "default": 0.0},
        "currency": {"type": "str", "default": "EUR"},
        "checkpoint": {"type": "dict", "default": {}},
        "settle": {"type": "bool", "default": True},
        "step": {"type": "str", "default": "alone", "choices": [*STEPS, *steps]},
        "since": {"type": "float", "default": 0.0},
    }


def make_client(params: dict[str, Any], *, need_token: bool = True) -> PlexClient:
    """Return the client for the common options; the token is read from preferences_file if not given.

    Raises TokenMissing when the server is claimed, a file was given, and no token appears in it in time.
    """
    client = PlexClient(params["base_url"], params.get("token") or "", timeout=params["timeout"])
    path = params.get("preferences_file")
    if client.token or not path or not need_token:
        return client
    end = time.monotonic() + TOKEN_WAIT
    while not client.token:
        client.token = preferences.read_token(path)
        if client.token or not client.identity().claimed:
            break
        if time.monotonic() >= end:
            raise TokenMissing(
                f"The server at {client.base_url} is claimed, but {path} contains no PlexOnlineToken. Check the path. "
                "After a claim the token appears seconds later (plex_wait_ready waits for it)."
            )
        time.sleep(0.5)
    return client


def probe_section(params: dict[str, Any], section_id: int, *, count: int | None = None) -> MountProbe:
    """Probe the mount with real files of one section, different ones at each call."""
    databases = Path(params["database_dir"])
    paths = mount_probe.PathMap.of(params["path_map"])
    files = counters.section_files(
        databases, section_id, limit=count or params["probe_count"], seed=int(time.time() * 1000) % 1_000_003
    )
    roots = counters.locations(databases, section_id)
    return mount_probe.probe(
        [paths.host(name) for name in files],
        [paths.host(name) for name in roots],
        time_limit=params["probe_timeout"],
        max_missing_percent=params["max_missing_percent"],
    )


def sample_args(params: dict[str, Any], section_ids: list[int], probe_section_id: int | None) -> dict[str, Any]:
    """Return the arguments of plex_sample for the same server and sections."""
    names = (
        "base_url",
        "token",
        "preferences_file",
        "timeout",
        "scope",
        "database_dir",
        "path_map",
        "probe_count",
        "probe_timeout",
        "max_missing_percent",
    )
    wanted = {name: params[name] for name in names if params.get(name) is not None}
    return {**wanted, "sections": section_ids, "probe_section": probe_section_id}


def observe(params: dict[str, Any]) -> Sample:
    """Return one sample with plex_sample's options. Failed sources are named in the sample."""
    databases = Path(params["database_dir"])
    values: dict[str, Any] = {"at": time.time(), "answered": False}
    _observe_api(params, values)
    _observe_processes(params["scope"], values)
    try:
        values["counters"] = (
            counters.read(databases, params["sections"], previous=counters.from_dict(params["cursor"]))
            if params["sections"]
            else None
        )
    except CountersError as error:
        values["counters_error"] = error.message
        values["counters_busy"] = isinstance(error, CountersBusy)
    # The probe needs file paths from the database, and the counters have just waited for a busy one.
    if params["probe_section"] is not None and not values.get("counters_busy"):
        try:
            values["mount"] = probe_section(params, params["probe_section"])
        except CountersError as error:
            values["counters_error"] = values.get("counters_error") or error.message
            values["counters_busy"] = isinstance(error, CountersBusy)
    space = os.statvfs(databases)
    values["disk_free_bytes"] = space.f_bavail * space.f_frsize
    try:
        values["wal_bytes"] = (databases / f"{counters.LIBRARY}-wal").stat().st_size
    except FileNotFoundError:
        values["wal_bytes"] = 0  # a missing WAL file counts as 0 bytes
    return Sample(**values)


def _observe_api(params: dict[str, Any], values: dict[str, Any]) -> None:
    try:
        client = make_client(params)
        values["activities"] = tuple(sections.list_activities(client, retries=0))
        values["sections"] = tuple(section.state() for section in sections.list_sections(client, retries=0))
        if params["api_count"]:
            values["api_total"] = sum(sections.track_total(client, section) for section in params["sections"])
    except PlexMaintenance as error:
        values.update(http_status=503, maintenance=str(error.details.get("body", "")), problem=error.message)
    except PlexError as error:
        values.update(http_status=int(error.details.get("http_status", 0)), problem=error.message)
    else:
        values.update(answered=True, http_status=200)


def _observe_processes(scope: dict[str, Any], values: dict[str, Any]) -> None:
    try:
        tree = processes.tree(scope)
    except ProcessScopeError as error:
        values["processes_error"] = error.message
        return
    values["processes"] = tree.processes
    server = tree.server
    if server is not None:
        values.update(server_pid=server.pid, server_started=server.started)
    if tree.container is not None:
        values.update(restarts=tree.container.restarts, oom_killed=tree.container.oom_killed)


def watch_plan(
    params: dict[str, Any],
    *,
    task: str,
    title: str,
    section_ids: list[int],
    section_type: str,
    before: Counters | None,
    scanned_before: int = 0,
    probe_section_id: int | None = None,
) -> dict[str, Any]:
    """Return what the action plugin needs for watching: plain data, with the module's validated values."""
    return {
        "task": task,
        "title": title,
        "section_ids": section_ids,
        "section_type": section_type,
        "before": None if before is None else asdict(before),
        "scanned_before": scanned_before,
        "profile": params["profile"],
        "profile_overrides": params["profile_overrides"],
        "run_dir": params["run_dir"],
        "hourly_price": params["hourly_price"],
        "currency": params["currency"],
        "settle": params["settle"],
        "cpus": os.cpu_count() or 0,
        # the token is not repeated in a result; the plugin adds it from the task's own arguments
        "sample": {
            **{k: v for k, v in sample_args(params, section_ids, probe_section_id).items() if k != "token"},
            "api_count": task == "sonic",
        },
    }


def refuse_alone(params: dict[str, Any], name: str) -> None:
    """Fail if the module runs without its action plugin, because the task would not be watched."""
    if params["step"] == "alone":
        raise PlexError(
            f"The action plugin of {name} was not found, so the task was not started: it would not be watched. "
            f"Call it as plexburst.core.{name} from a playbook that finds the collection (the top-level playbooks do)."
        )


def run(module: AnsibleModule, work: Callable[[AnsibleModule], dict[str, Any]]) -> None:
    """Run the module; a PlexError becomes a failed result with its message and details."""
    try:
        result = work(module)
    except PlexError as error:
        details = {key: value for key, value in error.details.items() if key not in ("failed", "changed", "msg")}
        module.fail_json(msg=error.message, error=type(error).__name__, **details)
    module.exit_json(**result)
