"""Start the job as its own process, from a copy of its code, and report its state."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..plex_db.errors import PlexDatabaseError
from . import job
from .record import CODE, ENDED, LOG, Record

PACKAGE = "plexburst_home"
"""Package name of the copy."""
COPIED = ("home_job", "plex_db", "text")
"""What the job imports of module_utils."""

_OURS = __name__.rpartition(".home_job.")[0] + "."
_START = (
    "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
    f"from {PACKAGE}.home_job.job import main; sys.exit(main(Path(sys.argv[2]), sys.argv[3]))"
)


def start(record: Record, job_id: str, spec: dict[str, Any]) -> None:
    """Start the job; a second call with the same id does nothing.

    :raises PlexDatabaseError: another job is running, or was interrupted and is not recovered.
    """
    if record.exists():
        known = record.read()
        if known.get("job_id") == job_id:
            return
        if record.alive():
            raise PlexDatabaseError(
                f"The {known['what']} of run {known['run_id']} is running at home (step {known['step']}). Wait until "
                "it has ended, then run the playbook again."
            )
        if known["state"] != ENDED:
            raise PlexDatabaseError(
                f"The {known['what']} of run {known['run_id']} was interrupted at home (step {known['step']}) and is "
                "not recovered. Run the playbook again; it recovers the job first."
            )
    about = {"job_id": job_id, "what": spec["what"], "run_id": spec["run_id"]}
    try:
        with record.lock() as descriptor:
            record.begin(spec, about)
            _launch(record, job.WINDOW, descriptor)
    except BlockingIOError:
        raise PlexDatabaseError(
            f"Another process has just started a job in {record.folder}. Run the playbook again."
        ) from None


def settle(record: Record, commands: dict[str, Any]) -> bool:
    """Recover a killed job; False if there is none or if it is running.

    :param commands: the current commands to stop and start Plex; those in the record may be from another inventory.
    """
    try:
        with record.lock() as descriptor:
            if not record.exists() or record.read()["state"] == ENDED:
                return False
            record.write_spec({**record.spec(), "commands": commands})
            _launch(record, job.SETTLE, descriptor)
    except BlockingIOError:
        return False
    return True


def look(record: Record) -> dict[str, Any]:
    """Return the state of the job: {found: none, running, died or ended, … values of the record}."""
    if not record.exists():
        return {"found": "none"}
    # Check alive first, because a job records its result before it ends.
    alive = record.alive()
    known = record.read()
    found = "ended" if known["state"] == ENDED else "running" if alive else "died"
    names = ("job_id", "what", "run_id", "step", "step_at", "started_at", "result")
    return {"found": found, **{name: known[name] for name in names if name in known}}


def forget(record: Record, seconds: float = 10.0) -> bool:
    """Remove the record of a job that has ended; False if there is none.

    :raises PlexDatabaseError: its job is running, or was killed and is not recovered.
    """
    end = time.monotonic() + seconds
    while record.alive() and time.monotonic() < end:
        time.sleep(0.05)  # it removes its code after it has recorded its result
    if not record.exists():
        return False
    known = record.read()
    if known["state"] != ENDED or record.alive():
        raise PlexDatabaseError(
            f"The {known['what']} of run {known['run_id']} has not ended at home (step {known['step']}), so its record "
            "is kept. Run the playbook again; it waits for the job or recovers it."
        )
    record.remove()
    return True


def outcome(known: dict[str, Any]) -> str:
    """Return the result of a job as a part of a sentence."""
    result = known["result"]
    serves = "Plex is ready" if result["serves"] else "Plex is not ready"
    if result["installed"]:
        return f"the new pair is in place and {serves} (it was stopped for {result['down_seconds']:.0f} s)"
    if result["done"]:
        return f"the backup's pair is in place and {serves} (it was stopped for {result['down_seconds']:.0f} s)"
    return f"the {known['what']} failed, {serves} with its former pair: {result['reason']}"


def log_of(record: Record, size: int = 2000) -> str:
    """Return the end of the job's log."""
    try:
        return (record.folder / LOG).read_text(encoding="utf-8", errors="replace")[-size:]
    except OSError:
        return ""


def _launch(record: Record, begin: str, descriptor: int) -> None:
    """Start the process in its own session with only the lock open, so that it survives the end of the SSH connection.

    systemd's logind still ends it if KillUserProcesses=yes is set and the login is not root; see the README of the role
    plex_home.
    """
    code = record.folder / CODE
    shutil.rmtree(code, ignore_errors=True)
    copy_code(code)
    with (record.folder / LOG).open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-I", "-c", _START, str(code), str(record.folder), begin],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(descriptor,),
            cwd="/",
        )


def copy_code(target: Path) -> None:
    """Copy this package and its imports to `target`, because Ansible's zip file is removed at the end of the
    connection."""
    for name, module in sorted(sys.modules.items()):
        if not name.startswith(_OURS) or name.split(".")[len(_OURS.split(".")) - 1] not in COPIED:
            continue
        loader: Any = module.__spec__.loader if module.__spec__ else None
        source = loader.get_source(name) if loader is not None else None
        if source is None:
            raise PlexDatabaseError(f"The source of {name} cannot be read, so nothing was started at home.")
        parts = [PACKAGE, *name[len(_OURS) :].split(".")]
        path = target.joinpath(*parts, "__init__.py") if hasattr(module, "__path__") else target.joinpath(*parts)
        path = path if path.suffix == ".py" else path.with_suffix(".py")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    (target / PACKAGE / "__init__.py").touch()
