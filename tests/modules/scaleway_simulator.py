"""The Scaleway simulator of the sandbox, started for tests over real HTTP, and a small hand to look behind its API."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from tests.modules.runner import REPO, run_module

KEYS = {
    "access_key": "SCWTESTTESTTESTTEST1",
    "secret_key": "11111111-1111-4111-8111-111111111111",
    "project_id": "22222222-2222-4222-8222-222222222222",
}
CLOUD_INIT = "#cloud-config\nssh_pwauth: false\n"
EXPIRES = "2099-01-01T00:00:00Z"


@dataclass
class Simulator:
    """A running simulator; ``arguments`` are the parameters that point a module at it."""

    url: str
    folder: Path
    config_file: Path
    process: subprocess.Popen[bytes]
    arguments: dict[str, Any] = field(default_factory=dict)

    def faults(self, **faults: Any) -> None:
        """Replace all faults."""
        requests.put(f"{self.url}/_sandbox/faults", json=faults, timeout=10).raise_for_status()

    def ledger(self) -> list[dict[str, Any]]:
        """Everything billable that ever was, the living first."""
        answer = requests.get(f"{self.url}/_sandbox/ledger", timeout=10)
        answer.raise_for_status()
        return ledger_entries(answer.json())

    def alive(self, text: str = "") -> list[dict[str, Any]]:
        """Ledger entries that still cost money, and whose JSON contains TEXT."""
        return [entry for entry in self.ledger() if entry["ended_at"] is None and text in json.dumps(entry)]

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Speak to the API as somebody else would: to make things that plexburst did not make."""
        answer = requests.request(
            method, self.url + path, json=body, headers={"x-auth-token": KEYS["secret_key"]}, timeout=10
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def server(self, run_id: str, check: bool = False, **changes: Any) -> dict[str, Any]:
        """Run scaleway_server for RUN_ID with parameters that suit most tests."""
        parameters = {
            "run_id": run_id,
            "types": ["GP1-S"],
            "expires_at": EXPIRES,
            "cloud_init": CLOUD_INIT,
            "poll_interval": 0.1,
            "wait_timeout": 30,
            "root_volume": {"size_gb": 20},
            **self.arguments,
            **changes,
        }
        return run_module("scaleway_server", parameters, check=check, diff=True)

    def absent(self, run_id: str, check: bool = False, **changes: Any) -> dict[str, Any]:
        """Run scaleway_server with state absent."""
        parameters = {"run_id": run_id, "state": "absent", "poll_interval": 0.1, "wait_timeout": 30}
        return run_module("scaleway_server", {**parameters, **self.arguments, **changes}, check=check, diff=True)


def ledger_entries(ledger: Any) -> list[dict[str, Any]]:
    """The ledger's entries, whether it is a list or an object that holds one."""
    if isinstance(ledger, dict):
        ledger = next(value for value in ledger.values() if isinstance(value, list))
    return list(ledger)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def simulator(folder: Path, speed: float = 10.0) -> Iterator[Simulator]:
    """Run the simulator in FOLDER until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {**KEYS, "organization_id": KEYS["project_id"]}
    (folder / "scaleway.json").write_text(json.dumps(settings), encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    config = folder / "scw.yaml"
    config.write_text(
        f"access_key: {KEYS['access_key']}\nsecret_key: {KEYS['secret_key']}\napi_url: {url}\n"
        f"default_project_id: {KEYS['project_id']}\ndefault_zone: fr-par-1\n",
        encoding="utf-8",
    )
    config.chmod(0o600)
    with (folder / "simulator.log").open("wb") as log:
        # A block of loopback addresses of its own: tests run side by side, and every machine listens on port 2222.
        where = ["--dir", str(folder), "--port", str(port), "--block", f"127.{port % 150 + 100}", "--speed", str(speed)]
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.scaleway", *where],
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": str(REPO)},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_until_it_answers(url, process, folder / "simulator.log")
            yield Simulator(url, folder, config, process, {"config_file": str(config), "zone": "fr-par-1"})
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        assert process.poll() is None, f"the simulator ended at once: {log.read_text(encoding='utf-8')}"
        try:
            requests.get(f"{url}/_sandbox/faults", timeout=1)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the Scaleway simulator did not answer within 20 s")
