# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Run a playbook of the project from Python, with ansible-runner.

    from plexburst.runner import run
    ended = run("delta_sync.yml", "inventory/sandbox", {"plexburst_sections": ["Music"]}, event_handler=print)
    print(ended.status, ended.summary["cost"])

ansible-runner writes the whole environment and all events to its folder, so a private temporary folder is used and
removed. Results are in the run folder. All processes of a run are ended with it (processes.py).
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

from ansible_collections.plexburst.core.plugins.module_utils.run.masking import Masker  # noqa: E402

Event = dict[str, Any]
"""An event of ansible-runner; a progress line has ``event: verbose`` and the line in ``stdout``."""

LOG = logging.getLogger(__name__)
SOCKET_BYTES = 104 - len("/0123456789") - len(".0123456789abcdef")
"""A socket's path is limited to 104 bytes on some systems; Ansible and ssh append names to the folder."""

CUT_SHORT = ("canceled", "timeout")
"""Status of a stopped run: its later tasks did not run, so an instance may still exist."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The result of a playbook.

    ``rc``: exit code of ansible-playbook, 254 when it was stopped. ``status``: ansible-runner's status (successful,
    failed, canceled, timeout). ``run_dir`` and ``summary`` (summary.json): None when the run ended before these were
    written. ``released``: None unless the run was stopped; then whether reap.yml removed its resources.
    ``running``: ids of processes of the run that could not be ended; None if unknown (no /proc: macOS).
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
    """Run a playbook and return its result.

    ``playbook`` and ``inventory`` are paths, relative to the working directory or else to the project. ``extravars``
    are settings and must not contain secrets, only paths of files with secrets (else ValueError). ``arguments`` are
    further arguments of ansible-playbook, such as ``--check``. ``event_handler`` is called with each event. ``timeout``
    in seconds; ``cancel`` is called repeatedly and returns whether to stop; in the main thread SIGTERM and Ctrl-C stop
    the run as well. The processes of a stopped ansible-playbook are ended; with ``release``, reap.yml then removes the
    run's cloud resources. Home's maintenance is resumed by the next run.

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
                f"The variable {name} contains a secret. Expected the path of a file (mode 0600) that contains it, "
                "because variables appear in logs and templates."
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
        # False would keep ansible-runner from writing the event to its folder, which is not used.
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
                # A file, because `extravars` would appear in the list of processes.
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
            "This system has no /proc, so the processes of the stopped run could not be found. End ansible-playbook in "
            "the list of processes, because it continues to watch."
        )
    elif running:
        LOG.warning("Processes of the run could not be ended: %s. End them manually.", ", ".join(map(str, running)))
    return Ended(rc, status, run_dir, _summary(run_dir), running=running)


def _environment(private: Path) -> dict[str, str]:
    """Return ansible-playbook's environment; its mark and its own sockets identify the run's processes."""
    variables = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        processes.MARK: str(private),
    }
    sockets = private / "ssh"
    if len(os.fsencode(sockets)) <= SOCKET_BYTES:
        # By default they are in Ansible's folder, shared with other runs, and their masters end after an idle minute.
        variables["ANSIBLE_SSH_CONTROL_PATH_DIR"] = str(sockets)
    return variables


def _summary(run_dir: Path | None) -> dict[str, Any] | None:
    if run_dir is None or not (run_dir / "summary.json").is_file():
        return None
    loaded: dict[str, Any] = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    return loaded


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore SIGTERM and SIGINT, which ansible-runner changes in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
