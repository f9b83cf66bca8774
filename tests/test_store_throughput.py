"""The throughput of bodies: the minimum of each, and which ones are outpaced by a later one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ego4dfs.runtime.deadline import ATTEMPT_S, FLOOR_BYTES
from ego4dfs.store import throughput
from ego4dfs.store.throughput import BodyThroughput, BucketThroughput
from kit.clock import Clock

BUCKET, OTHER = "bucket", "other"
MIB = 1 << 20


@pytest.fixture
def clock(monkeypatch):
    clock = Clock(0.0)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(monotonic=clock))
    return clock


def body(clock, rates, *, began_s, seconds, size, bucket=BUCKET) -> None:
    """Receive a whole body."""
    clock.now_s = began_s
    received = BodyThroughput(bucket, rates)
    clock.now_s = began_s + seconds
    assert not received.is_missed(size)
    received.complete()


@pytest.mark.parametrize(
    ("amount", "seconds", "is_missed"),
    [
        (FLOOR_BYTES, ATTEMPT_S, False),
        (FLOOR_BYTES - 1, ATTEMPT_S, True),
        (0, ATTEMPT_S - 0.1, False),
    ],
)
def test_a_body_must_bring_the_minimum_in_each_interval(clock, amount, seconds, is_missed):
    received = BodyThroughput(BUCKET, BucketThroughput())
    clock.now_s = ATTEMPT_S
    assert not received.is_missed(MIB)  # what came in one interval does not count in the next
    clock.now_s += seconds
    assert received.is_missed(amount) == is_missed


@pytest.mark.parametrize(
    ("later", "is_missed"),
    [
        ({"began_s": 1.0, "seconds": 1.0, "size": MIB}, True),
        ({"began_s": 1.0, "seconds": 0.001, "size": MIB - 1}, False),  # too short to compare
        ({"began_s": -1.0, "seconds": 1.0, "size": MIB}, False),  # it began before
        ({"began_s": 1.0, "seconds": 1.0, "size": MIB, "bucket": OTHER}, False),
        ({"began_s": 1.0, "seconds": 10.0, "size": MIB}, False),  # the line is slow for all
    ],
)
def test_a_body_that_a_later_one_of_its_bucket_outpaces_is_missed(clock, later, is_missed):
    """1 MiB/s is more than 64 times 8,192 bytes/s; a tenth of it is not."""
    rates = BucketThroughput()
    received = BodyThroughput(BUCKET, rates)
    body(clock, rates, **later)
    clock.now_s = ATTEMPT_S
    assert received.is_missed(int(8192 * ATTEMPT_S)) == is_missed


def test_the_rate_of_a_body_decides_whether_the_next_one_is_slow(clock):
    rates = BucketThroughput()
    assert not rates.is_slow(BUCKET, 1 << 40)
    body(clock, rates, began_s=0.0, seconds=1.0, size=MIB)
    assert not rates.is_slow(BUCKET, 5 * MIB)
    assert rates.is_slow(BUCKET, 5 * MIB + 1)
    assert not rates.is_slow(OTHER, 1 << 40)
    body(clock, rates, began_s=2.0, seconds=0.001, size=1000)  # too short to be measured
    assert rates.is_slow(BUCKET, 5 * MIB + 1)
    rates.record_slow(BUCKET)
    assert rates.is_slow(BUCKET, 6)
