"""cloud-init's work, as far as a machine without root can do it: keys are used, the rest is written down."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HEADER = "#cloud-config"
# Modules whose configuration is recorded and never executed: the sandbox changes nothing on the real machine.
RECORDED = ("bootcmd", "runcmd", "write_files", "packages", "package_update", "package_upgrade", "apt", "users")

_STUB = """#!/bin/sh
# cloud-init's command line, as far as anything asks: `cloud-init status [--wait] [--format json]`.
done="{folder}/home/.cloud-init-done"
result="{folder}/log/cloud-init.json"
[ "$1" = --version ] && {{ echo "/usr/bin/cloud-init 24.4-sandbox"; exit 0; }}
[ "$1" = status ] || {{ echo "cloud-init: error: the sandbox answers only 'status', not: $*" >&2; exit 2; }}
shift
wait=no format=text
while [ $# -gt 0 ]; do
  case "$1" in
    --wait|-w) wait=yes ;;
    --long|-l) ;;
    --format=json) format=json ;;
    --format) shift; format="$1" ;;
    *) echo "cloud-init status: error: unrecognized arguments: $1" >&2; exit 2 ;;
  esac
  shift
done
while [ "$wait" = yes ] && [ ! -e "$done" ]; do sleep 0.1; done
code=0 status=done errors='[]'
if [ ! -e "$done" ]; then status=running
elif [ -e "{folder}/log/cloud-init-error" ]; then status=error code=1 errors='["Failed loading yaml blob"]'
fi
if [ "$format" = json ]; then
  printf '{{"status": "%s", "extended_status": "%s", "datasource": "scaleway", "detail": "DataSourceScaleway", ' \\
    "$status" "$status"
  printf '"boot_status_code": "enabled-by-generator", "errors": %s, "recoverable_errors": {{}}}}\\n' "$errors"
else
  echo "status: $status"
fi
exit $code
"""


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What the user data asked for. `error` says why none of it counts, as cloud-init's own log would."""

    host_keys: dict[str, str] = field(default_factory=dict)
    authorized_keys: list[str] = field(default_factory=list)
    recorded: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def parse(text: str) -> CloudConfig:
    """Read user data. As with cloud-init, what it cannot read is not fatal: the machine boots, status error."""
    if text.startswith("#!"):
        return CloudConfig(recorded={"script": text})
    if text.strip() and text.splitlines()[0].strip() != HEADER:
        return CloudConfig(error=f"Unhandled non-multipart (text/x-not-multipart) userdata: expected {HEADER}")
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return CloudConfig(error=f"Failed loading yaml blob. Invalid format: {error}")
    if values is None:
        return CloudConfig()
    if not isinstance(values, dict):
        return CloudConfig(error=f"Failed loading yaml blob. Yaml load allows dict root types, but got {type(values)}")
    authorized = [str(key) for key in values.get("ssh_authorized_keys") or []]
    for user in values.get("users") or []:
        if isinstance(user, dict):
            authorized += [str(key) for key in user.get("ssh_authorized_keys") or []]
    host_keys = {
        str(name).removesuffix("_private"): str(value)
        for name, value in (values.get("ssh_keys") or {}).items()
        if str(name).endswith("_private")
    }
    return CloudConfig(
        host_keys=host_keys,
        authorized_keys=authorized,
        recorded={name: values[name] for name in RECORDED if name in values},
    )


def install_stub(folder: Path) -> None:
    """Put the stub of `cloud-init` into the machine's bin."""
    stub = folder / "bin" / "cloud-init"
    stub.write_text(_STUB.format(folder=folder), encoding="utf-8")
    stub.chmod(0o755)


def is_first_boot(folder: Path) -> bool:
    """cloud-init's per-instance work is done once; a reboot does not repeat it."""
    return not (folder / "home" / ".cloud-init-done").exists()


def apply_keys(folder: Path, config: CloudConfig) -> None:
    """Authorise the keys, the way sshd reads them afterwards: `home/.ssh/authorized_keys` (0600)."""
    ssh = folder / "home" / ".ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = ssh / "authorized_keys"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(f"{key.strip()}\n" for key in config.authorized_keys)


def finish(folder: Path, config: CloudConfig) -> None:
    """The end of the first boot: write down what was asked for, then say done."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    record = {
        "finished_at": now,
        "error": config.error,
        "host_keys": sorted(config.host_keys),
        "authorized_keys": len(config.authorized_keys),
        "recorded": config.recorded,
    }
    (folder / "log" / "cloud-init.json").write_text(json.dumps(record, indent=2, default=str) + "\n", encoding="utf-8")
    if config.error:
        (folder / "log" / "cloud-init-error").write_text(config.error + "\n", encoding="utf-8")
    (folder / "home" / ".cloud-init-done").write_text(now + "\n", encoding="utf-8")
