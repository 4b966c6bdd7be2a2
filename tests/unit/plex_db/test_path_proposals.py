"""Moves on the remote: what is proposed is right, what could be wrong is not proposed."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import (
    mapping,
    proposals,
    remote_listing,
)
from ansible_collections.plexburst.core.plugins.module_utils.text import canonical
from hypothesis import given, settings
from hypothesis import strategies as st

TV = {3: ["/Media/TV"]}
BIG = 1_000_000_000


def remote(sizes: Mapping[str, int]) -> remote_listing.Listing:
    return remote_listing.Listing(
        ("/Media",), {canonical(path): size for path, size in sizes.items()}, frozenset(sizes)
    )


def named(sizes: Mapping[str, int], section: int = 3, **more: Any) -> list[proposals.NamedFile]:
    return [proposals.NamedFile(path, section, size, **more) for path, size in sizes.items()]


def found(
    before: Mapping[str, int],
    after: Mapping[str, int],
    locations: Mapping[int, list[str]] | None = None,
    accepted: list[dict[str, str]] | None = None,
) -> proposals.Moves:
    return proposals.propose(named(before), remote(after), locations or TV, mapping.Mappings.parse(accepted or []))


def pairs(result: proposals.Moves) -> dict[str, str]:
    return {proposal.mapping.source: proposal.mapping.target for proposal in result.proposals}


def moved_by(result: proposals.Moves, path: str) -> str:
    return mapping.Mappings(proposal.mapping for proposal in result.proposals).apply(path)


def episodes(folder: str, seasons: int, each: int, dice: random.Random, season: str = "Season {}") -> dict[str, int]:
    """Names alike in every show, sizes of real episodes."""
    return {
        f"{folder}/{season.format(s)}/S{s:02d}E{e:02d}.mkv": dice.randrange(150_000_000, 900_000_000)
        for s in range(1, seasons + 1)
        for e in range(1, each + 1)
    }


def stale_library(seed: int) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
    """The incident: 847 files of a television library, 717 of them stale after three kinds of folder renames
    (Kaamelott 416, Hart to Hart 218, Columbo 69, others 14). Returns before, after, and the truth about each move."""
    dice = random.Random(seed)  # noqa: S311
    before = dict(list(episodes("/Media/TV/Other Show", 10, 13, dice).items()))
    kaamelott = episodes("/Media/TV/Kaamelott", 8, 52, dice, "Livre {}")
    hart = dict(list(episodes("/Media/TV/Hart to Hart", 5, 44, dice).items())[:218])
    columbo = dict(list(episodes("/Media/TV/Columbo", 7, 10, dice).items())[:69])
    others = {f"/Media/TV/Odd {n}/S01E01.mkv": dice.randrange(150_000_000, 900_000_000) for n in range(14)}
    truth: dict[str, str] = {}
    for path in kaamelott:  # the show's folder has another name
        truth[path] = path.replace("/Kaamelott/", "/Kaamelott (2005) [L'intégrale 100%]/")
    for path in hart:  # each season's folder has another name
        truth[path] = path.replace("/Season ", "/Saison 0")
    for path in columbo:  # the show lies below a new folder
        truth[path] = path.replace("/TV/Columbo/", "/TV/Classics_&_co/Columbo/")
    after = before | {truth[path]: size for path, size in (kaamelott | hart | columbo).items()}
    # What else lies there: a new show with the same names, and a copy of an episode of one that stayed.
    after |= episodes("/Media/TV/New Show", 3, 20, dice)
    after["/Media/TV/Copies/S01E01.mkv"] = before["/Media/TV/Other Show/Season 1/S01E01.mkv"]
    return before | kaamelott | hart | columbo | others, after, truth


@pytest.mark.parametrize("seed", range(5))
def test_the_847_files_of_the_incident_are_resolved_and_none_wrongly(seed: int) -> None:
    before, after, truth = stale_library(seed)
    assert len(before) == 847
    assert sum(path not in after for path in before) == 717
    result = found(before, after)
    resolved = {path for path in before if moved_by(result, path) in after and path not in after}
    assert len(resolved) >= 700
    assert {path: moved_by(result, path) for path in resolved} == {path: truth[path] for path in resolved}
    stayed = [path for path in before if path in after]
    assert [moved_by(result, path) for path in stayed] == stayed
    assert len(result.proposals) == 7  # one folder, five seasons, one folder


def test_each_proposal_says_how_many_files_and_how_sure() -> None:
    before, after, _ = stale_library(1)
    first = found(before, after).proposals[0]
    assert first.mapping == mapping.PathMapping("/Media/TV/Kaamelott", "/Media/TV/Kaamelott (2005) [L'intégrale 100%]")
    assert (first.files, first.by_name, first.absent, first.sure) == (416, 416, 0, "certain")
    assert first.as_dict()["sections"] == [3]


def test_the_yaml_is_read_back_as_the_mappings() -> None:
    names = ["L'été: 100%", "a#b", "- x", 'say "hi"', "back\\slash", "yes", "[x]", "{{ x }}", "e\u0301", " blank "]
    wanted = [{"from": f"/Media/{name}", "to": f"/Media/Neu {name}"} for name in names]
    assert yaml.safe_load(mapping.to_yaml(wanted)) == {"plexburst_path_mappings": wanted}


def test_a_renamed_section_folder_is_one_mapping() -> None:
    before = {f"/Media/TVShows/Show {n}/S01E0{e}.mkv": BIG + 100 * n + e for n in range(5) for e in range(4)}
    after = {path.replace("/TVShows/", "/TV/"): size for path, size in before.items()}
    assert pairs(found(before, after, {3: ["/Media/TVShows"]})) == {"/Media/TVShows": "/Media/TV"}


def test_a_section_folder_that_still_holds_media_is_not_mapped_as_a_whole() -> None:
    before = {f"/Media/TVShows/Show {n}/S01E0{e}.mkv": BIG + 100 * n + e for n in range(2) for e in range(4)}
    after = {path.replace("/TVShows/", "/TV/"): size for path, size in before.items()}
    after["/Media/TVShows/Newer/S01E01.mkv"] = BIG + 9999
    result = found(before, after, {3: ["/Media/TVShows", "/Media/TV"]})
    assert pairs(result) == {f"/Media/TVShows/Show {n}": f"/Media/TV/Show {n}" for n in range(2)}


def test_files_that_left_their_section_are_told_and_not_proposed() -> None:
    before = {f"/Media/TV/Show/S01E0{e}.mkv": BIG + e for e in range(4)} | {"/Media/TV/Else/x.mkv": 5}
    after = {path.replace("/TV/Show/", "/Kids/Show/"): size for path, size in before.items()}
    result = found(before, after)
    assert result.proposals == []
    assert [(entry["why"], entry["files"]) for entry in result.reasons()] == [("left_section", 4)]


def test_two_copies_on_the_remote_are_ambiguous() -> None:
    before = {f"/Media/TV/Show/S01E0{e}.mkv": BIG + e for e in range(4)}
    after = {path.replace("/Show/", f"/{new}/"): size for path, size in before.items() for new in ("One", "Two")}
    result = found(before, after)
    assert result.proposals == []
    assert [(entry["why"], entry["files"]) for entry in result.reasons()] == [("ambiguous", 4)]


def test_tracks_of_one_name_and_size_follow_their_folder() -> None:
    """Constant bit rates make equal sizes; the folder's other files decide."""
    before = {
        f"/Media/TV/A{a}/{n:02d}.mp3": 5_000_000 if n < 5 else 5_000_000 + 10 * a + n
        for a in range(3)
        for n in range(9)
    }
    after = {path.replace("/TV/A", "/TV/B"): size for path, size in before.items()}
    result = found(before, after)
    assert pairs(result) == {f"/Media/TV/A{a}": f"/Media/TV/B{a}" for a in range(3)}


def test_a_folder_split_in_two_is_two_mappings() -> None:
    before = {f"/Media/TV/Show/Season {s}/E0{e}.mkv": BIG + 10 * s + e for s in (1, 2) for e in range(4)}
    after = {
        path.replace("/Show/Season 2", "/Show II/Season 2").replace("/Show/Season 1", "/Show I/Season 1"): size
        for path, size in before.items()
    }
    assert pairs(found(before, after)) == {
        "/Media/TV/Show/Season 1": "/Media/TV/Show I/Season 1",
        "/Media/TV/Show/Season 2": "/Media/TV/Show II/Season 2",
    }


def test_a_folder_renamed_with_a_folder_in_it_gets_a_longer_mapping_for_that() -> None:
    before = {f"/Media/TV/Show/Season {s}/S{s}E0{e}.mkv": BIG + 10 * s + e for s in (1, 2, 3) for e in range(4)}
    after = {
        path.replace("/Show/Season 3", "/Show/Specials").replace("/Show/", "/Show (1999)/"): size
        for path, size in before.items()
    }
    result = found(before, after)
    assert pairs(result) == {
        "/Media/TV/Show": "/Media/TV/Show (1999)",
        "/Media/TV/Show/Season 3": "/Media/TV/Show (1999)/Specials",
    }
    assert all(moved_by(result, path) in after for path in before)


def test_a_flat_show_sorted_into_seasons_is_mapped_file_by_file() -> None:
    before = {f"/Media/TV/Show/S{s}E0{e}.mkv": BIG + 10 * s + e for s in (1, 2) for e in range(3)}
    after = {
        path.replace("/Show/S1", "/Show/Season 1/S1").replace("/Show/S2", "/Show/Season 2/S2"): size
        for path, size in before.items()
    }
    result = found(before, after)
    assert all(moved_by(result, path) in after for path in before)


def test_a_file_with_a_new_name_in_its_folder_is_known_by_its_size() -> None:
    before = {"/Media/TV/Show/a.mkv": BIG + 1, "/Media/TV/Show/b.mkv": BIG + 2}
    after = {"/Media/TV/Show/S01E01.mkv": BIG + 1, "/Media/TV/Show/b.mkv": BIG + 2}
    result = found(before, after)
    assert pairs(result) == {"/Media/TV/Show/a.mkv": "/Media/TV/Show/S01E01.mkv"}
    assert result.proposals[0].sure == "probable"


@pytest.mark.parametrize("after", [{"/Media/TV/Elsewhere/x.mkv": BIG}, {"/Media/TV/Show/x.avi": BIG}])
def test_a_size_alone_proves_nothing_in_another_folder_or_type(after: dict[str, int]) -> None:
    assert found({"/Media/TV/Show/a.mkv": BIG}, after).proposals == []


def test_a_file_replaced_by_another_is_no_move() -> None:
    before = {f"/Media/TV/Show/S01E0{e}.mkv": BIG + e for e in range(4)}
    after = {path: size + 50 for path, size in before.items()}
    assert found(before, after).proposals == []


def test_folders_that_changed_places_are_told_and_not_proposed() -> None:
    before = {f"/Media/TV/{show}/S01E0{e}.mkv": BIG + 100 * n + e for n, show in enumerate("AB") for e in range(4)}
    after = {path.translate(str.maketrans("AB", "BA")): size for path, size in before.items()}
    result = found(before, after)
    assert result.proposals == []
    assert sum(entry["files"] for entry in result.reasons()) == 8


def test_what_plex_knows_at_its_new_place_is_told_and_not_proposed() -> None:
    old = [proposals.NamedFile(f"/Media/TV/Old/E{e}.mkv", 3, BIG + e, 60_000 + e) for e in range(3)]
    new = [proposals.NamedFile(f"/Media/TV/New/E{e}.mkv", 3, BIG + e, 60_000 + e) for e in range(3)]
    result = proposals.propose([*old, *new], remote({file.path: file.size or 0 for file in new}), TV)
    assert result.proposals == []
    assert [(entry["why"], entry["files"]) for entry in result.reasons()] == [("known", 3)]


def test_a_path_mapped_to_itself_is_left_alone() -> None:
    before, after, _ = stale_library(2)
    keep = [{"from": "/Media/TV/Kaamelott", "to": "/Media/TV/Kaamelott"}]
    assert "/Media/TV/Kaamelott" not in pairs(found(before, after, accepted=keep))


def test_what_is_accepted_is_not_proposed_again_and_the_rest_still_is() -> None:
    before, after, truth = stale_library(3)
    done = [{"from": "/Media/TV/Kaamelott", "to": "/Media/TV/Kaamelott (2005) [L'intégrale 100%]"}]
    result = found(before, after, accepted=done)
    assert sum(proposal.files for proposal in result.proposals) == 218 + 69
    together = mapping.Mappings.parse(done + [proposal.mapping.as_dict() for proposal in result.proposals])
    assert sum(together.apply(path) == truth[path] for path in truth) == 703


def test_files_outside_every_mount_are_nobodys_guess() -> None:
    before = {f"/Local/TV/Show/S01E0{e}.mkv": BIG + e for e in range(4)}
    after = {path.replace("/Local/", "/Media/"): size for path, size in before.items()}
    assert found(before, after, {3: ["/Local/TV", "/Media/TV"]}).proposals == []


def test_the_new_name_is_spelled_as_the_remote_spells_it() -> None:
    new = unicodedata.normalize("NFD", "/Media/TV/Été")
    before = {f"/Media/TV/Ete/S01E0{e}.mkv": BIG + e for e in range(3)}
    after = {path.replace("/Media/TV/Ete", new): size for path, size in before.items()}
    assert pairs(found(before, after)) == {"/Media/TV/Ete": new}


NAMES = st.sampled_from(["A", "B", "Show", "Show 2", "Show_2", "100%", "l'été", "S1", "S2", "Season 1"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_renamed_no_file_is_brought_to_another_ones_place(data: st.DataObject) -> None:
    """Random trees with few sizes and few names (so that much is ambiguous), random renames, copies and deletions."""
    tree = data.draw(
        st.dictionaries(
            st.tuples(NAMES, NAMES, st.sampled_from(["e1.mkv", "e2.mkv", "e3.mkv"])).map(
                lambda p: "/Media/TV/" + "/".join(p)
            ),
            st.integers(BIG, BIG + 12),
            min_size=1,
            max_size=20,
        )
    )
    renames = data.draw(st.lists(st.tuples(NAMES, NAMES), max_size=3))
    content = {path: (path, size) for path, size in tree.items()}  # who a file really is
    for old, new in renames:
        target = {path.replace(f"/TV/{old}/", f"/TV/{new}/", 1): who for path, who in content.items()}
        if len(target) == len(content):
            content = target
    gone = data.draw(st.sets(st.sampled_from(sorted(content)), max_size=3)) if content else set()
    after = {path: who for path, who in content.items() if path not in gone}
    result = found(tree, {path: who[1] for path, who in after.items()})
    together = mapping.Mappings(proposal.mapping for proposal in result.proposals)
    places = [together.apply(path) for path in tree]
    assert len(set(places)) == len(places)
    for path, place in zip(tree, places, strict=True):
        if place in after and tree[path] != after[place][1]:
            assert place == path, "brought to a file of another size"
        if place in after and place != path and sum(size == tree[path] for size in tree.values()) == 1:
            assert after[place][0] == path, "brought to another file although its size is the only one"
