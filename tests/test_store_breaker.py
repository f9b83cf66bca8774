"""When requests fail at once, without being sent."""

from __future__ import annotations

import time

import pytest

from ego4dfs.store.breaker import OPEN_S, SILENT_OBJECTS, STALE_S, Breaker, CircuitOpen
from ego4dfs.store.classify import NoConnection, Unreachable
from kit.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("http://store", clock)


@pytest.fixture
def hosts(clock: Clock) -> Breaker:
    """Each bucket is behind a host of its own."""
    return Breaker("AWS", clock, one_host=False)


def blocked(breaker: Breaker, bucket: str) -> bool:
    try:
        breaker.check(bucket, f"s3://{bucket}/key")
    except CircuitOpen:
        return True
    return False


def refused(breaker: Breaker, clock: Clock, bucket: str) -> None:
    url, began_s = f"s3://{bucket}/key", clock.now_s
    clock.now_s += 3
    breaker.give_up(bucket, url, began_s, NoConnection(f"{url}: cannot connect"))


def silent(breaker: Breaker, clock: Clock, bucket: str, key: str, *, lasts_s: float = 3) -> None:
    url, began_s = f"s3://{bucket}/{key}", clock.now_s
    clock.now_s += lasts_s
    breaker.give_up(bucket, url, began_s, Unreachable(f"{url}: no answer in time"))


def test_the_breaker_is_closed_at_the_start(breaker: Breaker) -> None:
    assert not blocked(breaker, "a")


def test_one_silent_object_does_not_stop_its_bucket(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        silent(breaker, clock, "a", "one")
    assert not blocked(breaker, "a")


def test_two_silent_objects_stop_their_bucket(breaker: Breaker, clock: Clock) -> None:
    silent(breaker, clock, "a", "one")
    silent(breaker, clock, "a", "two")
    assert blocked(breaker, "a")


def test_a_refusal_names_the_url_the_remedy_and_when_the_outage_began(
    breaker: Breaker, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(breaker, clock, "a")
    clock.now_s += 1
    monkeypatch.setattr("ego4dfs.store.breaker.time.time", lambda: 1_700_000_000.0)
    with pytest.raises(CircuitOpen) as caught:
        breaker.check("a", "s3://a/other")
    began = time.strftime("%H:%M:%S", time.localtime(1_700_000_000 - 4))
    text = f"s3://a/other: http://store has not answered since {began} (cannot connect)"
    assert str(caught.value) == text
    assert (caught.value.url, caught.value.hint) == ("s3://a/other", "check the network")


def test_further_silent_objects_extend_the_outage_and_are_not_remembered(
    breaker: Breaker, clock: Clock
) -> None:
    for number in range(50):
        silent(breaker, clock, "a", str(number))
        clock.now_s += OPEN_S - 1
        assert blocked(breaker, "a") == (number > 0)
    assert len(breaker._silent["a"]) == SILENT_OBJECTS


def test_an_answer_between_two_silent_objects_keeps_their_bucket_open(
    breaker: Breaker, clock: Clock
) -> None:
    silent(breaker, clock, "a", "one")
    breaker.answered("a")
    clock.now_s += 1
    silent(breaker, clock, "a", "two")
    assert not blocked(breaker, "a")


def test_silence_of_one_bucket_does_not_stop_others(breaker: Breaker, clock: Clock) -> None:
    """The absence of requests to other buckets is not evidence."""
    for bucket in "abc":
        silent(breaker, clock, bucket, "one")
        silent(breaker, clock, bucket, "two")
    assert blocked(breaker, "c")
    assert not blocked(breaker, "d")


def test_a_host_without_connection_stops_all_its_buckets(breaker: Breaker, clock: Clock) -> None:
    refused(breaker, clock, "a")
    assert blocked(breaker, "a")
    assert blocked(breaker, "b")


def test_a_bucket_with_its_own_host_is_stopped_alone(hosts: Breaker, clock: Clock) -> None:
    refused(hosts, clock, "a")
    assert blocked(hosts, "a")
    assert not blocked(hosts, "b")


def test_two_hosts_without_connection_are_an_outage_of_all(hosts: Breaker, clock: Clock) -> None:
    refused(hosts, clock, "a")
    refused(hosts, clock, "b")
    assert blocked(hosts, "c")


def test_two_hosts_without_connection_are_no_outage_if_one_answered_between(
    hosts: Breaker, clock: Clock
) -> None:
    refused(hosts, clock, "a")
    hosts.answered("c")
    refused(hosts, clock, "b")
    assert not blocked(hosts, "d")


def test_an_answer_of_another_bucket_limits_the_outage_to_this_one(
    breaker: Breaker, clock: Clock
) -> None:
    began_s = clock.now_s
    clock.now_s += 1
    breaker.answered("b")
    breaker.give_up("a", "s3://a/key", began_s, NoConnection("s3://a/key: cannot connect"))
    assert blocked(breaker, "a")
    assert not blocked(breaker, "b")


def test_a_bucket_that_answered_meanwhile_is_not_stopped(breaker: Breaker, clock: Clock) -> None:
    began_s = clock.now_s
    clock.now_s += 1
    breaker.answered("a")
    breaker.give_up("a", "s3://a/key", began_s, NoConnection("s3://a/key: cannot connect"))
    assert not blocked(breaker, "a")


def test_an_answer_before_the_outage_does_not_count(breaker: Breaker, clock: Clock) -> None:
    breaker.answered("a")
    clock.now_s += 1
    refused(breaker, clock, "a")
    assert blocked(breaker, "a")


def test_one_probe_is_sent_after_the_waiting_time(breaker: Breaker, clock: Clock) -> None:
    refused(breaker, clock, "a")
    clock.now_s += OPEN_S
    assert [blocked(breaker, "a") for _ in range(3)] == [False, True, True]


def test_a_probe_that_never_returns_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    refused(breaker, clock, "a")
    for _ in range(3):
        clock.now_s += OPEN_S
        assert not blocked(breaker, "a")


def test_any_answer_closes_the_breaker(breaker: Breaker, clock: Clock) -> None:
    refused(breaker, clock, "a")
    breaker.answered("b")
    assert not blocked(breaker, "a")


def test_the_message_names_the_store_and_the_start_of_the_outage(
    breaker: Breaker, clock: Clock
) -> None:
    refused(breaker, clock, "a")
    with pytest.raises(
        CircuitOpen, match=r"http://store has not answered since \d\d:\d\d:\d\d"
    ) as e:
        breaker.check("a", "s3://a/key")
    assert "cannot connect" in str(e.value)
    assert e.value.hint


def test_the_start_of_the_outage_stays_the_same(breaker: Breaker, clock: Clock) -> None:
    refused(breaker, clock, "a")
    first = breaker._outages[""].since_s
    clock.now_s += 60
    refused(breaker, clock, "a")
    assert breaker._outages[""].since_s == first


def test_all_requests_are_sent_long_after_the_last_one(breaker: Breaker, clock: Clock) -> None:
    """A read of two requests would fail if one of them were refused, with the store well again."""
    refused(breaker, clock, "a")
    clock.now_s += OPEN_S + STALE_S
    assert [blocked(breaker, "a") for _ in range(3)] == [False] * 3
    refused(breaker, clock, "a")
    assert blocked(breaker, "a")
