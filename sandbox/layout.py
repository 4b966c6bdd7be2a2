"""Where everything lies in a sandbox's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.files import write_json

FAULT_NAMES = ("scaleway", "plextv", "machine", "plex-home", "plex-indexer")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one sandbox's folder."""

    dir: Path

    @property
    def state(self) -> Path:
        """What everybody else reads: addresses, ports, commands, keys (0600)."""
        return self.dir / "state.json"

    @property
    def options(self) -> Path:
        """Sizes and speed this sandbox was made with."""
        return self.dir / "options.json"

    @property
    def seeded(self) -> Path:
        """There once home and the bucket are complete."""
        return self.dir / "seeded.json"

    @property
    def lock(self) -> Path:
        """Held during up, down and reset."""
        return self.dir / ".lock"

    @property
    def supervisor_pid(self) -> Path:
        """Process id of the supervisor."""
        return self.dir / "supervisor.pid"

    @property
    def ready(self) -> Path:
        """Holds the supervisor's process id once every part answers."""
        return self.dir / "supervisor.ready"

    @property
    def log(self) -> Path:
        """Folder of the logs of all parts."""
        return self.dir / "log"

    @property
    def faults(self) -> Path:
        """Folder of the faults files."""
        return self.dir / "faults"

    @property
    def s3(self) -> Path:
        """The S3 server's root: a bucket is a folder in it."""
        return self.dir / "s3"

    @property
    def rclone_config(self) -> Path:
        """rclone.conf of a user of the bucket (0600)."""
        return self.dir / "rclone.conf"

    @property
    def account_token(self) -> Path:
        """The owner's plex.tv token (0600)."""
        return self.dir / "plex-account-token"

    @property
    def scaleway_config(self) -> Path:
        """The Scaleway SDK's configuration (0600)."""
        return self.dir / "scw.yaml"

    @property
    def ssh(self) -> Path:
        """Home's keys: host key, the user's login key, known_hosts."""
        return self.dir / "ssh"

    @property
    def machines(self) -> Path:
        """A folder per machine, home's among them."""
        return self.dir / "machines"

    @property
    def programs(self) -> Path:
        """Executables with the real names: Plex Media Server, Plex SQLite, …"""
        return self.dir / "plexmediaserver"

    def is_ours(self) -> bool:
        """Whether this folder was made by `up` (and may therefore be deleted)."""
        return self.options.is_file() and self.lock.is_file()

    def write_state(self, state: dict[str, Any]) -> None:
        """Replace state.json in one step."""
        write_json(self.state, state, mode=0o600)
