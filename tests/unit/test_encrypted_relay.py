"""Around the relay: never inside what Plex scans, a passphrase that keeps people out, what the reaper may take."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.run.folder import RunFolder, acquire_lock
from ansible_collections.plexburst.core.plugins.module_utils.run.masking import MASK, Masker, secrets_of
from ansible_collections.plexburst.core.plugins.module_utils.transfer import rclone_config, relay_config
from ansible_collections.plexburst.core.plugins.module_utils.transfer.rclone_config import RcloneConfError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay_cleanup import sort_out

CONF = """\
[s3]
type = s3
provider = Scaleway
access_key_id = SCWREADONLY
secret_access_key = READ-SECRET
endpoint = s3.fr-par.scw.cloud

[writer]
type = s3
provider = Scaleway
access_key_id = SCWWRITER
secret_access_key = WRITE-SECRET
endpoint = https://S3.fr-par.scw.cloud/

[elsewhere]
type = s3
provider = Scaleway
access_key_id = SCWOTHER
secret_access_key = OTHER-SECRET
endpoint = s3.nl-ams.scw.cloud

[films]
type = alias
remote = s3:media/films

[locked]
type = crypt
remote = s3:media/locked
password = CRYPT-SECRET

[both]
type = union
upstreams = films: locked:music

[parts]
type = combine
upstreams = films=s3:archive "music=locked:music"

[env]
type = s3
env_auth = true
"""
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("remote", "media", "inside"),
    [
        ("s3:plexburst-relay", ["s3:media"], ""),
        ("s3:media/relay", ["s3:media"], "s3:media"),
        ("s3:media", ["s3:media"], "s3:media"),
        ("s3:media2", ["s3:media"], ""),
        ("s3:media", ["s3:media/films", "s3:media/music"], ""),
        ("s3:any", ["s3:"], "s3:"),
        ("writer:media/relay", ["s3:media"], "s3:media"),
        ("elsewhere:media/relay", ["s3:media"], ""),
        ("s3:media/films/x", ["films:"], "films:"),
        ("films:x", ["s3:other", "s3:media/films/"], "s3:media/films/"),
        ("films:x", ["s3:media/music"], ""),
        ("locked:relay", ["locked:films"], ""),
        ("locked:films/x", ["locked:films"], "locked:films"),
        ("writer:media/locked/x", ["locked:films"], "locked:films"),
        ("locked:x", ["s3:media"], "s3:media"),
        ("locked:music/x", ["both:"], "both:"),
        ("films:x", ["both:"], "both:"),
        ("s3:archive/x", ["parts:films"], "parts:films"),
        ("s3,region=fr-par:media/x", ["s3:media"], "s3:media"),
    ],
)
def test_a_relay_inside_what_plex_scans_is_found(remote: str, media: list[str], inside: str) -> None:
    assert relay_config.within(CONF, remote, media) == inside


def test_the_private_configuration_holds_what_is_needed_and_nothing_else() -> None:
    sections = relay_config.relay_sections(CONF, "films:relay")
    parsed = rclone_config.parse(relay_config.relay_config(sections, "films:relay", "OBSCURED"))
    assert set(parsed) == {"s3", "films", relay_config.CRYPT}
    assert parsed[relay_config.CRYPT].options == {
        "type": "crypt",
        "remote": "films:relay",
        "filename_encryption": "standard",
        "directory_name_encryption": "true",
        "password": "OBSCURED",
    }


@pytest.mark.parametrize(
    ("text", "remote", "words"),
    [
        (CONF, "nowhere:x", r"no remote \[nowhere\]"),
        (CONF, "/mnt/disk", "is a local path"),
        (CONF, "env:x", "reads its credentials from the controller's environment"),
        (f"{CONF}\n[{relay_config.CRYPT}]\ntype = alias\nremote = s3:x\n", f"{relay_config.CRYPT}:", "is reserved"),
    ],
)
def test_a_remote_that_would_not_work_elsewhere_is_refused(text: str, remote: str, words: str) -> None:
    with pytest.raises(RcloneConfError, match=words):
        relay_config.relay_sections(text, remote)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "does not exist.*openssl rand"),
        ("correct horse battery staple\n", 0o640, "can be read by others.*chmod 600"),
        ("too short\n", 0o600, "at least 16 characters.*found 1 lines of 9 characters"),
        ("", 0o600, "found 0 lines"),
        ("correct horse battery staple\nand another line\n", 0o600, "found 2 lines"),
    ],
)
def test_a_passphrase_that_keeps_nobody_out_is_refused(
    tmp_path: Path, content: str | None, mode: int, words: str
) -> None:
    path = tmp_path / "passphrase"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(RcloneConfError, match=words) as refused:
        relay_config.passphrase(str(path))
    assert "horse" not in str(refused.value)


def test_the_passphrase_is_masked_in_everything_a_run_writes(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    assert relay_config.passphrase(str(path)) == "correct horse battery staple"
    masker = Masker(secrets_of({"transfer_password_file": str(path), "scw_config_file": "/nonexistent"}, {}))
    assert masker.text("with correct horse battery staple in it") == f"with {MASK} in it"


def test_a_rclone_that_fails_to_obscure_never_shows_what_it_was_given(tmp_path: Path) -> None:
    talker = tmp_path / "rclone"
    talker.write_text("#!/bin/sh\ncat\ncat >&2\nexit 1\n")
    talker.chmod(0o700)
    for program in (str(talker), str(tmp_path / "none")):
        with pytest.raises(RcloneConfError) as refused:
            relay_config.obscured(program, "correct horse battery staple")
        assert program in str(refused.value)
        assert "horse" not in str(refused.value)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ('{"level":"error","msg":"one"}\n{"level":"notice","msg":"Failed to cat: two."}\n', "Failed to cat: two"),
        ('{"level":"error","msg":"only"}\n', "only"),
        (
            "2026/11/26 04:46:14 Failed to purge: Forbidden\n\tstatus code: 403\n",
            "Failed to purge: Forbidden status code: 403",
        ),
        ('{"level":"warning","msg":"s3 provider not known"}\n', ""),
    ],
)
def test_rclones_last_words_are_its_reason_in_old_and_new_versions(log: str, cause: str) -> None:
    assert rclone_config.cause(log) == cause


class TestReaper:
    OVER, LOST, MINE, OLD, NEW = (
        "20261126-070000-aaaa",
        "20261126-080000-bbbb",
        "20261126-090000-cccc",
        "20261101-070000-dddd",
        "20261126-100000-eeee",
    )

    @pytest.fixture
    def runs(self, tmp_path: Path) -> Path:
        """OVER and LOST have ended here, MINE is running; OLD and NEW are another controller's."""
        for run in (self.OVER, self.LOST, self.MINE):
            RunFolder.create(tmp_path, run)
        acquire_lock(tmp_path, self.MINE, os.getpid())
        return tmp_path

    @property
    def held(self) -> dict[str, set[str]]:
        names = {run: {"base"} for run in (self.OVER, self.MINE, self.OLD, self.NEW)}
        return {**names, self.LOST: {"base", "result"}, "somebody": {"else"}}

    def test_what_nobody_waits_for_goes_and_what_holds_work_stays(self, runs: Path) -> None:
        found = sort_out(self.held, runs, NOW)
        assert found.remove == [self.OLD, self.OVER]
        why = {entry["run_id"]: entry["why"] for entry in found.kept}
        assert "never downloaded" in why[self.LOST]
        assert f"recover.yml -e plexburst_run={self.LOST}" in why[self.LOST]
        assert "running" in why[self.MINE]
        assert "another controller" in why[self.NEW]
        assert "not a run" in why["somebody"]

    def test_a_result_that_is_at_home_is_nobodys_work_any_more(self, runs: Path) -> None:
        (runs / self.LOST / "snapshots" / "result").mkdir()
        (runs / self.LOST / "snapshots" / "result" / "manifest.json").write_text("{}")
        assert self.LOST in sort_out(self.held, runs, NOW).remove

    def test_one_run_everything_or_what_is_old_can_be_asked_for(self, runs: Path) -> None:
        assert sort_out(self.held, runs, NOW, run=self.LOST).remove == [self.LOST]
        old = sort_out(self.held, runs, NOW, older_than=3.5).remove
        assert old == [self.OLD, self.OVER, self.LOST]
        everything = sort_out(self.held, runs, NOW, everything=True)
        assert [entry["run_id"] for entry in everything.kept] == ["somebody"]

    def test_a_lock_of_a_dead_run_keeps_nothing(self, runs: Path) -> None:
        lock = runs / ".lock"
        holder = json.loads(lock.read_text())
        lock.write_text(json.dumps({**holder, "pid": 2**22 + 1}))
        assert self.MINE in sort_out(self.held, runs, NOW).remove
        lock.write_text(json.dumps({**holder, "host": f"not-{socket.gethostname()}"}))
        assert self.MINE not in sort_out(self.held, runs, NOW).remove, "on another machine it cannot be seen"
