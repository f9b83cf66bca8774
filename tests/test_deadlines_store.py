"""How long a request to the store may take: silence, bodies that trickle, throttling."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.store import (
    ObjectStore,
    StoreLimits,
    bucket_limits,
    obstore_s3,
    resilient,
    retry,
    s3fs_s3,
    throughput,
)
from kit.clock import Clock
from kit.gateway import Faults, Gateway
from kit.processes import wait_until

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

DATA = bytes(range(256)) * (1 << 10)
pytestmark = pytest.mark.usefixtures("no_retry_waits")


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt may take 1.6 seconds instead of 15, and none begins after 3.2."""
    for module in (throughput, s3fs_s3):
        monkeypatch.setattr(module, "ATTEMPT_S", 1.6)
    monkeypatch.setattr(obstore_s3, "WHOLE_TIMEOUT_S", 1.6)
    monkeypatch.setattr(retry, "QUIET_S", 0.2)
    for name in ("OBJECTS", "MANIFESTS"):
        limits = getattr(resilient, name)
        patient = retry.RetryPolicy(limits.max_attempts, 3.2)
        monkeypatch.setattr(resilient, name, patient)


def streamed(store: ObjectStore, url: str, etag: str) -> bytes:
    data = bytearray()
    store.stream_range(url, 0, len(DATA), lambda _, piece: data.extend(piece), etag=etag)
    return bytes(data)


def read_by(how: str, store: ObjectStore, url: str, etag: str) -> bytes:
    if how == "stream":
        return streamed(store, url, etag)
    if how == "range":
        return bytes(store.read_range(url, 0, len(DATA)).data)
    found = store.read(url)
    assert found is not None
    return bytes(found.data)


@pytest.mark.fault(
    area="network",
    fault="a body that trickles",
    face="all",
    sees="the request is cancelled and retried, then it fails",
    deadline="40 s",
)
@pytest.mark.parametrize("how", ["stream", "range", "manifest"])
@pytest.mark.usefixtures("hasty")
def test_a_body_that_trickles_times_out(
    store: ObjectStore, gateway: Gateway, url: str, how: str, metrics: Metrics
) -> None:
    etag = store.head(url).etag
    gateway.faults.trickle_s, gateway.faults.piece_bytes = 0.1, 16
    with pytest.raises(StoreUnavailable, match="in time"):
        read_by(how, store, url, etag)
    assert metrics.requests["get"] + metrics.requests["manifest"] >= 2
    assert not metrics.offline  # it answered


@pytest.mark.parametrize("how", ["stream", "range", "manifest"])
@pytest.mark.usefixtures("hasty")
def test_a_slow_connection_is_kept_while_it_brings_enough(
    store: ObjectStore, gateway: Gateway, url: str, how: str, metrics: Metrics
) -> None:
    """It takes longer than two attempts may: slow data is not a failure."""
    etag = store.head(url).etag
    gateway.faults.trickle_s, gateway.faults.piece_bytes = 0.06, 4096
    assert read_by(how, store, url, etag) == DATA
    assert metrics.errors == 0


@pytest.mark.fault(
    area="network",
    fault="one connection is very slow, and others to the same bucket are not",
    face="all",
    sees="what is missing is requested again over another connection",
    deadline="15 s",
)
@pytest.mark.usefixtures("hasty")
def test_a_connection_that_others_outpace_is_replaced(
    store: ObjectStore, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "_COMPARED_BYTES", len(DATA))
    monkeypatch.setattr(throughput, "_OUTPACED", 2)  # on a busy machine no body is very fast
    begun: list[throughput.BodyThroughput] = []
    true = throughput.BodyThroughput.__init__

    def begin(body: throughput.BodyThroughput, *arguments: Any) -> None:
        true(body, *arguments)
        begun.append(body)

    monkeypatch.setattr(throughput.BodyThroughput, "__init__", begin)
    etag = store.head(url).etag
    gateway.faults.trickle_s, gateway.faults.piece_bytes = 0.2, 4096
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(streamed, store, url, etag)
        wait_until(lambda: begun)  # only a body that begins later is compared
        gateway.faults = Faults()
        assert bytes(store.read_range(url, 0, len(DATA)).data) == DATA
        assert slow.result(60) == DATA
    assert gateway.methods["GET"] == 3


def test_a_bucket_is_read_without_streaming_again_once_it_is_fast(
    gateway: Gateway, licensed: Aws, url: str, opened: Callable[..., ObjectStore]
) -> None:
    store = opened(endpoint_url=gateway.url, transport="obstore")
    rates = store._transport().adapter._throughput
    rates.record_slow("store-plain")
    assert rates.is_slow("store-plain", len(DATA))
    assert bytes(store.read_range(url, 0, len(DATA)).data) == DATA
    assert not rates.is_slow("store-plain", len(DATA))


@pytest.mark.fault(
    area="network",
    fault="the store asks to slow down (503 SlowDown, 429)",
    face="all",
    sees="all requests to that bucket wait; `status` says throttled; no error",
    deadline="5 minutes",
)
@pytest.mark.parametrize("refusal", [(503, "SlowDown"), (429, "TooManyRequests")])
def test_throttling_delays_requests_without_errors(
    store: ObjectStore,
    gateway: Gateway,
    url: str,
    metrics: Metrics,
    refusal: tuple[int, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Seven refusals are more than the five attempts that other failures get."""
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 0.05)
    gateway.faults.slow_down_every, gateway.faults.times = 1, 7
    gateway.faults.slow_down = refusal
    assert store.head(url).size == len(DATA)
    assert metrics.snapshot()["throttled_answers"] == 7
    assert metrics.errors == 0


def test_throttling_without_end_ends_in_an_error(
    store: ObjectStore, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 0.2)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 0.2)
    limits = retry.RetryPolicy(max_attempts=5, timeout_s=20.0, throttled_s=3.0)
    monkeypatch.setattr(resilient, "OBJECTS", limits)
    store.read_range(url, 0, 10)  # imports and connects, which takes its time on a busy machine
    gateway.reset()
    gateway.faults.slow_down_every = 1
    with pytest.raises(StoreUnavailable, match="503"):
        store.read_range(url, 0, 10)
    assert gateway.methods["GET"] >= 2


def test_a_pause_ends_with_the_deadline(
    store: ObjectStore, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket pauses for longer; a read that has 2 s left makes its last attempt then."""
    limits = retry.RetryPolicy(max_attempts=5, timeout_s=20.0, throttled_s=2.0)
    monkeypatch.setattr(resilient, "OBJECTS", limits)
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 600.0)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 600.0)
    store.read_range(url, 0, 10)  # imports and connects, which takes its time on a busy machine
    gateway.reset()
    gateway.faults.slow_down_every = 1
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailable, match="503"):
        store.read_range(url, 0, 10)
    assert time.monotonic() - began_s >= 2.0
    assert gateway.methods["GET"] == 2


def test_all_requests_to_a_throttled_bucket_wait_together(
    store: ObjectStore,
    gateway: Gateway,
    url: str,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One was refused; other requests to the bucket are not sent until the pause ends."""
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 1.0)
    gateway.faults.slow_down_every, gateway.faults.times = 1, 1
    threads = [threading.Thread(target=store.head, args=[url])]
    threads[0].start()
    wait_until(lambda: metrics.snapshot()["throttled_answers"] == 1)
    threads += [threading.Thread(target=store.head, args=[url]) for _ in range(4)]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert gateway.methods == {"HEAD": 6}
    refused_s, *later_s = gateway.arrivals_s
    assert min(later_s) - refused_s >= 1.0


def test_pauses_double_up_to_a_bound_and_shrink_with_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 0.5)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 16.0)
    clock = Clock()
    throttle = bucket_limits.Throttle(Metrics(), clock)
    steps = []
    for _ in range(8):
        throttle.throttled("a")
        steps.append(throttle._pauses["a"].step_s)
        clock.now_s += 100
    assert steps == [0.5, 1, 2, 4, 8, 16, 16, 16]
    for _ in range(6):
        throttle.answered("a")
    assert throttle.pause_s("a") == 0.0
    assert not throttle._pauses


def test_refusals_of_one_moment_count_once() -> None:
    clock = Clock()
    throttle = bucket_limits.Throttle(Metrics(), clock)
    for _ in range(50):
        throttle.throttled("a")
    assert throttle._pauses["a"].step_s == bucket_limits.FIRST_PAUSE_S
    assert throttle.pause_s("b") == 0.0


def test_retry_after_is_obeyed_up_to_a_bound() -> None:
    clock = Clock()
    throttle = bucket_limits.Throttle(Metrics(), clock)
    throttle.throttled("a", 20.0)
    assert 20.0 <= throttle.pause_s("a") <= 21.0
    throttle.throttled("b", 3600.0)
    assert 60.0 <= throttle.pause_s("b") <= 61.0


def test_s3fs_reads_retry_after_and_obstore_does_not_report_it(
    store: ObjectStore, gateway: Gateway, url: str, metrics: Metrics
) -> None:
    """Obstore's errors contain no headers, so the pauses of ego4dfs apply."""
    gateway.faults.slow_down_every, gateway.faults.times, gateway.faults.retry_after_s = 1, 1, 1
    began_s = time.monotonic()
    store.read_range(url, 0, 10)
    waited_s = time.monotonic() - began_s
    uses_s3fs = type(store._transport().adapter) is s3fs_s3.S3fsS3
    assert waited_s >= 1.0 if uses_s3fs else metrics.snapshot()["throttled_answers"] == 1


@pytest.mark.fault(
    area="network",
    fault="one bucket does not answer",
    face="all",
    sees="its objects fail; those of other buckets are served",
    deadline="40 s",
)
def test_a_silent_bucket_with_all_its_slots_taken_stops_no_other(
    gateway: Gateway,
    licensed: Aws,
    bucket: Bucket,
    versioned: Bucket,
    opened: Callable[..., ObjectStore],
) -> None:
    store = opened(endpoint_url=gateway.url, limits=StoreLimits(concurrency=3))
    healthy = versioned.put("a", DATA)
    silent = [bucket.put(str(number), b"x") for number in range(6)]
    gateway.faults.only, gateway.faults.gate = "store-plain", threading.Event()
    threads = [threading.Thread(target=store.head, args=[url]) for url in silent]
    for thread in threads:
        thread.start()
    wait_until(lambda: gateway.concurrent == 3)
    for _ in range(9):
        assert store.head(healthy).size == len(DATA)
    assert gateway.concurrent == 3
    gateway.faults.gate.set()
    for thread in threads:
        thread.join(30)


FEW = """
import os, resource, sys, threading
from ego4dfs.errors import StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.store import open_store

url, endpoint, transport = sys.argv[1:]
store = open_store(endpoint_url=endpoint, metrics=Metrics(), transport=transport)
store.head(url)
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(4)]
limit = max(held) + 1
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
threading.Timer(1.0, lambda: [os.close(number) for number in held]).start()
errors = []

def head():
    try:
        store.head(url)
    except StoreUnavailable as error:
        errors.append(str(error))

threads = [threading.Thread(target=head) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert all("too many open files" in error for error in errors), errors
store.head(url)
print(len(errors))
"""


@pytest.mark.fault(
    area="processes",
    fault="no more files may be opened (`ulimit -n`)",
    face="all",
    sees="requests are retried; errors name the cause, and other buckets are still served",
    deadline="40 s",
)
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_lack_of_descriptors_is_retried_and_named(
    gateway: Gateway, licensed: Aws, url: str, transport: str
) -> None:
    gateway.faults.latency_s = 0.1
    command = [sys.executable, "-W", "ignore", "-c", FEW, url, gateway.url, transport]
    done = subprocess.run(command, timeout=90, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 8


@pytest.mark.usefixtures("hasty")
def test_a_request_stays_bounded_if_its_bucket_becomes_slow_meanwhile(
    gateway: Gateway,
    licensed: Aws,
    url: str,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """How a request is bounded and how its body is read are decided once."""
    store = opened(endpoint_url=gateway.url, transport="obstore")
    etag = store.head(url).etag
    rates = store._transport().adapter._throughput
    answers = iter([True, False] * 20)
    monkeypatch.setattr(type(rates), "is_slow", lambda *_: next(answers))
    gateway.faults.trickle_s, gateway.faults.piece_bytes = 0.1, 16
    for how in ("range", "stream"):
        with pytest.raises(StoreUnavailable, match="in time"):
            read_by(how, store, url, etag)


def test_a_throttled_manifest_waits_only_until_the_cached_one_is_used(
    store: ObjectStore, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store may request ten minutes; the cached manifest is served much earlier."""
    limits = retry.RetryPolicy(max_attempts=2, timeout_s=20.0, throttled_s=0.5)
    monkeypatch.setattr(resilient, "MANIFESTS", limits)
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 600.0)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 600.0)
    gateway.faults.slow_down_every = 1
    with pytest.raises(StoreUnavailable, match="503"):
        store.read(url)


def test_a_body_that_the_library_never_ends_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The read of a body in aiohttp can wait without end."""

    class Body:
        async def read(self, _: int) -> bytes:
            await asyncio.Event().wait()
            return b""

    monkeypatch.setattr(s3fs_s3, "ATTEMPT_S", 0.05)
    with pytest.raises(s3fs_s3._Slow):
        asyncio.run(s3fs_s3._arrived(Body(), 1))
