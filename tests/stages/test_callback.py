"""What the recorder records, shown by small playbooks that run from elsewhere and without ansible.cfg."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stages.stage import PROJECT, SECRET, Stage, play


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


FAIL = """
- name: Break it
  ansible.builtin.fail:
    msg: Every type is out of stock.
"""
RESCUED = """
- name: Try
  block:
    - name: Break it
      ansible.builtin.fail:
        msg: Every type is out of stock.
  rescue:
    - name: Record it
      plexburst.core.run_failed:
"""
NOTE = """
- name: Say something
  ansible.builtin.debug:
    msg: still here
"""


def test_a_good_run_is_recorded_with_its_phases(stage: Stage) -> None:
    record = "- name: Record\n  plexburst.core.run_record:\n    key: cloud\n    value: {created: [server/1]}\n"
    ended = stage.play(play("work", "localhost", record) + play("nobody", "no_such_group", NOTE))
    assert ended.code == 0, ended.output
    assert ended.summary["status"] == "succeeded"
    assert ended.summary["playbook"] == "small"
    assert ended.summary["cloud"]["created"] == ["server/1"]
    assert ended.phases == {"preflight": "succeeded", "work": "succeeded", "nobody": "skipped", "report": "succeeded"}
    assert (ended.folder / "report.html").read_text().startswith("<!doctype html>")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in ended.folder.resolve().rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_a_phase_whose_tasks_are_all_skipped_is_skipped(stage: Stage) -> None:
    skipped = "- name: Not today\n  ansible.builtin.debug:\n  when: false\n"
    assert stage.play(play("work", "localhost", skipped)).phases["work"] == "skipped"


def test_a_failure_on_the_controller_ends_the_run_with_its_cause(stage: Stage) -> None:
    ended = stage.play(play("provision", "localhost", FAIL))
    assert ended.code == 2
    assert ended.summary["status"] == "failed"
    assert ended.summary["failure"] == {
        "phase": "provision",
        "host": "localhost",
        "task": "Break it",
        "message": "Every type is out of stock.",
        "advice": ended.summary["failure"]["advice"],
    }
    assert "plexburst_zone" in ended.summary["failure"]["advice"]
    assert "Every type is out of stock" in (ended.folder / "report.html").read_text()


def test_a_failure_on_another_host_is_found_by_the_last_play(stage: Stage) -> None:
    ended = stage.play(play("index", "home:localhost", FAIL.rstrip() + "\n  when: inventory_hostname == 'home'\n"))
    assert ended.code == 2
    assert ended.summary["failure"]["host"] == "home"
    assert ended.phases == {"preflight": "succeeded", "index": "failed", "report": "succeeded"}


def test_an_unreachable_host_is_recorded_and_later_plays_still_run(stage: Stage) -> None:
    ping = "- name: Reach it\n  ansible.builtin.ping:\n  when: inventory_hostname == 'lost'\n"
    ended = stage.play(play("index", "lost:localhost", ping) + play("release", "localhost", NOTE))
    assert ended.code in (2, 4)
    failure = ended.summary["failure"]
    assert (failure["phase"], failure["host"], failure["task"]) == ("index", "lost", "Reach it")
    assert "unreachable" in failure["message"]
    assert "SSH" in failure["advice"]
    assert ended.phases["release"] == "succeeded"


def test_a_rescued_failure_is_recorded_once_and_still_fails_the_run(stage: Stage) -> None:
    ended = stage.play(play("provision", "localhost", RESCUED) + play("release", "localhost", NOTE))
    assert ended.code == 2
    assert ended.phases == {
        "preflight": "succeeded",
        "provision": "failed",
        "release": "succeeded",
        "report": "succeeded",
    }
    events = [json.loads(line) for line in (ended.folder / "events.jsonl").read_text().splitlines()]
    assert [event["task"] for event in events if event["event"] == "failure"] == ["Break it"]
    assert ended.summary["failure"]["message"] == "Every type is out of stock."


def test_a_failure_in_a_role_within_a_rescued_block_is_recorded_once(stage: Stage) -> None:
    role = """
- name: Try
  block:
    - name: Use a role that fails
      ansible.builtin.include_role:
        name: plexburst.core.run
        tasks_from: begin
      vars:
        run_existing_id: no-run-id
        run_required: []
  rescue:
    - name: Record it
      plexburst.core.run_failed:
"""
    ended = stage.play(play("work", "localhost", role))
    events = [json.loads(line) for line in (ended.folder / "events.jsonl").read_text().splitlines()]
    assert [event["task"] for event in events if event["event"] == "failure"] == ["begin | Create the run folder"]
    assert "not a valid run id" in ended.summary["failure"]["message"]


def test_a_failure_within_a_rescue_is_a_failure(stage: Stage) -> None:
    tasks = """
- name: Try
  block:
    - name: Fail first
      ansible.builtin.fail:
        msg: first
  rescue:
    - name: Fail again
      ansible.builtin.fail:
        msg: second
"""
    ended = stage.play(play("work", "home:localhost", tasks + "  when: inventory_hostname == 'home'\n"))
    assert ended.code == 2
    assert ended.summary["failure"]["task"] == "Fail again"


def test_a_run_that_never_reaches_its_last_play_has_not_succeeded(stage: Stage) -> None:
    ended = stage.play(play("work", "localhost", NOTE), end="")
    assert ended.summary["status"] == "failed"
    assert "before its last play" in ended.summary["failure"]["message"]


def test_no_secret_is_written_down(stage: Stage) -> None:
    tasks = f"""
- name: Try
  block:
    - name: Break it
      ansible.builtin.fail:
        msg: "{SECRET} refused; X-Plex-Token=abcDEF123456"
  rescue:
    - name: Record it
      plexburst.core.run_failed:
- name: Break it again
  ansible.builtin.fail:
    msg: "{SECRET}"
"""
    ended = stage.play(play("work", "localhost", tasks))
    assert "********" in ended.summary["failure"]["message"]
    for path in ended.folder.resolve().rglob("*"):
        if path.is_file():
            assert SECRET not in path.read_text(), path
            assert "abcDEF123456" not in path.read_text(), path


@pytest.mark.parametrize("shown", [(), ("-v",)])
def test_the_console_is_kept_in_full_whatever_is_shown(stage: Stage, shown: tuple[str, ...]) -> None:
    ended = stage.play(play("work", "localhost", NOTE), *shown)
    log = (ended.folder / "logs" / "console.log").read_text()
    assert log.index("PLAY [Begin]") < log.index("still here") < log.index("report.html") < log.index("PLAY RECAP")
    for line in ended.output.splitlines():
        if line.startswith(("PLAY", "TASK", "ok:")):
            assert log.count(line) == ended.output.count(line), line
    assert ("TASK [" in ended.output) is bool(shown)


def test_check_mode_leaves_nothing(stage: Stage) -> None:
    record = "- name: Record\n  plexburst.core.run_record:\n    key: cost\n    value: {billed: 1.0}\n"
    show = "- name: Show\n  ansible.builtin.debug:\n    msg: 'folder={{ run_dir }}='\n"
    ended = stage.play(play("work", "localhost", record + show), "--check")
    assert ended.code == 0, ended.output
    folder = Path(ended.output.partition("folder=")[2].partition("=")[0])
    assert folder.is_absolute()
    assert not folder.exists()
    assert not ended.runs.exists()


def test_one_run_at_a_time_and_the_lock_is_given_back(stage: Stage) -> None:
    runs = stage.path / "runs"
    runs.mkdir()
    held = {"pid": os.getpid(), "born": _born(), "run_id": "20261122-071500-ab12", "host": os.uname().nodename}
    (runs / ".lock").write_text(json.dumps({**held, "started_at": "now"}))
    ended = stage.play(play("work", "localhost", NOTE))
    assert ended.code == 2
    assert "Another run, 20261122-071500-ab12, is going on" in ended.output
    assert "still here" not in ended.output
    (runs / ".lock").unlink()
    assert stage.play(play("work", "localhost", NOTE)).code == 0
    assert (runs / ".lock").read_text() == ""


def _born() -> str:
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.parametrize("part", [("--limit", "home"), ("--tags", "x"), ("--skip-tags", "x"), ("--start-at-task", "x")])
def test_a_part_of_a_run_is_refused_in_words(stage: Stage, part: tuple[str, str]) -> None:
    ended = stage.play(play("work", "localhost", NOTE), *part)
    assert ended.code == 5
    assert f"{part[0]} would skip checks" in ended.output
    assert "PLAY [" not in ended.output


def test_settings_that_are_wrong_are_all_named(stage: Stage) -> None:
    ended = stage.play("", "-e", "plexburst_sektions=Music", "-e", "plexburst_backups_keep=none")
    assert ended.code == 2
    assert "Did you mean plexburst_sections?" in ended.output
    assert "plexburst_backups_keep: expected a whole number" in ended.output


def test_a_template_that_cannot_be_worked_out_is_one_problem(stage: Stage) -> None:
    given = [f"plexburst_{name}={{{{ no_such_thing }}}}" for name in ("zone", "image", "media")]
    ended = stage.play("", *(word for value in given for word in ("-e", value)))
    assert ended.code == 2
    assert "One setting is invalid" in ended.output
    assert "plexburst_image, plexburst_media, plexburst_zone cannot be templated" in ended.output


def test_extra_vars_and_templates_are_understood(stage: Stage) -> None:
    values = "[run_settings.sections, run_settings.skip_sonic, run_settings.zone]"
    show = f'- name: Show\n  ansible.builtin.debug:\n    msg: "{{{{ {values} | to_json }}}}"\n'
    given = (
        "-e",
        "plexburst_sections=Music",
        "-e",
        "plexburst_skip_sonic=false",
        "-e",
        "plexburst_zone={{ 'nl-ams-' ~ 1 }}",
    )
    ended = stage.play(play("work", "localhost", show), *given)
    assert json.dumps([["Music"], False, "nl-ams-1"]) in ended.output


def test_a_module_reached_without_its_action_says_so() -> None:
    for name in ("plexburst_settings", "run_begin", "run_record", "run_failed", "run_result"):
        arguments = {"runs_dir": "/nowhere", "key": "cost", "value": {}}
        wanted = {"run_begin": ("runs_dir",), "run_record": ("key", "value")}.get(name, ())
        given = {"ANSIBLE_MODULE_ARGS": {key: arguments[key] for key in wanted}}
        ended = subprocess.run(
            [sys.executable, str(PROJECT / "library" / f"{name}.py")],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 1
        assert f"The action plugin plexburst.core.{name} was not found" in json.loads(ended.stdout)["msg"]


def test_a_playbook_of_somebody_else_is_not_touched(stage: Stage) -> None:
    task = "    - name: Fail\n      ansible.builtin.fail:\n"
    foreign = f"- name: Foreign\n  hosts: localhost\n  gather_facts: false\n  tasks:\n{task}"
    ended = stage.play(foreign, "--tags", "all", begin="", end="")
    assert ended.code == 2
    assert not ended.runs.exists()
    assert "plexburst" not in ended.output.replace(str(stage.path), "")
