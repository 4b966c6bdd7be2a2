"""The HTTP API of the server (docs/plex-facts.md §2; shapes: the OpenAPI description ``plex-api-spec.yaml``)."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import apsw

from sandbox.httpd import Reply, Request, Response, Simulator
from sandbox.plex import database as db
from sandbox.plex import items
from sandbox.plex.activities import Activity, ScanJob
from sandbox.plex.butler import BUTLER_TASKS
from sandbox.plex.household import Household
from sandbox.plex.nodes import Node, Value, container, maintenance, refuse, respond
from sandbox.plex.plextv_client import ClaimError
from sandbox.plex.preferences import SETTINGS, TRUE_WORDS, Setting
from sandbox.plex.records import SECTION_TYPES, LibraryError
from sandbox.plex.runtime import VERSION, Runtime, readable

MIGRATING = "Plex Media Server is currently running database migrations."
STARTING = "Plex Media Server is currently running startup maintenance tasks."
_FEATURES = (
    "camera_upload,hardware_transcoding,home,loudness,lyrics,music-analysis,pass,premium_music_metadata,sync,webhooks"
)
_ARTWORK = {"thumb": "user_thumb_url", "art": "user_art_url"}
_SEARCH_LIMIT = 10
_NEAREST = 20


def _truth(text: str) -> bool:
    return text.strip().lower() in TRUE_WORDS


def _ok() -> Response:
    return Response(200, b"", {"Content-Type": "text/plain"})


class Api(Simulator):
    """Routes, authorisation and the state of being ready."""

    def __init__(self, runtime: Runtime, name: str) -> None:
        super().__init__(name, runtime.faults)
        self.runtime = runtime
        self.household = Household(runtime, lambda keys: self._renderer().nodes(self._rows(keys)))
        self._ready = threading.Event()
        self._flying = 0
        self._flight = threading.Condition()
        self._routes_of_the_server()
        self._routes_of_the_library()

    def ready(self) -> None:
        """Maintenance is over."""
        self._ready.set()

    def drain(self, seconds: float = 2.0) -> None:
        """Stop serving and wait for requests that are being answered."""
        self.stop()
        deadline = time.monotonic() + seconds
        with self._flight:
            while self._flying and (left := deadline - time.monotonic()) > 0:
                self._flight.wait(left)

    # -- every request

    def handle(self, request: Request) -> Response:
        with self._flight:
            self._flying += 1
        try:
            return super().handle(request)
        except LibraryError as error:
            self.runtime.log.write("WARN", str(error))
            return refuse(404, "Not Found")
        except apsw.Error as error:
            self.runtime.log.write("ERROR", readable(error))
            return refuse(500, "Internal Server Error")
        finally:
            with self._flight:
                self._flying -= 1
                self._flight.notify_all()

    def before(self, request: Request) -> Response | None:
        faults = self.runtime.faults.all()
        if not self._ready.is_set() or faults.get("maintenance") == "forever":
            return maintenance(request, MIGRATING if "maintenance" in faults else STARTING)
        if request.path == "/identity":
            return None
        token = request.header("X-Plex-Token") or request.arg("X-Plex-Token")
        if faults.get("unauthorized"):
            return refuse(401, "Unauthorized")
        if self.runtime.claimed:
            return None if self.runtime.accepts(token) else refuse(401, "Unauthorized")
        return None if self._local(request) else refuse(401, "Unauthorized")

    def _local(self, request: Request) -> bool:
        """An unclaimed server answers those who address it by IP or as localhost, nobody else
        (docs/plex-facts.md#readiness)."""
        host = urlsplit(f"//{request.header('Host')}").hostname or ""
        if host == "localhost":
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            self.runtime.log.write(
                "WARN",
                f"Request came in with unrecognized domain / IP '{host}' in header Host; treating as non-local",
            )
            return False
        return True

    def fallback(self, request: Request, allowed: list[str]) -> Response:
        self.runtime.log.write("DEBUG", f"No route for {request.method} {request.path}")
        return refuse(404, "Not Found")

    # -- the server itself

    def _routes_of_the_server(self) -> None:
        self.route("GET", "/identity", self.identity)
        self.route("GET", "/", self.root)
        self.route("GET", "/:/prefs", self.preferences)
        self.route("PUT", "/:/prefs", self.set_preferences)
        self.route("GET", "/:/prefs/get", self.preference)
        self.route("GET", "/activities", self.activities)
        self.route("DELETE", "/activities/{uuid}", self.cancel_activity)
        self.route("GET", "/butler", self.butler_tasks)
        self.route("POST", "/butler", self.start_butler)
        self.route("DELETE", "/butler", self.stop_butler)
        self.route("POST", "/butler/{task}", self.start_task)
        self.route("DELETE", "/butler/{task}", self.stop_task)
        self.route("GET", "/status/sessions", self.household.sessions)
        self.route("GET", "/status/sessions/background", self.household.conversions)
        self.route("GET", "/livetv/sessions", self.household.live_sessions)
        self.route("GET", "/media/subscriptions/scheduled", self.household.recordings)
        self.route("GET", "/myplex/account", self.account)
        self.route("DELETE", "/myplex/account", self.unclaim)
        self.route("POST", "/myplex/claim", self.claim)
        self.route("GET", "/accounts", self.accounts)
        self.route("GET", "/devices", self.devices)

    def identity(self, request: Request) -> Response:
        """Who this is; from memory."""
        runtime = self.runtime
        return respond(
            request,
            Node(
                "MediaContainer",
                {
                    "size": 0,
                    "apiVersion": "1.2.3",
                    "claimed": runtime.claimed,
                    "machineIdentifier": runtime.machine_identifier,
                    "version": VERSION,
                },
            ),
        )

    def root(self, request: Request) -> Response:
        """What this server can do."""
        runtime = self.runtime
        signed_in: dict[str, Value] = (
            {
                "myPlexMappingState": "mapped",
                "myPlexSigninState": "ok",
                "myPlexUsername": runtime.preferences.get("PlexOnlineUsername"),
                "ownerFeatures": _FEATURES if runtime.plex_pass else "home,lyrics",
            }
            if runtime.claimed
            else {"myPlexMappingState": "unknown", "myPlexSigninState": "none"}
        )
        directories = [
            Node("Directory", {"count": 1, "key": name, "title": name})
            for name in ("activities", "butler", "hubs", "library", "playlists", "statistics")
        ]
        node = container(
            directories,
            allowMediaDeletion=runtime.preferences.on("allowMediaDeletion"),
            apiVersion="1.2.3",
            backgroundProcessing=True,
            claimed=runtime.claimed,
            friendlyName=runtime.friendly_name,
            machineIdentifier=runtime.machine_identifier,
            multiuser=True,
            musicAnalysis=2 if runtime.plex_pass else None,
            myPlex=True,
            myPlexSubscription=runtime.plex_pass,
            platform="Linux",
            platformVersion="24.04",
            updatedAt=int(time.time()),
            version=VERSION,
            **signed_in,
        )
        return respond(request, node)

    # -- preferences

    def _setting(self, setting: Setting) -> Node:
        value = self.runtime.preferences.setting(setting.id)
        return Node(
            "Setting",
            {
                "id": setting.id,
                "label": setting.id,
                "summary": "",
                "type": setting.kind,
                "default": setting.python(setting.default),
                "value": setting.python(value),
                "hidden": setting.hidden,
                "advanced": setting.hidden,
                "group": setting.group,
                "enumValues": setting.values or None,
            },
        )

    def _known(self, name: str) -> Setting | None:
        """A setting that exists on this server: some appear only with Plex Pass."""
        setting = SETTINGS.get(name)
        return setting if setting is not None and (self.runtime.plex_pass or not setting.plex_pass) else None

    def preferences(self, request: Request) -> Response:
        """Every setting that exists."""
        return respond(request, container([self._setting(s) for s in SETTINGS.values() if self._known(s.id)]))

    def preference(self, request: Request) -> Response:
        """One setting, or 404."""
        setting = self._known(request.arg("id"))
        return refuse(404, "Not Found") if setting is None else respond(request, container([self._setting(setting)]))

    def set_preferences(self, request: Request) -> Response:
        """Set what exists.

        An unknown key gets 200 like the others and nothing happens (measured, docs/plex-facts.md#http-api).
        """
        values: dict[str, str | None] = {}
        for name in request.query:
            setting = self._known(name)
            if setting is None or setting.id == "MachineIdentifier":
                continue
            try:
                values[name] = setting.normal(request.arg(name))
            except ValueError:
                return refuse(400, "Bad Request")
        if values:
            self.runtime.preferences.update(values)
        if "FriendlyName" in values:
            self.runtime.publish_name()
        return _ok()

    # -- activities and tasks

    def activities(self, request: Request) -> Response:
        """What is going on; the section stands on the child."""
        nodes = []
        for activity in self.runtime.activities():
            node = Node(
                "Activity",
                {
                    "uuid": activity.uuid,
                    "type": activity.type,
                    "cancellable": activity.cancellable,
                    "userID": 1,
                    "title": activity.title,
                    "subtitle": activity.subtitle,
                    "progress": activity.progress,
                },
            )
            if activity.named_section is not None:
                node.add(Node("Context", {"librarySectionID": str(activity.named_section)}))
            nodes.append(node)
        answer = container([*nodes, *self.household.downloads()])
        if "application/json" not in request.header("Accept"):
            return respond(request, answer)
        # In JSON the context is an object, not a list.
        plain = answer.plain()
        for activity_json in plain.get("Activity", []):
            if "Context" in activity_json:
                activity_json["Context"] = activity_json["Context"][0]
        return Response.json({"MediaContainer": plain})

    def cancel_activity(self, request: Request) -> Response:
        """400 when it cannot be cancelled, 404 when there is none."""
        found: Activity | None = next((a for a in self.runtime.activities() if a.uuid == request.params["uuid"]), None)
        if found is None:
            return refuse(404, "Not Found")
        if not found.cancellable or found.cancel is None:
            return refuse(400, "Bad Request")
        found.cancel()
        return _ok()

    def butler_tasks(self, request: Request) -> Response:
        """The list of tasks: not a MediaContainer."""
        tasks = [
            Node(
                "ButlerTask",
                {
                    "name": name,
                    "interval": interval,
                    "scheduleRandomized": name not in ("BackupDatabase", "OptimizeDatabase"),
                    "enabled": self.runtime.butler.enabled(name),
                    "title": name,
                    "description": name,
                },
            )
            for name, (_preference, interval) in BUTLER_TASKS.items()
        ]
        return respond(request, Node("ButlerTasks", {}, tasks))

    def start_butler(self, _request: Request) -> Response:
        """Start everything that is enabled."""
        for name in BUTLER_TASKS:
            if self.runtime.butler.enabled(name):
                self.runtime.butler.start(name)
        return _ok()

    def stop_butler(self, _request: Request) -> Response:
        """Stop everything."""
        self.runtime.butler.stop_all()
        return _ok()

    def start_task(self, request: Request) -> Response:
        """200 started, 202 runs already, 404 no such task."""
        name = request.params["task"]
        if name not in BUTLER_TASKS:
            return refuse(404, "Not Found")
        return _ok() if self.runtime.butler.start(name) else Response(202, b"", {"Content-Type": "text/plain"})

    def stop_task(self, request: Request) -> Response:
        """200 stopped, 404 no such task or it does not run."""
        name = request.params["task"]
        return _ok() if name in BUTLER_TASKS and self.runtime.butler.stop(name) else refuse(404, "Not Found")

    # -- the account

    def account(self, request: Request) -> Response:
        """The account this server belongs to."""
        runtime = self.runtime
        attributes: dict[str, Value] = {"signInState": "none", "mappingState": "unknown", "subscriptionActive": False}
        if runtime.claimed:
            attributes = {
                "authToken": runtime.token,
                "username": runtime.preferences.get("PlexOnlineUsername"),
                "mappingState": "mapped",
                "signInState": "ok",
                "publicAddress": "",
                "publicPort": 0,
                "privateAddress": runtime.address[0],
                "privatePort": runtime.address[1],
                "subscriptionFeatures": _FEATURES if runtime.plex_pass else "",
                "subscriptionActive": runtime.plex_pass,
                "subscriptionState": "Active" if runtime.plex_pass else "Unknown",
                "subscriptionPlan": "lifetime" if runtime.plex_pass else None,
            }
        features = _FEATURES.split(",") if runtime.plex_pass else []
        return respond(request, Node("MyPlex", attributes, [Node("Feature", {"id": feature}) for feature in features]))

    def claim(self, request: Request) -> Response:
        """Sign in with a claim token."""
        try:
            self.runtime.claim(request.arg("token"))
        except ClaimError as error:
            self.runtime.log.write("ERROR", f"Claiming failed: {error}")
            return refuse(400, "Bad Request")
        return self.account(request)

    def unclaim(self, request: Request) -> Response:
        """Sign out."""
        self.runtime.unclaim()
        return self.account(request)

    def accounts(self, request: Request) -> Response:
        """Who uses the server."""
        sql: Any = self.runtime.library.library
        rows = sql.execute("SELECT id, name FROM accounts ORDER BY id").fetchall()
        nodes = [Node("Account", {"id": int(row[0]), "key": f"/accounts/{row[0]}", "name": row[1]}) for row in rows]
        return respond(request, container(nodes, identifier="com.plexapp.system.accounts"))

    def devices(self, request: Request) -> Response:
        """What plays."""
        sql: Any = self.runtime.library.library
        rows = sql.execute("SELECT id, name, platform, identifier, created_at FROM devices ORDER BY id").fetchall()
        nodes = [
            Node(
                "Device",
                {"id": int(r[0]), "name": r[1], "platform": r[2], "clientIdentifier": r[3], "createdAt": r[4]},
            )
            for r in rows
        ]
        return respond(request, container(nodes, identifier="com.plexapp.system.devices"))

    # -- the library

    def _routes_of_the_library(self) -> None:
        section, item = "/library/sections/{section}", "/library/metadata/{ids}"
        self.route("GET", "/library", lambda request: respond(request, container(title1="Plex Library")))
        for path in ("/library/sections", "/library/sections/"):
            self.route("GET", path, self.sections)
        self.route("POST", "/library/sections", self.add_section)
        for method in ("GET", "POST"):
            self.route(method, "/library/sections/refresh", self.refresh_all)
            self.route(method, "/library/sections/all/refresh", self.refresh_all)
            self.route(method, f"{section}/refresh", self.refresh)
        self.route("DELETE", "/library/sections/all/refresh", self.cancel_all)
        self.route("DELETE", f"{section}/refresh", self.cancel)
        self.route("PUT", f"{section}/analyze", self.analyse_section)
        self.route("PUT", f"{section}/emptyTrash", self.empty_trash)
        self.route("GET", f"{section}/all", self.listing)
        self.route("GET", f"{section}/albums", self.albums)
        self.route("GET", section, self.section)
        for what in ("/library/optimize", "/library/clean/bundles"):
            self.route("PUT", what, lambda _request: _ok())
        self.route("GET", f"{item}/children", self.children)
        self.route("GET", f"{item}/nearest", self.nearest)
        self.route("PUT", f"{item}/analyze", self._items_worker("--analyze"))
        self.route("PUT", f"{item}/refresh", self._items_worker("--refresh"))
        self.route("GET", f"{item}/{{element}}/{{timestamp}}", self.artwork)
        self.route("GET", item, self.metadata)
        self.route("GET", "/hubs/search", self.search)
        self.route("GET", "/playlists", self.playlists)
        self.route("POST", "/playlists", self.add_playlist)
        self.route("GET", "/playlists/{playlist}", self.playlist)
        self.route("GET", "/playlists/{playlist}/items", self.playlist_items)
        self.route("GET", "/:/scrobble", self.scrobble)
        self.route("GET", "/:/rate", self.rate)

    def _renderer(self) -> items.Renderer:
        return items.Renderer(self.runtime.library.library, self.runtime.volumes)

    def _rows(self, ids: list[int]) -> list[tuple[object, ...]]:
        return items.by_ids(self.runtime.library.library, ids)

    def _section_row(self, request: Request) -> tuple[object, ...]:
        text = request.params["section"]
        rows = items.sections(self.runtime.library.library, int(text)) if text.isdecimal() else []
        if not rows:
            raise Reply(refuse(404, "Not Found"))
        return rows[0]

    def sections(self, request: Request) -> Response:
        """Every library, with its locations."""
        sql = self.runtime.library.library
        nodes = [items.section_node(sql, row, self.runtime.refreshing(int(row[0]))) for row in items.sections(sql)]
        return respond(request, container(nodes, allowSync=False, title1="Plex Library"))

    def section(self, request: Request) -> Response:
        """The ways to look at one library."""
        row = self._section_row(request)
        ways = [Node("Directory", {"key": key, "title": title}) for key, title in (("all", f"All {row[1]}"),)]
        return respond(
            request,
            container(ways, content="secondary", librarySectionID=int(str(row[0])), title1=str(row[1])),
        )

    def add_section(self, request: Request) -> Response:
        """A new library; 400 when something is missing."""
        kind, locations = request.arg("type"), request.args("location")
        if kind not in SECTION_TYPES or not request.arg("name") or not locations:
            return refuse(400, "Bad Request")
        section = self.runtime.library.add_section(
            request.arg("name"), kind, request.arg("agent"), request.arg("scanner"), locations, request.arg("language")
        )
        sql = self.runtime.library.library
        self.runtime.request_scan(ScanJob(section))
        nodes = [items.section_node(sql, row, True) for row in items.sections(sql, section)]
        return respond(request, container(nodes), 201)

    def _may_scan(self, kinds: set[object]) -> None:
        if db.ARTIST in kinds and not self.runtime.claimed:
            self.runtime.log.write("WARN", "Server cannot refresh a music library when not signed in")
            raise Reply(refuse(503, "Service Unavailable"))

    def refresh(self, request: Request) -> Response:
        """Scan one library."""
        row = self._section_row(request)
        self._may_scan({row[2]})
        path = request.arg("path").rstrip("/") or None
        self.runtime.request_scan(ScanJob(int(str(row[0])), _truth(request.arg("force")), path))
        return _ok()

    def refresh_all(self, request: Request) -> Response:
        """Scan every library."""
        rows = items.sections(self.runtime.library.library)
        self._may_scan({row[2] for row in rows})
        for row in rows:
            self.runtime.request_scan(ScanJob(int(row[0]), _truth(request.arg("force"))))
        return _ok()

    def cancel(self, request: Request) -> Response:
        """Stop the scans of one library."""
        self.runtime.cancel_scans(int(str(self._section_row(request)[0])))
        return _ok()

    def cancel_all(self, _request: Request) -> Response:
        """Stop all scans."""
        self.runtime.cancel_scans(None)
        return _ok()

    def analyse_section(self, request: Request) -> Response:
        """Analyse every item of a library."""
        self.runtime.request_items("--analyze", section_id=int(str(self._section_row(request)[0])))
        return _ok()

    def empty_trash(self, request: Request) -> Response:
        """Remove for ever what is in the trash."""
        self.runtime.library.empty_trash(int(str(self._section_row(request)[0])))
        return _ok()

    def _page(self, request: Request) -> items.Page:
        def number(name: str) -> int | None:
            text = request.header(name) or request.arg(name)
            if not text:
                return None
            if not text.isdecimal():
                raise Reply(refuse(400, "Bad Request"))
            return int(text)

        sizes = [size for size in (number("X-Plex-Container-Size"), number("limit")) if size is not None]
        return items.Page(number("X-Plex-Container-Start") or 0, min(sizes, default=None))

    def listing(self, request: Request) -> Response:
        """Items of one type: ``type`` (a number; the library's own type when absent), ``title``, ``sort``.

        Paged by the container headers.
        """
        row = self._section_row(request)
        kind = request.arg("type")
        if kind and not kind.isdecimal():
            return refuse(400, "Bad Request")
        section_type = int(str(row[2]))
        top = db.PHOTO_ALBUM if section_type == db.PHOTO else section_type
        return self._list(request, row, int(kind) if kind else top)

    def albums(self, request: Request) -> Response:
        """Every album of a music library."""
        return self._list(request, self._section_row(request), db.ALBUM)

    def _list(self, request: Request, row: tuple[object, ...], wanted: int) -> Response:
        page = self._page(request)
        total, found = items.listing(
            self.runtime.library.library,
            int(str(row[0])),
            wanted,
            page,
            title=request.arg("title"),
            newest_first=request.arg("sort").startswith("addedAt"),
        )
        node = container(
            self._renderer().nodes(found),
            totalSize=total,
            offset=page.start,
            allowSync=True,
            librarySectionID=int(str(row[0])),
            librarySectionTitle=str(row[1]),
            librarySectionUUID=str(row[6]),
            title1=str(row[1]),
            viewGroup=items.TYPE_NAMES.get(wanted, "clip"),
        )
        return respond(request, node)

    def _ids(self, request: Request) -> list[int]:
        texts = request.params["ids"].split(",")
        rows = self._rows([int(text) for text in texts if text.isdecimal()])
        if len(rows) != len(texts):
            raise Reply(refuse(404, "Not Found"))
        return [int(str(row[0])) for row in rows]

    def metadata(self, request: Request) -> Response:
        """Items by id; ``checkFiles=1`` says of each part whether its file is there."""
        rows = self._rows(self._ids(request))
        nodes = self._renderer().nodes(rows, check_files=_truth(request.arg("checkFiles")), detail=True)
        section = rows[0][1]
        return respond(
            request,
            container(nodes, allowSync=True, librarySectionID=None if section is None else int(str(section))),
        )

    def artwork(self, request: Request) -> Response:
        """An item's picture, as ``getItemArtwork`` of the API's description; 404 when its file is not there."""
        element, item = request.params["element"], self._ids(request)[0]
        if element not in _ARTWORK:
            return refuse(404, "Not Found")
        library = self.runtime.library
        kind, item_hash, reference = library.library.execute(
            f"SELECT metadata_type, hash, {_ARTWORK[element]} FROM metadata_items WHERE id=?",  # noqa: S608 - a constant
            (item,),
        ).fetchone()
        path = library.bundles.path(int(kind), str(item_hash), str(reference or ""))
        if path is None or not path.is_file():
            return refuse(404, "Not Found")
        return Response(200, path.read_bytes(), {"Content-Type": "image/jpeg"})

    def children(self, request: Request) -> Response:
        """What hangs below an item."""
        item = self._ids(request)[0]
        sql: Any = self.runtime.library.library
        found = items.children(sql, item)
        row = sql.execute("SELECT metadata_type, title FROM metadata_items WHERE id=?", (item,)).fetchone()
        if row[0] == db.COLLECTION:
            found = items.by_ids(
                sql,
                [
                    int(r[0])
                    for r in sql.execute(
                        "SELECT g.metadata_item_id FROM taggings g JOIN tags t ON t.id=g.tag_id WHERE"
                        " t.metadata_item_id=?"
                        ' ORDER BY g."index"',
                        (item,),
                    ).fetchall()
                ],
            )
        return respond(request, container(self._renderer().nodes(found), key=str(item), parentTitle=row[1]))

    def nearest(self, request: Request) -> Response:
        """Tracks that sound alike: by distance of the vectors; none while the track has no vector."""
        track = self._ids(request)[0]
        library = self.runtime.library
        vector = library.sonic_vector(track)
        if vector is None:
            return respond(request, container())
        distances: list[tuple[float, int]] = []
        blobs: Any = library.pair.blobs
        others = blobs.execute(
            "SELECT linked_id FROM blobs WHERE linked_type='metadata_item' AND blob_type=7 AND linked_id<>? LIMIT 2000",
            (track,),
        ).fetchall()
        for (other,) in others:
            found = library.sonic_vector(int(other)) or []
            distances.append((sum((a - b) ** 2 for a, b in zip(vector, found, strict=True)) ** 0.5, int(other)))
        distances.sort()
        nodes = []
        for distance, other in distances[:_NEAREST]:
            for node in self._renderer().nodes(self._rows([other])):
                node.attributes["distance"] = round(distance, 6)
                nodes.append(node)
        return respond(request, container(nodes))

    def _items_worker(self, flag: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            self.runtime.request_items(flag, item_ids=self._ids(request))
            return _ok()

        return answer

    def search(self, request: Request) -> Response:
        """Hubs of items whose title has the words."""
        limit = request.arg("limit")
        section = request.arg("sectionId")
        rows = items.search(
            self.runtime.library.library,
            request.arg("query"),
            int(limit) if limit.isdecimal() else _SEARCH_LIMIT,
            int(section) if section.isdecimal() else None,
        )
        hubs: dict[str, Node] = {}
        for row in rows:
            kind = items.TYPE_NAMES.get(int(str(row[3])), "clip")
            hub = hubs.setdefault(
                kind,
                Node("Hub", {"type": kind, "hubIdentifier": kind, "title": kind.title(), "size": 0, "more": False}),
            )
            hub.add(self._renderer().node(row))
            hub.attributes["size"] = len(hub.children)
        return respond(request, container(list(hubs.values())))

    # -- playlists and watching

    def playlists(self, request: Request) -> Response:
        """Every playlist."""
        sql: Any = self.runtime.library.library
        ids = [
            int(row[0])
            for row in sql.execute("SELECT id FROM metadata_items WHERE metadata_type=15 ORDER BY id").fetchall()
        ]
        return respond(request, container(self._renderer().nodes(items.by_ids(sql, ids))))

    def _playlist_id(self, request: Request) -> int:
        text = request.params["playlist"]
        rows = self._rows([int(text)]) if text.isdecimal() else []
        if not rows or rows[0][3] != db.PLAYLIST:
            raise Reply(refuse(404, "Not Found"))
        return int(text)

    def playlist(self, request: Request) -> Response:
        """One playlist."""
        return respond(request, container(self._renderer().nodes(self._rows([self._playlist_id(request)]))))

    def playlist_items(self, request: Request) -> Response:
        """Its members, in order."""
        playlist = self._playlist_id(request)
        rows = self._rows(self.runtime.library.playlist_items(playlist))
        return respond(request, container(self._renderer().nodes(rows), ratingKey=str(playlist)))

    def add_playlist(self, request: Request) -> Response:
        """A new playlist from ``uri=server://…/library/metadata/1,2``."""
        ids = [int(text) for text in request.arg("uri").rpartition("/")[2].split(",") if text.isdecimal()]
        if not request.arg("title") or not ids:
            return refuse(400, "Bad Request")
        playlist = self.runtime.library.add_playlist(request.arg("title"), ids)
        return respond(request, container(self._renderer().nodes(self._rows([playlist]))))

    def scrobble(self, request: Request) -> Response:
        """The owner has watched an item."""
        self.runtime.library.mark_watched(self._key(request))
        return _ok()

    def rate(self, request: Request) -> Response:
        """The owner rates an item."""
        try:
            rating = float(request.arg("rating"))
        except ValueError:
            return refuse(400, "Bad Request")
        self.runtime.library.rate(self._key(request), rating)
        return _ok()

    def _key(self, request: Request) -> int:
        if not request.arg("key").isdecimal():
            raise Reply(refuse(400, "Bad Request"))
        return int(request.arg("key"))
