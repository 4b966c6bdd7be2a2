"""Path mappings: a folder, or a file, that has another name somewhere else. Pure, no database.

A mapping `{from, to}` means a path or everything below it, at path boundaries: `/Media/TV` is not `/Media/TV2`. All
mappings of a list apply at once to the path as it was, the one with the longest `from` wins, so that chains and swaps
are what they say. Names are compared in the composed Unicode form (NFC); what follows the prefix is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from ...text import canonical
from ..errors import PlexDatabaseError

FILE_URL = "file://"


@dataclass(frozen=True)
class PathMapping:
    """One mapping. Both paths are absolute, without a slash at the end."""

    source: str
    target: str

    @property
    def keeps(self) -> bool:
        """Return whether the mapping confirms that the path stays as it is."""
        return canonical(self.source) == canonical(self.target)

    def as_dict(self) -> dict[str, str]:
        """As it stands in the settings."""
        return {"from": self.source, "to": self.target}


class Mappings:
    """A list of mappings that apply at once."""

    def __init__(self, entries: Iterable[PathMapping] = ()) -> None:
        self.entries = tuple(entries)
        self._by_source = {canonical(entry.source): entry for entry in self.entries}
        # Only as many prefixes of a path are looked up as there are depths of `from`: one or two, in practice.
        self._depths = sorted({entry.source.count("/") for entry in self.entries}, reverse=True)

    def __bool__(self) -> bool:
        return bool(self.entries)

    @classmethod
    def parse(cls, entries: Sequence[Mapping[str, str]]) -> Mappings:
        """From the settings.

        :raises PlexDatabaseError: a path that is not absolute, is `/`, or holds `.`, `..`, an empty part or a control
            character; two mappings for one path. Every problem is named.
        """
        found: list[PathMapping] = []
        problems: list[str] = []
        seen: dict[str, str] = {}
        for number, entry in enumerate(entries, 1):
            texts = {key: str(entry.get(key) or "") for key in ("from", "to")}
            wrong = [f"mapping {number}: {key} {_why_not(text)}" for key, text in texts.items() if _why_not(text)]
            problems.extend(wrong)
            if wrong:
                continue
            mapping = PathMapping(texts["from"].rstrip("/"), texts["to"].rstrip("/"))
            key = canonical(mapping.source)
            if key in seen and seen[key] != canonical(mapping.target):
                problems.append(f"mapping {number}: {mapping.source!r} is mapped twice, to {seen[key]!r} and here")
            if key not in seen:
                seen[key] = canonical(mapping.target)
                found.append(mapping)
        if problems:
            raise PlexDatabaseError(
                "Path mappings are pairs of absolute paths, {from: /Media/Old, to: /Media/New}; found "
                f"{'; '.join(problems)}."
            )
        return cls(found)

    def match(self, path: str) -> tuple[PathMapping, str] | None:
        """The mapping that applies to a path, and what follows its prefix (`""` or `/…`); None when none does."""
        for depth in self._depths:
            end = _end_of(path, depth)
            if end is None:
                continue
            entry = self._by_source.get(canonical(path[:end]))
            if entry is not None:
                return entry, path[end:]
        return None

    def apply(self, path: str) -> str:
        """The path after the mappings; the same object when none applies."""
        matched = self.match(path)
        return path if matched is None or matched[0].keeps else matched[0].target + matched[1]

    def apply_url(self, url: str) -> str:
        """A `file:///…` URL after the mappings; anything else, and a URL none applies to, comes back as it was.

        Only the prefix is encoded anew, with those letters readable that the URL itself leaves readable.
        """
        if not url.startswith(FILE_URL + "/"):
            return url
        encoded = url[len(FILE_URL) :]
        path = unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        matched = self.match(path)
        if matched is None or matched[0].keeps:
            return url
        # No name holds a slash, so the parts of the URL and of the path are the same in number.
        end = _end_of(encoded, matched[0].source.count("/"))
        if end is None:
            return url
        readable = "/" + "".join(_literal(encoded))
        return FILE_URL + quote(matched[0].target, safe=readable, errors="surrogateescape") + encoded[end:]

    def inverse(self) -> Mappings:
        """The way back.

        :raises PlexDatabaseError: two mappings lead to one place, so that there is none.
        """
        back: dict[str, PathMapping] = {}
        for entry in self.entries:
            key = canonical(entry.target)
            if key in back:
                raise PlexDatabaseError(
                    f"{back[key].target!r} and {entry.source!r} are both mapped to {entry.target!r}, so they cannot "
                    "be reverted. Map each to its own folder."
                )
            back[key] = PathMapping(entry.target, entry.source)
        return Mappings(back.values())

    def moves_again(self, path: str) -> bool:
        """Would the next run move a path that these mappings have put there? What stays in the settings must not."""
        return canonical(self.apply(path)) != canonical(path)

    def as_list(self) -> list[dict[str, str]]:
        """As it stands in the settings."""
        return [entry.as_dict() for entry in self.entries]


def is_below(path: str, folder: str) -> bool:
    """Is the path the folder, or below it?"""
    path, folder = canonical(path), canonical(folder).rstrip("/")
    return path == folder or path.startswith(folder + "/")


def to_yaml(mappings: Iterable[Mapping[str, str]], variable: str = "plexburst_path_mappings") -> str:
    """Return the mappings as YAML for the inventory. Strings are written in YAML's double-quoted style,
    which JSON's is a part of, so that no name can mean something else."""
    lines = [f"{variable}:"]
    for entry in mappings:
        lines.append(f"  - from: {_quoted(entry['from'])}")
        lines.append(f"    to: {_quoted(entry['to'])}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """Plain where YAML reads it back as it is, else in double quotes."""
    if re.fullmatch(r"/[\w./()+&-]+( [\w./()+&-]+)*", text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _literal(encoded: str) -> set[str]:
    """The letters that a URL leaves readable: which ones Plex leaves is not documented, so each URL says for itself."""
    return {letter for letter in encoded if letter != "%" and letter.isascii()}


def _end_of(path: str, depth: int) -> int | None:
    """Where the first `depth` parts of an absolute path end; None when it has fewer."""
    end = 0
    for _ in range(depth):
        end = path.find("/", end + 1)
        if end < 0:
            return len(path) if path.count("/") == depth and not path.endswith("/") else None
    return end


def _why_not(text: str) -> str:
    if not text.startswith("/"):
        return f"is {text!r}, not an absolute path"
    if not text.rstrip("/"):
        return "is '/', and everything cannot be mapped"
    if any(part in ("", ".", "..") for part in text.rstrip("/").split("/")[1:]):
        return f"is {text!r}, with an empty part, '.' or '..'"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        return f"is {text!r}, with a control character"
    return ""
