# Copyright: plexburst contributors
# SPDX-License-Identifier: MIT
"""The text that a run shows: headers, plain lines, failures, and the status line that changes in place.

Pure functions; console.py connects them to Ansible, the clock and the terminal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.plexburst.core.plugins.module_utils.run.failures import failure_message, plain_task_name
from ansible_collections.plexburst.core.plugins.module_utils.text import span

ERASE = "\r\x1b[2K"
"""Return to the beginning of the line and erase it (ECMA-48 EL)."""
NO_TERMINALS = ("", "dumb")
"""Values of TERM for which control sequences may not be used."""
_INDEXER = re.compile(r"\[plexburst-\d{8}-\d{6}-[0-9a-f]{4}\] ")
"""The name of the run's indexer in front of a line; there is only one, so it is left out."""
_EMPTY_PATTERN = "[WARNING]: Could not match supplied host pattern, ignoring: "
_RUN_GROUPS = ("plexburst_run_", "plexburst_no_run")
_RESULT_WORDS = frozenset({"changed", "failed", "skipped", "invocation", "warnings", "deprecations", "msg", "item"})


def is_noise(text: str) -> bool:
    """Return whether ``text`` is Ansible's warning about a run's empty group, which is normal without an indexer."""
    return text.startswith(tuple(_EMPTY_PATTERN + group for group in _RUN_GROUPS))


def within_phase(text: str) -> str:
    """Return a line as shown under its phase's header: indented, without the name of the run's indexer."""
    found = _INDEXER.match(text)
    return f"  {text[found.end() :]}" if found else text


def columns_of(text: str) -> int:
    """Return the number of terminal columns of ``text`` (wide characters take two, combining ones zero)."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fit(text: str, columns: int) -> str:
    """Return ``text`` as one line of at most ``columns`` columns; an ellipsis marks a cut.

    Characters without a column are removed because they could move the cursor.
    """
    clean = "".join(character for character in text.replace("\n", " ").replace("\t", " ") if _columns(character))
    if columns_of(clean) <= columns:
        return clean
    kept, room = "", columns - 1
    for character in clean:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return (kept.rstrip() + "…") if columns > 0 else ""


@dataclass(slots=True)
class LiveLine:
    """The last line of a terminal, changed in place.

    ``write`` writes text to the terminal unchanged; ``columns`` returns its current width. When another line follows,
    a progress line is kept in full and a status is erased.
    """

    write: Callable[[str], None]
    columns: Callable[[], int]
    _text: str = field(default="", init=False)
    _about: str = field(default="", init=False)

    def progress(self, text: str, about: str) -> None:
        """Show ``text``; a later text with the same ``about`` replaces it, another one starts a new line."""
        if self._about != about:
            self.end()
        self._put(text, about)

    def status(self, text: str) -> None:
        """Show ``text`` until the next output."""
        self.end()
        self._put(text, "")

    def end(self) -> None:
        """Finish the current line so that other lines can follow."""
        if self._about:
            self.write(f"{ERASE}{self._text}\n")
        elif self._text:
            self.write(ERASE)
        self._text = self._about = ""

    def _put(self, text: str, about: str) -> None:
        self._text, self._about = text, about
        # One column stays free: after writing to the last column a terminal may already be on the next line.
        self.write(ERASE + fit(text, self.columns() - 1))


def header(name: str, play: str, clock: str) -> str:
    """Return the line that begins a phase. ``clock`` as in 16:25:03; ``play`` as in ``Index | Scan, analyse``."""
    words = play.partition(" | ")[2] or play
    return f"{clock}  {name}" + (f": {words}" if words and words != name else "")


def footer(status: str, seconds: float) -> str:
    """Return the line that ends a phase with that status."""
    if status == "skipped":
        return "  nothing to do"
    return f"  {'failed' if status == 'failed' else 'done'} after {span(round(seconds) if seconds >= 10 else seconds)}"


def task_words(name: str) -> str:
    """Return a task's name without role and file: ``Wait`` for ``plex_server : start | Wait``."""
    return plain_task_name(name).rpartition(" | ")[2]


def debug_lines(result: Mapping[str, Any]) -> list[str]:
    """Return the lines of a `debug` task: its message, or the variable that it shows."""
    if "msg" in result:
        return plain_lines(result["msg"])
    shown = {key: value for key, value in result.items() if key not in _RESULT_WORDS and not key.startswith("_ansible")}
    return plain_lines(shown)


def plain_lines(value: Any) -> list[str]:
    """Return a value as plain lines: text unchanged, a list one entry per line, a mapping as ``key: value``."""
    if isinstance(value, str):
        return value.replace("\r", "").splitlines()
    if isinstance(value, Mapping):
        lines = []
        for key, entry in value.items():
            inner = plain_lines(entry) or ["none"]
            if len(inner) == 1:
                lines.append(f"{key}: {inner[0]}")
            else:
                lines += [f"{key}:", *(f"  {line}" for line in inner)]
        return lines
    if isinstance(value, Sequence):
        return [line for entry in value for line in plain_lines(entry)]
    return [str(value)]


def failure_lines(result: Mapping[str, Any], *, title: str, host: str, task: str, advice: str) -> list[str]:
    """Return the lines about a failed task: each failed item of a loop, and the next step. ``title`` as in FAILED."""
    results = result.get("results")
    items = results if isinstance(results, Sequence) and not isinstance(results, str) else ()
    bad = [item for item in items if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable"))]
    messages = [failure_message({"results": [item]}) for item in bad] or [failure_message(result)]
    lines = [f"{title} on {host}: {plain_task_name(task)}"]
    lines += [f"  {line}" for message in messages for line in plain_lines(message) if line.strip()]
    return [*lines, f"  Next: {advice}"] if advice else lines
