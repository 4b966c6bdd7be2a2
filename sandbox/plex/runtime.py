"""What runs inside the server: its state, its activities, its workers and their child processes, its way to plex.tv."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import apsw

from sandbox.faults import Faults
from sandbox.plex import children, items
from sandbox.plex import database as db
from sandbox.plex.activities import Activity, ScanJob
from sandbox.plex.butler import Butler
from sandbox.plex.children import Child
from sandbox.plex.library import Library
from sandbox.plex.plextv_client import ClaimError, PlexTv
from sandbox.plex.preferences import Preferences
from sandbox.plex.scanner import EMPTY_TRASH_ENV
from sandbox.plex.volumes import Volumes

VERSION = "1.43.4.10903-e5521bd8c"
SUPPORT = Path("Library") / "Application Support" / "Plex Media Server"
_TOKEN_GOOD, _TOKEN_BAD = 60.0, 2.0  # seconds for which plex.tv's word on a token is remembered


class Log:
    """``Logs/Plex Media Server.log``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file: IO[bytes] = (folder / "Plex Media Server.log").open("ab", buffering=0)

    def write(self, level: str, text: str) -> None:
        """One line in the real log's form."""
        now = time.time()
        stamp = time.strftime("%b %d, %Y %H:%M:%S", time.localtime(now)) + f".{int(now % 1 * 1000):03d}"
        self.file.write(f"{stamp} [{threading.get_native_id()}] {level} - {text}\n".encode())

    def close(self) -> None:
        """Nothing is written any more."""
        self.file.close()


class Runtime:
    """The server without its HTTP side."""

    def __init__(
        self, config: Path, volumes: Volumes, faults: Faults, plex_tv_url: str, address: tuple[str, int]
    ) -> None:
        self.support = config / SUPPORT
        self.support.mkdir(parents=True, exist_ok=True)
        self.databases = self.support / "Plug-in Support" / "Databases"
        self.log = Log(self.support / "Logs")
        self.faults = faults
        self.volumes = volumes
        self.plex_tv = PlexTv(plex_tv_url.rstrip("/"))
        self.address = address
        self.preferences = Preferences(self.support / "Preferences.xml")
        self.token = self.preferences.get("PlexOnlineToken")
        self._subscribed = True
        self._tokens: dict[str, tuple[float, bool]] = {}
        self.started = time.monotonic()
        self.stopping = threading.Event()
        self._library: Library | None = None
        self._guard = threading.RLock()
        self._activities: dict[str, Activity] = {}
        self._children: set[Child] = set()
        self._threads: set[threading.Thread] = set()
        self._scans: queue.Queue[ScanJob | None] = queue.Queue()
        self._scan_jobs: list[ScanJob] = []
        self._scan_activities: dict[ScanJob, Activity] = {}
        self._scan_child: Child | None = None
        self._analyses: queue.Queue[list[str] | None] = queue.Queue()
        self.butler = Butler(self)

    # -- life

    @property
    def library(self) -> Library:
        """The library; there only after `open`."""
        if self._library is None:
            raise RuntimeError("The library is not open yet: the server is still starting.")
        return self._library

    @property
    def is_open(self) -> bool:
        """Whether the database is open and the workers run."""
        return self._library is not None

    def open(self) -> None:
        """Open the database and start the workers. Raises apsw.Error for a damaged database."""
        library = Library(self.databases, self.volumes)
        for connection in (library.library, library.pair.blobs):
            # What a truncated file fails on: its schema, and pages at the ends of the large tables.
            connection.execute("SELECT count(*) FROM library_sections").fetchall()
            for table in ("metadata_items", "media_parts", "blobs"):
                connection.execute(f"SELECT * FROM {table} ORDER BY id DESC LIMIT 5").fetchall()  # noqa: S608
        if library.library.execute("SELECT 1 FROM accounts WHERE id=1").fetchone() is None:
            library.add_account(1, self.preferences.get("PlexOnlineUsername") or "Administrator")
        self._library = library
        if self.claimed and self.plex_tv.url:
            self.spawn(self.ask_subscription, "subscription")
        self.spawn(self._scan_worker, "scans")
        self.spawn(self._analysis_worker, "analyses")

    def close(self) -> None:
        """Clean stop: children end, workers end, the databases are checkpointed and closed."""
        self.stopping.set()
        self._scans.put(None)
        self._analyses.put(None)
        self.butler.stop_all()
        with self._guard:
            running = list(self._children)
        for child in running:
            child.send("stop")
        deadline = time.monotonic() + 1.5
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))
        for child in running:
            child.kill()
        for thread in list(self._threads):
            thread.join(2.0)
        if self._library is not None:
            self._library.close()
            self._library = None
        self.log.write("INFO", "Plex Media Server stopped cleanly.")
        self.log.close()

    def spawn(self, target: Callable[[], None], name: str) -> None:
        """Run something in a thread that `close` waits for."""

        def run() -> None:
            try:
                target()
            finally:
                if self._library is not None:
                    self._library.pair.close_thread()
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True, name=name)
        self._threads.add(thread)
        thread.start()

    def start_child(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        fixed: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """A child that ends with the server."""
        base = {**self.volumes.to_environment(), children.DATABASES_ENV: str(self.databases), **(environment or {})}
        child = Child(program, arguments, base, self.log.file, fixed=fixed)
        with self._guard:
            self._children.add(child)
        return child

    def end_child(self, child: Child, seconds: float = 3.0) -> int:
        """Let a child end; returns its exit code."""
        code = child.finish(seconds)
        with self._guard:
            self._children.discard(child)
        return code

    def transcode_folder(self) -> Path:
        """Where the transcoder writes: the setting (a path as the server sees it), else the cache."""
        wanted = self.preferences.setting("TranscoderTempDirectory")
        if wanted:
            folder = self.volumes.host_path(wanted)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self.log.write("WARN", f"The transcoder's folder {wanted} cannot be used: {error}")
            else:
                return folder
        folder = self.support / "Cache" / "Transcode"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    # -- identity and account

    @property
    def claimed(self) -> bool:
        """Whether the server belongs to an account."""
        return bool(self.token)

    @property
    def plex_pass(self) -> bool:
        """Whether its account has Plex Pass."""
        return self.claimed and self._subscribed and not self.faults.get("no_plex_pass")

    def ask_subscription(self) -> None:
        """Ask plex.tv whether the account has Plex Pass. Without an answer what was known stays."""
        try:
            user = self.plex_tv.user(self.token)
        except OSError as error:
            self.log.write("WARN", f"plex.tv cannot be asked for the subscription: {error}")
            return
        self._subscribed = user is not None and bool(user["subscription"]["active"])

    def accepts(self, token: str) -> bool:
        """Whether a token opens this claimed server: its own, or one of the account it belongs to."""
        if token == self.token:
            return True
        if not token or not self.plex_tv.url:
            return False
        until, good = self._tokens.get(token, (0.0, False))
        if time.monotonic() >= until:
            try:
                user = self.plex_tv.user(token)
            except OSError:
                user = None
            good = user is not None and user["username"] == self.preferences.get("PlexOnlineUsername")
            self._tokens[token] = (time.monotonic() + (_TOKEN_GOOD if good else _TOKEN_BAD), good)
        return good

    @property
    def machine_identifier(self) -> str:
        """The public identifier."""
        return self.preferences.get("ProcessedMachineIdentifier")

    @property
    def friendly_name(self) -> str:
        """The name people see."""
        return self.preferences.setting("FriendlyName") or "plex"

    def claim(self, claim_token: str) -> None:
        """Exchange a claim token at plex.tv for a token of this server's own. Raises ClaimError."""
        if self.faults.get("unclaimable"):
            raise ClaimError("the claim was refused")
        token, username = self.plex_tv.exchange(claim_token, self.machine_identifier, self.friendly_name, VERSION)
        self.token = token
        self.log.write("INFO", "Token obtained successfully.")
        late = float(self.faults.get("token_late") or 0)

        def write() -> None:
            if not self.stopping.wait(late) and self.token == token:
                self.preferences.update({"PlexOnlineToken": token, "PlexOnlineUsername": username})

        self.preferences.update({"PlexOnlineUsername": username})
        self.ask_subscription()
        if late:
            self.spawn(write, "token")
        else:
            write()

    def publish_name(self) -> None:
        """Tell plex.tv the server's name, in the background."""

        def tell() -> None:
            try:
                self.plex_tv.rename(self.machine_identifier, self.friendly_name, self.token)
            except OSError as error:
                self.log.write("WARN", f"The new name did not reach plex.tv: {error}")

        if self.claimed and self.plex_tv.url:
            self.spawn(tell, "name")

    def unclaim(self) -> None:
        """Sign out. The account keeps the device until someone removes it there."""
        self.token = ""
        self.preferences.update({"PlexOnlineToken": None, "PlexOnlineUsername": None, "PlexOnlineHome": None})

    # -- activities

    def add_activity(self, activity: Activity) -> Activity:
        """Show an activity."""
        with self._guard:
            self._activities[activity.uuid] = activity
        return activity

    def end_activity(self, activity: Activity) -> None:
        """It is over."""
        with self._guard:
            self._activities.pop(activity.uuid, None)

    def activities(self) -> list[Activity]:
        """What is going on."""
        with self._guard:
            return list(self._activities.values())

    # -- scanning

    def refreshing(self, section_id: int) -> bool:
        """Whether a scan of the section runs or waits."""
        with self._guard:
            return any(job.section_id == section_id for job in self._scan_jobs)

    def request_scan(self, job: ScanJob) -> None:
        """Queue a scan; the same one twice is one."""
        rows = items.sections(self.library.library, job.section_id)
        if not rows:
            return
        with self._guard:
            if job in self._scan_jobs:
                return
            self._scan_jobs.append(job)
            # The activity is there at once; its section's number is not.
            self._scan_activities[job] = self.add_activity(
                Activity("library.update.section", f"Scanning {rows[0][1]}", section_id=job.section_id)
            )
        self._scans.put(job)

    def cancel_scans(self, section_id: int | None) -> None:
        """Stop and forget the scans of a section, or all."""
        with self._guard:
            running = self._scan_jobs[0] if self._scan_jobs else None
            kept = [job for job in self._scan_jobs if job is running or section_id not in (None, job.section_id)]
            for job in self._scan_jobs:
                if job not in kept:
                    self.end_activity(self._scan_activities.pop(job))
            self._scan_jobs[:] = kept
            if running is not None and section_id in (None, running.section_id) and self._scan_child is not None:
                self._scan_child.send("stop")

    def _scan_worker(self) -> None:
        while not self.stopping.is_set():
            job = self._scans.get()
            if job is None:
                return
            with self._guard:
                if job not in self._scan_jobs:
                    continue  # cancelled while it waited
            try:
                self._scan(job)
            finally:
                with self._guard:
                    self._scan_jobs.remove(job)
                    self.end_activity(self._scan_activities.pop(job))

    def _scan(self, job: ScanJob) -> None:
        rows = items.sections(self.library.library, job.section_id)
        if not rows:
            return
        title = str(rows[0][1])
        scanning = self._scan_activities[job]
        refresh: Activity | None = None
        arguments = ["--scan", "--refresh", "--section", str(job.section_id)]
        if job.path is not None:
            arguments += ["--directory", job.path]
        if job.force:
            arguments.append("--force")
        self.log.write("INFO", f"Library section {job.section_id} ({title}) will be updated, force={int(job.force)}.")
        trash = "1" if self.preferences.on("autoEmptyTrash") else "0"
        environment = {EMPTY_TRASH_ENV: trash, children.SPEED_ENV: str(children.speed() * job.cost)}
        child = self.start_child(children.SCANNER, arguments, fixed=True, environment=environment)
        with self._guard:
            self._scan_child = child
        outcome: dict[str, Any] = {}
        try:
            while (event := child.read()) is not None:
                if event["event"] == "progress" and event["phase"] == "refresh":
                    if refresh is None:
                        self.end_activity(scanning)
                        refresh = self.add_activity(
                            Activity("library.refresh.items", f"Refreshing {title}", section_id=job.section_id)
                        )
                    refresh.subtitle = event["title"]
                elif event["event"] == "progress":
                    scanning.subtitle = event["title"]
                else:
                    outcome |= event
        finally:
            with self._guard:
                self._scan_child = None
            code = self.end_child(child)
            if refresh is not None:
                self.end_activity(refresh)
        self.log.write(
            "INFO",
            f"Library section {job.section_id} was updated: {outcome.get('added', 0)} added,"
            f" {outcome.get('trashed', 0)} trashed,"
            f" {outcome.get('removed', 0)} removed for ever (scanner exit code {code}).",
        )
        if job.force:
            self.butler.forget_failures(section_id=job.section_id)
        wants_sonic = self.plex_pass and self.preferences.setting("MusicAnalysisBehavior") == "asap"
        if rows[0][2] == db.ARTIST and outcome.get("added") and wants_sonic and not self.stopping.is_set():
            self.butler.start("MusicAnalysis")

    # -- analysis and refresh of items

    def request_items(self, flag: str, *, section_id: int | None = None, item_ids: Sequence[int] = ()) -> None:
        """Queue a scanner run with ``--analyze``, ``--analyze-deeply`` or ``--refresh`` over a section or items."""
        what = (
            ["--item", ",".join(str(item) for item in item_ids)]
            if section_id is None
            else ["--section", str(section_id)]
        )
        self._analyses.put([flag, *what])

    def _analysis_worker(self) -> None:
        while not self.stopping.is_set():
            arguments = self._analyses.get()
            if arguments is None:
                return
            analysis = arguments[0].startswith("--analyze")
            seconds = self.faults.take_value("analysis_in_transcoder") if analysis else None
            if seconds:
                self.work_in_transcoder(float(seconds), lambda: False)
            self.run_scanner(arguments, lambda: False)

    def work_in_transcoder(self, seconds: float, should_stop: Callable[[], bool]) -> None:
        """A ``Plex Transcoder`` that works for so long (on a fifth of a core), with no activity of its own."""
        child = self.start_child(children.TRANSCODER, [])
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end and not should_stop() and not self.stopping.wait(0.2):
                child.ask({"burn": 0.05})
        finally:
            self.end_child(child)

    def run_scanner(self, arguments: list[str], should_stop: Callable[[], bool]) -> None:
        """One scanner run over items, with its activity."""
        kind = "library.update.item.metadata" if arguments[0] == "--refresh" else "media.analyze"
        section = int(arguments[2]) if arguments[1] == "--section" else None
        activity = self.add_activity(
            Activity(kind, "Analyzing" if kind == "media.analyze" else "Refreshing", section_id=section)
        )
        child = self.start_child(children.SCANNER, arguments)
        try:
            while (event := child.read()) is not None:
                activity.subtitle = str(event.get("title", ""))
                if should_stop():
                    child.send("stop")
        finally:
            self.end_child(child)
            self.end_activity(activity)
        if arguments[0] == "--refresh":
            for item in arguments[2].split(","):
                self.butler.forget_failures(item_id=int(item))


def readable(error: apsw.Error) -> str:
    """What the server's log says of a database error."""
    return f"SQLITE3:{type(error).__name__} {error}"
