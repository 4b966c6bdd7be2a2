"""The summary says what happened, fits its schema, and the report shows it without trusting a word of it."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.run.summary import (
    UNFINISHED,
    compose,
    headline,
    record_problems,
    schema_problems,
)

from plexburst.report import SCHEMA, main, render_report, schema_text

PROJECT = Path(__file__).resolve().parents[2]
RUN = "20261122-071500-ab12"
AT = "2026-11-22T07:15:00.000Z"
END = "2026-11-22T08:16:05.000Z"
STARTED = {"at": AT, "event": "run_started", "playbook": "delta_sync"}
CHECKED = {"at": END, "event": "result_checked"}
FAILURE = {"phase": "index", "host": "indexer", "task": "Scan", "message": "It broke.", "advice": "Mend it."}


def phase(name: str, status: str, seconds: float = 1.0) -> dict[str, Any]:
    return {"at": AT, "event": "phase_ended", "phase": name, "status": status, "started_at": AT, "seconds": seconds}


def whole(state: dict[str, Any] | None = None, *events: dict[str, Any]) -> dict[str, Any]:
    summary = compose(RUN, [STARTED, *events, CHECKED], state or {}, END)
    assert schema_problems(summary) == []
    return summary


STATE: dict[str, Any] = {
    "sections": [{"id": 1, "title": "Music", "type": "artist", "items_before": 10, "items_after": 14}],
    "sonic": {"total": 14, "before": 2, "after": 14, "failed": 0, "verdict": "complete", "tracks_per_minute": 30.5},
    "cost": {
        "instance_type": "GP1-S",
        "hourly_price": 0.2,
        "alive_seconds": 600,
        "useful_seconds": 300,
        "billed": 0.2,
        "egress_bytes": 9,
    },
    "cloud": {"created": ["server/1", "ip/1"], "deleted": ["server/1", "ip/1"], "leftovers": []},
    "home": {"installed": True, "backup": "/b", "watch_state": {"kept": 2, "conflicts": 0}},
    "plan": {"nothing_to_do": False},
}


def test_a_good_run_succeeded() -> None:
    summary = whole(STATE, phase("index", "succeeded"))
    assert summary["status"] == "succeeded"
    assert summary["failure"] is None
    assert summary["started_at"] == AT
    assert summary["sections"][0]["analysed_after"] is None


def test_what_nobody_measured_is_null_not_zero() -> None:
    summary = whole({"cloud": {"created": ["server/1"]}})
    assert summary["cost"]["billed"] is None
    assert summary["sonic"]["after"] is None
    assert whole()["cost"]["billed"] == 0.0


def test_the_first_failure_is_the_cause() -> None:
    later = {**FAILURE, "message": "A consequence."}
    summary = whole(None, {"at": AT, "event": "failure", **FAILURE}, {"at": AT, "event": "failure", **later})
    assert summary["status"] == "failed"
    assert summary["failure"] == FAILURE


def test_sonic_data_alone_are_not_called_a_new_database() -> None:
    brought = {**STATE["home"], "sonic": {"vectors": 22, "marks": 30, "skipped": 0}}
    text = "\n".join(headline(whole({**STATE, "home": brought}), "/r/report.html"))
    assert "Home: Sonic data of 22 track(s) added, nothing else changed" in text


def test_a_failure_after_home_was_installed_is_partial() -> None:
    assert whole(STATE, {"at": AT, "event": "failure", **FAILURE})["status"] == "partial"
    assert whole({**STATE, "partial": ["Movies stayed away."]})["status"] == "partial"


def test_a_lost_indexers_newest_checkpoint_is_in_the_advice() -> None:
    newest = {"number": 3, "taken_at": AT, "sonic_done": 41_200, "sonic_total": 375_000, "items": 490_000}
    state = {"checkpoint": {"made": 3, "failed": 1, "kept": True, "newest": newest, "since": 1.5}}
    summary = whole(state, {"event": "failure", **FAILURE})
    assert summary["failure"]["advice"] == (
        f"Mend it. Checkpoint 3 of {AT} is kept (41,200 of 375,000 tracks with Sonic data, 490,000 items): "
        "delta_sync.yml goes on from it. If the indexer still lives, recover.yml brings home all that it has."
    )
    assert summary["checkpoint"] == {"made": 3, "failed": 1, "kept": True, "newest": newest}
    gone = whole(
        {**state, "cloud": {"created": ["server/1"], "deleted": ["server/1"]}}, {"event": "failure", **FAILURE}
    )
    assert gone["failure"]["advice"].endswith("delta_sync.yml goes on from it.")
    spent = {"checkpoint": {**state["checkpoint"], "kept": False}}
    assert whole(spent, {"event": "failure", **FAILURE})["failure"]["advice"] == "Mend it."
    assert "checkpoint" not in whole({"checkpoint": {"since": 1.5, "waiting": 3, "made": 0, "failed": 0}})


def test_tracks_that_got_no_sonic_data_are_never_silently_complete() -> None:
    summary = whole({**STATE, "sonic": {**STATE["sonic"], "failed": 3, "verdict": "tracks_failing"}})
    assert (summary["status"], summary["failure"]) == ("partial", None)
    assert "3 track(s)" in summary["partial"][0]
    assert "sonic_left.json" in summary["partial"][0]


def test_leftovers_are_a_failure() -> None:
    summary = whole({"cloud": {"created": ["server/1"], "leftovers": ["server/1"]}})
    assert summary["status"] == "failed"
    assert "server/1" in summary["failure"]["message"]
    assert "reap.yml" in summary["failure"]["advice"]


def test_nothing_that_is_billed_is_called_nothing() -> None:
    def told(cloud: dict[str, Any]) -> str:
        cloud = {"listing": {"at": END, "problem": None, "other_runs": []}, **cloud}
        return next(line for line in headline(whole({**STATE, "cloud": cloud}), "/r") if "Leftovers" in line)

    assert told({"created": ["ip/1"], "deleted": ["ip/1"], "leftovers": []}) == "  Leftovers: none"
    words = told({"created": ["server/1"], "deleted": [], "leftovers": []})
    assert "not removed by this run: server/1; if kept, they are billed" in words
    assert "unknown" in told({"created": ["server/1"], "deleted": [], "leftovers": ["unknown/not asked"]})


OTHER = {
    "run_id": "20261120-071500-ab12",
    "here": False,
    "resources": ["server/9", "ip/9"],
    "since": AT,
    "expires_at": None,
    "hourly_price": 0.19074,
    "billed": None,
    "commands": ["ansible-playbook reap.yml -e plexburst_reap_run_id=20261120-071500-ab12"],
}


@pytest.mark.parametrize(
    ("listing", "words"),
    [
        (None, ["not checked (Scaleway was not queried)"]),
        ({"at": None, "problem": "plexburst_provider is existing"}, ["not checked (plexburst_provider is existing)"]),
        ({"at": END, "problem": None, "other_runs": []}, ["none"]),
        (
            {"at": "2026-11-21T07:15:00.000Z", "problem": None},
            ["not checked (last listed at 2026-11-21T07:15:00.000Z"],
        ),
        (
            {"at": END, "problem": None, "other_runs": [OTHER]},
            [
                "none of this run",
                "20261120-071500-ab12, not in this controller's runs folder: server/9, ip/9 (0.1907 EUR per hour). ",
            ],
        ),
    ],
)
def test_no_leftovers_is_said_only_after_a_listing_of_all_of_ours(listing: Any, words: list[str]) -> None:
    state = {**STATE, "cloud": {**STATE["cloud"], **({"listing": listing} if listing else {})}}
    lines = [line.partition(": ")[2] for line in headline(whole(state), "/r") if "Leftovers" in line]
    assert len(lines) == len(words)
    assert all(line.startswith(word) for line, word in zip(lines, words, strict=True))
    assert ("none" in lines[0].split()) == (words[0] == "none" or "none of" in words[0])


def test_a_run_that_just_ended_has_failed() -> None:
    summary = compose(RUN, [STARTED], STATE, END)
    assert summary["failure"]["message"] == UNFINISHED
    assert schema_problems(summary) == []


def test_a_phase_in_several_parts_is_one() -> None:
    events = [phase("release", "skipped", 1.0), phase("index", "succeeded"), phase("release", "failed", 2.5)]
    assert [(entry["name"], entry["status"], entry["seconds"]) for entry in whole(None, *events)["phases"]] == [
        ("release", "failed", 3.5),
        ("index", "succeeded", 1.0),
    ]


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("cloud", {"created": ["server/1"]}, True),
        ("cloud", {"created": ["one"]}, False),
        ("cost", {"billed": -1}, False),
        ("cost", {"billed": "1"}, False),
        ("sections", [{"id": 1, "items_after": 4}], True),
        ("sections", [{"title": "Music"}], False),
        ("home", {"installed": True}, True),
        ("home", {"installed": "yes"}, False),
        ("weather", {}, False),
    ],
)
def test_only_what_the_schema_can_hold_is_recorded(key: str, value: Any, good: bool) -> None:
    assert (record_problems(key, value) == []) is good


def test_every_required_key_is_missed() -> None:
    summary = whole(STATE)
    for key in SCHEMA["required"]:
        assert schema_problems({name: value for name, value in summary.items() if name != key}), key


def test_the_published_schema_is_the_one_that_is_used() -> None:
    assert (PROJECT / "docs" / "summary.schema.json").read_text(encoding="utf-8") == schema_text()


def test_a_person_reads_it_in_a_few_lines() -> None:
    text = "\n".join(headline(whole(STATE), "/r/report.html"))
    for words in ("succeeded, 1 h 1 min", "Music: 14 items (+4)", "14 of 14 tracks, complete", "0.2000 EUR (GP1-S)"):
        assert words in text


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_report_shows_all_and_runs_nothing() -> None:
    evil = "<script>alert(1)</script><img src=http://example.org/x>"
    state = {**STATE, "sections": [{**STATE["sections"][0], "title": evil}], "plan": {evil: [evil, {evil: evil}]}}
    events = [phase(evil, "failed"), {"at": AT, "event": "failure", **dict.fromkeys(FAILURE, evil)}]
    events.append({"at": AT, "event": "failure", **FAILURE})
    text = render_report(whole(state, *events), events)
    page = Page(text)
    assert not {"script", "img", "link", "iframe"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & set(page.attributes)
    assert page.words.count(evil) >= 8
    assert "It broke." in page.words
    assert len(text) < 20_000


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "events.jsonl").write_text(json.dumps(STARTED) + "\n")
    (tmp_path / "summary.json").write_text(json.dumps(whole(STATE)))
    assert main([str(tmp_path)]) == 0
    assert "delta_sync" in (tmp_path / "report.html").read_text()
    assert main(["--check", str(tmp_path)]) == 0
    (tmp_path / "summary.json").write_text("{}")
    assert main(["--check", str(tmp_path)]) == 1
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "no usable summary" in capsys.readouterr().err
