"""`--limit-rate` and `--limit-requests`: what a process fetches in a time, and the right bytes."""

from __future__ import annotations

import random
import threading
import time

import pytest

from ego4dfs.config import resolve
from ego4dfs.errors import ConfigError, StoreUnavailable
from ego4dfs.runtime.deadline import call_within
from ego4dfs.store import StoreLimits
from ego4dfs.store.rate_limit import CREDIT_S, RateLimit
from ego4dfs.store.resilient import FIRST_BYTES
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.processes import wait_until

DATA = seeded("rate", 3 * MIB + 5)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def passed(limit: RateLimit, clock: Clock, amounts, seconds: float, oversleep_s: float) -> float:
    """Return how much a thread that does nothing else passes in a time."""
    total, end_s = 0.0, clock.now_s + seconds
    for amount in amounts:
        wait_s = limit.wait_s(amount)
        clock.now_s += wait_s + (oversleep_s if wait_s else 0)
        if clock.now_s >= end_s:
            return total
        total += amount
    raise AssertionError("too few amounts")


@pytest.mark.parametrize("per_s", [1_000_000, 200_000_000, 500])
@pytest.mark.parametrize("oversleep_s", [0.0, 0.001, 0.02])
def test_the_rate_is_met_within_5_percent_over_30_s(per_s, oversleep_s):
    clock, rng = Clock(), random.Random(1)
    limit = RateLimit(per_s, clock)
    amounts = iter(lambda: rng.uniform(0.001, 0.06) * per_s, None)
    assert passed(limit, clock, amounts, 30, oversleep_s) == pytest.approx(30 * per_s, rel=0.05)


def test_time_in_which_nothing_was_asked_for_is_not_made_up_for():
    clock = Clock()
    limit = RateLimit(100, clock)
    assert limit.wait_s(10) == 0
    clock.now_s += 60
    waits = [limit.wait_s(10) for _ in range(4)]
    assert waits == pytest.approx([0, 0.1 - CREDIT_S, 0.2 - CREDIT_S, 0.3 - CREDIT_S])


def test_without_a_limit_nothing_waits():
    limit = RateLimit(0)
    assert not limit
    assert [limit.wait_s(1e12) for _ in range(3)] == [0, 0, 0]


def test_a_request_for_no_bytes_has_no_turn():
    clock = Clock()
    limit = RateLimit(100, clock)
    limit.wait_s(1000)
    assert [limit.wait_s(0), limit.wait_s(1)] == [0, 10]


def test_threads_share_the_rate_in_the_order_in_which_they_ask():
    clock = Clock()
    limit = RateLimit(100, clock)
    assert [limit.wait_s(100) for _ in range(4)] == pytest.approx([0, 1, 2, 3])


class Waits(threading.Event):
    """Stands for the event that ends all waits: it notes how long it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


@pytest.fixture
def limited(opened, licensee, server):
    """Open a store with limits; its waits are noted and take no time."""

    def open_one(**limits):
        store = opened(endpoint_url=server.endpoint_url, limits=StoreLimits(**limits))
        store._stop = Waits()
        return store, store._stop

    return open_one


def test_requests_wait_until_their_bytes_are_within_the_rate(limited, release):
    store, waits = limited(bytes_per_s=1_000_000)
    url = release.put("clips/a.mp4", DATA)
    etag = store.head(url).etag
    received = bytearray(len(DATA))

    def sink(offset, data):
        received[offset : offset + len(data)] = data

    store.stream_range(url, 0, len(DATA), sink, etag=etag)
    assert bytes(received) == DATA
    assert waits.seconds == []
    assert store.read_range(url, 5, MIB, etag=etag).data == DATA[5:MIB]
    assert store.read(url).data == DATA
    assert store.read_range(url, 0, 1, etag=etag).data == DATA[:1]
    before = [len(DATA), len(DATA) + MIB - 5, 2 * len(DATA) + MIB - 5]
    # The manifest, of unknown size, has no turn of its own, and the next request waits for it.
    assert waits.seconds == pytest.approx([before[0] / 1e6, before[2] / 1e6], abs=0.9)


def test_bytes_that_an_object_does_not_have_are_given_back(limited, release):
    store, waits = limited(bytes_per_s=1_000_000)
    url = release.put("clips/small.pt", b"small")
    for _ in range(50):
        assert store.read_range(url, 0, MIB).data == b"small"
    assert sum(waits.seconds) < 1


def test_small_objects_of_unknown_size_take_turns_of_their_size(limited, release, monkeypatch):
    """Not of the 1 MiB that is asked for: many at a time would get a fraction of the rate."""
    store, _ = limited(bytes_per_s=1e12)
    url, large = release.put("clips/small.pt", b"small"), release.put("clips/a.mp4", DATA)
    limit, turns = store._transport().limiters.bytes_per_s, []
    monkeypatch.setattr(limit, "wait_s", lambda amount: turns.append(amount) or 0.0)
    given_back = []
    monkeypatch.setattr(limit, "give_back", given_back.append)
    for _ in range(90):
        store.read_range(url, 0, MIB)
    assert turns[0] == FIRST_BYTES
    assert turns[-1] == 5
    for _ in range(90):
        store.read_range(large, 0, MIB)
    assert turns[-1] > 0.99 * MIB
    assert sum(turns) - sum(given_back) == 90 * 5 + 90 * MIB
    store.read_range(url, 0, 5, etag=store.head(url).etag)
    assert turns[-1] == 5


def test_requests_wait_for_their_turn(limited, release):
    store, waits = limited(requests_per_s=10)
    url = release.put("clips/a.mp4", DATA)
    for _ in range(30):
        store.head(url)
    assert len(waits.seconds) == pytest.approx(30, abs=3)
    assert 1.0 < max(waits.seconds) < 3.0


@pytest.mark.parametrize("limit", ["bytes_per_s", "requests_per_s"])
def test_a_call_whose_turn_is_after_its_deadline_fails_without_a_request(
    limited, release, metrics, limit
):
    store, waits = limited(**{limit: 0.001})
    url = release.put("clips/a.mp4", DATA)
    store.read_range(url, 0, 100)
    before = dict(metrics.requests)
    for _ in range(2):  # what was reserved is given back, so it is no later for the others
        with call_within(60), pytest.raises(StoreUnavailable, match="no turn within"):
            store.read_range(url, 0, 1)
    assert dict(metrics.requests) == before
    assert all(seconds < 60 for seconds in waits.seconds)
    free_s = store._transport().limiters.bytes_per_s.wait_s(1e-9)
    assert free_s == (pytest.approx(100_000, abs=100) if limit == "bytes_per_s" else 0)


def test_a_close_ends_the_wait_for_a_turn(opened, release, licensee, server):
    store = opened(endpoint_url=server.endpoint_url, limits=StoreLimits(bytes_per_s=1))
    url = release.put("clips/a.mp4", DATA)
    store.read_range(url, 0, 100)
    errors = []

    def read():
        try:
            store.read_range(url, 0, 1)
        except StoreUnavailable as error:
            errors.append(str(error))

    thread = threading.Thread(target=read)
    thread.start()
    limit = store._transport().limiters.bytes_per_s
    wait_until(lambda: limit.wait_s(1e-9) > 100)  # the thread has reserved its byte
    store.close()
    thread.join()
    assert len(errors) == 1
    assert "closed" in errors[0]


@pytest.mark.parametrize(
    ("key", "given", "field", "value"),
    [
        ("limit_rate", "200MB/s", "limit_rate_bytes_per_s", 200_000_000),
        ("limit_rate", "25 MiB/s", "limit_rate_bytes_per_s", 25 << 20),
        ("limit_rate", 1_000_000, "limit_rate_bytes_per_s", 1_000_000),
        ("limit_rate", "", "limit_rate_bytes_per_s", 0),
        ("limit_requests", "500/s", "limit_requests_per_s", 500.0),
        ("limit_requests", 12.5, "limit_requests_per_s", 12.5),
        ("limit_requests", "", "limit_requests_per_s", 0.0),
    ],
)
def test_limits_are_read(key, given, field, value):
    assert getattr(resolve({key: given}, environ={}), field) == value


@pytest.mark.parametrize("given", ["fast", "1KB/s", "0", "-5MB/s", "200M", "5MB/h", True, "9" * 30])
def test_an_invalid_rate_is_an_error(given):
    with pytest.raises(ConfigError, match="limit_rate: expected a rate of at least 1MB/s"):
        resolve({"limit_rate": given}, environ={})


@pytest.mark.parametrize("given", ["fast", "9", "0", "-5", "10/min", "nan", "inf", True, "1e3"])
def test_an_invalid_number_of_requests_is_an_error(given):
    with pytest.raises(ConfigError, match="limit_requests: expected at least 10 requests"):
        resolve({"limit_requests": given}, environ={})


@pytest.mark.fuse
def test_a_mount_with_limits_reads_right_bytes_by_many_programs(mount, release, server, licensee):
    """16 readers share 4 MB/s: each call ends, and no more bytes are fetched than without it."""
    files = {f"{number}.mp4": seeded(f"limited{number}", MIB) for number in range(16)}
    release.dataset("clips", files)
    with Gateway(server.endpoint_url) as gateway:
        root = mount(
            *("--version", release.version, "--datasets", "clips"),
            *("--limit-rate", "4MB/s", "--limit-requests", "50/s", "--endpoint-url", gateway.url),
        )
        found = {}

        def read(name):
            found[name] = (root / release.version / "clips" / name).read_bytes()

        threads = [threading.Thread(target=read, args=[name]) for name in files]
        began_s = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - began_s
        assert found == files
        assert took_s > 16 * MIB / 4e6 - 1.0  # it cannot be faster; slower on a busy machine
        assert gateway.bytes_sent < 1.1 * 16 * MIB
