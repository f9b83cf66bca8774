"""When requests are not even sent."""

from __future__ import annotations

import pytest

from ego4dfs.store.breaker import OPEN_S, Breaker, CircuitOpen


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("http://store", clock)


def blocked(breaker: Breaker, bucket: str) -> bool:
    try:
        breaker.check(bucket, f"s3://{bucket}/key")
    except CircuitOpen:
        return True
    return False


def give_up(breaker: Breaker, clock: Clock, bucket: str) -> None:
    began_s = clock.now_s
    clock.now_s += 3
    breaker.give_up(bucket, began_s, "cannot connect")


def test_closed_at_first(breaker: Breaker) -> None:
    assert not blocked(breaker, "a")


def test_when_nothing_answers_all_buckets_are_given_up(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    assert blocked(breaker, "a")
    assert blocked(breaker, "b")


def test_when_another_bucket_answers_only_this_one_is(breaker: Breaker, clock: Clock) -> None:
    began_s = clock.now_s
    clock.now_s += 1
    breaker.answered("b")
    breaker.give_up("a", began_s, "cannot connect")
    assert blocked(breaker, "a")
    assert not blocked(breaker, "b")


def test_a_bucket_that_answered_meanwhile_is_not_given_up(breaker: Breaker, clock: Clock) -> None:
    began_s = clock.now_s
    clock.now_s += 1
    breaker.answered("a")
    breaker.give_up("a", began_s, "no answer in time")
    assert not blocked(breaker, "a")


def test_an_answer_before_the_outage_does_not_count(breaker: Breaker, clock: Clock) -> None:
    breaker.answered("a")
    clock.now_s += 1
    give_up(breaker, clock, "a")
    assert blocked(breaker, "a")


def test_one_probe_is_let_through_when_the_time_is_over(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    clock.now_s += OPEN_S
    assert [blocked(breaker, "a") for _ in range(3)] == [False, True, True]


def test_a_probe_that_never_returns_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    for _ in range(3):
        clock.now_s += OPEN_S
        assert not blocked(breaker, "a")


def test_any_answer_closes(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    breaker.answered("b")
    assert not blocked(breaker, "a")


def test_the_message_names_the_store_and_since_when(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    with pytest.raises(
        CircuitOpen, match=r"http://store has not answered since \d\d:\d\d:\d\d"
    ) as e:
        breaker.check("a", "s3://a/key")
    assert "cannot connect" in str(e.value)
    assert e.value.hint


def test_since_when_stays_while_the_outage_lasts(breaker: Breaker, clock: Clock) -> None:
    give_up(breaker, clock, "a")
    first = breaker._outages[""].since_s
    clock.now_s += 60
    give_up(breaker, clock, "a")
    assert breaker._outages[""].since_s == first
