"""The run folder keeps what a run says, for one run at a time, and for nobody else's eyes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.run.advice import FALLBACK, advice_for
from ansible_collections.plexburst.core.plugins.module_utils.run.failures import failure_message, plain_task_name
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import (
    LOCK,
    RunFolder,
    RunFolderError,
    acquire_lock,
    merged,
    new_run_id,
    release_lock,
    run_group,
)
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import MASK, Masker, secrets_of

RUN = "20261122-071500-ab12"
OTHER = "20261122-071501-ab13"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_read_a_run(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", RUN)
    folder.append_event("phase_started", phase="x")
    folder.record("cost", {"billed": 1.0})
    assert mode(folder.path) == 0o700
    assert {mode(path) for path in folder.path.rglob("*") if path.is_file()} == {0o600}
    assert {mode(path) for path in folder.path.rglob("*") if path.is_dir()} == {0o700}


def test_latest_points_at_the_newest(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, RUN)
    RunFolder.create(tmp_path, OTHER)
    assert (tmp_path / "latest").readlink() == Path(OTHER)
    assert sorted(path.name for path in tmp_path.iterdir()) == [RUN, OTHER, "latest"]


def test_a_run_id_is_used_once(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, RUN)
    with pytest.raises(RunFolderError, match="exists already"):
        RunFolder.create(tmp_path, RUN)


@pytest.mark.parametrize("run_id", ["", "../../etc", "20261122-071500", "20261122-071500-ABCD"])
def test_what_is_no_run_id_makes_no_folder(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(RunFolderError, match="not a valid run id"):
        RunFolder.create(tmp_path, run_id)
    assert list(tmp_path.iterdir()) == []


def test_a_new_id_has_the_form_and_a_group(tmp_path: Path) -> None:
    RunFolder.create(tmp_path, new_run_id())
    assert run_group(RUN) == "plexburst_run_20261122_071500_ab12"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"no state\.json"):
        RunFolder.open(tmp_path)


def test_one_run_at_a_time(tmp_path: Path) -> None:
    acquire_lock(tmp_path, RUN, os.getpid())
    with pytest.raises(RunFolderError, match=f"Another run, {RUN}, is going on"):
        acquire_lock(tmp_path, OTHER, os.getpid())
    assert release_lock(tmp_path, RUN)
    acquire_lock(tmp_path, OTHER, os.getpid())


def test_a_dead_runs_lock_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    acquire_lock(tmp_path, RUN, ended.pid)
    acquire_lock(tmp_path, OTHER, os.getpid())
    assert not release_lock(tmp_path, RUN)
    assert release_lock(tmp_path, OTHER)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only /proc tells when a process began")
def test_a_pid_that_belongs_to_another_process_by_now_holds_no_lock(tmp_path: Path) -> None:
    acquire_lock(tmp_path, RUN, os.getpid())
    lock = json.loads((tmp_path / LOCK).read_text())
    (tmp_path / LOCK).write_text(json.dumps({**lock, "born": "1"}))
    acquire_lock(tmp_path, OTHER, os.getpid())


def test_a_lock_of_another_machine_is_never_called_stale(tmp_path: Path) -> None:
    acquire_lock(tmp_path, RUN, os.getpid())
    lock = json.loads((tmp_path / LOCK).read_text())
    (tmp_path / LOCK).write_text(json.dumps({**lock, "host": "elsewhere", "pid": 999999999}))
    with pytest.raises(RunFolderError, match="was started on elsewhere"):
        acquire_lock(tmp_path, OTHER, os.getpid())


def test_a_torn_lock_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text('{"pid": 1')
    acquire_lock(tmp_path, RUN, os.getpid())


def test_a_runs_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="plexburst_runs_dir"):
        acquire_lock(tmp_path / "file" / "runs", RUN, os.getpid())


def test_records_are_merged(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, RUN)
    assert folder.record("cloud", {"created": ["server/1"], "leftovers": ["server/1"]})
    assert folder.record("cloud", {"created": ["ip/2", "server/1"], "deleted": ["server/1"], "leftovers": []})
    assert folder.state()["cloud"] == {"created": ["server/1", "ip/2"], "deleted": ["server/1"], "leftovers": []}
    assert not folder.record("cloud", {"deleted": ["server/1"]})
    assert folder.record("cloud", {}, replace=True)
    assert folder.state()["cloud"] == {}


def test_sections_are_merged_by_their_id() -> None:
    old = [{"id": 1, "title": "Music", "items_before": 3}]
    new = [{"id": 2, "title": "Movies"}, {"id": 1, "items_after": 5}]
    assert merged(old, new, "sections") == [
        {"id": 1, "title": "Music", "items_before": 3, "items_after": 5},
        {"id": 2, "title": "Movies"},
    ]


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, RUN)
    code = (
        "import sys; from pathlib import Path\n"
        "from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "for number in range(20):\n"
        "    folder.record('cloud', {'created': [f'server/{sys.argv[2]}-{number}']})\n"
        "    folder.append_event('note', text='x' * 3000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(folder.path), str(number)], env=environment)
        for number in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(folder.state()["cloud"]["created"]) == 60
    assert len(folder.events()) == 60


def test_a_torn_event_is_an_error_not_a_shorter_story(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, RUN)
    folder.append_event("note")
    folder.append_line("events.jsonl", '{"event": "fai')
    with pytest.raises(RunFolderError, match="line 2 is not a JSON object"):
        folder.events()


def test_secrets_of_the_settings_files_are_masked(tmp_path: Path) -> None:
    token, rclone, scaleway = tmp_path / "token", tmp_path / "rclone.conf", tmp_path / "scw.yaml"
    token.write_text("owner-token-123\n")
    rclone.write_text(
        "[media-s3]\ntype = s3\nsecret_access_key = s3-secret-456\nregion = fr-par\n[dropbox]\ntoken = drop-789-xyz\n"
    )
    scaleway.write_text("secret_key: scw-secret-000\nprofiles:\n  other:\n    secret_key: scw-secret-111\n")
    settings = {"account_token_file": str(token), "rclone_config": str(rclone), "scw_config_file": str(scaleway)}
    masker = Masker(secrets_of(settings, {"SCW_SECRET_KEY": "environment-key", "HOME": "/home/someone"}))
    secrets = "owner-token-123 s3-secret-456 drop-789-xyz scw-secret-000 scw-secret-111 environment-key"
    assert masker.text(f"{secrets} /home/someone fr-par s3") == f"{' '.join([MASK] * 6)} /home/someone fr-par s3"


@pytest.mark.parametrize(
    "text",
    [
        "GET /?X-Plex-Token=abcDEF123456 200",
        'PlexOnlineToken="abcDEF123456"',
        "'X-Plex-Token': 'abcDEF123456'",
        "PLEX_CLAIM claim-abcDEF123456",
        "secret_key: abcDEF123456",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabcDEF123456\n-----END OPENSSH PRIVATE KEY-----",
    ],
)
def test_tokens_that_nobody_named_are_masked_by_their_form(text: str) -> None:
    masked = Masker().value({"a": [text]})["a"][0]
    assert "abcDEF123456" not in masked
    assert MASK in masked


def test_ordinary_words_are_left_alone() -> None:
    text = "token file /home/me/.token, 12 tracks, media-s3:media, key /run/keys/id_run"
    assert Masker(["short", ""]).text(text) == text


def test_a_failure_says_what_the_item_or_stderr_said() -> None:
    assert failure_message({"msg": "No."}) == "No."
    assert "disk full" in failure_message({"msg": "non-zero return code", "rc": 2, "stderr": "a\ndisk full"})
    items = [{"failed": False}, {"failed": True, "item": "b", "msg": "c"}]
    assert failure_message({"msg": "One or more items failed", "results": items}) == "b: c"
    assert "hidden" in failure_message({"censored": "the output has been hidden"})
    assert failure_message({})
    assert len(failure_message({"msg": "x" * 9000})) < 5000
    assert plain_task_name("plex_server : start | Wait") == "start | Wait"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Every type is out of stock in fr-par-1: GP1-S", "plexburst_zone"),
        ("AccessDenied: 403 Forbidden", "rclone lsd"),
        ("plex.tv answered 401 Unauthorized", "plexburst_account_token_file"),
        ("Plex is still in maintenance after 1800 s", "plexburst_ready_timeout"),
        ("ssh: connect to host 10.0.0.1 port 22: Connection refused", "SSH"),
        ("ImportError: No module named sqlite3", "sqlite3"),
        ("library.db has 100000 bytes, 2097152 were expected", "incomplete or damaged"),
        ("Cannot read library.db: No module named '_sqlite3'", "sqlite3"),
        ("process 40321 ended with 4034", FALLBACK),
        ("never seen before", FALLBACK),
    ],
)
def test_every_known_failure_has_a_next_step(text: str, word: str) -> None:
    assert word in advice_for(text)
