"""What travels home: the difference between two pairs, in parts, and the way back from it."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import codec, delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.plex_db import building

NAMES = (building.LIBRARY, building.BLOBS)
ANY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pair(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A pair of those contents with a manifest that names them, as a snapshot leaves it."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    empty: dict[str, object] = {"sections": [], "counts": {}, "parts": {}, "watch": {}, "schema_versions": []}
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "files": files, **empty}))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


def carry(source: Path, target: Path, only: int | None = None) -> None:
    """Copy a delta's files, or only the first so many parts, as a transfer that is cut does."""
    target.mkdir(exist_ok=True)
    names = [part.name for part in delta.load(source).parts]
    for name in ["delta.json", *(names if only is None else names[:only])]:
        (target / name).write_bytes((source / name).read_bytes())


class Change(NamedTuple):
    """What a database file was and is: pages changed, moved within, added, cut off, or nothing at all."""

    page: int
    seed: int
    count: int
    how: str
    more: int

    def build(self) -> tuple[bytes, bytes]:
        """The file before and after."""
        page, numbers, count = self.page, random.Random(self.seed), self.count  # noqa: S311
        header = b"SQLite format 3\0" + (1 if page == 65536 else page).to_bytes(2, "big")
        pages = [bytearray(numbers.randbytes(page // 2) + bytes(page // 2)) for _ in range(count)]
        pages[0][:18] = header
        old = b"".join(pages)
        for index in range(1, count):
            what = numbers.random()
            if what < 0.3:
                at = numbers.randrange(page - 8)
                pages[index][at : at + 8] = numbers.randbytes(8)
            elif what < 0.4:
                pages[index] = bytearray(numbers.randbytes(7) + pages[index][:-7])
            elif what < 0.45:
                pages[index] = bytearray(numbers.randbytes(page))
        if self.how == "same":
            return old, old
        if self.how == "grown":
            pages += [bytearray(numbers.randbytes(page)) for _ in range(self.more)]
        if self.how == "cut":
            pages = pages[: max(1, count // 2)]
        new = b"".join(pages)
        return old, new + b"tail" if self.how == "odd" else new


SIZES = st.sampled_from([(512, 70), (1024, 70), (4096, 30), (8192, 9), (16384, 5), (65536, 3)])


@st.composite
def two_files(draw: st.DrawFn) -> Change:
    page, most = draw(SIZES)
    how = draw(st.sampled_from(["same", "changed", "grown", "cut", "odd"]))
    return Change(page, draw(st.integers(0, 2**32)), draw(st.integers(1, most)), how, draw(st.integers(1, most)))


@ANY
@given(library=two_files(), blobs=two_files(), part_bytes=st.sampled_from([1, 2000, 10**6]), with_base=st.booleans())
def test_every_pair_comes_out_as_it_went_in(
    library: Change,
    blobs: Change,
    part_bytes: int,
    with_base: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("any")
    old, new = zip(library.build(), blobs.build(), strict=True)
    base = pair(root / "base", dict(zip(NAMES, old, strict=True)))
    result = pair(root / "result", dict(zip(NAMES, new, strict=True)))
    made = delta.make(result, root / "delta", base if with_base else None, part_bytes)
    assert delta.load(root / "delta") == made
    assert made.whole is not with_base
    applied = delta.apply(root / "delta", root / "out", base if with_base else None)
    assert contents(root / "out") == contents(result)
    assert delta.is_applied(applied, root / "out")
    assert {path.name for path in (root / "out").iterdir()} == {*NAMES, "manifest.json"}
    if with_base and old == new:
        assert made.parts == ()


@settings(ANY, max_examples=8)
@given(statements=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 400), st.integers(0, 3000)), max_size=40))
def test_databases_that_were_written_come_out_whole(
    statements: list[tuple[int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Real pages: rows that grow and shrink, trees that split, freed pages, a file that SQLite cuts short."""
    root = tmp_path_factory.mktemp("real")
    base = building.make_library(root / "live", tracks=40)
    snapshot.take(base, root / "base", "home", "1")
    with sqlite3.connect(base / building.BLOBS) as blobs:
        for kind, key, size in statements:
            if kind == 0:
                blobs.execute("INSERT OR REPLACE INTO blobs(id, blob) VALUES(?, randomblob(?))", (key, size))
            elif kind == 1:
                blobs.execute("DELETE FROM blobs WHERE id BETWEEN ? AND ?", (key, key + size))
            else:
                blobs.execute("UPDATE blobs SET blob = zeroblob(?) WHERE id % 7 = ?", (size, key % 7))
    blobs.close()
    snapshot.take(base, root / "result", "indexer", "1")
    delta.make(root / "result", root / "delta", root / "base")
    delta.apply(root / "delta", root / "out", root / "base")
    assert contents(root / "out") == contents(root / "result")


def random_vector(number: int) -> tuple[str, int]:
    return ("INSERT INTO blobs(blob, linked_type, linked_id, blob_type) VALUES(randomblob(200), 'x', ?, 7)", number)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """A base and a result of some hundred changed pages."""
    live = building.make_library(tmp_path / "live", tracks=600)
    snapshot.take(live, tmp_path / "base", "home", "1")
    building.write(live / building.LIBRARY, ("UPDATE metadata_items SET extra_data = ? WHERE id < 400", building.SONIC))
    building.write(live / building.BLOBS, *[random_vector(number) for number in range(1000, 1200)])
    snapshot.take(live, tmp_path / "result", "indexer", "1")
    return tmp_path / "base", tmp_path / "result"


def test_a_transfer_that_was_cut_goes_on_with_what_is_missing(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    made = delta.make(result, tmp_path / "delta", base, part_bytes=500)
    assert len(made.parts) > 4
    carry(tmp_path / "delta", tmp_path / "here", only=3)
    half = tmp_path / "here" / made.parts[3].name
    half.write_bytes((tmp_path / "delta" / half.name).read_bytes()[:-1])
    assert delta.missing_parts(tmp_path / "here", made) == list(made.parts[3:])
    with pytest.raises(PlexDatabaseError, match=r"missing, incomplete or damaged in"):
        delta.apply(tmp_path / "here", tmp_path / "out", base)
    assert not list((tmp_path / "out").iterdir())
    carry(tmp_path / "delta", tmp_path / "here")
    assert delta.missing_parts(tmp_path / "here", made) == []
    delta.apply(tmp_path / "here", tmp_path / "out", base)
    assert contents(tmp_path / "out") == contents(result)


@pytest.mark.parametrize("where", [0, 0.5, 0.999])
def test_a_damaged_part_is_refused_by_name(two: tuple[Path, Path], tmp_path: Path, where: float) -> None:
    base, result = two
    made = delta.make(result, tmp_path / "delta", base)
    path = tmp_path / "delta" / made.parts[0].name
    data = bytearray(path.read_bytes())
    data[int(len(data) * where)] ^= 0x40
    path.write_bytes(data)
    with pytest.raises(PlexDatabaseError, match=r"0000-.*damaged.*Transfer it again"):
        delta.apply(tmp_path / "delta", tmp_path / "out", base)
    assert list((tmp_path / "out").iterdir()) == []


@ANY
@given(data=st.data())
def test_damage_that_hashes_do_not_tell_ends_in_words(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A part that was damaged before it was hashed: nothing wrong is ever called right, and nothing else is raised."""
    root = tmp_path_factory.mktemp("damage")
    old, new = data.draw(two_files()).build()
    base = pair(root / "base", dict.fromkeys(NAMES, old))
    result = pair(root / "result", dict.fromkeys(NAMES, new))
    made = delta.make(result, root / "delta", base)
    if not made.parts:
        return
    path = root / "delta" / made.parts[0].name
    damaged = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    described = json.loads((root / "delta" / "delta.json").read_text())
    described["parts"][0]["sha256"] = hashlib.sha256(damaged).hexdigest()
    (root / "delta" / "delta.json").write_text(json.dumps(described))
    try:
        delta.apply(root / "delta", root / "out", base)
    except PlexDatabaseError:
        assert not list((root / "out").iterdir())
    else:
        assert contents(root / "out") == contents(result)


def test_another_base_is_refused_in_words(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    delta.make(result, tmp_path / "delta", base)
    with (base / building.LIBRARY).open("r+b") as stream:
        stream.seek(30_000)
        stream.write(b"other")
    with pytest.raises(delta.WrongBase, match=r"made for a .*library\.db of .* Transfer the whole pair instead"):
        delta.apply(tmp_path / "delta", tmp_path / "out", base)
    with pytest.raises(delta.WrongBase, match="there is no base"):
        delta.apply(tmp_path / "delta", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_base_that_is_too_short_is_refused(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    delta.make(result, tmp_path / "delta", base)
    with (base / building.LIBRARY).open("r+b") as stream:
        stream.truncate(4096)
    with pytest.raises(PlexDatabaseError):
        delta.apply(tmp_path / "delta", tmp_path / "out", base)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_result_that_is_not_its_manifests_makes_no_delta(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    with (result / building.BLOBS).open("r+b") as stream:
        stream.seek(2000)
        stream.write(b"later")
    with pytest.raises(PlexDatabaseError, match="changed after the snapshot"):
        delta.make(result, tmp_path / "delta", base)
    assert list((tmp_path / "delta").iterdir()) == []


def test_a_delta_that_is_there_is_known_and_another_is_not(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    files = {folder: json.loads((folder / "manifest.json").read_text())["files"] for folder in (base, result)}
    made = delta.make(result, tmp_path / "delta", base)
    assert delta.is_made(tmp_path / "delta", files[base], files[result]) == made
    assert delta.is_made(tmp_path / "delta", None, files[result]) is None
    assert delta.is_made(tmp_path / "delta", files[result], files[result]) is None
    assert delta.is_made(tmp_path / "delta", files[base], files[base]) is None
    (tmp_path / "delta" / made.parts[0].name).unlink()
    assert delta.is_made(tmp_path / "delta", files[base], files[result]) is None


@pytest.mark.parametrize("name", ["../../evil", "0000-../evil", "0001-com.plexapp.plugins.library.db"])
def test_a_description_never_leads_outside_its_folder(two: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    base, result = two
    delta.make(result, tmp_path / "delta", base)
    described = json.loads((tmp_path / "delta" / "delta.json").read_text())
    described["parts"][0]["name"] = name
    (tmp_path / "delta" / "delta.json").write_text(json.dumps(described))
    with pytest.raises(PlexDatabaseError, match="contains invalid file names"):
        delta.load(tmp_path / "delta")


def test_what_is_packed_without_end_is_not_unpacked() -> None:
    """A group is bounded, so a part made to fill the memory cannot."""
    writer = codec.Writer(9)
    bomb = writer.record([0], b"", bytes(50_000_000))
    with pytest.raises(PlexDatabaseError, match="wrong place"):
        list(codec.read_records(bomb, lambda run: b"", 1024, "it"))


def test_a_changed_track_costs_a_fraction_of_its_pages(two: tuple[Path, Path], tmp_path: Path) -> None:
    base, result = two
    made = delta.make(result, tmp_path / "delta", base)
    assert made.size * 2 < made.changed_bytes  # half of it are vectors, which nothing makes smaller
    assert (tmp_path / "delta" / made.parts[0].name).stat().st_mode & 0o077 == 0


def test_both_ends_stay_within_40_mb(tmp_path: Path) -> None:
    """150 MB of which a third changed, made and applied in a process of its own each: peak memory as the kernel tells
    it."""
    numbers = random.Random(4)  # noqa: S311
    page = 4096
    header = b"SQLite format 3\0" + page.to_bytes(2, "big") + bytes(page - 18)
    (tmp_path / "base").mkdir()
    (tmp_path / "result").mkdir()
    noise = [numbers.randbytes(page) for _ in range(64)]
    files = {}
    for folder, salt in (("base", 0), ("result", 1)):
        for name, count in ((NAMES[0], 35_000), (NAMES[1], 2_000)):
            digest = hashlib.sha256()
            with (tmp_path / folder / name).open("wb") as stream:
                for index in range(count):
                    mark = numbers.randbytes(40) if salt and index % 3 == 0 else bytes(40)
                    content = header if index == 0 else noise[index % 64][:-40] + mark
                    digest.update(content)
                    stream.write(content)
            files[folder, name] = {"size": count * page, "sha256": digest.hexdigest()}
    empty: dict[str, object] = {"sections": [], "counts": {}, "parts": {}, "watch": {}, "schema_versions": []}
    manifest = {"schema": 1, "files": {name: files["result", name] for name in NAMES}, **empty}
    (tmp_path / "result" / "manifest.json").write_text(json.dumps(manifest))
    before = baseline()
    for call in (
        "delta.make(r / 'result', r / 'delta', r / 'base')",
        "delta.apply(r / 'delta', r / 'out', r / 'base')",
    ):
        used = peak(f"r = Path({str(tmp_path)!r}); {call}")
        assert used - before < 40 * 1024, f"{call} took {used - before} KiB more than Python itself"
    assert (tmp_path / "out" / NAMES[0]).read_bytes() == (tmp_path / "result" / NAMES[0]).read_bytes()


def baseline() -> int:
    """KiB that Python with these modules takes at least."""
    return peak("pass")


def peak(code: str) -> int:
    """KiB of memory at most, of a Python of its own that runs `code`. From /proc, for ru_maxrss remembers what the
    parent took before exec."""
    whole = (
        "from pathlib import Path; from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta "
        "import delta; "
        f"{code}; print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", whole],
        env={"PYTHONPATH": str(building.REPO / "collections")},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ended.stdout)
