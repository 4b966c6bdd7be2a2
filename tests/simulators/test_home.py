"""Home has a past, the bucket has moved on since, and both can be reached the way a real run reaches them."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from sandbox import history, home, media, processes
from sandbox.control import Sandbox
from sandbox.media import MOVIES, MUSIC, PHOTOS, SHOWS, Catalogue
from tests.small_sandbox import SMALL


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return media.catalogue(SMALL)


@pytest.fixture
def rows(sandbox: Sandbox) -> Iterator[Any]:
    with contextlib.closing(sandbox.home_db()) as connection:
        yield lambda sql, *values: [tuple(row) for row in connection.execute(sql, values)]


def ssh(sandbox: Sandbox, command: str, known_hosts: Path | None = None) -> subprocess.CompletedProcess[str]:
    machine = sandbox.state["home"]
    return subprocess.run(
        [
            *("ssh", "-F", "none", "-p", str(machine["port"]), "-i", machine["ssh_key"], "-o", "IdentitiesOnly=yes"),
            *("-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={known_hosts or machine['known_hosts']}", "-o", "GlobalKnownHostsFile=none"),
            *(f"{machine['user']}@{machine['address']}", command),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def rclone(sandbox: Sandbox, *arguments: str, config: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(
                str(Path(sandbox.state["python"]).with_name("rclone")),
                "--config",
                config or sandbox.state["s3"]["rclone_config"],
            ),
            *("--retries", "1", "--low-level-retries", "1", *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_home_knows_exactly_the_old_generation(rows: Any, catalogue: Catalogue) -> None:
    files = {file for (file,) in rows("SELECT file FROM media_parts WHERE deleted_at IS NULL")}
    assert files == {f"/Media/{clip.key}" for clip in catalogue.old()}


def test_home_has_four_sections_with_their_locations(rows: Any) -> None:
    found = rows(
        "SELECT s.name, s.section_type, l.root_path FROM library_sections s "
        "JOIN section_locations l ON l.library_section_id = s.id ORDER BY s.id"
    )
    assert found == [
        (MUSIC, 8, "/Media/Music"),
        (MOVIES, 1, "/Media/Movies"),
        (SHOWS, 2, "/Media/TV Shows"),
        (PHOTOS, 13, "/Media/Photos"),
    ]


def test_the_sonic_share_is_marked_in_both_databases(sandbox: Sandbox, rows: Any, catalogue: Catalogue) -> None:
    marked = rows("SELECT id FROM metadata_items WHERE metadata_type = 10 AND extra_data LIKE '%musicAnalysisVersion%'")
    with contextlib.closing(sandbox.home_db("blobs")) as blobs:
        vectors = [
            tuple(row) for row in blobs.execute("SELECT linked_id FROM blobs WHERE blob_type = 7 ORDER BY linked_id")
        ]
    assert len(marked) == sum(clip.sonic for clip in catalogue.clips) > 0
    assert sorted(marked) == vectors


def test_two_people_watched_and_rated_each_for_themselves(rows: Any) -> None:
    assert rows("SELECT id, name FROM accounts ORDER BY id") == [(history.OWNER, "owner"), (history.GUEST, "guest")]
    watched = dict(rows("SELECT account_id, count(*) FROM metadata_item_settings WHERE view_count > 0 GROUP BY 1"))
    assert watched[history.OWNER] > watched[history.GUEST] > 0
    rated = dict(rows("SELECT account_id, count(*) FROM metadata_item_settings WHERE rating IS NOT NULL GROUP BY 1"))
    assert set(rated) == {history.OWNER, history.GUEST}
    assert rows("SELECT view_offset FROM metadata_item_settings WHERE view_offset > 0") == [(1200,)]


def test_history_repeats_the_settings_and_no_two_views_coincide(rows: Any) -> None:
    views = rows(
        "SELECT account_id, guid, count(*), max(viewed_at) FROM metadata_item_views GROUP BY 1, 2 ORDER BY 1, 2"
    )
    settings = rows(
        "SELECT account_id, guid, view_count, last_viewed_at FROM metadata_item_settings "
        "WHERE view_count > 0 ORDER BY 1, 2"
    )
    assert views == settings
    times = rows("SELECT viewed_at FROM metadata_item_views")
    assert len(set(times)) == len(times)


def test_playlists_collection_locked_title_and_uploaded_poster_are_there(sandbox: Sandbox, rows: Any) -> None:
    playlists = rows(
        "SELECT p.title, count(DISTINCT i.metadata_type), min(i.metadata_type) FROM metadata_items p "
        "JOIN play_queue_generators g ON g.playlist_id = p.id JOIN metadata_items i ON i.id = g.metadata_item_id "
        "WHERE p.metadata_type = 15 GROUP BY p.id ORDER BY p.title"
    )
    assert playlists == [(history.VIDEO_PLAYLIST, 1, 1), (history.AUDIO_PLAYLIST, 1, 10)]
    assert rows("SELECT title FROM metadata_items WHERE metadata_type = 18") == [(history.COLLECTION,)]
    assert rows("SELECT title FROM metadata_items WHERE user_fields LIKE '%lockedFields=1%'")[0][0].endswith(
        "(our copy)"
    )
    ((thumb, name),) = rows("SELECT user_thumb_url, hash FROM metadata_items WHERE user_thumb_url LIKE 'upload://%'")
    bundle = home.support_dir(sandbox.layout) / "Metadata" / "Movies" / name[0] / f"{name[1:]}.bundle"
    assert (bundle / "Uploads" / "posters" / thumb.rpartition("/")[2]).read_bytes()[:2] == b"\xff\xd8"


def test_everything_a_person_touched_is_still_in_the_bucket(sandbox: Sandbox, rows: Any) -> None:
    files = rows(
        "SELECT DISTINCT p.file FROM metadata_item_settings s JOIN metadata_items i ON i.guid = s.guid "
        "JOIN media_items m ON m.metadata_item_id = i.id JOIN media_parts p ON p.media_item_id = m.id"
    )
    bucket = Path(sandbox.state["home"]["volumes"][0]["host"])
    assert files
    assert all((bucket / file.removeprefix("/Media/")).is_file() for (file,) in files)


def test_s3_lists_the_present_generation_with_its_odd_names(sandbox: Sandbox, catalogue: Catalogue) -> None:
    listed = rclone(sandbox, "lsf", "-R", "--files-only", "media-s3:media")
    assert listed.returncode == 0, listed.stderr
    keys = set(listed.stdout.splitlines())
    assert keys == {clip.key for clip in catalogue.now()}
    assert any(key.endswith("Don't Stop.mp3") for key in keys)
    assert any(key.endswith("Été – Björk ångström.flac") for key in keys)  # noqa: RUF001


def test_s3_gives_the_file_back_byte_by_byte(sandbox: Sandbox, catalogue: Catalogue, tmp_path: Path) -> None:
    clip = next(clip for clip in catalogue.now(MUSIC) if clip.path.endswith(".flac") and "Björk" in clip.path)
    copied = rclone(sandbox, "copyto", f"media-s3:media/{clip.key}", str(tmp_path / "copy"))
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "copy").read_bytes() == (sandbox.layout.s3 / "media" / clip.key).read_bytes()


def test_s3_refuses_a_wrong_secret(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = next(
        line for line in sandbox.layout.rclone_config.read_text().splitlines() if line.startswith("secret_access_key")
    )
    wrong = tmp_path / "rclone.conf"
    wrong.write_text(sandbox.layout.rclone_config.read_text().replace(secret, "secret_access_key = wrong"))
    refused = rclone(sandbox, "lsf", "media-s3:media", config=str(wrong))
    assert refused.returncode != 0
    assert "403" in refused.stderr


def test_homes_login_is_verified_by_its_host_key(sandbox: Sandbox, tmp_path: Path) -> None:
    done = ssh(sandbox, "echo $SANDBOX_MACHINE; pwd")
    assert done.stdout.split() == ["home", sandbox.state["home"]["dir"]], done.stderr
    (tmp_path / "empty").touch()
    stranger = ssh(sandbox, "true", known_hosts=tmp_path / "empty")
    assert stranger.returncode == 255
    assert "Host key verification failed" in stranger.stderr


def test_homes_plex_can_be_restarted_over_ssh_with_what_state_tells(sandbox: Sandbox) -> None:
    machine = sandbox.state["home"]
    before = home.running_pid(sandbox.layout)
    stopped = ssh(sandbox, f'kill "$(cat {shlex.quote(machine["pid_file"])})"')
    assert stopped.returncode == 0, stopped.stderr
    wait_until(lambda: not home.is_running(sandbox.layout))
    options = ["--config", machine["config_dir"], "--port", str(machine["plex_port"]), "--bind", "127.0.0.1"]
    options += [f"--volume={volume['host']}:{volume['path']}:ro" for volume in machine["volumes"]]
    environment = shlex.join(f"{name}={value}" for name, value in machine["environment"].items())
    command = shlex.join([*machine["plex_command"], *options])
    started = ssh(sandbox, f"env {environment} setsid nohup {command} >/dev/null 2>&1 </dev/null &")
    assert started.returncode == 0, started.stderr
    wait_until(lambda: home.is_running(sandbox.layout))
    sandbox.up()
    after = home.running_pid(sandbox.layout)
    assert after is not None
    assert after != before
    assert processes.environment(after)["SANDBOX_MACHINE"] == "home"


def test_homes_plex_is_claimed_has_plex_pass_and_stands_at_plex_tv(sandbox: Sandbox) -> None:
    port = sandbox.state["home"]["plex_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/identity", timeout=5) as answer:
        identity = ET.fromstring(answer.read())  # noqa: S314 - our own simulator
    assert identity.get("claimed") == "1"
    preferences = ET.parse(home.support_dir(sandbox.layout) / "Preferences.xml").getroot()  # noqa: S314
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/myplex/account", headers={"X-Plex-Token": preferences.get("PlexOnlineToken", "")}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        assert (
            ET.fromstring(answer.read()).get(  # noqa: S314
                "subscriptionActive"
            )
            == "1"
        )
    assert identity.get("machineIdentifier") in {device.get("clientIdentifier") for device in sandbox.devices()}
