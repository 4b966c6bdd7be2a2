# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The private rclone configuration of the exchange, made on the controller: the remote that `plexburst_transfer_remote`
names, what that wraps, and a crypt over it that encrypts contents and names with a passphrase of the user's.

Text in, text or sentences out, but for `passphrase` and `obscured`, which read a file and call rclone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .rclone_conf import (
    RcloneConfError,
    Section,
    parse,
    problems,
    render,
    subset,
    target,
    wrapped,
)

CRYPT = "plexburst-exchange-crypt"
"""The name of the crypt, and the root of everything that the exchange holds."""
SHORTEST_PASSPHRASE = 16
OBSCURE_TIMEOUT = 30.0


def passphrase(path: str) -> str:
    """The passphrase in a file that only its owner can read.

    :raises RcloneConfError: missing, readable by others, or too short to keep anybody out.
    """
    file = Path(path).expanduser()
    advice = f"Make one with `(umask 077; openssl rand -base64 30 > {file})`, and keep a copy of it."
    try:
        mode = file.stat().st_mode & 0o077
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise RcloneConfError(f"The file of the exchange's passphrase, {file}, does not exist. {advice}") from None
    except (OSError, ValueError) as error:
        raise RcloneConfError(f"The file of the exchange's passphrase, {file}, cannot be read: {error}.") from None
    if mode:
        raise RcloneConfError(
            f"The file of the exchange's passphrase, {file}, can be read by others. Do `chmod 600 {file}`."
        )
    if len(lines) != 1 or len(lines[0].strip()) < SHORTEST_PASSPHRASE:
        raise RcloneConfError(
            f"Expected one line of at least {SHORTEST_PASSPHRASE} characters in {file}, the exchange's passphrase; "
            f"found {len(lines)} lines{f' of {len(lines[0].strip())} characters' if len(lines) == 1 else ''}. {advice}"
        )
    return lines[0].strip()


def obscured(rclone: str, secret: str) -> str:
    """The secret in the form that rclone.conf wants. It goes to rclone's standard input, never into an argument.

    :raises RcloneConfError: rclone is missing or refuses.
    """
    try:
        done = subprocess.run(
            [rclone, "obscure", "-"], input=secret.encode(), capture_output=True, timeout=OBSCURE_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RcloneConfError(
            f"rclone cannot be started as {rclone} on the controller: {error}. Set plexburst_rclone_bin to one that "
            "works."
        ) from error
    if done.returncode != 0 or not done.stdout.strip():
        # What it was given may be in what it says.
        raise RcloneConfError(
            f"`{rclone} obscure` failed with exit code {done.returncode}; rclone 1.60 or newer is needed."
        )
    return done.stdout.decode().strip()


def exchange_sections(text: str, remote: str) -> dict[str, Section]:
    """The sections of an rclone.conf that the exchange needs.

    :raises RcloneConfError: the remote is unknown, or would not work on another machine.
    """
    sections = subset(parse(text), [remote])
    trouble = problems(sections.values())
    if CRYPT in sections:
        trouble.append(f"[{CRYPT}] is a name that plexburst needs for itself.")
    if trouble:
        raise RcloneConfError("The rclone.conf cannot be used for the exchange: " + " ".join(trouble))
    return sections


def exchange_config(sections: Mapping[str, Section], remote: str, obscured_passphrase: str) -> str:
    """The text of the private rclone.conf; it holds secrets."""
    lines = (
        "type = crypt",
        f"remote = {remote}",
        "filename_encryption = standard",
        "directory_name_encryption = true",
        f"password = {obscured_passphrase}",
    )
    return render([*sections.values(), Section(CRYPT, {}, lines)])


def within(text: str, remote: str, media: Iterable[str]) -> str:
    """The first of the `media` remotes in whose folder `remote` lies; empty when it lies in none.

    Remotes are followed through what they wrap; two names for one S3 endpoint are the same place.
    """
    sections = parse(text)
    ways = _ways(sections, remote, ())
    for other in media:
        for theirs in _ways(sections, other, ()):
            known = dict(theirs)
            for way in ways:
                # The first place that both ways have in common decides: below a crypt, paths cannot be compared.
                path, folder = next(((path, known[place]) for place, path in way if place in known), ("", None))
                if folder is not None and (folder in ("", path) or path.startswith(folder + "/")):
                    return other
    return ""


def _ways(sections: Mapping[str, Section], remote: str, passed: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Each way from a remote down to where its data are, as (place, path) from step to step."""
    goal = target(remote)
    path = "/".join(part for part in goal.path.split("/") if part)
    section = sections.get(goal.name)
    if section is None or goal.name in passed:
        return [[(goal.name or goal.kind, path)]]
    here = (_place(section), path)
    below = [way for inner in wrapped(section) for way in _ways(sections, inner, (*passed, goal.name))]
    if not below:
        return [[here]]
    return [
        [here, *((place, _joined(inner, path) if _plain(section) else inner) for place, inner in way)] for way in below
    ]


def _place(section: Section) -> str:
    if section.type != "s3":
        return section.name
    where = section.options.get("endpoint") or f"{section.options.get('provider')} {section.options.get('region')}"
    return f"s3 {where.lower().rpartition('://')[2].rstrip('/')}"


def _plain(section: Section) -> bool:
    """Whether a path below it is the same path below what it wraps."""
    encrypted = section.type == "crypt" and section.options.get("filename_encryption") != "off"
    return not encrypted and section.type != "combine"


def _joined(folder: str, path: str) -> str:
    return "/".join(part for part in (folder, path) if part)
