"""Plex's picture files on their way home: what travels, what is laid among home's own, and what never is."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.artwork import archive, layout, merge, references
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Carrier, Cut

from tests.unit.plex_db import building
from tests.unit.plex_db.artwork import COVER, FRAME, LONG_AGO, UPLOAD, after_everything, lay, packed, tree

OTHER = "Metadata/Albums/a/bc.bundle/Contents/_stored/posters/agent_1"
HASH = "abc"


def merged(folder: Path, home: Path, since: float | None = None, **options: bool) -> merge.Merged:
    return merge.merge(folder, archive.load(folder), home, after_everything() if since is None else since, **options)


# -- what is laid, and what is not


def test_what_home_lacks_is_added_and_twice_is_once(tmp_path: Path) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover", FRAME: b"frame" * 999}), tmp_path / "home"
    home.mkdir()
    first = merged(folder, home)
    assert (first.added, first.bytes) == (2, 5 + 5 * 999)
    assert tree(home) == {COVER: b"cover", FRAME: b"frame" * 999}
    again = merged(folder, home)
    assert (again.changed, again.same, again.bytes) == (False, 2, 0)


def test_a_file_that_home_has_changed_since_its_snapshot_stays_and_is_said(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"indexer"})
    home = lay(tmp_path / "home", {COVER: b"homes own"})
    done = merged(folder, home, time.time() - 60)
    assert (done.kept, tree(home)) == (1, {COVER: b"homes own"})
    assert COVER in merge.warnings_of(done)[0]


def test_a_file_that_home_has_not_changed_since_is_replaced(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"indexer"})
    home = lay(tmp_path / "home", {COVER: b"homes own"})
    assert merged(folder, home).replaced == 1
    assert tree(home) == {COVER: b"indexer"}


def test_a_date_that_was_set_back_does_not_hide_a_change(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"indexer"})
    home = lay(tmp_path / "home", {COVER: b"copied with its old date"}, mtime=LONG_AGO)
    assert merged(folder, home, time.time() - 60).kept == 1


def test_an_empty_file_that_a_power_cut_left_is_replaced_whatever_its_date(tmp_path: Path) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover"}), lay(tmp_path / "home", {COVER: b""})
    assert merged(folder, home, LONG_AGO).replaced == 1


def test_uploads_do_not_travel_and_are_not_touched(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"cover", UPLOAD: b"of the indexer"})
    home = lay(tmp_path / "home", {UPLOAD: b"mine"})
    merged(folder, home)
    assert tree(home) == {COVER: b"cover", UPLOAD: b"mine"}


@pytest.mark.parametrize("name", ["Uploads", "uploads"])
def test_an_archive_that_holds_an_upload_all_the_same_is_refused(tmp_path: Path, name: str) -> None:
    path = f"Metadata/Albums/a/bc.bundle/{name}/posters/mine"
    folder, home = forged(tmp_path, path), lay(tmp_path / "home", {path: b"mine"})
    with pytest.raises(PlexDatabaseError, match="it is an upload"):
        merged(folder, home)
    assert tree(home) == {path: b"mine"}


def test_a_server_that_has_none_of_its_own_may_be_given_uploads(tmp_path: Path) -> None:
    support = lay(tmp_path / "home", {UPLOAD: b"mine"})
    archive.pack(support, tmp_path / "archive", archive.choose(support, {}, (), uploads=True))
    (tmp_path / "indexer").mkdir()
    merged(tmp_path / "archive", tmp_path / "indexer", uploads=True)
    assert tree(tmp_path / "indexer") == {UPLOAD: b"mine"}


def test_owner_and_mode_are_those_of_the_folder_above(tmp_path: Path) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover"}), tmp_path / "home"
    (home / "Metadata").mkdir(parents=True)
    (home / "Metadata").chmod(0o750)
    if os.geteuid() == 0:
        os.chown(home / "Metadata", 1234, 2345)
    merged(folder, home)
    above = (home / "Metadata").stat()
    for place in [home / COVER, *(home / COVER).parents[:6]]:
        found = place.stat()
        assert (found.st_uid, found.st_gid) == (above.st_uid, above.st_gid), place
        assert found.st_mode & 0o777 == (0o640 if place.is_file() else 0o750), place


def test_names_of_any_bytes_arrive(tmp_path: Path) -> None:
    name = os.fsdecode(b"Metadata/Albums/a/b\xff\n'\".bundle/Contents/x \xe9")
    folder, home = packed(tmp_path, {name: b"cover"}, part_bytes=7), tmp_path / "home"
    home.mkdir()
    merged(folder, home)
    assert (home / name).read_bytes() == b"cover"


def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"new", OTHER: b"same", FRAME: b"frame"})
    home = lay(tmp_path / "home", {COVER: b"old", OTHER: b"same"})
    before = tree(tmp_path)
    said = merged(folder, home, dry_run=True)
    assert tree(tmp_path) == before
    assert said == merged(folder, home)
    assert (said.added, said.replaced, said.same) == (1, 1, 1)


# -- links, and paths that lead elsewhere


def test_a_link_inside_its_bundle_arrives_as_a_link_and_leads_to_its_file(tmp_path: Path) -> None:
    folder = packed(tmp_path, {OTHER: b"cover", COVER: "../../_stored/posters/agent_1"})
    home = tmp_path / "home"
    home.mkdir()
    assert merged(folder, home).added == 2
    assert (home / COVER).is_symlink()
    assert (home / COVER).read_bytes() == b"cover"


def test_a_link_that_leaves_its_bundle_stays_behind_and_is_said(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = packed(tmp_path, {COVER: str(secret), OTHER: "../../../../../../../../secret", FRAME: b"frame"})
    found = archive.load(folder)
    assert (found.files, found.links, found.skipped) == (1, 0, 2)
    assert "lead out of their bundle" in archive.warnings_of(found)[0]
    assert b"secret" not in b"".join(path.read_bytes() for path in folder.glob("*.artwork"))


def test_a_folder_that_is_a_link_at_the_indexer_is_not_entered(tmp_path: Path) -> None:
    lay(tmp_path / "elsewhere", {"x": b"secret"})
    folder = packed(tmp_path, {"Metadata/Albums/a/bc.bundle/Contents/_combined": str(tmp_path / "elsewhere")})
    assert archive.load(folder).files == 0


@pytest.mark.parametrize(
    "obstacle", ["Metadata/Albums/a/bc.bundle/Contents", "Metadata/Albums/a/bc.bundle", "Metadata/Albums"]
)
def test_nothing_is_written_through_a_link_at_home(tmp_path: Path, obstacle: str) -> None:
    folder = packed(tmp_path, {COVER: b"cover", FRAME: b"frame"})
    (tmp_path / "elsewhere").mkdir()
    home = lay(tmp_path / "home", {obstacle: str(tmp_path / "elsewhere")})
    done = merged(folder, home)
    assert (done.added, done.refused) == (1, 1)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert COVER in merge.warnings_of(done)[0]


def test_metadata_may_lie_on_another_disk(tmp_path: Path) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover"}), tmp_path / "home"
    (tmp_path / "disk").mkdir()
    lay(home, {"Metadata": str(tmp_path / "disk")})
    assert merged(folder, home).added == 1
    assert (tmp_path / "disk" / Path(COVER).relative_to("Metadata")).read_bytes() == b"cover"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: b"cover"})
    (tmp_path / "victim").write_bytes(b"victim")
    home = lay(tmp_path / "home", {COVER: str(tmp_path / "victim")})
    merged(folder, home)
    assert (tmp_path / "victim").read_bytes() == b"victim"
    assert tree(home) == {COVER: b"cover"}


def forged(root: Path, path: str, **more: str) -> Path:
    """An archive whose hashes are right and whose one record names `path`."""
    entry = {"path": path, "size": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}
    stream = (json.dumps({"path": path, **more} if more else entry) + "\n").encode() + (b"" if more else b"evil")
    folder = root / "archive"
    folder.mkdir()
    (folder / "00000.artwork").write_bytes(stream)
    part = {"name": "00000.artwork", "file": "x", "size": len(stream), "sha256": hashlib.sha256(stream).hexdigest()}
    (folder / "artwork.json").write_text(json.dumps({"schema": 1, "signature": "", "parts": [part], "files": 1}))
    return folder


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "Metadata/../../x.bundle/y",
        "Metadata/Albums/a/bc.bundle/../../../../x",
        "Metadata/Albums/a/bc.bundle//x",
        "Metadata/Albums/a/bc.bundle/./x",
        "Metadata/Albums/x",
        "Plug-in Support/Databases/x.bundle/y",
        "Metadata/Albums/a/bc.bundle/.plexburst",
        "Metadata/Albums/a/bc.bundle/\0",
        "Metadata/Albums/a/bc.bundle/" + "x/" * 3000 + "y",
        "",
    ],
)
def test_a_path_that_is_not_in_a_bundle_is_refused(tmp_path: Path, path: str) -> None:
    folder, home = forged(tmp_path, path), tmp_path / "home" / "deep" / "deep"
    home.mkdir(parents=True)
    with pytest.raises(PlexDatabaseError, match="contains the invalid path"):
        merged(folder, home)
    assert tree(tmp_path / "home") == {}


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../x", "", "../../../../de.bundle/x"])
def test_a_link_that_leaves_its_bundle_is_refused(tmp_path: Path, target: str) -> None:
    folder, home = forged(tmp_path, COVER, link=target), tmp_path / "home"
    home.mkdir()
    with pytest.raises(PlexDatabaseError, match="it leads out of its bundle"):
        merged(folder, home)
    assert tree(home) == {}


# -- what travels


def test_only_what_is_new_travels_when_something_was_there_before(tmp_path: Path) -> None:
    support = lay(tmp_path / "indexer", {COVER: b"old", OTHER: b"old"})
    known = {entry.path: (entry.size, entry.mtime_ns) for entry in layout.walk(support)}
    layout.write_list(known, tmp_path / "before.json")
    lay(support, {COVER: b"changed", FRAME: b"new"})
    chosen = archive.choose(support, layout.read_list(tmp_path / "before.json"), ())
    assert set(chosen.entries) == {COVER, FRAME}


def test_an_old_file_travels_too_if_the_library_names_it_now(tmp_path: Path) -> None:
    support = lay(tmp_path / "indexer", {COVER: "../../_stored/posters/agent_1", OTHER: b"old", FRAME: b"old"})
    known = {entry.path: (entry.size, entry.mtime_ns) for entry in layout.walk(support)}
    named = references.Reference("metadata_items 7, user_thumb_url", "metadata://posters/agent_1", (HASH,))
    chosen = archive.choose(support, known, [named])
    assert set(chosen.entries) == {COVER, OTHER}


def test_a_list_that_nobody_wrote_means_that_all_is_new_and_a_damaged_one_is_said(tmp_path: Path) -> None:
    assert layout.read_list(tmp_path / "none") == {}
    (tmp_path / "damaged").write_text("{}")
    with pytest.raises(PlexDatabaseError, match="is damaged"):
        layout.read_list(tmp_path / "damaged")


def test_the_same_choice_is_known_again_and_another_is_not(tmp_path: Path) -> None:
    folder, support = packed(tmp_path, {COVER: b"cover"}), tmp_path / "indexer"
    assert archive.is_packed(folder, archive.choose(support, {}, ())) == archive.load(folder)
    lay(support, {FRAME: b"frame"})
    assert archive.is_packed(folder, archive.choose(support, {}, ())) is None


def test_only_the_bundles_of_some_hashes_are_packed_if_told(tmp_path: Path) -> None:
    support = lay(tmp_path / "indexer", {COVER: b"cover", FRAME: b"frame"})
    assert set(archive.choose(support, {}, (), frozenset({"def"})).entries) == {FRAME}


def test_an_archive_is_private_and_its_parts_are_bounded(tmp_path: Path) -> None:
    folder = packed(tmp_path, {COVER: os.urandom(5000)}, part_bytes=1000)
    assert folder.stat().st_mode & 0o077 == 0
    parts = sorted(folder.glob("*.artwork"))
    assert len(parts) == 6
    assert all(path.stat().st_size <= 1000 for path in parts)
    assert all(not path.stat().st_mode & 0o077 for path in folder.iterdir())


def test_an_archive_without_anything_is_one(tmp_path: Path) -> None:
    (tmp_path / "indexer").mkdir()
    folder = packed(tmp_path, {})
    assert archive.load(folder).empty
    assert not merged(folder, tmp_path).changed


def test_a_cut_line_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    there = packed(tmp_path, {COVER: os.urandom(9000)}, part_bytes=1000)
    here, moved, now = tmp_path / "here", [], [0.0]

    def move(name: str) -> None:
        moved.append(name)
        now[0] += 1.0
        if len(moved) in (1, 4):
            raise Cut("Connection reset by peer")
        (here / name).write_bytes((there / name).read_bytes())

    carrier = Carrier(move, lambda _: None, lambda: now[0], lambda _: None, "bring", kind=archive.ARCHIVES)
    sha256 = hashlib.sha256((there / "artwork.json").read_bytes()).hexdigest()
    assert carrier.bring(here, sha256) == archive.load(there)
    assert (carrier.done.cuts, len(moved) - 2) == (2, len(set(moved)))
    (here / "00003.artwork").unlink()
    (here / "00099.artwork").write_bytes(b"of another archive")
    moved.clear()
    carrier.bring(here, sha256)
    assert moved[-1] == "00003.artwork"
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"x" + data[1:]], ids=["short", "changed"])
def test_a_damaged_part_changes_nothing(tmp_path: Path, damage: object) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover"}), tmp_path / "home"
    home.mkdir()
    (part,) = folder.glob("*.artwork")
    part.write_bytes(damage(part.read_bytes()))  # type: ignore[operator]
    with pytest.raises(PlexDatabaseError, match="missing or damaged"):
        merged(folder, home)
    assert tree(home) == {}


def test_without_room_nothing_is_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, home = packed(tmp_path, {COVER: b"cover"}), tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(PlexDatabaseError, match="The run's artwork needs"):
        merged(folder, home)
    assert tree(home) == {}


# -- references


def album(number: int, reference: str, item_hash: str = HASH) -> tuple[object, ...]:
    columns = "id, metadata_type, guid, title, title_sort, hash, user_thumb_url"
    return (
        f"INSERT INTO metadata_items({columns}) VALUES(?, 9, ?, 'A', 'A', ?, ?)",
        number,
        f"a-{number}",
        item_hash,
        reference,
    )


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """(what went out, what comes back): an album of old, a new one, a film's chapter and a tag."""
    old, new = building.make_library(tmp_path / "old"), building.make_library(tmp_path / "new")
    for folder in (old, new):
        building.write(folder / building.LIBRARY, album(7000, "metadata://posters/old"))
    building.write(
        new / building.LIBRARY,
        album(7001, "metadata://posters/agent_1"),
        ("UPDATE metadata_items SET user_thumb_url = 'https://example.com/x' WHERE id = 1",),
        ("INSERT INTO tags(id, metadata_item_id, tag, tag_type) VALUES(1, 5000, 'c', 9)",),
        (
            "INSERT INTO taggings(metadata_item_id, tag_id, thumb_url) VALUES(5000, 1, ?)",
            "media://d/ef.bundle/Contents/Thumbnails/thumb1.jpg",
        ),
        ("UPDATE tags SET user_art_url = 'upload://art/x' WHERE id = 1",),
        ("INSERT INTO metadata_item_views(account_id, guid, thumb_url) VALUES(1, 'g-1', 'metadata://posters/gone')",),
    )
    return old, new


def test_only_references_that_the_run_has_changed_are_looked_at(pairs: tuple[Path, Path]) -> None:
    old, new = pairs
    found = {reference.url: reference for reference in references.changed(new, old)}
    assert set(found) == {
        "metadata://posters/agent_1",
        "media://d/ef.bundle/Contents/Thumbnails/thumb1.jpg",
        "upload://art/x",
    }
    assert found["metadata://posters/agent_1"].hashes == (HASH,)
    assert "metadata://posters/old" in {reference.url for reference in references.changed(new, None)}


def test_an_item_that_moved_to_another_bundle_has_a_changed_reference(pairs: tuple[Path, Path]) -> None:
    old, new = pairs
    building.write(new / building.LIBRARY, ("UPDATE metadata_items SET hash = 'other' WHERE id = 7000",))
    assert "metadata://posters/old" in {reference.url for reference in references.changed(new, old)}


@pytest.mark.parametrize(
    ("reference", "file"),
    [
        ("metadata://posters/agent_1", COVER),
        ("metadata://posters/agent_1", OTHER),
        ("metadata://posters/x y", "Metadata/Albums/a/bc.bundle/Contents/tv.plex.agents.music/posters/x y"),
        ("metadata://posters/x%20y", "Metadata/Albums/a/bc.bundle/Contents/_combined/posters/x y"),
        (
            "metadata://seasons/2/episodes/4/thumbs/n",
            "Metadata/TV Shows/a/bc.bundle/Contents/_combined/seasons/2/episodes/4/thumbs/n",
        ),
        ("upload://posters/mine", UPLOAD),
        ("media://d/ef.bundle/Contents/Thumbnails/thumb1.jpg", FRAME),
    ],
)
def test_a_reference_leads_to_its_file_wherever_it_lies(tmp_path: Path, reference: str, file: str) -> None:
    lay(tmp_path, {file: b"x"})
    assert layout.Places(tmp_path).find(reference, ("no", HASH)) == file
    assert layout.Places(tmp_path).find(reference + "x", ("no", HASH)) == ""


@pytest.mark.parametrize(
    "reference", ["https://example.com/x", "media://../../secret", "metadata://../../../../../../secret", "upload://"]
)
def test_a_reference_never_leads_out_of_the_bundles(tmp_path: Path, reference: str) -> None:
    lay(tmp_path, {"secret": b"x", COVER: b"x", UPLOAD: b"x", FRAME: b"x"})
    assert layout.Places(tmp_path).find(reference, (HASH,)) == ""


def test_a_reference_that_would_lead_nowhere_at_home_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    support = lay(tmp_path / "indexer", {UPLOAD: b"mine", FRAME: b"frame"})
    named = references.Reference("metadata_items 7, user_thumb_url", "upload://posters/mine", (HASH,))
    archive.pack(support, tmp_path / "archive", archive.choose(support, {}, [named]))
    home = tmp_path / "home"
    home.mkdir()
    with pytest.raises(PlexDatabaseError, match=r"upload://posters/mine \(metadata_items 7.*Nothing was changed"):
        merged(tmp_path / "archive", home)
    assert tree(home) == {}
    lay(home, {UPLOAD: b"homes own"})
    assert merged(tmp_path / "archive", home).added == 1


def test_a_reference_whose_file_home_could_not_take_stops_it(tmp_path: Path) -> None:
    support = lay(tmp_path / "indexer", {COVER: b"cover"})
    named = references.Reference("metadata_items 7, user_thumb_url", "metadata://posters/agent_1", (HASH,))
    archive.pack(support, tmp_path / "archive", archive.choose(support, {}, [named]))
    home = lay(tmp_path / "home", {"Metadata/Albums": b"a file"})
    with pytest.raises(PlexDatabaseError, match="could not be installed at home: Metadata/Albums"):
        merged(tmp_path / "archive", home)


def test_a_reference_that_led_nowhere_on_the_indexer_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "indexer").mkdir()
    named = references.Reference("metadata_items 7, user_thumb_url", "metadata://posters/x", (HASH,))
    chosen = archive.choose(tmp_path / "indexer", {}, [named])
    found = archive.pack(tmp_path / "indexer", tmp_path / "archive", chosen)
    assert (found.references, found.unresolved) == (0, 1)
    assert "metadata://posters/x" in archive.warnings_of(found)[0]
    assert not merged(tmp_path / "archive", tmp_path).changed


def test_the_bundles_of_a_section_are_those_of_its_items_and_files(tmp_path: Path) -> None:
    library = building.make_library(tmp_path / "pair")
    building.write(
        library / building.LIBRARY,
        ("UPDATE metadata_items SET hash = 'film' WHERE id = 5000",),
        ("UPDATE media_parts SET hash = 'file' WHERE media_item_id = 5000",),
        ("UPDATE metadata_items SET hash = 'track' WHERE id = 1",),
    )
    assert references.hashes_of(library, []) is None
    assert references.hashes_of(library, ["Movies"]) == {"film", "file"}
    with pytest.raises(PlexDatabaseError, match="Expected sections called Filme, found Movies, Music"):
        references.hashes_of(library, ["Filme"])


# -- whatever ends it


@pytest.mark.parametrize("mode", ["kill", "full"])
def test_whatever_ends_a_merge_no_half_file_bears_a_real_name_and_a_second_try_mends_it(
    tmp_path: Path, mode: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.plex_db.artwork_faults", mode, str(tmp_path)],
        cwd=building.REPO,
        env={**os.environ, "PYTHONPATH": f"{building.REPO}:{building.REPO / 'collections'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] > 20
    assert found["problems"] == []


def test_a_file_that_plex_writes_at_the_same_moment_is_plexs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, home = packed(tmp_path, {COVER: b"indexer"}), tmp_path / "home"
    home.mkdir()
    real = merge._write

    def meanwhile(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        lay(home, {COVER: b"plex"})

    monkeypatch.setattr(merge, "_write", meanwhile)
    assert merged(folder, home).kept == 1
    assert tree(home) == {COVER: b"plex"}
    assert not list(home.rglob(layout.OURS))
