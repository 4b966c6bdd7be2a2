"""The filters refuse half runs, unsafe volumes and unusable configurations with words, and pass everything else on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.collections import ImmutableDict
from ansible_collections.plexburst.core.plugins.filter import plexburst


@pytest.fixture
def cliargs() -> Iterator[Any]:
    before = context.CLIARGS

    def set_to(**options: Any) -> None:
        context.CLIARGS = ImmutableDict(options)

    yield set_to
    context.CLIARGS = before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"subset": "plex_cloud"}, "--limit plex_cloud"),
        ({"tags": ["index", "all2"]}, "--tags all2,index"),
        ({"tags": ["all"], "skip_tags": ["release"]}, "--skip-tags release"),
        ({"start_at_task": "Index"}, "--start-at-task 'Index'"),
    ],
)
def test_an_option_that_skips_the_release_is_refused(cliargs: Any, options: dict[str, Any], words: str) -> None:
    cliargs(**options)
    with pytest.raises(AnsibleFilterError, match="cannot run in part") as error:
        plexburst.whole_run("localhost")
    assert words in str(error.value)


@pytest.mark.parametrize(
    "options", [{}, {"tags": ["all"], "skip_tags": [], "subset": None, "start_at_task": None, "check": True}]
)
def test_a_whole_run_goes_on(cliargs: Any, options: dict[str, Any]) -> None:
    cliargs(**options)
    assert plexburst.whole_run("localhost") == "localhost"


def test_a_runs_group_is_a_valid_group_name() -> None:
    assert plexburst.run_group("20261122-071500-ab12") == "plexburst_run_20261122_071500_ab12"
    with pytest.raises(AnsibleFilterError):
        plexburst.run_group("")


@pytest.mark.parametrize("variables", [{}, {"localhost": {}}])
def test_before_a_run_has_begun_its_stages_match_localhost_alone(variables: dict[str, Any]) -> None:
    assert plexburst.run_hosts(variables) == "plexburst_no_run:localhost"


def test_a_stage_on_the_indexer_runs_on_the_group_of_its_run_and_localhost() -> None:
    assert plexburst.run_hosts({"localhost": {"run_group": "plexburst_run_x"}}) == "plexburst_run_x:localhost"


def test_volumes_become_arguments_and_are_read_only_unless_said_otherwise() -> None:
    volumes = [{"host": "/a b", "path": "/Media"}, {"host": "/c,d", "path": "/Photos", "read_only": False}]
    assert plexburst.volume_arguments(volumes) == ["--volume", "/a b:/Media:ro", "--volume", "/c,d:/Photos"]
    assert plexburst.docker_mounts(volumes) == [
        "--mount",
        "type=bind,source=/a b,target=/Media,bind-propagation=rslave,readonly",
        "--mount",
        'type=bind,"source=/c,d",target=/Photos,bind-propagation=rslave',
    ]


@pytest.mark.parametrize("volume", [{"host": "a", "path": "/b"}, {"host": "/a:b", "path": "/b"}, {"path": "/b"}])
def test_a_volume_that_docker_would_misread_is_refused(volume: dict[str, str]) -> None:
    with pytest.raises(AnsibleFilterError, match="absolute paths without a colon"):
        plexburst.docker_mounts([volume])


def test_an_environment_becomes_sorted_arguments() -> None:
    assert plexburst.docker_environment({"B": 1, "A": "x y"}) == ["--env", "A=x y", "--env", "B=1"]


def test_systemd_takes_a_quoted_value_literally() -> None:
    assert plexburst.systemd_quote('a "b" 100% $HOME \\') == '"a \\"b\\" 100%% $$HOME \\\\"'
    with pytest.raises(AnsibleFilterError):
        plexburst.systemd_quote("a\nb")


CONF = "[m]\ntype = s3\naccess_key_id = AKID\nsecret_access_key = TOPSECRET\n\n[f]\ntype = sftp\nkey_file = ~/k\n"


def test_a_subset_that_would_not_work_elsewhere_is_refused() -> None:
    assert plexburst.rclone_subset(CONF, ["m:x"]) == CONF[: CONF.index("\n[f]")]
    with pytest.raises(AnsibleFilterError, match=r"cannot be used on the indexer.*key_file"):
        plexburst.rclone_subset(CONF, ["f:"])
    with pytest.raises(AnsibleFilterError, match="has no remote"):
        plexburst.rclone_subset(CONF, ["nothing:"])


def result(**values: Any) -> dict[str, Any]:
    return {"ansible_loop_var": "mount", "mount": {"remote": "m:media"}, "rc": 0, "stdout": "", "stderr": "", **values}


def test_a_refused_key_is_named_with_remote_and_cause_and_without_the_secret() -> None:
    log = '{"level":"error","msg":"listing"}\n{"level":"notice","msg":"Failed to sync: BadKey TOPSECRET."}'
    (sentence,) = plexburst.rclone_failures([result(rc=1, stderr=log)], CONF)
    assert sentence.startswith("rclone could not read m:media (exit code 1): Failed to sync: BadKey ****")
    assert "TOPSECRET" not in sentence


def test_an_empty_remote_is_a_failure_where_media_are_expected() -> None:
    empty = '{"level":"notice","msg":"","stats":{"checks":2,"deletes":2,"transfers":0}}'
    assert "m:media is empty" in plexburst.rclone_failures([result(stderr=empty)], CONF, "files")[0]
    assert "m:media is empty" in plexburst.rclone_failures([result()], CONF, "listing")[0]
    assert plexburst.rclone_failures([result(stdout="Music/\n")], CONF, "listing") == []
    warned = '{"level": "warning", "msg": "s3 provider \\"Rclone\\" not known - please set correctly"}\n'
    assert plexburst.rclone_failures([result(stdout="Music/\n", stderr=warned)], CONF, "listing") == []
    assert plexburst.rclone_failures([{"skipped": True}], CONF, "files") == []


def test_a_missing_rclone_is_named_by_its_message() -> None:
    failed = result(rc=2, msg="No such file or directory: rclone", mount=[{"remote": "m:media"}, {}])
    assert "No such file or directory" in plexburst.rclone_failures([failed], CONF)[0]


def test_machines_that_are_too_small_are_refused_by_the_filters() -> None:
    assert plexburst.rclone_parameters("32000", "8", "100")["buffer_size_mb"] == 256
    assert plexburst.container_limits(32000, 8)["cpus"] == 8
    with pytest.raises(AnsibleFilterError, match="larger instance type"):
        plexburst.container_limits(512, 1)
    with pytest.raises(AnsibleFilterError, match="larger instance type"):
        plexburst.rclone_parameters(512, 4, 20)


def test_media_volumes_lie_where_homes_database_says() -> None:
    mounts = [{"remote": "m:", "path": "/opt/0", "target": "/Media"}, {"remote": "m:x", "path": "/data/x"}]
    assert plexburst.media_volumes(mounts) == [
        {"host": "/opt/0", "path": "/Media", "read_only": True},
        {"host": "/data/x", "path": "/data/x", "read_only": True},
    ]


def test_media_mounts_give_each_remote_a_folder_of_its_own() -> None:
    media = [{"remote": "m:media", "path": "/Media"}, {"remote": "n:", "path": "/Photo"}]
    assert plexburst.media_mounts(media, "/opt/plexburst/media") == [
        {"remote": "m:media", "path": "/opt/plexburst/media/0", "target": "/Media"},
        {"remote": "n:", "path": "/opt/plexburst/media/1", "target": "/Photo"},
    ]


@pytest.mark.parametrize(
    ("made", "because"),
    [
        ("plexinc/pms-docker:public", "the image's tag public"),
        ("docker.io/plexinc/pms-docker:beta\nPLEX_UPDATE_CHANNEL=8", "the image's tag beta"),
        ("lscr.io/linuxserver/plex:latest\nVERSION=latest", "VERSION=latest"),
        ("linuxserver/plex\nVERSION=public\nPLEXPASS=", "VERSION=public"),
        ("linuxserver/plex\nVERSION=1.43.4.10903-e5521bd8c\nPLEXPASS=1", "PLEXPASS=1"),
    ],
)
def test_a_home_that_updates_itself_is_told_why_and_what_to_pin(made: str, because: str) -> None:
    words = plexburst.self_update({"rc": 0, "stdout": made}, "plex", "1.43.4.10903-e5521bd8c")
    assert f"({because})" in words
    assert "the tag 1.43.4.10903-e5521bd8c of" in words


@pytest.mark.parametrize(
    "made",
    [
        "plexinc/pms-docker:1.43.4.10903-e5521bd8c\nPLEX_UPDATE_CHANNEL=5",
        "plexinc/pms-docker:latest",
        "plexinc/pms-docker",
        "registry.home:5000/plexinc/pms-docker@sha256:0123abcd",
        "linuxserver/plex:latest\nVERSION=docker\nPLEXPASS=1",
        "linuxserver/plex:latest",
        "linuxserver/plex:latest\nVERSION=latest\nADVANCED_DISABLEUPDATES=yes",
        "linuxserver/plex:latest\nVERSION=1.43.4.10903-e5521bd8c",
    ],
)
def test_a_home_that_stays_what_it_is_is_not_warned(made: str) -> None:
    assert plexburst.self_update({"rc": 0, "stdout": made}, "plex", "1.0") == ""


def test_a_container_that_is_not_there_is_said_before_anything_is_paid() -> None:
    with pytest.raises(AnsibleFilterError, match=r"named plecs .*No such container.*plexburst_home_container"):
        plexburst.self_update({"rc": 1, "stderr": "Error: No such container: plecs"}, "plecs")
    assert plexburst.self_update({"skipped": True}, "plex") == ""


def test_every_filter_is_exported() -> None:
    public = {
        name
        for name, value in vars(plexburst).items()
        if getattr(value, "__module__", "") == plexburst.__name__ and name[0].islower()
    }
    assert set(plexburst.FilterModule().filters()) == public - {"partial_run_reasons"}


VOLUMES = [
    {"host": "/opt/m/0", "path": "/Media", "read_only": True},
    {"host": "/opt/m/1", "path": "/Photo", "read_only": True},
]


def test_without_mappings_volumes_are_what_they_were() -> None:
    assert plexburst.mapped_volumes(VOLUMES, []) == VOLUMES


def test_a_mapped_volume_appears_under_its_other_name() -> None:
    found = plexburst.mapped_volumes(VOLUMES, [{"from": "/Media", "to": "/srv/media"}])
    assert [(volume["host"], volume["path"]) for volume in found] == [
        ("/opt/m/0", "/srv/media"),
        ("/opt/m/1", "/Photo"),
    ]


def test_a_mapped_folder_within_a_volume_becomes_a_volume_of_its_own() -> None:
    found = plexburst.mapped_volumes(VOLUMES, [{"from": "/Media/TV", "to": "/srv/tv"}])
    assert found == [*VOLUMES, {"host": "/opt/m/0/TV", "path": "/srv/tv", "read_only": True}]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [({"from": "/Med", "to": "/srv"}, "not in any folder"), ({"from": "Media", "to": "/srv"}, "absolute")],
)
def test_a_mapping_that_no_volume_covers_is_refused(mapping: dict[str, str], words: str) -> None:
    with pytest.raises(AnsibleFilterError, match=words):
        plexburst.mapped_volumes(VOLUMES, [mapping])


def test_paths_and_volumes_are_given_to_modules_in_their_words() -> None:
    assert plexburst.mapped_paths(["/Media/TV/a"], [{"from": "/Media/TV", "to": "/x"}]) == ["/x/a"]
    assert plexburst.path_pairs(VOLUMES)[1] == {"path": "/Photo", "host": "/opt/m/1"}


def test_times_are_compared_under_both_names() -> None:
    sample = [{"section": 1, "title": "Music", "path": "/Media/a", "size": 1, "updated_at": 5}]
    home, indexer = {"/Media/a": {"mtime": 5.0, "size": 1}}, {"/srv/a": {"mtime": 900.0, "size": 1}}
    assert plexburst.times_verdict(sample, home, indexer, ["/srv/a"])["problems"]
    assert plexburst.times_verdict(sample, home, {"/srv/a": home["/Media/a"]}, ["/srv/a"]) == {
        "problems": [],
        "notes": [],
    }
