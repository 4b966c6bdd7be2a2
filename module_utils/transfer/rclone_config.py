# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""Functions on the text of an rclone.conf: parse it, select remotes, report options that only work on the controller.

Only the remotes of the media, and the remotes that these wrap (crypt over alias over s3, …), may leave the
controller. Pure functions: no file is read and rclone is not called. A module on the indexer uses part of them, so
Python 3.9 is supported.

The file format is that of rclone's own parser (goconfig): ``[name]`` lines, ``key = value`` lines, ``#`` and ``;``
comments. A section's lines are kept unchanged, so that rclone reads exactly the same lines on the other machine;
Python's configparser would lower-case keys and fail on ``%``.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Options that name other remotes, by backend type (rclone.org/docs, pages of these backends).
ONE_REMOTE = "remote"
MANY_REMOTES = "upstreams"
WRAPPERS: Mapping[str, str] = {
    "alias": ONE_REMOTE,
    "archive": ONE_REMOTE,
    "cache": ONE_REMOTE,
    "chunker": ONE_REMOTE,
    "compress": ONE_REMOTE,
    "crypt": ONE_REMOTE,
    "hasher": ONE_REMOTE,
    "combine": MANY_REMOTES,
    "union": MANY_REMOTES,
}

# Options that name a file of the controller, which the other machine does not have.
FILE_OPTIONS = frozenset(
    {
        "service_account_file",
        "shared_credentials_file",
        "key_file",
        "known_hosts_file",
        "pubkey_file",
        "config_file",
        "client_certificate_path",
        "kerberos_ccache",
    }
)

# Options whose value must never be shown. Options whose name contains one of these words are masked as well.
SECRET_WORDS = ("secret", "pass", "token", "key", "credential", "auth", "sas_url", "cookie")
NOT_SECRET = frozenset({"env_auth", "auth_url", "token_url", "key_file", "sse_customer_algorithm", "auth_version"})
MASK = "********"

ENCRYPTED_MARK = "RCLONE_ENCRYPT_V"


class RcloneConfError(ValueError):
    """The rclone configuration cannot be used; the message is a sentence for the user and contains no secret."""


@dataclass(frozen=True)
class Section:
    """One remote of an rclone.conf.

    name: as in ``[name]``; options: key → value, in file order; lines: the unchanged lines after the heading.
    """

    name: str
    options: Mapping[str, str]
    lines: tuple[str, ...]

    @property
    def type(self) -> str:
        """Return the backend, such as ``s3`` or ``crypt``; empty when the section has no type."""
        return self.options.get("type", "")


@dataclass(frozen=True)
class Target:
    """Target of a ``remote:path`` string: a section's name, or an empty name without a section.

    kind: ``named`` (a section), ``local`` (a path of the machine), ``backend`` (``:s3,option=…:path``, no section).
    """

    kind: str
    name: str
    path: str


def parse(text: str) -> dict[str, Section]:
    """Return the sections of an rclone.conf by name, in file order.

    :raises RcloneConfError: encrypted file, line outside a section or not ``key = value``, duplicate name.
    """
    if ENCRYPTED_MARK in text:
        raise RcloneConfError(
            "The rclone.conf is encrypted with a password, so single remotes cannot be read from it. "
            "Write the remote of the media to a separate file (`rclone config show REMOTE > FILE`, mode 0600) "
            "and set plexburst_rclone_config to that file."
        )
    sections: dict[str, Section] = {}
    name = ""
    options: dict[str, str] = {}
    lines: list[str] = []

    def close() -> None:
        if name:
            while lines and not lines[-1].strip():
                lines.pop()
            sections[name] = Section(name, dict(options), tuple(lines))

    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            close()
            name, options, lines = line[1:-1].strip(), {}, []
            if not name:
                raise RcloneConfError(f"Line {number} of the rclone.conf is a heading without a name.")
            if name in sections:
                raise RcloneConfError(f"The rclone.conf defines the remote [{name}] twice (again at line {number}).")
            continue
        if not line or line.startswith(("#", ";")):
            if name:
                lines.append(raw)
            continue
        if not name:
            raise RcloneConfError(
                f"Line {number} of the rclone.conf is before the first [remote] heading. Check the file's format."
            )
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            # The line is not quoted because it may be (part of) a secret.
            raise RcloneConfError(f"Line {number} of the rclone.conf, in [{name}], does not have the form key = value.")
        options[key.strip()] = value.strip()
        lines.append(raw)
    close()
    return sections


def render(sections: Iterable[Section]) -> str:
    """Return sections as text of an rclone.conf, separated by empty lines, with one newline at the end."""
    blocks = ["\n".join((f"[{section.name}]", *section.lines)) for section in sections]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def target(remote: str) -> Target:
    """Return the target of a ``remote:path`` string or connection string (``name,option=value:path``)."""
    if remote.startswith(":"):
        return Target("backend", "", _after_connection(remote[1:]))
    if remote.startswith(("/", "./", "../")) or ":" not in remote:
        return Target("local", "", remote)
    name = remote.split(":", 1)[0].split(",", 1)[0]
    if "/" in name:
        return Target("local", "", remote)
    return Target("named", name, _after_connection(remote))


def _after_connection(remote: str) -> str:
    """Return the path of a connection string: the text after the first colon outside quotes."""
    quote = ""
    for position, char in enumerate(remote):
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == ":":
            return remote[position + 1 :]
    return ""


def wrapped(section: Section) -> list[str]:
    """Return the ``remote:path`` strings that a section wraps; empty for a backend that stores data itself."""
    option = WRAPPERS.get(section.type)
    if option is None:
        return []
    value = section.options.get(option, "")
    if not value and section.type == "union":
        value = section.options.get("remotes", "")  # the option's name before rclone 1.52
        option = MANY_REMOTES
    if not value:
        raise RcloneConfError(f"The remote [{section.name}] ({section.type}) has no `{option}`, so it wraps nothing.")
    if option == ONE_REMOTE:
        return [_unquoted(value)]
    parts = [part for row in csv.reader([value], delimiter=" ", skipinitialspace=True) for part in row if part]
    if section.type == "combine":
        return [part.partition("=")[2] for part in parts]
    return [_without_policy(part) for part in parts]


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in '"`' else value


def _without_policy(upstream: str) -> str:
    """Return a union's upstream without its suffix ``:ro``, ``:nc`` or ``:writeback``."""
    for suffix in (":ro", ":nc", ":writeback"):
        if upstream.endswith(suffix):
            return upstream[: -len(suffix)]
    return upstream


def subset(sections: Mapping[str, Section], remotes: Sequence[str]) -> dict[str, Section]:
    """Return the sections of the given remotes and of all remotes that they wrap, in file order.

    :param remotes: remote names, or ``name:path`` strings as in the media setting.
    :raises RcloneConfError: unknown remote, remote on a local path, remotes that wrap each other in a circle.
    """
    needed: set[str] = set()

    def take(reference: str, chain: tuple[str, ...]) -> None:
        goal = target(reference if ":" in reference or chain else f"{reference}:")
        via = f" (wrapped by [{chain[-1]}])" if chain else ""
        if goal.kind == "local":
            raise RcloneConfError(
                f"`{reference}`{via} is a local path, not a remote, so the indexer cannot read it. "
                "Use a remote of the rclone.conf, as in `media-s3:bucket`."
            )
        if goal.kind == "backend":
            return
        if goal.name in chain:
            raise RcloneConfError(f"The remote [{goal.name}] wraps itself: {' → '.join((*chain, goal.name))}.")
        if goal.name not in sections:
            known = ", ".join(sorted(sections)) or "none"
            raise RcloneConfError(f"The rclone.conf has no remote [{goal.name}]{via}. Its remotes are: {known}.")
        needed.add(goal.name)
        for inner in wrapped(sections[goal.name]):
            take(inner, (*chain, goal.name))

    for remote in remotes:
        take(remote, ())
    return {name: section for name, section in sections.items() if name in needed}


def problems(sections: Iterable[Section]) -> list[str]:
    """Return what would not work with these sections on another machine, as sentences."""
    found: list[str] = []
    for section in sections:
        found += [
            f"[{section.name}] names a local file in `{option}`. Write the value itself to the rclone.conf."
            for option, value in section.options.items()
            if value and option in FILE_OPTIONS
        ]
        if section.options.get("env_auth", "").lower() == "true" and not section.options.get("access_key_id"):
            found.append(
                f"[{section.name}] reads its credentials from the controller's environment (env_auth = true), "
                "which the indexer does not have. Write a read-only key pair to the rclone.conf."
            )
        if not section.type:
            found.append(f"[{section.name}] has no `type`.")
    return found


def secrets(sections: Iterable[Section]) -> list[str]:
    """Return all values that must be masked, longest first so that masking one does not reveal part of another."""
    values = {
        value
        for section in sections
        for option, value in section.options.items()
        if value and option not in NOT_SECRET and any(word in option.lower() for word in SECRET_WORDS)
    }
    # Masking very short values, or `true`, would make messages unreadable and protect nothing.
    return sorted((value for value in values - {"true", "false"} if len(value) > 3), key=len, reverse=True)


def mask(text: str, sections: Iterable[Section]) -> str:
    """Return the text with all secrets of the sections replaced by asterisks."""
    for secret in secrets(sections):
        text = text.replace(secret, MASK)
    return text


@dataclass(frozen=True)
class CopyResult:
    """The result of ``rclone sync --use-json-log`` (with --dry-run, what it would do).

    transfers, deletes, checks: files (rclone counts a deletion as a check, too); deleted_dirs: folders; bytes: bytes;
    errors: messages of rclone and the remote, in order, without duplicates.
    """

    transfers: int
    deletes: int
    deleted_dirs: int
    checks: int
    bytes: int
    errors: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Return whether a file or folder was (or would be) copied or deleted."""
        return bool(self.transfers or self.deletes or self.deleted_dirs)

    @property
    def seen(self) -> int:
        """Return the number of files on the remote."""
        return self.transfers + self.checks - self.deletes


def log_errors(json_log: str) -> tuple[str, ...]:
    """Return the errors in the JSON log of an rclone command, without warnings."""
    return tuple(dict.fromkeys(_read_log(json_log)[1]))


def cause(json_log: str) -> str:
    """Return why an rclone command failed, as one line; empty without a message.

    Its last message is `Failed to …`; rclone 1.60 writes it as plain text, on several lines.
    """
    said = log_errors(json_log)
    last = [number for number, line in enumerate(said) if "Failed to " in line]
    words = " ".join(" ".join(said[last[-1] :] if last else said[-1:]).split()).rstrip(".")
    return words[words.find("Failed to ") :] if last else words


def _read_log(json_log: str) -> tuple[Mapping[str, object] | None, list[str]]:
    """Return the last statistics in a JSON log (None without any) and its errors in order."""
    stats: Mapping[str, object] | None = None
    errors: list[str] = []
    for line in json_log.splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            errors.append(line.strip())
            continue
        if isinstance(entry.get("stats"), dict):
            stats = entry["stats"]
        elif entry.get("level") in {"error", "critical", "fatal"}:
            errors.append(str(entry.get("msg", "")))
        elif str(entry.get("msg", "")).startswith("Failed to "):
            errors.append(str(entry["msg"]))
    return stats, errors


def copy_result(json_log: str) -> CopyResult:
    """Return the result in the JSON log of an rclone sync: its last line with ``stats``, written at the end.

    Lines that are not JSON are kept as errors: rclone writes such lines only when it cannot even start.

    :raises RcloneConfError: the log has neither stats nor errors, so the result is unknown.
    """
    stats, errors = _read_log(json_log)
    if stats is None and not errors:
        raise RcloneConfError("rclone's log has neither statistics nor errors, so the result is unknown.")
    numbers = stats or {}

    def number(key: str) -> int:
        value = numbers.get(key, 0)
        return int(value) if isinstance(value, (int, float)) else 0

    return CopyResult(
        transfers=number("transfers"),
        deletes=number("deletes"),
        deleted_dirs=number("deletedDirs"),
        checks=number("checks"),
        bytes=number("bytes"),
        errors=tuple(dict.fromkeys(errors)),
    )
