"""The words and lines a person sees, without Ansible and without a terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import progress
from ansible_collections.plexburst.core.plugins.plugin_utils import live_line
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plex.traces import activity, counters, process, sample, server

TITLES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1).filter(str.strip)
KINDS = st.sampled_from(["scan", "refresh", "analyse", "sonic", "stabilise"])


@dataclass
class Terminal:
    """What little of a terminal LiveLine uses: carriage return, erase line, newline, and wrapping at the edge."""

    width: int = 40
    lines: list[str] = field(default_factory=lambda: [""])
    wrapped: bool = False

    def write(self, text: str) -> None:
        for part in text.replace(live_line.ERASE, "\0").partition("\n"):
            for character in part:
                if character == "\0":
                    self.lines[-1] = ""
                elif character == "\n":
                    self.lines.append("")
                else:
                    self.lines[-1] += character
        self.wrapped = self.wrapped or live_line.columns_of(self.lines[-1]) >= self.width

    def live(self) -> live_line.LiveLine:
        return live_line.LiveLine(write=self.write, columns=lambda: self.width)


def line(kind: str, title: str, done: int = 3) -> str:
    return progress.line(
        kind, title, [sample(0, counters=counters(sonic_total=9, sonic_done=done))], elapsed=5, hourly_price=0.4
    )


@given(KINDS, TITLES, st.sampled_from(["", "[plexburst-20261122-071500-ab12] "]))
def test_every_progress_line_is_recognised(kind: str, title: str, host: str) -> None:
    assert progress.about(host + line(kind, title)) is not None
    assert progress.about(host + line(kind, title)) == progress.about(host + line(kind, title, done=4))
    assert progress.without_host(host + line(kind, title)) == line(kind, title)


def test_a_progress_line_says_what_it_is_about() -> None:
    assert progress.about("[home] " + line("sonic", "Music: 80s")) == "[home] sonic Music: 80s"
    silent = progress.line("scan", "Music", [sample(0, answered=False)], elapsed=5)
    assert progress.about(silent) == "scan Music"
    busy = [sample(0, activities=(activity("library.update.section", "Scanning", 1, 42.0),))]
    assert progress.about(progress.line("scan", "Music", busy, elapsed=5, missed=2)) == "scan Music"
    working = [sample(i, processes=(server(), process("transcoder", i))) for i in range(2)]
    assert progress.about(progress.line("analyse", "Films", working, elapsed=90000, reason="mount_slow"))


@pytest.mark.parametrize(
    "text",
    [
        "[home] sonic Music: sample missed (timed out)",
        "sonic Music: tracks failing. 3 of 7 · look at them.",
        "sonic Music with profile sandbox: looked at every 0.5 s, stalled after 25 s without progress",
        "TASK [plex_indexing : sonic | Music: 3 items] ****",
        "Run 20261122-071500-ab12 (delta_sync): succeeded, 1 min 40 s",
        "  Music: 96 items (+6)",
        "fatal: [home]: FAILED! => {}",
        "",
    ],
)
def test_other_lines_are_never_taken_for_progress(text: str) -> None:
    assert progress.about(text) is None
    assert progress.without_host(text) == text


def test_a_progress_line_takes_the_place_of_the_one_before() -> None:
    terminal = Terminal()
    live = terminal.live()
    live.progress("sonic Music: 1", "sonic Music")
    live.progress("sonic Music: 2", "sonic Music")
    assert terminal.lines == ["sonic Music: 2"]
    live.progress("scan Films: 1", "scan Films")
    live.end()
    assert terminal.lines == ["sonic Music: 2", "scan Films: 1", ""]


def test_a_status_leaves_no_trace() -> None:
    terminal = Terminal()
    live = terminal.live()
    live.status("  Wait …")
    assert terminal.lines == ["  Wait …"]
    live.status("  Copy …")
    live.progress("scan Films: 1", "scan Films")
    assert terminal.lines == ["scan Films: 1"]
    live.status("  Stop …")
    live.end()
    live.end()
    assert terminal.lines == ["scan Films: 1", ""]


def test_a_long_line_never_wraps_while_it_changes_and_stays_in_full() -> None:
    terminal = Terminal(width=20)
    live = terminal.live()
    live.progress("音楽" * 40, "x")
    assert not terminal.wrapped
    assert terminal.lines == ["音楽" * 4 + "音…"]
    live.end()
    assert terminal.lines == ["音楽" * 40, ""]


@given(st.text(), st.integers(0, 60))
def test_a_line_fits_whatever_it_holds(text: str, columns: int) -> None:
    fitted = live_line.fit(text, columns)
    assert live_line.columns_of(fitted) <= columns
    assert not set(fitted) & set("\r\n\t\x1b\x9b")


def test_what_a_debug_task_says_is_plain_text() -> None:
    assert live_line.debug_lines({"msg": ["one", "two\nthree"], "changed": False}) == ["one", "two", "three"]
    assert live_line.debug_lines({"msg": {"removed": [], "kept": ["server/1", "ip/2"], "n": 3}}) == [
        "removed: none",
        "kept:",
        "  server/1",
        "  ip/2",
        "n: 3",
    ]
    assert live_line.debug_lines({"some.variable": 4, "changed": False, "_ansible_no_log": False}) == [
        "some.variable: 4"
    ]


def test_every_failed_item_of_a_loop_is_told() -> None:
    result = {
        "msg": "One or more items failed",
        "results": [
            {"item": "a", "msg": "no a", "failed": True},
            {"item": "b"},
            {"item": "c", "msg": "no\r\nc", "failed": True},
        ],
    }
    lines = live_line.failure_lines(result, title="FAILED", host="home", task="role : file | Copy", advice="Look.")
    assert lines == ["FAILED on home: file | Copy", "  a: no a", "  c: no", "  c", "  Next: Look."]


def test_a_failure_that_says_nothing_is_still_told() -> None:
    lines = live_line.failure_lines({}, title="FAILED", host="home", task="Copy", advice="")
    assert lines[0] == "FAILED on home: Copy"
    assert lines[1].strip()


def test_headers_and_footers_of_phases() -> None:
    assert live_line.header("index", "Index | Scan, analyse", "16:25:03") == "16:25:03  index: Scan, analyse"
    assert live_line.header("index", "index", "16:25:03") == "16:25:03  index"
    assert live_line.footer("succeeded", 75.2) == "  done after 1.2 min"
    assert live_line.footer("failed", 0.5) == "  failed after 0.5 s"
    assert live_line.footer("skipped", 0.5) == "  nothing to do"


def test_only_the_warning_about_a_runs_empty_group_is_noise() -> None:
    warning = "[WARNING]: Could not match supplied host pattern, ignoring: "
    assert live_line.is_noise(warning + "plexburst_run_20261122_071500_ab12")
    assert live_line.is_noise(warning + "plexburst_no_run")
    assert not live_line.is_noise(warning + "plex_home")
    assert not live_line.is_noise("[WARNING]: The disk is nearly full.")


def test_the_indexers_long_name_is_left_out_and_no_other() -> None:
    assert live_line.within_phase("[plexburst-20261122-071500-ab12] sonic Music: x") == "  sonic Music: x"
    assert live_line.within_phase("[nas] sonic Music: x") == "[nas] sonic Music: x"
