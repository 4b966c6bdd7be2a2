# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Runs a playbook of the project from Python, through ansible-runner.

    from plexburst.runner import run
    ended = run("delta_sync.yml", "inventory/sandbox", {"plexburst_sections": ["Music"]}, event_handler=print)
    print(ended.status, ended.summary["cost"])

ansible-runner writes the whole environment and everything that happens into its folder; here that is a private
temporary one, which is removed again. What is to be kept is in the run folder. No process of Ansible outlives its run
(processes.py).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ansible_runner

from plexburst import processes
from plexburst.collection import PROJECT, make_importable

make_importable()

from ansible_collections.plexburst.core.plugins.module_utils.masking import Masker  # noqa: E402

Event = dict[str, Any]
"""An event as ansible-runner gives it; a progress line is one with ``event: verbose`` and the line in ``stdout``."""

LOG = logging.getLogger(__name__)
SOCKET_BYTES = 104 - len("/0123456789") - len(".0123456789abcdef")
"""A socket's path ends at 104 bytes on some systems; Ansible adds a name to the folder, and ssh one while it binds."""

CUT_SHORT = ("canceled", "timeout")
"""How a run ends that was stopped: nothing of it came after that, so an instance may still be there."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A playbook that ended.

    ``rc``: exit code of ansible-playbook, 254 when it was stopped. ``status``: ansible-runner's word (successful,
    failed, canceled, timeout). ``run_dir`` and ``summary`` (summary.json): None when the run did not get that far.
    ``released``: None unless the run was stopped; then whether reap.yml removed what it had made.
    ``running``: ids of processes of the run that could not be ended; None where that cannot be seen (no /proc: macOS).
    """

    rc: int
    status: str
    run_dir: Path | None
    summary: dict[str, Any] | None
    released: bool | None = None
    running: tuple[int, ...] | None = ()


def run(
    playbook: str | Path,
    inventory: str | Path,
    extravars: Mapping[str, Any] | None = None,
    *,
    event_handler: Callable[[Event], Any] | None = None,
    arguments: Sequence[str] = (),
    timeout: int | None = None,
    cancel: Callable[[], bool] | None = None,
    release: bool = True,
) -> Ended:
    """Run a playbook to its end and tell how it went.

    ``playbook`` and ``inventory`` are paths, relative ones to the working directory or else to the project.
    ``extravars`` are settings; a secret is never among them, only the path of a file that holds it (ValueError
    otherwise). ``arguments`` are further ones for ansible-playbook, such as ``--check``. ``event_handler`` gets every
    event as it happens. ``timeout`` in seconds; ``cancel`` is asked all the time whether to stop; in the main thread
    SIGTERM and Ctrl-C stop the run as well. A stopped ansible-playbook runs nothing more, and its processes are ended;
    with ``release`` what the run made in the cloud is then removed by reap.yml; home thaws with its next run.
    Raises FileNotFoundError for a playbook or inventory that does not exist.
    """
    variables = _checked(extravars or {})
    path, hosts = _found(playbook, "playbook"), _found(inventory, "inventory")
    ended = _run(path, hosts, variables, event_handler, arguments=arguments, timeout=timeout, cancel=cancel)
    if ended.status not in CUT_SHORT or ended.run_dir is None or not release or "--check" in arguments:
        return ended
    reap = {**variables, "plexburst_reap_run_id": ended.run_dir.name}
    reaped = _run(PROJECT / "reap.yml", hosts, reap, event_handler, cancel=lambda: False)
    return replace(ended, released=reaped.rc == 0)


def _checked(extravars: Mapping[str, Any]) -> dict[str, Any]:
    masker = Masker(value for name, value in os.environ.items() if name in ("SCW_SECRET_KEY", "PLEX_TOKEN"))
    for name, value in extravars.items():
        text = f"{name}={json.dumps(value)}"
        if masker.text(text) != text:
            raise ValueError(
                f"The variable {name} holds a secret. Expected the path of a file that holds it (mode 0600): "
                "variables are seen in logs and by templates."
            )
    return dict(extravars)


def _found(given: str | Path, what: str) -> Path:
    for path in (Path(given).expanduser(), PROJECT / given):
        if path.exists():
            return path.absolute()
    raise FileNotFoundError(f"The {what} {given} was found neither in {Path.cwd()} nor in {PROJECT}.")


def _run(
    playbook: Path,
    inventory: Path,
    extravars: Mapping[str, Any],
    event_handler: Callable[[Event], Any] | None,
    *,
    arguments: Sequence[str] = (),
    timeout: int | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Ended:
    run_dir: Path | None = None

    def handle(event: Event) -> Any:
        nonlocal run_dir
        data = event.get("event_data") or {}
        if event.get("event") == "runner_on_ok" and str(data.get("task_action", "")).endswith("run_begin"):
            run_dir = Path(data["res"]["run_dir"])
        # False would keep ansible-runner from writing the event down, and nobody reads that.
        return event_handler(event) if event_handler is not None else False

    with tempfile.TemporaryDirectory(prefix="plexburst-") as private, _signals_kept():
        given = Path(private) / "extravars.json"
        with os.fdopen(os.open(given, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            json.dump(dict(extravars), stream)
        try:
            runner = ansible_runner.run(
                private_data_dir=private,
                playbook=str(playbook),
                inventory=str(inventory),
                # A file, not `extravars`: those would be seen in the list of processes.
                cmdline=shlex.join(["-e", f"@{given}", *arguments]),
                envvars=_environment(Path(private)),
                suppress_env_files=True,
                quiet=True,
                event_handler=handle,
                cancel_callback=cancel,
                timeout=timeout,
            )
        finally:
            running = processes.end(Path(private))
        rc, status = int(runner.rc), str(runner.status)
    if running is None and status in CUT_SHORT:
        LOG.warning(
            "This system has no /proc, so processes that the stopped run left behind were not looked for. Look for "
            "ansible-playbook in the list of processes and end it: it goes on watching."
        )
    elif running:
        LOG.warning("Processes of the run could not be ended: %s. End them by hand.", ", ".join(map(str, running)))
    return Ended(rc, status, run_dir, _summary(run_dir), running=running)


def _environment(private: Path) -> dict[str, str]:
    """What is set for ansible-playbook; its mark, and sockets of its own, tell which processes are this run's."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        processes.MARK: str(private),
    }
    sockets = private / "ssh"
    if len(os.fsencode(sockets)) <= SOCKET_BYTES:
        # Otherwise they are in Ansible's own folder, shared with others, and their masters end after an idle minute.
        variables["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(sockets)
    return variables


def _summary(run_dir: Path | None) -> dict[str, Any] | None:
    if run_dir is None or not (run_dir / "summary.json").is_file():
        return None
    loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return loaded


@contextmanager
def _signals_kept() -> Iterator[None]:
    """ansible-runner takes SIGTERM and SIGINT in the main thread and does not give them back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
