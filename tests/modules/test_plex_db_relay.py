"""The relay on a real S3 server: what is put there is encrypted and proven, what is got is whole, and a cut, damage
or a wrong key has words of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Cut
from ansible_collections.plexburst.core.plugins.module_utils.transfer.relay import ROOT, Line

from sandbox import s3
from tests.modules.runner import run_module
from tests.modules.s3_relay import PASSPHRASE, REMOTE, RUN, Server
from tests.unit.plex_db.test_delta import NAMES, contents, pair

NOISE = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(4000))


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("s3"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(_server: Server) -> Iterator[Server]:
    """The server, up and with an empty relay."""
    shutil.rmtree(_server.buckets / "plexburst-relay", ignore_errors=True)
    _server.start()
    return _server


@pytest.fixture
def made(tmp_path: Path) -> delta.Delta:
    """A delta of four parts in `there`, that leads to `result`; it begins as every SQLite file does."""
    result = pair(tmp_path / "result", dict.fromkeys(NAMES, b"SQLite format 3\0" + NOISE))
    made = delta.make(result, tmp_path / "there", part_bytes=60_000)
    assert len(made.parts) == 4
    return made


class Clock:
    """Time that passes only while somebody waits; `meanwhile` happens then."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.now, self.meanwhile = 0.0, meanwhile
        self.said: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def line(self, patience: float = 100.0) -> Line:
        return Line(self.said.append, patience, lambda: self.now, self.sleep)


def description_of(folder: Path) -> str:
    return hashlib.sha256((folder / "delta.json").read_bytes()).hexdigest()


def largest(server: Server) -> Path:
    return max(server.objects(), key=lambda path: path.stat().st_size)


def test_what_is_put_there_comes_back_whole(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    relay = server.relay()
    assert not relay.held(RUN, "result").complete
    assert relay.put(Clock().line(), tmp_path / "there", RUN, "result")[0] == made
    held = relay.held(RUN, "result")
    assert (held.complete, held.bytes) == (True, made.size)
    assert held.description_sha256 == description_of(tmp_path / "there")
    got, done = server.relay().get(Clock().line(), tmp_path / "here", RUN, "result", held.description_sha256)
    assert (got, done.parts) == (made, len(made.parts))
    delta.apply(tmp_path / "here", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "result")
    again = relay.put(Clock().line(), tmp_path / "there", RUN, "result")[1]
    assert again.bytes == 0, "what is there does not travel again"


def test_nobody_who_sees_the_bucket_learns_anything(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    server.relay().put(Clock().line(), tmp_path / "there", RUN, "result")
    assert len(server.objects()) == len(made.parts) + 1
    for path in server.objects():
        content = path.read_bytes()
        assert content.startswith(b"RCLONE\x00\x00"), "the mark of rclone's crypt"
        assert not any(plain in content for plain in (b"SQLite", b"sha256", b"manifest", NOISE[:16]))
        name = str(path.relative_to(server.buckets / "plexburst-relay")).partition("/")[2]
        assert not any(plain in name for plain in (RUN, "result", "delta", "library", "plex"))


def test_a_cut_in_the_middle_is_waited_for_and_nothing_travels_twice(
    server: Server, made: delta.Delta, tmp_path: Path
) -> None:
    relay = server.relay()
    moved: list[str] = []
    copy = relay._copy

    def cut_after_the_third(source: str, target: str, failed: str) -> None:
        if len(moved) == 3 and clock.now == 0:
            server.stop()
        copy(source, target, failed)
        moved.append(target.rpartition("/")[2])

    relay._copy = cut_after_the_third  # type: ignore[method-assign]
    for work, folder in ((relay.put, "there"), (relay.get, "here")):
        clock = Clock(server.start)
        assert work(clock.line(), tmp_path / folder, RUN, "base")[1].cuts == 1
        assert moved == ["delta.json", *(part.name for part in made.parts)]
        cut = [words for words in clock.said if "connection lost, next try in 1 s" in words]
        assert len(cut) == 1
        assert "connection refused" in cut[0]
        moved.clear()


def test_a_line_that_stays_cut_is_given_up_and_gone_on_with_later(
    server: Server, made: delta.Delta, tmp_path: Path
) -> None:
    relay = server.relay()
    relay.put(Clock().line(), tmp_path / "there", RUN, "result")
    copy = relay._copy

    def cut_for_good(source: str, target: str, failed: str) -> None:
        if source.endswith(made.parts[2].name):
            server.stop()
        copy(source, target, failed)

    relay._copy = cut_for_good  # type: ignore[method-assign]
    with pytest.raises(Cut, match=r"no progress for \d+ s .*connection refused.*2 parts are transferred"):
        relay.get(Clock().line(patience=2.0), tmp_path / "here", RUN, "result")
    server.start()
    done = server.relay().get(Clock().line(), tmp_path / "here", RUN, "result")[1]
    assert (done.there, done.parts) == (2, len(made.parts) - 2)


def test_what_was_damaged_there_is_put_there_again(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    relay = server.relay()
    relay.put(Clock().line(), tmp_path / "there", RUN, "result")
    bad = largest(server)
    content, status = bytearray(bad.read_bytes()), bad.stat()
    content[20_000] ^= 1
    bad.write_bytes(content)
    with pytest.raises(PlexDatabaseError, match=r"000\d-.* arrived damaged or incomplete in each of 3 attempts"):
        relay.get(Clock().line(), tmp_path / "here", RUN, "result")
    done = relay.put(Clock().line(), tmp_path / "there", RUN, "result")[1]
    assert (done.parts, done.there) == (1, len(made.parts) - 1)
    assert bad.stat().st_size == status.st_size
    relay.get(Clock().line(), tmp_path / "here", RUN, "result")
    assert delta.missing_parts(tmp_path / "here", made) == []


def test_an_object_that_is_gone_is_missed_before_anything_travels(
    server: Server, made: delta.Delta, tmp_path: Path
) -> None:
    relay = server.relay()
    relay.put(Clock().line(), tmp_path / "there", RUN, "result")
    gone = relay._call("deletefile", f"{ROOT}{RUN}/result/{made.parts[2].name}")
    assert gone.code == 0
    held = relay.held(RUN, "result")
    assert (held.complete, len(held.missing)) == (False, 1)
    with pytest.raises(PlexDatabaseError, match=r"1 parts of .*/result are missing or incomplete in the relay"):
        relay.get(Clock().line(), tmp_path / "here", RUN, "result")
    assert not (tmp_path / "here").exists()


def test_another_delta_takes_the_place_of_the_first_whole(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    relay = server.relay()
    relay.put(Clock().line(), tmp_path / "there", RUN, "result")
    other = pair(tmp_path / "other", dict.fromkeys(NAMES, NOISE[::-1] * 2))
    second = delta.make(other, tmp_path / "second", part_bytes=300_000)
    relay.put(Clock().line(), tmp_path / "second", RUN, "result")
    assert len(server.objects()) == len(second.parts) + 1 < len(made.parts) + 1
    assert relay.get(Clock().line(), tmp_path / "here", RUN, "result")[0] == second
    with pytest.raises(PlexDatabaseError, match="is not the uploaded one"):
        relay.get(Clock().line(), tmp_path / "here", RUN, "result", description_of(tmp_path / "there"))


def test_another_passphrase_finds_nothing_and_says_why(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    server.relay().put(Clock().line(), tmp_path / "there", RUN, "result")
    with pytest.raises(PlexDatabaseError, match=r"cannot be decrypted\. Use the passphrase of the upload"):
        server.relay("another passphrase").get(Clock().line(), tmp_path / "here", RUN, "result")


def test_a_wrong_key_is_told_at_once_with_rclones_reason(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    relay, clock = server.relay(secret_key="wrong-key"), Clock()
    for attempt in (
        lambda: relay.put(clock.line(), tmp_path / "there", RUN, "result"),
        lambda: relay.get(clock.line(), tmp_path / "here", RUN, "result"),
        lambda: relay.purge(RUN),
        lambda: relay.probe(RUN, b"probe"),
    ):
        with pytest.raises(PlexDatabaseError, match="SignatureDoesNotMatch"):
            attempt()
    assert clock.now == 0.0, "nobody waits for a wrong key"


def test_what_is_removed_is_gone_and_nothing_else(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    relay, other = server.relay(), "20261122-081500-cd34"
    for run, name in ((RUN, "base"), (RUN, "result"), (other, "base")):
        relay.put(Clock().line(), tmp_path / "there", run, name)
    relay.probe(RUN, b"a few bytes")
    relay.purge(f"{RUN}/base")
    assert {run: set(names) for run, names in relay.runs().items()} == {RUN: {"result"}, other: {"base"}}
    relay.purge(RUN)
    relay.purge(RUN)
    assert set(relay.runs()) == {other}
    relay.purge(other)
    assert server.objects() == []


def arguments(server: Server, state: str, folder: Path, **more: Any) -> dict[str, Any]:
    """What the action plugin sends to a host."""
    where = {"remote": REMOTE, "password_file": str(server.password_file), "rclone_config": str(server.rclone_conf)}
    return {
        "state": state,
        "at": "host",
        "relay": {**where, "run": RUN},
        "name": "result",
        "delta": str(folder),
        "rclone": str(s3.rclone_binary()),
        "config": server.config(),
        **more,
    }


def test_a_host_puts_and_gets_and_keeps_no_secret(server: Server, made: delta.Delta, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for state, folder in (("uploaded", "there"), ("downloaded", "here")):
        sent = arguments(server, state, tmp_path / folder)
        first = run_module("plex_db_relay", sent, env={"TMPDIR": str(temporary)})
        assert (first["failed"], first["changed"], first["parts"]) == (False, True, len(made.parts)), first
        again = run_module("plex_db_relay", sent)
        assert (again["failed"], again["changed"]) == (False, False), again
        told = json.dumps([first, again])
        secrets = [server.keys.secret_key, PASSPHRASE, sent["config"].rpartition("password = ")[2].strip()]
        assert not any(secret in told for secret in secrets)
    assert delta.missing_parts(tmp_path / "here", made) == []


def test_a_host_without_rclone_and_a_module_without_its_action_say_so(server: Server, tmp_path: Path) -> None:
    refused = run_module("plex_db_relay", arguments(server, "downloaded", tmp_path, rclone="/nowhere/rclone"))
    assert "rclone cannot be started as /nowhere/rclone" in refused["msg"]
    alone = {key: value for key, value in arguments(server, "downloaded", tmp_path).items() if key != "config"}
    assert "plexburst.core.plex_db_relay" in run_module("plex_db_relay", alone)["msg"]
