"""What was moved or renamed on the remote: mappings proposed from evidence, never from a guess.

A file that the library names and the remote lacks was moved when exactly one file, that the library does not know, has
its name and its size in bytes, and no other missing file has the same. Such pairs vote for folders: the highest folder
that is gone as a whole, and whose files are found below one other folder, is one mapping; what went elsewhere gets a
longer one. A file with a new name in its old (or moved) folder is recognised by its size and type alone, if both are
the only ones. The remote's listing holds no durations: those of the library say when Plex knows the file at its new
place already, which no mapping may then name a second time.

Never proposed: what home's Plex still sees at its old place, what has two explanations, what would put two files on one
path, what would leave its section, and what a second run would move again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...text import canonical
from .mapping import Mappings, PathMapping, is_below
from .remote_listing import Listing

CERTAIN, PROBABLE = "certain", "probable"
# A size alone is evidence only for files so large that two of one size are no accident.
SIZE_ALONE_BYTES = 100_000
# Of the files of a folder that moved, this share may be gone altogether.
ABSENT_SHARE = 0.1
EXAMPLES = 3

AMBIGUOUS, LEFT, KNOWN, CHAIN, AT_HOME = "ambiguous", "left_section", "known", "chain", "at_home"
WHY: Mapping[str, str] = {
    AMBIGUOUS: "several files of the remote, or of the library, could be the one",
    LEFT: "found, but outside every folder of their section: add that folder to the section in Plex, or move them back",
    KNOWN: "Plex knows them at their new place already (same name, size and duration): scan that section at home",
    CHAIN: "found, but their new place is where other files were: accept one step at a time",
    AT_HOME: "home's Plex still has them at their old path, so they are copies, or home's mount shows an old listing; "
    "refresh that mount and make the plan again",
}


class NamedFile(NamedTuple):
    """A file that the library names; size in bytes and duration in milliseconds as Plex took them down, or None."""

    path: str
    section: int
    size: int | None = None
    duration: int | None = None
    trashed: bool = False


@dataclass(frozen=True)
class Proposal:
    """One mapping and why.

    :param files: files of the library found at the new place with the same size.
    :param by_name: those of them that are the only ones of their name and size, on both sides.
    :param by_size: those whose name changed as well.
    :param absent: files of the folder that are at neither place.
    """

    mapping: PathMapping
    files: int
    by_name: int
    by_size: int
    absent: int
    size: int
    sections: tuple[int, ...]

    @property
    def sure(self) -> str:
        """`certain`: at least two files vote, nothing is missing; `probable`: one file, or some are gone."""
        return CERTAIN if self.by_name >= 2 and self.absent == 0 else PROBABLE

    def as_dict(self) -> dict[str, Any]:
        """For a result."""
        return {
            **self.mapping.as_dict(),
            "files": self.files,
            "by_name": self.by_name,
            "by_size": self.by_size,
            "absent": self.absent,
            "bytes": self.size,
            "sections": list(self.sections),
            "sure": self.sure,
        }


@dataclass
class Moves:
    """Proposals, and what has moved without one."""

    proposals: list[Proposal] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    undecided: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def reasons(self) -> list[dict[str, Any]]:
        """Why the rest got no proposal."""
        return [
            {"why": why, "files": len(paths), "words": WHY[why], "examples": sorted(paths)[:EXAMPLES]}
            for why, paths in sorted(self.undecided.items())
        ]


def propose(
    files: Sequence[NamedFile],
    listing: Listing,
    locations: Mapping[int, Sequence[str]],
    accepted: Mappings | None = None,
    at_home: Collection[str] = (),
) -> Moves:
    """Find what moved.

    :param files: every file of the library, as home names it.
    :param locations: the folders of each section, likewise.
    :param accepted: mappings of the settings; what they bring to its place needs no proposal, and one from a path to
        itself says that nothing is to be proposed there. Proposals are meant to be added to them.
    :param at_home: files that home's Plex sees where the library names them, or may see: they have not moved.
    """
    return _Search(files, listing, locations, accepted or Mappings(), at_home).run()


@dataclass
class _Mover:
    """A missing file of the library; several items may share it."""

    path: str
    size: int
    sections: set[int]
    duration: int | None
    gone: bool  # false: another file has its path now
    pair: str = ""
    by_name: bool = False


class _Search:
    def __init__(
        self,
        files: Sequence[NamedFile],
        listing: Listing,
        locations: Mapping[int, Sequence[str]],
        accepted: Mappings,
        at_home: Collection[str],
    ) -> None:
        self.listing = listing
        self.at_home = {canonical(path) for path in at_home}
        self.stayed: dict[str, int] = {}  # of these, the files missing on the remote, with their size
        self.locations = {section: [canonical(path) for path in paths] for section, paths in locations.items()}
        self.accepted = accepted
        self.accepted_sources = {canonical(entry.source) for entry in accepted.entries}
        self.result = Moves()
        self.live: set[str] = set()
        self.claimed: set[str] = set()  # paths of the remote that a file of the library has, mappings applied
        self.movers: dict[str, _Mover] = {}
        self.files = files
        self.taken: dict[str, str] = {}

    def run(self) -> Moves:
        """Sort, pair, climb down, check."""
        self._sort()
        self._explain_stayed()
        if not self.movers:
            return self.result
        self._pair()
        if any(mover.pair for mover in self.movers.values()):
            # A file whose path is taken by another one, and that is nowhere else, was replaced, not moved.
            stay = {path for path, mover in self.movers.items() if not mover.gone and not mover.by_name}
            self.movers = {path: mover for path, mover in self.movers.items() if path not in stay}
            self.live |= stay
            self.claimed |= stay
            self.alive = _ancestors(self.live)
            self.listed = _ancestors(self.listing.sizes)
            self._folder("", list(self.movers.values()), self.alive)
            self._renamed_files()
            self._check()
        self._explain()
        self.result.proposals.sort(key=lambda proposal: (-proposal.files, proposal.mapping.source))
        return self.result

    # -- what is missing

    def _sort(self) -> None:
        sizes = self.listing.sizes
        for file in self.files:
            path = canonical(file.path)
            place = canonical(self.accepted.apply(file.path)) if self.accepted else path
            there = sizes.get(place)
            if file.trashed:
                self.claimed.add(place)
            elif there is not None and (file.size is None or there < 0 or there == file.size):
                self.claimed.add(place)
                self.live.add(path)
            elif there is None and path in self.at_home:
                self.claimed.add(place)
                self.live.add(path)
                if file.size is not None:
                    self.stayed[path] = file.size
            elif file.size is None or not self.listing.covers(place) or self._declined(path) or place != path:
                self.claimed.add(place)
                if there is not None:
                    self.live.add(path)
            elif path in self.movers:
                self.movers[path].sections.add(file.section)
            else:
                self.movers[path] = _Mover(path, file.size, {file.section}, file.duration, there is None)
        for path in self.live & self.movers.keys():  # two items of one file disagree about its size: it is there
            del self.movers[path]

    def _explain_stayed(self) -> None:
        """Leave files that home still has at their old path although the remote has them under another path."""
        if not self.stayed:
            return
        wanted = {(_name(path), size): path for path, size in self.stayed.items()}
        for place, size in self.listing.sizes.items():
            path = wanted.get((_name(place), size))
            if path is not None and place not in self.claimed:
                self._leave(AT_HOME, [path])

    def _declined(self, path: str) -> bool:
        matched = self.accepted.match(path)
        return matched is not None and matched[0].keeps

    def _pair(self) -> None:
        wanted = {mover.size for mover in self.movers.values()}
        free: dict[int, list[str]] = defaultdict(list)
        for path, size in self.listing.sizes.items():
            if size in wanted and path not in self.claimed:
                free[size].append(path)
        by_name: dict[tuple[str, int], list[str]] = defaultdict(list)
        by_type: dict[tuple[str, int], list[str]] = defaultdict(list)
        for size, paths in free.items():
            for path in paths:
                by_name[_name(path), size].append(path)
                by_type[_type(path), size].append(path)
        rivals = Counter((_name(mover.path), mover.size) for mover in self.movers.values())
        kin = Counter((_type(mover.path), mover.size) for mover in self.movers.values())
        self.candidates: dict[str, list[str]] = {}
        for mover in self.movers.values():
            name, kind = (_name(mover.path), mover.size), (_type(mover.path), mover.size)
            same = [path for path in by_name[name] if path != mover.path]
            self.candidates[mover.path] = same
            if len(same) == 1 and rivals[name] == 1:
                mover.pair, mover.by_name = same[0], True
            elif not same and len(by_type[kind]) == 1 and kin[kind] == 1 and mover.size >= SIZE_ALONE_BYTES:
                mover.pair = by_type[kind][0]

    # -- folders, from the top down

    def _folder(self, folder: str, movers: list[_Mover], alive: set[str]) -> None:
        """Propose for `folder` as a whole, or for what is below it."""
        left = movers
        if folder and folder not in alive:
            agreed = self._accept(folder, movers)
            if agreed:
                left = [mover for mover in movers if mover.path not in agreed and mover.pair]
                alive = alive | _ancestors(agreed)
        below: dict[str, list[_Mover]] = defaultdict(list)
        for mover in left:
            end = mover.path.find("/", len(folder) + 1)
            if end < 0:
                self._file(mover)
            else:
                below[mover.path[:end]].append(mover)
        for child in sorted(below):
            self._folder(child, below[child], alive)

    def _accept(self, folder: str, movers: list[_Mover]) -> set[str]:
        """The files that a mapping of this folder brings to where they are; empty: it is not proposed."""
        votes: Counter[str] = Counter()
        for mover in movers:
            rest = mover.path[len(folder) :]
            if mover.by_name and mover.pair.endswith(rest) and len(mover.pair) > len(rest):
                votes[mover.pair[: -len(rest)]] += 1
        ranked = votes.most_common(2)
        if not ranked or (len(ranked) > 1 and ranked[0][1] == ranked[1][1]):
            return set()
        target, by_name = ranked[0]
        if is_below(target, folder) or folder in self.accepted_sources:
            return set()  # the next run would move it again, or a person has said otherwise
        agreed: dict[str, _Mover] = {}
        absent = elsewhere = 0
        for mover in movers:
            there = target + mover.path[len(folder) :]
            if self.listing.sizes.get(there) == mover.size and self._is_free(there, mover):
                agreed[there] = mover
            elif mover.pair:
                elsewhere += 1
            elif there in self.listing.sizes:
                return set()  # another file lies there: this is not the same folder
            else:
                absent += 1
        if absent > ABSENT_SHARE * (len(agreed) + absent) or elsewhere >= len(agreed):
            return set()
        if not self._in_sections(folder, target, agreed):
            return set()
        self._take(PathMapping(folder, self._spelled(target, agreed)), agreed, by_name, 0, absent)
        return {mover.path for mover in agreed.values()}

    def _is_free(self, path: str, mover: _Mover) -> bool:
        return path not in self.claimed and self.taken.get(path, mover.path) == mover.path

    def _in_sections(self, folder: str, target: str, agreed: Mapping[str, _Mover]) -> bool:
        """Would every file still lie in a folder of its section? A folder of a section moves only when it is gone."""
        inside = [
            (section, path) for section, paths in self.locations.items() for path in paths if is_below(path, folder)
        ]
        if inside and folder in self.listed:
            return False
        for there, mover in agreed.items():
            for section in mover.sections:
                homes = [
                    target + path[len(folder) :] if is_below(path, folder) else canonical(self.accepted.apply(path))
                    for path in self.locations.get(section, ())
                ]
                if not any(is_below(there, path) for path in homes):
                    self._leave(LEFT, [mover.path])
                    return False
        return True

    def _file(self, mover: _Mover) -> None:
        """A single file that kept its name."""
        if mover.by_name and self._is_free(mover.pair, mover):
            agreed = {mover.pair: mover}
            if self._in_sections(mover.path, mover.pair, agreed):
                self._take(PathMapping(mover.path, self._spelled_file(mover.pair)), agreed, 1, 0, 0)

    def _renamed_files(self) -> None:
        """Files that got another name where they are, or where their folder went."""
        so_far = Mappings(proposal.mapping for proposal in self.result.proposals)
        for mover in self.movers.values():
            if not mover.pair or mover.by_name or mover.path in self.result.moved:
                continue
            expected = canonical(so_far.apply(mover.path))
            if _folder_of(mover.pair) == _folder_of(expected) and self._is_free(mover.pair, mover):
                agreed = {mover.pair: mover}
                self._take(PathMapping(mover.path, self._spelled_file(mover.pair)), agreed, 0, 1, 0)

    def _take(
        self, mapping: PathMapping, agreed: Mapping[str, _Mover], by_name: int, by_size: int, absent: int
    ) -> None:
        for there, mover in agreed.items():
            self.taken[there] = mover.path
            self.result.moved[mover.path] = there
        self.result.proposals.append(
            Proposal(
                mapping,
                len(agreed),
                by_name,
                by_size,
                absent,
                sum(mover.size for mover in agreed.values()),
                tuple(sorted({section for mover in agreed.values() for section in mover.sections})),
            )
        )

    # -- names as the remote spells them

    def _spelled_file(self, path: str) -> str:
        return self.listing.spelled.get(path, path)

    def _spelled(self, target: str, agreed: Mapping[str, _Mover]) -> str:
        """A folder in the remote's own Unicode form, where its files agree about it."""
        depth = target.count("/") + 1
        forms = {"/".join(self._spelled_file(there).split("/")[:depth]) for there in agreed}
        return forms.pop() if len(forms) == 1 else target

    # -- what must not be

    def _check(self) -> None:
        """Drop what would move again in the next run, or bring two files to one path."""
        while self.result.proposals:
            mine = {proposal.mapping for proposal in self.result.proposals}
            together = Mappings((*self.accepted.entries, *mine))
            bad = self._chained_or_clashing(together) & mine
            if not bad:
                return
            lost = []
            for path in self.result.moved:
                matched = together.match(path)
                if matched is not None and matched[0] in bad:
                    lost.append(path)
            for path in lost:
                del self.result.moved[path]
            self.result.proposals = [proposal for proposal in self.result.proposals if proposal.mapping not in bad]
            self._leave(CHAIN, lost)

    def _chained_or_clashing(self, together: Mappings) -> set[PathMapping]:
        bad: set[PathMapping] = set()
        places: dict[str, str] = {}
        for path in {canonical(file.path) for file in self.files}:
            first = together.match(path)
            place = path if first is None or first[0].keeps else canonical(first[0].target + first[1])
            second = together.match(place) if place != path else None
            if first is not None and second is not None and not second[0].keeps:
                bad |= {first[0], second[0]}
            other = places.setdefault(place, path)
            if other != path:
                bad |= {match[0] for match in (together.match(other), first) if match is not None}
        return bad

    def _leave(self, why: str, paths: Iterable[str]) -> None:
        self.result.undecided[why].extend(path for path in paths if path not in self.result.undecided[why])

    def _explain(self) -> None:
        """Every missing file that was found somewhere and got no proposal, with the reason."""
        decided = {path for paths in self.result.undecided.values() for path in paths}
        elsewhere = self._known_elsewhere()
        for mover in self.movers.values():
            if mover.path in self.result.moved or mover.path in decided:
                continue
            if mover.path in elsewhere:
                self._leave(KNOWN, [mover.path])
            elif mover.by_name and not self._has_home(mover):
                self._leave(LEFT, [mover.path])
            elif mover.pair or self.candidates.get(mover.path):
                self._leave(AMBIGUOUS, [mover.path])
        for why in [why for why, paths in self.result.undecided.items() if not paths]:
            del self.result.undecided[why]
        for why, paths in self.result.undecided.items():
            self.result.undecided[why] = [path for path in paths if path not in self.result.moved]

    def _has_home(self, mover: _Mover) -> bool:
        return all(
            any(is_below(mover.pair, path) for path in self.locations.get(section, ())) for section in mover.sections
        )

    def _known_elsewhere(self) -> set[str]:
        wanted = {(_name(mover.path), mover.size, mover.duration): mover.path for mover in self.movers.values()}
        return {
            wanted[_name(canonical(file.path)), file.size, file.duration]
            for file in self.files
            if file.size is not None
            and file.duration is not None
            and (_name(canonical(file.path)), file.size, file.duration) in wanted
            and canonical(file.path) in self.live
        }


def _ancestors(paths: Iterable[str]) -> set[str]:
    """Every folder that holds one of the paths, at any depth."""
    found: set[str] = set()
    for path in paths:
        end = path.rfind("/")
        while end > 0 and path[:end] not in found:
            found.add(path[:end])
            end = path.rfind("/", 0, end)
    return found


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _type(path: str) -> str:
    return path.rpartition(".")[2].lower()


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]
