"""Which files home's Plex sees: real folders, folders that hang, and what must never be taken for gone."""

from __future__ import annotations

import os
import re
import stat
import time
from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.errors import PlexDatabaseError
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping import presence
from ansible_collections.plexburst.core.plugins.module_utils.plex_db.path_mapping.presence import (
    ABSENT,
    PRESENT,
    UNKNOWN,
)

QUICK = presence.Limits(folder_seconds=2, total_seconds=60)


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = Path(os.fsdecode(os.fsencode(root / name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_each_file_is_present_or_absent_whatever_its_name_is(tmp_path: Path) -> None:
    odd = ['it\'s $(here) `x` "y"', "two\nlines", "Été.mkv", "trailing ", "-n", "\udce9t\udce9 latin.mkv", "*"]
    there = [f"{tmp_path}/Movies/{name}" for name in odd]
    fill(tmp_path, *(f"Movies/{name}" for name in odd))
    gone = [f"{path}.gone" for path in there] + [f"{tmp_path}/Movies/No such folder/a.mkv"]
    found = presence.look([*there, *gone], [f"{tmp_path}/Movies"], presence.View())
    assert {found.state[path] for path in there} == {PRESENT}
    assert {found.state[path] for path in gone} == {ABSENT}
    assert found.kept == sorted(there)


def test_an_error_that_is_not_no_such_file_is_unknown(tmp_path: Path) -> None:
    """As a dead FUSE mount answers: "Transport endpoint is not connected"; here a loop of links stands for it."""
    fill(tmp_path, "Movies/there.mkv")
    (tmp_path / "Movies" / "loop").symlink_to(tmp_path / "Movies" / "loop")
    (tmp_path / "Movies" / "nowhere.mkv").symlink_to(tmp_path / "unplugged" / "nowhere.mkv")
    wanted = [f"{tmp_path}/Movies/loop/film.mkv", f"{tmp_path}/Movies/nowhere.mkv", "https://example.com/film.mkv"]
    found = presence.look(wanted, [f"{tmp_path}/Movies"], presence.View())
    assert set(found.state.values()) == {UNKNOWN}
    assert "a broken link" in str(found.reasons())


def test_a_file_that_may_not_be_looked_at_is_unknown(tmp_path: Path) -> None:
    docker = tmp_path / "bin" / "docker"
    executable(tmp_path / "bin" / "stat", "#!/bin/sh\necho \"stat: cannot statx 'x': Permission denied\" >&2\nexit 1\n")
    executable(docker, f'#!/bin/sh\nshift 3\nPATH={docker.parent}:$PATH exec "$@"\n')
    fill(tmp_path, "Movies/there.mkv")
    view = presence.View(container="plex", docker=str(docker))
    found = presence.look([f"{tmp_path}/Movies/a.mkv"], [f"{tmp_path}/Movies"], view)
    assert found.reasons() == [f"1 file(s): Permission denied, such as {tmp_path}/Movies/a.mkv"]


@pytest.mark.parametrize("root", ["Empty", "Not there"])
def test_nothing_below_a_section_folder_that_is_empty_or_not_there_is_gone(tmp_path: Path, root: str) -> None:
    """A disk that is not mounted leaves an empty folder: its files are missing, not deleted."""
    (tmp_path / "Empty").mkdir()
    fill(tmp_path, "Movies/there.mkv")
    wanted = f"{tmp_path}/{root}/Film/film.mkv"
    found = presence.look(
        [wanted, f"{tmp_path}/Movies/a.mkv"], [f"{tmp_path}/{root}", f"{tmp_path}/Movies"], presence.View()
    )
    assert found.state == {wanted: UNKNOWN, f"{tmp_path}/Movies/a.mkv": ABSENT}
    assert presence.NO_ROOT in found.why[wanted]


def hanging(tmp_path: Path, word: str) -> Path:
    """A Docker whose shell hangs at a folder with that word in its name: its `test` is a command that sleeps."""
    mark = f"{tmp_path}/pids"
    delta = f"look() {{ case $1 in *{word}*) sleep 600 & echo $! >> {mark}; echo $$ >> {mark}; wait ;; esac;"
    return executable(
        tmp_path / "bin" / "docker",
        "#!/usr/bin/env python3\n"
        "import os, sys\n"
        "words = sys.argv[4:]\n"
        f"words = [word.replace('look() {{', {delta!r}) for word in words]\n"
        "os.setsid() if os.getpgid(0) != os.getpid() else None\n"
        "os.execvp(words[0], words)\n",
    )


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def test_a_folder_that_hangs_is_unknown_the_rest_is_found_and_no_process_is_left(tmp_path: Path) -> None:
    fill(tmp_path, "Movies/A/a.mkv", "Movies/Hung/h.mkv", "Movies/Hung/Deep/d.mkv", "Movies/Z/z.mkv")
    view = presence.View(container="plex", docker=str(hanging(tmp_path, "Hung")))
    names = ("A/a", "A/gone", "Hung/Deep/d", "Hung/h", "Hung/gone", "Z/gone", "Z/z")
    started = time.monotonic()
    found = presence.look([f"{tmp_path}/Movies/{name}.mkv" for name in names], [f"{tmp_path}/Movies"], view, QUICK)
    states = [found.state[f"{tmp_path}/Movies/{name}.mkv"] for name in names]
    assert states == [PRESENT, ABSENT, UNKNOWN, UNKNOWN, UNKNOWN, ABSENT, PRESENT]
    assert time.monotonic() - started < 30
    assert found.reasons()[0].startswith("3 file(s): its folder does not answer, such as ")
    pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
    assert len(pids) >= 2
    end = time.monotonic() + 5
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert [pid for pid in pids if alive(pid)] == []


def test_the_whole_look_is_bounded_in_time_and_in_number(tmp_path: Path) -> None:
    fill(tmp_path, *(f"Movies/Hung{number}/f.mkv" for number in range(20)))
    view = presence.View(container="plex", docker=str(hanging(tmp_path, "Hung")))
    wanted = [f"{tmp_path}/Movies/Hung{number}/f.mkv" for number in range(20)]
    started = time.monotonic()
    found = presence.look(wanted, [], view, presence.Limits(folder_seconds=1, total_seconds=2.5))
    assert time.monotonic() - started < 20
    assert set(found.state.values()) == {UNKNOWN}
    assert presence.NO_TIME in found.why.values()
    few = presence.look(wanted, [], presence.View(), presence.Limits(files=3))
    assert (len(few.of(PRESENT)), len(few.of(UNKNOWN))) == (3, 17)


@pytest.mark.parametrize("words", ["echo 'Error: No such container: plex' >&2; exit 1", "exit 0"])
def test_a_container_that_cannot_be_asked_makes_all_unknown_with_the_cause(tmp_path: Path, words: str) -> None:
    docker = executable(tmp_path / "docker", f"#!/bin/sh\n{words}\n")
    found = presence.look(["/Media/a.mkv"], ["/Media"], presence.View(container="plex", docker=str(docker)))
    assert found.state == {"/Media/a.mkv": UNKNOWN}
    assert re.search("No such container|no message", found.reasons()[0])
    nothing = presence.look(["/Media/a.mkv"], [], presence.View(container="plex", docker=str(tmp_path / "absent")))
    assert "the check at home could not start" in nothing.reasons()[0]


def test_a_plex_on_the_host_is_given_the_hosts_names_and_its_own_are_answered(tmp_path: Path) -> None:
    fill(tmp_path, "one/a.mkv", "two/b.mkv")
    view = presence.View(path_map={"/Media": f"{tmp_path}/one", "/Media/More/": f"{tmp_path}/two/"})
    found = presence.look(["/Media/a.mkv", "/Media/More/b.mkv", "/Media/More/a.mkv"], ["/Media"], view)
    assert found.state == {"/Media/a.mkv": PRESENT, "/Media/More/b.mkv": PRESENT, "/Media/More/a.mkv": ABSENT}


def test_twenty_thousand_files_are_looked_for_in_seconds(tmp_path: Path) -> None:
    fill(tmp_path, *(f"Music/{number % 100}/{number}.flac" for number in range(2000)))
    wanted = [f"{tmp_path}/Music/{number % 100}/{number}.flac" for number in range(2000)]
    wanted += [f"{tmp_path}/Music/gone {number % 400}/{number}.flac" for number in range(18_000)]
    started = time.monotonic()
    found = presence.look(wanted, [f"{tmp_path}/Music"], presence.View())
    assert (len(found.of(PRESENT)), len(found.of(ABSENT))) == (2000, 18_000)
    assert time.monotonic() - started < 60


def test_paths_survive_the_way_to_home_and_a_damaged_list_is_refused() -> None:
    paths = ["/Media/\udce9t\udce9.mkv", "/Media/two\nlines", "/Media/Été.mkv"]
    assert presence.unpack(presence.pack(paths)) == paths
    assert presence.unpack(presence.pack([])) == []
    with pytest.raises(PlexDatabaseError, match="damaged"):
        presence.unpack("not a list")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as somebody else")
def test_on_the_host_it_looks_as_plexs_user(tmp_path: Path) -> None:
    docker = presence.View(user=(65534, 65534))
    fill(tmp_path, "Movies/secret/a.mkv", "Movies/b.mkv")
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o001)
    (tmp_path / "Movies" / "secret").chmod(0o700)
    (tmp_path / "Movies").chmod(0o755)
    found = presence.look(
        [f"{tmp_path}/Movies/secret/a.mkv", f"{tmp_path}/Movies/b.mkv"], [f"{tmp_path}/Movies"], docker
    )
    assert list(found.state.values()) == [PRESENT, UNKNOWN]
