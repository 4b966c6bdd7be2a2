"""The server over real HTTP, with real files and real child processes: what it answers, and the traps it sets."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from plexapi.server import PlexServer

from sandbox import media
from sandbox.plex.harness import ServerProcess, wait_for
from sandbox.plex.library import Library
from sandbox.plex.volumes import Volume
from sandbox.plextv import PlexTv

SECTIONS = (
    ("Music", "artist", "tv.plex.agents.music", "Plex Music"),
    ("Movies", "movie", "tv.plex.agents.movie", "Plex Movie"),
)
CATALOGUE = media.catalogue(media.Sizes(tracks=12, films=3, shows=0, episodes=0, photos=0))
MUSIC, MOVIES = 1, 2
UNAUTHORIZED = "<html><head><title>Unauthorized</title></head><body><h1>401 Unauthorized</h1></body></html>"

Make = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def shared_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that no test changes."""
    root = tmp_path_factory.mktemp("media")
    media.make(root, CATALOGUE.old())
    return root


@pytest.fixture(scope="module")
def scanned(shared_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that has scanned both sections; made once, copied by each test."""
    support = tmp_path_factory.mktemp("scanned")
    with Library(support / "Plug-in Support" / "Databases", [Volume(shared_media, "/Media")]) as library:
        for name, kind, agent, scanner in SECTIONS:
            library.scan(library.add_section(name, kind, agent, scanner, [f"/Media/{name}"]))
    return support


@pytest.fixture
def make(tmp_path: Path, shared_media: Path, scanned: Path) -> Iterator[Make]:
    """Makes servers with two scanned sections: claimed unless told otherwise, not started yet; ends them."""
    made: list[ServerProcess] = []

    def server(root: Path | None = None, *, claimed: bool = True, scan: bool = True, **options: Any) -> ServerProcess:
        folder = tmp_path / f"server{len(made)}"
        volumes = [Volume(root or shared_media, "/Media")]
        process = ServerProcess(folder, volumes, **options)
        if claimed:
            process.sign_in()
        if scan:
            shutil.copytree(scanned, process.support, dirs_exist_ok=True)
        else:
            with Library(process.databases, volumes) as library:
                for name, kind, agent, scanner in SECTIONS:
                    library.add_section(name, kind, agent, scanner, [f"/Media/{name}"])
        made.append(process)
        return process

    yield server
    for process in made:
        process.stop(signal.SIGKILL if process.ended() else signal.SIGTERM)


@pytest.fixture
def own_media(tmp_path: Path) -> Path:
    """Files of this test's own."""
    root = tmp_path / "media"
    media.make(root, CATALOGUE.old())
    return root


@pytest.fixture(scope="module")
def reader(shared_media: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A claimed server for tests that change nothing."""
    volumes = [Volume(shared_media, "/Media")]
    process = ServerProcess(tmp_path_factory.mktemp("reader"), volumes)
    process.sign_in()
    with Library(process.databases, volumes) as library:
        for name, kind, agent, scanner in SECTIONS:
            library.scan(library.add_section(name, kind, agent, scanner, [f"/Media/{name}"]))
        library.mark_watched(library.find("The Long Pier"), at=1_700_000_000)
        library.add_playlist("Evening", [track for track, _file in library.sonic_pending([MUSIC], 0, 3)])
    with process.start():
        yield process


@pytest.fixture
def plex_tv(tmp_path: Path) -> Iterator[tuple[PlexTv, str]]:
    """plex.tv and its address."""
    folder = tmp_path / "plextv"
    folder.mkdir()
    app = PlexTv(folder)
    yield app, app.start()
    app.stop()


def query(server: ServerProcess, sql: str) -> list[tuple[Any, ...]]:
    """Rows of library.db, read as any reader must: with a stand-in for the collation."""
    connection = sqlite3.connect(server.databases / "com.plexapp.plugins.library.db")
    connection.create_collation("icu_root", lambda a, b: (a > b) - (a < b))
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def analysed(server: ServerProcess) -> int:
    """Tracks with Sonic data, by the database."""
    sql = "SELECT count(*) FROM metadata_items WHERE metadata_type=10 AND extra_data LIKE '%musicAnalysisVersion%'"
    return int(query(server, sql)[0][0])


def children(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


# -- answers


def test_identity_needs_no_token_and_speaks_both_languages(reader: ServerProcess) -> None:
    xml = reader.get("/identity", token="").xml
    assert (xml.tag, xml.get("size"), xml.get("claimed")) == ("MediaContainer", "0", "1")
    plain = reader.get("/identity", token="", json_form=True).json["MediaContainer"]
    assert plain["claimed"] is True
    assert plain["machineIdentifier"] == xml.get("machineIdentifier")


@pytest.mark.parametrize("json_form", [False, True])
def test_a_wrong_token_gets_html_whatever_was_asked_for(reader: ServerProcess, json_form: bool) -> None:
    answer = reader.get("/library/sections", token="wrong", json_form=json_form)
    assert (answer.status, answer.content_type, answer.text) == (401, "text/html", UNAUTHORIZED)


def test_the_token_may_stand_in_the_query(reader: ServerProcess) -> None:
    assert reader.get(f"/library/sections?X-Plex-Token={reader.token}", token="").status == 200


def test_unknown_routes_are_404(reader: ServerProcess) -> None:
    for method, path in (("GET", "/nothing"), ("POST", "/identity"), ("GET", "/library/sections/99/all")):
        assert reader.call(method, path).status == 404


def test_the_root_tells_plex_pass(reader: ServerProcess) -> None:
    root = reader.get("/").xml
    assert (root.get("myPlexSubscription"), root.get("myPlexSigninState")) == ("1", "ok")
    assert "pass" in (root.get("ownerFeatures") or "").split(",")
    account = reader.get("/myplex/account").xml
    assert (account.tag, account.get("subscriptionActive")) == ("MyPlex", "1")


def test_sections_have_locations_and_typed_json(reader: ServerProcess) -> None:
    music = reader.get("/library/sections").xml.find("Directory[@title='Music']")
    assert music is not None
    assert (music.get("key"), music.get("type"), music.get("refreshing")) == ("1", "artist", "0")
    location = music.find("Location")
    assert location is not None
    assert location.get("path") == "/Media/Music"
    plain = reader.get("/library/sections", json_form=True).json["MediaContainer"]["Directory"]
    found = next(section for section in plain if section["title"] == "Music")
    assert found["key"] == "1"
    assert found["refreshing"] is False
    assert found["Location"] == [{"id": 1, "path": "/Media/Music"}]


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_count_without_payload(reader: ServerProcess, how: str) -> None:
    window = {"X-Plex-Container-Start": "0", "X-Plex-Container-Size": "0"}
    text = "".join(f"&{name}={value}" for name, value in window.items())
    answer = (
        reader.get("/library/sections/1/all?type=10", headers=window)
        if how == "header"
        else reader.get(f"/library/sections/1/all?type=10{text}")
    )
    assert (answer.xml.get("size"), answer.xml.get("totalSize")) == ("0", "12")


def test_check_files_says_whether_a_part_is_there(reader: ServerProcess) -> None:
    track = reader.get("/library/sections/1/all?type=10&X-Plex-Container-Size=1").xml[0].get("ratingKey")
    part = reader.get(f"/library/metadata/{track}?checkFiles=1").xml.find(".//Part")
    assert part is not None
    assert (part.get("accessible"), part.get("exists")) == ("1", "1")
    assert reader.get(f"/library/metadata/{track}").xml.find(".//Part[@exists]") is None
    try:
        reader.set_faults(mount_dead=True)
        part = reader.get(f"/library/metadata/{track}?checkFiles=1").xml.find(".//Part")
        assert part is not None
        assert (part.get("accessible"), part.get("exists")) == ("0", "0")
    finally:
        reader.set_faults()


def test_plexapi_works_with_it(reader: ServerProcess) -> None:
    plex = PlexServer(f"http://127.0.0.1:{reader.port}", reader.token)
    assert {section.title for section in plex.library.sections()} == {"Music", "Movies"}
    film = plex.library.section("Movies").get("The Long Pier")
    assert (film.year, film.viewCount, film.media[0].parts[0].file.startswith("/Media/Movies/")) == (1987, 1, True)
    music = plex.library.section("Music")
    assert len(music.searchTracks()) == 12
    assert music.albums()[0].tracks()[0].grandparentTitle == "Amber Harbour"
    assert plex.search("Long")[0].title == "The Long Pier"
    assert plex.playlist("Evening").items()[0].type == "track"
    assert plex.settings.get("autoEmptyTrash").value is True
    assert "MusicAnalysis" in {task.name for task in plex.butlerTasks()}
    assert plex.activities == []
    assert [account.name for account in plex.systemAccounts()] == ["sandbox"]


# -- starting


def test_while_it_starts_everything_is_maintenance_in_both_languages(make: Make) -> None:
    server = make(scan=False)
    server.set_faults(maintenance="forever")
    server.start(wait=False)
    wait_for(lambda: server.status("/identity"))
    words = "Plex Media Server is currently running database migrations."
    answer = server.get("/identity")
    assert answer.status == 503
    assert answer.text == f'<Response code="503" title="Maintenance" status="{words}"/>'
    plain = server.get("/library/sections", json_form=True)
    assert (plain.status, plain.json) == (503, {"code": 503, "title": "Maintenance", "status": words})
    server.set_faults()
    wait_for(lambda: server.status("/identity") == 200)
    assert server.status("/library/sections") == 200


def test_startup_tasks_are_named_as_such(make: Make) -> None:
    server = make(scan=False, environment={"PLEX_SIM_STARTUP": "60"})
    server.start(wait=False)
    wait_for(lambda: server.status("/identity"))
    assert "startup maintenance tasks" in server.get("/identity").text


def test_a_truncated_database_ends_the_server_with_words_in_its_log(make: Make) -> None:
    server = make()
    path = server.databases / "com.plexapp.plugins.library.db"
    path.write_bytes(path.read_bytes()[:100_000])
    server.start(wait=False)
    wait_for(server.ended)
    assert server.stop() == 1
    assert "malformed" in server.log()


def test_a_clean_stop_leaves_no_wal_no_pid_file_and_no_child(make: Make) -> None:
    server = make(speed=0.3).start()
    assert int((server.support / "plexmediaserver.pid").read_text()) == server.pid
    assert (server.databases / "com.plexapp.plugins.library.db-wal").exists()
    server.call("POST", "/butler/MusicAnalysis")
    wait_for(lambda: len(children(server)) == 2)
    kids = children(server)
    assert server.stop() == 0
    assert not any(kid.is_running() for kid in kids)
    assert not (server.support / "plexmediaserver.pid").exists()
    assert {entry.name for entry in server.databases.iterdir()} == {
        "com.plexapp.plugins.library.db",
        "com.plexapp.plugins.library.blobs.db",
    }


def test_after_kill_9_the_children_end_and_the_next_start_is_whole(make: Make) -> None:
    server = make(speed=0.3).start()
    server.call("POST", "/butler/MusicAnalysis")
    wait_for(lambda: analysed(server) >= 1)
    kids = children(server)
    assert kids
    server.stop(signal.SIGKILL)
    wait_for(lambda: not any(kid.is_running() for kid in kids))
    assert (server.databases / "com.plexapp.plugins.library.db-wal").exists()
    done = analysed(server)
    server.start()
    assert analysed(server) == done
    assert server.stop() == 0


def test_crash_after_ends_it_without_a_clean_stop(make: Make) -> None:
    server = make(scan=False).start()
    server.set_faults(crash_after=0)
    wait_for(server.ended)
    assert server.stop() == 137
    assert (server.databases / "com.plexapp.plugins.library.db-wal").exists()


def test_processes_carry_the_real_names_and_keep_their_environment(make: Make) -> None:
    server = make(speed=0.3, environment={"SANDBOX_MACHINE": "test-machine"}).start()
    me = psutil.Process(server.pid)
    assert me.cmdline()[0] == "/usr/lib/plexmediaserver/Plex Media Server"
    assert me.environ()["SANDBOX_MACHINE"] == "test-machine"
    server.call("POST", "/butler/MusicAnalysis")
    wait_for(lambda: len(children(server)) == 2 and analysed(server) >= 1)
    seen = {kid.name(): kid for kid in children(server)}
    assert set(seen) == {"Plex Transcoder", "Plex Music Analyzer"}
    assert seen["Plex Transcoder"].cmdline()[2].startswith("/Media/Music/")
    assert all(kid.environ()["SANDBOX_MACHINE"] == "test-machine" for kid in seen.values())


# -- preferences


def test_an_unknown_preference_gets_200_and_nothing_happens(make: Make) -> None:
    server = make(scan=False).start()
    before = server.get("/:/prefs").text
    assert server.call("PUT", "/:/prefs?AutoScan=0&GenerateChapterBehavior=never").status == 200
    assert server.get("/:/prefs").text == before
    assert server.status("/:/prefs/get?id=AutoScan") == 404


def test_a_preference_is_kept_in_a_private_file_over_a_restart(make: Make) -> None:
    server = make(scan=False).start()
    assert (
        server.get("/:/prefs/get?id=autoEmptyTrash", json_form=True).json["MediaContainer"]["Setting"][0]["value"]
        is True
    )
    server.call("PUT", "/:/prefs?autoEmptyTrash=0&ButlerStartHour=23&FriendlyName=plexburst%20x")
    server.stop()
    assert (server.support / "Preferences.xml").stat().st_mode & 0o777 == 0o600
    server.start()
    assert server.get("/:/prefs/get?id=autoEmptyTrash").xml[0].get("value") == "0"
    assert (
        server.get("/:/prefs/get?id=ButlerStartHour", json_form=True).json["MediaContainer"]["Setting"][0]["value"]
        == 23
    )
    assert server.get("/").xml.get("friendlyName") == "plexburst x"


def test_keys_of_plex_pass_exist_only_with_plex_pass(make: Make) -> None:
    keys = ("MusicAnalysisBehavior", "GenerateIntroMarkerBehavior", "GenerateCreditsMarkerBehavior")
    server = make(scan=False).start()
    assert all(server.status(f"/:/prefs/get?id={key}") == 200 for key in keys)
    server.set_faults(no_plex_pass=True)
    assert all(server.status(f"/:/prefs/get?id={key}") == 404 for key in keys)
    assert server.get("/").xml.get("myPlexSubscription") == "0"


# -- scanning


def test_a_scan_shows_at_once_and_names_its_section_later_on_the_context_child(make: Make) -> None:
    server = make(scan=False, speed=4.0).start()
    assert server.get(f"/library/sections/{MUSIC}/refresh").status == 200
    first = server.get("/activities").xml[0]
    assert (first.get("type"), first.get("librarySectionID"), first.find("Context")) == (
        "library.update.section",
        None,
        None,
    )
    section = server.get("/library/sections").xml.find("Directory[@key='1']")
    assert section is not None
    assert section.get("refreshing") == "1"
    wait_for(lambda: server.get("/activities").xml.find("Activity/Context[@librarySectionID='1']") is not None)
    plain = server.get("/activities", json_form=True).json["MediaContainer"]["Activity"][0]
    assert plain["Context"] == {"librarySectionID": "1"}
    kid = children(server)[0]
    assert kid.name() == "Plex Media Scanner"
    assert kid.cmdline() == ["/usr/lib/plexmediaserver/Plex Media Scanner", "--scan", "--refresh", "--section", "1"]
    assert server.call("DELETE", f"/activities/{first.get('uuid')}").status == 400
    assert server.call("DELETE", "/activities/none").status == 404
    assert server.call("DELETE", f"/library/sections/{MUSIC}/refresh").status == 200
    server.idle()
    assert int(query(server, "SELECT count(*) FROM media_parts")[0][0]) < 12


@pytest.mark.parametrize(("empty", "left"), [("1", 0), ("0", 1)])
def test_a_removed_film_is_deleted_for_ever_only_with_auto_empty_trash(
    make: Make, own_media: Path, empty: str, left: int
) -> None:
    server = make(own_media).start()
    server.call("PUT", f"/:/prefs?autoEmptyTrash={empty}")
    media.move_on(own_media, CATALOGUE)
    server.scan(MOVIES)
    assert query(server, "SELECT count(*) FROM media_parts WHERE deleted_at IS NOT NULL") == [(left,)]
    assert query(server, "SELECT count(*) FROM metadata_items WHERE metadata_type=1 AND +deleted_at IS NULL") == [(4,)]
    server.call("PUT", f"/library/sections/{MOVIES}/emptyTrash")
    assert query(server, "SELECT count(*) FROM media_parts WHERE deleted_at IS NOT NULL") == [(0,)]


def test_a_dead_mount_empties_the_library_in_one_scan(make: Make) -> None:
    server = make().start()
    server.set_faults(mount_dead=["/Media/Movies"])
    server.scan(MOVIES)
    assert query(server, "SELECT count(*) FROM metadata_items WHERE metadata_type=1") == [(0,)]


def test_force_refreshes_the_metadata_of_everything(make: Make) -> None:
    server = make(speed=0.05).start()
    before = dict(query(server, "SELECT id, changed_at FROM metadata_items WHERE library_section_id=1"))
    server.get(f"/library/sections/{MUSIC}/refresh?force=1")
    wait_for(lambda: server.get("/activities").xml.find("Activity[@type='library.refresh.items']") is not None)
    server.idle()
    after = dict(query(server, "SELECT id, changed_at FROM metadata_items WHERE library_section_id=1"))
    assert after.keys() == before.keys()
    assert all(after[item] > max(before.values()) for item in before)


def test_a_cover_is_shown_only_while_its_file_is_there(make: Make) -> None:
    server = make().start()
    shutil.rmtree(server.support / "Metadata")  # as databases that come without their bundles
    ((album, changed),) = query(server, "SELECT id, updated_at FROM metadata_items WHERE metadata_type=9 LIMIT 1")
    cover = f"/library/metadata/{album}/thumb/{changed}"
    assert server.get(f"/library/metadata/{album}").xml[0].attrib["thumb"] == cover
    assert server.status(cover) == 404
    assert server.status(f"/library/metadata/{album}/lid/{changed}") == 404
    server.call("PUT", f"/library/metadata/{album}/refresh")
    wait_for(lambda: server.status(cover) == 200)


def test_an_unclaimed_server_refreshes_no_music(make: Make) -> None:
    server = make(claimed=False).start()
    assert server.get(f"/library/sections/{MUSIC}/refresh").status == 503
    assert server.call("POST", "/library/sections/refresh").status == 503
    assert "not signed in" in server.log()
    server.scan(MOVIES)


def test_an_unclaimed_server_answers_by_address_and_not_by_name(make: Make) -> None:
    server = make(claimed=False, scan=False).start()
    assert server.get("/library/sections").status == 200
    assert server.get("/library/sections", headers={"Host": "localhost:32400"}).status == 200
    assert server.get("/library/sections", headers={"Host": "plex:32400"}).status == 401
    assert "unrecognized domain / IP 'plex'" in server.log()


def test_analysis_reads_the_files_and_marks_the_films(make: Make) -> None:
    server = make().start()
    assert server.call("PUT", f"/library/sections/{MOVIES}/analyze").status == 200
    done = "SELECT count(*) FROM media_items m JOIN metadata_items i ON i.id=m.metadata_item_id"
    where = " WHERE i.metadata_type=1 AND m.media_analysis_version>0 AND i.user_thumb_url<>''"
    wait_for(lambda: query(server, done + where) == [(3,)])
    assert server.call("PUT", "/library/metadata/999999/analyze").status == 404


# -- Sonic


def test_butler_starts_says_running_and_knows_its_tasks(make: Make) -> None:
    server = make(speed=0.3).start()
    tasks = server.get("/butler")
    assert tasks.xml.tag == "ButlerTasks"
    assert "ButlerTask" in server.get("/butler", json_form=True).json["ButlerTasks"]
    assert server.call("POST", "/butler/Sonic").status == 404
    assert server.call("DELETE", "/butler/MusicAnalysis").status == 404
    assert server.call("POST", "/butler/MusicAnalysis").status == 200
    assert server.call("POST", "/butler/MusicAnalysis").status == 202
    activity = server.get("/activities").xml.find("Activity[@type='butler']")
    assert activity is not None
    assert activity.get("title") == "MusicAnalysis"
    assert server.call("DELETE", "/butler/MusicAnalysis").status == 200
    server.idle()
    assert analysed(server) < 12


def test_sonic_analysis_fills_both_databases(make: Make) -> None:
    server = make().start()
    server.call("POST", "/butler/MusicAnalysis")
    server.idle()
    assert analysed(server) == 12
    blobs = sqlite3.connect(server.databases / "com.plexapp.plugins.library.blobs.db")
    found = blobs.execute(
        "SELECT count(*), count(DISTINCT blob) FROM blobs WHERE linked_type='metadata_item' AND blob_type=7"
    )
    rows, different = found.fetchone()
    blobs.close()
    assert rows == 12
    assert different > 1
    tracks = server.get("/library/sections/1/all?type=10", json_form=True).json["MediaContainer"]["Metadata"]
    assert {track["musicAnalysisVersion"] for track in tracks} == {"1"}
    near = server.get(f"/library/metadata/{tracks[0]['ratingKey']}/nearest").xml
    assert len(near) == 11
    assert not list((server.support / "Cache" / "Transcode").iterdir())


@pytest.mark.parametrize("why", ["unclaimed", "no_plex_pass", "never", "switch"])
def test_nothing_is_analysed_when_nothing_is_queued(make: Make, why: str) -> None:
    server = make(claimed=why != "unclaimed")
    if why == "switch":
        with Library(server.databases) as library:
            library.set_sonic(MUSIC, False)
    server.start()
    if why == "no_plex_pass":
        server.set_faults(no_plex_pass=True)
    if why == "never":
        server.call("PUT", "/:/prefs?MusicAnalysisBehavior=never")
    assert server.call("POST", "/butler/MusicAnalysis").status == 200
    server.idle()
    assert analysed(server) == 0


def test_with_asap_new_tracks_are_analysed_after_the_scan(make: Make) -> None:
    server = make(scan=False).start()
    server.call("PUT", "/:/prefs?MusicAnalysisBehavior=asap")
    server.scan(MUSIC)
    wait_for(lambda: analysed(server) == 12)


def test_a_failed_track_is_not_queued_again_until_its_album_is_refreshed(make: Make, own_media: Path) -> None:
    broken = sorted((own_media / "Music").rglob("*.mp3"))[0]
    content = broken.read_bytes()
    server = make(own_media)
    broken.write_bytes(b"")
    server.start()
    server.call("POST", "/butler/MusicAnalysis")
    server.idle()
    assert analysed(server) == 11
    broken.write_bytes(content)
    server.call("POST", "/butler/MusicAnalysis")
    server.idle()
    assert analysed(server) == 11
    left = "SELECT parent_id FROM metadata_items WHERE metadata_type=10 AND extra_data IS NULL"
    album = query(server, left)[0][0]
    assert server.call("PUT", f"/library/metadata/{album}/refresh").status == 200
    wait_for(lambda: "[]" in (server.support / "Cache" / "sonic-failed.json").read_text())
    server.idle()
    server.call("POST", "/butler/MusicAnalysis")
    server.idle()
    assert analysed(server) == 12


def test_stuck_means_a_busy_cpu_and_a_frozen_counter(make: Make) -> None:
    server = make()
    server.set_faults(sonic_stuck=True)
    server.start()
    server.call("POST", "/butler/MusicAnalysis")

    def busy() -> float:
        return sum(kid.cpu_times().user for kid in children(server) if kid.name() == "Plex Music Analyzer")

    wait_for(lambda: busy() > 0.5)
    assert analysed(server) == 0
    server.set_faults()
    server.idle()
    assert analysed(server) == 12


@pytest.mark.parametrize(("only", "marks", "vectors"), [("marks", 12, 0), ("vectors", 0, 12)])
def test_sonic_may_write_only_marks_or_only_vectors(make: Make, only: str, marks: int, vectors: int) -> None:
    server = make()
    server.set_faults(sonic_writes_only=only)
    server.start()
    server.call("POST", "/butler/MusicAnalysis")
    server.idle()
    assert analysed(server) == marks
    blobs = sqlite3.connect(server.databases / "com.plexapp.plugins.library.blobs.db")
    assert blobs.execute("SELECT count(*) FROM blobs WHERE blob_type = 7").fetchone() == (vectors,)
    blobs.close()


def test_a_photo_may_take_long_and_compute_little(make: Make, own_media: Path) -> None:
    (own_media / "Photos").mkdir()
    Image.new("RGB", (16, 16)).save(own_media / "Photos" / "one.jpg")
    server = make(own_media)
    with Library(server.databases, [Volume(own_media, "/Media")]) as library:
        photos = library.add_section(
            "Photos", "photo", "com.plexapp.agents.none", "Plex Photo Scanner", ["/Media/Photos"]
        )
    server.set_faults(photo_seconds=3600)
    server.start()
    server.call("POST", f"/library/sections/{photos}/refresh")
    wait_for(lambda: [kid.name() for kid in children(server)] == ["Plex Media Scanner"])
    (scanner,) = children(server)
    wait_for(lambda: scanner.status() == psutil.STATUS_SLEEPING)
    before = scanner.cpu_times().user
    wait_for(lambda: scanner.cpu_times().user > before + 0.05)
    count = "SELECT count(*) FROM metadata_items WHERE metadata_type = 13"
    assert query(server, count) == [(0,)]
    server.set_faults()
    server.idle()
    assert query(server, count) == [(1,)]


def test_a_refresh_of_all_metadata_comes_before_sonic_once(make: Make) -> None:
    server = make()
    server.set_faults(refresh_before_sonic=1000)
    server.start()
    server.call("POST", "/butler/MusicAnalysis")
    wait_for(lambda: "library.refresh.items" in server.get("/activities").text)
    assert [kid.name() for kid in children(server)] == ["Plex Media Scanner"]
    assert analysed(server) == 0
    server.call("DELETE", "/library/sections/all/refresh")
    wait_for(lambda: analysed(server) == 12)
    assert server.faults_file.read_text().strip() == "{}"


def test_a_task_comes_by_schedule_and_goes_when_it_is_stopped(make: Make) -> None:
    server = make()
    server.start()
    server.call("PUT", "/:/prefs?ButlerTaskDeepMediaAnalysis=0")
    server.set_faults(butler_due={"DeepMediaAnalysis": 300})
    wait_for(lambda: "DeepMediaAnalysis" in server.get("/activities").text)
    wait_for(lambda: [kid.name() for kid in children(server)] == ["Plex Transcoder"])
    assert server.call("DELETE", "/butler").status == 200
    server.idle()
    assert children(server) == []


def test_an_analysis_may_show_nothing_but_a_transcoder(make: Make) -> None:
    server = make()
    server.set_faults(analysis_in_transcoder=2)
    server.start()
    server.call("PUT", f"/library/sections/{MUSIC}/analyze")
    wait_for(lambda: [kid.name() for kid in children(server)] == ["Plex Transcoder"])
    assert server.get("/activities").xml.get("size") == "0"
    done = "SELECT count(*) FROM media_items WHERE media_analysis_version > 0 AND library_section_id = 1"
    wait_for(lambda: query(server, done)[0][0] == 12)


def test_a_slow_line_keeps_every_file_waiting_until_it_is_quick_again(make: Make) -> None:
    server = make()
    server.set_faults(mount_slow=3600)
    server.start()
    server.call("POST", "/butler/MusicAnalysis")
    wait_for(lambda: [kid.name() for kid in children(server)] == ["Plex Transcoder"])
    assert analysed(server) == 0
    server.set_faults()
    wait_for(lambda: analysed(server) == 12)


def test_what_fails_is_started_again_ever_later_and_what_ends_well_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.plex.restarting"]
    failing = "import sys, pathlib; f = pathlib.Path(sys.argv[1]); n = len(f.read_text()) if f.exists() else 0;"
    failing += "f.write_text('x' * (n + 1)); sys.exit(137 if n < 2 else 0)"
    done = subprocess.run(
        [*command, sys.executable, "-c", failing, str(tmp_path / "starts")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (tmp_path / "starts").read_text() == "xxx"
    assert done.stderr.splitlines() == [
        "ended with code 137; restart 1 in 0.1 s",
        "ended with code 137; restart 2 in 0.2 s",
    ]
    asked = subprocess.Popen(
        [*command, sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"], stdout=subprocess.PIPE
    )
    assert asked.stdout is not None
    asked.stdout.readline()
    asked.terminate()
    assert asked.wait(20) != 0


# -- the account


def test_a_claim_gives_the_server_a_token_of_its_own_under_its_own_name(
    make: Make, plex_tv: tuple[PlexTv, str]
) -> None:
    app, url = plex_tv
    server = make(claimed=False, plex_tv_url=url).start()
    assert server.get("/identity").xml.get("claimed") == "0"
    server.call("PUT", "/:/prefs?FriendlyName=plexburst%2020261122")
    claim = app.account.new_claim(240)
    server.set_faults(token_late=1)
    answer = server.call("POST", f"/myplex/claim?token={claim}")
    assert (answer.status, answer.xml.get("signInState")) == (200, "ok")
    assert 'PlexOnlineToken="' not in (server.support / "Preferences.xml").read_text()
    assert server.get("/identity").xml.get("claimed") == "1"
    assert server.get("/library/sections").status == 401
    wait_for(lambda: 'PlexOnlineToken="' in (server.support / "Preferences.xml").read_text())
    device = app.account.devices[0]
    assert device["name"] == "plexburst 20261122"
    assert device["clientIdentifier"] == server.get("/identity").xml.get("machineIdentifier")
    assert server.get("/library/sections", token=device["token"]).status == 200
    assert server.get("/library/sections", token=app.account.token).status == 200
    assert server.get("/library/sections", token="somebody-else").status == 401
    assert server.call("DELETE", "/myplex/account", token=device["token"]).status == 200
    assert server.get("/identity").xml.get("claimed") == "0"
    assert 'PlexOnlineToken="' not in (server.support / "Preferences.xml").read_text()
    assert app.account.devices, "signing out leaves the device with the account"


@pytest.mark.parametrize("why", ["used", "fault", "no network"])
def test_a_claim_that_fails_leaves_the_server_unclaimed(make: Make, plex_tv: tuple[PlexTv, str], why: str) -> None:
    app, url = plex_tv
    server = make(claimed=False, scan=False, plex_tv_url="" if why == "no network" else url).start()
    claim = app.account.new_claim(240)
    if why == "used":
        app.account.use_claim(claim)
    if why == "fault":
        server.set_faults(unclaimable=True)
    assert server.call("POST", f"/myplex/claim?token={claim}").status == 400
    assert server.get("/identity").xml.get("claimed") == "0"
    assert claim not in server.log()


def test_faults_are_switched_over_http_and_kept(make: Make) -> None:
    server = make(scan=False).start()
    connection = server.call("GET", "/_sandbox/faults")
    assert connection.json == {}
    server.set_faults(unauthorized=True)
    assert server.get("/library/sections").status == 401
    assert server.get("/identity").status == 200
    assert server.call("GET", "/_sandbox/faults").json == {"unauthorized": True}
