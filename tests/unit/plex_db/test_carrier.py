"""A delta on its way: lines that are cut, parts that arrive damaged, and what must not travel twice."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.transfer.carrier import Carrier, Cut

from tests.unit.plex_db.test_delta import NAMES, contents, pair


@dataclass
class Line:
    """A line between two folders that fails as it is told: by the number of the move, counted from 1."""

    source: Path
    target: Path
    cut: Sequence[int] = ()
    damaged: Callable[[str, int], bool] = lambda name, move: False
    moved: list[str] = field(default_factory=list)
    now: float = 0.0
    said: list[str] = field(default_factory=list)

    def move(self, name: str) -> None:
        self.moved.append(name)
        self.now += 1.0
        if len(self.moved) in self.cut:
            raise Cut("Connection reset by peer")
        data = (self.source / name).read_bytes()
        self.target.mkdir(exist_ok=True)
        (self.target / name).write_bytes(data[: len(data) // 2] if self.damaged(name, len(self.moved)) else data)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def present(self) -> list[str] | None:
        if not (self.target / "delta.json").is_file():
            return None
        made = delta.load(self.target)
        lacking = delta.missing_parts(self.target, made)
        return [part.name for part in made.parts if part not in lacking]

    def carrier(self, patience: float = 100.0) -> Carrier:
        return Carrier(self.move, self.said.append, lambda: self.now, self.sleep, "bring the database", patience)


@pytest.fixture
def made(tmp_path: Path) -> delta.Delta:
    """A delta of some 20 parts in `there`, that leads to `result`."""
    noise = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(16_000))
    result = pair(tmp_path / "result", dict.fromkeys(NAMES, noise))
    return delta.make(result, tmp_path / "there", part_bytes=40_000)


def description_of(folder: Path) -> str:
    return hashlib.sha256((folder / "delta.json").read_bytes()).hexdigest()


def test_all_of_it_arrives_and_is_told(made: delta.Delta, tmp_path: Path) -> None:
    line = Line(tmp_path / "there", tmp_path / "here")
    carrier = line.carrier()
    assert carrier.bring(tmp_path / "here", description_of(tmp_path / "there")) == made
    delta.apply(tmp_path / "here", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "result")
    assert carrier.done.parts == len(made.parts) > 10
    assert carrier.done.bytes == made.size + (tmp_path / "there" / "delta.json").stat().st_size
    assert any(" %, " in words and " left" in words for words in line.said)
    assert all(not path.stat().st_mode & 0o077 for path in (tmp_path / "here").iterdir())


def test_a_cut_line_is_waited_for_and_nothing_travels_twice(made: delta.Delta, tmp_path: Path) -> None:
    line = Line(tmp_path / "there", tmp_path / "here", cut=(1, 5, 6, 7, 12))
    carrier = line.carrier()
    carrier.bring(tmp_path / "here", description_of(tmp_path / "there"))
    assert carrier.done.cuts == 5
    assert len(line.moved) == len(made.parts) + 1 + 5
    assert delta.missing_parts(tmp_path / "here", made) == []


def test_a_line_that_stays_cut_is_given_up_and_gone_on_with_later(made: delta.Delta, tmp_path: Path) -> None:
    first = Line(tmp_path / "there", tmp_path / "here", cut=range(5, 1000))
    with pytest.raises(Cut, match=r"no progress for \d+ s .*3 parts are transferred"):
        first.carrier().bring(tmp_path / "here", description_of(tmp_path / "there"))
    assert first.now < 300
    second = Line(tmp_path / "there", tmp_path / "here")
    carrier = second.carrier()
    carrier.bring(tmp_path / "here", description_of(tmp_path / "there"))
    assert second.moved == [part.name for part in made.parts[3:]]
    assert carrier.done.there == 3
    assert "3 parts exist already" in second.said[0]


def test_a_part_that_arrives_damaged_travels_again(made: delta.Delta, tmp_path: Path) -> None:
    line = Line(tmp_path / "there", tmp_path / "here", damaged=lambda name, move: move in (2, 3, 9))
    carrier = line.carrier()
    carrier.bring(tmp_path / "here", description_of(tmp_path / "there"))
    assert delta.missing_parts(tmp_path / "here", made) == []
    assert carrier.done.repeated == 3
    assert carrier.done.bytes > made.size


def test_a_part_that_never_arrives_whole_is_named(made: delta.Delta, tmp_path: Path) -> None:
    bad = made.parts[2].name
    line = Line(tmp_path / "there", tmp_path / "here", damaged=lambda name, move: name == bad)
    with pytest.raises(PlexDatabaseError, match=r"0002-.*library\.db.* in each of 3 attempts"):
        line.carrier().bring(tmp_path / "here", description_of(tmp_path / "there"))
    assert line.moved.count(bad) == 3


def test_what_another_delta_left_does_not_stay(made: delta.Delta, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "there", tmp_path / "here")
    other = pair(tmp_path / "other", dict.fromkeys(NAMES, b"another pair" * 9000))
    delta.make(other, tmp_path / "third")
    line = Line(tmp_path / "third", tmp_path / "here")
    line.carrier().bring(tmp_path / "here", description_of(tmp_path / "third"))
    assert {path.name for path in (tmp_path / "here").iterdir()} == {
        path.name for path in (tmp_path / "third").iterdir()
    }


def test_sending_goes_on_after_a_cut_too(made: delta.Delta, tmp_path: Path) -> None:
    line = Line(tmp_path / "there", tmp_path / "home", cut=(3, 4), damaged=lambda name, move: move == 6)
    carrier = line.carrier()
    carrier.send(tmp_path / "there", line.present)
    assert delta.missing_parts(tmp_path / "home", made) == []
    assert carrier.done.repeated == 1
    again = Line(tmp_path / "there", tmp_path / "home")
    done = again.carrier()
    done.send(tmp_path / "there", again.present)
    assert (again.moved, done.done.bytes) == ([], 0)


def test_sending_ends_in_words_when_the_other_end_damages_everything(made: delta.Delta, tmp_path: Path) -> None:
    line = Line(tmp_path / "there", tmp_path / "home", damaged=lambda name, move: name != "delta.json")
    with pytest.raises(PlexDatabaseError, match=r"parts arrived damaged in each of 3 attempts"):
        line.carrier().send(tmp_path / "there", line.present)
