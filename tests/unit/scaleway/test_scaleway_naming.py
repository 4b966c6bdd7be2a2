"""Names and tags: what is written is what is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway import hosts, naming, records, servers
from hypothesis import given
from hypothesis import strategies as st

RUN = "20261122-071500-ab12"
MOMENT = datetime(2026, 11, 22, 19, 0, tzinfo=UTC)


def test_tags_say_run_expiry_and_profile_and_are_read_back() -> None:
    tags = naming.run_tags(RUN, MOMENT, "cloud_standard", ["mine", "mine"])
    assert tags == [
        "plexburst",
        f"plexburst-run={RUN}",
        "plexburst-expires=20261122T190000Z",
        "plexburst-profile=cloud_standard",
        "mine",
    ]
    marks = naming.read_marks(tags)
    assert (marks.ours, marks.run_id, marks.expires_at, marks.profile) == (True, RUN, MOMENT, "cloud_standard")


@given(st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)), st.integers(-14, 14))
def test_an_expiry_survives_its_tag_from_any_time_zone(moment: datetime, offset: int) -> None:
    given_time = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=offset)))
    assert naming.parse_expiry(naming.format_expiry(given_time)) == given_time
    assert naming.parse_expiry(naming.iso(given_time)) == given_time
    assert "," not in naming.format_expiry(given_time)


@pytest.mark.parametrize("text", ["2026-11-22T19:00:00", "tomorrow", ""])
def test_a_time_that_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="2026-11-22T19:00:00Z"):
        naming.parse_expiry(text)


@pytest.mark.parametrize("run_id", ["", "A-1", "a b c", "x,y", "../etc", "ab"])
def test_a_run_id_that_cannot_be_a_tag_is_refused(run_id: str) -> None:
    with pytest.raises(ValueError, match="run id"):
        naming.run_tags(run_id, MOMENT)


@pytest.mark.parametrize("tag", ["a,b", "", "plexburst-run=other", "plexburst-expires=never"])
def test_an_extra_tag_cannot_pretend_to_be_ours(tag: str) -> None:
    with pytest.raises(ValueError, match="tag"):
        naming.run_tags(RUN, MOMENT, extra=[tag])


def test_an_unreadable_expiry_counts_as_none() -> None:
    assert naming.read_marks(["plexburst", "plexburst-expires=soon"]).expires_at is None


def test_what_is_overdue() -> None:
    now = MOMENT
    late = naming.read_marks(naming.run_tags(RUN, now - timedelta(seconds=1)))
    early = naming.read_marks(naming.run_tags(RUN, now + timedelta(hours=1)))
    endless = naming.read_marks(["plexburst", "plexburst-run=by-hand"])
    others = naming.read_marks(["web"])
    judge = servers.overdue(now)
    assert [judge(marks) for marks in (late, early, endless, others)] == [True, False, False, False]
    # The run began at 07:15, nearly twelve hours ago.
    assert servers.overdue(now, older_than_hours=11)(early)
    assert not servers.overdue(now, older_than_hours=12)(early)
    assert not servers.overdue(now, older_than_hours=0)(endless)
    assert not servers.overdue(now, older_than_hours=0)(others)


def server(**changes: object) -> records.ServerRecord:
    values: dict[str, object] = {
        "id": "1",
        "name": f"plexburst-{RUN}",
        "zone": "fr-par-1",
        "state": "running",
        "state_detail": "",
        "commercial_type": "GP1-S",
        "tags": tuple(naming.run_tags(RUN, MOMENT, "cloud_standard")),
        "addresses": (records.AddressRecord("2", "51.15.0.1", "inet", False, "attached"),),
    }
    return records.ServerRecord(**{**values, **changes})  # type: ignore[arg-type]


def test_a_host_has_the_groups_and_variables_of_its_tags() -> None:
    record = hosts.host_record(server(), hosts.Login("ubuntu", 2222))
    assert record["groups"] == ["plex_cloud", "plexburst_run_20261122_071500_ab12", "plexburst_profile_cloud_standard"]
    hostvars = record["hostvars"]
    assert hostvars["ansible_host"] == "51.15.0.1" and hostvars["ansible_port"] == 2222
    assert hostvars["ansible_become"] is True
    assert hostvars["scaleway_expires_at"] == "2026-11-22T19:00:00Z"
    assert hosts.host_record(server())["hostvars"]["ansible_become"] is False


def test_a_pending_address_is_no_address() -> None:
    pending = records.AddressRecord("2", "51.15.0.1", "inet", True, "pending")
    record = hosts.host_record(server(addresses=(pending,)))
    assert "ansible_host" not in record["hostvars"]
    assert record["hostvars"]["scaleway_public_ipv4"] is None
