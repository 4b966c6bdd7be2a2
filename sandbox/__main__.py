"""`python -m sandbox up|down|reset|status|faults`: see sandbox/README.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandbox.control import Sandbox, SandboxError, default_dir
from sandbox.layout import FAULT_NAMES
from sandbox.media import Sizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 = done, 1 = it failed (the reason is on stderr), 3 = `status` found it down."""
    options = _parser().parse_args(arguments)
    sizes = None
    if options.command == "up" and (
        wanted := {k: v for k, v in vars(options).items() if k in _SIZES and v is not None}
    ):
        sizes = Sizes(**wanted)
    try:
        box = Sandbox(options.dir, sizes=sizes, speed=getattr(options, "speed", None))
        return _run(box, options)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


def _run(box: Sandbox, options: argparse.Namespace) -> int:
    if options.command == "up":
        state = box.up(timeout=options.timeout)
        home = state["home"]
        print(f"sandbox: up in {box.dir}")
        print(f"  Scaleway  {state['scaleway']['url']}  (SCW_CONFIG_PATH={state['scaleway']['config_file']})")
        print(f"  plex.tv   {state['plextv']['url']}")
        print(f"  S3        {state['s3']['endpoint']}  (rclone --config {state['s3']['rclone_config']} lsd media-s3:)")
        print(f"  home      {home['address']}:{home['port']} as {home['user']}, Plex on 127.0.0.1:{home['plex_port']}")
    elif options.command == "down":
        box.down()
        print(f"sandbox: down, data kept in {box.dir}")
    elif options.command == "reset":
        box.reset()
        print(f"sandbox: {box.dir} deleted")
    elif options.command == "status":
        status = box.status()
        print(json.dumps(status, indent=2))
        return 0 if status["up"] else 3
    else:
        if options.values is not None:
            box.set_faults(options.name, _json_object(options.values))
        print(json.dumps(box.faults(), indent=2))
    return 0


def _json_object(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SandboxError(f"expected faults as a JSON object such as {{}}, found {text!r} ({error})") from error
    if not isinstance(values, dict):
        raise SandboxError(f"expected faults as a JSON object such as {{}}, found {text!r}")
    return values


_SIZES = ("tracks", "films", "shows", "episodes", "photos")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="The simulated world plexburst runs in.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", type=Path, default=default_dir(), help="the sandbox's folder (default: %(default)s)")
    up = commands.add_parser("up", parents=[common], help="start it and wait until every part answers; idempotent")
    for name in _SIZES:
        up.add_argument(
            f"--{name}", type=int, metavar="N", help=f"{name} home knows (default {getattr(Sizes(), name)})"
        )
    up.add_argument("--speed", type=float, metavar="S", help="CPU seconds Plex spends per analysed track (default 0.1)")
    up.add_argument("--timeout", type=float, default=180.0, metavar="S", help="seconds until it must run")
    commands.add_parser("down", parents=[common], help="end every process of it; data stays")
    commands.add_parser("reset", parents=[common], help="down, and delete its folder")
    commands.add_parser("status", parents=[common], help="what runs, as JSON; exit code 3 if it is not up")
    faults = commands.add_parser("faults", parents=[common], help="show the faults that are on, or replace one part's")
    faults.add_argument("name", nargs="?", choices=FAULT_NAMES)
    faults.add_argument("values", nargs="?", metavar="JSON", help='for example \'{"out_of_stock": "*"}\'; {} clears')
    return parser


if __name__ == "__main__":
    sys.exit(main())
