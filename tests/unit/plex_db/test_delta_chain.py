"""Patches that lead on from one another: what travels of a pair that is copied again and again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import chain as delta_chain
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.delta import delta
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.pair import snapshot
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plex_db import building
from tests.unit.plex_db.test_delta import ANY, NAMES, contents, pair

SEEDS = st.integers(0, 2**32)
PAGES = st.sampled_from([512, 1024, 4096, 65536])


def versions(page: int, seed: int, count: int) -> list[bytes]:
    """So many states of one database file: pages change, are added and cut off, and change back."""
    numbers = random.Random(seed)  # noqa: S311
    header = b"SQLite format 3\0" + (1 if page == 65536 else page).to_bytes(2, "big")
    pages = [header + numbers.randbytes(page - 18), *(numbers.randbytes(page) for _ in range(numbers.randrange(40)))]
    states = [b"".join(pages)]
    for _ in range(count):
        for index in range(1, len(pages)):
            if numbers.random() < 0.2:
                at = numbers.randrange(page - 8)
                pages[index] = pages[index][:at] + numbers.randbytes(8) + pages[index][at + 8 :]
        how = numbers.random()
        if how < 0.3:
            pages += [numbers.randbytes(page) for _ in range(numbers.randrange(1, 20))]
        elif how < 0.5:
            pages = pages[: numbers.randrange(1, len(pages) + 1)]
        states.append(b"".join(pages))
    return states


@ANY
@given(page=PAGES, seeds=st.tuples(SEEDS, SEEDS), count=st.integers(1, 5), data=st.data())
def test_every_state_comes_out_as_it_was(
    page: int, seeds: tuple[int, int], count: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also where a pair in the middle travelled whole, because the bases had come to differ."""
    root = tmp_path_factory.mktemp("chain")
    files = [versions(page, seed, count) for seed in seeds]
    states = [
        pair(root / f"state{number}", {NAMES[0]: files[0][number], NAMES[1]: files[1][number]})
        for number in range(count + 1)
    ]
    folders = []
    for number in range(1, count + 1):
        whole = data.draw(st.integers(0, 5)) == 0
        folder = root / f"delta{number}"
        made = delta.make(states[number], folder, None if whole else states[number - 1], part_bytes=3000)
        assert made.whole is whole
        folders.append(folder)
    last = data.draw(st.integers(1, count))
    delta_chain.apply(folders[:last], root / "out", states[0])
    assert contents(root / "out") == contents(states[last])
    assert contents(states[0]) == {NAMES[0]: files[0][0], NAMES[1]: files[1][0]}, "the base is only read"
    assert {path.name for path in (root / "out").iterdir()} == {*NAMES, "manifest.json"}
    loaded = [delta.load(folder) for folder in folders]
    assert delta_chain.leads_on(loaded, json.loads((states[0] / "manifest.json").read_text())["files"])


@pytest.fixture
def chain(tmp_path: Path) -> list[Path]:
    """A base and three deltas of a library that works, one hundred tracks each."""
    live = building.make_library(tmp_path / "live", tracks=400, analysed=0)
    snapshot.take(live, tmp_path / "state0", "home", "1")
    for number in (1, 2, 3):
        first = number * 100 - 99
        mark = "UPDATE metadata_items SET extra_data = ? WHERE id BETWEEN ? AND ?"
        building.write(live / building.LIBRARY, (mark, building.SONIC, first, first + 99))
        building.write(live / building.BLOBS, *[building.vector(track) for track in range(first, first + 100)])
        snapshot.take(live, tmp_path / f"state{number}", "indexer", "1")
        delta.make(tmp_path / f"state{number}", tmp_path / f"delta{number}", tmp_path / f"state{number - 1}")
    return [tmp_path / f"delta{number}" for number in (1, 2, 3)]


def test_each_holds_only_what_is_new_since_the_one_before(chain: list[Path], tmp_path: Path) -> None:
    sizes = [delta.load(folder).size for folder in chain]
    from_the_base = delta.make(tmp_path / "state3", tmp_path / "all", tmp_path / "state0").size
    assert max(sizes) < from_the_base / 2
    delta_chain.apply(chain, tmp_path / "out", tmp_path / "state0")
    assert contents(tmp_path / "out") == contents(tmp_path / "state3")


def test_a_gap_and_another_base_are_refused(chain: list[Path], tmp_path: Path) -> None:
    deltas = [delta.load(folder) for folder in chain]
    described = [json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("state0", "state1")]
    base, first = (manifest["files"] for manifest in described)
    assert delta_chain.leads_on(deltas, base)
    assert not delta_chain.leads_on([deltas[0], deltas[2]], base)
    assert not delta_chain.leads_on(deltas, first)
    assert not delta_chain.leads_on([], base)
    with pytest.raises(delta.WrongBase, match="another base, or it was damaged"):
        delta_chain.apply(chain, tmp_path / "out", tmp_path / "state1")
    with pytest.raises(PlexDatabaseError):
        delta_chain.apply([chain[0], chain[2]], tmp_path / "out", tmp_path / "state0")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_part_is_named_and_nothing_half_made_stays(chain: list[Path], tmp_path: Path) -> None:
    part = chain[1] / delta.load(chain[1]).parts[0].name
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(PlexDatabaseError, match=rf"0000-.*missing, incomplete or damaged in {chain[1]}"):
        delta_chain.apply(chain, tmp_path / "out", tmp_path / "state0")
    assert list((tmp_path / "out").iterdir()) == []
    delta_chain.apply(chain[:1], tmp_path / "out", tmp_path / "state0")
    assert contents(tmp_path / "out") == contents(tmp_path / "state1")
