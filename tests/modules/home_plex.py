"""A home for tests of plex_home_job: a small pair, and a stand-in for Plex that the role's own scripts stop and
start."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.plexburst.core.plugins.module_utils.home_job import launch, record
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import pair, snapshot

from tests.modules.plex_simulator import free_port
from tests.unit.plex_db import building

NEW = 2000
"""The track that only the new pair has."""

# Holds its database open as Plex does and answers; what it does else is what the files beside its program say.
PLEX = """\
import http.server, json, os, pathlib, signal, sqlite3, sys, time
folder = pathlib.Path(sys.argv[0]).parent
config, port = pathlib.Path(sys.argv[2]), int(sys.argv[4])
if (folder / "does-not-start").exists():
    (folder / "does-not-start").write_text("tried")
    sys.exit("no memory")
library = sqlite3.connect(config / "com.plexapp.plugins.library.db")
library.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
library.execute("PRAGMA journal_mode = WAL").fetchall()
new = library.execute("SELECT COUNT(*) FROM metadata_items WHERE id = 2000").fetchone()[0]
started = time.monotonic()

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ready = not (new and (folder / "new-is-not-ready").exists())
        body = json.dumps({"MediaContainer": {"version": "1.43.4"}}).encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

def end(*_):
    if (folder / "does-not-end").exists():
        return
    library.close()
    (config / "plex.pid").unlink()
    os._exit(0)

signal.signal(signal.SIGTERM, end)
server = http.server.HTTPServer(("127.0.0.1", port), Answer)
(config / "plex.pid").write_text(str(os.getpid()))
server.serve_forever()
"""
SCRIPTS = yaml.safe_load((building.REPO / "roles/plex_server/vars/main.yml").read_text(encoding="utf-8"))


class Home:
    """A home with an old pair in which a Plex stand-in runs, and a new pair that waits to be installed."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.config = building.make_library(root / "Plex config")
        self.incoming, self.backups, self.base = root / "incoming", root / "backups", root / "now"
        snapshot.take(self.config, self.base, "home", "1.43.4")
        snapshot.take(self.config, self.incoming, "indexer", "1.43.4")
        building.write(self.incoming / pair.LIBRARY, *building.track(NEW, "/Media/Music/new.flac", building.SONIC))
        building.write(self.incoming / pair.BLOBS, building.vector(NEW))
        # What home did since: it must be there whatever comes.
        building.write(
            self.config / pair.LIBRARY,
            ("INSERT INTO metadata_item_settings(account_id, guid, rating) VALUES(1, 'g-2', 8.0)",),
        )
        self.program = root / "Plex Media Server"
        self.program.write_text(f"#!{sys.executable}\n{PLEX}")
        self.program.chmod(0o755)
        (root / "Preferences.xml").write_text('<Preferences PlexOnlineToken="owner-token"/>')
        self.record = record.Record(root / "work" / record.FOLDER)
        self.spec: dict[str, Any] = {
            "what": "installation",
            "run_id": "run-1",
            "databases_dir": str(self.config),
            "backups_dir": str(self.backups),
            "preferences": str(root / "Preferences.xml"),
            "urls": [self.url],
            "incoming": str(self.incoming),
            "base_dir": str(self.base),
            "section_ids": None,
            "plex_sqlite": building.plex_sqlite(),
            "conflicts_file": None,
            "keep": 3,
            "backup": "",
            "commands": self.commands(),
            "poll": 0.05,
            "stop_seconds": 20.0,
            "ready_seconds": 5.0,
            "swap_seconds": 20.0,
            "steady_seconds": 0.5,
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid_file(self) -> Path:
        return self.config / "plex.pid"

    def commands(self, stop_timeout: int = 10) -> dict[str, Any]:
        """Those of the role's runtime process."""
        running = [
            "sh",
            "-c",
            SCRIPTS["__plex_server_running_script"],
            "plexburst",
            str(self.pid_file),
            str(self.config),
        ]
        stop = dict(SCRIPTS["__plex_server_commands"]["process"]["stop"][0])
        stop["argv"] = [*stop["argv"][:4], str(self.pid_file), SCRIPTS["__plex_server_end_script"], str(stop_timeout)]
        log = str(self.root / "plex.log")
        start = ["sh", "-c", SCRIPTS["__plex_server_launcher"], "plexburst", log, str(self.pid_file)]
        start += [str(self.program), "--config", str(self.config), "--port", str(self.port)]
        return {
            "running": running,
            "stop": [{**stop, "seconds": stop_timeout + 5}],
            "start": [{"argv": start, "when": "stopped", "seconds": 15}],
        }

    def fault(self, name: str, on: bool = True) -> None:
        """One of `does-not-start`, `does-not-end`, `new-is-not-ready`."""
        (self.root / name).write_text("") if on else (self.root / name).unlink()

    def start(self) -> None:
        """Start Plex as the job would."""
        launch.job.Server(self.spec["commands"], [self.url], self.root / "none", self.config, 0.02).serve(10)

    def end(self) -> None:
        """End what this home still runs, by its id."""
        for path in self.root.glob("pid-*"):
            with suppress(ProcessLookupError):
                os.killpg(int(path.name[4:]), signal.SIGKILL)
        with suppress(OSError, ValueError):
            os.kill(int(self.pid_file.read_text()), signal.SIGKILL)

    def serves(self) -> bool:
        """Whether Plex answers."""
        try:
            with urllib.request.urlopen(f"{self.url}/identity", timeout=2) as answer:  # noqa: S310 - loopback
                return bool(json.load(answer)["MediaContainer"]["version"])
        except OSError:
            return False

    def ended(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until the job is gone; what its record says then."""
        wait(lambda: not self.record.alive(), seconds)
        return self.record.read()

    def whole(self) -> str:
        """`old` or `new`, once both files are sound and belong together, and what home did is in them."""
        found = []
        for name, sql in (
            (pair.LIBRARY, "SELECT COUNT(*) FROM metadata_items WHERE id = ?"),
            (pair.BLOBS, "SELECT COUNT(*) FROM blobs WHERE linked_id = ?"),
        ):
            with closing(sqlite3.connect(f"file:{self.config / name}?mode=ro", uri=True)) as database:
                database.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
                assert database.execute("PRAGMA quick_check").fetchall() == [("ok",)]
                found.append(database.execute(sql, (NEW,)).fetchone()[0])
                if name == pair.LIBRARY:
                    rows = "SELECT guid, view_count, rating FROM metadata_item_settings ORDER BY guid"
                    assert database.execute(rows).fetchall() == [("g-1", 1, None), ("g-2", None, 8.0)]
        assert found in ([0, 0], [1, 1]), "the pair is mixed"
        return "new" if found[0] else "old"


def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
