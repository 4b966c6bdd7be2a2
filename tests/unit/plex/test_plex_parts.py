"""Profiles, progress lines, processes, the mount probe, preferences."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.api import account, client, preferences
from ansible_collections.plexburst.core.plugins.module_utils.plex.errors import (
    AccountError,
    PlexUnauthorized,
    PlexUnreachable,
    PreferenceError,
    ProcessScopeError,
)
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe import mount_probe, processes
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import profiles, progress

from tests.unit.plex.traces import activity, counters, process, sample, server

# Facts 1.6: check_interval, stall_threshold in checks, timeout.
PRIOR = {
    "local_quick": (30, 5, 3600),
    "local_delta": (60, 10, 7200),
    "cloud_standard": (60, 15, 28800),
    "cloud_intensive": (120, 30, 259200),
    "metadata_refresh": (120, 60, 14400),
}


@pytest.mark.parametrize(("name", "prior"), PRIOR.items())
def test_a_profile_keeps_the_prior_values_in_real_seconds(name: str, prior: tuple[int, int, int]) -> None:
    profile = profiles.PROFILES[name]
    assert (profile.interval, profile.stall_after, profile.timeout) == (prior[0], prior[0] * prior[1], prior[2])


def test_a_profile_says_in_words_what_it_will_do() -> None:
    words = profiles.resolve("cloud_standard", "sonic").words("sonic")
    assert "stalled after 1 h without progress" in words


def test_a_wrong_profile_value_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="stall_aftr"):
        profiles.resolve("sandbox", "scan", overrides={"stall_aftr": 3})
    with pytest.raises(ValueError, match="no profile"):
        profiles.resolve("cloud", "scan")
    assert profiles.resolve("sandbox", "scan", overrides={"stall_after": "3"}).stall_after == 3


def test_the_bar_is_full_only_when_everything_is_done() -> None:
    assert progress.bar(456533, 456534).count("#") == progress.BAR - 1
    assert progress.bar(5, 5) == "[" + "#" * progress.BAR + "]"
    assert "#" not in progress.bar(0, 0)


def test_a_line_has_count_rate_eta_cost_and_what_plex_does() -> None:
    samples = [
        sample(
            60.0 * i,
            counters=counters(sonic_total=1000, sonic_done=100 + 50 * i),
            processes=(server(), process("music_analyzer", i)),
        )
        for i in range(3)
    ]
    line = progress.line("sonic", "Music", samples, elapsed=3600, hourly_price=0.4064)
    for part in ("sonic Music: [", "200/1000 tracks (20.0%)", "50/min", "ETA 16 min", "0.41 EUR", "1 analyzer"):
        assert part in line


def test_a_line_says_what_a_scan_does() -> None:
    line = progress.line(
        "scan", "Music", [sample(0, activities=(activity("library.update.section", "Scanning", 1, 42.0),))], elapsed=5
    )
    assert "456534 items" in line
    assert "Scanning 42%" in line


def test_kinds_come_from_the_command_line_not_from_the_cut_name() -> None:
    head = "/usr/lib/plexmediaserver/"
    assert processes.kind_of(f"{head}Plex Media Scanner --scan --section 1 --log Plex Media Server") == "scanner"
    assert processes.kind_of(f"{head}Plex Music Analyzer") == "music_analyzer"
    assert processes.kind_of("python3 -m http.server") == "other"


def test_a_tree_holds_a_process_with_its_children_and_nobody_else(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    tree = processes.tree({"runtime": "process", "pid_file": str(pid_file)})
    pids = {entry.pid for entry in tree.processes}
    assert os.getpid() in pids
    assert os.getppid() not in pids
    mine = next(entry for entry in tree.processes if entry.pid == os.getpid())
    assert mine.cpu_seconds > 0
    assert mine.read_bytes


def test_a_server_that_does_not_run_is_an_error_not_an_empty_list(tmp_path: Path) -> None:
    with pytest.raises(ProcessScopeError, match="does not exist"):
        processes.tree({"runtime": "process", "pid_file": str(tmp_path / "none")})
    with pytest.raises(ProcessScopeError, match="docker, systemd or process"):
        processes.tree({"runtime": "podman"})


def test_units_are_found_by_their_control_group(tmp_path: Path) -> None:
    for pid, group in (
        (10, "0::/system.slice/plexmediaserver.service"),
        (11, "0::/system.slice/plexmediaserver-x.service"),
    ):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "cgroup").write_text(group + "\n")
        (folder / "cmdline").write_bytes(b"/usr/lib/plexmediaserver/Plex Media Server\0")
        (folder / "stat").write_text(f"{pid} (Plex Media Serv) S 1 " + " ".join(["0"] * 40))
    tree = processes.tree({"runtime": "systemd", "unit": "plexmediaserver"}, proc=tmp_path)
    assert [entry.pid for entry in tree.processes] == [10]


def test_a_live_mount_passes_and_one_removed_file_is_no_alarm(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.flac" for i in range(6)]
    for path in files[1:]:
        path.write_bytes(b"x" * 9000)
    seen = mount_probe.probe([str(path) for path in files], [str(tmp_path)], time_limit=10)
    assert seen.ok
    assert (seen.read, seen.missing) == (5, 1)


def test_a_mount_whose_directories_list_but_files_do_not_open_is_dead(tmp_path: Path) -> None:
    # Recorded (docs/plex-facts.md#incidents): dir-cache lists directories, files are unreadable. Here a directory
    # stands for such a file.
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).mkdir()
    seen = mount_probe.probe([str(tmp_path / "a.flac"), str(tmp_path / "b.flac")], [str(tmp_path)], time_limit=10)
    assert not seen.ok
    assert "cannot be read" in seen.problem


def test_an_empty_mountpoint_is_dead_when_the_database_names_files(tmp_path: Path) -> None:
    seen = mount_probe.probe([str(tmp_path / "Dune.mp4")], [str(tmp_path)], time_limit=10)
    assert not seen.ok


def test_names_that_no_longer_fit_are_refused_although_the_mount_lives(tmp_path: Path) -> None:
    # Recorded (docs/plex-facts.md#incidents): 'Dune (2021) Bluray-720p.mp4' didn't exist -> 221 removed in 2 s.
    (tmp_path / "other.mp4").write_bytes(b"x")
    seen = mount_probe.probe([str(tmp_path / f"{i}.mp4") for i in range(10)], [str(tmp_path)], time_limit=10)
    assert not seen.ok
    assert "10 of 10 files" in seen.problem


def test_reading_that_blocks_for_ever_is_given_up(tmp_path: Path) -> None:
    pipe = tmp_path / "stuck.flac"
    os.mkfifo(pipe)  # opening it for reading blocks until somebody writes, as a dead FUSE mount does
    seen = mount_probe.probe([str(pipe)], [], time_limit=1.0)
    assert not seen.ok
    assert "did not end within 1 s" in seen.problem


def test_the_longest_prefix_maps_a_path_and_similar_names_do_not() -> None:
    paths = mount_probe.PathMap.of([{"path": "/Media", "host": "/m/0"}, {"path": "/Media/Photos/", "host": "/m/1"}])
    assert paths.host("/Media/Photos/a.jpg") == "/m/1/a.jpg"
    assert paths.host("/Media/Music/a.flac") == "/m/0/Music/a.flac"
    assert paths.host("/Media2/a") == "/Media2/a"


def test_values_are_converted_by_the_servers_type() -> None:
    assert preferences.convert("bool", "false") is False
    assert preferences.convert("int", "5") == 5
    with pytest.raises(PreferenceError):
        preferences.convert("bool", "perhaps")
    assert preferences.wire(False) == "0"


def test_the_quiet_set_holds_invariant_3_and_8() -> None:
    assert preferences.GUARDS == {"autoEmptyTrash": False, "allowMediaDeletion": False}
    for key in ("PublishServerOnPlexOnlineKey", "RelayEnabled", "GdmEnabled", "DlnaEnabled", "WebHooksEnabled"):
        assert preferences.QUIET[key] is False
    assert preferences.SONIC_KEY not in preferences.QUIET  # stays `scheduled` while scanning
    assert preferences.butler_hours(23) == {"ButlerStartHour": 11, "ButlerEndHour": 12}


def test_versions_compare_as_numbers() -> None:
    assert preferences.version_tuple("1.9.2.1-abc") < (1, 24, 0) < preferences.version_tuple("1.41.6.9685-d301f511a")


def test_a_token_that_is_not_there_yet_is_empty_and_half_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "Preferences.xml"
    assert preferences.read_token(str(path)) == ""
    path.write_text('<?xml version="1.0"?>\n<Preferences MachineIdent')
    assert preferences.read_token(str(path)) == ""
    path.write_text('<?xml version="1.0"?>\n<Preferences PlexOnlineToken="abc"/>')
    assert preferences.read_token(str(path)) == "abc"


def test_an_account_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o644)
    with pytest.raises(AccountError, match="chmod 600"):
        account.read_token_file(str(path))
    path.chmod(0o600)
    assert account.read_token_file(str(path)) == "secret"


def test_no_error_of_the_client_holds_a_token() -> None:
    nobody = client.PlexClient("http://127.0.0.1:9", "SECRETTOKEN", timeout=1, retries=1, sleep=lambda _: None)
    with pytest.raises(PlexUnreachable) as caught:
        nobody.call("POST", "/myplex/claim", params={"token": "claim-SECRET"})
    assert "SECRET" not in str(caught.value) + str(caught.value.details)
    answer = client.Answer("GET", "/", 401, "<html>SECRETTOKEN</html>", 0.1)
    error = nobody.problem(answer)
    assert isinstance(error, PlexUnauthorized)
    assert "SECRETTOKEN" not in str(error) + str(error.details)


@pytest.mark.parametrize(
    "body",
    [
        '<Response code="503" title="Maintenance" status="running database migrations."/>',
        '{"code":503,"title":"Maintenance","status":"running database migrations."}',
    ],
)
def test_maintenance_is_recognised_in_both_forms(body: str) -> None:
    assert client.maintenance_status(body) == "running database migrations."
    assert client.maintenance_status("<html>Bad gateway</html>") == ""
