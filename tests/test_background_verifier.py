"""Complete cached objects are compared with their ETags; wrong ones are dropped."""

from __future__ import annotations

import hashlib
import logging
import time

import pytest

from ego4dfs.blocks import ObjectRef
from ego4dfs.metrics import Metrics
from ego4dfs.reader import BackgroundVerifier, Reader, Window, background_verifier
from kit.cache import open_cache
from kit.data import MIB, seeded
from kit.fakes import FlippingStore
from kit.gateway import Faults, Gateway
from kit.mounts import status
from kit.processes import wait_until

FIRST, SECOND = "s3://b/first", "s3://b/second"


class Place:
    """A reader over a store that flips bits, with a verifier that does not wait."""

    def __init__(self, directory, quiet_s: float = 0.05) -> None:
        self.store = FlippingStore()
        self.metrics = Metrics()
        self.cache = open_cache(directory, 64 * MIB)
        renew = self.store.renew
        self.verifier = BackgroundVerifier(self.cache, self.metrics, renew, quiet_s=quiet_s)
        self.reader = Reader(self.store, self.cache, self.metrics, self.verifier)

    def read(self, ref: ObjectRef, window: Window | None = None) -> bytes:
        data = bytearray(ref.size)
        assert self.reader.read_into(ref, 0, memoryview(data), window) == ref.size
        return bytes(data)

    def wait(self, **counters: int) -> None:
        """Wait until counters are so high."""
        wait_until(lambda: all(getattr(self.metrics, n) >= v for n, v in counters.items()))

    def idle(self) -> None:
        """Wait until all objects have been compared."""
        wait_until(lambda: not self.verifier.waiting)
        time.sleep(0.2)

    def close(self) -> None:
        self.reader.close()
        self.cache.close()


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


def test_an_object_that_was_read_as_a_whole_is_compared(place):
    ref = place.store.put(FIRST, seeded("first", 3 * MIB + 5))
    place.read(ref)
    place.wait(verified=1)
    assert (place.metrics.verify_failures, place.metrics.errors) == (0, 0)


def test_an_object_whose_last_block_has_not_arrived_is_not_compared(place):
    ref = place.store.put(FIRST, seeded("first", 3 * MIB + 5))
    place.reader.read_into(ref, 0, memoryview(bytearray(2 * MIB)))
    place.idle()
    assert place.metrics.verified == 0
    place.read(ref)
    place.wait(verified=1)


def test_an_object_in_parts_of_blocks_is_compared(place):
    ref = place.store.put(FIRST, seeded("first", 2 * MIB))
    for offset in range(0, 2 * MIB, 256 << 10):
        piece = memoryview(bytearray(1000))
        place.reader.read_into(ref, offset, piece, Window())
    place.read(ref)
    place.wait(verified=1)


@pytest.mark.fault(
    area="answers",
    fault="a byte that was changed in transit",
    face="mount, ego4d://",
    sees="the block is served, then the whole object is found to disagree with its ETag and"
    " leaves the cache; `status` counts it, and the next read fetches it again",
    deadline="none: when all its bytes have come, at a fifth of a core",
)
def test_an_object_with_a_changed_byte_is_removed_from_the_cache_and_fetched_again(place):
    data = seeded("first", 3 * MIB)
    place.read(place.store.put(SECOND, seeded("second", 1000)))
    place.wait(verified=1)
    ref = place.store.put(FIRST, data)
    place.store.flipped, place.store.flip_at = {FIRST}, 2 * MIB + 7
    assert place.read(ref) != data
    place.wait(verify_failures=1)
    assert FIRST in place.metrics.last_error
    assert place.store.renewed == [FIRST]
    assert place.reader.drops(ref) == 1
    place.store.flipped = set()
    assert place.read(ref) == data
    place.wait(verified=2)
    assert place.metrics.verify_failures == 1


def test_an_object_that_is_always_wrong_never_stays(place):
    """Equal failures never prove that an ETag is not an MD5 if others of its bucket agree."""
    place.read(place.store.put(SECOND, seeded("second", 1000)))
    place.wait(verified=1)
    ref = place.store.put(FIRST, seeded("first", MIB))
    place.store.flipped = {FIRST}
    for failures in (1, 2, 3):
        place.read(ref)
        place.wait(verify_failures=failures)


def test_etags_are_not_used_as_checksums_if_no_object_agrees(place, caplog):
    """As with SSE-KMS: nothing is removed, and one line says so."""
    refs = [place.store.put(f"s3://b/{n}", seeded(str(n), 1000)) for n in range(5)]
    place.store.flipped = {ref.url for ref in refs}
    with caplog.at_level(logging.WARNING):
        for ref in refs:
            place.read(ref)
        wait_until(lambda: place.verifier.doubted == 5)
    assert (place.metrics.verified, place.metrics.verify_failures) == (0, 0)
    assert sum("not treated as checksums" in record.message for record in caplog.records) == 1
    gets = len(place.store.gets)
    assert [place.read(ref) for ref in refs] != [place.store.objects[ref.url] for ref in refs]
    assert len(place.store.gets) == gets


def test_an_object_that_disagreed_first_is_dropped_once_another_agrees(place):
    ref = place.store.put(FIRST, seeded("first", 1000))
    place.store.flipped = {FIRST}
    place.read(ref)
    wait_until(lambda: place.verifier.doubted)
    place.read(place.store.put(SECOND, seeded("second", 1000)))
    place.wait(verified=1, verify_failures=1)


def test_parts_of_a_size_that_the_bucket_has_prove_a_large_object_wrong(place, monkeypatch):
    monkeypatch.setattr(background_verifier, "CPU_SHARE", 0.9)
    part = 5 * MIB
    for name, flipped in (("right", False), ("wrong", True)):
        url, data = f"s3://b/{name}", seeded(name, 40 * MIB - 1)
        digests = [
            hashlib.md5(data[i : i + part], usedforsecurity=False).digest()
            for i in range(0, len(data), part)
        ]
        md5 = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
        place.store.objects[url] = data
        place.store.etags[url] = (data, f"{md5}-{len(digests)}")
        place.store.flipped = {url} if flipped else set()
        place.read(place.store.ref(url))
        place.wait(**({"verify_failures": 1} if flipped else {"verified": 1}))


def test_comparing_uses_at_most_its_share_of_a_core(tmp_path, monkeypatch):
    monkeypatch.setattr(background_verifier, "CPU_SHARE", 0.05)
    place = Place(tmp_path)
    shares = []

    class Watched(BackgroundVerifier):
        def _compare(self, ref):
            start_s, cpu_s = time.monotonic(), time.thread_time()
            super()._compare(ref)
            self._rest(0.0)
            shares.append((time.thread_time() - cpu_s) / (time.monotonic() - start_s))

    place.verifier = Watched(place.cache, place.metrics, quiet_s=0.05)
    place.reader.close()
    place.reader = Reader(place.store, place.cache, place.metrics, place.verifier)
    try:
        place.read(place.store.put(FIRST, seeded("first", 16 * MIB)))
        place.wait(verified=1)
        wait_until(lambda: shares)
        assert max(shares) < 0.07
    finally:
        place.close()


def test_a_verifier_that_is_closed_in_the_middle_ends_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(background_verifier, "CPU_SHARE", 1e-6)
    place = Place(tmp_path, quiet_s=2.0)  # the disk may pause: it begins once, and never again
    place.read(place.store.put(FIRST, seeded("first", 16 * MIB)))
    wait_until(lambda: not place.verifier.waiting)
    place.close()  # it would rest for longer than a test may take
    ended = place.verifier._thread
    assert ended is None or not ended.is_alive()
    assert place.metrics.verified == 0


@pytest.fixture
def gateway(server):
    with Gateway(server.endpoint_url) as gateway:
        yield gateway


@pytest.mark.fuse
def test_a_mount_shows_right_bytes_at_the_next_open_after_wrong_ones(mount, release, gateway, cli):
    data = seeded("a", 2 * MIB)
    release.dataset("annotations", {"a.bin": data, "b.bin": b"right"})
    flags = ("--version", release.version, "--datasets", "annotations")
    root = mount(*flags, "--endpoint-url", gateway.url)
    directory = root / release.version / "annotations"
    assert (directory / "b.bin").read_bytes() == b"right"
    gateway.faults = Faults(flip_byte=True, only="a.bin")
    assert (directory / "a.bin").read_bytes() != data
    gateway.faults = Faults()
    wait_until(lambda: status(root)["verify_failures"] == 1)
    assert (directory / "a.bin").read_bytes() == data
    shown = cli("status", str(root)).stdout
    assert "1 did not match and were removed" in shown
    assert "a.bin" in status(root)["last_error"]


@pytest.mark.fuse
def test_a_mount_with_verify_off_compares_nothing(mount, release):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    root = mount("--version", release.version, "--datasets", "annotations", "--verify", "off")
    next(root.rglob("a.bin")).read_bytes()
    time.sleep(background_verifier.QUIET_S + 0.5)
    assert status(root)["verified"] == 0


def test_comparing_does_not_count_as_use_of_a_block(place):
    """Only readers decide what is evicted first."""
    refs = [place.store.put(f"s3://b/{n}", seeded(str(n), 1000)) for n in range(3)]
    for ref in refs:
        place.read(ref)
    place.wait(verified=3)
    assert not place.cache._writer.touched
