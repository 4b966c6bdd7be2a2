"""A real S3 server (rclone's), and a relay on it as a controller or an indexer has one."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.plexburst.core.plugins.module_utils.transfer import relay_config
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay import Relay

from sandbox import s3

REMOTE = f"{s3.REMOTE}:plexburst-relay/of mine"
PASSPHRASE = "correct horse battery staple"
RUN = "20261122-071500-ab12"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """The server; what it holds outlives `stop`."""

    root: Path
    keys: s3.Keys = field(default_factory=s3.Keys.new)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.buckets / s3.BUCKET).mkdir(parents=True)
        s3.write_config(self.rclone_conf, f"http://127.0.0.1:{self.port}", self.keys)
        self.password_file.write_text(f"{PASSPHRASE}\n")
        self.password_file.chmod(0o600)

    @property
    def buckets(self) -> Path:
        return self.root / "s3"

    @property
    def rclone_conf(self) -> Path:
        return self.root / "rclone.conf"

    @property
    def password_file(self) -> Path:
        return self.root / "passphrase"

    def start(self) -> None:
        if self.process is None:
            self.process = s3.start(self.buckets, "127.0.0.1", self.port, self.keys, self.root / "s3.log")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def config(self, passphrase: str = PASSPHRASE, secret_key: str = "") -> str:
        """The text of the private rclone.conf."""
        text = self.rclone_conf.read_text().replace(self.keys.secret_key, secret_key or self.keys.secret_key)
        obscured = relay_config.obscured(str(s3.rclone_binary()), passphrase)
        return relay_config.relay_config(relay_config.relay_sections(text, REMOTE), REMOTE, obscured)

    def relay(self, passphrase: str = PASSPHRASE, secret_key: str = "") -> Relay:
        path = self.root / f"relay-{len(list(self.root.glob('relay-*')))}.conf"
        path.write_text(self.config(passphrase, secret_key))
        return Relay(str(s3.rclone_binary()), path)

    def objects(self) -> list[Path]:
        """The files of the bucket, as they lie on the server's disk."""
        return sorted(path for path in (self.buckets / "plexburst-relay").rglob("*") if path.is_file())
