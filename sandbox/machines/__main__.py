"""Run one simulated machine in the foreground until SIGTERM, which shuts it down with everything on it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import asyncssh

from sandbox import processes
from sandbox.faults import Faults
from sandbox.machines import REPO, STANDARD_PATH, cloudinit, compiled, ssh
from sandbox.machines.troubles import Troubles

_PR_SET_CHILD_SUBREAPER = 36
_SHADOW = """raise ModuleNotFoundError("No module named '_sqlite3' (sandbox fault no_sqlite3)", name="_sqlite3")\n"""
# Python imports it at its start when it finds it; shutil.disk_usage asks os.statvfs too.
_SMALL_DISK = """import os

_real = os.statvfs


def statvfs(path):
    found = list(_real(path))
    found[3] = found[4] = {free} // found[1]  # f_bfree and f_bavail, in blocks of f_frsize
    return os.statvfs_result(found)


os.statvfs = statvfs
"""


class Runner:
    """One machine's life: boot, sshd, cloud-init, shutdown."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._folder = Path(options.dir).resolve()
        self._home = self._folder / "home"
        self._faults = Faults(Path(options.faults)) if options.faults else None
        self._connections: set[Any] = set()
        self._listener: Any = None
        self._known: set[int] = set()

    async def run(self) -> None:
        """Boot, serve, and shut down on SIGTERM or SIGINT."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        boot = asyncio.create_task(self._boot())
        boot.add_done_callback(lambda task: stop.set() if not task.cancelled() and task.exception() else None)
        beside = [asyncio.create_task(self._vanish())]
        if self._faults is not None:
            beside.append(asyncio.create_task(Troubles(self._home, self._faults).run()))
            beside[-1].add_done_callback(_say_why)
        await stop.wait()
        for task in beside:
            task.cancel()
        if not boot.done():
            boot.cancel()
        await asyncio.gather(boot, *beside, return_exceptions=True)
        await self._shut_down()
        if not boot.cancelled() and (error := boot.exception()) is not None:
            raise error

    async def _boot(self) -> None:
        self._prepare()
        await asyncio.sleep(self._options.boot_seconds)
        text = Path(self._options.user_data).read_text(encoding="utf-8") if self._options.user_data else ""
        config = cloudinit.parse(text)
        first = cloudinit.is_first_boot(self._folder)
        if self._options.user_data and first:
            cloudinit.apply_keys(self._folder, config)
        keys = self._host_keys(config)
        self._publish(keys)
        while self._fault("ssh_never_opens"):
            await asyncio.sleep(0.2)
        if self._fault("wrong_host_key"):
            keys = [asyncssh.generate_private_key("ssh-ed25519")]
        self._listener = await ssh.listen(
            self._options.address,
            self._options.port,
            host_keys=keys,
            home=self._home,
            environment=self._environment,
            connections=self._connections,
            faults=self._faults,
        )
        (self._folder / "machine.ready").write_text(f"{os.getpid()}\n", encoding="ascii")
        if first:
            await asyncio.sleep(self._options.cloud_init_seconds)
            cloudinit.finish(self._folder, config)

    def _prepare(self) -> None:
        for name in ("home", "bin", "log", "etc"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        os.chdir(self._home)
        cloudinit.install_stub(self._folder)
        rclone = Path(sys.executable).parent / "rclone"
        link = self._folder / "bin" / "rclone"
        if rclone.exists() and not link.exists():
            link.symlink_to(rclone)
        if self._options.authorized_keys:
            (self._home / ".ssh").mkdir(mode=0o700, exist_ok=True)
            target = self._home / ".ssh" / "authorized_keys"
            shutil.copyfile(self._options.authorized_keys, target)
            target.chmod(0o600)

    def _host_keys(self, config: cloudinit.CloudConfig) -> list[Any]:
        """The keys from cloud-init, else the given file, else one this machine makes for itself and keeps."""
        if config.host_keys:
            return [asyncssh.import_private_key(text) for text in config.host_keys.values()]
        if self._options.host_key:
            return [asyncssh.read_private_key(self._options.host_key)]
        own = self._folder / "etc" / "ssh_host_ed25519_key"
        if not own.exists():
            key = asyncssh.generate_private_key("ssh-ed25519", comment=f"root@{self._options.id}")
            with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(key.export_private_key())
        return [asyncssh.read_private_key(own)]

    def _publish(self, keys: list[Any]) -> None:
        """What Scaleway's images put into the user data `ssh-host-fingerprints`: the lines of `ssh-keygen -l`."""
        names = {"ssh-ed25519": (256, "ED25519"), "ssh-rsa": (3072, "RSA"), "ecdsa-sha2-nistp256": (256, "ECDSA")}
        lines = []
        for key in keys:
            bits, name = names.get(key.get_algorithm(), (256, "ED25519"))
            lines.append(f"{bits} {key.get_fingerprint()} root@{self._options.id} ({name})\n")
        (self._folder / "log" / "ssh-host-fingerprints").write_text("".join(lines), encoding="utf-8")

    def _environment(self, user: str) -> dict[str, str]:
        environment = {
            "HOME": str(self._home),
            "PATH": f"{self._folder / 'bin'}:{STANDARD_PATH}",
            "USER": user,
            "LANG": "C.UTF-8",
            "SANDBOX_MACHINE": self._options.id,
            **compiled.environment(self._folder.parent),
        }
        shadows = []
        if self._fault("no_sqlite3"):
            shadows.append(self._shadow("no-sqlite3", {"sqlite3/__init__.py": _SHADOW, "_sqlite3.py": _SHADOW}))
        if (free := self._fault("disk_free")) is not None:
            shadows.append(self._shadow("small-disk", {"sitecustomize.py": _SMALL_DISK.format(free=int(free))}))
        if shadows:
            environment["PYTHONPATH"] = os.pathsep.join([*shadows, environment["PYTHONPATH"]])
        return environment

    def _shadow(self, name: str, modules: dict[str, str]) -> str:
        """A folder of modules that this machine's Python finds before its own."""
        folder = self._folder / "etc" / name
        for file, text in modules.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        return str(folder)

    def _fault(self, name: str) -> Any:
        return self._faults.get(name) if self._faults else None

    async def _vanish(self) -> None:
        """Fault `vanish_after`: seconds after SSH opened the machine stops answering for good, its processes run on."""
        loop = asyncio.get_running_loop()
        opened: float | None = None
        while True:
            await asyncio.sleep(0.1)
            self._reap()
            if self._listener is None:
                continue
            opened = opened or loop.time()
            seconds = self._fault("vanish_after")
            if seconds is not None and loop.time() - opened >= float(seconds):
                self._close_network()
                return

    def _close_network(self) -> None:
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.abort()
        (self._folder / "machine.ready").unlink(missing_ok=True)

    def _reap(self) -> None:
        """Collect orphans that ended here (we are their subreaper), seen as zombies twice: asyncio's own last less."""
        zombies = {pid for pid in _children(os.getpid()) if not processes.is_alive(pid)}
        for pid in zombies & self._known:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._known = zombies

    async def _shut_down(self) -> None:
        """Close the network, then end all that runs here: asked first, killed after a few seconds, like init does."""
        self._close_network()
        running = asyncio.to_thread(processes.of_sandbox, self._home)
        ours = set(await running) | _descendants(os.getpid())
        await asyncio.to_thread(processes.end, sorted(ours), self._options.grace_seconds)


def _say_why(task: asyncio.Task[None]) -> None:
    """A task beside the machine's own that failed must not be silently off: into the machine's log."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(child) for child in text.split()]


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        fresh = [child for child in _children(waiting.pop()) if child not in found]
        found.update(fresh)
        waiting += fresh
    return found


def main() -> int:
    """Command line; see the package's docstring."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.machines", description=__doc__)
    parser.add_argument("--dir", required=True, help="the machine's folder")
    parser.add_argument("--id", default="", help="SANDBOX_MACHINE of its processes; the folder's name unless given")
    parser.add_argument("--address", required=True, help="loopback address to listen on")
    parser.add_argument("--port", type=int, default=2222)
    parser.add_argument("--user-data", help="file of cloud-init user data")
    parser.add_argument("--host-key", help="file of the private host key")
    parser.add_argument("--authorized-keys", help="file of public keys that may log in")
    parser.add_argument("--faults", help="faults file (the contract's `machine`)")
    parser.add_argument("--boot-seconds", type=float, default=0.0, help="before sshd listens")
    parser.add_argument("--cloud-init-seconds", type=float, default=0.0, help="from then until cloud-init is done")
    parser.add_argument("--grace-seconds", type=float, default=5.0, help="between TERM and KILL at shutdown")
    options = parser.parse_args()
    options.id = options.id or Path(options.dir).resolve().name
    # Whatever a command leaves running in the background becomes our child, so that shutdown finds it.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.path.insert(0, str(REPO))
    asyncio.run(Runner(options).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
