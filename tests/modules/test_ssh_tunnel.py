"""The tunnel: real ssh against a real SSH server on loopback."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.modules.runner import run_module

SERVER = """
import asyncio, sys
import asyncssh

async def main(folder):
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[f"{folder}/host"], authorized_client_keys=f"{folder}/id.pub",
        server_factory=Forwarding,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.wait_closed()

class Forwarding(asyncssh.SSHServer):
    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True

asyncio.run(main(sys.argv[1]))
"""


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def page() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[int]:
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    host_key = " ".join((tmp_path / "host.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    yield port
    process.terminate()
    process.communicate()


def arguments(tmp_path: Path, ssh_port: int, remote_port: int, **more: Any) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": ssh_port,
        "user": "somebody",
        "private_key_file": str(tmp_path / "id"),
        "ssh_args": [f"-F /dev/null -o UserKnownHostsFile='{tmp_path / 'known_hosts'}'"],
        "remote_port": remote_port,
        "name": f"test-{ssh_port}",
        "timeout": 10,
        **more,
    }


def test_a_tunnel_opens_carries_is_used_again_and_closes(tmp_path: Path, ssh_server: int, page: int) -> None:
    wanted = arguments(tmp_path, ssh_server, page)
    assert run_module("ssh_tunnel", wanted, check=True)["changed"]
    first = run_module("ssh_tunnel", wanted)
    try:
        assert first["changed"], first
        with urllib.request.urlopen(first["base_url"], timeout=5) as answer:  # noqa: S310 - loopback
            assert answer.read() == b"hello"
        folder = Path(first["control_path"]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
        again = run_module("ssh_tunnel", wanted)
        assert (again["changed"], again["port"]) == (False, first["port"])
    finally:
        closed = run_module("ssh_tunnel", {**wanted, "state": "closed"})
    assert closed["changed"]
    assert not Path(first["control_path"]).exists()
    assert not run_module("ssh_tunnel", {**wanted, "state": "closed"})["changed"]
    with pytest.raises(OSError):
        urllib.request.urlopen(first["base_url"], timeout=5)  # noqa: S310 - loopback


def test_without_a_port_ssh_takes_its_own(tmp_path: Path, ssh_server: int, page: int) -> None:
    wanted = arguments(tmp_path, 0, page)
    wanted["ssh_args"].append(f"-o Port={ssh_server}")
    opened = run_module("ssh_tunnel", wanted)
    run_module("ssh_tunnel", {**wanted, "state": "closed"})
    assert opened.get("changed"), opened


def test_an_unknown_host_key_is_refused(tmp_path: Path, ssh_server: int, page: int) -> None:
    (tmp_path / "known_hosts").write_text("")
    result = run_module("ssh_tunnel", arguments(tmp_path, ssh_server, page))
    assert result["failed"]
    assert "Host key verification failed" in result["msg"]


@pytest.mark.parametrize(
    "argument", ["-o StrictHostKeyChecking=no", "-oStrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null"]
)
def test_arguments_that_accept_any_host_key_are_refused(tmp_path: Path, argument: str) -> None:
    result = run_module("ssh_tunnel", arguments(tmp_path, 1, 1, ssh_args=[argument]))
    assert result["failed"]
    assert "switches off the verification" in result["msg"]


def test_a_host_that_is_not_there_fails_with_advice(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    result = run_module("ssh_tunnel", arguments(tmp_path, 1, 1), env={"TMPDIR": os.environ.get("TMPDIR", "/tmp")})
    assert result["failed"]
    assert "could not be opened" in result["msg"]
    assert "Connection refused" in result["msg"]


def test_a_tunnel_that_was_lost_comes_back_at_the_port_it_had(tmp_path: Path, ssh_server: int, page: int) -> None:
    wanted = arguments(tmp_path, ssh_server, page)
    first = run_module("ssh_tunnel", wanted)
    try:
        # The ssh in the background ends, as when the line is gone for a minute.
        subprocess.run(["ssh", "-S", first["control_path"], "-O", "exit", "--", "127.0.0.1"], check=True)
        again = run_module("ssh_tunnel", wanted)
        assert (again["changed"], again["base_url"]) == (True, first["base_url"]), again
        with urllib.request.urlopen(again["base_url"], timeout=5) as answer:  # noqa: S310 - loopback
            assert answer.read() == b"hello"
    finally:
        run_module("ssh_tunnel", {**wanted, "state": "closed"})
