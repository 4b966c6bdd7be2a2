"""The exchange on a real S3 server: what is put there is encrypted and proven, what is got is whole, and a cut, damage
or a wrong key has words of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db import patch
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.exchange import ROOT, Line
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.patch_transfer import Cut

from sandbox import s3
from tests.modules.runner import run_module
from tests.modules.s3_exchange import PASSPHRASE, REMOTE, RUN, Server
from tests.unit.plex_db.test_patch import NAMES, contents, pair

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
    """The server, up and with an empty exchange."""
    shutil.rmtree(_server.buckets / "plexburst-exchange", ignore_errors=True)
    _server.start()
    return _server


@pytest.fixture
def made(tmp_path: Path) -> patch.Patch:
    """A patch of four parts in `there`, that leads to `result`; it begins as every SQLite file does."""
    result = pair(tmp_path / "result", dict.fromkeys(NAMES, b"SQLite format 3\0" + NOISE))
    made = patch.make(result, tmp_path / "there", part_bytes=60_000)
    assert len(made.parts) == 4
    return made


class Clock:
    """Time that passes only while somebody waits; `meanwhile` happens then."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.now, self.meanwhile = 0.0, meanwhile
        self.said: list[str] = []

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        # rclone's server answers from a folder list that is up to 1 s old: a retry needs real time to see a new one.
        time.sleep(min(seconds, 0.3))
        self.meanwhile()

    def line(self, patience: float = 100.0) -> Line:
        return Line(self.said.append, patience, lambda: self.now, self.sleep)


def description_of(folder: Path) -> str:
    return hashlib.sha256((folder / "patch.json").read_bytes()).hexdigest()


def largest(server: Server) -> Path:
    return max(server.objects(), key=lambda path: path.stat().st_size)


def test_what_is_put_there_comes_back_whole(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    exchange = server.exchange()
    assert not exchange.held(RUN, "result").complete
    assert exchange.put(Clock().line(), tmp_path / "there", RUN, "result")[0] == made
    held = exchange.held(RUN, "result")
    assert (held.complete, held.bytes) == (True, made.size)
    assert held.description_sha256 == description_of(tmp_path / "there")
    got, done = server.exchange().get(Clock().line(), tmp_path / "here", RUN, "result", held.description_sha256)
    assert (got, done.parts) == (made, len(made.parts))
    patch.apply(tmp_path / "here", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "result")
    again = exchange.put(Clock().line(), tmp_path / "there", RUN, "result")[1]
    assert again.bytes == 0, "what is there does not travel again"


def test_nobody_who_sees_the_bucket_learns_anything(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    server.exchange().put(Clock().line(), tmp_path / "there", RUN, "result")
    assert len(server.objects()) == len(made.parts) + 1
    for path in server.objects():
        content = path.read_bytes()
        assert content.startswith(b"RCLONE\x00\x00"), "the mark of rclone's crypt"
        assert not any(plain in content for plain in (b"SQLite", b"sha256", b"manifest", NOISE[:16]))
        name = str(path.relative_to(server.buckets / "plexburst-exchange")).partition("/")[2]
        assert not any(plain in name for plain in (RUN, "result", "patch", "library", "plex"))


def test_a_cut_in_the_middle_is_waited_for_and_nothing_travels_twice(
    server: Server, made: patch.Patch, tmp_path: Path
) -> None:
    exchange = server.exchange()
    moved: list[str] = []
    copy = exchange._copy

    def cut_after_the_third(source: str, target: str, failed: str) -> None:
        if len(moved) == 3 and clock.now == 0:
            server.stop()
        copy(source, target, failed)
        moved.append(target.rpartition("/")[2])

    exchange._copy = cut_after_the_third  # type: ignore[method-assign]
    for work, folder in ((exchange.put, "there"), (exchange.get, "here")):
        clock = Clock(server.start)
        assert work(clock.line(), tmp_path / folder, RUN, "base")[1].cuts == 1
        assert moved == ["patch.json", *(part.name for part in made.parts)]
        cut = [words for words in clock.said if "connection lost, next try in 1 s" in words]
        assert len(cut) == 1
        assert "connection refused" in cut[0]
        moved.clear()


def test_a_line_that_stays_cut_is_given_up_and_gone_on_with_later(
    server: Server, made: patch.Patch, tmp_path: Path
) -> None:
    exchange = server.exchange()
    exchange.put(Clock().line(), tmp_path / "there", RUN, "result")
    copy = exchange._copy

    def cut_for_good(source: str, target: str, failed: str) -> None:
        if source.endswith(made.parts[2].name):
            server.stop()
        copy(source, target, failed)

    exchange._copy = cut_for_good  # type: ignore[method-assign]
    with pytest.raises(Cut, match=r"no progress for \d+ s .*connection refused.*2 parts are transferred"):
        exchange.get(Clock().line(patience=2.0), tmp_path / "here", RUN, "result")
    server.start()
    done = server.exchange().get(Clock().line(), tmp_path / "here", RUN, "result")[1]
    assert (done.there, done.parts) == (2, len(made.parts) - 2)


def test_what_was_damaged_there_is_put_there_again(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    exchange = server.exchange()
    exchange.put(Clock().line(), tmp_path / "there", RUN, "result")
    bad = largest(server)
    content, status = bytearray(bad.read_bytes()), bad.stat()
    content[20_000] ^= 1
    bad.write_bytes(content)
    with pytest.raises(PlexDatabaseError, match=r"000\d-.* arrived damaged or incomplete in each of 3 attempts"):
        exchange.get(Clock().line(), tmp_path / "here", RUN, "result")
    done = exchange.put(Clock().line(), tmp_path / "there", RUN, "result")[1]
    assert (done.parts, done.there) == (1, len(made.parts) - 1)
    assert bad.stat().st_size == status.st_size
    exchange.get(Clock().line(), tmp_path / "here", RUN, "result")
    assert patch.missing_parts(tmp_path / "here", made) == []


def test_an_object_that_is_gone_is_missed_before_anything_travels(
    server: Server, made: patch.Patch, tmp_path: Path
) -> None:
    exchange = server.exchange()
    exchange.put(Clock().line(), tmp_path / "there", RUN, "result")
    gone = exchange._call("deletefile", f"{ROOT}{RUN}/result/{made.parts[2].name}")
    assert gone.code == 0
    held = exchange.held(RUN, "result")
    assert (held.complete, len(held.missing)) == (False, 1)
    with pytest.raises(PlexDatabaseError, match=r"1 parts of .*/result are missing or incomplete in the relay"):
        exchange.get(Clock().line(), tmp_path / "here", RUN, "result")
    assert not (tmp_path / "here").exists()


def test_another_patch_takes_the_place_of_the_first_whole(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    exchange = server.exchange()
    exchange.put(Clock().line(), tmp_path / "there", RUN, "result")
    other = pair(tmp_path / "other", dict.fromkeys(NAMES, NOISE[::-1] * 2))
    second = patch.make(other, tmp_path / "second", part_bytes=300_000)
    exchange.put(Clock().line(), tmp_path / "second", RUN, "result")
    assert len(server.objects()) == len(second.parts) + 1 < len(made.parts) + 1
    assert exchange.get(Clock().line(), tmp_path / "here", RUN, "result")[0] == second
    with pytest.raises(PlexDatabaseError, match="is not the uploaded one"):
        exchange.get(Clock().line(), tmp_path / "here", RUN, "result", description_of(tmp_path / "there"))


def test_another_passphrase_finds_nothing_and_says_why(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    server.exchange().put(Clock().line(), tmp_path / "there", RUN, "result")
    with pytest.raises(PlexDatabaseError, match=r"cannot be decrypted\. Use the passphrase of the upload"):
        server.exchange("another passphrase").get(Clock().line(), tmp_path / "here", RUN, "result")


def test_a_wrong_key_is_told_at_once_with_rclones_reason(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    exchange, clock = server.exchange(secret_key="wrong-key"), Clock()
    for attempt in (
        lambda: exchange.put(clock.line(), tmp_path / "there", RUN, "result"),
        lambda: exchange.get(clock.line(), tmp_path / "here", RUN, "result"),
        lambda: exchange.purge(RUN),
        lambda: exchange.probe(RUN, b"probe"),
    ):
        with pytest.raises(PlexDatabaseError, match="SignatureDoesNotMatch"):
            attempt()
    assert clock.now == 0.0, "nobody waits for a wrong key"


def test_what_is_removed_is_gone_and_nothing_else(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    exchange, other = server.exchange(), "20261122-081500-cd34"
    for run, name in ((RUN, "base"), (RUN, "result"), (other, "base")):
        exchange.put(Clock().line(), tmp_path / "there", run, name)
    exchange.probe(RUN, b"a few bytes")
    exchange.purge(f"{RUN}/base")
    assert {run: set(names) for run, names in exchange.runs().items()} == {RUN: {"result"}, other: {"base"}}
    exchange.purge(RUN)
    exchange.purge(RUN)
    assert set(exchange.runs()) == {other}
    exchange.purge(other)
    assert server.objects() == []


def arguments(server: Server, state: str, folder: Path, **more: Any) -> dict[str, Any]:
    """What the action plugin sends to a host."""
    where = {"remote": REMOTE, "password_file": str(server.password_file), "rclone_config": str(server.rclone_conf)}
    return {
        "state": state,
        "at": "host",
        "exchange": {**where, "run": RUN},
        "name": "result",
        "patch": str(folder),
        "rclone": str(s3.rclone_binary()),
        "config": server.config(),
        **more,
    }


def test_a_host_puts_and_gets_and_keeps_no_secret(server: Server, made: patch.Patch, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for state, folder in (("put", "there"), ("got", "here")):
        sent = arguments(server, state, tmp_path / folder)
        first = run_module("plex_db_exchange", sent, env={"TMPDIR": str(temporary)})
        assert (first["failed"], first["changed"], first["parts"]) == (False, True, len(made.parts)), first
        again = run_module("plex_db_exchange", sent)
        assert (again["failed"], again["changed"]) == (False, False), again
        told = json.dumps([first, again])
        secrets = [server.keys.secret_key, PASSPHRASE, sent["config"].rpartition("password = ")[2].strip()]
        assert not any(secret in told for secret in secrets)
    assert patch.missing_parts(tmp_path / "here", made) == []


def test_a_host_without_rclone_and_a_module_without_its_action_say_so(server: Server, tmp_path: Path) -> None:
    refused = run_module("plex_db_exchange", arguments(server, "got", tmp_path, rclone="/nowhere/rclone"))
    assert "rclone cannot be started as /nowhere/rclone" in refused["msg"]
    alone = {key: value for key, value in arguments(server, "got", tmp_path).items() if key != "config"}
    assert "plexburst.core.plex_db_exchange" in run_module("plex_db_exchange", alone)["msg"]
