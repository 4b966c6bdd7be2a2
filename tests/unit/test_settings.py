"""What a person says, in whatever form it arrives, becomes a typed value or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.plex.watch.profiles import PROFILES
from ansible_collections.plexburst.core.plugins.module_utils.run.settings import (
    SettingsError,
    base_dir,
    load_spec,
    resolve,
    runs_dir_problem,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from plexburst.settings_doc import render_markdown

PROJECT = Path(__file__).resolve().parents[2]
SPEC = load_spec(PROJECT / "settings.yml")
NEEDED = {
    "plexburst_media": [{"remote": "media-s3:media", "path": "/Media"}],
    "plexburst_account_token_file": "/tokens/plex",
    "plexburst_home_config_dir": "/srv/plex",
}


def value(name: str, said: object) -> object:
    return resolve(SPEC, {**NEEDED, f"plexburst_{name}": said}, base=PROJECT)[name]


def problems(**said: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        resolve(SPEC, {**NEEDED, **{f"plexburst_{name}": word for name, word in said.items()}}, base=PROJECT)
    return caught.value.problems


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Music", ["Music"]),
        ("Music,Movies", ["Music", "Movies"]),
        (" Music , TV Shows ", ["Music", "TV Shows"]),
        ('["Music"]', ["Music"]),
        ('["Rock, Pop"]', ["Rock, Pop"]),
        ("[Music, Movies]", ["Music", "Movies"]),
        (["Music"], ["Music"]),
        (2001, ["2001"]),
        ("", []),
        ([], []),
        (None, []),
    ],
)
def test_a_list_is_understood_however_it_was_said(said: object, meant: list[str]) -> None:
    assert value("sections", said) == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("false", False),
        ("False", False),
        ("no", False),
        ("0", False),
        ("true", True),
        ("yes", True),
        (True, True),
        (1, True),
    ],
)
def test_the_word_false_is_not_true(said: object, meant: bool) -> None:
    assert value("skip_sonic", said) is meant


@pytest.mark.parametrize(("said", "meant"), [("3", 3), (3, 3), ("3.0", 3)])
def test_a_number_in_words_is_a_number(said: object, meant: int) -> None:
    kept = value("backups_keep", said)
    assert kept == meant
    assert type(kept) is int


@pytest.mark.parametrize("said", ["three", "3.5", True, [3], "nan", "inf", ""])
def test_what_is_no_whole_number_is_refused(said: object) -> None:
    assert "plexburst_backups_keep: expected a whole number" in problems(backups_keep=said)[0]


@pytest.mark.parametrize("said", ["perhaps", 2, [], {"a": 1}])
def test_what_is_neither_true_nor_false_is_refused(said: object) -> None:
    assert "expected true or false" in problems(skip_sonic=said)[0]


def test_bounds_hold() -> None:
    assert problems(backups_keep="0") == ["plexburst_backups_keep: expected at least 1; found 0."]
    assert problems(max_hours="200") == ["plexburst_max_hours: expected at most 168; found 200."]


def test_a_choice_takes_a_boolean_that_yaml_made_of_it() -> None:
    assert value("install", True) == "true"
    assert value("install", "ask") == "ask"
    assert "expected one of ask, true, false" in problems(install="maybe")[0]


def test_all_problems_come_at_once() -> None:
    found = problems(skip_sonic="perhaps", backups_keep="x", profile="slow", skip_sonics="1")
    assert len(found) == 4


def test_an_unknown_name_comes_with_the_nearest_one() -> None:
    assert problems(section="Music") == [
        "plexburst_section is not a setting. Did you mean plexburst_sections? settings.yml lists all settings."
    ]


def test_a_name_like_nothing_else_comes_without_a_guess() -> None:
    assert "Did you mean" not in problems(qqqqqq=1)[0]


def test_the_phase_of_a_play_is_no_setting() -> None:
    resolve(SPEC, {**NEEDED, "plexburst_phase": "index"}, base=PROJECT)


def test_what_is_required_is_asked_for_with_its_meaning() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(SPEC, {}, base=PROJECT)
    assert {line.split()[0] for line in caught.value.problems} == {
        "plexburst_media",
        "plexburst_account_token_file",
        "plexburst_home_config_dir",
    }


def test_a_playbook_may_need_less() -> None:
    assert resolve(SPEC, {}, base=PROJECT, required=[])["provider"] == "scaleway"


def test_media_as_json_from_the_command_line() -> None:
    assert value("media", '[{"remote": "s3:media", "path": "/Media"}]') == [{"remote": "s3:media", "path": "/Media"}]


@pytest.mark.parametrize(
    ("media", "words"),
    [
        ([{"remote": "s3:media"}], "each entry needs the key 'path'"),
        ([{"remote": "s3:media", "path": "/M", "mode": "rw"}], "found also mode"),
        ([{"remote": "s3:media", "path": "Media"}], "is not absolute"),
        ([{"remote": "media", "path": "/Media"}], "has no colon"),
        ([{"remote": "a:b", "path": "/M"}, {"remote": "c:d", "path": "/M"}], "listed twice"),
    ],
)
def test_media_that_cannot_be_meant_is_refused(media: object, words: str) -> None:
    assert words in problems(media=media)[0]


def test_an_environment_is_text_to_text() -> None:
    assert value("indexer_plex_environment", {"PLEX_SIM_SPEED": 0.1, "DEBUG": True}) == {
        "PLEX_SIM_SPEED": "0.1",
        "DEBUG": "true",
    }
    assert value("indexer_plex_environment", "A=1,B=x=y") == {"A": "1", "B": "x=y"}


def test_single_values_of_the_profile_are_replaced_and_a_wrong_one_is_refused_before_anything_is_paid() -> None:
    assert value("profile_overrides", "stall_after=7200,quiet_for=120") == {"stall_after": "7200", "quiet_for": "120"}
    assert value("profile_overrides", {"restarts": 1}) == {"restarts": "1"}
    assert "no value 'stall'. Its values are: " in problems(profile_overrides={"stall": 7200})[0]
    assert "must be a number, got 'an hour'" in problems(profile_overrides={"stall_after": "an hour"})[0]
    assert "must be finite and not negative, got '-1'" in problems(profile_overrides={"stall_after": -1})[0]


def test_a_controller_path_is_meant_from_the_base_and_a_remote_one_is_not_touched() -> None:
    assert value("runs_dir", "elsewhere") == str(PROJECT / "elsewhere")
    assert value("runs_dir", "/var/runs") == "/var/runs"
    assert value("rclone_config", "~/x") == str(Path.home() / "x")
    assert value("indexer_dir", "~/plexburst") == "~/plexburst"
    assert "expected an absolute path" in problems(indexer_dir="plexburst")[0]


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """An installed collection and a checkout, each with an inventory, and a user's folder with two."""
    for folder in ("installed/inventory/example", "checkout/inventory/mine", "mine/inventory", "mine/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "checkout" / "galaxy.yml").touch()
    (tmp_path / "mine" / "inventory" / "hosts.yml").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("inventories", "collection", "current", "base"),
    [
        (["mine/inventory"], "installed", ".", "mine"),
        (["mine/inventory/hosts.yml"], "installed", ".", "mine/inventory"),
        (["mine/missing", "home.example,", "mine/other"], "installed", ".", "mine"),
        (["/etc/ansible/hosts"], "installed", "mine", "mine"),
        ([], "installed", "mine", "mine"),
        (["installed/inventory/example"], "installed", "mine", "mine"),
        (["checkout/inventory/mine"], "checkout", "mine", "checkout"),
        (["mine/inventory"], "checkout", "checkout", "mine"),
        ([], "checkout", "checkout/inventory", "checkout"),
        ([], "checkout", "mine", "mine"),
    ],
)
def test_a_relative_path_begins_beside_the_inventory(
    inventories: list[str], collection: str, current: str, base: str, places: Path
) -> None:
    given = [name if name.startswith("/") or "," in name else str(places / name) for name in inventories]
    assert base_dir(given, places / collection, places / current) == places / base


def test_run_folders_are_refused_in_an_installed_collection_and_nowhere_else(places: Path) -> None:
    (places / "link").symlink_to(places / "installed")
    for name in ("installed", "installed/inventory/runs", "link/runs"):
        assert "the next installation of the collection deletes it" in runs_dir_problem(
            str(places / name), places / "installed"
        )
    assert runs_dir_problem(str(places / "installed-runs"), places / "installed") == ""
    assert runs_dir_problem(str(places / "checkout" / "runs"), places / "checkout") == ""


def test_no_way_to_run_a_process_without_its_command() -> None:
    assert problems(indexer_runtime="process") == [
        "plexburst_indexer_plex_command is missing. The runtime `process` needs it.",
        "plexburst_indexer_plex_sqlite is missing. The runtime `process` needs it.",
    ]


@hypothesis_settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(sorted(SPEC.settings)), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text()))
    )
)
def test_whatever_is_said_becomes_values_or_sentences(said: dict[str, object]) -> None:
    try:
        values = resolve(SPEC, {f"plexburst_{name}": word for name, word in said.items()}, base=PROJECT)
    except SettingsError as error:
        assert error.problems
        assert all(problem.endswith((".", "?")) for problem in error.problems)
    else:
        assert set(values) == set(SPEC.settings)


def test_typed_values_are_understood_again() -> None:
    values = resolve(SPEC, NEEDED, base=PROJECT)
    again = resolve(SPEC, {f"plexburst_{name}": word for name, word in values.items()}, base=PROJECT)
    assert again == values


def test_a_window_that_is_none_is_refused_before_anything_is_paid() -> None:
    assert value("install_window", "22:30-04:00") == "22:30-04:00"
    (problem,) = problems(install_window="at night")
    assert "plexburst_install_window" in problem
    assert "02:00-06:00" in problem


@pytest.mark.parametrize("other", ["skip_sonic", "quick_test"])
def test_sonic_alone_does_not_go_without_sonic(other: str) -> None:
    (problem,) = problems(apply="sonic", **{other: True})
    assert f"plexburst_{other} skips Sonic" in problem


def test_a_specification_with_a_mistake_is_refused_with_its_place(tmp_path: Path) -> None:
    wrong = tmp_path / "settings.yml"
    wrong.write_text(
        "groups: [{name: g, title: G}]\nsettings:\n"
        "  a: {group: g, type: int, default: x, words: w}\n  b: {group: h, type: int, default: 1, words: w}\n"
        "  c: {group: g, type: int, default: 1}\n  d: {group: g, type: int, default: 1, words: w, colour: red}\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_spec(wrong)
    assert len(caught.value.problems) == 4


def test_the_table_for_people_has_every_setting_once() -> None:
    table = render_markdown()
    assert all(table.count(f"| `plexburst_{name}` |") == 1 for name in SPEC.settings)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"transfer": "s3"}, ["plexburst_transfer_remote is missing", "plexburst_transfer_password_file is missing"]),
        ({"transfer_remote": "s3:relay"}, ["plexburst_transfer_password_file is missing"]),
        ({"transfer": "s3", "transfer_remote": "bucket", "transfer_password_file": "/p"}, ["has no colon"]),
    ],
)
def test_a_relay_without_a_place_or_a_passphrase_is_refused(said: dict[str, str], words: list[str]) -> None:
    found = problems(**said)
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


def test_the_settings_page_is_current() -> None:
    assert (PROJECT / "docs" / "settings.md").read_text(encoding="utf-8") == render_markdown(), "run make docs"


def test_every_profile_that_can_be_chosen_exists_and_every_one_that_exists_can_be_chosen() -> None:
    assert set(SPEC.settings["profile"].choices or ()) == set(PROFILES)
