"""The SSH server of one machine, on asyncssh: what OpenSSH's ssh, sftp, scp and Ansible ask of a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh

from sandbox.faults import Faults

_CHUNK = 64 * 1024
_HOME_OF_USER = re.compile(r"(?<![\w./~-])~(?P<user>[a-z_][a-z0-9_-]*)(?=[/\s'\";&|)]|$)")
# AES-GCM runs in OpenSSL; what OpenSSH would choose first (chacha20-poly1305, then CTR with a MAC) costs more CPU here.
ENCRYPTION = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]


class Server(asyncssh.SSHServer):  # type: ignore[misc]  # mypy skips asyncssh
    """One connection: public keys only, any user name, forwarding to loopback only."""

    def __init__(self, authorized_keys: Path, connections: set[Any], faults: Faults | None) -> None:
        self._authorized_keys = authorized_keys
        self._connections = connections
        self._faults = faults
        self._connection: Any = None
        self._cut: asyncio.TimerHandle | None = None

    def connection_made(self, conn: Any) -> None:
        """Remember it, so that a machine that ends can cut it."""
        self._connection = conn
        self._connections.add(conn)
        seconds = self._faults.get("drop_after") if self._faults else None
        if seconds is not None:
            self._cut = asyncio.get_running_loop().call_later(float(seconds), conn.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._connections.discard(self._connection)
        if self._cut is not None:
            self._cut.cancel()

    def begin_auth(self, username: str) -> bool:
        """Nobody enters without a key."""
        return True

    def public_key_auth_supported(self) -> bool:
        """The only way in."""
        return True

    def validate_public_key(self, username: str, key: Any) -> bool:
        """Whether `key` stands in authorized_keys now: the file is read at each login, as sshd does."""
        try:
            lines = self._authorized_keys.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        for line in lines:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                known = asyncssh.import_public_key(line)
            except asyncssh.KeyImportError:
                continue  # sshd skips a line it cannot read
            if known.public_data == key.public_data:
                return True
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """`ssh -L`: to this machine itself only; nothing leaves loopback."""
        if dest_host == "localhost":
            return True
        try:
            return ipaddress.ip_address(dest_host).is_loopback
        except ValueError:
            return False


class Sftp(asyncssh.SFTPServer):  # type: ignore[misc]  # mypy skips asyncssh
    """SFTP over the real file system; relative paths start in HOME, which is the process's working directory."""

    def __init__(self, channel: Any, faults: Faults | None) -> None:
        super().__init__(channel)
        self._faults = faults

    def read(self, file_obj: Any, offset: int, size: int) -> bytes:
        """Read; the fault `sftp_truncate` ends the file early, as a line that broke at the wrong moment does."""
        rule = self._faults.get("sftp_truncate") if self._faults else None
        name = os.fsdecode(file_obj.name)
        if rule and name.endswith(str(rule["suffix"])):
            size = max(0, min(size, int(rule["bytes"]) - offset))
        file_obj.seek(offset)
        data: bytes = file_obj.read(size)
        return data

    def exit(self) -> None:
        """End like sftp-server, with exit status 0: without one scp takes the transfer for failed."""
        with contextlib.suppress(asyncssh.Error, OSError):
            self.channel.exit(0)


class Shell:
    """Runs what a client asks for: a command, or a shell, with or without a terminal."""

    def __init__(self, home: Path, environment: Callable[[str], dict[str, str]]) -> None:
        self._home = home
        self._environment = environment

    async def __call__(self, process: Any) -> None:
        """Handle one session of one connection."""
        user = process.get_extra_info("username")
        if process.subsystem:
            process.stderr.write(b"subsystem request failed\n")
            process.exit(1)
            return
        argv = ["/bin/sh"] if process.command is None else ["/bin/sh", "-c", self._localise(process.command, user)]
        environment = self._environment(user)
        if process.term_type:
            await self._with_terminal(process, argv, {**environment, "TERM": process.term_type})
        else:
            await self._with_pipes(process, argv, environment)

    def _localise(self, command: str, user: str) -> str:
        """`~root` is this machine's HOME: a real machine knows that from its passwd, which we share with the host.

        Ansible expands `~` of the remote user exactly so (`echo ~root`).
        """
        return _HOME_OF_USER.sub(lambda found: "~" if found["user"] == user else found[0], command)

    async def _with_pipes(self, process: Any, argv: list[str], environment: dict[str, str]) -> None:
        child = await asyncio.create_subprocess_exec(
            *argv,
            cwd=self._home,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            limit=4 * _CHUNK,
        )
        assert child.stdin and child.stdout and child.stderr  # noqa: S101 - all three were asked for
        feeder = asyncio.create_task(self._feed(process, child.stdin, child.pid))
        output = asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
        try:
            code = await child.wait()
            # Like sshd: the session ends when the last holder of its output is gone, not with the command alone.
            await output
            await _drain(process)
            _exit(process, code)
        finally:
            feeder.cancel()
            output.cancel()

    async def _feed(self, process: Any, sink: asyncio.StreamWriter, pid: int) -> None:
        while True:
            try:
                data = await process.stdin.read(_CHUNK)
            except asyncssh.SignalReceived as request:
                _signal_group(pid, request.signal)
                continue
            except (asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
                continue
            except (asyncssh.Error, OSError):
                data = b""  # the connection is gone: the command sees the end of its input
            try:
                if not data:
                    sink.close()
                    return
                sink.write(data)
                await sink.drain()
            except (BrokenPipeError, ConnectionResetError):
                return  # the command does not read any more

    async def _with_terminal(self, process: Any, argv: list[str], environment: dict[str, str]) -> None:
        master, slave = pty.openpty()
        _resize(master, process.term_size)
        # util-linux's setsid makes the terminal the controlling one, so that Ctrl-C and hang-up reach the command.
        child = await asyncio.create_subprocess_exec(
            "setsid", "--ctty", *argv, cwd=self._home, env=environment, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=4 * _CHUNK)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(master), "rb", buffering=0)
        )
        typing = asyncio.create_task(self._type(process, master, child.pid))
        output = asyncio.create_task(_copy(reader, process.stdout))
        try:
            code = await child.wait()
            await output
            await _drain(process)
            _exit(process, code)
        finally:
            typing.cancel()
            output.cancel()
            transport.close()
            os.close(master)

    async def _type(self, process: Any, master: int, pid: int) -> None:
        while True:
            try:
                data = await process.stdin.read(_CHUNK)
            except asyncssh.TerminalSizeChanged as change:
                _resize(master, (change.width, change.height, change.pixwidth, change.pixheight))
                continue
            except asyncssh.SignalReceived as request:
                _signal_group(pid, request.signal)
                continue
            except asyncssh.BreakReceived:
                continue
            except (asyncssh.Error, OSError):
                _signal_group(pid, "HUP")  # the terminal hung up
                return
            if not data:
                if process.channel.is_closing():
                    _signal_group(pid, "HUP")
                else:
                    os.write(master, b"\x04")
                return
            await asyncio.get_running_loop().run_in_executor(None, os.write, master, data)


async def _copy(source: asyncio.StreamReader, sink: Any) -> None:
    """Carry bytes until the source ends; when the client is gone keep reading, so that the command can finish."""
    gone = False
    while True:
        try:
            data = await source.read(_CHUNK)
        except OSError:
            return  # a terminal whose last user has ended reads as an input/output error
        if not data:
            return
        if gone:
            continue
        try:
            sink.write(data)
            await sink.drain()
        except (asyncssh.Error, OSError):
            gone = True


async def _drain(process: Any) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        await process.stdout.drain()
        await process.stderr.drain()


def _exit(process: Any, code: int) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        if code < 0:
            process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            process.exit(code)


def _signal_group(pid: int, name: str) -> None:
    number = getattr(signal, f"SIG{name}", None)
    if number is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)


def _resize(master: int, size: tuple[int, int, int, int]) -> None:
    width, height, pixel_width, pixel_height = size
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, pixel_width, pixel_height))


async def listen(
    address: str,
    port: int,
    *,
    host_keys: list[Any],
    home: Path,
    environment: Callable[[str], dict[str, str]],
    connections: set[Any],
    faults: Faults | None,
) -> Any:
    """Open the SSH server; returns asyncssh's listener. Raises OSError if the address or port is taken."""
    if not ipaddress.ip_address(address).is_loopback:
        raise ValueError(f"A simulated machine listens on loopback addresses only, asked for {address}.")
    return await asyncssh.listen(
        address,
        port,
        server_factory=lambda: Server(home / ".ssh" / "authorized_keys", connections, faults),
        server_host_keys=host_keys,
        process_factory=Shell(home, environment),
        sftp_factory=lambda channel: Sftp(channel, faults),
        allow_scp=False,
        encoding=None,
        encryption_algs=ENCRYPTION,
        compression_algs=["none"],
        agent_forwarding=False,
        x11_forwarding=False,
        reuse_address=True,
        server_version="OpenSSH_9.2p1_sandbox",
    )
