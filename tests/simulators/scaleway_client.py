"""The official SDK pointed at a Scaleway simulator of its own: what the tests of the simulator share."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from scaleway import Client, ScalewayException
from scaleway.block.v1 import BlockV1API
from scaleway.instance.v1 import Server, ServerAction, VolumeServerTemplate, VolumeServerVolumeType
from scaleway.instance.v1.custom_api import InstanceUtilsV1API
from scaleway.marketplace.v2 import LocalImageType, MarketplaceV2API

from sandbox.scaleway.__main__ import build
from sandbox.scaleway.settings import load

ZONE = "fr-par-1"
SIZE = 20_000_000_000


class Cloud:
    """One simulator in a folder, with the SDK's APIs and a few short cuts."""

    def __init__(self, directory: Path, speed: float = 10.0, block: str | None = None) -> None:
        self.dir = directory
        # A block of its own per simulator: tests run side by side.
        self.settings = load(directory, speed=speed, block=block or f"127.{100 + secrets.randbelow(150)}")
        self.app = build(directory, self.settings)
        self.url = self.app.start()
        self.client = Client(
            access_key=self.settings.access_key,
            secret_key=self.settings.secret_key,
            default_project_id=self.settings.project_id,
            default_zone=ZONE,
            api_url=self.url,
        )
        self.instance = InstanceUtilsV1API(self.client)
        self.block = BlockV1API(self.client)
        self.marketplace = MarketplaceV2API(self.client)

    def raw(self, method: str, path: str, token: str | None = "", **arguments: Any) -> requests.Response:
        """A request without the SDK; `path` below the zone unless it starts with a slash."""
        headers = dict(arguments.pop("headers", {}))
        if token is not None:
            headers["X-Auth-Token"] = token or self.settings.secret_key
        url = self.url + (path if path.startswith("/") else f"/instance/v1/zones/{ZONE}/{path}")
        return requests.request(method, url, headers=headers, timeout=10, **arguments)

    def image(self, kind: LocalImageType = LocalImageType.INSTANCE_SBS, arch: str = "x86_64") -> str:
        found = self.marketplace.list_local_images_all(image_label="ubuntu_noble", type_=kind, arch=arch)
        return found[0].id

    def create(self, **changes: Any) -> Server:
        volume = VolumeServerTemplate(volume_type=VolumeServerVolumeType.SBS_VOLUME, size=SIZE)
        wanted: dict[str, Any] = {
            "name": "test",
            "commercial_type": "GP1-S",
            "tags": ["plexburst"],
            "volumes": {"0": volume},
        }
        wanted |= changes
        wanted.setdefault("image", self.image())
        server = self.instance.create_server(**wanted).server
        assert server is not None
        return server

    def act(self, server: Server, action: str) -> None:
        self.instance.server_action(server_id=server.id, action=ServerAction(action))

    def get(self, server: Server) -> Server:
        found = self.instance.get_server(server_id=server.id).server
        assert found is not None
        return found

    def until(self, server: Server, state: str, detail: str | None = None) -> Server:
        def there() -> Server | None:
            found = self.get(server)
            return found if found.state == state and detail in (None, found.state_detail) else None

        return wait_for(there)

    def is_gone(self, server: Server) -> bool:
        return self.raw("GET", f"servers/{server.id}").status_code == 404

    def ledger(self) -> list[dict[str, Any]]:
        return list(requests.get(f"{self.url}/_sandbox/ledger", timeout=10).json())

    def set_faults(self, **faults: Any) -> None:
        answer = requests.put(f"{self.url}/_sandbox/faults", json=faults, timeout=10)
        assert answer.json() == faults


@contextmanager
def cloud(directory: Path, speed: float = 10.0) -> Iterator[Cloud]:
    one = Cloud(directory, speed)
    try:
        yield one
    finally:
        one.app.stop()


def wait_for(ready: Callable[[], Any], seconds: float = 8.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        time.sleep(0.02)
    return value


def error_of(raised: ScalewayException) -> tuple[int, dict[str, Any]]:
    return raised.response.status_code, json.loads(str(raised))


def make_keys(folder: Path) -> str:
    """A login key and a host key in `folder`; returns cloud-init user data that uses both."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("id", "host"):
        if not (folder / name).exists():
            subprocess.run(
                ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True
            )
    private = "".join(f"    {line}\n" for line in (folder / "host").read_text().splitlines())
    return (
        "#cloud-config\n"
        f"ssh_keys:\n  ed25519_private: |\n{private}  ed25519_public: {(folder / 'host.pub').read_text()}"
        f"ssh_authorized_keys:\n  - {(folder / 'id.pub').read_text()}"
        "runcmd:\n  - [touch, /tmp/plexburst-must-never-exist]\n"
    )


def ssh_options(folder: Path, address: str, port: int = 2222) -> list[str]:
    """Options for ssh, scp and sftp that verify the host key of `make_keys`."""
    kind, key, *_ = (folder / "host.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[{address}]:{port} {kind} {key}\n")
    options = ["-F", "/dev/null", "-i", str(folder / "id"), "-o", f"Port={port}"]
    for option in (
        f"UserKnownHostsFile={folder / 'known_hosts'}",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "ConnectTimeout=5",
    ):
        options += ["-o", option]
    return options


def ssh(
    folder: Path, address: str, command: str, *more: str, port: int = 2222, **arguments: Any
) -> subprocess.CompletedProcess[str]:
    """Run `command` through the real ssh."""
    argv = ["ssh", *ssh_options(folder, address, port), *more, f"root@{address}", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, **arguments)
