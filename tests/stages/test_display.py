"""What a person sees of a run: on a terminal, in a pipe, with -v, in ansible-runner; and of other playbooks."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import ansible_runner
import pytest

from tests.stages.stage import SECRET, Stage, play

COUNT = '''
"""Shows progress as plex_sonic does: from a worker, through Display, by the project's own line."""

import time

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch import progress
from ansible_collections.plexburst.core.plugins.module_utils.plex.observe.sample import Counters, Sample


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        title, samples = self._task.args["title"], []
        Display().display(f"[{task_vars['inventory_hostname']}] sonic {title} with profile sandbox: looked at often")
        for done in range(5):
            counts = dict.fromkeys(Counters.__dataclass_fields__, 0) | {"section_ids": (1,), "signature": ""}
            counters = Counters(**(counts | {"sonic_total": 4, "sonic_done": done}))
            samples.append(Sample(at=float(done), answered=True, counters=counters))
            line = progress.line("sonic", title, samples, elapsed=float(done), hourly_price=0.4)
            Display().display(f"[{task_vars['inventory_hostname']}] {line}")
            time.sleep(float(self._task.args.get("pause", 0.1)))
        return {"changed": False}
'''
WATCH = """
- name: Look at something
  ansible.builtin.set_fact:
    seen: true
- name: Not today
  ansible.builtin.set_fact:
    seen: false
  when: false
- name: Watch the music
  count:
    title: Music
- name: Watch more music
  count:
    title: Jazz
- name: Say what will happen
  ansible.builtin.debug:
    msg:
      - An instance would be made.
      - "It costs {{ 1 + 1 }} EUR."
"""
QUIET = ("TASK [", "ok:", "ok=", "skipping:", "included:", "PLAY ", "changed:")
CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    actions = tmp_path / "action_plugins"
    actions.mkdir()
    (actions / "count.py").write_text(COUNT)
    return Stage(tmp_path)


def on_terminal(stage: Stage, plays: str, *arguments: str, columns: int = 100, term: str = "xterm") -> tuple[int, str]:
    """The exit code and every byte that a terminal gets, as text."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        stage.command(plays, *arguments),
        cwd="/",
        env=stage.environment(TERM=term),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    got = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux tells the end of a pseudo-terminal by EIO
            break
        if not part:
            break
        got += part
    os.close(ours)
    return process.wait(60), got.decode().replace("\r\n", "\n")


def rendered(text: str) -> list[str]:
    """The lines that stay on the terminal."""
    return [line.rpartition("\r\x1b[2K")[2] for line in text.split("\n")]


def test_a_terminal_shows_each_task_as_one_line_that_changes_in_place(stage: Stage) -> None:
    code, text = on_terminal(stage, play("work", "home", WATCH))
    assert code == 0, text
    for done in range(5):
        assert re.search(rf"\r\x1b\[2K  sonic Music: \[[#-]+\] {done}/4 tracks", text), text
    lines = rendered(text)
    assert next(line for line in lines if "/4 tracks" in line and "Music" in line).startswith("  sonic Music: [####")
    assert sum("/4 tracks" in line for line in lines) == 2
    assert not [line for line in lines if line.startswith(QUIET)], text
    assert not [line for line in lines if line.endswith(" …")], "a status stayed"
    assert "  Watch the music …" in text


def test_a_narrow_terminal_never_wraps_a_changing_line(stage: Stage) -> None:
    _, text = on_terminal(stage, play("work", "home", WATCH), columns=40)
    changing = [part.partition("\n") for part in text.split("\r\x1b[2K")[1:]]
    assert max(len(CONTROL.sub("", line)) for line, end, _ in changing if not end) < 40


def test_a_pipe_gets_the_lines_one_below_the_other(stage: Stage) -> None:
    ended = stage.play(play("work", "home", WATCH))
    assert ended.code == 0, ended.output
    assert [f"{done}/4 tracks" in ended.output for done in range(5)] == [True] * 5
    assert sum(line.startswith("[home] sonic Music: [") for line in ended.output.splitlines()) == 5
    assert "\x1b" not in ended.output
    assert "\r" not in ended.output
    assert not [line for line in ended.output.splitlines() if line.startswith(QUIET)], ended.output


def test_a_pipe_gets_a_line_when_it_happens(stage: Stage) -> None:
    with subprocess.Popen(
        stage.command(play("work", "home", WATCH + "- name: Wait\n  ansible.builtin.pause:\n    seconds: 2\n")),
        cwd="/",
        env=stage.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "It costs" in line:
                break
        assert process.poll() is None
        process.stdout.read()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_promises_nothing_gets_lines_only(stage: Stage, term: str) -> None:
    _, text = on_terminal(stage, play("work", "home", WATCH), term=term)
    assert "\x1b" not in text
    assert sum("sonic Music: [" in line for line in text.splitlines()) == 5


def test_phases_have_headers_with_time_and_say_how_long_they_took(stage: Stage) -> None:
    output = stage.play(play("work", "home", WATCH) + play("nobody", "no_such_group", WATCH)).output
    assert re.search(r"^\d\d:\d\d:\d\d  work: Phase work\n(.*\n)+?  done after [\d.]+ s$", output, re.MULTILINE), output
    assert "nobody: " not in output


def test_what_a_plan_says_is_plain_text_and_the_summary_closes_the_run(stage: Stage) -> None:
    output = stage.play(play("work", "home", WATCH)).output
    assert "\n  An instance would be made.\n  It costs 2 EUR.\n" in output
    assert re.search(r"\nRun \S+ \(small\): succeeded, .*\n(  .*\n)+\Z", output), output


def test_a_loop_of_debug_lines_is_shown(stage: Stage) -> None:
    tasks = '- name: Say\n  ansible.builtin.debug:\n    msg: "say {{ item }}"\n  loop: [one, two]\n'
    output = stage.play(play("work", "home", tasks)).output
    assert "  say one\n  say two\n" in output
    assert "All items completed" not in output


FAILURES = """
- name: Try
  block:
    - name: Break it
      ansible.builtin.command: /bin/sh -c 'echo because of this >&2; exit 3'
      changed_when: false
  rescue:
    - name: Record it
      plexburst.core.run_failed:
        run_dir: "{{ hostvars['localhost'].run_dir }}"
- name: Ignore it
  ansible.builtin.fail:
    msg: nobody minds
  ignore_errors: true
- name: Fail for some
  ansible.builtin.fail:
    msg: "item {{ item }} is bad"
  loop: [x, y]
"""


def test_an_error_is_always_shown(stage: Stage) -> None:
    for terminal in (False, True):
        if terminal:
            code, output = on_terminal(stage, play("work", "home", FAILURES))
        else:
            ended = stage.play(play("work", "home", FAILURES) + play("more", "localhost", WATCH))
            code, output = ended.code, ended.output
        assert code != 0
        assert "Failed (being dealt with) on home: Break it" in output
        assert "because of this" in output
        assert "Failed (ignored) on home: Ignore it" in output
        assert "nobody minds" in output
        assert "FAILED on home: Fail for some" in output
        assert "item x is bad" in output
        assert "item y is bad" in output
        assert "failed after" in output


def test_an_unreachable_host_and_warnings_are_shown(stage: Stage) -> None:
    ping = "- name: Reach it\n  ansible.builtin.ping:\n  when: inventory_hostname == 'lost'\n"
    odd = play("odd", "no_such_group:localhost", WATCH)
    output = stage.play(
        play("work", "lost:localhost", ping) + play("none", "plexburst_run_1:localhost", WATCH) + odd
    ).output
    assert "UNREACHABLE on lost: Reach it" in output
    assert "Connection refused" in output
    assert "Could not match supplied host pattern, ignoring: no_such_group" in output
    assert "plexburst_run_1" not in output


def test_an_error_before_any_task_is_shown(stage: Stage) -> None:
    output = stage.play(play("work", "home", "- name: No such thing\n  no.such.module:\n")).output
    assert "no.such.module" in output


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(("-v",), {}), (("--diff",), {}), ((), {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default"})],
)
def test_who_asks_for_the_default_output_gets_it(stage: Stage, arguments: tuple[str, ...], env: dict[str, str]) -> None:
    output = stage.play(play("work", "home", WATCH), *arguments, env=env).output
    for words in ("PLAY [Phase work]", "TASK [Look at something]", "ok: [home]", "skipping: [home]", "PLAY RECAP"):
        assert words in output
    assert output.count("/4 tracks") == 10
    assert "done after" not in output


def test_a_chosen_stdout_callback_is_left_alone(stage: Stage) -> None:
    output = stage.play(play("work", "home", WATCH), env={"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal"}).output
    assert "home | SUCCESS => {" in output
    assert "done after" not in output


def test_check_mode_is_quiet_too_and_says_what_it_would_do(stage: Stage) -> None:
    ended = stage.play(play("work", "home", WATCH), "--check")
    assert ended.code == 0, ended.output
    assert "An instance would be made." in ended.output
    assert not [line for line in ended.output.splitlines() if line.startswith(QUIET)]


def test_another_projects_playbook_on_the_same_command_line_is_untouched(stage: Stage) -> None:
    other = stage.path / "other.yml"
    other.write_text(
        "- name: Other\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - name: Say\n      ansible.builtin.debug:\n        msg: hello\n"
    )
    output = stage.play(play("work", "home", WATCH), str(other)).output
    ours, _, theirs = output.partition("PLAY [Other]")
    assert "TASK [" not in ours
    for words in ("TASK [Say]", "ok: [localhost] => {", "PLAY RECAP"):
        assert words in theirs


def test_a_reader_that_goes_away_does_not_end_the_run(stage: Stage) -> None:
    command = stage.command(play("work", "home", WATCH) + play("release", "localhost", WATCH))
    # stdin and stderr of its own: the test runner's may be non-blocking, which Ansible refuses to start with.
    with subprocess.Popen(
        command,
        cwd="/",
        env=stage.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(90) == 0
    folder = stage.runs / "latest"
    assert '"status": "succeeded"' in (folder / "summary.json").read_text()
    assert "release: Phase release" in (folder / "logs" / "console.log").read_text()


def test_no_secret_is_shown(stage: Stage) -> None:
    tasks = f"""
- name: Say too much
  ansible.builtin.debug:
    msg: the token is {SECRET}
- name: Break it
  ansible.builtin.fail:
    msg: "{SECRET} was refused"
"""
    output = stage.play(play("work", "home", tasks)).output
    assert SECRET not in output
    assert "the token is ********" in output


def test_ansible_runner_gets_progress_as_events_and_no_control_characters(stage: Stage, tmp_path: Path) -> None:
    program, _, inventory, *given, playbook = stage.command(play("work", "home", WATCH))
    private = tmp_path / "private"
    private.mkdir()
    events: list[dict[str, object]] = []
    runner = ansible_runner.run(
        private_data_dir=str(private),
        playbook=playbook,
        inventory=inventory,
        cmdline=" ".join(given),
        envvars={"PATH": f"{Path(program).parent}:{os.environ['PATH']}", "TERM": "xterm"},
        quiet=True,
        event_handler=lambda event: events.append(event) or True,
    )
    assert runner.rc == 0
    lines = [str(event["stdout"]) for event in events if event["event"] == "verbose"]
    assert sum("[home] sonic Music: [" in line for line in lines) == 5
    assert not [line for line in lines if "\r" in line or "\x1b[2K" in line]
    kinds = {event["event"] for event in events}
    assert {"playbook_on_task_start", "runner_on_ok", "runner_on_skipped", "playbook_on_stats"} <= kinds
