"""The parts of the near tier: its objects, breaker, leases and requests."""

import threading
import time
from unittest.mock import Mock

import pytest

from ego4dfs.blocks import ObjectRef
from ego4dfs.config import resolve
from ego4dfs.errors import AccessDenied, ConfigError, StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.near import NearLimits, NearTier
from ego4dfs.near.admin import NearAdmin
from ego4dfs.near.breaker import NearBreaker
from ego4dfs.near.chunks import (
    CHUNK_BYTES,
    HEADER_BYTES,
    Damaged,
    chunks_of,
    decoded,
    encoded,
    facts_line,
    facts_name,
    manifest_name,
    parsed_facts,
)
from ego4dfs.near.in_flight import InFlight
from ego4dfs.near.lease import Lease, Leases
from ego4dfs.near.writes import Writes
from ego4dfs.store import ObjectFacts, timed_connection
from ego4dfs.store.bucket import Bucket, Listed
from kit.clock import Clock
from kit.gateway import Faults, Reply
from kit.near import BUCKET, PATIENT, PROFILE

URL = "s3://bucket/videos/a.mp4"
FACTS = ObjectFacts(3, "abc", "v1", 5)


# Objects


def test_content_is_what_was_written_under_its_name():
    assert bytes(decoded("a", encoded("a", b"content"))) == b"content"
    assert bytes(decoded("a", encoded("a", b""))) == b""


@pytest.mark.parametrize("place", range(0, HEADER_BYTES + 7, 3))
def test_a_flipped_bit_anywhere_is_noticed(place):
    data = bytearray(encoded("a", b"content"))
    data[place] ^= 4
    with pytest.raises(Damaged):
        decoded("a", bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"E4N1", encoded("a", b"content")[:-1], encoded("b", b"content"), b"<html>" * 9]
)
def test_what_is_short_foreign_or_of_another_name_is_noticed(data):
    with pytest.raises(Damaged):
        decoded("a", data)


def test_chunks_cover_an_object_and_have_names_of_its_version():
    ref = ObjectRef.of("s", URL, 2 * CHUNK_BYTES + 5, "etag")
    chunks = list(chunks_of(ref, 0, ref.size))
    assert [(c.start, c.stop) for c in chunks] == [
        (0, CHUNK_BYTES),
        (CHUNK_BYTES, 2 * CHUNK_BYTES),
        (2 * CHUNK_BYTES, ref.size),
    ]
    other = ObjectRef.of("s", URL, ref.size, "other")
    names = {chunk.name for one in (ref, other) for chunk in chunks_of(one, 0, one.size)}
    assert len(names) == 6
    assert list(chunks_of(ref, CHUNK_BYTES + 1, CHUNK_BYTES + 2)) == [chunks[1]]


def test_facts_and_manifests_have_a_name_for_each_source_and_url():
    names = {name(s, u) for name in (facts_name, manifest_name) for s in "ab" for u in "cd"}
    assert len(names) == 8


def test_facts_are_read_as_they_were_written():
    line = facts_line(URL, FACTS)
    facts, body = parsed_facts(URL, memoryview(line + b"body\n"))
    assert (facts, bytes(body)) == (FACTS, b"body\n")
    assert facts.has_confirmed_size


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"[1]\n", b"x\n", b"null\n", facts_line("s3://b/c", FACTS)),
        f'["{URL}", "many", "e", "v", 5]\n'.encode(),
        f'["{URL}", null, "e", "v", 5]\n'.encode(),
        f'["{URL}", 3, "e", "v", Infinity]\n'.encode(),
    ],
)
def test_facts_of_another_object_are_damage(line):
    with pytest.raises(Damaged):
        parsed_facts(URL, memoryview(line))


# Verification


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([b"?", encoded("a", b"1")], (1, 0)),  # it was damaged on the way, or has been replaced
        ([b"?", None], (1, 0)),  # it was removed meanwhile
        ([b"?", b"?"], (0, 1)),
        ([b"?", b"!"], StoreError),
    ],
)
def test_an_object_is_removed_if_it_arrives_damaged_in_the_same_way_twice(answers, found):
    bucket = Mock(url="s3://lab", list=lambda *_: [Listed("a", 1, 0.0, 0.0)])
    bucket.get.side_effect = answers
    if found is StoreError:
        with pytest.raises(StoreError, match="other bytes each time"):
            NearAdmin(bucket).verify(lambda _: None)
    else:
        assert NearAdmin(bucket).verify(lambda _: None) == found
    assert bucket.delete.called == (found == (0, 1))


# The breaker

LIMITS = NearLimits(failures=2, pause_s=10, max_pause_s=25)


def test_requests_pause_after_failures_in_a_row():
    clock = Clock()
    breaker = NearBreaker("reads", LIMITS, clock)
    for outcome in (breaker.failed, lambda _: breaker.answered(has_bytes=False), breaker.failed):
        outcome("no answer")
        assert breaker.allows()
    breaker.failed("no answer")
    assert breaker.is_open
    assert not breaker.allows()


def test_after_a_pause_one_request_is_sent_and_decides():
    clock = Clock()
    breaker = NearBreaker("reads", LIMITS, clock)
    breaker.failed("a")
    breaker.failed("a")
    for pause_s in (10, 20, 25, 25):
        clock.now_s += pause_s - 1
        assert not breaker.allows()
        clock.now_s += 1
        assert breaker.allows()
        assert not breaker.allows()
        breaker.failed("a")
    clock.now_s += 25
    assert breaker.allows()
    breaker.answered(has_bytes=False)
    assert breaker.allows()
    breaker.failed("a")
    assert breaker.allows()


def test_damage_is_forgotten_once_right_bytes_have_arrived():
    """An answer without bytes, as that to a HEAD, says nothing about the bytes of the others."""
    clock = Clock()
    breaker = NearBreaker("reads", LIMITS, clock)
    breaker.failed("damage", is_damage=True)
    breaker.answered(has_bytes=False)
    breaker.failed("damage", is_damage=True)
    for pause_s in (10, 20, 25):
        assert breaker.is_open
        clock.now_s += pause_s
        assert breaker.allows()
        breaker.answered(has_bytes=False)
        assert breaker.allows()
        breaker.failed("damage", is_damage=True)
    clock.now_s += 25
    assert breaker.allows()
    breaker.answered(has_bytes=True)
    breaker.failed("damage", is_damage=True)
    assert not breaker.is_open
    breaker.failed("damage", is_damage=True)
    clock.now_s += 9
    assert not breaker.allows()
    clock.now_s += 1
    assert breaker.allows()


def test_other_failures_are_forgotten_with_any_answer():
    """A node that only fills reads nothing back: one damaged object must not count for ever."""
    breaker = NearBreaker("reads", LIMITS, Clock())
    breaker.failed("damage", is_damage=True)
    for _ in range(5):
        breaker.answered(has_bytes=False)
        breaker.failed("slow")
        assert not breaker.is_open
    breaker.failed("slow")
    assert breaker.is_open


def test_failures_of_requests_from_before_the_pause_do_not_make_it_longer():
    clock = Clock()
    breaker = NearBreaker("reads", LIMITS, clock)
    for _ in range(24):
        breaker.failed("a")
    clock.now_s += 10
    assert breaker.allows()


# Requests


@pytest.fixture
def bucket(near):
    found = Bucket(f"s3://{BUCKET}/{near.prefix}", endpoint_url=near.gateway.url, profile=PROFILE)
    yield found
    found.close()


def test_objects_are_written_read_listed_and_removed(bucket):
    assert bucket.get("a/b", 30) is None
    bucket.put("a/b", b"data", 30)
    bucket.put("a/c", b"", 30)
    assert bucket.get("a/b", 30) == b"data"
    assert bucket.get("a/c", 30) == b""
    listed = list(bucket.list("a/", 30))
    assert [(one.key, one.size) for one in listed] == [("a/b", 4), ("a/c", 0)]
    assert all(abs(one.modified_s - time.time()) < 3600 for one in listed)
    bucket.delete("a/b", 30)
    bucket.delete("a/b", 30)
    assert bucket.get("a/b", 30) is None


def test_an_object_is_written_once_and_replaced_by_its_etag_only(bucket):
    assert bucket.put_if("a", b"1", 30)
    assert not bucket.put_if("a", b"2", 30)
    held = bucket.held("a", 30)
    assert held.age_s < 3600
    assert not bucket.put_if("a", b"3", 30, etag="0" * 32)
    assert bucket.put_if("a", b"4", 30, etag=held.etag)
    assert bucket.get("a", 30) == b"4"
    assert bucket.held("b", 30) is None
    assert not bucket.put_if("b", b"4", 30, etag=held.etag)


def test_conditional_writes_are_counted(bucket):
    metrics = Metrics()
    tier = NearTier(bucket, metrics, PATIENT)
    assert tier.put_if("a", b"12")
    assert not tier.put_if("a", b"345")
    assert metrics.bytes_to_near == 2


def test_one_connection_serves_requests_one_after_the_other(near, bucket):
    for _ in range(5):
        bucket.get("missing", 30)
    assert near.gateway.connections == 1


def test_a_connection_that_the_server_has_closed_is_replaced(near, bucket):
    bucket.put("a", b"data", 30)
    near.gateway.stop()
    near.gateway.start()
    assert bucket.get("a", 30) == b"data"


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ({"reply": Reply(503)}, StoreUnavailable),
        ({"reply": Reply(403)}, AccessDenied),
        ({"reply": Reply(301, {"Location": "http://127.0.0.1:1/"})}, StoreError),
        ({"reply": Reply(404, body=b"<Error><Code>NoSuchBucket</Code></Error>")}, StoreError),
        ({"garbage": b"\0\n" * 40}, StoreUnavailable),
        *(
            ({"garbage": b"HTTP/1.1 200 OK\r\n" + rest}, StoreUnavailable)
            for rest in (
                b"Content-Length: 1" + 15 * b"0" + b"\r\n\r\nx",
                b"Content-Length: 1" + 25 * b"0" + b"\r\n\r\nx",
                b"Transfer-Encoding: chunked\r\n\r\n" + 30 * b"F" + b"\r\nx",
                b"Transfer-Encoding: chunked\r\n\r\n-5\r\nx",
            )
        ),
        ({"reset_every": 1}, StoreUnavailable),
        ({"cut_body_at": 1}, StoreUnavailable),
    ],
)
def test_other_answers_are_errors(near, bucket, faults, error):
    bucket.put("a", b"data", 30)
    near.gateway.faults = Faults(**faults)
    with pytest.raises(error) as caught:
        bucket.get("a", 30)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"s3://{BUCKET}/{near.prefix}: ")


@pytest.mark.parametrize(
    "faults", [{"stall_s": 60}, {"trickle_headers_s": 0.1}, {"trickle_s": 0.1, "piece_bytes": 1}]
)
def test_an_answer_that_does_not_end_in_time_is_an_error(near, bucket, faults):
    bucket.put("a", bytes(1000), 30)
    near.gateway.faults = Faults(**faults)
    with pytest.raises(StoreUnavailable, match="no answer in time"):
        bucket.get("a", 0.5)


def test_an_answer_that_is_too_long_is_an_error(near, bucket, monkeypatch):
    monkeypatch.setattr(timed_connection, "MAX_BODY_BYTES", 1000)
    bucket.put("a", bytes(1000), 30)
    bucket.put("b", bytes(1001), 30)
    assert len(bucket.get("a", 30)) == 1000
    with pytest.raises(StoreUnavailable):
        bucket.get("b", 30)


def test_a_probe_that_ends_by_any_exception_has_failed(bucket, monkeypatch):
    tier = NearTier(bucket, Metrics(), NearLimits(failures=1, pause_s=0))
    for error in (MemoryError, KeyboardInterrupt):
        with monkeypatch.context() as patch:
            patch.setattr(bucket, "get_version", Mock(side_effect=error))
            with pytest.raises(error):
                tier.get("a")
    assert tier.get("a") is None  # it is asked again


def test_a_listing_that_is_none_is_an_error(near, bucket):
    headers = {"Date": "Sun, 01 Mar 2026 00:00:00 GMT"}
    near.gateway.faults = Faults(reply=Reply(200, headers, b"<html>"))
    with pytest.raises(StoreError, match="listing"):
        list(bucket.list("", 30))
    near.gateway.faults = Faults(reply=Reply(200, {"Date": "today"}))
    with pytest.raises(StoreError, match="times"):
        bucket.held("a", 30)


# Leases and writes


@pytest.fixture
def tier(bucket):
    return NearTier(bucket, Metrics(), PATIENT)


def test_one_of_two_nodes_gets_the_lease_and_the_other_what_it_wrote(near, tier):
    lease, found = Leases(tier).acquire("chunks/a", lambda: None)
    assert (type(lease), found) == (Lease, None)
    seen = []

    def look():
        seen.append(1)
        if len(seen) == 3:
            return b"content"
        return None

    assert Leases(tier).acquire("chunks/a", look) == (None, b"content")
    assert len(near.keys("leases")) == 1
    assert lease.let_go()
    lease.delete()
    assert near.keys("leases") == []


def test_what_was_written_before_the_lease_was_acquired_is_found(near, tier):
    assert Leases(tier).acquire("chunks/a", lambda: b"content") == (None, b"content")
    assert near.keys("leases") == []


def test_a_store_that_ignores_the_condition_gives_no_leases(near, tier, monkeypatch, caplog):
    def put(key, data, timeout_s, *, etag=""):
        tier.bucket.put(key, data, timeout_s)
        return True

    monkeypatch.setattr(tier.bucket, "put_if", put)
    leases = Leases(tier)
    assert leases.acquire("chunks/a", lambda: None) == (None, None)
    assert leases.acquire("chunks/a", lambda: None) == (None, None)
    assert caplog.text.count("ignores If-None-Match") == 1
    assert near.gateway.methods["PUT"] == 2
    assert near.keys("leases") == []


def test_a_store_that_refuses_writes_gives_no_leases(near, tier):
    near.gateway.faults = Faults(reply=Reply(507))
    assert Leases(tier).acquire("chunks/a", lambda: None) == (None, None)


def test_writes_beyond_the_queue_are_dropped_and_the_lease_is_given_back(near, bucket):
    tier = NearTier(bucket, Metrics(), NearLimits(request_s=30, slow_s=30, queue_bytes=10))
    writes = Writes(tier)
    gate = near.gateway.faults.gate = threading.Event()
    lease = Lease(tier, "ego4dfs-1/leases/a")
    assert writes.put("a", b"123456", lease)
    assert bytes(writes.queued("a")) == b"123456"
    assert not writes.put("b", b"123456", lease)
    writes.release(lease)
    gate.set()
    assert writes.flush(60)
    assert writes.queued("a") is None
    assert tier.get("a") == b"123456"
    assert tier.get("b") is None
    assert near.gateway.methods["DELETE"] == 1
    writes.close()
    assert not writes.put("c", b"1", None)


def test_a_lease_is_given_back_if_the_look_for_the_bytes_fails(near, tier):
    def fail():
        raise StoreUnavailable("no answer")

    with pytest.raises(StoreUnavailable):
        Leases(tier).acquire("chunks/a", fail)
    assert near.keys("leases") == []


def test_what_is_removed_is_not_written_afterwards(near, tier):
    """One of these is being written when it is removed, the others are queued."""
    writes = Writes(tier)
    gate = near.gateway.faults.gate = threading.Event()
    names = [f"ego4dfs-1/chunks/{number}" for number in range(8)]
    for name in names:
        assert writes.put(name, b"wrong", None)
    writes.remove(names[:7])
    assert [writes.queued(name) for name in names[:7]] == [None] * 7
    gate.set()
    assert writes.flush(60)
    assert [tier.get(name) for name in names] == [None] * 7 + [b"wrong"]


def test_a_chunk_is_in_flight_once():
    ref = ObjectRef.of("s", URL, 4 * CHUNK_BYTES, "etag")
    chunks, flights = list(chunks_of(ref, 0, ref.size)), InFlight()
    assert flights.claim(chunks[2:]) == chunks[2:]
    assert flights.claim(chunks) == chunks[:2]
    assert flights.claim(chunks) == []
    assert not flights.wait(chunks[2].name, 0)
    flights.end(chunks[2:])
    assert flights.wait(chunks[2].name, 0)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": "near/prefix"}, "expected the URL of a bucket"),
        ({"near": "s3://b/../c d"}, "expected the URL of a bucket"),
        ({"fill_near": True}, "there is no near tier"),
        ({"near_endpoint": "http://h:1"}, "there is no near tier"),
        ({"near": "s3://b", "near_endpoint": "h:1"}, "expected a URL"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        resolve(options, environ={})


def test_the_url_of_a_near_tier_needs_no_prefix():
    assert resolve({"near": "s3://bucket/"}, environ={}).near == "s3://bucket"
