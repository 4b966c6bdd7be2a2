"""``Preferences.xml`` and the server's settings: which exist, their types and defaults (docs/plex-facts.md#preferences,
#files)."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

_WHEN = "never:never|scheduled:as a scheduled task|asap:as a scheduled task and when media is added"
TRUE_WORDS = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: ``kind`` is bool, int or text; ``default`` as it stands in XML; ``plex_pass``.

    Only there with Plex Pass.
    """

    id: str
    kind: str
    default: str
    hidden: bool = False
    group: str = "general"
    values: str = ""
    plex_pass: bool = False

    def normal(self, text: str) -> str:
        """A value as it is kept: booleans as 1/0. Raises ValueError for a number that is none."""
        if self.kind == "bool":
            return "1" if text.strip().lower() in TRUE_WORDS else "0"
        return str(int(text)) if self.kind == "int" else text

    def python(self, text: str) -> bool | int | str:
        """A kept value as JSON gives it."""
        if self.kind == "bool":
            return text == "1"
        return int(text) if self.kind == "int" else text


def _bool(name: str, default: bool, group: str = "general", *, hidden: bool = False) -> Setting:
    return Setting(name, "bool", "1" if default else "0", hidden, group)


def _when(name: str, default: str, *, plex_pass: bool = False) -> Setting:
    return Setting(name, "text", default, group="library", values=_WHEN, plex_pass=plex_pass)


_BUTLER_ON = (
    "BackupDatabase",
    "OptimizeDatabase",
    "CleanOldBundles",
    "CleanOldCacheFiles",
    "RefreshLocalMedia",
    "UpgradeMediaAnalysis",
    "RefreshPeriodicMetadata",
    "DeepMediaAnalysis",
    "ReverseGeocode",
    "GenerateAutoTags",
)

SETTINGS: Mapping[str, Setting] = {
    setting.id: setting
    for setting in (
        Setting("FriendlyName", "text", ""),
        _bool("sendCrashReports", True),
        Setting("CrashUploadRetries", "int", "6", hidden=True),
        _bool("PushNotificationsEnabled", False),
        Setting("MachineIdentifier", "text", "", hidden=True),
        _bool("AcceptedEULA", False, hidden=True),
        _bool("PublishServerOnPlexOnlineKey", False, hidden=True),
        _bool("autoEmptyTrash", True, "library"),
        _bool("allowMediaDeletion", True, "library"),
        _bool("FSEventLibraryUpdatesEnabled", False, "library"),
        _bool("FSEventLibraryPartialScanEnabled", False, "library"),
        _bool("watchMusicSections", False, "library"),
        _bool("ScheduledLibraryUpdatesEnabled", False, "library"),
        Setting("ScheduledLibraryUpdateInterval", "int", "3600", group="library"),
        _bool("ScannerLowPriority", False, "library"),
        Setting("DatabaseCacheSize", "int", "40", group="library"),
        _when("GenerateBIFBehavior", "never"),
        _when("GenerateChapterThumbBehavior", "scheduled"),
        _when("LoudnessAnalysisBehavior", "scheduled"),
        _when("MusicAnalysisBehavior", "scheduled", plex_pass=True),
        _when("GenerateIntroMarkerBehavior", "asap", plex_pass=True),
        _when("GenerateCreditsMarkerBehavior", "asap", plex_pass=True),
        _when("GenerateAdMarkerBehavior", "never", plex_pass=True),
        _when("GenerateVADBehavior", "never", plex_pass=True),
        _bool("BackgroundQueueIdlePaused", False, "transcoder", hidden=True),
        Setting("TranscoderTempDirectory", "text", "", group="transcoder"),
        Setting("ButlerStartHour", "int", "2", group="butler"),
        Setting("ButlerEndHour", "int", "5", group="butler"),
        *(_bool(f"ButlerTask{name}", True, "butler") for name in _BUTLER_ON),
        _bool("ButlerTaskGarbageCollectBlobs", True, "butler", hidden=True),
        _bool("ButlerTaskRefreshEpgGuides", True, "butler", hidden=True),
        _bool("ButlerTaskRefreshLibraries", False, "butler"),
        _bool("ButlerTaskGenerateMediaIndexFiles", False, "butler"),
        _bool("GenerateIndexFilesDuringAnalysis", False, "butler"),
        Setting("ButlerDatabaseBackupPath", "text", "", group="butler"),
        Setting("LongRunningJobThreads", "int", "0", hidden=True),
        Setting("LoudnessAnalysisThreads", "int", "0", hidden=True),
        _bool("GdmEnabled", True, "network"),
        _bool("DlnaEnabled", False, "dlna"),
        _bool("RelayEnabled", True, "network"),
        _bool("WebHooksEnabled", True, "network"),
        Setting("customConnections", "text", "", group="network"),
        Setting("allowedNetworks", "text", "", group="network"),
        Setting("LanNetworksBandwidth", "text", "", group="network"),
    )
}


class Preferences:
    """The attributes of ``Preferences.xml``: identity, token and the settings that are not at their default.

    The file is private (0600) and replaced as a whole. A missing file is made with a new identity, as the first start
    does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._values: dict[str, str] = {}
        if path.exists():
            self._values = dict(ET.parse(path).getroot().attrib)  # noqa: S314 - the simulator's own file
        if not self._values.get("ProcessedMachineIdentifier"):
            serial = self._values.get("MachineIdentifier") or str(uuid.uuid4())
            digest = hashlib.sha1(f"{serial}- Plex Media Server".encode(), usedforsecurity=False).hexdigest()
            self.update(
                {
                    "MachineIdentifier": serial,
                    "ProcessedMachineIdentifier": digest,
                    "AnonymousMachineIdentifier": str(uuid.uuid4()),
                }
            )

    def get(self, name: str, default: str = "") -> str:
        """An attribute as it stands in the file."""
        with self._lock:
            return self._values.get(name, default)

    def update(self, values: Mapping[str, str | None]) -> None:
        """Set attributes (None removes one) and write the file."""
        with self._lock:
            for name, value in values.items():
                if value is None:
                    self._values.pop(name, None)
                else:
                    self._values[name] = value
            self._write()

    def setting(self, name: str) -> str:
        """The value of a setting: what is set, else its default. Raises KeyError for a setting that does not exist."""
        with self._lock:
            return self._values.get(name, SETTINGS[name].default)

    def on(self, name: str) -> bool:
        """Whether a boolean setting is on."""
        return self.setting(name) == "1"

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(
            ET.Element("Preferences", self._values), "unicode"
        )
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(self.path)
