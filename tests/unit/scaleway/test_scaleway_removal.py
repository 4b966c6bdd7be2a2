"""A removal goes on until everything is proved gone or its time is over, whatever single requests answer."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.client import ScalewayError
from ansible_collections.plexburst.core.plugins.module_utils.cloud.scaleway.servers import (
    Removal,
    ServerManager,
    Wish,
    of_run,
)

from tests.unit.scaleway.fake_cloud import TAGS, FakeCloud, Trouble, VirtualTime, down, html

LONG = 600.0
SERVICES = ("server", "ip", "block", "local")


def always(wrong: ScalewayError | str) -> Trouble:
    return lambda _now, _number: wrong


def first(times: int, wrong: ScalewayError | str) -> Trouble:
    return lambda _now, number: wrong if number <= times else None


def remove(cloud: FakeCloud, seconds: float = LONG, known: Iterable[str] = ()) -> Removal:
    clock = cloud.time.clock(seconds)
    cloud.deadline = clock.deadline
    removal = Removal(cloud, of_run("run-1"), clock, known=known)  # type: ignore[arg-type] # the fake has what it asks
    removal.run()
    return removal


def world(**trouble: Trouble) -> FakeCloud:
    cloud = FakeCloud(VirtualTime(), **trouble)
    cloud.run()
    return cloud


def test_block_storage_that_is_down_for_three_minutes_only_delays_the_volume() -> None:
    cloud = world(block=lambda now, _number: down() if now < 180 else None)
    removal = remove(cloud)
    assert cloud.alive == [] and removal.done and removal.leftovers == []
    assert sorted(removal.deleted) == ["ip/i1", "server/s1", "volume/v1"]
    assert cloud.terminated_at is not None and cloud.terminated_at < 45, "the server is what costs"
    assert 180 < cloud.time.now < 200


@pytest.mark.parametrize(("status", "words"), [(503, "answered 503"), (403, "refused GET volumes with 403")])
def test_block_storage_that_stays_away_leaves_a_named_volume_and_nothing_else(status: int, words: str) -> None:
    cloud = world(block=always(down(status)))
    removal = remove(cloud)
    assert cloud.alive == ["v1"]
    assert removal.leftovers == ["volume/v1"] and not removal.done
    assert sorted(removal.deleted) == ["ip/i1", "server/s1"]
    assert "block volumes: volume/v1" in removal.left and words in removal.left
    assert LONG <= cloud.time.now < LONG + 5


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("wrong", [down(), down(403), html()])
def test_each_kind_goes_without_the_others(service: str, wrong: ScalewayError) -> None:
    cloud = world(**{service: always(wrong)})
    removal = remove(cloud)
    left = {"server": ["s1"], "ip": ["i1"], "block": ["v1"], "local": []}[service]
    # A volume is held by its server.
    assert cloud.alive == sorted(left + (["v1"] if service == "server" else []))
    assert not removal.done and removal.leftovers
    assert str(wrong) in removal.left


def look(cloud: FakeCloud) -> Removal:
    clock = cloud.time.clock(LONG)
    cloud.deadline = clock.deadline
    looking = Removal(cloud, of_run("run-1"), clock, act=False)  # type: ignore[arg-type] # the fake has what it asks
    looking.run()
    return looking


def test_a_look_with_a_refused_key_ends_at_once_and_names_every_kind() -> None:
    cloud = world(**dict.fromkeys(SERVICES, always(down(403))))
    looking = look(cloud)
    assert cloud.time.now < 5, "waiting does not make a key right"
    assert not looking.looked and len(looking.not_listed) == len(SERVICES)


def test_a_look_that_is_denied_one_kind_lists_the_others_twice() -> None:
    looking = look(world(block=always(down(403))))
    assert list(looking.not_listed) == ["block volume"]
    assert {"server/s1", "ip/i1"} <= set(looking.seen)


def test_a_look_waits_for_a_service_that_is_down() -> None:
    assert look(world(block=lambda now, _number: down() if now < 60 else None)).looked


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("trouble", [first(12, down(429)), first(1, html()), first(1, "empty"), first(2, "empty")])
def test_what_passes_is_waited_out(service: str, trouble: Trouble) -> None:
    cloud = world(**{service: trouble})
    removal = remove(cloud)
    assert cloud.alive == [] and removal.done
    assert cloud.time.now < 60


@pytest.mark.parametrize("number", range(1, 8))
def test_one_empty_list_at_any_time_proves_nothing(number: int) -> None:
    once: Trouble = lambda _now, asked: "empty" if asked == number else None  # noqa: E731 - three lines say no more
    cloud = world(**dict.fromkeys(SERVICES, once))
    assert remove(cloud).done and cloud.alive == []


def test_what_the_record_knows_is_asked_for_although_no_list_shows_it() -> None:
    cloud = world(**dict.fromkeys(SERVICES, always("empty")))
    removal = remove(cloud, known=["server/s1", "ip/i1", "volume/v1", "unknown/whatever"])
    assert cloud.alive == [] and removal.done


def test_an_untagged_volume_outlives_no_server_even_when_block_storage_comes_back_late() -> None:
    cloud = FakeCloud(VirtualTime(), block=lambda now, _number: down() if now < 180 else None)
    cloud.run(tagged=False)
    removal = remove(cloud)
    assert cloud.terminated_at is not None and cloud.terminated_at < 45
    assert cloud.alive == [] and "volume/v1" in removal.deleted


def test_an_untagged_volume_is_tagged_before_its_server_goes() -> None:
    cloud = FakeCloud(VirtualTime())
    cloud.run(tagged=False)
    Removal(cloud, of_run("run-1"), cloud.time.clock(LONG)).machines()  # type: ignore[arg-type] # has what it asks
    assert "s1" not in cloud.held["server"]
    assert cloud.held["block"]["v1"].tags == TAGS


def test_nothing_of_anybody_else_is_touched() -> None:
    cloud = world()
    cloud.volume("theirs", ["plexburst", "plexburst-run=run-2"])
    cloud.volume("persons", ["web"])
    assert remove(cloud).done
    assert cloud.alive == ["persons", "theirs"]


def test_nothing_is_called_gone_when_nothing_could_be_asked() -> None:
    cloud = FakeCloud(VirtualTime(), **dict.fromkeys(SERVICES, always(down())))
    removal = remove(cloud, seconds=30)
    assert removal.leftovers == [
        "unknown/servers in fr-par-1",
        "unknown/ips in fr-par-1",
        "unknown/block volumes in fr-par-1",
        "unknown/local volumes in fr-par-1",
    ]
    assert removal.deleted == []


def test_done_always_means_that_nothing_is_there() -> None:
    """400 schedules of faults, each service its own, none with two empty lists in a row."""
    finished = 0
    for seed in range(400):
        chance = random.Random(seed)  # noqa: S311 - a schedule, no secret

        def schedule(chance: random.Random = chance) -> Trouble:
            share, end = chance.random() * 0.9, chance.choice([60, 300, 2000])
            last = [""]

            def trouble(now: float, _number: int) -> Any:
                said: Any = None
                if now < end and chance.random() < share:
                    said = chance.choice([down(), down(429), down(403), html(), "empty"])
                if said == "empty" and last[0] == "empty":
                    said = None
                last[0] = said if said == "empty" else ""
                return said

            return trouble

        cloud = FakeCloud(VirtualTime(), **{service: schedule() for service in SERVICES})
        cloud.run(state=chance.choice(["running", "stopped"]), tagged=chance.random() < 0.5)
        everything = set(cloud.alive)
        removal = remove(cloud)
        left = {name.partition("/")[2] for name in removal.leftovers}
        if removal.done:
            finished += 1
            assert cloud.alive == [], seed
        assert set(cloud.alive) & everything <= left or any(name.startswith("unknown/") for name in removal.leftovers)
        assert not {name.partition("/")[2] for name in removal.deleted} & set(cloud.alive), seed
        assert cloud.time.now < LONG + 10
    assert finished > 200


def test_a_creation_that_fails_says_what_it_could_not_clean_up() -> None:
    cloud = FakeCloud(VirtualTime(), ip=always(down()))
    cloud.held["ip"]["i1"] = world().held["ip"]["i1"]
    wish = Wish("plexburst-run-1", "run-1", ["GP1-S"], "ubuntu_noble", "sbs_volume", 20, TAGS)
    clock = cloud.time.clock(120)
    cloud.deadline = clock.deadline
    manager = ServerManager(cloud, wish, clock)  # type: ignore[arg-type] # the fake has what it asks
    manager.account.created.append("ip/i1")
    left = r"not verified as removed.*ips: ip/i1 \(Scaleway's API answered 503"
    with pytest.raises(ScalewayError, match=left) as raised:
        manager._remove(keep_ips=False)
    assert raised.value.kind == "leftovers"
    assert clock.deadline.passed
