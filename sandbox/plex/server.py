"""``Plex Media Server``.

    python -m sandbox.plex.server --config DIR --port N --bind 127.0.0.1 [--volume HOST:PATH[:ro]]…

Environment: PLEX_TV_URL, PLEX_SIM_FAULTS (faults file), PLEX_SIM_SPEED (seconds of CPU per unit of work),
PLEX_SIM_STARTUP (seconds of "startup maintenance tasks", default 0.3), PLEX_SIM_FOLDER_MTIMES (real|constant, see
volumes.py).

The fault ``slow_stop``: seconds between SIGTERM and the checkpoint, as after a large write-ahead log.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import apsw

from sandbox.faults import Faults
from sandbox.plex import children
from sandbox.plex.api import Api
from sandbox.plex.runtime import Runtime, readable
from sandbox.plex.volumes import FOLDER_MTIMES_ENV, Volume, Volumes

STARTUP_ENV = "PLEX_SIM_STARTUP"
_CRASH_CODE = 137


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=children.SERVER)
    parser.add_argument("--config", type=Path, required=True, help="what pms-docker calls /config")
    parser.add_argument("--port", type=int, default=32400)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--volume", type=Volume.parse, action="append", default=[], help="HOST:PATH[:ro]")
    parser.add_argument("--name", default="plex", help="how the sandbox calls this server in its own output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop, 1 for a database that cannot be opened."""
    arguments = _parser().parse_args(argv)
    children.retitle(children.SERVER)
    faults_file = os.environ.get(children.FAULTS_ENV)
    faults = Faults(
        Path(faults_file) if faults_file else Path(tempfile.gettempdir()) / f"plex-faults-{os.getpid()}.json"
    )
    volumes = Volumes(arguments.volume, faults=faults, folder_mtimes=os.environ.get(FOLDER_MTIMES_ENV, "real"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    address = (arguments.bind, arguments.port)
    runtime = Runtime(arguments.config, volumes, faults, os.environ.get("PLEX_TV_URL", ""), address)
    pid_file = runtime.support / "plexmediaserver.pid"
    pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    api = Api(runtime, arguments.name)
    api.start(arguments.port, arguments.bind)
    runtime.log.write("INFO", "Plex Media Server started; listening.")
    try:
        code = _serve(runtime, api, faults, stop)
    except apsw.Error as error:
        runtime.log.write("ERROR", f"Cannot open the database: {readable(error)}")
        print(f"Plex Media Server: cannot open the database: {error}", file=sys.stderr, flush=True)
        code = 1
    time.sleep(float(faults.get("slow_stop") or 0))
    api.drain()
    runtime.close()
    pid_file.unlink(missing_ok=True)
    return code


def _serve(runtime: Runtime, api: Api, faults: Faults, stop: threading.Event) -> int:
    """Maintenance, then work, until told to stop."""
    stop.wait(float(os.environ.get(STARTUP_ENV, "0.3")))
    while not stop.is_set() and _in_maintenance(runtime, faults):
        stop.wait(0.1)
    if not stop.is_set():
        runtime.open()
        api.ready()
    while not stop.wait(0.2):
        runtime.butler.look_at_the_clock()
        crash = faults.get("crash_after")
        if crash is not None and time.monotonic() - runtime.started >= float(crash):
            os._exit(_CRASH_CODE)  # as after kill -9: nothing is checkpointed, nothing is cleaned up
    return 0


def _in_maintenance(runtime: Runtime, faults: Faults) -> bool:
    """Whether the fault ``maintenance`` still holds the server back: "forever", or seconds since the start."""
    value = faults.get("maintenance")
    if value is None:
        return False
    return value == "forever" or time.monotonic() - runtime.started < float(value)


if __name__ == "__main__":
    sys.exit(main())
