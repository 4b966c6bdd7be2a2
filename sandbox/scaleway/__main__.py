"""Run the Scaleway simulator in the foreground."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.scaleway.actions import Actions
from sandbox.scaleway.addresses import Addresses
from sandbox.scaleway.app import App
from sandbox.scaleway.products import Products
from sandbox.scaleway.servers import Servers
from sandbox.scaleway.settings import Settings, load
from sandbox.scaleway.volumes import Volumes


def build(directory: Path, settings: Settings) -> App:
    """The whole API over the state in `directory`; nothing listens yet."""
    app = App(directory, settings)
    products, volumes = Products(app), Volumes(app)
    servers = Servers(app, products, volumes)
    Addresses(app)
    Actions(app, products, servers)
    return app


def main() -> int:
    """Command line; see README.md of the sandbox."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.scaleway", description=__doc__)
    parser.add_argument("--dir", required=True, type=Path, help="the sandbox's folder")
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--host", "--bind", default="127.0.0.1", help="loopback address to listen on")
    parser.add_argument("--block", help="first two octets of the machines' addresses, such as 127.77")
    parser.add_argument("--first-address", type=int, help="how many addresses of the block are left to others")
    parser.add_argument("--speed", type=float, help="2 makes every transition twice as fast")
    options = parser.parse_args()
    directory = options.dir.resolve()
    settings = load(directory, block=options.block, first_address=options.first_address, speed=options.speed)
    build(directory, settings).serve(options.port, options.host)
    return 0


if __name__ == "__main__":
    sys.exit(main())
