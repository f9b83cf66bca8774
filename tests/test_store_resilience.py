"""A store with a faulty server, by counts of requests through the gateway."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import (
    AccessDenied,
    CredentialsRejected,
    ObjectChanged,
    StoreError,
    StoreUnavailable,
)
from ego4dfs.metrics import Metrics
from ego4dfs.store import (
    Fetched,
    ObjectStore,
    StoreLimits,
    breaker,
    bucket_limits,
    obstore_s3,
    resilient,
    retry,
    s3fs_s3,
)
from ego4dfs.store.classify import PAST_END
from kit.gateway import Faults, Gateway
from kit.processes import wait_until

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

DATA = bytes(range(256)) * (1 << 12)
pytestmark = pytest.mark.usefixtures("no_retry_waits")


def test_a_throttled_request_is_tried_again(
    store: ObjectStore, gateway: Gateway, url: str, metrics: Metrics
) -> None:
    gateway.faults.slow_down_every, gateway.faults.times = 1, 3
    assert bytes(store.read_range(url, 0, 10).data) == DATA[:10]
    assert gateway.methods == {"GET": 4}
    assert metrics.requests == {"head": 0, "get": 4, "manifest": 0}
    assert metrics.errors == 0


def test_five_attempts_are_enough(
    store: ObjectStore, gateway: Gateway, url: str, metrics: Metrics
) -> None:
    gateway.faults.slow_down_every, gateway.faults.slow_down = 1, (500, "InternalError")
    with pytest.raises(StoreUnavailable, match="500"):
        store.read_range(url, 0, 10)
    assert gateway.methods == {"GET": 5}
    assert (metrics.errors, metrics.offline) == (1, False)


def test_an_empty_object_is_found_although_its_head_is_refused(
    store: ObjectStore, gateway: Gateway, bucket: Bucket
) -> None:
    """It has no first byte, whose GET would say why, or bring the facts; a whole GET does."""
    url = bucket.put("empty", b"")
    gateway.faults = Faults(slow_down_every=1, slow_down=(403, "AccessDenied"), method="HEAD")
    assert store.head(url).size == 0
    assert gateway.methods == {"HEAD": 1, "GET": 2}


def test_a_size_without_an_etag_to_compare_is_not_confirmed(
    store: ObjectStore, gateway: Gateway, url: str
) -> None:
    """It may be the answer to another request: an open compares it with that of its first GET."""
    gateway.faults = Faults(slow_down_every=1, slow_down=(403, "AccessDenied"), method="HEAD")
    facts = store.head(url)
    assert (facts.size, facts.has_confirmed_size) == (len(DATA), False)


@pytest.mark.parametrize(("text", "asks"), [(PAST_END, True), ("another range", False)])
def test_the_answer_to_another_request_is_not_taken_for_the_whole_object(
    store: ObjectStore, url: str, monkeypatch: pytest.MonkeyPatch, text: str, *, asks: bool
) -> None:
    """On a connection whose answers are shifted, the GET of a byte may answer the next one.

    A whole object, which may be large, is only requested if it may be empty.
    """
    adapter = store._transport().adapter  # type: ignore[attr-defined]
    byte = store.read_range(url, 0, 1)

    def other_range(*_: object, **__: object) -> Fetched:
        raise StoreError(f"{url}: {text}", url=url)

    renewed: list[str] = []
    monkeypatch.setattr(adapter, "read_range", other_range)
    monkeypatch.setattr(adapter, "renew", renewed.append)
    monkeypatch.setattr(adapter, "read", lambda _: replace(byte, facts=replace(byte.facts, size=1)))
    with pytest.raises(StoreError, match=text):
        store.read_range(url, 0, 10, etag=byte.facts.etag, size=len(DATA))
    assert renewed == [url] * asks


def test_a_refused_empty_object_is_refused(
    store: ObjectStore, gateway: Gateway, bucket: Bucket
) -> None:
    url = bucket.put("empty", b"")
    gateway.faults = Faults(slow_down_every=1, slow_down=(403, "AccessDenied"))
    with pytest.raises(AccessDenied):
        store.head(url)
    assert gateway.methods == {"HEAD": 1, "GET": 1}


def test_a_manifest_is_requested_twice_because_a_copy_is_cached(
    store: ObjectStore, gateway: Gateway, url: str, metrics: Metrics
) -> None:
    gateway.faults.slow_down_every, gateway.faults.slow_down = 1, (500, "InternalError")
    with pytest.raises(StoreUnavailable):
        store.read(url)
    assert gateway.methods == {"GET": 2}
    assert metrics.requests == {"head": 0, "get": 0, "manifest": 2}


def test_a_cut_body_is_fetched_again_and_never_returned(
    store: ObjectStore, gateway: Gateway, url: str, metrics: Metrics
) -> None:
    gateway.faults.cut_body_at = 1000
    with pytest.raises(StoreUnavailable, match="cut"):
        store.read_range(url, 0, 2000)
    assert gateway.methods == {"GET": 5}
    assert (metrics.bytes_fetched, metrics.offline) == (0, False)


def test_a_reset_connection_is_tried_again(store: ObjectStore, gateway: Gateway, url: str) -> None:
    gateway.faults.reset_every, gateway.faults.times = 1, 2
    assert store.head(url).size == len(DATA)
    assert gateway.methods["HEAD"] == 3


@pytest.mark.parametrize("where", ["stall_s", "stall_body_s"])
def test_a_stalled_connection_times_out(
    store: ObjectStore,
    gateway: Gateway,
    url: str,
    where: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Silence ends a request, before the answer and in the middle of its body."""
    monkeypatch.setattr(obstore_s3, "READ_TIMEOUT_S", 0.3)
    monkeypatch.setattr(s3fs_s3, "READ_TIMEOUT_S", 0.3)
    setattr(gateway.faults, where, 1.0)
    with pytest.raises(StoreUnavailable, match="in time"):
        store.read(url)
    assert gateway.methods["GET"] == 2


def test_a_slow_answer_that_continues_does_not_time_out(
    store: ObjectStore, gateway: Gateway, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is on each silence, not on the whole answer, which takes 4 s."""
    monkeypatch.setattr(obstore_s3, "READ_TIMEOUT_S", 3.0)
    monkeypatch.setattr(s3fs_s3, "READ_TIMEOUT_S", 3.0)
    gateway.faults.piece_bytes = len(DATA) // 32
    gateway.faults.bytes_per_s = len(DATA) // 4
    assert bytes(store.read_range(url, 0, len(DATA)).data) == DATA
    assert gateway.methods == {"GET": 1}


def test_a_server_that_ignores_the_range_is_an_error(
    store: ObjectStore, gateway: Gateway, url: str
) -> None:
    gateway.faults.hide_range = True
    with pytest.raises(StoreError) as caught:
        store.read_range(url, 5, 10)
    assert type(caught.value) is StoreError
    assert gateway.methods["GET"] <= 2  # both transports look


def test_a_server_that_ignores_the_pin_is_an_error(
    store: ObjectStore, gateway: Gateway, url: str
) -> None:
    etag = store.head(url).etag
    gateway.faults.etag = "of-another-version"
    with pytest.raises(ObjectChanged):
        store.read_range(url, 5, 10, etag=etag)


def test_a_missing_key_is_refused_as_licensees_see_it(
    store: ObjectStore, gateway: Gateway, bucket: Bucket, metrics: Metrics
) -> None:
    """Without permission to list, S3 answers 403; a GET after the HEAD shows the key is valid."""
    gateway.faults.hide_missing = True
    with pytest.raises(AccessDenied, match="not licensed, not published or not there") as caught:
        store.head(bucket.url("nothing"))
    assert not isinstance(caught.value, CredentialsRejected)
    assert caught.value.hint
    assert gateway.methods == {"HEAD": 1, "GET": 1}
    assert metrics.requests == {"head": 1, "get": 1, "manifest": 0}


def test_a_refused_get_is_not_repeated(
    store: ObjectStore, gateway: Gateway, bucket: Bucket
) -> None:
    gateway.faults.hide_missing = True
    with pytest.raises(AccessDenied):
        store.read_range(bucket.url("nothing"), 0, 1)
    assert gateway.methods == {"GET": 1}


def test_object_bytes_are_counted_and_manifests_are_not(
    store: ObjectStore, url: str, metrics: Metrics
) -> None:
    store.read_range(url, 0, 1000)
    store.read_range(url, len(DATA) - 10, len(DATA) + 10)
    store.read(url)
    store.head(url)
    assert metrics.bytes_fetched == 1010
    assert metrics.requests == {"head": 1, "get": 2, "manifest": 1}


def test_an_error_is_counted_with_its_text(store: ObjectStore, url: str, metrics: Metrics) -> None:
    with pytest.raises(ObjectChanged) as caught:
        store.read_range(url, 0, 1, etag="another")
    assert (metrics.errors, metrics.last_error) == (1, str(caught.value))


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_no_more_requests_at_once_than_allowed(
    gateway: Gateway,
    licensed: Aws,
    opened: Callable[..., ObjectStore],
    url: str,
    transport: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport, limits=StoreLimits(concurrency=3))
    gateway.faults.latency_s = 0.05
    gateway.faults.gate = threading.Event()
    with ThreadPoolExecutor(16) as pool:
        reads = pool.map(lambda start: store.read_range(url, start, start + 1), range(30))
        wait_until(lambda: gateway.concurrent == 3)
        gateway.faults.gate.set()
        assert len(list(reads)) == 30
    assert gateway.methods == {"GET": 30}
    assert gateway.peak == 3


def test_a_sweep_ends_at_once_during_an_outage(
    store: ObjectStore,
    gateway: Gateway,
    bucket: Bucket,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One request is retried; ten thousand more are not sent at all."""
    monkeypatch.setattr(breaker, "OPEN_S", 600.0)  # on a busy machine, a probe would be due
    gateway.stop()
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        store.head(bucket.url("0"))
    assert metrics.requests["head"] == 5
    for number in range(10_000):
        with pytest.raises(StoreUnavailable, match="has not answered since") as caught:
            store.head(bucket.url(str(number)))
    assert gateway.url in str(caught.value)
    assert metrics.requests["head"] == 5
    assert metrics.offline


def test_one_probe_finds_a_server_that_is_available_again(
    store: ObjectStore,
    gateway: Gateway,
    url: str,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)  # the next request is a probe
    gateway.stop()
    with pytest.raises(StoreUnavailable):
        store.head(url)
    gateway.start()
    assert store.head(url).size == len(DATA)
    assert not metrics.offline
    assert store.head(url).size == len(DATA)
    assert gateway.methods == {"HEAD": 2}


def test_a_failing_probe_is_one_request(
    store: ObjectStore,
    gateway: Gateway,
    url: str,
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During an outage each probe is one attempt and not five."""
    monkeypatch.setattr(breaker, "OPEN_S", 0.0)  # the next request is a probe
    gateway.stop()
    with pytest.raises(StoreUnavailable):
        store.head(url)
    monkeypatch.setattr(breaker, "OPEN_S", 600.0)
    with pytest.raises(StoreUnavailable):
        store.head(url)
    assert metrics.requests["head"] == 6


def test_one_stalling_object_does_not_block_the_others(
    store: ObjectStore, gateway: Gateway, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obstore_s3, "READ_TIMEOUT_S", 3.0)
    monkeypatch.setattr(s3fs_s3, "READ_TIMEOUT_S", 3.0)
    good, bad = bucket.put("good", DATA), bucket.put("stalling", DATA)  # no hex digits
    gateway.faults.only, gateway.faults.stall_s = "stalling", 5.0
    failed = threading.Event()

    def read_bad() -> None:
        with pytest.raises(StoreUnavailable):
            store.read(bad)
        failed.set()

    thread = threading.Thread(target=read_bad)
    thread.start()
    while not failed.is_set():
        store.head(good)
    thread.join()
    assert store.head(good).size == len(DATA)


FORK = """
import os, sys
from ego4dfs.metrics import Metrics
from ego4dfs.store import open_store
url, endpoint = sys.argv[1:]
store = open_store(endpoint_url=endpoint, metrics=Metrics(), transport="obstore")
size = store.head(url).size
child = os.fork()
if not child:
    os._exit(0 if store.head(url).size == size else 1)
assert os.waitpid(child, 0)[1] == 0
assert store.head(url).size == size
"""


def test_a_forked_child_can_read_too(gateway: Gateway, licensed: Aws, url: str) -> None:
    """A child of a process that used obstore would hang in it: it gets s3fs."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, url, gateway.url]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert gateway.methods == {"HEAD": 3}


@pytest.mark.parametrize("refusal", [(503, "SlowDown"), (500, "InternalError")])
def test_closing_the_store_ends_the_waits_for_another_attempt(
    refusal: tuple[int, str],
    gateway: Gateway,
    licensed: Aws,
    url: str,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unmount does not wait for back-off: the running request is the last."""
    monkeypatch.setattr(retry, "MAX_WAIT_S", 60.0)
    monkeypatch.setattr(bucket_limits, "FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr(bucket_limits, "MAX_PAUSE_S", 60.0)
    monkeypatch.setattr(resilient, "OBJECTS", retry.RetryPolicy(5, 300.0, first_wait_s=60.0))
    gateway.faults.slow_down_every = 1
    gateway.faults.slow_down = refusal
    store = opened(endpoint_url=gateway.url)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.head, url)
        while not gateway.methods:
            time.sleep(0.01)
        store.close()
        with pytest.raises(StoreUnavailable, match=str(refusal[0])):
            future.result(30)
    assert gateway.methods == {"HEAD": 1}
    with pytest.raises(StoreUnavailable):
        store.head(url)
    assert gateway.methods["HEAD"] <= 2
