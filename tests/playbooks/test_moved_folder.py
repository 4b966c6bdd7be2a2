"""A folder renamed in the bucket: the plan proposes the mapping, the accepted one keeps what Plex knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sandbox.control import Sandbox
from sandbox.media import Sizes
from tests.playbooks.evidence import LIBRARY, HomeState, Outcome, connect, databases_of, run_playbook

pytestmark = pytest.mark.playbook

SMALL = Sizes(tracks=27, films=4, shows=1, episodes=3, photos=4)
NEW = "100% l'Été_ (2020)"
NEWER = "Amber Harbour, again"
INDEXER = [{"from": "/Media/Movies", "to": "/srv/films"}]


@dataclass(frozen=True)
class Story:
    """What home was, what each run said, what home is."""

    old: str
    new: str
    before: HomeState
    ids: dict[str, int]
    checked: Outcome
    stopped: Outcome
    made_when_stopped: int
    accepted: Outcome
    after: HomeState
    ids_after: dict[str, int]
    locations: set[str]
    again: Outcome


def ids_by_file(databases: Path) -> dict[str, int]:
    """ratingKey of each file outside the trash."""
    library = connect(databases / LIBRARY)
    try:
        return dict(
            library.execute(
                "SELECT p.file, m.metadata_item_id FROM media_parts p JOIN media_items m ON m.id = p.media_item_id "
                "WHERE p.deleted_at IS NULL"
            ).fetchall()
        )
    finally:
        library.close()


def locations(databases: Path) -> set[str]:
    library = connect(databases / LIBRARY)
    try:
        return {row[0] for row in library.execute("SELECT root_path FROM section_locations")}
    finally:
        library.close()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("moved")
    sandbox = Sandbox(root / "sandbox", sizes=SMALL, speed=0.02)
    sandbox.up()
    try:
        databases = databases_of(sandbox.state["home"]["config_dir"])
        music = Path(sandbox.state["home"]["volumes"][0]["host"]) / "Music"
        before, ids = HomeState.read(databases), ids_by_file(databases)
        analysed = sorted(
            file for file, item in ids.items() if item in before.sonic_marks and (music.parent / file[7:]).is_file()
        )
        artist = analysed[0].split("/")[3]
        (music / artist).rename(music / NEW)
        old, new = f"/Media/Music/{artist}", f"/Media/Music/{NEW}"
        env, runs = sandbox.ansible_env(), root / "runs"
        # Half of so small a library is in that folder: without the higher limit it would be too much that is missing.
        limit = ("-e", "plexburst_max_missing_percent=90")
        wanted = {"plexburst_path_mappings": [{"from": old, "to": new}], "plexburst_indexer_path_mappings": INDEXER}
        (root / "accepted.json").write_text(json.dumps(wanted))
        accepted = run_playbook(env, runs, "-e", f"@{root / 'accepted.json'}", seconds=900)
        after, ids_after = HomeState.read(databases), ids_by_file(databases)
        again = run_playbook(env, runs, "-e", f"@{root / 'accepted.json'}", seconds=900)
        ledger = len(sandbox.ledger())
        (music / NEW).rename(music / NEWER)
        checked = run_playbook(env, runs, "--check", *limit, seconds=900)
        stopped = run_playbook(env, runs, *limit, seconds=900)
        yield Story(
            old,
            new,
            before,
            ids,
            checked,
            stopped,
            len(sandbox.ledger()) - ledger,
            accepted,
            after,
            ids_after,
            locations(databases),
            again,
        )
    finally:
        sandbox.reset()


def _plain(line: str) -> str:
    """A line of the display, or of Ansible's own, which writes lists as JSON."""
    line = line.strip().rstrip(",")
    return str(json.loads(line)).strip() if line.startswith('"') and line.endswith('"') else line


def proposed(output: str) -> list[dict[str, str]]:
    """The YAML of the plan, as a person would copy it."""
    lines = [_plain(line) for line in output.splitlines()]
    start = next(number for number, line in enumerate(lines) if line.endswith("plexburst_path_mappings:"))
    taken = ["plexburst_path_mappings:"]
    for line in lines[start + 1 :]:
        if line.startswith("- from:"):
            taken.append(f"  {line}")
        elif line.startswith("to:"):
            taken.append(f"    {line}")
        else:
            break
    found: list[dict[str, str]] = yaml.safe_load("\n".join(taken))["plexburst_path_mappings"]
    return found


def test_check_mode_prints_the_mapping_as_yaml(story: Story) -> None:
    assert story.checked.rc == 0, story.checked.output[-4000:]
    assert proposed(story.checked.output) == [{"from": story.new, "to": f"/Media/Music/{NEWER}"}]


def test_without_an_answer_the_run_stops_before_anything_is_paid(story: Story) -> None:
    assert story.stopped.rc != 0
    assert "plexburst_path_mappings" in story.stopped.output
    assert story.made_when_stopped == 0


def test_moved_tracks_keep_their_ratingkeys_and_their_analysis(story: Story) -> None:
    assert story.accepted.rc == 0, story.accepted.output[-6000:]
    moved = {file: item for file, item in story.ids.items() if file.startswith(story.old + "/")}
    assert moved
    kept = {file.replace(story.old, story.new, 1): item for file, item in moved.items()}
    there = {file: item for file, item in story.ids_after.items() if file in kept}
    assert there
    assert there == {file: kept[file] for file in there}
    assert not [file for file in story.after.parts if file.startswith(story.old + "/")]
    analysed = {item for item in there.values() if item in story.before.sonic_marks}
    assert analysed
    assert analysed <= story.after.sonic_marks


def test_nothing_else_of_the_library_changed_its_place(story: Story) -> None:
    others = {file: item for file, item in story.ids.items() if not file.startswith(story.old + "/")}
    assert {file: story.ids_after[file] for file in others if file in story.ids_after} == {
        file: item for file, item in others.items() if file in story.ids_after
    }
    assert story.after.settings == story.before.settings
    assert story.after.playlists == story.before.playlists


def test_the_indexers_own_names_never_come_home(story: Story) -> None:
    assert not [file for file in story.after.parts if file.startswith("/srv/")]
    assert [file for file in story.ids_after if file.startswith("/Media/Movies/")]
    assert story.locations == {f"/Media/{name}" for name in ("Music", "Movies", "TV Shows", "Photos")}


def test_the_mapping_may_stay_in_the_settings(story: Story) -> None:
    assert story.again.rc == 0, story.again.output[-4000:]
    assert "Nothing to do" in story.again.output
