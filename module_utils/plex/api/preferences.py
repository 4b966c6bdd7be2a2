"""Server preferences: the quiet set, and a setter that reads back every value.

Measured (docs/plex-facts.md#http-api): PUT /:/prefs answers 200 for a key that does not exist, so a key is looked up
first and its value
read afterwards. With a wrong key the prior scripts left autoEmptyTrash on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PlexAnswerError, PreferenceError, TokenMissing
from .client import parse_xml

if TYPE_CHECKING:
    from .client import PlexClient

Value = bool | int | float | str

GUARDS: dict[str, Value] = {"autoEmptyTrash": False, "allowMediaDeletion": False}
"""Invariant 3: must exist, and must read back as false before any scan."""

QUIET: dict[str, Value] = {
    # nothing starts by itself
    "FSEventLibraryUpdatesEnabled": False,
    "FSEventLibraryPartialScanEnabled": False,
    "ScheduledLibraryUpdatesEnabled": False,
    "watchMusicSections": False,
    # invariant 8: the indexer must not affect the owner's devices or account
    "PublishServerOnPlexOnlineKey": False,
    "RelayEnabled": False,
    "GdmEnabled": False,
    "DlnaEnabled": False,
    "WebHooksEnabled": False,
    "PushNotificationsEnabled": False,
    "sendCrashReports": False,
    "CrashUploadRetries": 0,
    # unwanted analysis that reads whole files; Sonic's own switch is not changed before Sonic analysis
    "GenerateBIFBehavior": "never",
    "GenerateIntroMarkerBehavior": "never",
    "GenerateCreditsMarkerBehavior": "never",
    "GenerateAdMarkerBehavior": "never",
    "GenerateVADBehavior": "never",
    "GenerateChapterThumbBehavior": "never",
    "LoudnessAnalysisBehavior": "never",
    "GenerateIndexFilesDuringAnalysis": False,
}
"""Set where the server has the key: which of them exist depends on version and Plex Pass
(docs/plex-facts.md#preferences)."""

SONIC_KEY = "MusicAnalysisBehavior"
"""Exists only with Plex Pass (docs/plex-facts.md#preferences)."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One preference as listed by the server."""

    id: str
    type: str
    value: Value
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """The outcome of `apply`: values by key before and after, the keys that differ, and optional keys not found."""

    before: dict[str, Value]
    after: dict[str, Value]
    changed: tuple[str, ...]
    missing: tuple[str, ...]


def convert(kind: str, value: Any) -> Value:
    """Return a value as a preference type (bool, int, double, text). Raises PreferenceError if it is invalid."""
    if kind == "bool":
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text in ("1", "true", "yes", "on"):
            return True
        if text in ("0", "false", "no", "off", ""):
            return False
        raise PreferenceError(f"Expected a boolean, got {value!r}.")
    if kind in ("int", "double"):
        try:
            return int(value) if kind == "int" else float(value)
        except (TypeError, ValueError) as error:
            raise PreferenceError(f"Expected a number, got {value!r}.") from error
    return str(value)


def wire(value: Value) -> str:
    """Return a value for PUT /:/prefs: booleans as 1 and 0, as in Preferences.xml."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def read_all(client: PlexClient) -> dict[str, Preference]:
    """GET /:/prefs by exact key."""
    root = client.call("GET", "/:/prefs").xml()
    found = {}
    for element in root.iter("Setting"):
        kind = element.get("type", "text")
        raw = element.get("value", "")
        try:
            value = convert(kind, raw)
        except PreferenceError:
            value = raw  # an int preference may be empty; it is compared as text then
        key = element.get("id", "")
        found[key] = Preference(id=key, type=kind, value=value, hidden=element.get("hidden", "0") == "1")
    if not found:
        raise PlexAnswerError("GET /:/prefs listed no preferences, so this is not a working Plex server.")
    return found


def butler_switches(known: Mapping[str, Preference]) -> dict[str, Value]:
    """Return every boolean whose key begins with `butler`, off; independent of a version's names."""
    return {
        key: False
        for key, preference in known.items()
        if preference.type == "bool" and key.lower().startswith("butler")
    }


def butler_hours(now_hour: int) -> dict[str, Value]:
    """Return a one-hour maintenance window half a day after `now_hour` (0-23, the server's local hour)."""
    return {"ButlerStartHour": (now_hour + 12) % 24, "ButlerEndHour": (now_hour + 13) % 24}


def apply(
    client: PlexClient,
    settings: Mapping[str, Any],
    *,
    optional: Iterable[str] = (),
    check: bool = False,
) -> Change:
    """Set preferences and verify them.

    Raises PreferenceError when a key that is not in `optional` is unknown (with the nearest names), when a value does
    not
    fit the type, or when a value read back differs. With `check`, nothing is set and `after` is what would be.
    """
    known = read_all(client)
    allowed_missing = set(optional)
    missing = tuple(sorted(key for key in settings if key not in known))
    unknown = [key for key in missing if key not in allowed_missing]
    if unknown:
        hints = []
        for key in unknown:
            near = difflib.get_close_matches(key, known, n=1)
            hints.append(f"{key}" + (f" (did you mean {near[0]}?)" if near else ""))
        raise PreferenceError(
            f"This server does not know the preference{'s' if len(hints) > 1 else ''} {', '.join(hints)}. "
            "It would answer 200 anyway, so nothing was set. Correct the name, or list it under `optional`.",
            unknown=unknown,
        )
    wanted: dict[str, Value] = {}
    for key, value in settings.items():
        if key in known:
            try:
                wanted[key] = convert(known[key].type, value)
            except PreferenceError as error:
                raise PreferenceError(f"Preference {key} is of type {known[key].type}. {error.message}") from error
    before = {key: known[key].value for key in wanted}
    changed = tuple(sorted(key for key, value in wanted.items() if before[key] != value))
    if not changed or check:
        return Change(before=before, after={**before, **wanted}, changed=changed, missing=missing)
    client.call("PUT", "/:/prefs", params={key: wire(wanted[key]) for key in changed})
    again = read_all(client)
    after = {key: again[key].value if key in again else before[key] for key in wanted}
    refused = [key for key in changed if after[key] != wanted[key]]
    if refused:
        words = ", ".join(f"{key}: wanted {wanted[key]!r}, still {after[key]!r}" for key in refused)
        raise PreferenceError(
            f"Plex answered 200 but did not change {words}. Tasks that need this preference must not start.",
            refused=refused,
            before=before,
        )
    return Change(before=before, after=after, changed=changed, missing=missing)


def check_guards(client: PlexClient) -> list[str]:
    """Return a sentence for each preference of invariant 3 that does not read back as false; empty = safe to scan."""
    known = read_all(client)
    problems = []
    for key, wanted in GUARDS.items():
        if key not in known:
            problems.append(f"the server lists no preference {key}, so it cannot be verified that it is off")
        elif known[key].value != wanted:
            problems.append(f"{key} is {known[key].value!r} but must be {wanted!r}")
    return problems


def read_token(preferences_file: str) -> str:
    """PlexOnlineToken of a Preferences.xml, '' while the file or the attribute is not there (it appears after the
    claim).

    Raises TokenMissing when the file may not be read.
    """
    return read_attribute(preferences_file, "PlexOnlineToken")


def read_attribute(preferences_file: str, name: str) -> str:
    """Return an attribute of the root element of Preferences.xml, '' without the file or the attribute."""
    path = Path(preferences_file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        raise TokenMissing(
            f"{path} is not readable by this user (mode 0600, owned by Plex). Run the task as root or as Plex's user."
        ) from error
    try:
        value: str = parse_xml(text).get(name, "")
    except PlexAnswerError:
        return ""  # Plex rewrites the file in place, so a read may see part of it; the next try sees all
    return value


_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")


def version_tuple(version: str) -> tuple[int, int, int]:
    """1.41.6.9685-d301f511a -> (1, 41, 6). Raises PlexAnswerError on anything else."""
    match = _VERSION.match(version)
    if match is None:
        raise PlexAnswerError(f"Expected a Plex version such as 1.41.6.9685-…, got {version!r}.")
    return int(match[1]), int(match[2]), int(match[3])
