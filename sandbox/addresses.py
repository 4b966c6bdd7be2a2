"""Loopback addresses and ports of a sandbox: a block 127.B.0.0/16 of its own.

A block is held by an advisory lock for as long as the sandbox is up, so that sandboxes running side by side
(pytest-xdist) never share an address. Machines have addresses of their own in it; everything else listens on 127.0.0.1,
at ports derived from the block, below the kernel's ephemeral range (32768 and up on Linux), where no outgoing
connection takes them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SSH_PORT = 2222
_BLOCKS = range(16, 250)


class BlockError(RuntimeError):
    """No block of addresses is free, or a port of the block is taken."""


@dataclass(frozen=True, slots=True)
class Block:
    """The addresses and ports that follow from the number B of a block."""

    number: int

    @property
    def prefix(self) -> str:
        """The first two octets, as state.json holds them."""
        return f"127.{self.number}"

    @property
    def home(self) -> str:
        """Home's own address."""
        return f"{self.prefix}.0.2"

    @property
    def home_plex_port(self) -> int:
        """Port of home's Plex on 127.0.0.1."""
        return 20_000 + self.number * 10

    @property
    def indexer_plex_port(self) -> int:
        """Port of the indexer's Plex on 127.0.0.1."""
        return self.home_plex_port + 1

    @property
    def scaleway_port(self) -> int:
        """Port of the Scaleway API on 127.0.0.1."""
        return self.home_plex_port + 2

    @property
    def plextv_port(self) -> int:
        """Port of plex.tv on 127.0.0.1."""
        return self.home_plex_port + 3

    @property
    def s3_port(self) -> int:
        """Port of the S3 server on 127.0.0.1."""
        return self.home_plex_port + 4

    def endpoints(self) -> list[tuple[str, int]]:
        """Every address and port that must be free before the sandbox starts; the indexer's machine comes later."""
        ports = (
            self.home_plex_port,
            self.indexer_plex_port,
            self.scaleway_port,
            self.plextv_port,
            self.s3_port,
        )
        return [(self.home, SSH_PORT), *(("127.0.0.1", port) for port in ports)]


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def claim(preferred: int | None = None) -> tuple[Block, IO[str]]:
    """Take a free block, `preferred` if it is free; the lock is held until the returned file is closed.

    Raises BlockError if no block is free.
    """
    for number in _candidates(preferred):
        handle = _lock(number)
        if handle is None:
            continue
        block = Block(number)
        if all(is_free(address, port) for address, port in block.endpoints()):
            return block, handle
        handle.close()
    raise BlockError(
        f"expected a free block of loopback addresses among 127.{_BLOCKS.start}.0.0 to 127.{_BLOCKS.stop - 1}.0.0, "
        "found every one in use; end sandboxes that are no longer needed with `python -m sandbox down --dir DIR`"
    )


def _candidates(preferred: int | None) -> Iterator[int]:
    if preferred is not None:
        yield preferred
    yield from (n for n in random.sample(_BLOCKS, len(_BLOCKS)) if n != preferred)


def _lock(number: int) -> IO[str] | None:
    folder = Path(tempfile.gettempdir()) / f"plexburst-sandbox-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise BlockError(f"expected {folder} to belong to user {os.getuid()}, found another owner; remove it")
    handle = (folder / f"127.{number}.lock").open("w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle
