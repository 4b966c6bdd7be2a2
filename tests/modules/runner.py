"""Run a module of the collection the way Ansible does: as a process of its own, arguments as JSON, result as JSON.

Nothing of the module is patched or imported here, so what a test sees is what a playbook would see: exit code,
JSON on stdout, and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]

# AnsiballZ hands the arguments over in exactly these two variables; everything after that is the module itself.
_BOOTSTRAP = """
import runpy, sys
from ansible.module_utils import basic
basic._ANSIBLE_ARGS = sys.stdin.buffer.read()
basic._ANSIBLE_PROFILE = "legacy"
runpy.run_module("ansible_collections.plexburst.core.plugins.modules." + sys.argv[1], run_name="__main__")
"""


def run_module(
    name: str,
    args: dict[str, Any],
    check: bool = False,
    env: dict[str, str] | None = None,
    *,
    diff: bool = False,
    timeout: float = 120.0,
    python: str = sys.executable,
) -> dict[str, Any]:
    """Run module NAME (short name, a file of library/) and return its JSON result.

    The result always has ``failed`` (bool) and ``rc_process`` (the exit code). ``env`` is added to a small clean
    environment (PATH, HOME, LANG); ``SCW_*`` and the like never leak in from the person who runs the tests.
    ``timeout`` is in seconds and kills a module that hangs. Raises AssertionError when stdout is not one JSON object.
    """
    parameters: dict[str, Any] = {
        **args,
        "_ansible_check_mode": check,
        "_ansible_diff": diff,
        "_ansible_remote_tmp": "/tmp",
        "_ansible_keep_remote_files": False,
        "_ansible_no_log": False,
        "_ansible_verbosity": 0,
    }
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "TMPDIR") if key in os.environ}
    environment |= {"LANG": "C.UTF-8", "PYTHONPATH": f"{REPO / 'collections'}", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= env or {}
    finished = subprocess.run(
        [python, "-c", _BOOTSTRAP, name],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": parameters}).encode(),
        capture_output=True,
        env=environment,
        timeout=timeout,
        check=False,
    )
    stdout = finished.stdout.decode()
    try:
        result = json.loads(stdout)
    except json.JSONDecodeError as error:
        raise AssertionError(
            f"module {name} did not print one JSON object (exit code {finished.returncode}).\n"
            f"stdout: {stdout!r}\nstderr: {finished.stderr.decode()}"
        ) from error
    assert isinstance(result, dict), f"module {name} printed {type(result).__name__}, not an object"
    result.setdefault("failed", finished.returncode != 0)
    result["rc_process"] = finished.returncode
    return result
