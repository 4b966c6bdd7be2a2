"""Only what the media remote needs leaves the controller, unchanged, and nothing of it is ever shown."""

from __future__ import annotations

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.transfer import rclone_config
from ansible_collections.plexburst.core.plugins.module_utils.transfer.rclone_config import RcloneConfError
from hypothesis import given
from hypothesis import strategies as st

CONF = """\
; made by hand
[private-dropbox]
type = dropbox
token = {"access_token":"DROPBOX-SECRET"}

[media-s3]
type = s3
# Scaleway, read only
provider = Scaleway
access_key_id = SCWXXXXXXXXXXXXXXXXX
secret_access_key = abc%d=e f#g
Endpoint = s3.fr-par.scw.cloud

[other-s3]
type = s3
secret_access_key = OTHER-SECRET

[nas]
type = sftp
pass = NAS-SECRET
key_file = ~/.ssh/nas

[locked]
type = crypt
remote = media-s3:media/locked
password = CRYPT-SECRET

[all]
type = union
upstreams = locked:films:ro "media-s3:my media" media-s3:b:nc

[parts]
type = combine
upstreams = films=locked: "music=other-s3:mu sic"

[short]
type = alias
remote = all:sub

[onpath]
type = alias
remote = /mnt/disk

[loop-a]
type = alias
remote = loop-b:

[loop-b]
type = hasher
remote = loop-a:x
"""


def names(*remotes: str) -> list[str]:
    return list(rclone_config.subset(rclone_config.parse(CONF), remotes))


@pytest.mark.parametrize(
    ("remotes", "expected"),
    [
        (["media-s3:media"], ["media-s3"]),
        (["media-s3"], ["media-s3"]),
        (["locked:"], ["media-s3", "locked"]),
        (["short:x"], ["media-s3", "locked", "all", "short"]),
        (["parts:"], ["media-s3", "other-s3", "locked", "parts"]),
        (["media-s3,chunk_size=16M:media"], ["media-s3"]),
        (["other-s3:a", "media-s3:b"], ["media-s3", "other-s3"]),
        ([":s3,provider=Other:bucket"], []),
    ],
)
def test_a_subset_holds_the_remotes_and_all_they_wrap_and_nothing_else(remotes: list[str], expected: list[str]) -> None:
    assert names(*remotes) == expected


@pytest.mark.parametrize(
    ("remote", "words"),
    [
        ("media-s4:media", "has no remote [media-s4]. Its remotes are: all, "),
        ("onpath:", "`/mnt/disk` (wrapped by [onpath]) is a local path"),
        ("/mnt/media", "is a local path"),
        ("loop-a:", "wraps itself: loop-a → loop-b → loop-a"),
    ],
)
def test_a_remote_that_cannot_work_elsewhere_is_refused_with_words(remote: str, words: str) -> None:
    with pytest.raises(RcloneConfError) as error:
        names(remote)
    assert words in str(error.value)


def test_a_sections_lines_come_out_as_they_went_in() -> None:
    text = rclone_config.render(rclone_config.subset(rclone_config.parse(CONF), ["media-s3:"]).values())
    assert text == CONF[CONF.index("[media-s3]") : CONF.index("\n[other-s3]")]
    assert rclone_config.parse(text)["media-s3"].options["secret_access_key"] == "abc%d=e f#g"
    assert "Endpoint" in rclone_config.parse(text)["media-s3"].options


def test_rendering_and_parsing_again_changes_nothing() -> None:
    once = rclone_config.parse(CONF)
    assert rclone_config.parse(rclone_config.render(once.values())) == once
    assert rclone_config.render([]) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nAAAA", "encrypted with a password"),
        ("key = value\n", "before the first [remote] heading"),
        ("[a]\ntype = s3\n[a]\n", "[a] twice (again at line 3)"),
        ("[a]\nMYSECRET\n", "Line 2 of the rclone.conf, in [a], does not have the form key = value"),
        ("[]\n", "heading without a name"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_that_shows_no_value(text: str, words: str) -> None:
    with pytest.raises(RcloneConfError) as error:
        rclone_config.parse(text)
    assert words in str(error.value)
    assert "MYSECRET" not in str(error.value)


def test_a_wrapper_without_anything_to_wrap_is_an_error() -> None:
    with pytest.raises(RcloneConfError, match="has no `remote`"):
        rclone_config.subset(rclone_config.parse("[c]\ntype = crypt\n"), ["c:"])


def test_files_and_environments_of_this_machine_are_named_as_problems() -> None:
    sections = rclone_config.parse(CONF + "\n[env]\ntype = s3\nenv_auth = true\n\n[empty]\n")
    found = rclone_config.problems(sections.values())
    assert len(found) == 3
    assert "`key_file`" in found[0]
    assert "[env] reads its credentials from the controller's environment" in found[1]
    assert "[empty] has no `type`" in found[2]
    assert rclone_config.problems([sections["media-s3"], sections["locked"]]) == []


def test_every_secret_is_masked_and_ordinary_words_are_not() -> None:
    sections = rclone_config.parse(CONF).values()
    masked = rclone_config.mask("CRYPT-SECRET and abc%d=e f#g at s3.fr-par.scw.cloud, true", sections)
    assert masked == "******** and ******** at s3.fr-par.scw.cloud, true"


@given(st.text(max_size=200))
def test_parsing_any_text_gives_sections_or_a_sentence(text: str) -> None:
    try:
        sections = rclone_config.parse(text)
    except RcloneConfError as error:
        assert str(error).endswith((".", "?"))
    else:
        assert all(section.name for section in sections.values())


STATS = '{"level":"notice","msg":"x","stats":{"transfers":%d,"deletes":%d,"deletedDirs":0,"checks":%d,"bytes":7}}\n'


def test_the_last_statistics_of_a_log_say_what_a_copy_did() -> None:
    result = rclone_config.copy_result(STATS % (1, 0, 0) + STATS % (2, 1, 4))
    assert (result.transfers, result.deletes, result.bytes, result.changed) == (2, 1, 7, True)


def test_deleting_everything_is_a_remote_without_files() -> None:
    # Recorded with rclone 1.75: `sync --dry-run` of an empty remote counts each deletion as a check, too.
    assert rclone_config.copy_result(STATS % (0, 2, 2)).seen == 0


def test_an_unchanged_remote_changes_nothing() -> None:
    result = rclone_config.copy_result(STATS % (0, 0, 9))
    assert (result.changed, result.seen) == (False, 9)


def test_errors_are_kept_in_order_without_repeats() -> None:
    again = '{"level":"error","msg":"a"}\n'
    log = again * 2 + '{"level":"notice","msg":"Failed to sync: a"}\nplain\n'
    assert rclone_config.copy_result(log).errors == ("a", "Failed to sync: a", "plain")


def test_a_silent_rclone_is_an_error_and_not_zero_files() -> None:
    with pytest.raises(RcloneConfError, match="so the result is unknown"):
        rclone_config.copy_result("")
