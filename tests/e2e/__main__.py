"""`make e2e`: build the world, play every scenario in it, take the world away, prove that nothing is left.

python -m tests.e2e                     all of it
python -m tests.e2e -k systemd -x       arguments go to pytest
python -m tests.e2e --up | --down       for somebody who writes a scenario: the engine stays up in between
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import IO

from sandbox import processes
from tests import ansible_cache
from tests.e2e import engine as engines
from tests.e2e import host, images, leftovers, registry, rootfs

REPO = Path(__file__).resolve().parents[2]


def say(text: str) -> None:
    """A line of the log, with the time."""
    print(f"{time.strftime('%H:%M:%S')} e2e: {text}", flush=True)


class Tier:
    """One run of the tier: its folder, its lock, its engine."""

    def __init__(self) -> None:
        self.cache = engines.cache_dir()
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.run_dir = Path()
        self._lock: IO[str] | None = None

    @property
    def _pointer(self) -> Path:
        """Names the folder of the run that is up, or that did not end."""
        return self.cache / "run"

    def begin(self) -> None:
        """Take the cache for this run alone; clean up after one that was killed."""
        self._lock = (self.cache / "lock").open("w", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise host.E2EError(f"expected nobody else to use {self.cache}, found another run; wait for it") from None
        if self._pointer.is_file():
            self.run_dir = Path(self._pointer.read_text(encoding="utf-8").strip())
            say(f"an earlier run did not end, taking away what it left ({self.run_dir})")
            self.end()
        self.run_dir = Path(tempfile.mkdtemp(prefix="plexburst-e2e-", dir="/var/tmp"))
        self._pointer.write_text(f"{self.run_dir}\n", encoding="utf-8")
        os.environ[engines.MARK] = self.run_dir.name
        # Everything that any part writes besides goes there too, and so away.
        for name in ("tmp", "packed"):
            (self.run_dir / name).mkdir()
        for variable, name in (
            ("TMPDIR", "tmp"),
            ("ANSIBLE_HOME", "ansible"),
            ("PYTHONPYCACHEPREFIX", "pycache"),
            (ansible_cache.VARIABLE, "packed"),
        ):
            os.environ[variable] = str(self.run_dir / name)
        tempfile.tempdir = None

    def adopt(self) -> None:
        """Work with the engine that `--up` left running."""
        self.run_dir = Path(self._pointer.read_text(encoding="utf-8").strip())
        os.environ[engines.MARK] = self.run_dir.name

    def up(self) -> None:
        """Install, start the engine, make the images, fill the registry."""
        began = time.monotonic()
        installed = host.install()
        say(f"packages: {', '.join(installed) or 'all there'} ({time.monotonic() - began:.0f} s)")
        for line in host.versions():
            say(f"real part: {line}")
        began = time.monotonic()
        engine = engines.start(self.run_dir, self.cache)
        os.environ[engines.STATE_VARIABLE] = str(engine.state_file)
        say(f"engine: own dockerd at {engine.socket}, machines in {engine.subnet} ({time.monotonic() - began:.0f} s)")
        for image, seconds in rootfs.build(engine).items():
            say(f"image: {image} ({f'made in {seconds:.0f} s' if seconds else 'from the cache'})")
        began = time.monotonic()
        held = registry.start(engine, self.run_dir / "registry")
        references = images.build_and_push(engine, held)
        known = {"address": held.address, "ca": str(held.ca), "images": references}
        (self.run_dir / "registry.json").write_text(json.dumps(known), encoding="utf-8")
        say(f"registry: {held.address} serves {', '.join(references.values())} ({time.monotonic() - began:.0f} s)")

    def scenarios(self, arguments: list[str]) -> int:
        """Play them with pytest, three at a time: they wait for machines, not only for this one; its exit code."""
        os.environ[engines.STATE_VARIABLE] = str(self.run_dir / "engine.json")
        command = [sys.executable, "-m", "pytest", "-m", "e2e", "-p", "no:cacheprovider", "--durations=0"]
        command += ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
        command += ["-rA", "--basetemp", str(self.run_dir / "pytest")]
        return subprocess.run([*command, *arguments, "tests/e2e"], cwd=REPO, check=False).returncode

    def end(self) -> list[str]:
        """Take everything away; what is left in spite of that, one sentence each."""
        handlers = engines.ignore_signals()
        try:
            state = self.run_dir / "engine.json"
            run_id = self.run_dir.name
            # Simulators and playbooks first, then the machines, then the engine under them.
            daemons = {pid for name in ("dockerd", "containerd") for pid in engines.daemon(self.run_dir, name)}
            users = [pid for pid in leftovers.marked(run_id) if pid not in daemons and not engines.is_shim(pid)]
            processes.end(users, patience=15)
            if state.is_file():
                engines.stop(engines.Engine.read(state))
            processes.end(leftovers.marked(run_id), patience=10)
            engines.forget(self.run_dir)
            left = leftovers.found(run_id, self.run_dir, self.cache)
            if not left:
                self._pointer.unlink(missing_ok=True)
            return left
        finally:
            engines.restore_signals(handlers)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def main(arguments: list[str]) -> int:
    """0: every scenario passed and nothing is left; 1: not so; 2: the tier cannot run here; 130: interrupted."""
    host.release()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    tier = Tier()
    if arguments == ["--down"]:
        tier.adopt()
        return _report(tier.end(), set())
    if arguments[:1] == ["--in"]:
        tier.adopt()
        return tier.scenarios(arguments[1:])
    tier.begin()
    before = leftovers.listing()
    began = time.monotonic()
    code = 130
    try:
        tier.up()
        if arguments == ["--up"]:
            code = 0
            say(f"up; next: {engines.STATE_VARIABLE}={tier.run_dir}/engine.json, or `python -m tests.e2e --in -k …`")
            return code
        code = tier.scenarios(arguments)
    except KeyboardInterrupt:
        say("interrupted")
    except host.E2EError as error:
        say(str(error))
        code = 1
    finally:
        if arguments != ["--up"] or code:
            left = _report(tier.end(), before)
            say(f"{time.monotonic() - began:.0f} s in all")
    return code or left


def _report(left: list[str], before: set[str]) -> int:
    if before:
        left = left + [f"new file {path}" for path in sorted(leftovers.listing() - before) if "plexburst" in path]
    for line in left:
        say(f"LEFT BEHIND: {line}")
    if not left:
        say("nothing is left: no process, mount, network, rule, container or file outside the cache")
    return 1 if left else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except host.E2EError as error:
        say(str(error))
        sys.exit(2)
