"""A container engine of our own: its containerd, its dockerd, one bridge, and the few rules that let machines out.

It shares nothing with a Docker that runs on this machine: own sockets, data, state, bridge; it writes no firewall rule
itself (`--iptables=false`), so the only rules are the ones added here, each with our comment.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sandbox import processes
from tests.e2e.host import E2EError, docker_client, run

NAME = "plexburst-e2e"
BRIDGE = "pbe2e0"
NETWORK = "machines"
STATE_VARIABLE = "PLEXBURST_E2E_STATE"
MARK = "PLEXBURST_E2E"
"""In the environment of every process of a run: how what is left is found."""
_SUBNETS = ("172.30.0.0/16", "172.29.0.0/16", "172.28.0.0/16", "10.231.0.0/16", "10.197.0.0/16", "192.168.0.0/16")
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def cache_dir() -> Path:
    """Where downloads and images outlive a run: a folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / NAME


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine, as anybody in this run may use it. `load` finds it in a test's process."""

    run_dir: Path
    cache: Path
    client: str
    subnet: str
    forward_before: str

    @classmethod
    def load(cls) -> Engine:
        """The engine whose state file the environment names."""
        path = os.environ.get(STATE_VARIABLE)
        if not path:
            raise E2EError(f"expected {STATE_VARIABLE} in the environment; run these tests with `make e2e`")
        return cls.read(Path(path))

    @classmethod
    def read(cls, path: Path) -> Engine:
        """The engine a state file describes."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(Path(values.pop("run_dir")), Path(values.pop("cache")), **values)

    @property
    def state_file(self) -> Path:
        """What `load` reads."""
        return self.run_dir / "engine.json"

    @property
    def socket(self) -> str:
        """The engine's address."""
        return f"unix://{self.run_dir}/docker.sock"

    @property
    def command(self) -> list[str]:
        """The client's argv up to the arguments; asks nobody's configuration."""
        return [self.client, "--config", str(self.run_dir / "docker-config"), "--host", self.socket]

    @property
    def gateway(self) -> str:
        """This machine's address on the machines' bridge: where S3, plex.tv, Scaleway and the registry listen."""
        return str(next(ipaddress.ip_network(self.subnet).hosts()))

    @property
    def block(self) -> str:
        """The first two octets of every address of the network."""
        return ".".join(self.subnet.split(".")[:2])

    def docker(self, *arguments: str, input: bytes | None = None, timeout: float = 600) -> str:
        """Run the docker client against our engine; its standard output. Raises E2EError with what it said."""
        return run(*self.command, *arguments, timeout=timeout, data=input, env={**os.environ, "DOCKER_BUILDKIT": "0"})


def start(run_dir: Path, cache: Path) -> Engine:
    """Start containerd and dockerd, make the bridge, let machines out. `stop` undoes all of it, half made too."""
    engine = Engine(run_dir, cache, docker_client(), _free_subnet(), _FORWARD.read_text(encoding="ascii").strip())
    engine.state_file.write_text(json.dumps({k: str(v) for k, v in asdict(engine).items()}), encoding="utf-8")
    (run_dir / "docker-config").mkdir()
    (run_dir / "dockerd.json").write_text("{}\n", encoding="utf-8")
    (run_dir / "containerd.toml").write_text(
        f'version = 2\nroot = "{cache}/containerd"\nstate = "{run_dir}/containerd"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{run_dir}/containerd.sock"\n',
        encoding="utf-8",
    )
    process = _spawn(engine, "containerd", ["containerd", "--config", str(run_dir / "containerd.toml")])
    _wait(engine, "containerd", process, run_dir / "containerd.sock")
    command = [
        *("dockerd", "--host", engine.socket, "--config-file", str(run_dir / "dockerd.json")),
        *("--data-root", str(cache / "engine"), "--exec-root", str(run_dir / "exec")),
        *("--pidfile", str(run_dir / "dockerd.pid"), "--containerd", str(run_dir / "containerd.sock")),
        *("--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
        *("--storage-driver", "overlay2", "--insecure-registry", engine.subnet),
    ]
    process = _spawn(engine, "dockerd", command)
    _wait(engine, "dockerd", process, run_dir / "docker.sock")
    _until_it_answers(engine)
    for container in engine.docker("ps", "--all", "--quiet").split():
        engine.docker("rm", "--force", "--volumes", container)
    if NETWORK in engine.docker("network", "ls", "--format", "{{.Name}}").split():
        engine.docker("network", "rm", NETWORK)
    engine.docker(
        *("network", "create", "--subnet", engine.subnet, "--gateway", engine.gateway),
        *("--opt", f"com.docker.network.bridge.name={BRIDGE}", NETWORK),
    )
    _FORWARD.write_text("1\n", encoding="ascii")
    for rule in _rules(engine):
        run("iptables", "--wait", *rule)
    return engine


def stop(engine: Engine) -> None:
    """Remove every container and volume, the network, the rules, both daemons and the run's folder; images stay."""
    if daemon(engine.run_dir, "dockerd"):
        try:
            containers = engine.docker("ps", "--all", "--quiet").split()
            if containers:
                engine.docker("rm", "--force", "--volumes", *containers)
            engine.docker("volume", "prune", "--force")
            if NETWORK in engine.docker("network", "ls", "--format", "{{.Name}}").split():
                engine.docker("network", "rm", NETWORK)
        except (E2EError, subprocess.TimeoutExpired) as error:
            # The daemons go all the same; what then is left over is found and told by `leftovers`.
            print(f"e2e: the engine did not clean up: {error}", flush=True)
    for rule in _rules(engine):
        _delete_rule(rule)
    for name in ("dockerd", "containerd"):
        processes.end(daemon(engine.run_dir, name), patience=20)
    if engine.forward_before == "0":
        _FORWARD.write_text("0\n", encoding="ascii")
    subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
    _remove_empty_cgroups()
    _unmount(engine.run_dir)
    _unmount(engine.cache)


def _rules(engine: Engine) -> list[list[str]]:
    """Machines may reach the world, and each other; nothing from outside reaches them."""
    comment = ["-m", "comment", "--comment", NAME]
    subnet = engine.subnet
    return [
        ["-t", "nat", "-A", "POSTROUTING", "-s", subnet, "!", "-d", subnet, *comment, "-j", "MASQUERADE"],
        ["-t", "filter", "-I", "FORWARD", "-i", BRIDGE, *comment, "-j", "ACCEPT"],
        ["-t", "filter", "-I", "FORWARD", "-o", BRIDGE, *comment, "-j", "ACCEPT"],
    ]


def _delete_rule(rule: list[str]) -> None:
    delete = ["-D" if part in ("-A", "-I") else part for part in rule]
    while subprocess.run(["iptables", "--wait", *delete], capture_output=True, check=False).returncode == 0:
        pass


def _free_subnet() -> str:
    """The first candidate that no route of this machine touches."""
    routes = [
        ipaddress.ip_network(entry["dst"])
        for entry in json.loads(run("ip", "-json", "-4", "route"))
        if entry["dst"] != "default"
    ]
    for subnet in _SUBNETS:
        if not any(ipaddress.ip_network(subnet).overlaps(route) for route in routes):
            return subnet
    raise E2EError(f"expected one of {', '.join(_SUBNETS)} to be free, found routes into each; remove one")


def _spawn(engine: Engine, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (engine.run_dir / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=engine.run_dir,
        )
    (engine.run_dir / f"{name}.spawned").write_text(f"{process.pid}\n", encoding="ascii")
    return process


def _wait(engine: Engine, name: str, process: subprocess.Popen[bytes], socket: Path, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not socket.exists():
        # Not `daemon`: a process that has just been started has no command line to be known by yet.
        if time.monotonic() > deadline or process.poll() is not None:
            log = (engine.run_dir / f"{name}.log").read_text(encoding="utf-8", errors="replace")
            raise E2EError(f"expected {name} to start, found that it did not; the end of its log:\n{log[-3000:]}")
        time.sleep(0.1)


def _until_it_answers(engine: Engine, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            engine.docker("version", timeout=10)
        except E2EError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _remove_empty_cgroups() -> None:
    """The parent group that dockerd leaves; another engine's is never empty, or is made again by it."""
    for folder in [*Path("/sys/fs/cgroup").glob("*/docker"), Path("/sys/fs/cgroup/docker")]:
        if folder.is_dir() and not any(entry.is_dir() for entry in folder.iterdir()):
            try:
                folder.rmdir()
            except OSError as error:
                print(f"e2e: {folder} stays: {error}", flush=True)


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    points = [line.split()[4].replace("\\040", " ") for line in lines]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), key=len, reverse=True)


def _unmount(folder: Path) -> None:
    for point in mounts_below(folder):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def daemon(run_dir: Path, name: str) -> list[int]:
    """Process id of a daemon of the run in `run_dir`, while it lives."""
    path = run_dir / f"{name}.spawned"
    if not path.is_file():
        return []
    pid = int(path.read_text(encoding="ascii"))
    # The number may be another's by now: its command line must name our folder.
    return [pid] if processes.is_alive(pid) and str(run_dir) in " ".join(processes.command(pid)) else []


def is_shim(pid: int) -> bool:
    """Whether a process is what holds one container: it goes when the container does."""
    return "containerd-shim" in " ".join(processes.command(pid)[:1])


def ignore_signals() -> dict[int, Any]:
    """From here on Ctrl-C and TERM are ignored: cleaning up is not interrupted half-way. Returns what was."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def restore_signals(handlers: dict[int, Any]) -> None:
    """The way back of `ignore_signals`."""
    for number, handler in handlers.items():
        signal.signal(number, handler)


def forget(run_dir: Path) -> None:
    """Delete a run's folder."""
    shutil.rmtree(run_dir, ignore_errors=True)
